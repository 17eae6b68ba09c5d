#include "tilth/decontam.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include <xxhash.h>

#include "base/buf.h"
#include "base/file.h"

/* One n-gram (or short text) of one test text. Several texts may share a hash: each has its own
 * slot, next to each other in probing order, so that all of them are counted as found. */
typedef struct slot {
  uint64_t hash;
  uint32_t text; /* index + 1; 0: empty */
} slot;

struct tl_decontam {
  int ngram;
  slot *slots; /* open addressing, linear probing; capacity is a power of two, at most half full */
  size_t n_slots, cap;
  bool has_length[TL_DECONTAM_NGRAM_MAX + 1]; /* lengths of which some n-gram is in the table */
  unsigned char *found;                       /* per text */
  size_t found_cap;
  tl_buf words;    /* uint64_t hashes of the words of the text being added */
  tl_buf cut;      /* one byte per line of the document: non-zero if it is cut */
  tl_buf per_line; /* uint32_t words per line of the document */
  tl_buf clean;
  tl_buf lower; /* the word being read */
  tl_decontam_report report;
};

static const uint64_t base = 0x9e3779b97f4a7c15u; /* odd: a multiplier modulo 2^64 */

tl_status tl_decontam_new(int ngram, tl_decontam **out, tl_err *err) {
  if (ngram == 0) ngram = TL_DECONTAM_NGRAM;
  if (ngram < 2 || ngram > TL_DECONTAM_NGRAM_MAX)
    return tl_fail(err, TL_CONFIG, "decontamination: ngram is %d; it must be 2 to %d words", ngram,
                   TL_DECONTAM_NGRAM_MAX);
  tl_decontam *d = calloc(1, sizeof *d);
  if (!d) return tl_fail(err, TL_NOMEM, "out of memory");
  d->ngram = ngram;
  *out = d;
  return TL_OK;
}

void tl_decontam_free(tl_decontam *d) {
  if (!d) return;
  free(d->slots);
  free(d->found);
  tl_buf_free(&d->words);
  tl_buf_free(&d->cut);
  tl_buf_free(&d->per_line);
  tl_buf_free(&d->clean);
  tl_buf_free(&d->lower);
  free(d);
}

void tl_decontam_get_report(const tl_decontam *d, tl_decontam_report *out) {
  *out = d->report;
}

/* The next word of text[*at, len), skipping what lies before it: its hash, or 0 at the end. *lines
 * grows by the newlines skipped. */
static uint64_t next_word(tl_decontam *d, const char *text, size_t len, size_t *at, size_t *lines) {
  tl_buf *w = &d->lower;
  tl_buf_clear(w);
  size_t i = *at;
  while (i < len) {
    unsigned char c = (unsigned char)text[i];
    if (c < 0x80) {
      bool upper = c >= 'A' && c <= 'Z';
      if (upper || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
        tl_buf_putc(w, (char)(upper ? c + 32 : c));
      } else if (w->len) {
        break;
      } else if (c == '\n') {
        ++*lines;
      }
      i++;
      continue;
    }
    utf8proc_int32_t cp;
    utf8proc_ssize_t n =
        utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(len - i), &cp);
    utf8proc_category_t kind = n > 0 ? utf8proc_category(cp) : UTF8PROC_CATEGORY_CN;
    bool letter = kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_NO;
    if (letter) {
      utf8proc_uint8_t out[4];
      tl_buf_append(w, out, (size_t)utf8proc_encode_char(utf8proc_tolower(cp), out));
    } else if (w->len) {
      break;
    }
    i += n > 0 ? (size_t)n : 1;
  }
  *at = i;
  if (!w->len) return 0;
  uint64_t h = XXH3_64bits(w->data, w->len);
  return h ? h : 1;
}

static uint64_t finish(uint64_t h, int n) {
  h = (h ^ (uint64_t)n) * 0xff51afd7ed558ccdu;
  return h ^ (h >> 32);
}

static tl_status grow(tl_decontam *d, tl_err *err) {
  size_t cap = d->cap ? d->cap * 2 : 1024;
  slot *slots = calloc(cap, sizeof *slots);
  if (!slots) return tl_fail(err, TL_NOMEM, "out of memory");
  for (size_t i = 0; i < d->cap; i++) {
    if (!d->slots[i].text) continue;
    size_t j = d->slots[i].hash & (cap - 1);
    while (slots[j].text) j = (j + 1) & (cap - 1);
    slots[j] = d->slots[i];
  }
  free(d->slots);
  d->slots = slots;
  d->cap = cap;
  return TL_OK;
}

static tl_status insert(tl_decontam *d, uint64_t hash, int length, uint32_t text, tl_err *err) {
  if (2 * (d->n_slots + 1) > d->cap) TL_TRY(grow(d, err));
  size_t i = hash & (d->cap - 1);
  for (; d->slots[i].text; i = (i + 1) & (d->cap - 1))
    if (d->slots[i].hash == hash && d->slots[i].text == text) return TL_OK;
  d->slots[i] = (slot){hash, text};
  d->n_slots++;
  d->has_length[length] = true;
  return TL_OK;
}

tl_status tl_decontam_add(tl_decontam *d, const char *text, size_t len, tl_err *err) {
  tl_buf_clear(&d->words);
  size_t at = 0, lines = 0;
  for (uint64_t w; (w = next_word(d, text, len, &at, &lines)) != 0;)
    tl_buf_append(&d->words, &w, sizeof w);
  TL_TRY(tl_buf_check(&d->lower, err));
  TL_TRY(tl_buf_check(&d->words, err));
  size_t n = d->words.len / sizeof(uint64_t);
  if (n == 0) return TL_OK;
  if (d->report.texts == d->found_cap) {
    size_t cap = d->found_cap ? 2 * d->found_cap : 1024;
    unsigned char *found = cap < UINT32_MAX ? realloc(d->found, cap) : NULL;
    if (!found) return tl_fail(err, TL_NOMEM, "out of memory, or more than 2^32 test texts");
    d->found = found;
    d->found_cap = cap;
  }
  d->found[d->report.texts++] = 0;
  uint32_t id = (uint32_t)d->report.texts;
  size_t length = n < (size_t)d->ngram ? n : (size_t)d->ngram;
  for (size_t begin = 0; begin + length <= n; begin++) {
    uint64_t h = 0, w;
    for (size_t i = begin; i < begin + length; i++) {
      memcpy(&w, d->words.data + i * sizeof w, sizeof w);
      h = h * base + w;
    }
    TL_TRY(insert(d, finish(h, (int)length), (int)length, id, err));
  }
  return TL_OK;
}

tl_status tl_decontam_add_file(tl_decontam *d, const char *path, tl_err *err) {
  tl_map m;
  TL_TRY(tl_map_open(path, &m, err));
  tl_status s = TL_OK;
  uint64_t before = d->report.texts;
  const char *p = (const char *)m.data, *end = p + m.size;
  while (s == TL_OK && p < end) {
    const char *nl = memchr(p, '\n', (size_t)(end - p));
    const char *stop = nl ? nl : end;
    const char *tab = memchr(p, '\t', (size_t)(stop - p));
    const char *text = tab ? tab + 1 : p;
    s = tl_decontam_add(d, text, (size_t)(stop - text), err);
    p = nl ? nl + 1 : end;
  }
  tl_map_close(&m);
  if (s == TL_OK && d->report.texts == before)
    s = tl_fail(err, TL_DATA, "%s: no test text in it; expected one per line, or label<TAB>text",
                path);
  return s;
}

/* Marks the texts that have this n-gram as found; true if there is one. */
static bool look_up(tl_decontam *d, uint64_t hash) {
  bool hit = false;
  for (size_t i = hash & (d->cap - 1); d->slots[i].text; i = (i + 1) & (d->cap - 1)) {
    if (d->slots[i].hash != hash) continue;
    unsigned char *f = &d->found[d->slots[i].text - 1];
    d->report.texts_found += !*f;
    *f = 1;
    hit = true;
  }
  return hit;
}

/* Fills d->cut for the lines of the document; false if none is cut. A window over the last `ngram`
 * words is kept, so that memory does not grow with the length of a line. */
static bool mark(tl_decontam *d, const char *text, size_t len) {
  uint64_t hash[TL_DECONTAM_NGRAM_MAX];
  size_t line_of[TL_DECONTAM_NGRAM_MAX];
  size_t at = 0, line = 0, n = 0;
  bool any = false;
  uint32_t *words = (uint32_t *)(void *)d->per_line.data;
  for (uint64_t w; (w = next_word(d, text, len, &at, &line)) != 0; n++) {
    size_t here = n % (size_t)d->ngram;
    hash[here] = w;
    line_of[here] = line;
    words[line]++;
    uint64_t h = 0, power = 1;
    for (size_t k = 1; k <= (size_t)d->ngram && k <= n + 1; k++) {
      size_t i = (n + 1 - k) % (size_t)d->ngram;
      h += hash[i] * power;
      power *= base;
      if (!d->has_length[k] || !look_up(d, finish(h, (int)k))) continue;
      any = true;
      for (size_t l = line_of[i]; l <= line; l++) d->cut.data[l] = 1;
    }
  }
  return any;
}

tl_status tl_decontam_filter(tl_decontam *d, const char *text, size_t len, const char **clean,
                             size_t *clean_len, tl_err *err) {
  size_t n_lines = 1;
  for (const char *p = text, *end = text + len; p < end && (p = memchr(p, '\n', (size_t)(end - p)));
       p++)
    n_lines++;
  tl_buf *bufs[] = {&d->cut, &d->per_line, &d->clean};
  size_t room[] = {n_lines, n_lines * sizeof(uint32_t), len + 1};
  for (int i = 0; i < 3; i++) {
    tl_buf_clear(bufs[i]);
    if (!tl_buf_reserve(bufs[i], room[i])) return tl_buf_check(bufs[i], err);
  }
  memset(d->cut.data, 0, n_lines);
  memset(d->per_line.data, 0, n_lines * sizeof(uint32_t));
  bool any = d->n_slots > 0 && mark(d, text, len);
  TL_TRY(tl_buf_check(&d->lower, err));

  const uint32_t *words = (const uint32_t *)(const void *)d->per_line.data;
  uint64_t total = 0, left = 0, cut = 0, lines = 0;
  const char *p = text, *end = text + len;
  for (size_t l = 0; l < n_lines; l++) {
    const char *nl = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
    const char *stop = nl ? nl : end;
    bool empty = stop == p;
    lines += !empty;
    total += words[l];
    if (d->cut.data[l]) {
      cut++;
    } else if (!empty) {
      left += words[l];
      if (d->clean.len) tl_buf_putc(&d->clean, '\n');
      tl_buf_append(&d->clean, p, (size_t)(stop - p));
    }
    p = nl ? nl + 1 : end;
  }
  bool drop = any && 4 * left < total;
  if (drop) tl_buf_clear(&d->clean);
  tl_decontam_report *r = &d->report;
  r->docs++;
  r->docs_changed += any && !drop;
  r->docs_dropped += drop;
  r->lines += lines;
  r->lines_cut += drop ? lines : cut;
  r->bytes_in += len;
  r->bytes_out += d->clean.len;
  *clean = d->clean.data;
  *clean_len = d->clean.len;
  return tl_buf_check(&d->clean, err);
}
