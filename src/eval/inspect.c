/* The document of an inspection. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/rng.h"
#include "eval/inspect.h"
#include "tilth/task_data.h"

enum {
  LENGTH = 128,
  WINDOWS = 8,
  GRADIENT_WINDOWS = 4,
  HALF = 32, /* tokens of a random sequence, which is repeated once */
  SEQUENCES = 8,
  MAX_WORDS = 16,
  NEAR = 6,
};

typedef struct inspection {
  const tl_inspect_options *o;
  tl_ctx *ctx;
  tl_tokenizer *tok;
  tl_model *model;
  tl_inspector see;
  int64_t length;
  int32_t *shown; /* the text of the maps */
  int64_t n_shown;
  tl_inspect_window *w;
  int64_t n_windows;
  json_t *doc;
} inspection;

static tl_status no_memory(tl_err *err) {
  return tl_fail(err, TL_NOMEM, "inspection: out of memory");
}

/* --- tokens ------------------------------------------------------------------------------------
 */

/* Appends the ids of a text with its first and last special token. */
static tl_status encode(const tl_tokenizer *tok, const char *text, tl_ids *out, tl_err *err) {
  uint32_t *ids = NULL;
  size_t n = 0, cap = 0;
  int bos = tl_tokenizer_special(tok, TL_TOK_BOS), eos = tl_tokenizer_special(tok, TL_TOK_EOS);
  tl_status s = tl_tokenizer_encode(tok, text, strlen(text), &ids, &n, &cap, err);
  if (bos >= 0) tl_ids_push(out, (uint32_t)bos);
  for (size_t i = 0; s == TL_OK && i < n; i++) tl_ids_push(out, ids[i]);
  if (eos >= 0) tl_ids_push(out, (uint32_t)eos);
  free(ids);
  return s == TL_OK && out->oom ? no_memory(err) : s;
}

/* Decoders: the next token. Encoders: 15 % of the tokens, masked (at least one). */
static void make_targets(const inspection *x, tl_inspect_window *w, int64_t index) {
  int mask = tl_tokenizer_special(x->tok, TL_TOK_MASK);
  for (int64_t i = 0; i < w->n; i++) w->target[i] = -1;
  if (x->see.causal) {
    for (int64_t i = 0; i + 1 < w->n; i++) w->target[i] = w->token[i + 1];
    return;
  }
  tl_rng r = tl_rng_make(x->o->seed, TL_STREAM_MASK, (uint32_t)index, 0);
  int64_t first = x->model->c.shifted,
          sure = first + (int64_t)tl_rng_below(&r, (uint64_t)(w->n - first));
  for (int64_t i = first; i < w->n; i++) {
    if (tl_rng_below(&r, 100) >= 15 && i != sure) continue;
    w->target[i - first] = w->token[i];
    w->token[i] = mask;
  }
}

static tl_status cut_windows(inspection *x, const tl_ids *ids, int64_t most, tl_err *err) {
  int64_t n = (int64_t)ids->len / x->length;
  int64_t length = n ? x->length : (int64_t)ids->len;
  if (n == 0) n = 1;
  if (n > most) n = most;
  if (length < 4)
    return tl_fail(err, TL_DATA, "%lld tokens are too few to measure on; at least 4 are needed",
                   (long long)length);
  x->w = calloc((size_t)n, sizeof *x->w);
  if (!x->w) return no_memory(err);
  for (; x->n_windows < n; x->n_windows++) {
    tl_inspect_window *w = &x->w[x->n_windows];
    w->n = length;
    w->token = malloc(2 * (size_t)length * sizeof *w->token);
    if (!w->token) return no_memory(err);
    w->target = w->token + length;
    for (int64_t i = 0; i < length; i++)
      w->token[i] = (int32_t)ids->data[x->n_windows * length + i];
    make_targets(x, w, x->n_windows);
  }
  return TL_OK;
}

static tl_status show(inspection *x, const char *text, tl_err *err) {
  tl_ids ids = {0};
  tl_status s = encode(x->tok, text, &ids, err);
  int64_t n = (int64_t)ids.len < TL_INSPECT_MAP ? (int64_t)ids.len : TL_INSPECT_MAP;
  x->shown = malloc(((size_t)n + 1) * sizeof *x->shown);
  if (s == TL_OK && !x->shown) s = no_memory(err);
  for (int64_t i = 0; s == TL_OK && i < n; i++) x->shown[x->n_shown++] = (int32_t)ids.data[i];
  tl_ids_free(&ids);
  if (s == TL_OK && n == 0) s = tl_fail(err, TL_DATA, "the text has no token in this tokenizer");
  return s;
}

static tl_status read_text(inspection *x, tl_err *err) {
  const tl_inspect_options *o = x->o;
  tl_task_data d = {0};
  tl_ids ids = {0};
  tl_status s = TL_OK;
  if (o->data) s = tl_task_read(o->data, &(tl_task_options){.kind = TL_TASK_TEXTS}, &d, err);
  if (s == TL_OK) s = show(x, o->text ? o->text : d.text[0], err);
  int64_t most = o->windows ? o->windows : WINDOWS;
  if (s == TL_OK && !o->data) s = encode(x->tok, o->text, &ids, err);
  for (size_t i = 0; s == TL_OK && i < d.n && (int64_t)ids.len < most * x->length; i++)
    s = encode(x->tok, d.text[i], &ids, err);
  if (s == TL_OK) s = cut_windows(x, &ids, most, err);
  tl_ids_free(&ids);
  tl_task_data_free(&d);
  return s;
}

static json_t *token_json(const inspection *x, int64_t id) {
  const char *t = tl_tokenizer_token(x->tok, (uint32_t)id);
  json_t *s = t ? json_string(t) : NULL;
  char plain[24];
  if (s) return s;
  snprintf(plain, sizeof plain, "<%lld>", (long long)id); /* a part of a character */
  return json_string(plain);
}

/* --- parts of the document ---------------------------------------------------------------------
 */

static json_t *rounded(double v) {
  return json_real(round(v * 1e6) / 1e6);
}

static json_t *per_head(const inspection *x, const double *v) {
  json_t *layers = json_array();
  for (int l = 0; l < x->see.layers; l++) {
    json_t *heads = json_array();
    for (int h = 0; h < x->see.heads; h++)
      json_array_append_new(heads, rounded(v[l * x->see.heads + h]));
    json_array_append_new(layers, heads);
  }
  return layers;
}

static json_t *one_map(const inspection *x, int layer, int head, const float *map) {
  int64_t n = x->n_shown;
  double entropy = 0, previous = 0, first = 0;
  json_t *rows = json_array();
  for (int64_t q = 0; q < n; q++) {
    json_t *row = json_array();
    for (int64_t k = 0; k < n; k++) {
      double p = (double)map[q * n + k];
      if (p > 0) entropy -= p * log(p) / (double)n;
      json_array_append_new(row, json_real(round(p * 1e3) / 1e3));
    }
    if (q > 0) previous += (double)map[q * n + q - 1] / (double)(n - 1);
    first += (double)map[q * n] / (double)n;
    json_array_append_new(rows, row);
  }
  return json_pack("{s:i, s:i, s:o, s:o, s:o, s:o}", "layer", layer, "head", head, "entropy",
                   rounded(entropy), "previous", rounded(previous), "first", rounded(first), "map",
                   rows);
}

static tl_status attention(inspection *x, tl_err *err) {
  float *map = malloc((size_t)(x->n_shown * x->n_shown) * sizeof *map);
  if (!map) return no_memory(err);
  json_t *tokens = json_array(), *maps = json_array();
  for (int64_t i = 0; i < x->n_shown; i++)
    json_array_append_new(tokens, token_json(x, x->shown[i]));
  tl_inspector_run(&x->see, x->shown, x->n_shown);
  for (int l = 0; l < x->see.layers; l++)
    for (int h = 0; h < x->see.heads; h++) {
      tl_inspector_attention(&x->see, l, h, map);
      json_array_append_new(maps, one_map(x, l, h, map));
    }
  free(map);
  json_object_set_new(x->doc, "attention",
                      json_pack("{s:o, s:o}", "tokens", tokens, "heads", maps));
  return TL_OK;
}

static tl_status induction(inspection *x, tl_err *err) {
  tl_induction r;
  if (!x->see.causal) return TL_OK; /* an encoder sees both halves at once */
  int64_t half = x->see.max / 2 < HALF ? x->see.max / 2 : HALF;
  TL_TRY(tl_inspect_induction(&x->see, tl_tokenizer_vocab_size(x->tok), half, SEQUENCES, x->o->seed,
                              &r, err));
  double best = 0;
  for (int i = 0; i < x->see.layers * x->see.heads; i++)
    if (r.induction[i] > best) best = r.induction[i];
  json_object_set_new(
      x->doc, "induction",
      json_pack("{s:I, s:i, s:o, s:o, s:o, s:o, s:o, s:o}", "length", (json_int_t)half, "sequences",
                SEQUENCES, "score", rounded(best), "heads", per_head(x, r.induction), "previous",
                per_head(x, r.previous), "duplicate", per_head(x, r.duplicate), "loss_first",
                rounded(r.loss_first), "loss_repeat", rounded(r.loss_repeat)));
  tl_induction_free(&r);
  return TL_OK;
}

/* Mean loss over all windows; position (NULL: not wanted) gets the sums and counts by row. */
static double mean_loss(inspection *x, double *loss, double *sum, double *count) {
  double total = 0, n = 0;
  for (int64_t k = 0; k < x->n_windows; k++) {
    const tl_inspect_window *w = &x->w[k];
    tl_inspector_run(&x->see, w->token, w->n);
    tl_inspector_losses(&x->see, w->target, loss);
    for (int64_t i = 0; i < w->n; i++) {
      bool counts = w->target[i] >= 0;
      total += loss[i];
      n += counts;
      if (sum) sum[i] += loss[i];
      if (count) count[i] += counts;
    }
  }
  return total / n;
}

static tl_status importance(inspection *x, double *loss, double base, tl_err *err) {
  int all = x->see.layers * x->see.heads;
  double *rise = calloc((size_t)all, sizeof *rise);
  float *kept = malloc((size_t)(x->model->c.dim * x->model->c.dim) * sizeof *kept);
  tl_status s = rise && kept ? TL_OK : no_memory(err);
  for (int i = 0; s == TL_OK && i < all; i++) {
    tl_inspector_ablate(&x->see, i / x->see.heads, i % x->see.heads, kept);
    rise[i] = mean_loss(x, loss, NULL, NULL) - base;
    tl_inspector_restore(&x->see, i / x->see.heads, i % x->see.heads, kept);
    if (tl_ctx_cancelled(x->ctx)) s = tl_fail(err, TL_PREEMPTED, "stopped by request");
  }
  if (s == TL_OK)
    json_object_set_new(x->doc, "importance",
                        json_pack("{s:o, s:o}", "loss", rounded(base), "heads", per_head(x, rise)));
  free(rise);
  free(kept);
  return s;
}

static tl_status losses(inspection *x, tl_err *err) {
  size_t n = (size_t)x->see.max;
  double *loss = calloc(3 * n, sizeof *loss);
  if (!loss) return no_memory(err);
  double *sum = loss + n, *count = sum + n, base = mean_loss(x, loss, sum, count);
  json_t *list = json_array();
  for (int64_t i = 0; i < x->w[0].n; i++)
    json_array_append_new(list, count[i] > 0 ? rounded(sum[i] / count[i]) : json_null());
  json_object_set_new(x->doc, "position",
                      json_pack("{s:I, s:o, s:o}", "windows", (json_int_t)x->n_windows, "loss",
                                rounded(base), "by_position", list));
  tl_status s = importance(x, loss, base, err);
  free(loss);
  return s;
}

static tl_status gradients(inspection *x, tl_err *err) {
  int64_t groups = x->model->n_blocks + 2;
  int64_t n = x->n_windows < GRADIENT_WINDOWS ? x->n_windows : GRADIENT_WINDOWS;
  double *norm = calloc((size_t)groups, sizeof *norm);
  json_t *out = json_object(), *names = json_array();
  tl_status s = norm ? TL_OK : no_memory(err);
  for (int64_t i = 0; i < groups; i++) {
    char name[32];
    snprintf(name, sizeof name, "layer %lld", (long long)i - 1);
    json_array_append_new(names, json_string(i == 0            ? "embeddings"
                                             : i == groups - 1 ? "output"
                                                               : name));
  }
  json_object_set_new(out, "groups", names);
  for (int cut = 0; s == TL_OK && cut < 2; cut++) {
    s = tl_inspect_gradients(x->ctx, x->model, x->w, n, cut, norm, err);
    json_t *list = json_array();
    for (int64_t i = 0; s == TL_OK && i < groups; i++)
      json_array_append_new(list, isfinite(norm[i]) ? json_real(norm[i]) : json_null());
    json_object_set_new(out, cut ? "cut" : "norm", list);
  }
  free(norm);
  json_object_set_new(x->doc, "gradients", out);
  return s;
}

/* --- neighbours --------------------------------------------------------------------------------
 */

static double dot(const float *a, const float *b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
  return sum;
}

static json_t *near_tokens(const inspection *x, int32_t id) {
  const tl_param *e = x->model->tok_embed;
  int64_t d = x->model->c.dim, vocab = tl_tokenizer_vocab_size(x->tok);
  const float *own = e->data + id * d;
  struct {
    int64_t id;
    double cosine;
  } best[NEAR];
  int have = 0;
  for (int64_t v = 0; v < vocab; v++) {
    const float *row = e->data + v * d;
    double norm = sqrt(dot(row, row, d) * dot(own, own, d));
    double cosine = norm > 0 ? dot(row, own, d) / norm : 0;
    if (v == id || (have == NEAR && cosine <= best[NEAR - 1].cosine)) continue;
    int at = have < NEAR ? have++ : NEAR - 1;
    for (; at > 0 && best[at - 1].cosine < cosine; at--) best[at] = best[at - 1];
    best[at].id = v;
    best[at].cosine = cosine;
  }
  json_t *list = json_array();
  for (int i = 0; i < have; i++)
    json_array_append_new(list, json_pack("{s:o, s:o}", "token", token_json(x, best[i].id),
                                          "cosine", rounded(best[i].cosine)));
  return json_pack("{s:o, s:o}", "token", token_json(x, id), "near", list);
}

/* The first token of each word, as it is inside a text. */
static tl_status word_ids(const inspection *x, int32_t *id, int *n, tl_err *err) {
  const char *p = x->o->words;
  for (*n = 0; *p && *n < MAX_WORDS;) {
    size_t len = strcspn(p, ",");
    char word[256];
    uint32_t *ids = NULL;
    size_t count = 0, cap = 0;
    bool spaced = !strcmp(tl_tokenizer_type(x->tok), "bpe");
    snprintf(word, sizeof word, "%s%.*s", spaced ? " " : "", (int)(len < 200 ? len : 200), p);
    tl_status s = tl_tokenizer_encode(x->tok, word, strlen(word), &ids, &count, &cap, err);
    if (s == TL_OK && count > 0) id[(*n)++] = (int32_t)ids[0];
    free(ids);
    TL_TRY(s);
    p += len + (p[len] == ',');
  }
  return *n ? TL_OK : tl_fail(err, TL_DATA, "no word among those asked for has a token");
}

static tl_status neighbours(inspection *x, tl_err *err) {
  int32_t id[MAX_WORDS];
  int n = 0;
  if (x->o->words) TL_TRY(word_ids(x, id, &n, err));
  for (int64_t i = 0; !x->o->words && i < x->n_shown && n < MAX_WORDS / 2; i++) {
    bool special = false, seen = false;
    for (int r = 0; r < TL_TOK_N_SPECIAL; r++)
      special = special || tl_tokenizer_special(x->tok, (tl_special)r) == x->shown[i];
    for (int k = 0; k < n; k++) seen = seen || id[k] == x->shown[i];
    if (!special && !seen) id[n++] = x->shown[i];
  }
  json_t *list = json_array();
  for (int i = 0; i < n; i++) json_array_append_new(list, near_tokens(x, id[i]));
  json_object_set_new(x->doc, "neighbours", list);
  return TL_OK;
}

/* --- the whole ---------------------------------------------------------------------------------
 */

static tl_status open_model(inspection *x, const char *dir, tl_err *err) {
  tl_model_config c;
  TL_TRY(tl_model_tokenizer(dir, &x->tok, err));
  TL_TRY(tl_model_read_config(dir, &c, err));
  TL_TRY(tl_model_without_rows(&c, dir, err));
  c.dropout = c.attention_dropout = 0;
  TL_TRY(tl_model_new(&c, 0, true, &x->model, err));
  TL_TRY(tl_model_read_weights(x->model, dir, err));
  if (tl_tokenizer_vocab_size(x->tok) > c.vocab)
    return tl_fail(err, TL_CONFIG, "%s: the tokenizer has more tokens than the model", dir);
  int64_t most = x->model->c.max_len;
  x->length = x->o->length ? x->o->length : LENGTH;
  if (x->length > most) x->length = most;
  if (x->length < 8)
    return tl_fail(err, TL_CONFIG, "windows of %lld tokens: at least 8 are needed",
                   (long long)x->length);
  int64_t max = x->length > 2 * HALF ? x->length : 2 * HALF;
  TL_TRY(tl_inspector_open(x->ctx, x->model, max < most ? max : most, &x->see, err));
  if (!x->see.causal && tl_tokenizer_special(x->tok, TL_TOK_MASK) < 0)
    return tl_fail(err, TL_DATA, "%s: the tokenizer has no mask token to measure an encoder with",
                   dir);
  return TL_OK;
}

static tl_status inspect(inspection *x, const char *dir, tl_err *err) {
  TL_TRY(open_model(x, dir, err));
  TL_TRY(read_text(x, err));
  const tl_model_config *c = &x->model->c;
  x->doc = json_pack("{s:s, s:{s:s, s:s, s:I, s:I, s:I, s:I, s:b}}", "schema", "tilth-inspect/1",
                     "model", "folder", dir, "type", c->type, "layers", (json_int_t)c->layers,
                     "heads", (json_int_t)c->heads, "dim", (json_int_t)c->dim, "parameters",
                     (json_int_t)tl_model_params(x->model), "causal", x->see.causal);
  if (!x->doc) return no_memory(err);
  TL_TRY(attention(x, err));
  TL_TRY(induction(x, err));
  TL_TRY(losses(x, err));
  TL_TRY(gradients(x, err));
  return neighbours(x, err);
}

tl_status tl_inspect(tl_ctx *ctx, const char *dir, const tl_inspect_options *o, char **json,
                     tl_err *err) {
  inspection x = {.o = o, .ctx = ctx};
  *json = NULL;
  if (!o->text && !o->data) return tl_fail(err, TL_USAGE, "give a text or a file of text");
  tl_status s = inspect(&x, dir, err);
  if (s == TL_OK) {
    *json = json_dumps(x.doc, JSON_COMPACT | JSON_REAL_PRECISION(7));
    if (!*json) s = no_memory(err);
  }
  for (int64_t k = 0; k < x.n_windows; k++) free(x.w[k].token);
  free(x.w);
  free(x.shown);
  json_decref(x.doc);
  tl_inspector_close(&x.see);
  tl_model_free(x.model);
  tl_tokenizer_free(x.tok);
  return s;
}
