#include "models/task_head.h"

/* MOST: how often a row is spread out in each direction at most; WIDTH: columns of a spread row. */
enum { MASK_MOST = 8, MASK_WIDTH = 32 };

/* Rows a side that the body gives for a picture. */
static int64_t body_side(const tl_model *m) {
  int64_t rows = m->c.max_len - (m->class_token != NULL), side = 1;
  while ((side + 1) * (side + 1) <= rows) side++;
  return side;
}

/* The largest factor up to MASK_MOST that leaves whole pixels to each row. */
static int64_t spread(const tl_model *m) {
  int64_t pixels = m->c.image_size / body_side(m), s = pixels < MASK_MOST ? pixels : MASK_MOST;
  while (s > 1 && pixels % s) s--;
  return s < 1 ? 1 : s;
}

int64_t tl_mask_rows(const tl_model *m) {
  return body_side(m) * body_side(m);
}

int64_t tl_mask_side(const tl_model *m) {
  return body_side(m) * spread(m);
}

void tl_mask_head_declare(tl_model *m, tl_declare *d) {
  tl_task_head *h = &m->task;
  int64_t s = spread(m), width = m->c.dim;
  if (s > 1) {
    width = MASK_WIDTH;
    h->pool_w = tl_declare_matrix(d, "decode_head.expand.weight", s * s * width, m->c.dim,
                                  (float)m->c.init_std, true);
    h->pool_b = tl_declare_vector(d, "decode_head.expand.bias", s * s * width, 0);
  }
  h->w = tl_declare_matrix(d, "decode_head.classifier.weight", h->n_outputs, width,
                           (float)m->c.init_std, false);
  h->b = tl_declare_vector(d, "decode_head.classifier.bias", h->n_outputs, 0);
}

tl_node *tl_mask_head(const tl_model *m, tl_graph *g, tl_node *h, tl_node *rows) {
  const tl_task_head *head = &m->task;
  tl_graph_scope(g, "decode");
  if (m->class_token) h = tl_gather_rows(g, h, rows);
  if (head->pool_w) {
    tl_linear_spec expand = tl_spec1(head->pool_w, head->pool_b, false);
    expand.act = TL_ACT_GELU;
    h = tl_linear(g, h, &expand);
    h = tl_pixel_shuffle(g, h, body_side(m), spread(m));
  }
  h = tl_dropout_node(g, h, (float)head->dropout);
  return tl_linear1(g, h, head->w, head->b);
}
