#include "objectives/views.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* --- projectors --------------------------------------------------------------------------------
 */

tl_projector tl_declare_projector(tl_declare *d, const char *name, int layers, int64_t in,
                                  int64_t hidden, int64_t out) {
  tl_projector p = {.n = layers};
  for (int i = 0; i < layers; i++) {
    bool last = i == layers - 1;
    int64_t from = i == 0 ? in : hidden, to = last ? out : hidden;
    tl_declare_prefix(d, "%s.%d.", name, i);
    p.w[i] = tl_declare_matrix(d, "weight", to, from, (float)(1 / sqrt((double)from)), false);
    if (!last) p.gain[i] = tl_declare_vector(d, "gain", to, 1);
    p.bias[i] = tl_declare_vector(d, "bias", to, 0);
  }
  return p;
}

tl_node *tl_nn_projector(tl_graph *g, tl_node *x, const tl_projector *p) {
  for (int i = 0; i < p->n - 1; i++) {
    tl_batch_norm_spec norm = {.gain = p->gain[i], .bias = p->bias[i], .eps = 1e-5f, .relu = true};
    x = tl_batch_norm(g, tl_linear1(g, x, p->w[i], NULL), &norm);
  }
  return tl_linear1(g, x, p->w[p->n - 1], p->bias[p->n - 1]);
}

/* --- constants ---------------------------------------------------------------------------------
 */

/* A constant [rows, cols] of the graph's type with the values of a function. */
static tl_node *table(tl_graph *g, const char *name, int64_t rows, int64_t cols,
                      float (*value)(int64_t n, int64_t r, int64_t c), int64_t n) {
  const int64_t shape[] = {rows, cols};
  size_t size = tl_dtype_size(g->opt.dt), count = (size_t)(rows * cols);
  void *v = malloc(count * size + 1);
  if (!v) {
    tl_graph_fail(g, TL_NOMEM, "%s: out of memory", name);
    return &g->stand_in;
  }
  for (int64_t i = 0; i < rows * cols; i++) {
    float x = value(n, i / cols, i % cols);
    if (g->opt.dt == TL_BF16)
      ((tl_bf16 *)v)[i] = tl_f32_to_bf16(x);
    else
      ((float *)v)[i] = x;
  }
  tl_node *node = tl_graph_constant(g, name, g->opt.dt, 2, shape, v);
  free(v);
  return node;
}

/* Logits that no softmax sees; finite in every type. */
static const float never = -1e4f;

static float itself(int64_t n, int64_t r, int64_t c) {
  (void)n;
  return r == c ? never : 0;
}

static float same_view(int64_t n, int64_t r, int64_t c) {
  return (r < n) == (c < n) ? never : 0;
}

static float first_view(int64_t n, int64_t r, int64_t c) {
  (void)n;
  return r == c;
}

static float second_view(int64_t n, int64_t r, int64_t c) {
  return r == c + n;
}

/* i32 [2n]: the other view of each row. */
static tl_node *partners(tl_graph *g, int64_t rows) {
  int32_t *v = malloc((size_t)rows * sizeof *v + 1);
  if (!v) {
    tl_graph_fail(g, TL_NOMEM, "partners: out of memory");
    return &g->stand_in;
  }
  for (int64_t i = 0; i < rows; i++) v[i] = (int32_t)((i + rows / 2) % rows);
  tl_node *node = tl_graph_constant(g, "partners", TL_I32, 1, &rows, v);
  free(v);
  return node;
}

static bool are_views(tl_graph *g, const tl_node *z) {
  if (g->err.code == TL_OK && (z->ndim != 2 || z->dim || z->shape[0] % 2))
    tl_graph_fail(g, TL_INTERNAL, "%s must be [2n, D]", z->name);
  return g->err.code == TL_OK;
}

/* --- losses ------------------------------------------------------------------------------------
 */

tl_node *tl_unit_rows(tl_graph *g, tl_node *x) {
  static const float eps = 1e-10f; /* far below any row's mean square */
  return tl_scale(g, tl_rms_norm(g, x, NULL, eps), (float)(1 / sqrt((double)tl_cols(x))));
}

static tl_node *nearest(tl_graph *g, tl_node *q, tl_node *k, double temperature, tl_node *mask) {
  tl_node *similar = tl_matmul(g, q, k, false, true, (float)(1 / temperature));
  return tl_softmax_loss(g, tl_add(g, similar, mask), partners(g, q->shape[0]));
}

tl_node *tl_nt_xent(tl_graph *g, tl_node *z, double temperature) {
  if (!are_views(g, z)) return &g->stand_in;
  int64_t rows = z->shape[0];
  return nearest(g, z, z, temperature, table(g, "itself", rows, rows, itself, rows / 2));
}

tl_node *tl_teacher_xent(tl_graph *g, tl_node *q, tl_node *teacher, double temperature) {
  if (!are_views(g, q)) return &g->stand_in;
  int64_t rows = q->shape[0];
  return nearest(g, q, teacher, temperature,
                 table(g, "same view", rows, rows, same_view, rows / 2));
}

tl_node *tl_teacher_distance(tl_graph *g, tl_node *q, tl_node *teacher) {
  if (!are_views(g, q)) return &g->stand_in;
  return tl_squared_error(g, q, tl_gather_rows(g, teacher, partners(g, q->shape[0])));
}

/* Columns become rows by a product with ones and zeros, which takes a view's rows and is exact; so
 * the norm of rows is that of columns. */
tl_node *tl_barlow_twins(tl_graph *g, tl_node *z, double off, double scale) {
  if (!are_views(g, z)) return &g->stand_in;
  int64_t rows = z->shape[0], n = rows / 2;
  tl_node *column[2];
  for (int i = 0; i < 2; i++) {
    tl_node *pick = table(g, "view", rows, n, i ? second_view : first_view, n);
    column[i] = tl_layer_norm(g, tl_matmul(g, z, pick, true, false, 1), NULL, NULL, 1e-5f);
  }
  tl_node *c = tl_matmul(g, column[0], column[1], false, true, (float)(1 / (double)n));
  return tl_barlow_loss(g, c, (float)off, (float)scale);
}

static tl_node *in_place(tl_graph *g, tl_node *x, float (*place)(int64_t n, int64_t r, int64_t c)) {
  int64_t n = x->shape[0];
  return tl_matmul(g, table(g, "place", 2 * n, n, place, n), x, false, false, 1);
}

tl_node *tl_clip_loss(tl_graph *g, tl_node *pictures, tl_node *texts, tl_param *log_scale,
                      tl_node *mask, tl_node **rows) {
  static const float most = 4.6051702f; /* ln 100 */
  if (g->err.code != TL_OK) return &g->stand_in;
  tl_node *z = *rows =
      tl_add(g, in_place(g, pictures, first_view), in_place(g, texts, second_view));
  tl_node *similar = tl_scale_exp(g, tl_matmul(g, z, z, false, true, 1), log_scale, most);
  return tl_softmax_loss(g, tl_add(g, similar, mask), partners(g, 2 * pictures->shape[0]));
}

void tl_clip_mask(tl_node *mask, const int32_t *text) {
  int64_t n = mask->shape[0] / 2;
  for (int64_t r = 0; r < 2 * n; r++)
    for (int64_t c = 0; c < 2 * n; c++) {
      bool own = (r < n) == (c < n), partner = (r + n) % (2 * n) == c;
      float v = own || (!partner && text[r % n] == text[c % n]) ? never : 0;
      if (mask->dt == TL_BF16)
        ((tl_bf16 *)mask->data)[r * 2 * n + c] = tl_f32_to_bf16(v);
      else
        ((float *)mask->data)[r * 2 * n + c] = v;
    }
}
