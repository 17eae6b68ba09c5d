/* Unit tests of the tasks of fine-tuning: encoding, graphs, adaptation, scores. Each task is learnt
 * from a few made records; each way to adapt moves what it should and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <math.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/rng.h"
#include "optim/optim.h"
#include "transfer/adapt.h"
#include "transfer/beam.h"
#include "transfer/task.h"

static char g_dir[64];
static tl_ctx *g_ctx;
static tl_tokenizer *g_tok;

static int set_up(void **state) {
  (void)state;
  snprintf(g_dir, sizeof g_dir, "/tmp/tilth-task-%d", (int)getpid());
  assert_int_equal(tl_mkdirs(g_dir, NULL), TL_OK);
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &g_ctx, NULL), TL_OK);
  assert_int_equal(tl_tokenizer_open(g_ctx, "bytes", &g_tok, NULL), TL_OK);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  tl_tokenizer_free(g_tok);
  tl_ctx_free(g_ctx);
  return tl_remove_tree(g_dir, NULL) == TL_OK ? 0 : -1;
}

static const struct {
  const char *task, *file, *text;
} toys[] = {
    {"classify", "c.tsv",
     "label\ttext\nday\tthe sun\nnight\tthe moon\nday\ta sun here\n"
     "night\tmoon now\n"},
    {"multilabel", "m.tsv", "label\ttext\nred,round\tapple\nround\tmoon\nred\tfire truck\n\tsky\n"},
    {"regression", "r.tsv",
     "score\tsentence1\tsentence2\n1\tone\tuno\n0\tone\tdue\n"
     "-1\ttwo\tuno\n0.5\ttwo\tdue\n"},
    {"tokens", "t.conll",
     "Anna B-PER\nBell I-PER\nsleeps O\n\nin O\nOslo B-LOC\n\nOslo B-LOC\n"
     "sleeps O\n\n"},
    {"prompt", "p.jsonl",
     "{\"prompt\":\"ab\",\"answer\":\"cd\"}\n{\"prompt\":\"xy\",\"answer\":"
     "\"z\"}\n"},
    {"translate", "t.tsv", "source\ttarget\none cat\tein kater\na dog\tein hund\n"},
};
enum { N_TOYS = sizeof toys / sizeof *toys };

typedef struct fixture {
  const tl_task *task;
  tl_task_data data;
  tl_task_samples samples;
  tl_model *model;
  tl_task_graph graph;
} fixture;

static void read_toy(int toy, tl_task_data *d) {
  char *path = tl_path_join(g_dir, toys[toy].file);
  tl_err err = {0};
  assert_int_equal(tl_file_write_atomic(path, toys[toy].text, strlen(toys[toy].text), NULL), TL_OK);
  tl_task_options o = {.kind = tl_task_find(toys[toy].task)->records};
  if (tl_task_read(path, &o, d, &err) != TL_OK) fail_msg("%s", err.msg);
  free(path);
}

static void adapt_hook(tl_model *m, tl_declare *d, void *user) {
  tl_adapt_declare(m, d, user);
}

static void open_fixture(fixture *f, int toy, const char *arch, tl_adapt_options *adapt) {
  tl_err err = {0};
  *f = (fixture){.task = tl_task_find(toys[toy].task)};
  read_toy(toy, &f->data);
  tl_model_config c = {.dim = 32,
                       .layers = 2,
                       .heads = 2,
                       .ff = 64,
                       .vocab = 320,
                       .max_len = 64,
                       .tie = true,
                       .scale_logits = true,
                       .init_std = 0.05};
  snprintf(c.type, sizeof c.type, "%s", arch);
  if (adapt) tl_adapt_config(&c, adapt);
  tl_task_head_options o = {.kind = f->task->head,
                            .n_outputs = tl_task_outputs(f->task, &f->data.labels),
                            .name = (const char *const *)f->data.labels.name,
                            .problem = f->task->problem,
                            .extra = adapt ? adapt_hook : NULL,
                            .user = adapt};
  if (tl_model_new_task(&c, &o, 3, true, &f->model, &err) != TL_OK) fail_msg("%s", err.msg);
  tl_adapt_begin(f->model);
  tl_encode_options eo = tl_encode_for(f->model, 64);
  if (tl_task_encode(f->task, g_tok, &f->data, &eo, &f->samples, &err) != TL_OK)
    fail_msg("%s", err.msg);
  tl_task_graph_options go = {.dt = TL_F32, .room = {8, 512, 256, 64}, .training = true};
  if (tl_task_graph_new(g_ctx, f->task, f->model, &go, &f->graph, &err) != TL_OK)
    fail_msg("%s", err.msg);
}

static void close_fixture(fixture *f) {
  tl_task_graph_free(&f->graph);
  tl_model_free(f->model);
  tl_task_samples_free(&f->samples);
  tl_task_data_free(&f->data);
}

/* Trains on all records at once; returns the mean loss before the first and the last update. */
static void train(fixture *f, int steps, double *first, double *last) {
  tl_optim *opt = NULL;
  tl_optim_options o = {
      .type = TL_OPTIM_ADAMW, .lr = 4e-3f, .beta1 = 0.9f, .beta2 = 0.98f, .eps = 1e-8f};
  assert_int_equal(tl_optim_new(g_ctx, &f->model->params, &o, &opt, NULL), TL_OK);
  for (int step = 0; step < steps; step++) {
    tl_task_graph_clear(&f->graph);
    for (int64_t s = 0; s < f->samples.n; s++)
      assert_true(tl_task_graph_add(&f->graph, &f->samples, &f->data, s));
    const float *l = tl_task_graph_run(
        &f->graph, &(tl_pass){.training = true, .loss_scale = 1.0f / (float)f->graph.n_targets});
    double loss = (double)l[TL_LOSS_SUM] / (double)l[TL_LOSS_COUNT];
    if (step == 0) *first = loss;
    *last = loss;
    tl_optim_step(opt, step + 1, 1, 1);
  }
  tl_optim_free(opt);
}

static void translates_what_it_learnt(const fixture *f) {
  tl_beam *b = NULL;
  tl_predictions p = {.n = f->data.n, .loss = NAN};
  tl_scores scores;
  tl_beam_limits l = {.beam = 3,
                      .max_source = 32,
                      .max_len = 32,
                      .vocab = tl_tokenizer_vocab_size(g_tok),
                      .bos = tl_tokenizer_special(g_tok, TL_TOK_BOS),
                      .eos = tl_tokenizer_special(g_tok, TL_TOK_EOS)};
  tl_beam_options o = {.beam = 3, .length_penalty = 1};
  assert_int_equal(tl_beam_new(g_ctx, f->model, TL_F32, &l, &b, NULL), TL_OK);
  assert_int_equal(tl_beam_texts(b, g_tok, &o, &f->samples, &p.text, NULL), TL_OK);
  for (size_t i = 0; i < p.n; i++) assert_string_equal(p.text[i], f->data.text_b[i]);
  assert_int_equal(tl_task_scores(f->task, &f->data, &p, false, 1, &scores, NULL), TL_OK);
  assert_true(tl_scores_find(&scores, "chrf") == 100);
  tl_predictions_free(&p);
  tl_beam_free(b);
}

static void each_task_is_learnt_by_each_architecture(void **state) {
  (void)state;
  static const char *const archs[] = {"gpt2", "llama", "bert", "encoder", "encdec", "t5"};
  for (int toy = 0; toy < N_TOYS; toy++)
    for (int a = 0; a < 6; a++) {
      if (!strcmp(toys[toy].task, "prompt") && a >= 2) continue; /* encoders do not continue text */
      if ((a >= 4) != !strcmp(toys[toy].task, "translate")) continue;
      fixture f;
      double first = NAN, last = NAN;
      open_fixture(&f, toy, archs[a], NULL);
      train(&f, 150, &first, &last);
      if (!(last < 0.2 * first))
        fail_msg("%s, %s: loss %g -> %g", toys[toy].task, archs[a], first, last);
      tl_predictions p;
      tl_scores scores;
      tl_err err = {0};
      assert_int_equal(tl_task_predict(&f.graph, &f.samples, &f.data, &p, &err), TL_OK);
      assert_true(fabs(p.loss - last) < 0.1 * first);
      if (tl_task_scores(f.task, &f.data, &p, true, 1, &scores, &err) != TL_OK)
        fail_msg("%s", err.msg);
      if (a >= 4)
        translates_what_it_learnt(&f);
      else if (strcmp(f.task->metric, "loss"))
        assert_true(tl_scores_find(&scores, f.task->metric) > 0.9);
      tl_predictions_free(&p);
      close_fixture(&f);
    }
}

static void adaptation_moves_what_it_should(void **state) {
  (void)state;
  static const char *const names[] = {"probe", "last",    "bitfit", "lora",
                                      "dora",  "adapter", "prefix", "prompt"};
  for (int i = 0; i < 8; i++) {
    fixture f;
    double first = NAN, last = NAN;
    tl_adapt_options o = {.layers = 1,
                          .layer_decay = 1,
                          .head_lr = 1,
                          .rank = 4,
                          .alpha = 8,
                          .targets = "all",
                          .width = 4,
                          .where = "both",
                          .length = 3};
    assert_true(tl_adapt_parse(names[i], &o.method));
    open_fixture(&f, 0, "bert", &o);
    tl_params *ps = &f.model->params;
    float **before = calloc((size_t)ps->n, sizeof *before);
    for (int k = 0; k < ps->n; k++) {
      before[k] = malloc((size_t)ps->p[k]->n * sizeof(float));
      memcpy(before[k], ps->p[k]->data, (size_t)ps->p[k]->n * sizeof(float));
    }
    train(&f, 40, &first, &last);
    assert_true(last < first);
    for (int k = 0; k < ps->n; k++) {
      const tl_param *p = ps->p[k];
      bool moved = memcmp(before[k], p->data, (size_t)p->n * sizeof(float)) != 0;
      if (moved && !p->trainable) fail_msg("%s: %s moved", names[i], p->name);
      bool added = p->flags & (TL_PARAM_PAIR | TL_PARAM_ADDED);
      if (added && !(moved && p->trainable)) fail_msg("%s: %s did not move", names[i], p->name);
      free(before[k]);
    }
    free(before);
    assert_true(tl_params_count(ps, true) < tl_params_count(ps, false) / 2);
    close_fixture(&f);
  }
}

/* Logits of all records, [n][outputs]. */
static void logits(fixture *f, float *out) {
  tl_task_graph_clear(&f->graph);
  for (int64_t s = 0; s < f->samples.n; s++) tl_task_graph_add(&f->graph, &f->samples, NULL, s);
  tl_task_graph_run(&f->graph, &(tl_pass){.loss_scale = 1});
  tl_task_graph_logits(&f->graph, out);
}

static void merging_low_rank_updates_is_exact(void **state) {
  (void)state;
  static const char *const archs[] = {"gpt2", "llama", "bert", "encoder"};
  for (int k = 0; k < 8; k++) {
    int a = k / 2;
    fixture f;
    double first = NAN, last = NAN;
    tl_adapt_options o = {.method = k % 2 ? TL_ADAPT_DORA : TL_ADAPT_LORA,
                          .layer_decay = 1,
                          .head_lr = 1,
                          .rank = 3,
                          .alpha = 6,
                          .rs = a == 1,
                          .targets = a == 2 ? "attention" : "all"};
    float apart[64], merged[64];
    open_fixture(&f, 0, archs[a], &o);
    train(&f, 20, &first, &last);
    logits(&f, apart);
    tl_adapt_merge(f.model);
    tl_task_graph plain;
    /* the graph of the merged model has no pairs */
    for (int i = 0; i < f.model->params.n; i++) f.model->params.p[i]->lora_a = NULL;
    tl_task_graph_options go = {.dt = TL_F32, .room = {8, 512, 0, 64}};
    assert_int_equal(tl_task_graph_new(g_ctx, f.task, f.model, &go, &plain, NULL), TL_OK);
    tl_task_graph with_pairs = f.graph;
    f.graph = plain;
    logits(&f, merged);
    for (int64_t i = 0; i < 2 * f.samples.n; i++)
      if (!(fabsf(apart[i] - merged[i]) < 1e-5f * (1 + fabsf(apart[i]))))
        fail_msg("%s: logit %d: %g apart, %g merged", archs[a], (int)i, (double)apart[i],
                 (double)merged[i]);
    tl_task_graph_free(&with_pairs);
    close_fixture(&f);
  }
}

static void long_records_are_cut_or_windowed(void **state) {
  (void)state;
  tl_err err = {0};
  tl_task_data d;
  tl_task_samples s;
  read_toy(3, &d);
  const tl_task *t = tl_task_find("tokens");
  /* bytes: a sentence of 3 words has 4 + 5 + 7 bytes, and the specials */
  assert_int_equal(tl_task_encode(t, g_tok, &d, &(tl_encode_options){.max_len = 14}, &s, &err),
                   TL_OK);
  assert_true(s.n > (int64_t)d.n);
  assert_true(s.n_cut > 0);
  assert_int_equal(s.target[s.n], d.first[d.n]);
  for (int64_t i = 0; i < s.n; i++) assert_true(s.start[i + 1] - s.start[i] <= 14);
  for (int64_t i = 0, w = 0; i < s.n; i++)
    for (int64_t k = s.target[i]; k < s.target[i + 1]; k++)
      assert_int_equal(s.label[k], d.item[w++]);
  tl_task_samples_free(&s);
  tl_task_data_free(&d);
  read_toy(2, &d);
  t = tl_task_find("regression");
  assert_int_equal(tl_task_encode(t, g_tok, &d, &(tl_encode_options){.max_len = 8}, &s, &err),
                   TL_OK);
  assert_int_equal(s.n, d.n);
  assert_int_equal(s.n_cut, d.n);
  for (int64_t i = 0; i < s.n; i++) {
    assert_true(s.start[i + 1] - s.start[i] <= 8);
    assert_true(s.second[i] > 1 && s.second[i] < 8);
  }
  tl_task_samples_free(&s);
  assert_int_equal(tl_task_encode(t, g_tok, &d, &(tl_encode_options){.max_len = 4}, &s, &err),
                   TL_CONFIG);
  tl_task_data_free(&d);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_task_is_learnt_by_each_architecture),
      cmocka_unit_test(adaptation_moves_what_it_should),
      cmocka_unit_test(merging_low_rank_updates_is_exact),
      cmocka_unit_test(long_records_are_cut_or_windowed),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
