/* Unit tests of contrastive learning: the loss against its definition, its gradients against finite
 * differences, the same bits on any number of threads, and that it learns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>

#include "optim/optim.h"
#include "transfer/contrast.h"

enum { DIM = 16, BATCH = 3, VOCAB = 24 };

typedef struct fixture {
  tl_ctx *ctx;
  tl_model *model;
  tl_contrast_graph graph;
} fixture;

static void open_fixture(fixture *f, const char *arch, int views, tl_pooling pool, double dropout,
                         int threads) {
  tl_err err = {0};
  tl_model_config c = {.dim = DIM,
                       .layers = 2,
                       .heads = 2,
                       .ff = 32,
                       .vocab = VOCAB,
                       .max_len = 16,
                       .tie = true,
                       .dropout = dropout,
                       .init_std = 0.3};
  snprintf(c.type, sizeof c.type, "%s", arch);
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = threads}, &f->ctx, NULL), TL_OK);
  if (tl_model_new(&c, 5, true, &f->model, &err) != TL_OK) fail_msg("%s", err.msg);
  tl_contrast_options o = {.dt = TL_F32,
                           .batch = BATCH,
                           .views = views,
                           .max_tokens = 12 * BATCH * views,
                           .pool = pool,
                           .temperature = 0.2};
  if (tl_contrast_new(f->ctx, f->model, &o, &f->graph, &err) != TL_OK) fail_msg("%s", err.msg);
}

static void close_fixture(fixture *f) {
  tl_contrast_free(&f->graph);
  tl_model_free(f->model);
  tl_ctx_free(f->ctx);
}

/* Texts of 2 to 6 tokens; with `twins` the second view is the first once more. */
static void fill(fixture *f, bool twins) {
  tl_contrast_clear(&f->graph);
  for (int v = 0; v < f->graph.o.views; v++)
    for (int i = 0; i < BATCH; i++) {
      int32_t token[6];
      int n = 2 + (i * 2 + (twins ? 0 : v)) % 5;
      for (int k = 0; k < n; k++) token[k] = (i * 7 + k * 5 + (twins ? 0 : v * 3)) % VOCAB;
      tl_contrast_add(&f->graph, token, n);
    }
}

static double run(fixture *f, bool training) {
  fill(f, false);
  const float *l = tl_contrast_pass(
      &f->graph, &(tl_pass){.training = training, .loss_scale = 1.0f / BATCH, .seed = 3});
  assert_true(l[TL_LOSS_COUNT] == BATCH);
  return (double)l[TL_LOSS_SUM] / BATCH;
}

/* -log of the softmax of cosine / temperature, from the embeddings. */
static void loss_is_as_defined(void **state) {
  (void)state;
  fixture f;
  open_fixture(&f, "encoder", 2, TL_POOL_MEAN, 0, 2);
  double loss = run(&f, false), want = 0;
  float a[BATCH * DIM], b[BATCH * DIM];
  tl_contrast_embeddings(&f.graph, 0, a);
  tl_contrast_embeddings(&f.graph, 1, b);
  for (int i = 0; i < BATCH; i++) {
    double sum = 0, own = 0;
    for (int j = 0; j < BATCH; j++) {
      double cosine = 0;
      for (int c = 0; c < DIM; c++) cosine += (double)a[i * DIM + c] * (double)b[j * DIM + c];
      sum += exp(cosine / 0.2);
      if (i == j) own = cosine / 0.2;
    }
    want += (log(sum) - own) / BATCH;
  }
  assert_true(fabs(loss - want) < 1e-4 * want);
  close_fixture(&f);
}

/* The graph's embeddings are those that `tilth embed` gives. */
static void embeddings_agree(void **state) {
  (void)state;
  for (int pool = TL_POOL_MEAN; pool <= TL_POOL_LAST; pool++) {
    fixture f;
    float got[BATCH * DIM], want[BATCH * DIM];
    int64_t start[BATCH + 1] = {0};
    int32_t token[6 * BATCH];
    open_fixture(&f, pool == TL_POOL_LAST ? "gpt2" : "encoder", 2, (tl_pooling)pool, 0, 2);
    run(&f, false);
    tl_contrast_embeddings(&f.graph, 0, got);
    for (int i = 0; i < BATCH; i++) {
      int n = 2 + i * 2 % 5;
      for (int k = 0; k < n; k++) token[start[i] + k] = (i * 7 + k * 5) % VOCAB;
      start[i + 1] = start[i] + n;
    }
    tl_embed_graph e;
    tl_task_samples s = {.n = BATCH, .start = start, .token = token};
    assert_int_equal(tl_embed_graph_new(f.ctx, f.model, TL_F32, 64, 2, &e, NULL), TL_OK);
    assert_int_equal(tl_embed_run(&e, &s, (tl_pooling)pool, true, want, NULL), TL_OK);
    for (int i = 0; i < BATCH * DIM; i++) assert_true(fabs((double)(got[i] - want[i])) < 1e-5);
    tl_embed_graph_free(&e);
    close_fixture(&f);
  }
}

/* A few weights of every parameter, central differences. */
static void check_gradients(const char *arch, int views, tl_pooling pool, double dropout) {
  fixture f;
  open_fixture(&f, arch, views, pool, dropout, 2);
  run(&f, true);
  double worst = 0, scale = 0;
  int checked = 0;
  for (int i = 0; i < f.model->params.n; i++) {
    tl_param *p = f.model->params.p[i];
    for (int64_t k = 0; k < p->n; k += p->n / 3 + 1) {
      float at = p->data[k], h = 2e-3f;
      run(&f, true);
      double grad = (double)p->grad[k];
      p->data[k] = at + h;
      tl_params_changed(&f.model->params);
      double up = run(&f, true);
      p->data[k] = at - h;
      tl_params_changed(&f.model->params);
      double down = run(&f, true);
      p->data[k] = at;
      tl_params_changed(&f.model->params);
      double slope = (up - down) / (2 * (double)h);
      if (fabs(slope) > scale) scale = fabs(slope);
      if (fabs(slope - grad) > worst) worst = fabs(slope - grad);
      checked++;
    }
  }
  if (!(checked > 20 && scale > 0.01 && worst < 5e-3 * scale))
    fail_msg("%s, %d views: off by %g of %g (%d weights)", arch, views, worst, scale, checked);
  close_fixture(&f);
}

static void gradients(void **state) {
  (void)state;
  check_gradients("encoder", 2, TL_POOL_MEAN, 0);
  check_gradients("encoder", 3, TL_POOL_MEAN, 0.2); /* the same masks in all passes */
  check_gradients("bert", 3, TL_POOL_FIRST, 0);
  check_gradients("gpt2", 2, TL_POOL_LAST, 0);
}

static void same_bits_on_any_threads(void **state) {
  (void)state;
  fixture f[2];
  for (int i = 0; i < 2; i++) {
    open_fixture(&f[i], "encoder", 2, TL_POOL_MEAN, 0.1, 1 + i);
    run(&f[i], true);
  }
  for (int i = 0; i < f[0].model->params.n; i++) {
    const tl_param *a = f[0].model->params.p[i], *b = f[1].model->params.p[i];
    assert_memory_equal(a->grad, b->grad, (size_t)a->n * sizeof(float));
  }
  close_fixture(&f[0]);
  close_fixture(&f[1]);
}

/* Twins differ by dropout alone: without it the partner's embedding is the text's own. */
static void twins(void **state) {
  (void)state;
  for (int training = 0; training < 2; training++) {
    fixture f;
    float a[BATCH * DIM], b[BATCH * DIM];
    open_fixture(&f, "encoder", 2, TL_POOL_MEAN, 0.2, 2);
    fill(&f, true);
    tl_contrast_pass(&f.graph, &(tl_pass){.training = training, .seed = 3});
    tl_contrast_embeddings(&f.graph, 0, a);
    tl_contrast_embeddings(&f.graph, 1, b);
    double apart = tl_alignment(a, b, BATCH, DIM);
    assert_true(training ? apart > 1e-3 : apart == 0);
    close_fixture(&f);
  }
}

static void learns(void **state) {
  (void)state;
  fixture f;
  tl_optim *opt = NULL;
  tl_optim_options o = {
      .type = TL_OPTIM_ADAMW, .lr = 5e-3f, .beta1 = 0.9f, .beta2 = 0.98f, .eps = 1e-8f};
  open_fixture(&f, "encoder", 3, TL_POOL_MEAN, 0, 2);
  assert_int_equal(tl_optim_new(f.ctx, &f.model->params, &o, &opt, NULL), TL_OK);
  double first = run(&f, true), last = first;
  for (int step = 0; step < 60; step++) {
    tl_optim_step(opt, step + 1, 1, 1);
    last = run(&f, true);
  }
  if (!(last < 0.2 * first)) fail_msg("loss %g -> %g", first, last);
  tl_optim_free(opt);
  close_fixture(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(loss_is_as_defined),
      cmocka_unit_test(embeddings_agree),
      cmocka_unit_test(gradients),
      cmocka_unit_test(twins),
      cmocka_unit_test(same_bits_on_any_threads),
      cmocka_unit_test(learns),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
