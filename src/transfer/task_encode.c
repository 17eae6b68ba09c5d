/* Records to tokens, once, before training: a batch then only copies. */
#include <stdlib.h>
#include <string.h>

#include "transfer/task.h"

enum { MIN_TEXT = 4 }; /* tokens of a text that must fit beside what is put around it */

typedef struct encoder {
  const tl_task *task;
  const tl_tokenizer *tok;
  const tl_task_data *d;
  tl_encode_options o;
  tl_task_samples *out;
  int64_t tokens_cap, samples_cap, targets_cap; /* elements */
  int64_t n_tokens, n_targets;
  int bos, eos;     /* of prompts and translations */
  bool spaces;      /* the tokenizer makes the space before a word a part of it */
  uint32_t *ids[2]; /* of the first and the second text */
  size_t n_ids[2], cap_ids[2];
} encoder;

/* Makes room for `more` elements of `size` bytes behind `used`. */
static bool grow(void *list, int64_t *cap, int64_t used, int64_t more, size_t size) {
  void **p = list;
  if (used + more <= *cap) return true;
  int64_t bigger = used + more > 2 * *cap ? used + more + 256 : 2 * *cap;
  void *q = realloc(*p, (size_t)bigger * size);
  if (!q) return false;
  *p = q;
  *cap = bigger;
  return true;
}

static tl_status no_memory(tl_err *err) {
  return tl_fail(err, TL_NOMEM, "out of memory for the tokens of the records");
}

/* Begins a sample of `record` with room for n tokens and as many targets. */
static tl_status begin_sample(encoder *e, size_t record, int64_t n, tl_err *err) {
  tl_task_samples *s = e->out;
  n += e->o.learned.n;
  int64_t cap[4] = {e->samples_cap, e->samples_cap, e->samples_cap, e->samples_cap};
  int64_t row_cap = e->targets_cap;
  if (!grow(&s->start, &cap[0], s->n, 2, sizeof *s->start) ||
      !grow(&s->target, &cap[1], s->n, 2, sizeof *s->target) ||
      !grow(&s->second, &cap[2], s->n, 2, sizeof *s->second) ||
      !grow(&s->record, &cap[3], s->n, 2, sizeof *s->record))
    return no_memory(err);
  e->samples_cap = cap[0];
  if (!grow(&s->token, &e->tokens_cap, e->n_tokens, n, sizeof *s->token) ||
      !grow(&s->row, &row_cap, e->n_targets, n, sizeof *s->row) ||
      !grow(&s->label, &e->targets_cap, e->n_targets, n, sizeof *s->label))
    return no_memory(err);
  s->start[s->n] = e->n_tokens;
  s->target[s->n] = e->n_targets;
  s->record[s->n] = (int32_t)record;
  for (int32_t i = 0; i < e->o.learned.n; i++) s->token[e->n_tokens++] = e->o.learned.first + i;
  return TL_OK;
}

static void push(encoder *e, int32_t token) {
  if (token >= 0) e->out->token[e->n_tokens++] = token;
}

static void push_ids(encoder *e, int which, size_t from, size_t to) {
  for (size_t i = from; i < to; i++) push(e, (int32_t)e->ids[which][i]);
}

/* What the tokenizer puts around one text or two. */
static void push_around(encoder *e, bool pair, tl_around place) {
  size_t n;
  const uint32_t *id = tl_tokenizer_around(e->tok, pair, place, &n);
  for (size_t i = 0; i < n; i++) push(e, (int32_t)id[i]);
}

static int64_t count_around(const encoder *e, bool pair) {
  size_t n, sum = 0;
  for (int place = TL_AROUND_BEFORE; place <= TL_AROUND_AFTER; place++) {
    tl_tokenizer_around(e->tok, pair, (tl_around)place, &n);
    sum += n;
  }
  return (int64_t)sum;
}

static int32_t row_now(const encoder *e) {
  return (int32_t)(e->n_tokens - e->out->start[e->out->n]);
}

static void add_target(encoder *e, int32_t row, int32_t label) {
  e->out->row[e->n_targets] = row;
  e->out->label[e->n_targets++] = label;
}

/* second < 0: there was no second text. */
static void end_sample(encoder *e, int32_t second) {
  tl_task_samples *s = e->out;
  s->second[s->n] = second < 0 ? row_now(e) : second;
  s->n++;
  s->start[s->n] = e->n_tokens;
  s->target[s->n] = e->n_targets;
}

static tl_status encode_text(encoder *e, int which, const char *text, size_t len, tl_err *err) {
  e->n_ids[which] = 0;
  return tl_tokenizer_encode(e->tok, text, len, &e->ids[which], &e->n_ids[which],
                             &e->cap_ids[which], err);
}

/* A text, or two, with what the tokenizer puts around them. */
static tl_status add_sequence(encoder *e, size_t i, tl_err *err) {
  const tl_task_data *d = e->d;
  bool pair = d->text_b != NULL;
  int64_t specials = count_around(e, pair), room = e->o.max_len - specials;
  TL_TRY(encode_text(e, 0, d->text[i], strlen(d->text[i]), err));
  if (pair) TL_TRY(encode_text(e, 1, d->text_b[i], strlen(d->text_b[i]), err));
  int64_t a = (int64_t)e->n_ids[0], b = pair ? (int64_t)e->n_ids[1] : 0;
  if (a + b > room) {
    int64_t least = room - a > room / 2 ? room - a : room / 2;
    e->out->n_cut++;
    b = b < least ? b : least;
    a = a < room - b ? a : room - b;
  }
  TL_TRY(begin_sample(e, i, a + b + specials + 1, err));
  push_around(e, pair, TL_AROUND_BEFORE);
  push_ids(e, 0, 0, (size_t)a);
  push_around(e, pair, TL_AROUND_BETWEEN);
  int32_t second = pair ? row_now(e) : -1;
  if (pair) push_ids(e, 1, 0, (size_t)b);
  push_around(e, pair, TL_AROUND_AFTER);
  if (row_now(e) == e->o.learned.n) push(e, e->eos); /* an empty text */
  int32_t last = row_now(e) - 1;
  if (last < e->o.learned.n)
    return tl_fail(err, TL_DATA, "line %u: the text has no token in this tokenizer",
                   d->line ? d->line[i] : (unsigned)i + 1);
  add_target(e, e->o.pool == TL_POOL_LAST ? last : e->o.learned.n, d->label ? d->label[i] : 0);
  end_sample(e, second);
  return TL_OK;
}

/* A word inside a sentence; to a byte-level tokenizer the space before it belongs to it. */
static tl_status encode_word(encoder *e, const char *word, bool inner, tl_err *err) {
  char spaced[512];
  size_t len = strlen(word);
  if (!inner || !e->spaces || len + 1 > sizeof spaced) return encode_text(e, 0, word, len, err);
  spaced[0] = ' ';
  memcpy(spaced + 1, word, len);
  return encode_text(e, 0, spaced, len + 1, err);
}

/* Words with what the tokenizer puts around a text, a target at the first token of each. Windows
 * end where the next word does not fit. */
static tl_status add_words(encoder *e, size_t i, tl_err *err) {
  const tl_task_data *d = e->d;
  int64_t room = e->o.max_len - count_around(e, false), used = 0;
  const char *word = d->text[i];
  bool open = false, windowed = false;
  for (size_t w = d->first[i]; w < d->first[i + 1]; w++, word = tl_task_next_word(word)) {
    TL_TRY(encode_word(e, word, w > d->first[i], err));
    int64_t n = (int64_t)e->n_ids[0];
    if (n > room) n = room;
    if (open && used + n > room) {
      push_around(e, false, TL_AROUND_AFTER);
      end_sample(e, -1);
      open = false;
      windowed = true;
    }
    if (!open) {
      TL_TRY(begin_sample(e, i, e->o.max_len, err));
      push_around(e, false, TL_AROUND_BEFORE);
      open = true;
      used = 0;
    }
    /* A word without a token is read off the row before it. */
    add_target(e, n > 0 ? row_now(e) : (row_now(e) > 0 ? row_now(e) - 1 : 0), d->item[w]);
    push_ids(e, 0, 0, (size_t)n);
    used += n;
  }
  if (!open || row_now(e) == e->o.learned.n)
    return tl_fail(err, TL_DATA, "line %u: the sentence has no token in this tokenizer",
                   d->line ? d->line[i] : (unsigned)i + 1);
  push_around(e, false, TL_AROUND_AFTER);
  end_sample(e, -1);
  e->out->n_cut += windowed;
  return TL_OK;
}

/* [bos] prompt answer [eos]; targets are the answer's tokens and the end, each on the row before.
 */
static tl_status add_prompt(encoder *e, size_t i, tl_err *err) {
  const tl_task_data *d = e->d;
  TL_TRY(encode_text(e, 0, d->text[i], strlen(d->text[i]), err));
  TL_TRY(encode_text(e, 1, d->text_b[i], strlen(d->text_b[i]), err));
  int64_t specials = (e->bos >= 0) + (e->eos >= 0), room = e->o.max_len - specials;
  int64_t p = (int64_t)e->n_ids[0], a = (int64_t)e->n_ids[1], skip = 0;
  if (p + a > room) {
    e->out->n_cut++;
    int64_t least = e->bos < 0 ? 1 : 0; /* something must stand before the answer */
    skip = p + a - room < p - least ? p + a - room : p - least;
    if (skip < 0) skip = 0;
    if (p - skip + a > room) a = room - (p - skip);
  }
  TL_TRY(begin_sample(e, i, e->o.max_len + 1, err));
  push(e, e->bos);
  push_ids(e, 0, (size_t)skip, (size_t)p);
  int32_t second = row_now(e);
  if (second == e->o.learned.n || a < 1)
    return tl_fail(err, TL_DATA, "line %u: prompt or answer has no token",
                   d->line ? d->line[i] : (unsigned)i + 1);
  for (int64_t k = 0; k < a; k++) add_target(e, second - 1 + (int32_t)k, (int32_t)e->ids[1][k]);
  push_ids(e, 1, 0, (size_t)a);
  if (e->eos >= 0 && a == (int64_t)e->n_ids[1]) {
    add_target(e, row_now(e) - 1, e->eos);
    push(e, e->eos);
  }
  end_sample(e, second);
  return TL_OK;
}

/* Source `x [eos]`, decoder `[bos] y`, targets `y [eos]`. */
static tl_status add_translation(encoder *e, size_t i, tl_err *err) {
  const tl_task_data *d = e->d;
  TL_TRY(encode_text(e, 0, d->text[i], strlen(d->text[i]), err));
  if (d->text_b) TL_TRY(encode_text(e, 1, d->text_b[i], strlen(d->text_b[i]), err));
  int64_t room = e->o.max_len - 1, x = (int64_t)e->n_ids[0], y = (int64_t)e->n_ids[1];
  bool whole = y <= room;
  if (x > room || !whole) e->out->n_cut++;
  if (x > room) x = room;
  if (!whole) y = room;
  TL_TRY(begin_sample(e, i, x + y + 2, err));
  push_ids(e, 0, 0, (size_t)x);
  push(e, e->eos);
  int32_t second = row_now(e);
  push(e, e->bos);
  push_ids(e, 1, 0, (size_t)(whole ? y : y - 1));
  for (int64_t k = 0; k < y; k++) add_target(e, (int32_t)k, (int32_t)e->ids[1][k]);
  if (whole) add_target(e, (int32_t)y, e->eos); /* a text that was cut does not end here */
  end_sample(e, second);
  return TL_OK;
}

tl_encode_options tl_encode_for(const tl_model *m, int64_t max_len) {
  tl_encode_options o = {
      .pool = tl_model_pooling(m), .learned = tl_model_learned_rows(m), .model = &m->c};
  o.max_len = max_len + o.learned.n;
  if (o.max_len > m->c.max_len) o.max_len = m->c.max_len;
  return o;
}

tl_status tl_task_encode(const tl_task *t, const tl_tokenizer *tok, const tl_task_data *d,
                         const tl_encode_options *o, tl_task_samples *out, tl_err *err) {
  *out = (tl_task_samples){0};
  encoder e = {.task = t,
               .tok = tok,
               .d = d,
               .o = *o,
               .out = out,
               .bos = tl_tokenizer_special(tok, TL_TOK_BOS),
               .eos = tl_tokenizer_special(tok, TL_TOK_EOS),
               .spaces = !strcmp(tl_tokenizer_type(tok), "bpe") ||
                         !strcmp(tl_tokenizer_type(tok), "bytes")};
  tl_status s = TL_OK;
  int64_t around = count_around(&e, d->text_b && t->records != TL_TASK_PAIR);
  e.o.max_len -= o->learned.n;
  if (e.o.max_len < 8)
    s = tl_fail(err, TL_CONFIG,
                "task.max_len leaves %lld tokens for a text beside %d learned rows: at least 8 are "
                "needed",
                (long long)e.o.max_len, o->learned.n);
  else if (around > e.o.max_len - MIN_TEXT)
    s = tl_fail(err, TL_CONFIG,
                "task.max_len: the tokenizer puts %lld tokens around a text, of at most %lld",
                (long long)around, (long long)e.o.max_len);
  if (t->seq2seq && e.eos < 0)
    s = tl_fail(err, TL_CONFIG, "the tokenizer has no token that ends a text: it cannot translate");
  if (t->seq2seq) e.bos = tl_model_start(o->model, tok);
  for (size_t i = 0; s == TL_OK && i < d->n; i++) {
    if (t->seq2seq)
      s = add_translation(&e, i, err);
    else if (t->records == TL_TASK_TOKENS)
      s = add_words(&e, i, err);
    else if (t->records == TL_TASK_PAIR)
      s = add_prompt(&e, i, err);
    else
      s = add_sequence(&e, i, err);
  }
  free(e.ids[0]);
  free(e.ids[1]);
  if (s != TL_OK) tl_task_samples_free(out);
  return s;
}

static int falling(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x < y) - (x > y);
}

/* The sum of the `count` largest of x[n], which is sorted. */
static int64_t largest(int64_t *x, int64_t n, int64_t count) {
  int64_t sum = 0;
  qsort(x, (size_t)n, sizeof *x, falling);
  for (int64_t i = 0; i < n && i < count; i++) sum += x[i];
  return sum;
}

tl_status tl_task_room_for(const tl_task *t, const tl_task_samples *s, tl_task_room *room,
                           tl_err *err) {
  if (s->n == 0) return TL_OK;
  int64_t *x = malloc((size_t)s->n * sizeof *x),
          *most[] = {&room->tokens, &room->source, &room->targets};
  if (!x) return tl_fail(err, TL_NOMEM, "out of memory for %lld samples", (long long)s->n);
  for (int k = 0; k < 3; k++) {
    for (int64_t i = 0; i < s->n; i++) {
      int64_t all = s->start[i + 1] - s->start[i], source = t->seq2seq ? s->second[i] : 0;
      x[i] = k == 0 ? all - source : k == 1 ? source : s->target[i + 1] - s->target[i];
    }
    int64_t sum = largest(x, s->n, room->texts);
    if (sum > *most[k]) *most[k] = sum;
  }
  free(x);
  return TL_OK;
}

void tl_task_samples_free(tl_task_samples *s) {
  free(s->start);
  free(s->token);
  free(s->second);
  free(s->target);
  free(s->row);
  free(s->label);
  free(s->record);
  *s = (tl_task_samples){0};
}
