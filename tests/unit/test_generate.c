/* Unit tests of src/eval/generate.c and fill.c, on tiny models with random weights. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <jansson.h>

#include "base/buf.h"
#include "base/file.h"
#include "models/model.h"
#include "tilth/generate.h"

enum { MAX_LEN = 320 };

static char g_dir[64];
static tl_ctx *g_ctx; /* f32 */
static tl_tokenizer *g_tok;
enum { N_DECODERS = 5 };
static const char *const g_decoders[N_DECODERS] = {"gpt2", "llama", "llama-window",
                                                   "encoder-hybrid", "bert-hybrid"};

static char *in_dir(const char *name) {
  char *path = tl_path_join(g_dir, name);
  assert_non_null(path);
  return path;
}

/* Random weights wide enough that the text is not one letter over and over. */
static void save_model(const char *name, const char *type, int64_t kv_heads, int64_t window) {
  bool hybrid = strstr(name, "hybrid") != NULL;
  tl_model_config c = {.dim = 32,
                       .layers = 2,
                       .heads = 4,
                       .kv_heads = kv_heads,
                       .ff = 48,
                       .vocab = 320,
                       .max_len = MAX_LEN,
                       .window = window,
                       .init_std = 0.4,
                       .tie = true,
                       .shifted = hybrid};
  strcpy(c.type, type);
  tl_model *m = NULL;
  tl_err err = {0};
  char *dir = in_dir(name);
  if (tl_model_new(&c, 5, false, &m, &err) != TL_OK || tl_model_save(m, g_tok, dir, &err) != TL_OK)
    fail_msg("%s", err.msg);
  tl_model_free(m);
  free(dir);
}

static int set_up(void **state) {
  (void)state;
  strcpy(g_dir, "/tmp/tl_generate_XXXXXX");
  if (!mkdtemp(g_dir)) return -1;
  if (tl_ctx_new(&(tl_ctx_options){.n_threads = 1, .cpu = "ref"}, &g_ctx, NULL) != TL_OK) return -1;
  if (tl_tokenizer_train(g_ctx, &(tl_tokenizer_train_options){.type = "bytes"}, NULL, NULL, &g_tok,
                         NULL) != TL_OK)
    return -1;
  save_model("gpt2", "gpt2", 0, 0);
  save_model("llama", "llama", 2, 0);
  save_model("llama-window", "llama", 1, 24);
  save_model("encoder", "encoder", 0, 0);
  save_model("bert", "bert", 0, 0);
  save_model("llama-hybrid", "llama", 2, 0);
  save_model("encoder-hybrid", "encoder", 0, 24);
  save_model("bert-hybrid", "bert", 0, 0);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  tl_tokenizer_free(g_tok);
  tl_ctx_free(g_ctx);
  return tl_remove_tree(g_dir, NULL) == TL_OK ? 0 : -1;
}

static void collect(void *user, const char *text, size_t len) {
  tl_buf_append(user, text, len);
}

static tl_buf text_of(tl_ctx *ctx, const char *model, const char *prompt, const tl_sampling *p,
                      tl_generate_stats *st) {
  tl_buf out = {0};
  tl_err err = {0};
  char *dir = in_dir(model);
  if (tl_generate(ctx, dir, prompt, p, collect, &out, st, &err) != TL_OK) fail_msg("%s", err.msg);
  free(dir);
  return out;
}

static void assert_same_and_free(tl_buf *a, tl_buf *b) {
  assert_int_equal(a->len, b->len);
  assert_true(a->len > 0);
  assert_memory_equal(a->data, b->data, a->len);
  tl_buf_free(a);
  tl_buf_free(b);
}

/* --- the key-value cache against the whole prefix ------------------------------------------- */

typedef struct reference {
  tl_model *m;
  tl_graph *g;
  int dim;
  tl_model_io io;
  tl_node *last, *logits;
} reference;

static void open_reference(reference *r, const char *model) {
  char *dir = in_dir(model);
  assert_int_equal(tl_model_load(dir, false, &r->m, NULL), TL_OK);
  free(dir);
  r->g = tl_graph_new(g_ctx, &r->m->params, &(tl_graph_options){TL_F32, false});
  r->dim = tl_graph_dim(r->g, MAX_LEN);
  r->io = tl_model_inputs(r->m, r->g, r->dim, MAX_LEN, 0, 1);
  r->last = tl_graph_input(r->g, "last", TL_I32, 1, (int64_t[]){1}, 0);
  tl_node *h = r->m->arch->body(r->m, r->g, &r->io);
  r->logits = tl_model_logits(r->m, r->g, tl_gather_rows(r->g, h, r->last));
  assert_int_equal(tl_graph_compile(r->g, NULL, &r->logits, 1, NULL), TL_OK);
}

/* The likeliest token at row `last`. */
static uint32_t likeliest(reference *r, const uint32_t *ids, int32_t n, bool causal, int32_t last) {
  tl_graph_set_dim(r->g, r->dim, n);
  for (int32_t i = 0; i < n; i++) {
    ((int32_t *)r->io.tokens->data)[i] = (int32_t)ids[i];
    ((int32_t *)r->io.pos->data)[i] = i;
  }
  *(tl_segment *)r->io.segments->data = (tl_segment){0, n, 0, n, causal};
  if (r->io.types) memset(r->io.types->data, 0, (size_t)n * sizeof(int32_t));
  *(int32_t *)r->last->data = last;
  tl_graph_run(r->g, &(tl_pass){.loss_scale = 1});
  const float *logit = r->logits->data;
  int best = 0;
  for (int i = 1; i < tl_tokenizer_vocab_size(g_tok); i++)
    if (logit[i] > logit[best]) best = i;
  return (uint32_t)best;
}

/* Greedy continuation by running the whole prefix again for every token. */
static tl_buf continue_slowly(const char *model, const char *prompt, int64_t max_tokens) {
  reference r = {0};
  uint32_t *ids = NULL;
  size_t n = 0, cap = 0, begin;
  tl_ids all = {0};
  open_reference(&r, model);
  tl_ids_push(&all, (uint32_t)tl_tokenizer_special(g_tok, TL_TOK_BOS));
  assert_int_equal(tl_tokenizer_encode(g_tok, prompt, strlen(prompt), &ids, &n, &cap, NULL), TL_OK);
  for (size_t i = 0; i < n; i++) tl_ids_push(&all, ids[i]);
  begin = all.len;
  while ((int64_t)(all.len - begin) < max_tokens && all.len <= MAX_LEN) {
    uint32_t id = likeliest(&r, all.data, (int32_t)all.len, true, (int32_t)all.len - 1);
    if ((int)id == tl_tokenizer_special(g_tok, TL_TOK_EOS)) break;
    tl_ids_push(&all, id);
  }
  tl_buf out = {0};
  char *before = NULL;
  size_t n_before = 0;
  assert_int_equal(tl_tokenizer_decode(g_tok, all.data, begin, true, &before, &n_before, NULL),
                   TL_OK);
  assert_int_equal(tl_tokenizer_decode(g_tok, all.data, all.len, true, &out.data, &out.len, NULL),
                   TL_OK);
  assert_true(out.len >= n_before && !memcmp(out.data, before, n_before));
  out.len -= n_before;
  memmove(out.data, out.data + n_before, out.len);
  free(before);
  free(ids);
  tl_ids_free(&all);
  tl_graph_free(r.g);
  tl_model_free(r.m);
  return out;
}

static void cache_gives_the_text_of_the_whole_prefix(void **state) {
  (void)state;
  char prompt[301]; /* more than one pass of the prompt */
  for (int i = 0; i < 300; i++) prompt[i] = (char)('a' + i * i % 23);
  prompt[300] = 0;
  const char *const prompts[] = {"The first\n", "", prompt};
  tl_sampling p = tl_sampling_defaults();
  p.temperature = 0;
  for (size_t m = 0; m < N_DECODERS; m++) {
    for (size_t i = 0; i < (m % 2 ? 2 : 3); i++) { /* the long one takes most of the time */
      tl_generate_stats st;
      /* 60: the last prompt comes to the model's greatest length before that */
      p.max_tokens = i == 2 ? 60 : 24;
      tl_buf fast = text_of(g_ctx, g_decoders[m], prompts[i], &p, &st);
      tl_buf slow = continue_slowly(g_decoders[m], prompts[i], p.max_tokens);
      assert_int_equal(st.prompt_tokens, strlen(prompts[i]) + 1);
      assert_true(st.ended || st.new_tokens == (i == 2 ? MAX_LEN - 300 : 24));
      assert_same_and_free(&fast, &slow);
    }
  }
}

static tl_status one_text(void *user, const char **text, size_t *len, tl_err *err) {
  static const char corpus[] =
      "the cat sat on the mat, and the cats' mats sat there. the rats ate that! a hat? the matter "
      "of the fat rat: cat-mat-hat, na\xc3\xafve caf\xc3\xa9s \xe2\x82\xac 3.14";
  (void)err;
  int *given = user;
  *text = (*given)++ ? NULL : corpus;
  *len = sizeof corpus - 1;
  return TL_OK;
}

/* Tokens come out one at a time; their text is that of all of them decoded together. */
static void streamed_text_is_the_text_of_all_tokens(void **state) {
  (void)state;
  const char *const types[] = {"bpe", "wordpiece", "unigram"};
  tl_tokenizer *bytes = g_tok;
  for (size_t i = 0; i < 3; i++) {
    tl_err err = {0};
    int given = 0, vocab[] = {275, 39, 275};
    tl_tokenizer_train_options o = {.type = types[i], .vocab_size = vocab[i]};
    tl_tokenizer *tok = NULL;
    if (tl_tokenizer_train(g_ctx, &o, one_text, &given, &tok, &err) != TL_OK)
      fail_msg("%s", err.msg);
    g_tok = tok;
    save_model(types[i], "gpt2", 0, 0);
    for (int64_t n = 1; n <= 90; n = n * 3 + 1) {
      tl_sampling p = {.max_tokens = n, .temperature = 0, .top_p = 1};
      tl_generate_stats st;
      tl_buf fast = text_of(g_ctx, types[i], "the cat", &p, &st);
      tl_buf slow = continue_slowly(types[i], "the cat", n);
      assert_int_equal(fast.len, slow.len);
      if (fast.len) assert_memory_equal(fast.data, slow.data, fast.len);
      assert_true(n < 10 || fast.len > 0);
      tl_buf_free(&fast);
      tl_buf_free(&slow);
    }
    g_tok = bytes;
    tl_tokenizer_free(tok);
  }
}

/* --- sampling ------------------------------------------------------------------------------- */

static void top_1_is_greedy(void **state) {
  (void)state;
  tl_generate_stats st;
  tl_sampling greedy = {.max_tokens = 30, .temperature = 0, .top_p = 1, .seed = 1};
  tl_sampling top_1 = {.max_tokens = 30, .temperature = 1.5, .top_k = 1, .top_p = 1, .seed = 9};
  tl_sampling nucleus = {.max_tokens = 30, .temperature = 0.5, .top_p = 1e-9, .seed = 3};
  tl_buf a = text_of(g_ctx, "llama", "x", &greedy, &st);
  tl_buf b = text_of(g_ctx, "llama", "x", &top_1, &st);
  tl_buf c = text_of(g_ctx, "llama", "x", &nucleus, &st);
  assert_int_equal(a.len, c.len);
  assert_memory_equal(a.data, c.data, a.len);
  tl_buf_free(&c);
  assert_same_and_free(&a, &b);
}

/* How often `text` was drawn first, over `n` seeds. */
static int count_first(const tl_sampling *base, int n, const char *text, size_t len) {
  int hits = 0;
  for (int seed = 0; seed < n; seed++) {
    tl_sampling p = *base;
    tl_generate_stats st;
    p.seed = (uint64_t)seed;
    tl_buf got = text_of(g_ctx, "llama", "x", &p, &st);
    hits += got.len == len && (len == 0 || !memcmp(got.data, text, len));
    tl_buf_free(&got);
  }
  return hits;
}

/* Draws come from the heaviest tokens that top-k and top-p name, in the proportion of their
 * weights, and from no others. */
static void draws_follow_the_weights(void **state) {
  (void)state;
  enum { SEEDS = 400, SHOWN = 4 };
  reference r = {0};
  open_reference(&r, "llama");
  uint32_t ids[2] = {(uint32_t)tl_tokenizer_special(g_tok, TL_TOK_BOS)}, *text = NULL;
  size_t n_text = 0, cap = 0;
  assert_int_equal(tl_tokenizer_encode(g_tok, "x", 1, &text, &n_text, &cap, NULL), TL_OK);
  ids[1] = text[0];
  free(text);
  likeliest(&r, ids, 2, true, 1);
  int order[320], n = tl_tokenizer_vocab_size(g_tok);
  float *logit = r.logits->data;
  for (int i = 0; i < n; i++) {
    int at = i;
    for (; at > 0 && logit[order[at - 1]] < logit[i]; at--) order[at] = order[at - 1];
    order[at] = i;
  }
  for (int kind = 0; kind < 2; kind++) { /* top-k 4; top-p that 4 tokens reach */
    const double temperature = kind ? 1.5 : 4;
    double weight[SHOWN], sum = 0, all = 0;
    for (int i = 0; i < n; i++) all += exp((double)(logit[i] - logit[order[0]]) / temperature);
    for (int i = 0; i < SHOWN; i++) {
      weight[i] = exp((double)(logit[order[i]] - logit[order[0]]) / temperature);
      sum += weight[i];
    }
    tl_sampling p = {.max_tokens = 1, .temperature = temperature, .top_k = kind ? 0 : SHOWN};
    p.top_p = kind ? (sum - weight[SHOWN - 1] / 2) / all : 1;
    int drawn = 0;
    for (int i = 0; i < SHOWN; i++) {
      char *want = NULL;
      size_t len = 0;
      uint32_t id = (uint32_t)order[i];
      assert_int_equal(tl_tokenizer_decode(g_tok, &id, 1, true, &want, &len, NULL), TL_OK);
      int hits = count_first(&p, SEEDS, want, len);
      double share = weight[i] / sum, sigma = sqrt(SEEDS * share * (1 - share));
      assert_true(fabs(hits - SEEDS * share) < 4 * sigma + 1);
      drawn += hits;
      free(want);
    }
    assert_int_equal(drawn, SEEDS);
  }
  tl_graph_free(r.g);
  tl_model_free(r.m);
}

static void same_seed_same_text_on_any_threads(void **state) {
  (void)state;
  tl_ctx *one = NULL, *two = NULL; /* the machine's best kernels, bf16 where it has them */
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 1}, &one, NULL), TL_OK);
  assert_int_equal(tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &two, NULL), TL_OK);
  for (size_t m = 0; m < N_DECODERS; m++) {
    tl_generate_stats st;
    tl_sampling p = {.max_tokens = 60, .temperature = 1, .top_k = 50, .top_p = 0.95, .seed = 4};
    tl_buf a = text_of(one, g_decoders[m], "abc", &p, &st);
    tl_buf b = text_of(two, g_decoders[m], "abc", &p, &st);
    p.seed = 5;
    tl_buf c = text_of(two, g_decoders[m], "abc", &p, &st);
    assert_true(a.len != c.len || memcmp(a.data, c.data, a.len) != 0);
    tl_buf_free(&c);
    assert_same_and_free(&a, &b);
  }
  tl_ctx_free(one);
  tl_ctx_free(two);
}

/* One that stands ready gives what a fresh one gives, whatever it wrote before. */
static void a_generator_serves_many_texts(void **state) {
  (void)state;
  tl_sampling p = {.max_tokens = 40, .temperature = 1, .top_p = 1, .seed = 4};
  tl_generate_stats st;
  char *dir = in_dir(g_decoders[0]);
  tl_generator *g = NULL;
  tl_buf fresh = text_of(g_ctx, g_decoders[0], "abc", &p, &st), first = {0}, again = {0};
  assert_int_equal(tl_generator_open(g_ctx, dir, &g, NULL), TL_OK);
  assert_int_equal(tl_generator_run(g, "something longer", &p, collect, &first, NULL, NULL), TL_OK);
  assert_int_equal(tl_generator_run(g, "abc", &p, collect, &again, &st, NULL), TL_OK);
  assert_int_equal(st.new_tokens, 40);
  tl_generator_free(g);
  tl_buf_free(&first);
  assert_same_and_free(&fresh, &again);
  free(dir);
}

static int stop_at_once(void *user) {
  (void)user;
  return 1;
}

static void wrong_uses_are_refused(void **state) {
  (void)state;
  char prompt[MAX_LEN + 1], *gpt2 = in_dir("gpt2"), *encoder = in_dir("encoder"),
                            *none = in_dir("none");
  memset(prompt, 'a', MAX_LEN);
  prompt[MAX_LEN - 1] = 0; /* with <s> the whole length */
  tl_sampling p = {.max_tokens = 5, .top_p = 1};
  tl_generate_stats st;
  tl_err err = {0};
  assert_int_equal(tl_generate(g_ctx, gpt2, prompt, &p, NULL, NULL, &st, &err), TL_CONFIG);
  assert_non_null(strstr(err.msg, "320"));
  prompt[MAX_LEN - 2] = 0;
  assert_int_equal(tl_generate(g_ctx, gpt2, prompt, &p, NULL, NULL, &st, &err), TL_OK);
  assert_int_equal(tl_generate(g_ctx, encoder, "a", &p, NULL, NULL, &st, &err), TL_CONFIG);
  assert_non_null(strstr(err.msg, "fill"));
  assert_int_equal(tl_generate(g_ctx, none, "a", &p, NULL, NULL, &st, &err), TL_NOINPUT);
  assert_non_null(strstr(err.msg, none));

  tl_ctx *stopped = NULL;
  assert_int_equal(
      tl_ctx_new(&(tl_ctx_options){.n_threads = 1, .cancel = stop_at_once}, &stopped, NULL), TL_OK);
  assert_int_equal(tl_generate(stopped, gpt2, "a", &p, NULL, NULL, &st, &err), TL_PREEMPTED);
  assert_int_equal(st.new_tokens, 1);
  tl_ctx_free(stopped);

  char *tok = tl_path_join(gpt2, "tokenizer.json");
  assert_int_equal(unlink(tok), 0);
  assert_int_equal(tl_generate(g_ctx, gpt2, "a", &p, NULL, NULL, &st, &err), TL_NOINPUT);
  assert_int_equal(tl_tokenizer_save(g_tok, gpt2, NULL), TL_OK);
  free(tok);
  free(gpt2);
  free(encoder);
  free(none);
}

/* A config.json from elsewhere is refused at once, whatever it asks for. */
static void hostile_configs_are_refused(void **state) {
  (void)state;
  static const char *const keys[] = {"n_embd",
                                     "n_layer",
                                     "n_head",
                                     "n_inner",
                                     "n_positions",
                                     "vocab_size",
                                     "layer_norm_epsilon",
                                     "model_type"};
  char *gpt2 = in_dir("gpt2"), *path = tl_path_join(gpt2, "config.json");
  tl_model *m = NULL;
  json_t *good = json_load_file(path, 0, NULL);
  assert_non_null(good);
  for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
    json_t *const values[] = {json_integer(-1),         json_integer(1 << 28),
                              json_integer(INT32_MAX),  json_integer(INT64_MAX),
                              json_string("a\xc3\xa4"), json_array()};
    for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
      json_t *bad = json_deep_copy(good);
      tl_err err = {0};
      json_object_set_new(bad, keys[k], values[v]);
      assert_int_equal(json_dump_file(bad, path, 0), 0);
      json_decref(bad);
      tl_status s = tl_model_load(gpt2, false, &m, &err);
      if (!strcmp(keys[k], "layer_norm_epsilon") && v < 4) {
        assert_int_equal(s, TL_OK); /* any number will do */
        tl_model_free(m);
        continue;
      }
      if (s != TL_DATA && s != TL_CONFIG) fail_msg("%s, value %zu: %d %s", keys[k], v, s, err.msg);
      assert_true(*err.msg);
    }
  }
  assert_int_equal(json_dump_file(good, path, 0), 0);
  assert_int_equal(tl_model_load(gpt2, false, &m, NULL), TL_OK);
  tl_model_free(m);
  json_decref(good);
  free(path);
  free(gpt2);
}

/* --- fill ----------------------------------------------------------------------------------- */

typedef struct filled {
  int masks, n;
  char first[2][64];
} filled;

static void check_choices(void *user, int mask, const tl_fill_choice *c, int n) {
  filled *f = user;
  double sum = 0;
  assert_int_equal(mask, f->masks++);
  assert_int_equal(n, f->n);
  for (int i = 0; i < n; i++) {
    assert_true(c[i].probability > 0 && *c[i].token);
    assert_true(i == 0 || c[i].probability <= c[i - 1].probability);
    for (int j = 0; j < i; j++) assert_string_not_equal(c[i].token, c[j].token);
    sum += c[i].probability;
  }
  assert_true(sum <= 1 + 1e-5);
  assert_true(n < TL_FILL_MAX || sum > TL_FILL_MAX / 320.0); /* better than chance */
  if (mask < 2) strcpy(f->first[mask], c[0].token);
}

static void fill_gives_sorted_choices(void **state) {
  (void)state;
  const char *const models[] = {"encoder", "bert"};
  const char *mask = tl_tokenizer_token(g_tok, (uint32_t)tl_tokenizer_special(g_tok, TL_TOK_MASK));
  char text[128];
  snprintf(text, sizeof text, "%sa small b%srd", mask, mask);
  for (size_t m = 0; m < 2; m++) {
    char *dir = in_dir(models[m]);
    filled f = {.n = 5}, all = {.n = TL_FILL_MAX};
    tl_err err = {0};
    if (tl_fill(g_ctx, dir, text, 5, check_choices, &f, &err) != TL_OK) fail_msg("%s", err.msg);
    assert_int_equal(f.masks, 2);
    assert_int_equal(tl_fill(g_ctx, dir, text, TL_FILL_MAX, check_choices, &all, &err), TL_OK);
    assert_string_equal(f.first[0], all.first[0]);
    assert_string_equal(f.first[1], all.first[1]);
    free(dir);
  }
}

static void fill_reads_the_row_that_predicts(void **state) {
  (void)state;
  const char *const models[] = {"encoder", "bert", "llama-hybrid", "encoder-hybrid"};
  uint32_t ids[] = {0, 0, 0, 0, 0}, *text = NULL; /* <s> a <mask> c </s> */
  size_t n = 0, cap = 0;
  assert_int_equal(tl_tokenizer_encode(g_tok, "ac", 2, &text, &n, &cap, NULL), TL_OK);
  ids[0] = (uint32_t)tl_tokenizer_special(g_tok, TL_TOK_BOS);
  ids[1] = text[0];
  ids[2] = (uint32_t)tl_tokenizer_special(g_tok, TL_TOK_MASK);
  ids[3] = text[1];
  ids[4] = (uint32_t)tl_tokenizer_special(g_tok, TL_TOK_EOS);
  for (size_t m = 0; m < 4; m++) {
    reference r = {0};
    filled f = {.n = 1};
    char *dir = in_dir(models[m]);
    open_reference(&r, models[m]);
    uint32_t want = likeliest(&r, ids, 5, false, m < 2 ? 2 : 1);
    assert_int_equal(tl_fill(g_ctx, dir, "a<mask>c", 1, check_choices, &f, NULL), TL_OK);
    assert_string_equal(f.first[0], tl_tokenizer_token(g_tok, want));
    tl_graph_free(r.g);
    tl_model_free(r.m);
    free(dir);
  }
  free(text);
}

static void fill_refuses_what_it_cannot_do(void **state) {
  (void)state;
  char *dir = in_dir("encoder"), *none = in_dir("none"), text[MAX_LEN + 8] = "<mask>";
  filled f = {0};
  tl_err err = {0};
  assert_int_equal(tl_fill(g_ctx, dir, "no mask here", 3, check_choices, &f, &err), TL_DATA);
  assert_non_null(strstr(err.msg, "<mask>"));
  memset(text + 6, 'a', MAX_LEN - 2); /* <s> <mask> 318 bytes </s> */
  text[6 + MAX_LEN - 2] = 0;
  assert_int_equal(tl_fill(g_ctx, dir, text, 3, check_choices, &f, &err), TL_DATA);
  assert_non_null(strstr(err.msg, "320"));
  assert_int_equal(tl_fill(g_ctx, dir, "<mask>", 0, check_choices, &f, &err), TL_CONFIG);
  assert_int_equal(tl_fill(g_ctx, dir, "<mask>", TL_FILL_MAX + 1, check_choices, &f, &err),
                   TL_CONFIG);
  char *gpt2 = in_dir("gpt2");
  assert_int_equal(tl_fill(g_ctx, gpt2, "<mask>", 3, check_choices, &f, &err), TL_CONFIG);
  assert_non_null(strstr(err.msg, "generate"));
  free(gpt2);
  assert_int_equal(tl_fill(g_ctx, none, "<mask>", 3, check_choices, &f, &err), TL_NOINPUT);
  assert_int_equal(f.masks, 0);
  free(dir);
  free(none);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(cache_gives_the_text_of_the_whole_prefix),
      cmocka_unit_test(streamed_text_is_the_text_of_all_tokens),
      cmocka_unit_test(top_1_is_greedy),
      cmocka_unit_test(draws_follow_the_weights),
      cmocka_unit_test(same_seed_same_text_on_any_threads),
      cmocka_unit_test(a_generator_serves_many_texts),
      cmocka_unit_test(wrong_uses_are_refused),
      cmocka_unit_test(hostile_configs_are_refused),
      cmocka_unit_test(fill_gives_sorted_choices),
      cmocka_unit_test(fill_reads_the_row_that_predicts),
      cmocka_unit_test(fill_refuses_what_it_cannot_do),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
