/* tl_bench_step: what it trains on, and that its figures belong together. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "tilth/bench.h"

static tl_status run(const char *const *more, size_t n, int threads, const tl_bench_step_options *o,
                     tl_bench_step_result *r, tl_err *err) {
  const char *keys[16] = {"model.dim=32",     "model.layers=1", "model.heads=2",
                          "train.seq_len=32", "train.batch=2",  "train.accum=2"};
  tl_ctx *ctx = NULL;
  tl_config *cfg = NULL;
  for (size_t i = 0; i < n; i++) keys[6 + i] = more[i];
  tl_status s = tl_ctx_new(&(tl_ctx_options){.n_threads = threads}, &ctx, err);
  if (s == TL_OK) s = tl_config_load(NULL, NULL, keys, 6 + n, &cfg, err);
  if (s == TL_OK) s = tl_bench_step(ctx, cfg, o, r, err);
  tl_config_free(cfg);
  tl_ctx_free(ctx);
  return s;
}

static tl_bench_step_result must(const char *key, int threads, const tl_bench_step_options *o) {
  tl_bench_step_result r;
  tl_err err = {0};
  if (run(&key, 1, threads, o, &r, &err) != TL_OK) fail_msg("%s", err.msg);
  return r;
}

static void figures_belong_together(void **state) {
  (void)state;
  tl_bench_step_result r =
      must("guard.policy=rollback", 2, &(tl_bench_step_options){.warmup = 2, .steps = 3});
  assert_int_equal(r.steps, 3);
  double sum = 0;
  for (int i = 0; i < 3; i++) sum += r.step_seconds[i];
  assert_true(fabs(sum - r.min - r.median - r.max) < 1e-12);
  assert_true(r.min > 0 && r.min <= r.median && r.median <= r.max);
  assert_true(r.tokens == 128 && r.targets == 128 && r.segments == 4);
  assert_true(fabs(r.tokens_per_s * r.median / 128 - 1) < 1e-9);
  assert_true(fabs(r.gflops * 1e9 / (r.flops_per_token * r.tokens_per_s) - 1) < 1e-9);
  /* 6 for each weight of a product: all but the two embeddings, the output layer being one */
  double products = 4 * 32 * 32 + 8 * 32 * 32 + 320 * 32;
  assert_true(r.flops_per_token > 6 * products && r.flops_per_token < 1.5 * 6 * products);
  assert_true(r.peak_gflops > 0 && r.peak_rss > 1e6);
  assert_true(r.to_first >= 0 && r.to_first_end >= r.to_first && r.to_first_end < 1000);
  assert_true(r.loss > 4 && r.loss < 7); /* log 320 is 5.8 */
  assert_null(r.profile);
  tl_bench_step_free(&r);
}

static void the_same_loss_on_any_number_of_threads(void **state) {
  (void)state;
  const uint32_t lengths[] = {7, 1, 20};
  const tl_bench_step_options o = {.steps = 3, .lengths = lengths, .n_lengths = 3};
  tl_bench_step_result a = must("optim.warmup=2", 1, &o), b = must("optim.warmup=2", 2, &o);
  assert_true(a.loss == b.loss && a.loss > 0);
  tl_bench_step_free(&a);
  tl_bench_step_free(&b);
}

static void documents_are_packed(void **state) {
  (void)state;
  /* 64 windows of 32 tokens: documents of 10 and 22 tokens fill each one */
  const uint32_t fit[] = {10, 22};
  tl_bench_step_result r =
      must("run.seed=2", 1, &(tl_bench_step_options){.steps = 16, .lengths = fit, .n_lengths = 2});
  assert_true(r.tokens == 128 && r.segments == 8);
  assert_true(r.targets == 128 - 8); /* the last token of a document has no target */
  tl_bench_step_free(&r);
  const uint32_t longer[] = {48};
  r = must("run.seed=2", 1,
           &(tl_bench_step_options){.steps = 3, .lengths = longer, .n_lengths = 1});
  /* windows begin at 0, 32, 64 of a cycle of 96: [0, 32) is one piece, [32, 64) two, [64, 96) one;
   * 12 windows */
  assert_true(fabs(r.segments * 3 - (4 + 8 + 4)) < 1e-9);
  assert_true(fabs(r.targets * 3 - (12 * 32 - 8)) < 1e-9); /* the ends at 48 and 96 */
  tl_bench_step_free(&r);
}

static void masked_models_predict_the_masked(void **state) {
  (void)state;
  const char *keys[] = {"model.type=encoder", "objective.type=masked", "objective.mask_rate=0.25",
                        "model.vocab=50"};
  tl_bench_step_result r;
  tl_err err = {0};
  const tl_bench_step_options o = {.steps = 4, .profile = true};
  if (run(keys, 4, 2, &o, &r, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_true(r.targets == 32); /* of 128 */
  assert_non_null(r.profile);
  assert_int_equal(r.profile->steps, 3); /* without a warm-up the first does not count */
  tl_bench_step_free(&r);
}

static void products_of_muon_are_counted(void **state) {
  (void)state;
  tl_bench_step_result r =
      must("optim.type=muon", 2, &(tl_bench_step_options){.steps = 2, .profile = true});
  double flops = -1, hidden[] = {3, 1, 4, 4}; /* sizes of the hidden matrices over 32 x 32 */
  for (size_t i = 0; i < r.profile->n; i++)
    if (!strcmp(r.profile->row[i].name, "optimizer")) flops = r.profile->row[i].flops;
  double want = 0, cube = 32 * 32 * 32;
  for (int i = 0; i < 4; i++) want += 5 * (3 * hidden[i] * cube + cube);
  assert_true(fabs(flops / want - 1) < 1e-9);
  tl_bench_step_free(&r);
}

/* 5 pictures of 16 x 16 in each of two micro-batches: classes of pictures, then of pixels. */
static void pictures_have_labels(void **state) {
  (void)state;
  const char *vit[] = {"model.type=vit", "model.image_size=16", "model.patch=4", "train.batch=5"};
  const char *unet[] = {"model.type=unet", "model.image_size=16", "task.type=image_segment",
                        "train.batch=5"};
  const tl_bench_step_options o = {.warmup = 1, .steps = 2};
  tl_bench_step_result one, two;
  tl_err err = {0};
  if (run(vit, 4, 1, &o, &one, &err) != TL_OK) fail_msg("%s", err.msg);
  if (run(vit, 4, 2, &o, &two, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_true(one.loss == two.loss && one.loss > 1 && one.loss < 5); /* log 10 is 2.3 */
  assert_true(one.tokens == 2 * 5 * 17 && one.segments == 10 && one.targets == 10);
  assert_true(fabs(one.segments_per_s * one.median / 10 - 1) < 1e-9);
  tl_bench_step_free(&one);
  tl_bench_step_free(&two);
  if (run(unet, 4, 2, &o, &one, &err) != TL_OK) fail_msg("%s", err.msg);
  assert_true(one.targets == 2 * 5 * 16 * 16 && one.segments == 10);
  tl_bench_step_free(&one);
}

static void bad_options_are_refused(void **state) {
  (void)state;
  const char *views[] = {"model.type=vit", "objective.type=simclr"};
  const uint32_t none[] = {0, 0};
  tl_bench_step_result r;
  tl_err err = {0};
  const char *small = "model.vocab=1", *masked = "objective.type=masked";
  assert_int_equal(run(NULL, 0, 1, &(tl_bench_step_options){.steps = 0}, &r, &err), TL_USAGE);
  assert_int_equal(run(&small, 1, 1, &(tl_bench_step_options){.steps = 1}, &r, &err), TL_CONFIG);
  assert_int_equal(run(&masked, 1, 1, &(tl_bench_step_options){.steps = 1}, &r, &err), TL_CONFIG);
  const tl_bench_step_options empty = {.steps = 1, .lengths = none, .n_lengths = 2};
  assert_int_equal(run(NULL, 0, 1, &empty, &r, &err), TL_USAGE);
  assert_int_equal(run(views, 1, 1, &empty, &r, &err), TL_USAGE);
  assert_int_equal(run(views, 2, 1, &(tl_bench_step_options){.steps = 1}, &r, &err), TL_CONFIG);
  assert_non_null(strstr(err.msg, "objective.type simclr"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(figures_belong_together),
      cmocka_unit_test(the_same_loss_on_any_number_of_threads),
      cmocka_unit_test(documents_are_packed),
      cmocka_unit_test(masked_models_predict_the_masked),
      cmocka_unit_test(products_of_muon_are_counted),
      cmocka_unit_test(pictures_have_labels),
      cmocka_unit_test(bad_options_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
