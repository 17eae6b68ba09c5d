/* Unit tests of translation: beam search against all hypotheses there are, greedy search against a
 * model that is run without a cache, one text against many at once, and the packed batches of
 * training against one sample at a time. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/rng.h"
#include "transfer/beam.h"

enum { VOCAB = 6, BOS = 1, EOS = 2, MAX_LEN = 12, DIM = 32 };

static tl_ctx *g_ctx;
static tl_model *g_model;

static tl_model *make_model(int64_t vocab) {
  tl_model_config c = {.type = "encdec",
                       .dim = DIM,
                       .layers = 2,
                       .encoder_layers = 1,
                       .heads = 4,
                       .kv_heads = 2,
                       .ff = 48,
                       .vocab = vocab,
                       .max_len = 2 * MAX_LEN + 16,
                       .tie = true,
                       .qk_norm = true,
                       .init_std = 0.3};
  tl_model *m = NULL;
  tl_err err = {0};
  if (tl_model_new(&c, 11, true, &m, &err) != TL_OK) fail_msg("%s", err.msg);
  return m;
}

static int set_up(void **state) {
  (void)state;
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &g_ctx, NULL), TL_OK);
  g_model = make_model(VOCAB);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  tl_model_free(g_model);
  tl_ctx_free(g_ctx);
  return 0;
}

/* A set of samples that is filled one by one. */
typedef struct made {
  tl_task_samples s;
  int64_t start[300], target[300];
  int32_t token[6000], second[300], row[6000], label[6000], record[300];
} made;

static void made_init(made *m) {
  memset(m, 0, sizeof *m);
  m->s = (tl_task_samples){.start = m->start,
                           .target = m->target,
                           .token = m->token,
                           .second = m->second,
                           .row = m->row,
                           .label = m->label,
                           .record = m->record};
}

/* source, then [bos] y with targets y [eos]; ended: with the last of them. */
static void add(made *m, const int32_t *source, int32_t n_source, const int32_t *y, int32_t n) {
  int64_t at = m->start[m->s.n], to = m->target[m->s.n];
  for (int32_t i = 0; i < n_source; i++) m->token[at++] = source[i];
  m->second[m->s.n] = n_source;
  m->token[at++] = BOS;
  for (int32_t i = 0; i < n; i++) m->token[at++] = y[i];
  for (int32_t i = 0; i <= n; i++) {
    m->row[to] = i;
    m->label[to++] = i < n ? y[i] : EOS;
  }
  m->s.n++;
  m->start[m->s.n] = at;
  m->target[m->s.n] = to;
}

static void random_sources(made *m, int n, int vocab) {
  made_init(m);
  tl_rng r = tl_rng_make(5, TL_STREAM_TEST, 0, 0);
  for (int i = 0; i < n; i++) {
    int32_t source[MAX_LEN];
    int32_t len = 1 + (int32_t)tl_rng_below(&r, MAX_LEN);
    for (int k = 0; k < len; k++) source[k] = (int32_t)tl_rng_below(&r, (uint64_t)vocab);
    add(m, source, len, NULL, 0);
  }
}

static tl_task_graph open_graph(tl_model *m, tl_dtype dt, bool training) {
  tl_task_graph g;
  tl_err err = {0};
  tl_task_graph_options o = {.dt = dt, .room = {300, 2000, 4000, 0}, .training = training};
  if (tl_task_graph_new(g_ctx, tl_task_find("translate"), m, &o, &g, &err) != TL_OK)
    fail_msg("%s", err.msg);
  return g;
}

static tl_beam *open_beam(tl_model *m, int beam, int64_t max_len) {
  tl_beam *b = NULL;
  tl_err err = {0};
  tl_beam_limits l = {beam, MAX_LEN, max_len, (int)m->c.vocab, BOS, EOS};
  if (tl_beam_new(g_ctx, m, TL_F32, &l, &b, &err) != TL_OK) fail_msg("%s", err.msg);
  return b;
}

/* log p of y [eos] for a source, by the graph that training uses. */
static double log_p_of(tl_task_graph *g, const made *from, int64_t i, const int32_t *y, int32_t n) {
  static const tl_task_data any;
  made one;
  made_init(&one);
  add(&one, from->token + from->start[i], from->second[i], y, n);
  tl_task_graph_clear(g);
  assert_true(tl_task_graph_add(g, &one.s, &any, 0));
  return -(double)tl_task_graph_run(g, &(tl_pass){.loss_scale = 1})[TL_LOSS_SUM];
}

typedef struct scored {
  int32_t y[3], n;
  double score;
} scored;

static int by_score(const void *a, const void *b) {
  const scored *x = a, *y = b;
  return (x->score < y->score) - (x->score > y->score);
}

/* Hypotheses of at most 3 tokens over 6 words, the last of them the end: 1 + 5 + 25. */
static int all_hypotheses(tl_task_graph *g, const made *m, double penalty, scored *all) {
  int n = 0;
  for (int len = 0; len <= 2; len++)
    for (int code = 0; code < (len == 0 ? 1 : len == 1 ? VOCAB : VOCAB * VOCAB); code++) {
      scored h = {.y = {code % VOCAB, code / VOCAB}, .n = len};
      if ((len > 0 && h.y[0] == EOS) || (len > 1 && h.y[1] == EOS)) continue;
      h.score = log_p_of(g, m, 0, h.y, len) / pow(len + 1, penalty);
      all[n++] = h;
    }
  qsort(all, (size_t)n, sizeof *all, by_score);
  return n;
}

static void wide_beam_finds_all_hypotheses(void **state) {
  (void)state;
  enum { N = 31, BEAM = 32 };
  scored all[N];
  made m;
  random_sources(&m, 1, VOCAB);
  tl_task_graph g = open_graph(g_model, TL_F32, false);
  tl_beam *b = open_beam(g_model, BEAM, 3);
  for (int k = 0; k < 3; k++) {
    double penalty = 0.7 * k;
    assert_int_equal(all_hypotheses(&g, &m, penalty, all), N);
    tl_hypotheses h;
    tl_beam_options o = {.beam = BEAM, .n_best = BEAM, .length_penalty = penalty};
    assert_int_equal(tl_beam_search(b, &o, &m.s, &h, NULL), TL_OK);
    for (int i = 0; i < N; i++) {
      assert_non_null(h.h[i].token);
      assert_true(fabs(h.h[i].score - all[i].score) < 1e-4);
      assert_int_equal(h.h[i].n, all[i].n);
      assert_memory_equal(h.h[i].token, all[i].y, (size_t)all[i].n * sizeof(int32_t));
    }
    assert_null(h.h[N].token);
    tl_hypotheses_free(&h);
  }
  tl_beam_free(b);
  tl_task_graph_free(&g);
}

/* The likeliest next token after a prefix, by logits from the whole prefix. */
static int32_t next_token(tl_task_graph *g, const made *from, int64_t i, const int32_t *y,
                          int32_t n) {
  log_p_of(g, from, i, y, n);
  const float *w = g->model->out_w->data;
  int32_t best = 0;
  double most = -INFINITY;
  for (int32_t v = 0; v < g->model->c.vocab; v++) {
    double sum = 0;
    for (int64_t c = 0; c < DIM; c++)
      sum += (double)tl_value(g->features, n * DIM + c) * (double)w[v * DIM + c];
    if (sum > most) best = v;
    most = fmax(sum, most);
  }
  return best;
}

static void one_beam_is_greedy_without_a_cache(void **state) {
  (void)state;
  enum { N = 9, WORDS = 50 };
  tl_model *model = make_model(WORDS);
  made m;
  random_sources(&m, N, WORDS);
  tl_task_graph g = open_graph(model, TL_F32, false);
  tl_beam *b = open_beam(model, 4, MAX_LEN);
  tl_hypotheses h;
  tl_beam_options o = {.beam = 1, .n_best = 1, .length_penalty = 1, .max_len = MAX_LEN};
  assert_int_equal(tl_beam_search(b, &o, &m.s, &h, NULL), TL_OK);
  int tokens = 0;
  for (int64_t i = 0; i < N; i++) {
    int32_t y[MAX_LEN], n = 0, next;
    while (n + 1 < MAX_LEN && (next = next_token(&g, &m, i, y, n)) != EOS) y[n++] = next;
    assert_int_equal(h.h[i].n, n);
    assert_memory_equal(h.h[i].token, y, (size_t)n * sizeof *y);
    assert_true(fabs(h.h[i].log_p - log_p_of(&g, &m, i, y, n)) < 1e-3);
    tokens += n;
  }
  assert_true(tokens > 3 * N); /* it is not all ends */
  tl_hypotheses_free(&h);
  tl_beam_free(b);
  tl_task_graph_free(&g);
  tl_model_free(model);
}

/* Many sources, more than one batch holds, as each alone; and scores are those of the hypotheses.
 */
static void many_sources_are_as_each_alone(void **state) {
  (void)state;
  enum { N = 130, WORDS = 50, BEAM = 5 };
  tl_model *model = make_model(WORDS);
  made m, one;
  random_sources(&m, N, WORDS);
  tl_task_graph g = open_graph(model, TL_F32, false);
  tl_beam *b = open_beam(model, BEAM, 2 * MAX_LEN + 16);
  tl_hypotheses h, alone;
  tl_beam_options o = {.beam = BEAM, .n_best = 2, .length_penalty = 0.6};
  assert_int_equal(tl_beam_search(b, &o, &m.s, &h, NULL), TL_OK);
  for (int64_t i = 0; i < N; i += 7) {
    made_init(&one);
    add(&one, m.token + m.start[i], m.second[i], NULL, 0);
    assert_int_equal(tl_beam_search(b, &o, &one.s, &alone, NULL), TL_OK);
    for (int k = 0; k < 2; k++) {
      const tl_hypothesis *x = &h.h[2 * i + k], *y = &alone.h[k];
      assert_int_equal(x->n, y->n);
      assert_memory_equal(x->token, y->token, (size_t)x->n * sizeof(int32_t));
      double log_p = log_p_of(&g, &m, i, x->token, x->n);
      assert_true(fabs(x->log_p - log_p) < 1e-3 * (1 + fabs(log_p)));
      assert_true(fabs(x->score - x->log_p / pow(x->n + 1, 0.6)) < 1e-9);
    }
    assert_true(h.h[2 * i].score >= h.h[2 * i + 1].score);
    tl_hypotheses_free(&alone);
  }
  tl_hypotheses_free(&h);
  tl_beam_free(b);
  tl_task_graph_free(&g);
  tl_model_free(model);
}

/* Loss and gradients of a packed batch are the sums of those of its samples. */
static void packed_is_one_by_one(void **state) {
  (void)state;
  enum { N = 5 };
  static const tl_task_data any;
  made m;
  made_init(&m);
  tl_rng r = tl_rng_make(6, TL_STREAM_TEST, 0, 0);
  for (int i = 0; i < N; i++) {
    int32_t t[2][MAX_LEN], len[2];
    for (int k = 0; k < 2; k++) {
      len[k] = 1 + (int32_t)tl_rng_below(&r, MAX_LEN - 1);
      for (int j = 0; j < len[k]; j++) t[k][j] = (int32_t)tl_rng_below(&r, VOCAB);
    }
    add(&m, t[0], len[0], t[1], len[1]);
  }
  tl_task_graph g = open_graph(g_model, TL_F32, true);
  const tl_params *ps = &g_model->params;
  size_t bytes = (size_t)ps->n_values * sizeof(float);
  float *packed = malloc(bytes);
  tl_task_graph_clear(&g);
  for (int64_t i = 0; i < N; i++) assert_true(tl_task_graph_add(&g, &m.s, &any, i));
  double loss = (double)tl_task_graph_run(&g, &(tl_pass){.training = true, .loss_scale = 1})[0];
  memcpy(packed, ps->grads, bytes);
  double sum = 0, most = 0, worst = 0;
  for (int64_t i = 0; i < N; i++) {
    tl_task_graph_clear(&g);
    assert_true(tl_task_graph_add(&g, &m.s, &any, i));
    tl_pass pass = {.training = true, .accumulate = i > 0, .loss_scale = 1};
    sum += (double)tl_task_graph_run(&g, &pass)[TL_LOSS_SUM];
  }
  for (int p = 0; p < ps->n; p++)
    for (int64_t k = 0; k < ps->p[p]->n; k++) {
      int64_t at = ps->p[p]->offset + k;
      most = fmax(most, fabs((double)packed[at]));
      worst = fmax(worst, fabs((double)packed[at] - (double)ps->grads[at]));
    }
  assert_true(fabs(loss - sum) < 1e-4 * sum);
  assert_true(most > 0.1 && worst < 1e-4 * most);
  free(packed);
  tl_task_graph_free(&g);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(wide_beam_finds_all_hypotheses),
      cmocka_unit_test(one_beam_is_greedy_without_a_cache),
      cmocka_unit_test(many_sources_are_as_each_alone),
      cmocka_unit_test(packed_is_one_by_one),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
