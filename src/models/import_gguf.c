/* A GGUF file as a folder in Hugging Face's form: what export_gguf.c writes, the other way round.
 * Nothing is allocated by a size that the file states before tensors of that size are seen. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "models/gguf_names.h"
#include "models/gguf_tokenizer.h"
#include "tilth/convert.h"

typedef struct job {
  const char *path;
  tl_gguf g;
  const tl_gguf_arch *a;
  tl_model_config c;
  tl_model *m;
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
  return TL_OK;
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
  tl_status s = tl_gguf_read_f32(t, f, err);
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

static tl_status read_param(const job *j, tl_param *p, tl_err *err) {
  char name[TL_GGUF_NAME_ROOM];
  const tl_gguf_name *map = tl_gguf_name_of(j->a, p->name, name);
  if (!map) return tl_fail(err, TL_INTERNAL, "%s has no name in GGUF", p->name);
  int64_t rows = p->shape[0], cols = p->ndim > 1 ? p->shape[1] : 1;
  bool turn = map->how == TL_GGUF_TRANSPOSED && p->ndim == 2;
  bool rotate = j->a->interleaved && (map->how == TL_GGUF_ROPE_Q || map->how == TL_GGUF_ROPE_K);
  const tl_gguf_tensor *t;
  TL_TRY(get_tensor(j, name, p->ndim, turn ? cols : rows, turn ? rows : cols, &t, err));
  if (!turn && !rotate) return tl_gguf_read_f32(t, p->data, err);
  float *x = malloc((size_t)(rows * cols) * sizeof *x);
  if (!x) return tl_fail(err, TL_NOMEM, "%s: out of memory", name);
  tl_status s = tl_gguf_read_f32(t, x, err);
  if (s == TL_OK && turn) tl_gguf_transpose(x, cols, rows, p->data);
  if (s == TL_OK && rotate)
    tl_gguf_interleave(x, map->how == TL_GGUF_ROPE_Q ? j->m->c.heads : j->m->c.kv_heads, rows, cols,
                       true, p->data);
  free(x);
  return s;
}

/* A tensor that no parameter takes would be part of what the file's model computes. */
static tl_status check_unused(const job *j, tl_err *err) {
  char name[TL_GGUF_NAME_ROOM];
  for (size_t i = 0; i < j->g.n_tensors; i++) {
    tl_gguf_str s = j->g.tensor[i].name;
    bool used = tl_gguf_is(s, TL_GGUF_ROPE_FACTORS) && j->a->arch == &tl_arch_llama;
    for (int k = 0; !used && k < j->m->params.n; k++)
      used = tl_gguf_name_of(j->a, j->m->params.p[k]->name, name) && tl_gguf_is(s, name);
    if (!used)
      return tl_fail(err, TL_DATA, "%s: tensor '%.*s' has no place in a model of type %s", j->path,
                     (int)s.n, s.s, j->a->name);
  }
  return TL_OK;
}

static tl_status read_model(job *j, tl_err *err) {
  TL_TRY(find_arch(j, err));
  TL_TRY(read_keys(j, err));
  TL_TRY(check_sizes(j, err));
  if (j->a->arch == &tl_arch_llama) TL_TRY(read_rope_factors(j, err));
  TL_TRY(tl_model_new(&j->c, 0, false, &j->m, err));
  TL_TRY(check_unused(j, err));
  for (int i = 0; i < j->m->params.n; i++) TL_TRY(read_param(j, j->m->params.p[i], err));
  return TL_OK;
}

static tl_status save(const job *j, const char *dir, tl_err *err) {
  tl_tokenizer *tok = NULL;
  tl_status s = tl_gguf_save_tokenizer(&j->g, j->path, j->c.vocab, dir, err);
  if (s == TL_OK) s = tl_tokenizer_load(dir, &tok, err);
  if (s == TL_OK) s = tl_model_save(j->m, tok, dir, err);
  tl_tokenizer_free(tok);
  return s;
}

tl_status tl_import_gguf(const char *path, const char *out_dir, const tl_convert_options *o,
                         tl_convert_report *report, tl_err *err) {
  job j = {.path = path};
  bool there = tl_file_exists(out_dir);
  if (o && (o->dtype || o->max_shard_bytes))
    return tl_fail(
        err, TL_CONFIG,
        "%s: GGUF is imported as f32 in one file; `tilth export` changes that afterwards", path);
  if (there && !(o && o->overwrite))
    return tl_fail(err, TL_CREATE, "%s exists; give another place, or --overwrite", out_dir);
  TL_TRY(tl_gguf_open(path, &j.g, err));
  tl_status s = read_model(&j, err);
  if (s == TL_OK) {
    s = save(&j, out_dir, err);
    if (s != TL_OK && !there) tl_remove_tree(out_dir, NULL);
  }
  if (s == TL_OK && report)
    *report = (tl_convert_report){
        .tensors = j.m->params.n, .bytes = 4 * (uint64_t)tl_model_params(j.m), .files = 1};
  tl_model_free(j.m);
  tl_gguf_close(&j.g);
  return s;
}
