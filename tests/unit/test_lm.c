/* Unit tests of src/train/loader.c, lm.c and evaluate.c: from prepared data to a loss. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/file.h"
#include "tilth/train.h"
#include "train/lm.h"
#include "train/loader.h"

enum { WINDOW = 24, DOCS = 60 };

static char g_dir[64];
static tl_ctx *g_ctx;
static tl_tokenizer *g_tok;
static tl_dataset *g_data;
static tl_objective_args g_args;

static const struct arch_case {
  const char *type, *objective;
  int64_t kv_heads, window;
} g_cases[] = {{"gpt2", "next_token", 0, 0}, {"llama", "next_token", 2, 7},
               {"llama", "hybrid", 1, 0},    {"bert", "masked", 0, 0},
               {"encoder", "masked", 0, 6},  {"encoder", "hybrid", 0, 0}};
enum { N_CASES = sizeof g_cases / sizeof *g_cases };

static int set_up(void **state) {
  (void)state;
  strcpy(g_dir, "/tmp/tl_lm_XXXXXX");
  if (!mkdtemp(g_dir)) return -1;
  tl_buf text = {0};
  for (int i = 0; i < DOCS; i++) tl_buf_printf(&text, "word %d of %d\n\n", i * i, i % 7);
  char *path = tl_path_join(g_dir, "text.txt"), *data = tl_path_join(g_dir, "data");
  const char *input = path;
  tl_text_reader *r = NULL;
  tl_config *cfg = NULL;
  tl_status s = tl_file_write_atomic(path, text.data, text.len, NULL);
  if (s == TL_OK) s = tl_ctx_new(&(tl_ctx_options){.n_threads = 1, .cpu = "ref"}, &g_ctx, NULL);
  if (s == TL_OK)
    s = tl_tokenizer_train(g_ctx, &(tl_tokenizer_train_options){.type = "bytes"}, NULL, NULL,
                           &g_tok, NULL);
  if (s == TL_OK)
    s = tl_text_open(&input, 1, &(tl_text_options){.unit = TL_UNIT_PARAGRAPH}, &r, NULL);
  if (s == TL_OK)
    s = tl_prepare(g_ctx, r, g_tok,
                   &(tl_prepare_options){.val_fraction = 0.3, .add_bos = true, .add_eos = true},
                   data, false, NULL, NULL);
  if (s == TL_OK) s = tl_dataset_open(data, true, &g_data, NULL);
  if (s == TL_OK) s = tl_config_new(&cfg, NULL);
  if (s == TL_OK)
    s = tl_objective_args_from(tl_objective_find("masked"), cfg, g_tok, &g_args, NULL);
  tl_config_free(cfg);
  tl_text_close(r);
  tl_buf_free(&text);
  free(path);
  free(data);
  return s == TL_OK ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  tl_dataset_close(g_data);
  tl_tokenizer_free(g_tok);
  tl_ctx_free(g_ctx);
  return tl_remove_tree(g_dir, NULL) == TL_OK ? 0 : -1;
}

static tl_loader open_loader(tl_split split, bool documents, const char *objective) {
  tl_loader l;
  tl_err err = {0};
  if (tl_loader_init(&l, g_data, split, 5, WINDOW, documents, tl_objective_find(objective), &err) !=
      TL_OK)
    fail_msg("%s", err.msg);
  return l;
}

static tl_batch new_batch(int64_t samples) {
  tl_batch b;
  assert_int_equal(tl_batch_init(&b, samples * WINDOW, NULL), TL_OK);
  return b;
}

/* --- the loader ------------------------------------------------------------------------------ */

static void windows_follow_the_order(void **state) {
  (void)state;
  tl_loader l = open_loader(TL_TRAIN, true, "next_token");
  tl_batch b = new_batch(3);
  uint32_t want[WINDOW + 1], n;
  int bos = tl_tokenizer_special(g_tok, TL_TOK_BOS);
  uint64_t position = tl_loader_per_epoch(&l) - 1; /* across the end of an epoch */
  tl_loader_fill(&l, &g_args, position, 3, &b);
  assert_int_equal(b.n_tokens, 3 * WINDOW);
  for (int i = 0; i < 3; i++) {
    uint64_t begin = tl_order_at(&l.order, position + (uint64_t)i, &n);
    assert_int_equal(n, WINDOW);
    tl_dataset_read(g_data, TL_TRAIN, begin, WINDOW + 1, want);
    for (int j = 0; j < WINDOW; j++) {
      int64_t row = i * WINDOW + j;
      bool ends = (int)want[j + 1] == bos;
      assert_int_equal(b.tokens[row], want[j]);
      assert_int_equal(b.targets[row], ends ? -1 : (int32_t)want[j + 1]);
      assert_int_equal(b.pos[row], j == 0 || (int)want[j] == bos ? 0 : b.pos[row - 1] + 1);
    }
  }
  for (int64_t s = 0; s < b.n_segments; s++)
    assert_true(b.segments[s].q0 % WINDOW == 0 || b.tokens[b.segments[s].q0] == bos);
  assert_int_equal(b.segments[b.n_segments - 1].q1, 3 * WINDOW);

  tl_loader whole = open_loader(TL_TRAIN, false, "next_token");
  tl_loader_fill(&whole, &g_args, position, 3, &b);
  assert_int_equal(b.n_segments, 3);
  assert_int_equal(b.n_counted, 3 * WINDOW);
  tl_batch_free(&b);
  tl_loader_free(&l);
  tl_loader_free(&whole);
}

static void validation_is_read_once_in_order(void **state) {
  (void)state;
  tl_loader l = open_loader(TL_VAL, true, "next_token");
  tl_batch b = new_batch(4);
  uint64_t all = tl_dataset_tokens(g_data, TL_VAL), at = 0;
  uint32_t want[WINDOW];
  for (uint64_t p = 0; p < tl_loader_per_epoch(&l); p += 4) {
    tl_loader_fill(&l, &g_args, p, 4, &b);
    for (int64_t i = 0; i < b.n_tokens; i++, at++) {
      tl_dataset_read(g_data, TL_VAL, at, 1, want);
      assert_int_equal(b.tokens[i], want[0]);
    }
  }
  assert_int_equal(at, all - 1); /* the last token is a target only */
  tl_loader_fill(&l, &g_args, tl_loader_per_epoch(&l), 4, &b);
  assert_int_equal(b.n_tokens, 0);
  tl_batch_free(&b);
  tl_loader_free(&l);

  tl_err err = {0};
  assert_int_equal(
      tl_loader_init(&l, g_data, TL_TRAIN, 1, 1 << 20, true, tl_objective_find("next_token"), &err),
      TL_DATA);
  assert_non_null(strstr(err.msg, "the training part"));
}

/* --- the loss -------------------------------------------------------------------------------- */

static tl_model *new_model(const struct arch_case *k) {
  tl_model_config c = {.dim = 32,
                       .layers = 2,
                       .heads = 4,
                       .kv_heads = k->kv_heads,
                       .ff = 48,
                       .vocab = 320,
                       .max_len = WINDOW,
                       .window = k->window,
                       .init_std = 0.2,
                       .shifted = !strcmp(k->objective, "hybrid")};
  strcpy(c.type, k->type);
  tl_model *m = NULL;
  tl_err err = {0};
  if (tl_model_new(&c, 3, false, &m, &err) != TL_OK) fail_msg("%s", err.msg);
  return m;
}

static tl_lm new_lm(tl_model *m, const char *objective, int64_t samples) {
  tl_lm lm;
  tl_err err = {0};
  if (tl_lm_new(g_ctx, m, tl_objective_find(objective),
                &(tl_lm_options){.dt = TL_F32, .max_tokens = samples * WINDOW}, &lm, &err) != TL_OK)
    fail_msg("%s", err.msg);
  return lm;
}

static void assert_near(double got, double want) {
  if (!(fabs(got - want) <= 1e-5 * fabs(want))) fail_msg("%.9g, expected %.9g", got, want);
}

/* Samples packed into one batch do not see each other. */
static void a_batch_is_the_sum_of_its_samples(void **state) {
  (void)state;
  enum { N = 4 };
  for (int k = 0; k < N_CASES; k++) {
    tl_model *m = new_model(&g_cases[k]);
    tl_lm lm = new_lm(m, g_cases[k].objective, N);
    tl_loader l = open_loader(TL_TRAIN, true, g_cases[k].objective);
    tl_batch b = new_batch(N);
    tl_objective_args a = g_args;
    a.rate = a.rate_end = 0.3;
    for (int causal = 0; causal < 2; causal++) {
      double sum = 0, count = 0, correct = 0;
      a.causal = causal;
      for (uint64_t p = 0; p < N; p++) {
        tl_loader_fill(&l, &a, p, 1, &b);
        tl_lm_loss one = tl_lm_run(&lm, &b, &(tl_pass){.loss_scale = 1});
        sum += one.sum;
        count += one.count;
        correct += one.correct;
      }
      tl_loader_fill(&l, &a, 0, N, &b);
      tl_lm_loss all = tl_lm_run(&lm, &b, &(tl_pass){.loss_scale = 1});
      assert_true(all.count > N && all.sum / all.count > 1);
      assert_true(all.count == count && all.count == (double)b.n_counted);
      assert_near(all.sum, sum);
      assert_near(all.correct + 1, correct + 1);
    }
    tl_batch_free(&b);
    tl_loader_free(&l);
    tl_lm_free(&lm);
    tl_model_free(m);
  }
}

/* Loss of the second half of a window that begins with the token `first`. */
static double loss_after(tl_lm *lm, uint32_t first, size_t n_starts) {
  static const uint32_t starts[] = {0, 8};
  uint32_t tok[16];
  tl_batch b = new_batch(1);
  for (uint32_t i = 0; i < 16; i++) tok[i] = 100 + 7 * i;
  tok[0] = first;
  tl_sample s = {.tok = tok, .n = 16, .starts = starts, .n_starts = n_starts};
  lm->objective->add(&g_args, &s, &b);
  for (int64_t i = 0; i < 8; i++) b.targets[i] = -1;
  tl_lm_loss l = tl_lm_run(lm, &b, &(tl_pass){.loss_scale = 1});
  assert_true(l.count == 7);
  tl_batch_free(&b);
  return l.sum;
}

static void documents_do_not_see_each_other(void **state) {
  (void)state;
  tl_model *m = new_model(&g_cases[0]);
  tl_lm lm = new_lm(m, "next_token", 1);
  assert_true(loss_after(&lm, 50, 2) == loss_after(&lm, 51, 2));
  assert_true(loss_after(&lm, 50, 1) != loss_after(&lm, 51, 1)); /* one document: it does */
  tl_lm_free(&lm);
  tl_model_free(m);
}

static void a_batch_without_targets_costs_nothing(void **state) {
  (void)state;
  for (int k = 0; k < N_CASES; k++) {
    tl_model *m = new_model(&g_cases[k]);
    tl_lm lm = new_lm(m, g_cases[k].objective, 1);
    const uint32_t tok[] = {1, 2}; /* <s> </s>: nothing can be hidden */
    tl_batch b = new_batch(1);
    tl_objective_args a = g_args;
    tl_sample s = {.tok = tok, .n = 2};
    lm.objective->add(&a, &s, &b);
    if (!lm.objective->selects) b.targets[0] = -1;
    tl_lm_loss l = tl_lm_run(&lm, &b, &(tl_pass){.loss_scale = 1});
    assert_true(l.sum == 0 && l.count == 0);
    tl_batch_free(&b);
    tl_lm_free(&lm);
    tl_model_free(m);
  }
}

static void objectives_must_fit_the_model(void **state) {
  (void)state;
  static const struct {
    const char *type, *objective, *word;
  } bad[] = {{"gpt2", "masked", "decoder"}, {"bert", "next_token", "encoder"}};
  for (int i = 0; i < 2; i++) {
    tl_model *m = new_model(&(struct arch_case){bad[i].type, bad[i].objective, 0, 0});
    tl_lm lm;
    tl_err err = {0};
    assert_int_equal(tl_lm_new(g_ctx, m, tl_objective_find(bad[i].objective),
                               &(tl_lm_options){.dt = TL_F32, .max_tokens = WINDOW}, &lm, &err),
                     TL_CONFIG);
    assert_non_null(strstr(err.msg, bad[i].word));
    tl_model_free(m);
  }
}

/* --- evaluation of a model folder ------------------------------------------------------------ */

static void evaluation_is_the_mean_over_the_validation_part(void **state) {
  (void)state;
  char *dir = tl_path_join(g_dir, "model"), *data = tl_path_join(g_dir, "data");
  for (int k = 0; k < N_CASES; k++) {
    tl_model *m = new_model(&g_cases[k]);
    tl_lm lm = new_lm(m, g_cases[k].objective, 1);
    tl_loader l = open_loader(TL_VAL, true, g_cases[k].objective);
    tl_batch b = new_batch(1);
    tl_objective_args a = g_args;
    a.causal = !lm.objective->needs_mask;
    double sum = 0, count = 0, correct = 0;
    for (uint64_t p = 0; p < tl_loader_per_epoch(&l); p++) {
      tl_loader_fill(&l, &a, p, 1, &b);
      tl_lm_loss one = tl_lm_run(&lm, &b, &(tl_pass){.loss_scale = 1});
      sum += one.sum;
      count += one.count;
      correct += one.correct;
    }
    tl_eval_result r, part;
    tl_err err = {0};
    assert_int_equal(tl_model_save(m, g_tok, dir, NULL), TL_OK);
    if (tl_evaluate(g_ctx, dir, data, "", 0, 0, &r, &err) != TL_OK) fail_msg("%s", err.msg);
    assert_near(r.loss, sum / count);
    assert_near(r.accuracy + 1, correct / count + 1);
    assert_near(r.perplexity, exp(r.loss));
    assert_true((double)r.targets == count);
    assert_int_equal(r.tokens, tl_dataset_tokens(g_data, TL_VAL) - 1);
    assert_near(r.bpb, r.loss / log(2) * (double)tl_dataset_tokens(g_data, TL_VAL) /
                           (double)tl_dataset_bytes(g_data, TL_VAL));
    assert_int_equal(tl_evaluate(g_ctx, dir, data, "", 0, 3 * WINDOW, &part, &err), TL_OK);
    assert_int_equal(part.tokens, 3 * WINDOW);
    assert_int_equal(tl_evaluate(g_ctx, dir, data, "", WINDOW + 1, 0, &r, &err), TL_CONFIG);
    assert_int_equal(tl_evaluate(g_ctx, dir, data, "mask", 0, 0, &r, &err), TL_CONFIG);
    tl_batch_free(&b);
    tl_loader_free(&l);
    tl_lm_free(&lm);
    tl_model_free(m);
  }
  free(dir);
  free(data);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(windows_follow_the_order),
      cmocka_unit_test(validation_is_read_once_in_order),
      cmocka_unit_test(a_batch_is_the_sum_of_its_samples),
      cmocka_unit_test(documents_do_not_see_each_other),
      cmocka_unit_test(a_batch_without_targets_costs_nothing),
      cmocka_unit_test(objectives_must_fit_the_model),
      cmocka_unit_test(evaluation_is_the_mean_over_the_validation_part),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
