#include "eval/segment.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

bool tl_segment_is_space(uint32_t cp) {
  if (cp < 128) return (cp >= 9 && cp <= 13) || (cp >= 28 && cp <= 32);
  if (cp == 0x85 || cp == 0xa0 || cp == 0x1680 || cp == 0x202f || cp == 0x205f || cp == 0x3000)
    return true;
  return (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029;
}

/* --- Lower case --- */
static bool in_set(uint32_t cp, const uint32_t *set, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (set[i] == cp) return true;
  return false;
}

/* Unicode's Case_Ignorable: marks, format characters, modifiers, and the Word_Break classes
 * MidLetter, MidNumLet and Single_Quote. */
static bool case_ignorable(uint32_t cp) {
  static const uint32_t mid[] = {'\'',   '.',    ':',    0xb7,   0x387,  0x55f,
                                 0x5f4,  0x2018, 0x2019, 0x2024, 0x2027, 0xfe13,
                                 0xfe52, 0xfe55, 0xff07, 0xff0e, 0xff1a};
  switch (utf8proc_category((utf8proc_int32_t)cp)) {
  case UTF8PROC_CATEGORY_MN:
  case UTF8PROC_CATEGORY_ME:
  case UTF8PROC_CATEGORY_CF:
  case UTF8PROC_CATEGORY_LM:
  case UTF8PROC_CATEGORY_SK:
    return true;
  default:
    return in_set(cp, mid, sizeof mid / sizeof *mid);
  }
}

/* Unicode's Cased: letters with a case, and what only looks like one (circled letters, ...). */
static bool cased(uint32_t cp) {
  switch (utf8proc_category((utf8proc_int32_t)cp)) {
  case UTF8PROC_CATEGORY_LU:
  case UTF8PROC_CATEGORY_LL:
  case UTF8PROC_CATEGORY_LT:
    return true;
  default:
    return cp == 0xaa || cp == 0xba || (cp >= 0x2160 && cp <= 0x217f) ||
           (cp >= 0x24b6 && cp <= 0x24e9) || (cp >= 0x1f130 && cp <= 0x1f149) ||
           (cp >= 0x1f150 && cp <= 0x1f169) || (cp >= 0x1f170 && cp <= 0x1f189);
  }
}

/* A sigma behind a letter and not before one (Unicode's Final_Sigma). */
static bool final_sigma(const tl_ids *s, size_t i) {
  size_t before = i, after = i + 1;
  while (before > 0 && case_ignorable(s->data[before - 1])) before--;
  while (after < s->len && case_ignorable(s->data[after])) after++;
  return before > 0 && cased(s->data[before - 1]) && !(after < s->len && cased(s->data[after]));
}

static void lower(const tl_ids *in, tl_ids *out) {
  for (size_t i = 0; i < in->len; i++) {
    uint32_t cp = in->data[i];
    if (cp == 0x130) { /* I with dot: the only letter whose lower case is two characters */
      tl_ids_push(out, 'i');
      tl_ids_push(out, 0x307);
    } else if (cp == 0x3a3) {
      tl_ids_push(out, final_sigma(in, i) ? 0x3c2 : 0x3c3);
    } else {
      tl_ids_push(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp));
    }
  }
}

static tl_status check(const tl_ids *v, tl_err *err) {
  return v->oom ? tl_fail(err, TL_NOMEM, "out of memory for a text of %zu characters", v->len)
                : TL_OK;
}

/* Frees *old and gives it the contents of fresh. */
static tl_status replace(tl_ids *old, tl_ids *fresh, tl_err *err) {
  tl_ids_free(old);
  *old = *fresh;
  return check(old, err);
}

tl_status tl_segment_decode(tl_bleu_text text, bool lowercase, tl_ids *out, tl_err *err) {
  const uint8_t *p = (const uint8_t *)text.text;
  out->len = 0;
  for (size_t i = 0; i < text.len;) {
    utf8proc_int32_t cp;
    size_t left = text.len - i;
    utf8proc_ssize_t n = utf8proc_iterate(p + i, left < 4 ? (utf8proc_ssize_t)left : 4, &cp);
    if (n <= 0) return tl_fail(err, TL_DATA, "byte %zu of the text is not UTF-8", i);
    tl_ids_push(out, (uint32_t)cp);
    i += (size_t)n;
  }
  if (!lowercase) return check(out, err);
  tl_ids low = {0};
  lower(out, &low);
  return replace(out, &low, err);
}

/* --- Tokenizers --- */
static bool is_digit(uint32_t cp) {
  return cp >= '0' && cp <= '9';
}

/* Each `from` in *s becomes `to`, left to right. */
static tl_status substitute(tl_ids *s, const char *from, const char *to, tl_err *err) {
  tl_ids out = {0};
  size_t n = strlen(from);
  for (size_t i = 0; i < s->len;) {
    size_t k = 0;
    while (k < n && i + k < s->len && s->data[i + k] == (unsigned char)from[k]) k++;
    if (k < n) {
      tl_ids_push(&out, s->data[i++]);
      continue;
    }
    for (const char *c = to; *c; c++) tl_ids_push(&out, (unsigned char)*c);
    i += n;
  }
  return replace(s, &out, err);
}

typedef bool (*class_fn)(uint32_t cp);

/* Wherever a character of class a stands before one of class b: spaces around the first (where ==
 * 0) or the second of them. A character is part of one match only, as in a regular expression. */
static tl_status split_pairs(tl_ids *s, class_fn a, class_fn b, int where, tl_err *err) {
  tl_ids out = {0};
  for (size_t i = 0; i < s->len; i++) {
    if (i + 1 >= s->len || !a(s->data[i]) || !b(s->data[i + 1])) {
      tl_ids_push(&out, s->data[i]);
      continue;
    }
    if (where == 0) tl_ids_push(&out, ' ');
    tl_ids_push(&out, s->data[i]);
    tl_ids_push(&out, ' ');
    tl_ids_push(&out, s->data[++i]);
    if (where == 1) tl_ids_push(&out, ' ');
  }
  return replace(s, &out, err);
}

static tl_status split_class(tl_ids *s, class_fn a, tl_err *err) {
  tl_ids out = {0};
  for (size_t i = 0; i < s->len; i++) {
    bool hit = a(s->data[i]);
    if (hit) tl_ids_push(&out, ' ');
    tl_ids_push(&out, s->data[i]);
    if (hit) tl_ids_push(&out, ' ');
  }
  return replace(s, &out, err);
}

static bool not_digit(uint32_t cp) {
  return !is_digit(cp);
}

static bool point_or_comma(uint32_t cp) {
  return cp == '.' || cp == ',';
}

static bool dash(uint32_t cp) {
  return cp == '-';
}

/* ASCII punctuation but ' , - . (which have rules of their own), and the space. */
static bool split_13a(uint32_t cp) {
  return (cp >= ' ' && cp <= '&') || (cp >= '(' && cp <= '+') || cp == '/' ||
         (cp >= ':' && cp <= '@') || (cp >= '[' && cp <= '`') || (cp >= '{' && cp <= '~');
}

static tl_status tokenize_13a(tl_ids *s, tl_err *err) {
  static const char *const replaced[][2] = {
      {"<skipped>", ""}, {"-\n", ""},   {"\n", " "},   {"&quot;", "\""},
      {"&amp;", "&"},    {"&lt;", "<"}, {"&gt;", ">"},
  };
  for (size_t i = 0; i < sizeof replaced / sizeof *replaced; i++)
    TL_TRY(substitute(s, replaced[i][0], replaced[i][1], err));
  tl_ids framed = {0}; /* the pairs below need a neighbour */
  tl_ids_push(&framed, ' ');
  for (size_t i = 0; i < s->len; i++) tl_ids_push(&framed, s->data[i]);
  tl_ids_push(&framed, ' ');
  TL_TRY(replace(s, &framed, err));
  TL_TRY(split_class(s, split_13a, err));
  TL_TRY(split_pairs(s, not_digit, point_or_comma, 1, err));
  TL_TRY(split_pairs(s, point_or_comma, not_digit, 0, err));
  return split_pairs(s, is_digit, dash, 1, err);
}

static bool category_between(uint32_t cp, utf8proc_category_t low, utf8proc_category_t high) {
  utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
  return c >= low && c <= high;
}

static bool not_number(uint32_t cp) {
  return !category_between(cp, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO);
}

static bool punctuation(uint32_t cp) {
  return category_between(cp, UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PO);
}

static bool symbol(uint32_t cp) {
  return category_between(cp, UTF8PROC_CATEGORY_SM, UTF8PROC_CATEGORY_SO);
}

static bool anything(uint32_t cp) {
  (void)cp;
  return true;
}

tl_status tl_segment_tokenize(tl_bleu_tokenizer tok, tl_ids *cps, tl_err *err) {
  switch (tok) {
  case TL_BLEU_13A:
    return tokenize_13a(cps, err);
  case TL_BLEU_INTL:
    TL_TRY(split_pairs(cps, not_number, punctuation, 1, err));
    TL_TRY(split_pairs(cps, punctuation, not_number, 0, err));
    return split_class(cps, symbol, err);
  case TL_BLEU_CHAR:
    return split_class(cps, anything, err);
  case TL_BLEU_NONE:
    return TL_OK;
  }
  return tl_fail(err, TL_USAGE, "there is no BLEU tokenizer %d", (int)tok);
}

/* --- Words --- */
struct tl_word {
  const uint32_t *cp; /* points into its text */
  size_t len, order;  /* order: that of being added */
};

static tl_status add_word(tl_words *w, const uint32_t *cp, size_t len, tl_err *err) {
  if (w->n == w->cap) {
    size_t cap = w->cap ? 2 * w->cap : 64;
    struct tl_word *p = cap > SIZE_MAX / sizeof *p ? NULL : realloc(w->item, cap * sizeof *p);
    if (!p) return tl_fail(err, TL_NOMEM, "out of memory for %zu words", cap);
    w->item = p;
    w->cap = cap;
  }
  w->item[w->n] = (struct tl_word){cp, len, w->n};
  w->n++;
  return TL_OK;
}

static int by_content(const void *a, const void *b) {
  const struct tl_word *x = a, *y = b;
  if (x->len != y->len) return x->len < y->len ? -1 : 1;
  return memcmp(x->cp, y->cp, x->len * sizeof *x->cp);
}

/* number[i] of the i-th word added, equal exactly if the words are. Leaves the words sorted. */
static void number_words(tl_words *w, uint32_t *number) {
  if (w->n) qsort(w->item, w->n, sizeof *w->item, by_content);
  uint32_t id = 0;
  for (size_t i = 0; i < w->n; i++) {
    if (i && by_content(&w->item[i - 1], &w->item[i])) id++;
    number[w->item[i].order] = id;
  }
}

static bool ascii_punctuation(uint32_t cp) {
  return cp < 128 && (punctuation(cp) || symbol(cp));
}

static tl_status add_split(const uint32_t *cp, size_t n, tl_words *w, tl_err *err) {
  size_t cut = 0;
  if (n > 1 && ascii_punctuation(cp[n - 1]))
    cut = n - 1;
  else if (n > 1 && ascii_punctuation(cp[0]))
    cut = 1;
  if (cut) TL_TRY(add_word(w, cp, cut, err));
  return add_word(w, cp + cut, n - cut, err);
}

static tl_status split_words(const tl_ids *cps, bool punctuation_apart, tl_words *w, tl_err *err) {
  for (size_t i = 0, end; i < cps->len; i = end) {
    end = i + 1;
    if (tl_segment_is_space(cps->data[i])) continue;
    while (end < cps->len && !tl_segment_is_space(cps->data[end])) end++;
    TL_TRY(punctuation_apart ? add_split(cps->data + i, end - i, w, err)
                             : add_word(w, cps->data + i, end - i, err));
  }
  return TL_OK;
}

/* --- The texts of a segment --- */
tl_status tl_texts_init(tl_texts *w, size_t n, tl_err *err) {
  w->text = calloc(n, sizeof *w->text);
  w->n_words = calloc(n, sizeof *w->n_words);
  w->n = n;
  if (w->text && w->n_words) return TL_OK;
  tl_texts_free(w);
  return tl_fail(err, TL_NOMEM, "out of memory for %zu texts", n);
}

void tl_texts_free(tl_texts *w) {
  for (size_t i = 0; w->text && i < w->n; i++) tl_ids_free(&w->text[i]);
  free(w->text);
  free(w->n_words);
  free(w->words.item);
  tl_ids_free(&w->number);
  tl_ngrams_free(&w->grams);
  *w = (tl_texts){0};
}

tl_status tl_texts_words(tl_texts *w, bool punctuation_apart, tl_err *err) {
  w->words.n = 0;
  for (size_t t = 0; t < w->n; t++) {
    size_t before = w->words.n;
    TL_TRY(split_words(&w->text[t], punctuation_apart, &w->words, err));
    w->n_words[t] = w->words.n - before;
  }
  w->number.len = 0;
  if (!tl_ids_reserve(&w->number, w->words.n)) return check(&w->number, err);
  number_words(&w->words, w->number.data);
  tl_ngrams_reset(&w->grams);
  for (size_t t = 0, i = 0; t < w->n; t++) {
    for (size_t k = 0; k < w->n_words[t]; k++) tl_ids_push(&w->grams.token, w->number.data[i++]);
    TL_TRY(tl_ngrams_end(&w->grams, err));
  }
  return tl_ngrams_first(&w->grams, err);
}
