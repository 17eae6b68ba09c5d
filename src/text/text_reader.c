/* Documents out of the bytes of text_input: normalisation, checks, and the cut into units. */
#include "tilth/text.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "text/text_input.h"
#include "text/text_utf8.h"

enum {
  CHUNK = 1 << 16,
  BINARY_CHECK = 64 << 10,   /* a NUL byte in so many first bytes of a file makes it binary */
  JSON_LINE_MAX = 256 << 20, /* bounds memory: a line is parsed as a whole */
  DEFAULT_MAX_DOC = 64 << 20,
};

struct tl_text_reader {
  tl_source source;
  char *text_key;
  tl_text_unit unit_option, unit; /* as asked; of the current member */
  tl_utf8_policy utf8;
  size_t max_doc;
  tl_text_stats stats;

  bool in_member;  /* a member is open and its last document has not ended */
  bool at_eof;     /* its last byte has been read into chunk */
  uint64_t offset; /* bytes of the member read so far */
  uint64_t line;   /* number of the line being read, from 1 */
  char chunk[CHUNK + 1];
  size_t pos, n;         /* unread part of chunk: [pos, n) */
  bool held_cr;          /* a CR ended the last chunk: it is dropped if LF follows */
  unsigned char tail[4]; /* TL_UTF8_ERROR: an unfinished sequence at the end of the last chunk */
  size_t n_tail;

  tl_buf doc; /* [start, len): text not delivered yet */
  size_t start;
  bool ended;        /* doc holds all of its document */
  bool was_cut;      /* a piece of this document has been delivered */
  size_t line_start; /* PARAGRAPH: where the current line begins in doc */
  bool line_blank;   /* PARAGRAPH: only white space in it so far */
  bool newline_due;  /* PARAGRAPH: a newline precedes the next bytes, if any come */
  tl_buf json;       /* JSONL: the line being read */
  tl_buf fixed;      /* text with U+FFFD put in */
};

static tl_status check_options(const tl_text_options *o, tl_err *err) {
  if ((unsigned)o->unit > TL_UNIT_JSONL)
    return tl_fail(err, TL_CONFIG, "text: unknown document unit %d", (int)o->unit);
  if ((unsigned)o->utf8 > TL_UTF8_KEEP)
    return tl_fail(err, TL_CONFIG, "text: unknown UTF-8 policy %d", (int)o->utf8);
  if (o->max_doc_bytes && (o->max_doc_bytes < 4 || o->max_doc_bytes > SIZE_MAX / 4))
    return tl_fail(err, TL_CONFIG, "text: max_doc_bytes is %zu; expected 0 (64 MiB) or at least 4",
                   o->max_doc_bytes);
  return TL_OK;
}

tl_status tl_text_open(const char *const *inputs, size_t n_inputs, const tl_text_options *options,
                       tl_text_reader **out, tl_err *err) {
  static const tl_text_options defaults;
  if (!options) options = &defaults;
  TL_TRY(check_options(options, err));
  tl_text_reader *r = calloc(1, sizeof *r);
  if (!r) return tl_fail(err, TL_NOMEM, "text: out of memory for a reader");
  r->unit_option = options->unit;
  r->utf8 = options->utf8;
  r->max_doc = options->max_doc_bytes ? options->max_doc_bytes : DEFAULT_MAX_DOC;
  r->text_key = strdup(options->text_key ? options->text_key : "text");
  tl_status s = r->text_key ? tl_input_expand(inputs, n_inputs, &r->source.files, err)
                            : tl_fail(err, TL_NOMEM, "text: out of memory for a reader");
  if (s == TL_OK)
    *out = r;
  else
    tl_text_close(r);
  return s;
}

void tl_text_close(tl_text_reader *r) {
  if (!r) return;
  tl_source_close(&r->source);
  tl_buf_free(&r->doc);
  tl_buf_free(&r->json);
  tl_buf_free(&r->fixed);
  free(r->text_key);
  free(r);
}

bool tl_text_unit_parse(const char *name, tl_text_unit *out) {
  static const char *const names[] = {[TL_UNIT_AUTO] = "auto",
                                      [TL_UNIT_FILE] = "file",
                                      [TL_UNIT_LINE] = "line",
                                      [TL_UNIT_PARAGRAPH] = "paragraph",
                                      [TL_UNIT_JSONL] = "jsonl"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (!strcmp(names[i], name)) {
      *out = (tl_text_unit)i;
      return true;
    }
  return false;
}

void tl_text_get_stats(const tl_text_reader *r, tl_text_stats *out) {
  *out = r->stats;
}

static bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

static bool is_blank(const char *s, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (!is_space(s[i])) return false;
  return true;
}

/* Fills the chunk to CHUNK bytes or the end of the member, so that what is seen as "the first 64
 * KiB" does not depend on how an archive cuts its data. */
static tl_status read_chunk(tl_text_reader *r, size_t *got, tl_err *err) {
  *got = 0;
  while (*got < CHUNK) {
    size_t n;
    TL_TRY(tl_source_read(&r->source, r->chunk + *got, CHUNK - *got, &n, err));
    if (n == 0) break;
    *got += n;
  }
  return TL_OK;
}

static tl_status check_binary(const tl_text_reader *r, size_t n, tl_err *err) {
  const char *name = r->source.name.data;
  const unsigned char *c = (const unsigned char *)r->chunk;
  if (r->offset == 0 && n >= 2 &&
      ((c[0] == 0xFF && c[1] == 0xFE) || (c[0] == 0xFE && c[1] == 0xFF)))
    return tl_fail(err, TL_DATA,
                   "%s: UTF-16 text at byte 0; convert it first: iconv -f UTF-16 -t UTF-8", name);
  const char *nul = r->offset < BINARY_CHECK ? memchr(r->chunk, 0, n) : NULL;
  if (nul)
    return tl_fail(err, TL_DATA,
                   "%s: binary data (a NUL byte at byte %llu) where text is expected; leave this "
                   "file out or convert it to UTF-8 text",
                   name, (unsigned long long)(r->offset + (uint64_t)(nul - r->chunk)));
  return TL_OK;
}

static tl_status bad_utf8(const tl_text_reader *r, uint64_t at, unsigned char byte, tl_err *err) {
  return tl_fail(err, TL_DATA,
                 "%s: ill-formed UTF-8 (byte 0x%02X) at byte %llu; convert the file, or choose "
                 "another utf8 policy (replace, skip, keep)",
                 r->source.name.data, byte, (unsigned long long)at);
}

/* TL_UTF8_ERROR: checks the bytes as they are in the file, so that the offset is the file's. A
 * sequence that a chunk's end cuts is kept in `tail` and finished with the next bytes. */
static tl_status check_utf8(tl_text_reader *r, size_t n, tl_err *err) {
  const char *s = r->chunk;
  size_t i = 0;
  bool truncated;
  while (r->n_tail > 0 && i < n) {
    r->tail[r->n_tail++] = (unsigned char)s[i++];
    if (tl_utf8_valid_prefix((char *)r->tail, r->n_tail) == r->n_tail) {
      r->n_tail = 0;
    } else {
      tl_utf8_bad_length((char *)r->tail, r->n_tail, &truncated);
      if (!truncated) return bad_utf8(r, r->offset + i - r->n_tail, r->tail[0], err);
    }
  }
  size_t good = i + tl_utf8_valid_prefix(s + i, n - i);
  if (good == n) return TL_OK;
  tl_utf8_bad_length(s + good, n - good, &truncated);
  if (!truncated) return bad_utf8(r, r->offset + good, (unsigned char)s[good], err);
  r->n_tail = n - good;
  memcpy(r->tail, s + good, r->n_tail);
  return TL_OK;
}

/* Drops the CR of each CR LF in chunk[pos, n); a CR at the end waits for the next chunk. */
static void normalise_newlines(tl_text_reader *r) {
  char *first = memchr(r->chunk + r->pos, '\r', r->n - r->pos);
  if (!first) return;
  char *to = first;
  const char *from = first, *end = r->chunk + r->n;
  for (; from < end; from++) {
    if (*from == '\r' && from + 1 == end) {
      r->held_cr = true;
      break;
    }
    if (*from == '\r' && from[1] == '\n') continue;
    *to++ = *from;
  }
  r->n = (size_t)(to - r->chunk);
}

/* Reads the next chunk of the member, checked and with newlines normalised, or sets at_eof. */
static tl_status fill(tl_text_reader *r, tl_err *err) {
  size_t got;
  TL_TRY(read_chunk(r, &got, err));
  if (got == 0) {
    if (r->n_tail) return bad_utf8(r, r->offset - r->n_tail, r->tail[0], err);
    r->at_eof = true;
    r->pos = r->n = 0;
    if (r->held_cr) r->chunk[r->n++] = '\r';
    r->held_cr = false;
    return TL_OK;
  }
  TL_TRY(check_binary(r, got, err));
  if (r->utf8 == TL_UTF8_ERROR) TL_TRY(check_utf8(r, got, err));
  bool bom = r->offset == 0 && got >= 3 && !memcmp(r->chunk, "\xEF\xBB\xBF", 3);
  r->offset += got;
  r->pos = bom ? 3 : 0;
  r->n = got;
  if (r->held_cr && r->chunk[0] != '\n') { /* the array has one byte to spare for this */
    memmove(r->chunk + 1, r->chunk, r->n++);
    r->chunk[0] = '\r';
  }
  r->held_cr = false;
  normalise_newlines(r);
  return TL_OK;
}

static tl_status begin_member(tl_text_reader *r, bool *more, tl_err *err) {
  TL_TRY(tl_source_next(&r->source, more, err));
  if (!*more) return TL_OK;
  r->stats.files++;
  r->in_member = true;
  r->at_eof = false;
  r->line_blank = true;
  r->newline_due = false;
  r->line_start = r->start = r->doc.len = 0;
  r->offset = 0;
  r->line = 1;
  r->n_tail = 0;
  r->unit = r->unit_option;
  if (r->unit == TL_UNIT_AUTO) r->unit = r->source.json_lines ? TL_UNIT_JSONL : TL_UNIT_PARAGRAPH;
  return TL_OK;
}

static tl_status json_error(const tl_text_reader *r, tl_err *err, const char *what) {
  return tl_fail(err, TL_DATA, "%s:%llu: %s", r->source.name.data, (unsigned long long)r->line,
                 what);
}

/* JSON must be UTF-8, so the policy is applied to the line, before it is parsed. *use = false: the
 * document is left out. */
static bool json_line_utf8(tl_text_reader *r, const char **s, size_t *n, bool *bad) {
  *bad = tl_utf8_valid_prefix(*s, *n) < *n;
  if (!*bad) return true;
  if (r->utf8 == TL_UTF8_SKIP) return false;
  tl_buf_clear(&r->fixed);
  tl_utf8_replace(*s, *n, &r->fixed);
  *s = r->fixed.data;
  *n = r->fixed.len;
  return true;
}

static tl_status take_json_text(tl_text_reader *r, json_t *object, tl_err *err) {
  char what[256];
  json_t *text = json_object_get(object, r->text_key);
  if (!json_is_object(object)) {
    return json_error(r, err, "expected one JSON object a line");
  } else if (!text) {
    snprintf(what, sizeof what,
             "the object has no key \"%.100s\"; name the key of the text (text_key)", r->text_key);
    return json_error(r, err, what);
  } else if (!json_is_string(text)) {
    snprintf(what, sizeof what, "the value of \"%.100s\" is not a string", r->text_key);
    return json_error(r, err, what);
  }
  r->start = 0;
  tl_buf_clear(&r->doc);
  tl_buf_append(&r->doc, json_string_value(text), json_string_length(text));
  r->ended = true;
  return tl_buf_check(&r->doc, err);
}

/* Parses the line in r->json and makes its text the document. */
static tl_status end_json_line(tl_text_reader *r, tl_err *err) {
  TL_TRY(tl_buf_check(&r->json, err));
  const char *s = r->json.data;
  size_t n = r->json.len;
  bool bad = false, use = n > 0 && !is_blank(s, n);
  if (use && !json_line_utf8(r, &s, &n, &bad)) {
    use = false;
    r->stats.skipped++;
  }
  r->stats.bad_utf8 += bad;
  tl_status status = tl_buf_check(&r->fixed, err);
  if (use && status == TL_OK) {
    json_error_t e;
    json_t *object = json_loadb(
        s, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL | JSON_DECODE_ANY,
        &e);
    if (object) {
      status = take_json_text(r, object, err);
      json_decref(object);
    } else {
      char what[256];
      snprintf(what, sizeof what, "bad JSON at column %d: %s", e.column, e.text);
      status = json_error(r, err, what);
    }
  }
  tl_buf_clear(&r->json);
  return status;
}

static tl_status append_json(tl_text_reader *r, const char *s, size_t n, tl_err *err) {
  if (n > JSON_LINE_MAX - r->json.len)
    return json_error(r, err, "a line of more than 256 MiB; is this JSON Lines?");
  tl_buf_append(&r->json, s, n);
  return tl_buf_check(&r->json, err);
}

/* A blank line ends a paragraph; leading blank lines are dropped. */
static void end_paragraph_line(tl_text_reader *r) {
  r->newline_due = !r->line_blank;
  if (r->line_blank) {
    r->doc.len = r->line_start;
    r->ended = r->doc.len > r->start;
    if (!r->ended) r->was_cut = false;
  }
  r->line_start = r->doc.len;
  r->line_blank = true;
}

/* Takes bytes of the chunk up to the next newline, or as many as the document may still grow. */
static tl_status take_segment(tl_text_reader *r, tl_err *err) {
  const char *s = r->chunk + r->pos;
  size_t n = r->n - r->pos;
  const char *nl = r->unit == TL_UNIT_FILE ? NULL : memchr(s, '\n', n);
  if (nl) n = (size_t)(nl - s);
  if (r->unit == TL_UNIT_JSONL) {
    TL_TRY(append_json(r, s, n, err));
  } else {
    /* One character more than a piece may hold: then its cut can be placed between characters. */
    size_t room = r->max_doc + 4 - (r->doc.len - r->start);
    if (n > room) {
      n = room;
      nl = NULL;
    }
    if (n > 0 && r->newline_due) {
      tl_buf_putc(&r->doc, '\n');
      r->newline_due = false;
    }
    tl_buf_append(&r->doc, s, n);
    r->line_blank = r->line_blank && is_blank(s, n);
  }
  r->pos += n;
  if (!nl) return tl_buf_check(&r->doc, err);
  r->pos++;
  tl_status status = TL_OK;
  if (r->unit == TL_UNIT_JSONL)
    status = end_json_line(r, err);
  else if (r->unit == TL_UNIT_LINE)
    r->ended = true;
  else
    end_paragraph_line(r);
  r->line++;
  return status == TL_OK ? tl_buf_check(&r->doc, err) : status;
}

/* The end of a member ends its last document. */
static tl_status end_member(tl_text_reader *r, tl_err *err) {
  if (r->unit == TL_UNIT_JSONL) return end_json_line(r, err);
  if (r->unit == TL_UNIT_PARAGRAPH && r->line_blank) r->doc.len = r->line_start;
  r->ended = r->doc.len > r->start || (r->unit == TL_UNIT_FILE && !r->was_cut);
  if (!r->ended) r->was_cut = false;
  return TL_OK;
}

/* Takes the next piece out of doc: all of an ended document, or max_doc bytes of a longer one. */
static bool take_piece(tl_text_reader *r, const char **text, size_t *len) {
  size_t n = r->doc.len - r->start;
  *text = r->doc.data + r->start;
  if (n > r->max_doc) {
    *len = tl_utf8_cut(*text, r->max_doc);
    if (!r->was_cut) r->stats.cut++;
    r->was_cut = true;
  } else if (r->ended) {
    *len = n;
    r->ended = r->was_cut = false;
    r->start = r->doc.len;
    return true;
  } else {
    return false;
  }
  r->start += *len;
  if (r->line_start < r->start) r->line_start = r->start;
  return true;
}

/* Moves what is left of doc to its front; it is at most a few bytes, or all of the buffer. */
static void compact(tl_text_reader *r) {
  if (r->start == 0 || r->ended) return;
  size_t n = r->doc.len - r->start;
  if (n) memmove(r->doc.data, r->doc.data + r->start, n);
  r->doc.len = n;
  r->line_start = r->line_start > r->start ? r->line_start - r->start : 0;
  r->start = 0;
}

/* Applies the policies to a piece; false: it is left out. */
static bool deliver(tl_text_reader *r, const char **text, size_t *len) {
  if (is_blank(*text, *len)) {
    r->stats.empty++;
    return false;
  }
  if (r->utf8 != TL_UTF8_ERROR && r->unit != TL_UNIT_JSONL &&
      tl_utf8_valid_prefix(*text, *len) < *len) {
    r->stats.bad_utf8++;
    if (r->utf8 == TL_UTF8_SKIP) {
      r->stats.skipped++;
      return false;
    }
    if (r->utf8 == TL_UTF8_REPLACE) {
      tl_buf_clear(&r->fixed);
      tl_utf8_replace(*text, *len, &r->fixed);
      *text = r->fixed.data;
      *len = r->fixed.len;
    }
  }
  r->stats.docs++;
  r->stats.bytes += *len;
  return true;
}

static tl_status at_end(const tl_text_reader *r, tl_err *err) {
  if (r->stats.docs > 0) return TL_OK;
  if (r->stats.skipped > 0)
    return tl_fail(err, TL_DATA,
                   "no documents: all %llu hold ill-formed UTF-8 and were skipped; use the utf8 "
                   "policy replace or keep",
                   (unsigned long long)r->stats.skipped);
  return tl_fail(err, TL_NOINPUT,
                 "no documents: the input (%zu files, the first is %s) holds no text",
                 r->source.files.n, r->source.files.name[0]);
}

tl_status tl_text_next(void *reader, const char **text, size_t *len, tl_err *err) {
  tl_text_reader *r = reader;
  for (;;) {
    if (take_piece(r, text, len)) {
      if (!deliver(r, text, len)) continue;
      return tl_buf_check(&r->fixed, err);
    }
    compact(r);
    if (r->pos < r->n) {
      TL_TRY(take_segment(r, err));
    } else if (r->in_member && !r->at_eof) {
      TL_TRY(fill(r, err));
    } else if (r->in_member) {
      r->in_member = false;
      TL_TRY(end_member(r, err));
    } else {
      bool more;
      TL_TRY(begin_member(r, &more, err));
      if (more) continue;
      *text = NULL;
      *len = 0;
      return at_end(r, err);
    }
  }
}
