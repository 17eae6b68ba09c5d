#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "transfer/task.h"

void tl_predictions_free(tl_predictions *p) {
  for (size_t i = 0; p->text && i < p->n; i++) free(p->text[i]);
  free(p->text);
  free(p->output);
  free(p->label);
  free(p->pixels);
  free(p->confusion);
  *p = (tl_predictions){0};
}

/* Logits to probabilities in place; returns the most likely. */
static int32_t finish_row(const tl_task *t, float *x, int n) {
  int best = 0;
  for (int i = 1; i < n; i++)
    if (x[i] > x[best]) best = i;
  if (t->loss == TL_LOSS_CLASS) {
    double max = (double)x[best], sum = 0;
    for (int i = 0; i < n; i++) sum += exp((double)x[i] - max);
    for (int i = 0; i < n; i++) x[i] = (float)(exp((double)x[i] - max) / sum);
  } else if (t->loss == TL_LOSS_MULTI) {
    for (int i = 0; i < n; i++) x[i] = (float)(1 / (1 + exp(-(double)x[i])));
  }
  return best;
}

static tl_status alloc(const tl_task_graph *p, const tl_task_samples *s, tl_predictions *out,
                       tl_err *err) {
  out->n = (size_t)s->target[s->n];
  out->n_outputs = p->model->task.n_outputs;
  out->output = malloc((out->n * (size_t)out->n_outputs + 1) * sizeof *out->output);
  out->label = malloc((out->n + 1) * sizeof *out->label);
  if (out->output && out->label) return TL_OK;
  tl_predictions_free(out);
  return tl_fail(err, TL_NOMEM, "predictions: out of memory for %zu rows", (size_t)s->target[s->n]);
}

tl_status tl_task_predict(tl_task_graph *p, const tl_task_samples *s, const tl_task_data *d,
                          tl_predictions *out, tl_err *err) {
  bool labels = p->task->head != TL_HEAD_NONE;
  double loss = 0, count = 0;
  *out = (tl_predictions){.loss = NAN};
  if (s->n > 0 && labels) TL_TRY(alloc(p, s, out, err));
  for (int64_t i = 0, at = 0; i < s->n;) {
    int64_t first = i;
    tl_task_graph_clear(p);
    while (i < s->n && tl_task_graph_add(p, s, d, i)) i++;
    if (i == first) {
      tl_predictions_free(out);
      return tl_fail(err, TL_INTERNAL, "sample %lld does not fit the graph", (long long)i);
    }
    const float *l = tl_task_graph_run(p, &(tl_pass){.loss_scale = 1});
    loss += (double)l[TL_LOSS_SUM];
    count += (double)l[TL_LOSS_COUNT];
    for (int64_t k = 0; labels && k < p->n_targets; k++) {
      float *row = out->output + (at + k) * out->n_outputs;
      if (k == 0) tl_task_graph_logits(p, row);
      out->label[at + k] = finish_row(p->task, row, out->n_outputs);
    }
    at += p->n_targets;
    if (tl_ctx_cancelled(p->g->ctx)) {
      tl_predictions_free(out);
      return tl_fail(err, TL_PREEMPTED, "stopped by request");
    }
  }
  if (d && count > 0) out->loss = loss / count;
  return TL_OK;
}
