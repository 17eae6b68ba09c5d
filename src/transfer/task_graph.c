#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/parallel.h"
#include "transfer/task.h"

static tl_node *loss_node(tl_task_graph *p) {
  const tl_task_head *head = &p->model->task;
  tl_graph *g = p->g;
  int64_t n = p->max_targets, outputs = head->n_outputs;
  if (p->task->loss == TL_LOSS_CLASS || p->task->loss == TL_LOSS_TOKEN) {
    bool lm = p->task->loss == TL_LOSS_TOKEN;
    p->targets = tl_graph_input(g, "targets", TL_I32, 1, &n, p->dim_targets);
    return tl_cross_entropy(
        g, p->features, p->targets,
        &(tl_xent_spec){.w = lm ? p->model->out_w : head->w, .b = lm ? p->model->out_b : head->b});
  }
  int64_t shape[] = {n, outputs};
  p->targets = tl_graph_input(g, "targets", TL_F32, 2, shape, p->dim_targets);
  tl_node *logits = tl_linear1(g, p->features, head->w, head->b);
  return p->task->loss == TL_LOSS_VALUE ? tl_squared_error(g, logits, p->targets)
                                        : tl_sigmoid_cross_entropy(g, logits, p->targets);
}

tl_status tl_task_graph_new(tl_ctx *ctx, const tl_task *t, tl_model *m, tl_dtype dt,
                            int64_t max_tokens, int64_t max_texts, int64_t max_targets,
                            bool training, tl_task_graph *p, tl_err *err) {
  tl_graph *g = tl_graph_new(ctx, &m->params, &(tl_graph_options){dt, training});
  *p = (tl_task_graph){.task = t, .model = m, .g = g};
  if (!g) return tl_fail(err, TL_NOMEM, "graph: out of memory");
  bool sequences = t->head == TL_HEAD_SEQUENCE;
  p->max_tokens = max_tokens;
  p->max_texts = max_texts;
  p->max_targets = sequences ? max_texts : max_targets;
  p->dim_tokens = tl_graph_dim(g, max_tokens);
  p->dim_texts = tl_graph_dim(g, max_texts);
  p->dim_targets = sequences ? p->dim_texts : tl_graph_dim(g, max_targets);
  p->io = tl_model_inputs(m, g, p->dim_tokens, max_tokens, p->dim_texts, max_texts);
  p->rows = tl_graph_input(g, "rows", TL_I32, 1, &p->max_targets, p->dim_targets);
  tl_node *h = m->arch->body(m, g, &p->io);
  if (t->head == TL_HEAD_NONE)
    p->features = tl_model_head(m, g, tl_gather_rows(g, h, p->rows));
  else
    p->features = tl_task_head_features(m, g, h, p->rows, p->io.segments);
  tl_graph_scope(g, "loss");
  p->loss = loss_node(p);
  tl_status s = tl_graph_compile(g, p->loss, &p->features, 1, err);
  if (s != TL_OK) tl_task_graph_free(p);
  return s;
}

void tl_task_graph_free(tl_task_graph *p) {
  tl_graph_free(p->g);
  *p = (tl_task_graph){0};
}

void tl_task_graph_clear(tl_task_graph *p) {
  p->n_tokens = p->n_texts = p->n_targets = 0;
}

static void set_values(tl_task_graph *p, const tl_task_data *d, size_t record) {
  int64_t outputs = p->model->task.n_outputs;
  float *t = (float *)p->targets->data + p->n_targets * outputs;
  memset(t, 0, (size_t)outputs * sizeof *t);
  if (!d) return;
  if (p->task->loss == TL_LOSS_VALUE) t[0] = (float)d->value[record];
  if (p->task->loss == TL_LOSS_MULTI)
    for (size_t i = d->first[record]; i < d->first[record + 1]; i++) t[d->item[i]] = 1;
}

bool tl_task_graph_add(tl_task_graph *p, const tl_task_samples *s, const tl_task_data *d,
                       int64_t i) {
  int64_t n = s->start[i + 1] - s->start[i], targets = s->target[i + 1] - s->target[i];
  if (p->n_texts == p->max_texts || p->n_tokens + n > p->max_tokens ||
      p->n_targets + targets > p->max_targets)
    return false;
  int32_t at = (int32_t)p->n_tokens, end = at + (int32_t)n;
  memcpy((int32_t *)p->io.tokens->data + at, s->token + s->start[i], (size_t)n * sizeof(int32_t));
  for (int32_t r = 0; r < (int32_t)n; r++) {
    if (p->io.pos->live) ((int32_t *)p->io.pos->data)[at + r] = r;
    if (p->io.types) ((int32_t *)p->io.types->data)[at + r] = r >= s->second[i];
  }
  bool causal = !p->model->arch->encoder && !p->model->c.shifted;
  ((tl_segment *)p->io.segments->data)[p->n_texts++] = (tl_segment){at, end, at, end, causal};
  bool values = p->task->loss == TL_LOSS_VALUE || p->task->loss == TL_LOSS_MULTI;
  for (int64_t k = s->target[i]; k < s->target[i + 1]; k++) {
    if (p->rows->live) ((int32_t *)p->rows->data)[p->n_targets] = at + s->row[k];
    if (values)
      set_values(p, d, (size_t)s->record[i]);
    else
      ((int32_t *)p->targets->data)[p->n_targets] = d ? s->label[k] : -1;
    p->n_targets++;
  }
  p->n_tokens += n;
  return true;
}

const float *tl_task_graph_run(tl_task_graph *p, const tl_pass *pass) {
  tl_graph_set_dim(p->g, p->dim_tokens, p->n_tokens);
  tl_graph_set_dim(p->g, p->dim_texts, p->n_texts);
  if (p->dim_targets != p->dim_texts) tl_graph_set_dim(p->g, p->dim_targets, p->n_targets);
  tl_graph_run(p->g, pass);
  return p->loss->data;
}

typedef struct logits_job {
  const tl_task_graph *p;
  float *out;
} logits_job;

static void logits_rows(void *arg, int64_t begin, int64_t end, int worker) {
  (void)worker;
  const logits_job *j = arg;
  const tl_task_head *head = &j->p->model->task;
  int64_t d = tl_cols(j->p->features), outputs = head->n_outputs;
  for (int64_t r = begin; r < end; r++)
    for (int64_t o = 0; o < outputs; o++) {
      double sum = head->b ? (double)head->b->data[o] : 0;
      for (int64_t c = 0; c < d; c++)
        sum += (double)tl_value(j->p->features, r * d + c) * (double)head->w->data[o * d + c];
      j->out[r * outputs + o] = (float)sum;
    }
}

void tl_task_graph_logits(const tl_task_graph *p, float *logits) {
  tl_parallel_ranges(p->g->ctx, p->n_targets, 16, logits_rows, &(logits_job){p, logits});
}
