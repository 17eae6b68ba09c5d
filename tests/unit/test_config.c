/* Unit tests of src/config. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "tilth/config.h"

static char g_file[64];

static int make_file(void **state) {
  (void)state;
  /* In memory where possible: these tests sync often, and a shared disk is slow at that. */
  bool memory = access("/dev/shm", W_OK) == 0;
  snprintf(g_file, sizeof g_file, "%s/tl_config_%ld.yaml", memory ? "/dev/shm" : "/tmp",
           (long)getpid());
  return 0;
}

static int remove_file(void **state) {
  (void)state;
  unlink(g_file);
  return 0;
}

static void write_text(const char *text, size_t n) {
  assert_int_equal(tl_file_write_atomic(g_file, text, n, NULL), TL_OK);
}

/* Loads the text as a file; on failure checks that the message holds `part`. */
static tl_status load_text(const char *text, tl_config **c, const char *part) {
  write_text(text, strlen(text));
  tl_err err = {0};
  tl_status s = tl_config_load(NULL, g_file, NULL, 0, c, &err);
  if (part && !strstr(err.msg, part)) fail_msg("'%s' lacks '%s'", err.msg, part);
  return s;
}

static void file_sets_values_in_all_styles(void **state) {
  (void)state;
  tl_config *c = NULL;
  assert_int_equal(load_text("train:\n  steps: 1e3\n  batch: 7\noptim: {lr: 3e-4, type: muon}\n"
                             "data.text: [a.txt, \"b c.txt\"]\nmodel.tie: no\nrun:\n",
                             &c, NULL),
                   TL_OK);
  assert_int_equal(c->train.steps, 1000);
  assert_int_equal(c->train.batch, 7);
  assert_true(c->optim.lr == 3e-4);
  assert_string_equal(c->optim.type, "muon");
  assert_int_equal(c->data.text.n, 2);
  assert_string_equal(c->data.text.item[1], "b c.txt");
  assert_false(c->model.tie);
  assert_string_equal(c->run.dir, "runs");
  assert_non_null(strstr(tl_config_origin(c, "train.batch"), ".yaml:3"));
  assert_string_equal(tl_config_origin(c, "train.accum"), "default");
  tl_config_free(c);
  assert_int_equal(load_text("", &c, NULL), TL_OK);
  tl_config_free(c);
}

static void file_errors_name_the_place(void **state) {
  (void)state;
  static const struct {
    const char *text, *part;
  } cases[] = {
      {"train:\n  stesp: 3\n", ".yaml:2: unknown key 'train.stesp'; did you mean 'train.steps'?"},
      {"trian:\n  steps: 3\n", ".yaml:1: unknown section 'trian'; did you mean 'train'?"},
      {"steps: 3\n", "did you mean 'train.steps'?"},
      {"\ntrain.lr: 3\n", ".yaml:2: unknown key 'train.lr'; did you mean 'optim.lr'?"},
      {"train:\n  steps: 3\n  steps: 4\n", ".yaml:3: train.steps is given twice, first on line 2"},
      {"train: {steps: 3}\ntrain.steps: 4\n", ".yaml:2: train.steps is given twice"},
      {"train: {steps: 3}\ntrain: {batch: 4}\n", ".yaml:2: section train is given twice"},
      {"train:\n  steps: many\n", ".yaml:2: train.steps: 'many' is not a whole number"},
      {"train:\n  steps: 1.5\n", "is not a whole number"},
      {"train:\n  steps: 99999999999999999999\n", "is not a whole number"},
      {"train:\n  steps: -1\n", "out of bounds"},
      {"optim:\n  lr: nan\n", "is not a number"},
      {"optim:\n  lr: 1e999\n", "is not a number"},
      {"optim:\n  clip: -0.5\n", "out of bounds, [0, 1e+06]"},
      {"optim:\n  type: adamww\n", "did you mean 'adamw'?"},
      {"model:\n  tie: maybe\n", "neither true nor false"},
      {"train:\n  steps:\n", "has no value"},
      {"train:\n  steps: {a: 1}\n", "expected a value"},
      {"train:\n  steps: [1, 2]\n", "takes one value"},
      {"data:\n  text: [[a]]\n", "expected a text"},
      {"train: 3\n", ".yaml:1: expected the section's keys"},
      {"- 1\n", "expected a mapping"},
      {"train: {steps: 3\n", "not valid YAML"},
      {"train: {steps: *x}\n", ".yaml:1: "},
      {"--- {}\n--- {}\n", "expected one document"},
      {"run: {name: \"a\\0b\"}\n", "has no value"},
      {"run: {name: \"a\\nb\"}\n", "control characters"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    tl_config *c = NULL;
    assert_int_equal(load_text(cases[i].text, &c, cases[i].part), TL_CONFIG);
    assert_null(c);
  }
  tl_config *c = NULL;
  assert_int_equal(tl_config_load(NULL, "/no/such/file.yaml", NULL, 0, &c, NULL), TL_NOINPUT);
}

static void sources_override_in_order(void **state) {
  (void)state;
  write_text("optim: {lr: 0.2, clip: 2, warmup: 20}\n", 38);
  setenv("TILTH_OPTIM_CLIP", "3", 1);
  setenv("TILTH_OPTIM_WARMUP", "30", 1);
  setenv("TILTH_CPU", "ref", 1);
  static const char *const overrides[] = {"optim.warmup=40", "data.text=x,y"};
  tl_config *c = NULL;
  assert_int_equal(tl_config_load("shakespeare-char", g_file, overrides, 2, &c, NULL), TL_OK);
  assert_true(c->optim.beta2 == 0.99 && c->optim.lr == 0.2 && c->optim.clip == 3);
  assert_int_equal(c->optim.warmup, 40);
  assert_int_equal(c->data.text.n, 2);
  assert_string_equal(tl_config_origin(c, "optim.beta2"), "preset shakespeare-char");
  assert_string_equal(tl_config_origin(c, "optim.clip"), "TILTH_OPTIM_CLIP");
  assert_string_equal(tl_config_origin(c, "optim.warmup"), "command line");
  assert_int_equal(tl_config_level_of(c, "optim.lr"), TL_CONFIG_FILE);
  /* A weaker source does not override, whenever it comes. */
  assert_int_equal(tl_config_apply_preset(c, "gpt2", NULL), TL_OK);
  assert_int_equal(c->optim.warmup, 40);
  tl_config_free(c);
  setenv("TILTH_OPTIM_CLIPP", "3", 1);
  tl_err err = {0};
  assert_int_equal(tl_config_load(NULL, NULL, NULL, 0, &c, &err), TL_CONFIG);
  assert_non_null(strstr(err.msg, "TILTH_OPTIM_CLIPP: unknown key 'optim.clipp'"));
  unsetenv("TILTH_OPTIM_CLIPP");
  unsetenv("TILTH_OPTIM_CLIP");
  unsetenv("TILTH_OPTIM_WARMUP");
  unsetenv("TILTH_CPU");
}

static void depth_derives_the_rest(void **state) {
  (void)state;
  tl_config *c = NULL;
  static const char *const overrides[] = {"model.depth=6", "model.heads=3"};
  assert_int_equal(tl_config_load("shakespeare-char", NULL, overrides, 2, &c, NULL), TL_OK);
  assert_int_equal(c->model.dim, 384);
  assert_int_equal(c->model.layers, 6);
  assert_int_equal(c->model.heads, 3);
  assert_string_equal(tl_config_origin(c, "model.dim"), "model.depth");
  assert_int_equal(tl_config_set(c, "model.depth", "3", TL_CONFIG_FLAG, "test", NULL), TL_OK);
  assert_int_equal(tl_config_finish(c, NULL), TL_OK);
  assert_int_equal(c->model.dim, 192);
  tl_config_free(c);
}

static void contradictions_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *a, *b, *part;
  } cases[] = {
      {"model.heads=7", "model.dim=100", "does not divide model.dim (100, command line)"},
      {"model.heads=4", "model.kv_heads=3", "does not divide model.heads"},
      {"model.max_len=32", "train.seq_len=64", "longer than model.max_len"},
      {"objective.mask_keep=0.6", "objective.mask_random=0.6", "more than 1"},
      {"data.path=x", "data.text=y", "both given"},
      {"train.steps=10", "train.tokens=10", "both given"},
      {"train.steps=10", "run.minutes=1", "both given"},
      {"nonsense", "train.steps=1", "not of the form section.key=value"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const char *overrides[] = {cases[i].a, cases[i].b};
    tl_config *c = NULL;
    tl_err err = {0};
    assert_int_equal(tl_config_load(NULL, NULL, overrides, 2, &c, &err), TL_CONFIG);
    if (!strstr(err.msg, cases[i].part)) fail_msg("'%s' lacks '%s'", err.msg, cases[i].part);
  }
  /* The most explicit of steps, tokens and minutes holds. */
  const char *tokens[] = {"train.tokens=1e6"};
  tl_config *c = NULL;
  assert_int_equal(tl_config_load("shakespeare-char", NULL, tokens, 1, &c, NULL), TL_OK);
  assert_int_equal(c->train.steps, 0);
  assert_int_equal(c->train.tokens, 1000000);
  tl_config_free(c);
  const char *minutes[] = {"run.minutes=2.5"};
  assert_int_equal(tl_config_load("gpt2-124m", NULL, minutes, 1, &c, NULL), TL_OK);
  assert_true(c->train.steps == 0 && c->train.tokens == 0 && c->run.minutes == 2.5);
  assert_string_equal(tl_config_origin(c, "train.tokens"), "run.minutes");
  tl_config_free(c);
}

static void dump_reads_back(void **state) {
  (void)state;
  for (size_t i = 0; tl_config_preset_name(i); i++) {
    static const char *const overrides[] = {"data.text=a: b,c\"d\\e,#f,Grüße",
                                            "optim.lr=0.1234567890123", "run.name=no"};
    tl_config *c = NULL, *again = NULL;
    tl_err err = {0};
    char *text = NULL, *text2 = NULL;
    if (tl_config_load(tl_config_preset_name(i), NULL, overrides, 3, &c, &err) != TL_OK)
      fail_msg("%s: %s", tl_config_preset_name(i), err.msg);
    assert_int_equal(tl_config_dump(c, i & 1, &text, NULL), TL_OK);
    write_text(text, strlen(text));
    if (tl_config_load(NULL, g_file, NULL, 0, &again, &err) != TL_OK) fail_msg("%s", err.msg);
    assert_int_equal(again->data.text.n, 4);
    assert_string_equal(again->data.text.item[1], "c\"d\\e");
    assert_true(again->optim.lr == c->optim.lr);
    assert_int_equal(tl_config_dump(again, false, &text2, NULL), TL_OK);
    free(text);
    assert_int_equal(tl_config_dump(c, false, &text, NULL), TL_OK);
    assert_string_equal(text, text2);
    free(text);
    free(text2);
    tl_config_free(c);
    tl_config_free(again);
  }
}

static void docs_page_is_current(void **state) {
  (void)state;
  tl_buf page = {0};
  char *text = NULL;
  assert_int_equal(tl_file_read(TL_SOURCE_DIR "/docs/config.md", 1 << 20, &page, NULL), TL_OK);
  assert_int_equal(tl_config_docs(&text, NULL), TL_OK);
  if (strcmp(page.data, text))
    fail_msg("docs/config.md is out of date; run: build/tilth config --docs > docs/config.md");
  free(text);
  tl_buf_free(&page);
}

/* Any mutation of a file is either read or refused; under a sanitizer this finds bad accesses. */
static void mutated_files_never_crash(void **state) {
  (void)state;
  static const char base[] = "train: {steps: 3, batch: 4}\noptim:\n  lr: 1e-3 # x\n  type: sgd\n"
                             "data.text: [a, \"b\"]\nrun: {name: &a x}\n";
  uint32_t x = 12345;
  int ok = 0, bad = 0;
  for (int round = 0; round < 400; round++) {
    char text[sizeof base];
    memcpy(text, base, sizeof base);
    for (int k = 0; k <= round % 4; k++) {
      x = x * 1664525u + 1013904223u;
      text[(x >> 8) % (sizeof base - 1)] = "\n:{}[]\"'&*#|>- \t\x80\xff"
                                           "a1"[(x >> 24) % 20];
    }
    write_text(text, sizeof base - 1 - (size_t)(round % 7));
    tl_config *c = NULL;
    tl_err err = {0};
    if (tl_config_load(NULL, g_file, NULL, 0, &c, &err) == TL_OK) {
      ok++;
      tl_config_free(c);
    } else {
      bad++;
      assert_true(strlen(err.msg) > 0);
    }
  }
  assert_true(ok > 0 && bad > 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(file_sets_values_in_all_styles),
      cmocka_unit_test(file_errors_name_the_place),
      cmocka_unit_test(sources_override_in_order),
      cmocka_unit_test(depth_derives_the_rest),
      cmocka_unit_test(contradictions_are_refused),
      cmocka_unit_test(dump_reads_back),
      cmocka_unit_test(docs_page_is_current),
      cmocka_unit_test(mutated_files_never_crash),
  };
  return cmocka_run_group_tests(tests, make_file, remove_file);
}
