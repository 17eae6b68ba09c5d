#include <stdlib.h>

#include "ops/parallel.h"
#include "transfer/clip.h"

static const int64_t depth[] = {1, 5, 10};

typedef struct job {
  const float *pictures, *texts;
  const int32_t *text;   /* [n] */
  const int64_t *writer; /* [n_texts] the first pair with the caption; -1: none has it */
  int64_t n, n_texts, d;
  int64_t *missed; /* [n] captions before a picture's own, or [n_texts] pictures before a caption's;
                      -1: nothing was asked */
} job;

static float cosine(const job *j, int64_t picture, int64_t pair) {
  const float *a = j->pictures + picture * j->d, *b = j->texts + pair * j->d;
  float sum = 0;
  for (int64_t i = 0; i < j->d; i++) sum += a[i] * b[i];
  return sum;
}

static void for_pictures(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  for (int64_t i = begin; i < end; i++) {
    float own = cosine(j, i, j->writer[j->text[i]]);
    int64_t missed = 0;
    for (int64_t t = 0; t < j->n_texts; t++)
      if (t != j->text[i] && j->writer[t] >= 0 && !(cosine(j, i, j->writer[t]) < own)) missed++;
    j->missed[i] = missed;
  }
}

static void for_texts(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const job *j = arg;
  for (int64_t t = begin; t < end; t++) {
    float own = -2;
    j->missed[t] = -1;
    if (j->writer[t] < 0) continue;
    for (int64_t i = 0; i < j->n; i++) {
      float c = j->text[i] == t ? cosine(j, i, j->writer[t]) : -2;
      if (c > own) own = c;
    }
    int64_t missed = 0;
    for (int64_t i = 0; i < j->n; i++)
      if (j->text[i] != t && !(cosine(j, i, j->writer[t]) < own)) missed++;
    j->missed[t] = missed;
  }
}

static void recall(const int64_t *missed, int64_t n, double *out) {
  int64_t asked = 0, found[3] = {0};
  for (int64_t i = 0; i < n; i++) {
    asked += missed[i] >= 0;
    for (int k = 0; k < 3; k++) found[k] += missed[i] >= 0 && missed[i] < depth[k];
  }
  for (int k = 0; k < 3; k++) out[k] = (double)found[k] / (double)asked;
}

tl_status tl_retrieve(tl_ctx *ctx, const float *pictures, const float *texts, const int32_t *text,
                      int64_t n, int64_t n_texts, int64_t d, tl_retrieval *out, tl_err *err) {
  enum { GRAIN = 8 };
  size_t most = (size_t)(n > n_texts ? n : n_texts) + 1;
  int64_t *writer = malloc(most * sizeof *writer), *missed = malloc(most * sizeof *missed);
  tl_status s =
      writer && missed ? TL_OK : tl_fail(err, TL_NOMEM, "out of memory for %zu captions", most);
  if (s == TL_OK) {
    for (int64_t t = 0; t < n_texts; t++) writer[t] = -1;
    for (int64_t i = n - 1; i >= 0; i--) writer[text[i]] = i;
    job j = {pictures, texts, text, writer, n, n_texts, d, missed};
    tl_parallel_ranges(ctx, n, GRAIN, for_pictures, &j);
    recall(missed, n, out->recall);
    tl_parallel_ranges(ctx, n_texts, GRAIN, for_texts, &j);
    recall(missed, n_texts, out->recall + 3);
  }
  free(writer);
  free(missed);
  return s;
}
