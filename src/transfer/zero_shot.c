#include "transfer/zero_shot.h"

#include <math.h>
#include <stdlib.h>

#include "base/file.h"
#include "transfer/clip.h"
#include "transfer/embed.h"

/* out[width] = w[width][dim] x, brought to length 1. */
static void project(const float *w, int64_t width, int64_t dim, const float *x, float *out) {
  double square = 0;
  for (int64_t r = 0; r < width; r++) {
    double sum = 0;
    for (int64_t c = 0; c < dim; c++) sum += (double)w[r * dim + c] * (double)x[c];
    out[r] = (float)sum;
    square += sum * sum;
  }
  for (int64_t r = 0; r < width; r++) out[r] = (float)((double)out[r] / sqrt(square + 1e-30));
}

/* --- opening -----------------------------------------------------------------------------------
 */

/* A tensor with `cols` columns (0: one value) as new f32 values; its rows. */
static tl_status read_tensor(const tl_st *st, const char *file, const char *name, int64_t cols,
                             float **out, int64_t *rows, tl_err *err) {
  const tl_st_tensor *t = tl_st_find(st, name);
  bool fits =
      t && (cols ? t->ndim == 2 && t->shape[0] > 0 && t->shape[1] == cols : tl_st_elements(t) == 1);
  if (!fits)
    return tl_fail(err, TL_DATA, "%s: tensor \"%s\" is missing or has not %lld columns", file, name,
                   (long long)cols);
  *rows = t->shape[0];
  *out = malloc((size_t)tl_st_elements(t) * sizeof **out);
  if (!*out) return tl_fail(err, TL_NOMEM, "%s: out of memory", file);
  return tl_st_read_f32(t, *out, err);
}

/* The mean of each name's hidden states [n][dim of the encoder]. */
static tl_status run_names(tl_ctx *ctx, tl_model *m, const tl_tokenizer *tok,
                           const tl_labels *names, float *out, tl_err *err) {
  tl_task_data d = {.kind = TL_TASK_TEXTS, .n = (size_t)names->n, .text = names->name};
  tl_encode_options o = {.max_len = m->c.max_len, .pool = TL_POOL_MEAN};
  tl_task_samples samples;
  tl_embed_graph g;
  TL_TRY(tl_embed_encode(tok, &d, 0, &o, &samples, err));
  int64_t texts = names->n < 256 ? names->n : 256;
  tl_status s = tl_embed_graph_new(ctx, m, TL_F32, texts * m->c.max_len, texts, &g, err);
  if (s == TL_OK) {
    s = tl_embed_run(&g, &samples, TL_POOL_MEAN, false, out, err);
    tl_embed_graph_free(&g);
  }
  tl_task_samples_free(&samples);
  return s;
}

static tl_status embed_names(tl_ctx *ctx, const char *dir, const tl_labels *names, float **out,
                             int64_t *dim, tl_err *err) {
  tl_model *m = NULL;
  tl_tokenizer *tok = NULL;
  TL_TRY(tl_model_load(dir, false, &m, err));
  *dim = m->c.dim;
  *out = malloc((size_t)(names->n * m->c.dim) * sizeof **out);
  tl_status s = *out ? tl_model_tokenizer(dir, &tok, err) : tl_fail(err, TL_NOMEM, "out of memory");
  if (s == TL_OK && tl_tokenizer_vocab_size(tok) > m->c.vocab)
    s = tl_fail(err, TL_CONFIG, "%s: the tokenizer has %d tokens, the model only %lld", dir,
                tl_tokenizer_vocab_size(tok), (long long)m->c.vocab);
  if (s == TL_OK) s = run_names(ctx, m, tok, names, *out, err);
  tl_tokenizer_free(tok);
  tl_model_free(m);
  return s;
}

/* From the file's layers and the names' rows x [n][text_dim]. */
static tl_status read_layers(const char *file, const float *x, int64_t text_dim, tl_zero_shot *z,
                             tl_err *err) {
  tl_st *st = NULL;
  float *textual = NULL, *log_scale = NULL;
  int64_t width = 0, one = 0;
  TL_TRY(tl_st_open(file, &st, err));
  tl_status s = read_tensor(st, file, TL_CLIP_VISUAL, z->dim, &z->visual, &z->width, err);
  if (s == TL_OK) s = read_tensor(st, file, TL_CLIP_TEXTUAL, text_dim, &textual, &width, err);
  if (s == TL_OK) s = read_tensor(st, file, TL_CLIP_SCALE, 0, &log_scale, &one, err);
  if (s == TL_OK && width != z->width)
    s = tl_fail(err, TL_DATA, "%s: the layers of pictures and captions have %lld and %lld rows",
                file, (long long)z->width, (long long)width);
  if (s == TL_OK && !(z->names = malloc((size_t)(z->n * width) * sizeof *z->names)))
    s = tl_fail(err, TL_NOMEM, "out of memory for %d names", z->n);
  if (s == TL_OK) {
    z->scale = fminf(expf(*log_scale), 100);
    for (int32_t i = 0; i < z->n; i++)
      project(textual, width, text_dim, x + i * text_dim, z->names + i * width);
  }
  free(textual);
  free(log_scale);
  tl_st_close(st);
  return s;
}

tl_status tl_zero_shot_open(tl_ctx *ctx, const char *dir, const tl_labels *names, int64_t dim,
                            tl_zero_shot *z, tl_err *err) {
  *z = (tl_zero_shot){.n = names->n, .dim = dim};
  char *text = tl_path_join(dir, TL_CLIP_TEXT), *file = tl_path_join(dir, TL_CLIP_FILE);
  float *x = NULL;
  int64_t text_dim = 0;
  tl_status s = text && file ? TL_OK : tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
  if (s == TL_OK && !tl_file_exists(file))
    s = tl_fail(err, TL_CONFIG,
                "%s: the model knows no names: there is no %s (objective.type=clip makes one)", dir,
                TL_CLIP_FILE);
  if (s == TL_OK) s = embed_names(ctx, text, names, &x, &text_dim, err);
  if (s == TL_OK) s = read_layers(file, x, text_dim, z, err);
  free(x);
  free(text);
  free(file);
  if (s != TL_OK) tl_zero_shot_free(z);
  return s;
}

void tl_zero_shot_free(tl_zero_shot *z) {
  free(z->names);
  free(z->visual);
  *z = (tl_zero_shot){0};
}

/* --- predicting --------------------------------------------------------------------------------
 */

/* Probabilities p[n] of a picture by its unit row; the most likely name. */
static int32_t classify(const tl_zero_shot *z, const float *row, float *p) {
  int32_t best = 0;
  double sum = 0;
  for (int32_t k = 0; k < z->n; k++) {
    double cosine = 0;
    for (int64_t c = 0; c < z->width; c++)
      cosine += (double)row[c] * (double)z->names[k * z->width + c];
    p[k] = z->scale * (float)cosine;
    if (p[k] > p[best]) best = k;
  }
  float most = p[best];
  for (int32_t k = 0; k < z->n; k++) sum += (double)(p[k] = expf(p[k] - most));
  for (int32_t k = 0; k < z->n; k++) p[k] = (float)((double)p[k] / sum);
  return best;
}

tl_status tl_zero_shot_predict(const tl_zero_shot *z, tl_image_graph *g, const tl_image_data *d,
                               const tl_augment *a, tl_predictions *out, tl_err *err) {
  size_t n = d->records.n;
  *out = (tl_predictions){.n = n, .n_outputs = z->n, .loss = NAN};
  float *x = malloc((n * (size_t)z->dim + 1) * sizeof *x);
  float *row = malloc((size_t)z->width * sizeof *row);
  out->output = malloc((n * (size_t)z->n + 1) * sizeof *out->output);
  out->label = malloc((n + 1) * sizeof *out->label);
  tl_status s = x && row && out->output && out->label
                    ? tl_image_graph_features(g, d, NULL, n, a, TL_IMAGE_POOL_OWN, x, err)
                    : tl_fail(err, TL_NOMEM, "predictions: out of memory for %zu pictures", n);
  for (size_t i = 0; s == TL_OK && i < n; i++) {
    project(z->visual, z->width, z->dim, x + i * (size_t)z->dim, row);
    out->label[i] = classify(z, row, out->output + i * (size_t)z->n);
  }
  free(x);
  free(row);
  if (s != TL_OK) tl_predictions_free(out);
  return s;
}
