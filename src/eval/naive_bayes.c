#include "eval/naive_bayes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* The vocabulary is a hash table of 64-bit word hashes: two words sharing one would share a count,
 * which at these sizes has a chance below one in a billion and would do no harm. */
struct tl_naive_bayes {
  int n_classes;
  double alpha;
  uint64_t *words; /* [cap] hash, 0: empty; linear probing */
  uint32_t *ids;   /* [cap] index of the word */
  size_t cap, n_words;
  float *log_p;  /* [n_words][n_classes] log P(word | class) */
  double *prior; /* [n_classes] log P(class); -INFINITY for a class without a text */
};

/* Hash of the next word of text[*at, len), or 0 at the end. */
static uint64_t next_word(const char *text, size_t len, size_t *at) {
  char word[256];
  size_t n = 0, i = *at;
  for (; i < len; i++) {
    unsigned char c = (unsigned char)text[i];
    bool upper = c >= 'A' && c <= 'Z';
    bool in_word = upper || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c >= 0x80;
    if (in_word && n < sizeof word)
      word[n++] = (char)(upper ? c + 32 : c);
    else if (!in_word && n)
      break;
  }
  *at = i;
  if (!n) return 0;
  uint64_t h = XXH3_64bits(word, n);
  return h ? h : 1;
}

static size_t find(const tl_naive_bayes *nb, uint64_t hash) {
  size_t i = hash & (nb->cap - 1);
  while (nb->words[i] && nb->words[i] != hash) i = (i + 1) & (nb->cap - 1);
  return i;
}

static bool grow(tl_naive_bayes *nb) {
  tl_naive_bayes bigger = {.cap = nb->cap ? 2 * nb->cap : 4096};
  bigger.words = calloc(bigger.cap, sizeof *bigger.words);
  bigger.ids = calloc(bigger.cap, sizeof *bigger.ids);
  if (!bigger.words || !bigger.ids) {
    free(bigger.words);
    free(bigger.ids);
    return false;
  }
  for (size_t i = 0; i < nb->cap; i++) {
    if (!nb->words[i]) continue;
    size_t j = find(&bigger, nb->words[i]);
    bigger.words[j] = nb->words[i];
    bigger.ids[j] = nb->ids[i];
  }
  free(nb->words);
  free(nb->ids);
  nb->words = bigger.words;
  nb->ids = bigger.ids;
  nb->cap = bigger.cap;
  return true;
}

static bool collect_words(tl_naive_bayes *nb, const tl_nb_text *texts, size_t n) {
  for (size_t t = 0; t < n; t++) {
    size_t at = 0;
    for (uint64_t w; (w = next_word(texts[t].text, texts[t].len, &at)) != 0;) {
      if (2 * (nb->n_words + 1) > nb->cap && !grow(nb)) return false;
      size_t i = find(nb, w);
      if (nb->words[i]) continue;
      if (nb->n_words == UINT32_MAX) return false;
      nb->words[i] = w;
      nb->ids[i] = (uint32_t)nb->n_words++;
    }
  }
  return nb->cap > 0 || grow(nb);
}

static bool count(tl_naive_bayes *nb, const tl_nb_text *texts, size_t n) {
  size_t classes = (size_t)nb->n_classes;
  nb->log_p = calloc(nb->n_words * classes + 1, sizeof *nb->log_p);
  nb->prior = calloc(classes, sizeof *nb->prior);
  double *total = calloc(classes, sizeof *total);
  if (!nb->log_p || !nb->prior || !total) {
    free(total);
    return false;
  }
  for (size_t t = 0; t < n; t++) {
    size_t at = 0, c = (size_t)texts[t].label;
    nb->prior[c]++;
    for (uint64_t w; (w = next_word(texts[t].text, texts[t].len, &at)) != 0; total[c]++)
      nb->log_p[nb->ids[find(nb, w)] * classes + c]++;
  }
  for (size_t c = 0; c < classes; c++) {
    nb->prior[c] = nb->prior[c] > 0 ? log(nb->prior[c] / (double)n) : -INFINITY;
    double norm = log(total[c] + nb->alpha * (double)nb->n_words);
    for (size_t w = 0; w < nb->n_words; w++) {
      float *p = &nb->log_p[w * classes + c];
      *p = (float)(log(*p + nb->alpha) - norm);
    }
  }
  free(total);
  return true;
}

static tl_status train_with(const tl_nb_text *texts, size_t n, int n_classes, double alpha,
                            tl_naive_bayes **out, tl_err *err) {
  tl_naive_bayes *nb = calloc(1, sizeof *nb);
  if (!nb) return tl_fail(err, TL_NOMEM, "out of memory");
  nb->n_classes = n_classes;
  nb->alpha = alpha;
  if (!collect_words(nb, texts, n) || !count(nb, texts, n)) {
    tl_naive_bayes_free(nb);
    return tl_fail(err, TL_NOMEM, "naive Bayes: out of memory for the counts of %zu texts", n);
  }
  *out = nb;
  return TL_OK;
}

enum { FOLDS = 5 };

/* Texts of `fold` go to the end of `sorted`, the others before them; returns how many those are. */
static size_t split_fold(const tl_nb_text *texts, size_t n, size_t fold, tl_nb_text *sorted) {
  size_t n_train = 0, n_held = 0;
  for (size_t i = 0; i < n; i++) {
    if (i % FOLDS == fold)
      sorted[n - ++n_held] = texts[i];
    else
      sorted[n_train++] = texts[i];
  }
  return n_train;
}

static tl_status choose_alpha(const tl_nb_text *texts, size_t n, int n_classes, double *alpha,
                              tl_err *err) {
  static const double candidates[] = {1, 0.5, 0.2, 0.1, 0.05};
  *alpha = 1;
  if (n < FOLDS) return TL_OK;
  tl_nb_text *sorted = malloc(n * sizeof *sorted);
  if (!sorted) return tl_fail(err, TL_NOMEM, "out of memory");
  tl_status s = TL_OK;
  double best = -1;
  for (size_t a = 0; s == TL_OK && a < sizeof candidates / sizeof *candidates; a++) {
    double right = 0;
    for (size_t fold = 0; s == TL_OK && fold < FOLDS; fold++) {
      size_t n_train = split_fold(texts, n, fold, sorted);
      tl_naive_bayes *nb = NULL;
      s = train_with(sorted, n_train, n_classes, candidates[a], &nb, err);
      if (s != TL_OK) break;
      right += tl_naive_bayes_accuracy(nb, sorted + n_train, n - n_train) * (double)(n - n_train);
      tl_naive_bayes_free(nb);
    }
    if (right > best) {
      best = right;
      *alpha = candidates[a];
    }
  }
  free(sorted);
  return s;
}

tl_status tl_naive_bayes_train(const tl_nb_text *texts, size_t n, int n_classes, double alpha,
                               tl_naive_bayes **out, tl_err *err) {
  if (n == 0) return tl_fail(err, TL_DATA, "naive Bayes: no labelled texts to train on");
  for (size_t t = 0; t < n; t++)
    if (texts[t].label < 0 || texts[t].label >= n_classes)
      return tl_fail(err, TL_DATA, "naive Bayes: text %zu has label %d; expected 0 to %d", t,
                     texts[t].label, n_classes - 1);
  if (!(alpha >= 0)) return tl_fail(err, TL_CONFIG, "naive Bayes: alpha must not be negative");
  if (alpha == 0) TL_TRY(choose_alpha(texts, n, n_classes, &alpha, err));
  return train_with(texts, n, n_classes, alpha, out, err);
}

double tl_naive_bayes_alpha(const tl_naive_bayes *nb) {
  return nb->alpha;
}

void tl_naive_bayes_free(tl_naive_bayes *nb) {
  if (!nb) return;
  free(nb->words);
  free(nb->ids);
  free(nb->log_p);
  free(nb->prior);
  free(nb);
}

int tl_naive_bayes_predict(const tl_naive_bayes *nb, const char *text, size_t len) {
  size_t classes = (size_t)nb->n_classes;
  int best = 0;
  double best_score = -INFINITY;
  for (size_t c = 0; c < classes; c++) {
    if (isinf(nb->prior[c])) continue;
    double score = nb->prior[c];
    size_t at = 0;
    for (uint64_t w; (w = next_word(text, len, &at)) != 0;) {
      size_t i = find(nb, w);
      if (nb->words[i]) score += (double)nb->log_p[nb->ids[i] * classes + c];
    }
    if (score > best_score) {
      best_score = score;
      best = (int)c;
    }
  }
  return best;
}

double tl_naive_bayes_accuracy(const tl_naive_bayes *nb, const tl_nb_text *texts, size_t n) {
  size_t right = 0;
  for (size_t t = 0; t < n; t++)
    right += tl_naive_bayes_predict(nb, texts[t].text, texts[t].len) == texts[t].label;
  return n ? (double)right / (double)n : 0;
}
