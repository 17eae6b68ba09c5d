#include "ops/windows.h"

#include <string.h>

#include "core/graph.h"
#include "ops/parallel.h"

/* Elements [begin, end) of line i of a window: kernel_w pixels side by side, the first at (y, x).
 */
static void copy_line(const tl_windows *w, int64_t picture, int64_t y, int64_t x, int64_t begin,
                      int64_t end, char *dst) {
  int64_t c = w->channels, lo = begin, hi = end, size = (int64_t)tl_dtype_size(w->dt);
  if (-x * c > lo) lo = -x * c;
  if ((w->width - x) * c < hi) hi = (w->width - x) * c;
  if (y < 0 || y >= w->height || lo >= hi) {
    memset(dst, 0, (size_t)((end - begin) * size));
    return;
  }
  const char *src = tl_at(w->dt, w->pixels, ((picture * w->height + y) * w->width + x) * c + lo);
  if (lo > begin) memset(dst, 0, (size_t)((lo - begin) * size));
  memcpy(dst + (lo - begin) * size, src, (size_t)((hi - lo) * size));
  if (end > hi) memset(dst + (hi - begin) * size, 0, (size_t)((end - hi) * size));
}

/* A part of one line of `n` windows side by side in a picture. */
typedef struct part {
  int64_t picture, y, x, n; /* the first window's first pixel of the line */
  int64_t begin, end;       /* elements of the line */
} part;

/* The windows whose part lies inside the picture are copied as rows of one length. */
static void copy_part(const tl_windows *w, const part *p, char *dst, int64_t ld) {
  int64_t c = w->channels, s = w->stride, size = (int64_t)tl_dtype_size(w->dt);
  int64_t first = p->x + p->begin / c, last = p->x + (p->end - 1) / c, lo = 0, hi = 0;
  if (p->y >= 0 && p->y < w->height) {
    lo = first < 0 ? (s - 1 - first) / s : 0;
    hi = last < w->width ? (w->width - 1 - last) / s + 1 : 0;
    if (hi > p->n) hi = p->n;
  }
  if (lo < hi) {
    int64_t at = ((p->picture * w->height + p->y) * w->width + p->x + lo * s) * c + p->begin;
    w->k->copy(hi - lo, (p->end - p->begin) * size, tl_at(w->dt, w->pixels, at), s * c * size,
               dst + lo * ld, ld);
  } else {
    lo = hi = 0;
  }
  for (int64_t r = 0; r < p->n; r++) {
    if (r == lo) r = hi;
    if (r < p->n) copy_line(w, p->picture, p->y, p->x + r * s, p->begin, p->end, dst + r * ld);
  }
}

void tl_windows_copy(const void *from, int64_t row0, int64_t rows, int64_t col0, int64_t cols,
                     void *dst, int64_t ld) {
  const tl_windows *w = from;
  int64_t line = w->kernel_w * w->channels, size = (int64_t)tl_dtype_size(w->dt);
  int64_t x = row0 % w->out_w, y = row0 / w->out_w % w->out_h, n = row0 / w->out_w / w->out_h;
  for (int64_t r = 0; r < rows;) {
    part p = {.picture = n, .x = x * w->stride - w->left, .n = w->out_w - x};
    if (p.n > rows - r) p.n = rows - r;
    char *to = (char *)dst + r * ld * size;
    for (int64_t at = col0; at < col0 + cols;) {
      int64_t i = at / line, end = (i + 1) * line;
      if (end > col0 + cols) end = col0 + cols;
      p.y = y * w->stride - w->top + i;
      p.begin = at - i * line;
      p.end = end - i * line;
      copy_part(w, &p, to, ld * size);
      to += (end - at) * size;
      at = end;
    }
    r += p.n;
    x = 0;
    if (++y < w->out_h) continue;
    y = 0;
    n++;
  }
}

int tl_picture_dim(tl_graph *g, const tl_node *x, int64_t rows, int64_t times, tl_err *err) {
  if (x->shape[0] % rows) {
    tl_fail(err, TL_INTERNAL, "%s has %lld rows; expected a multiple of %lld", x->name,
            (long long)x->shape[0], (long long)rows);
    return -1;
  }
  if (!x->dim) return 0;
  if (!g->dim_of[x->dim] || g->dim_times[x->dim] != rows) {
    tl_fail(err, TL_INTERNAL, "%s must have %lld rows for each picture", x->name, (long long)rows);
    return -1;
  }
  return tl_graph_dim_times(g, g->dim_of[x->dim], times);
}
