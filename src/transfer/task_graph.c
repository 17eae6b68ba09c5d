#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/parallel.h"
#include "transfer/task.h"

static tl_node *loss_node(tl_task_graph *p, double smoothing) {
  const tl_task_head *head = &p->model->task;
  tl_graph *g = p->g;
  int64_t n = p->room.targets, outputs = head->n_outputs;
  if (p->task->loss == TL_LOSS_CLASS || p->task->loss == TL_LOSS_TOKEN) {
    bool lm = p->task->loss == TL_LOSS_TOKEN;
    p->targets = tl_graph_input(g, "targets", TL_I32, 1, &n, p->dim_targets);
    return tl_cross_entropy(g, p->features, p->targets,
                            &(tl_xent_spec){.w = lm ? p->model->out_w : head->w,
                                            .b = lm ? p->model->out_b : head->b,
                                            .smoothing = (float)smoothing});
  }
  int64_t shape[] = {n, outputs};
  p->targets = tl_graph_input(g, "targets", TL_F32, 2, shape, p->dim_targets);
  tl_node *logits = tl_linear1(g, p->features, head->w, head->b);
  return p->task->loss == TL_LOSS_VALUE ? tl_squared_error(g, logits, p->targets)
                                        : tl_sigmoid_cross_entropy(g, logits, p->targets);
}

static void make_inputs(tl_task_graph *p) {
  tl_task_room *r = &p->room;
  tl_graph *g = p->g;
  bool sequences = p->task->head == TL_HEAD_SEQUENCE;
  if (sequences) r->targets = r->texts;
  if (p->task->seq2seq) r->targets = r->tokens;
  p->dim_tokens = tl_graph_dim(g, r->tokens);
  p->dim_texts = tl_graph_dim(g, r->texts);
  p->dim_targets = sequences          ? p->dim_texts
                   : p->task->seq2seq ? p->dim_tokens
                                      : tl_graph_dim(g, r->targets);
  p->io = tl_model_inputs(p->model, g, p->dim_tokens, r->tokens, p->dim_texts, r->texts);
  if (p->task->seq2seq) {
    p->dim_source = tl_graph_dim(g, r->source);
    tl_model_source(g, &p->io, p->dim_source, r->source, p->dim_texts, r->texts);
  } else {
    p->rows = tl_graph_input(g, "rows", TL_I32, 1, &r->targets, p->dim_targets);
  }
}

tl_status tl_task_graph_new(tl_ctx *ctx, const tl_task *t, tl_model *m,
                            const tl_task_graph_options *o, tl_task_graph *p, tl_err *err) {
  tl_graph *g = tl_graph_new(ctx, &m->params, &(tl_graph_options){o->dt, o->training});
  *p = (tl_task_graph){.task = t, .model = m, .g = g, .room = o->room};
  if (!g) return tl_fail(err, TL_NOMEM, "graph: out of memory");
  make_inputs(p);
  tl_node *h = m->arch->body(m, g, &p->io);
  if (t->head == TL_HEAD_NONE)
    p->features = tl_model_head(m, g, p->rows ? tl_gather_rows(g, h, p->rows) : h);
  else
    p->features = tl_task_head_features(m, g, h, p->rows, p->io.segments);
  tl_graph_scope(g, "loss");
  p->loss = loss_node(p, o->smoothing);
  tl_status s = tl_graph_compile(g, p->loss, &p->features, 1, err);
  if (s != TL_OK) tl_task_graph_free(p);
  return s;
}

void tl_task_graph_free(tl_task_graph *p) {
  tl_graph_free(p->g);
  *p = (tl_task_graph){0};
}

void tl_task_graph_clear(tl_task_graph *p) {
  p->n_tokens = p->n_texts = p->n_targets = p->n_source = 0;
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

static int32_t *ints(tl_node *n, int64_t at) {
  return (int32_t *)n->data + at;
}

/* Tokens and positions of one text, from row `at` on. */
static void set_tokens(tl_node *tokens, tl_node *pos, int64_t at, const int32_t *token, int64_t n) {
  memcpy(ints(tokens, at), token, (size_t)n * sizeof(int32_t));
  for (int32_t r = 0; pos->live && r < (int32_t)n; r++) ints(pos, at)[r] = r;
}

static void add_source(tl_task_graph *p, const int32_t *token, int64_t n, int32_t q0, int32_t q1) {
  int32_t keys = tl_model_learned_rows(p->model).keys;
  int32_t k0 = (int32_t)p->n_source, k1 = k0 + (int32_t)n;
  set_tokens(p->io.src_tokens, p->io.src_pos, k0, token, n);
  ((tl_segment *)p->io.src_segments->data)[p->n_texts] = (tl_segment){k0 + keys, k1, k0, k1, 0};
  ((tl_segment *)p->io.cross->data)[p->n_texts] = (tl_segment){q0, q1, k0 + keys, k1, 0};
  p->n_source += n;
}

bool tl_task_graph_add(tl_task_graph *p, const tl_task_samples *s, const tl_task_data *d,
                       int64_t i) {
  int64_t source = p->task->seq2seq ? s->second[i] : 0;
  int64_t n = s->start[i + 1] - s->start[i] - source, targets = s->target[i + 1] - s->target[i];
  if (p->n_texts == p->room.texts || p->n_tokens + n > p->room.tokens ||
      p->n_source + source > p->room.source || p->n_targets + targets > p->room.targets)
    return false;
  int32_t keys = source ? 0 : tl_model_learned_rows(p->model).keys;
  int32_t at = (int32_t)p->n_tokens, end = at + (int32_t)n;
  const int32_t *token = s->token + s->start[i];
  set_tokens(p->io.tokens, p->io.pos, at, token + source, n);
  /* RoBERTa has one kind of token, in both texts of a pair. */
  bool kinds = p->model->arch == &tl_arch_bert && p->model->c.type_vocab > 1;
  for (int32_t r = 0; p->io.types && r < (int32_t)n; r++)
    ints(p->io.types, at)[r] = kinds && r >= s->second[i];
  if (source) add_source(p, token, source, at, end);
  bool causal = !p->model->arch->encoder && !p->model->c.shifted;
  ((tl_segment *)p->io.segments->data)[p->n_texts++] =
      (tl_segment){at + keys, end, at, end, causal};
  bool values = p->task->loss == TL_LOSS_VALUE || p->task->loss == TL_LOSS_MULTI;
  for (int64_t k = s->target[i]; k < s->target[i + 1]; k++) {
    if (p->rows && p->rows->live) *ints(p->rows, p->n_targets) = at + s->row[k];
    if (values)
      set_values(p, d, (size_t)s->record[i]);
    else
      *ints(p->targets, p->n_targets) = d ? s->label[k] : -1;
    p->n_targets++;
  }
  p->n_tokens += n;
  return true;
}

const float *tl_task_graph_run(tl_task_graph *p, const tl_pass *pass) {
  tl_graph_set_dim(p->g, p->dim_tokens, p->n_tokens);
  tl_graph_set_dim(p->g, p->dim_texts, p->n_texts);
  if (p->task->seq2seq)
    tl_graph_set_dim(p->g, p->dim_source, p->n_source);
  else if (p->dim_targets != p->dim_texts)
    tl_graph_set_dim(p->g, p->dim_targets, p->n_targets);
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
