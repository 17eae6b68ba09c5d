/* Nothing is allocated by a size that the file states before tensors of that size are seen. */
#include "models/gguf_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/gguf_names.h"

typedef struct job {
  const char *path;
  tl_gguf g;
  const tl_gguf_arch *a;
  tl_model_config c;
} job;

static const tl_gguf_kv *find(const job *j, const char *rest, char room[96]) {
  snprintf(room, 96, "%s.%s", j->a->name, rest);
  return tl_gguf_find(&j->g, room);
}

/* *out keeps its value where the key is absent and least is 0. */
static tl_status get_int(const job *j, const char *rest, int64_t least, int64_t *out, tl_err *err) {
  char key[96];
  const tl_gguf_kv *kv = find(j, rest, key);
  if (!kv && least == 0) return TL_OK;
  bool whole =
      kv && (kv->kind <= TL_GGUF_I32 || kv->kind == TL_GGUF_U64 || kv->kind == TL_GGUF_I64);
  double v = whole ? tl_gguf_number(kv, 0) : -1;
  if (!(v >= (double)least && v <= 1 << 24))
    return tl_fail(err, TL_DATA, "%s: %s %s; expected a whole number from %lld to %d", j->path, key,
                   kv ? "is not one" : "is missing", (long long)least, 1 << 24);
  *out = (int64_t)v;
  return TL_OK;
}

/* An f32 as the shortest decimal that stands for it: 1e-5 rather than 9.99999974737875e-06. */
static double shortest(double v) {
  char text[32];
  snprintf(text, sizeof text, "%.6g", v);
  double decimal = strtod(text, NULL);
  return (float)decimal == (float)v ? decimal : v;
}

static tl_status get_real(const job *j, const char *rest, bool needed, double *out, tl_err *err) {
  char key[96];
  const tl_gguf_kv *kv = find(j, rest, key);
  if (!kv && !needed) return TL_OK;
  bool real = kv && (kv->kind == TL_GGUF_F32 || kv->kind == TL_GGUF_F64);
  double v = real ? tl_gguf_number(kv, 0) : 0;
  if (!(v > 0 && v < 1e12))
    return tl_fail(err, TL_DATA, "%s: %s %s; expected a real number above 0", j->path, key,
                   kv ? "is not one" : "is missing");
  *out = shortest(v);
  return TL_OK;
}

static tl_status find_arch(job *j, tl_err *err) {
  const tl_gguf_kv *kv = tl_gguf_find(&j->g, "general.architecture");
  if (!kv || kv->kind != TL_GGUF_STRING)
    return tl_fail(err, TL_DATA, "%s: general.architecture is missing", j->path);
  tl_gguf_str name = tl_gguf_string(kv, 0);
  for (const tl_gguf_arch *a = tl_gguf_archs; a->arch; a++)
    if (tl_gguf_is(name, a->name)) j->a = a;
  if (j->a) return TL_OK;
  return tl_fail(err, TL_DATA,
                 "%s: general.architecture is \"%.*s\"; supported are gpt2, llama and qwen3",
                 j->path, (int)(name.n < 60 ? name.n : 60), name.s);
}

static tl_status read_scaling(job *j, tl_err *err) {
  char key[96];
  const tl_gguf_kv *kv = find(j, "rope.scaling.type", key);
  if (!kv) return TL_OK;
  tl_gguf_str type = kv->kind == TL_GGUF_STRING ? tl_gguf_string(kv, 0) : (tl_gguf_str){"", 0};
  if (tl_gguf_is(type, "none")) return TL_OK;
  if (!tl_gguf_is(type, "linear"))
    return tl_fail(err, TL_DATA, "%s: %s is \"%.*s\"; supported are none and linear", j->path, key,
                   (int)(type.n < 60 ? type.n : 60), type.s);
  return get_real(j, "rope.scaling.factor", true, &j->c.rope_factor, err);
}

static tl_status read_keys(job *j, tl_err *err) {
  tl_model_config *c = &j->c;
  bool gpt2 = j->a->arch == &tl_arch_gpt2;
  *c = (tl_model_config){.qk_norm = j->a->qk_norm, .act = "auto"};
  snprintf(c->type, sizeof c->type, "%s", j->a->arch->name);
  TL_TRY(get_int(j, "embedding_length", 1, &c->dim, err));
  TL_TRY(get_int(j, "block_count", 1, &c->layers, err));
  TL_TRY(get_int(j, "context_length", 1, &c->max_len, err));
  TL_TRY(get_int(j, "feed_forward_length", 1, &c->ff, err));
  TL_TRY(get_int(j, "attention.head_count", 1, &c->heads, err));
  c->kv_heads = c->heads;
  TL_TRY(get_int(j, "attention.head_count_kv", 0, &c->kv_heads, err));
  TL_TRY(get_real(j, gpt2 ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon",
                  true, &c->norm_eps, err));
  if (gpt2) return TL_OK;
  static const char *const widths[] = {"attention.key_length", "attention.value_length",
                                       "rope.dimension_count"};
  for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
    int64_t hd = c->dim / c->heads;
    TL_TRY(get_int(j, widths[i], 0, &hd, err));
    if (hd * c->heads != c->dim)
      return tl_fail(err, TL_DATA,
                     "%s: %s.%s is %lld; supported are heads that share the %lld "
                     "columns (%lld each)",
                     j->path, j->a->name, widths[i], (long long)hd, (long long)c->dim,
                     (long long)(c->dim / c->heads));
  }
  c->rope_theta = 10000; /* llama.cpp's, where the key is absent */
  TL_TRY(get_real(j, "rope.freq_base", false, &c->rope_theta, err));
  return read_scaling(j, err);
}

/* --- tensors -----------------------------------------------------------------------------------
 */

/* ndim 1: cols is not looked at. */
static tl_status get_tensor(const job *j, const char *name, int ndim, int64_t rows, int64_t cols,
                            const tl_gguf_tensor **out, tl_err *err) {
  const tl_gguf_tensor *t = *out = tl_gguf_find_tensor(&j->g, name);
  if (!t) return tl_fail(err, TL_DATA, "%s: tensor '%s' is missing", j->path, name);
  char expected[48], found[48];
  snprintf(expected, sizeof expected, ndim > 1 ? "[%lld, %lld]" : "[%lld]", (long long)rows,
           (long long)cols);
  snprintf(found, sizeof found, t->ndim > 1 ? "[%lld, %lld]" : "[%lld]", (long long)t->shape[0],
           (long long)t->shape[1]);
  if (t->ndim != ndim || t->shape[0] != rows || (ndim > 1 && t->shape[1] != cols))
    return tl_fail(err, TL_DATA, "%s: tensor '%s' has %d axes, %s%s; expected %s", j->path, name,
                   t->ndim, found, t->ndim > 2 ? " first" : "", expected);
  return TL_OK;
}

static tl_status get_values(const job *j, const tl_gguf_tensor *t, float *out, tl_err *err) {
  tl_err inner = {TL_OK, ""};
  tl_status s = tl_gguf_read_f32(t, out, &inner);
  return s == TL_OK ? s : tl_fail(err, s, "%s: %s", j->path, inner.msg);
}

static bool has(const job *j, const char *name) {
  return tl_gguf_find_tensor(&j->g, name) != NULL;
}

/* The matrices that make up most of a model are there before it is allocated, so that it takes no
 * more than a small multiple of the file. Sets what tensors say of the sizes. */
static tl_status check_sizes(job *j, tl_err *err) {
  tl_model_config *c = &j->c;
  const tl_gguf_tensor *t = tl_gguf_find_tensor(&j->g, "token_embd.weight");
  c->vocab = t ? t->shape[0] : 0;
  TL_TRY(get_tensor(j, "token_embd.weight", 2, c->vocab, c->dim, &t, err));
  if (j->a->arch == &tl_arch_gpt2)
    TL_TRY(get_tensor(j, "position_embd.weight", 2, c->max_len, c->dim, &t, err));
  for (int64_t i = 0; i < c->layers; i++) {
    char name[64];
    snprintf(name, sizeof name, "blk.%lld.ffn_up.weight", (long long)i);
    TL_TRY(get_tensor(j, name, 2, c->ff, c->dim, &t, err));
    snprintf(name, sizeof name, "blk.%lld.attn_output.weight", (long long)i);
    TL_TRY(get_tensor(j, name, 2, c->dim, c->dim, &t, err));
  }
  c->tie = !has(j, "output.weight");
  c->attn_bias = j->a->arch == &tl_arch_llama && has(j, "blk.0.attn_q.bias");
  c->mlp_bias = j->a->arch == &tl_arch_llama && has(j, "blk.0.ffn_up.bias");
  const tl_gguf_kv *tokens = tl_gguf_find(&j->g, "tokenizer.ggml.tokens");
  if (!tokens || tokens->n <= (uint64_t)c->vocab) return TL_OK;
  return tl_fail(err, TL_DATA,
                 "%s: tokenizer.ggml.tokens has %llu elements; token_embd.weight has %lld rows",
                 j->path, (unsigned long long)tokens->n, (long long)c->vocab);
}

/* Llama 3's rule from the factors that llama.cpp keeps of it: published models have low 1 and
 * high 4 and differ in the largest factor and the original length, a power of two. */
static tl_status read_rope_factors(job *j, tl_err *err) {
  const tl_gguf_tensor *t;
  int64_t half = j->c.dim / j->c.heads / 2;
  if (!has(j, TL_GGUF_ROPE_FACTORS)) return TL_OK;
  TL_TRY(get_tensor(j, TL_GGUF_ROPE_FACTORS, 1, half, 1, &t, err));
  float *f = malloc(((size_t)half + 1) * sizeof *f);
  if (!f) return tl_fail(err, TL_NOMEM, "%s: out of memory", j->path);
  tl_status s = get_values(j, t, f, err);
  tl_model_config c = j->c;
  bool fits = false;
  for (int64_t original = 16; s == TL_OK && !fits && original <= 1 << 20; original *= 2) {
    c.rope_factor = 1;
    for (int64_t i = 0; i < half; i++) c.rope_factor = fmax(c.rope_factor, f[i]);
    c.rope_factor = shortest(c.rope_factor);
    c.rope_low = 1;
    c.rope_high = 4;
    c.rope_original = (double)original;
    fits = true;
    for (int64_t i = 0; i < half; i++)
      fits = fits && fabsf(tl_gguf_rope_factor(&c, i) - f[i]) <= 1e-5f * f[i];
  }
  free(f);
  if (s == TL_OK && !fits)
    s = tl_fail(err, TL_DATA,
                "%s: tensor '%s' is not of Llama 3's rule with factors 1 and 4, the only one "
                "supported",
                j->path, TL_GGUF_ROPE_FACTORS);
  j->c = c;
  return s;
}

static tl_status read_param(const job *j, tl_param *p, const tl_gguf_name *map, const char *name,
                            tl_err *err) {
  int64_t rows = p->shape[0], cols = p->ndim > 1 ? p->shape[1] : 1;
  bool turn = map->how == TL_GGUF_TRANSPOSED && p->ndim == 2;
  bool rotate = j->a->interleaved && (map->how == TL_GGUF_ROPE_Q || map->how == TL_GGUF_ROPE_K);
  const tl_gguf_tensor *t;
  TL_TRY(get_tensor(j, name, p->ndim, turn ? cols : rows, turn ? rows : cols, &t, err));
  if (!turn && !rotate) return get_values(j, t, p->data, err);
  float *x = malloc((size_t)(rows * cols) * sizeof *x);
  if (!x) return tl_fail(err, TL_NOMEM, "%s: out of memory", name);
  tl_status s = get_values(j, t, x, err);
  if (s == TL_OK && turn) tl_gguf_transpose(x, cols, rows, p->data);
  if (s == TL_OK && rotate)
    tl_gguf_interleave(x, map->how == TL_GGUF_ROPE_Q ? j->c.heads : j->c.kv_heads, rows, cols, true,
                       p->data);
  free(x);
  return s;
}

/* A tensor that no parameter takes would be part of what the file's model computes; the output
 * layer is, of a language model only. */
static tl_status check_unused(const job *j, const tl_model *m, tl_err *err) {
  char name[TL_GGUF_NAME_ROOM];
  for (size_t i = 0; i < j->g.n_tensors; i++) {
    tl_gguf_str s = j->g.tensor[i].name;
    bool used = (tl_gguf_is(s, TL_GGUF_ROPE_FACTORS) && j->a->arch == &tl_arch_llama) ||
                tl_gguf_is(s, "output.weight");
    for (int k = 0; !used && k < m->params.n; k++)
      used = tl_gguf_name_of(j->a, m->params.p[k]->name, name) && tl_gguf_is(s, name);
    if (!used)
      return tl_fail(err, TL_DATA, "%s: tensor '%.*s' has no place in a model of type %s", j->path,
                     (int)s.n, s.s, j->a->name);
  }
  return TL_OK;
}

static tl_status read_all(job *j, tl_err *err) {
  TL_TRY(tl_gguf_open(j->path, &j->g, err));
  TL_TRY(find_arch(j, err));
  TL_TRY(read_keys(j, err));
  TL_TRY(check_sizes(j, err));
  return j->a->arch == &tl_arch_llama ? read_rope_factors(j, err) : TL_OK;
}

tl_status tl_gguf_read_config(const char *path, tl_model_config *out, tl_err *err) {
  job j = {.path = path};
  tl_status s = read_all(&j, err);
  if (s == TL_OK) *out = j.c;
  tl_gguf_close(&j.g);
  return s;
}

static tl_status read_params(const job *j, tl_model *m, bool changed, tl_err *err) {
  char name[TL_GGUF_NAME_ROOM];
  if (m->arch != j->a->arch || m->c.qk_norm != j->a->qk_norm)
    return tl_fail(err, TL_CONFIG, "%s: a model of type %s; expected one of type %s", j->path,
                   j->a->name, m->arch->name);
  TL_TRY(check_unused(j, m, err));
  for (int i = 0; i < m->params.n; i++) {
    tl_param *p = m->params.p[i];
    const tl_gguf_name *map = tl_gguf_name_of(j->a, p->name, name);
    if (map && (!changed || p->flags & TL_PARAM_CHANGED)) TL_TRY(read_param(j, p, map, name, err));
    p->flags &= changed ? ~(unsigned)TL_PARAM_CHANGED : ~0u;
  }
  tl_params_changed(&m->params);
  return TL_OK;
}

tl_status tl_gguf_read_weights(tl_model *m, const char *path, bool changed, tl_err *err) {
  job j = {.path = path};
  tl_status s = read_all(&j, err);
  if (s == TL_OK) s = read_params(&j, m, changed, err);
  tl_gguf_close(&j.g);
  return s;
}

tl_status tl_gguf_refuse(const char *path, tl_err *err) {
  if (!tl_gguf_is_file(path)) return TL_OK;
  return tl_fail(err, TL_CONFIG, "%s is a GGUF file; make a folder of it first: tilth import %s",
                 path, path);
}
