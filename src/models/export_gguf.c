/* GPT-2 and Llama models as llama.cpp reads them; import_gguf.c is the way back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "models/gguf_names.h"
#include "tilth/convert.h"

typedef struct job {
  tl_model *m;
  tl_tokenizer *tok;
  const tl_gguf_arch *a;
  tl_ggml_type type; /* of matrices */
  tl_gguf_writer *w;
  tl_convert_report report;
} job;

static tl_status choose(job *j, const char *dir, tl_err *err) {
  const tl_model_config *c = &j->m->c;
  for (const tl_gguf_arch *a = tl_gguf_archs; a->arch; a++)
    if (a->arch == j->m->arch && a->qk_norm == c->qk_norm) j->a = a;
  if (!j->a)
    return tl_fail(err, TL_CONFIG,
                   "%s: GGUF is written for models of type gpt2 and llama, not for %s%s", dir,
                   j->m->arch->name, c->qk_norm ? " with qk_norm" : "");
  if (j->m->act != j->a->act)
    return tl_fail(err, TL_CONFIG, "%s: llama.cpp has one activation in %s, which is not \"%s\"",
                   dir, j->a->name, tl_act_hf_name(j->m->act));
  if (c->window > 0 || c->shifted)
    return tl_fail(err, TL_CONFIG,
                   "%s: llama.cpp has neither windows of attention in %s nor the objective hybrid",
                   dir, j->a->name);
  if (c->qk_norm && (c->attn_bias || c->mlp_bias))
    return tl_fail(err, TL_CONFIG, "%s: llama.cpp has no biases in %s", dir, j->a->name);
  return TL_OK;
}

static tl_status parse_type(job *j, const char *dtype, tl_err *err) {
  static const struct {
    const char *name;
    tl_ggml_type type;
  } types[] = {
      {"f32", TL_GGML_F32}, {"f16", TL_GGML_F16}, {"bf16", TL_GGML_BF16}, {"q8_0", TL_GGML_Q8_0}};
  for (size_t i = 0; i < sizeof types / sizeof *types; i++)
    if (!strcmp(dtype ? dtype : "f32", types[i].name)) {
      j->type = types[i].type;
      return TL_OK;
    }
  return tl_fail(err, TL_CONFIG, "dtype \"%s\" is unknown; expected f32, f16, bf16 or q8_0", dtype);
}

/* --- keys --------------------------------------------------------------------------------------
 */

static const char *key(const job *j, char room[96], const char *rest) {
  snprintf(room, 96, "%s.%s", j->a->name, rest);
  return room;
}

static void put_rope(job *j) {
  const tl_model_config *c = &j->m->c;
  char k[96];
  uint32_t hd = (uint32_t)(c->dim / c->heads);
  tl_gguf_put_u32(j->w, key(j, k, "rope.dimension_count"), hd);
  tl_gguf_put_f32(j->w, key(j, k, "rope.freq_base"), (float)c->rope_theta);
  tl_gguf_put_u32(j->w, key(j, k, "attention.key_length"), hd);
  tl_gguf_put_u32(j->w, key(j, k, "attention.value_length"), hd);
  if (c->rope_factor == 0 || c->rope_original > 0) return;
  tl_gguf_put_string(j->w, key(j, k, "rope.scaling.type"), "linear");
  tl_gguf_put_f32(j->w, key(j, k, "rope.scaling.factor"), (float)c->rope_factor);
}

static void put_keys(job *j, const char *name) {
  static const uint32_t file_type[] = {
      [TL_GGML_F32] = 0, [TL_GGML_F16] = 1, [TL_GGML_Q8_0] = 7, [TL_GGML_BF16] = 32};
  const tl_model_config *c = &j->m->c;
  bool gpt2 = j->m->arch == &tl_arch_gpt2;
  char k[96];
  tl_gguf_put_string(j->w, "general.architecture", j->a->name);
  tl_gguf_put_string(j->w, "general.type", "model");
  tl_gguf_put_string(j->w, "general.name", name);
  tl_gguf_put_u32(j->w, "general.file_type", file_type[j->type]);
  tl_gguf_put_u32(j->w, "general.quantization_version", 2);
  tl_gguf_put_u32(j->w, key(j, k, "vocab_size"), (uint32_t)c->vocab);
  tl_gguf_put_u32(j->w, key(j, k, "context_length"), (uint32_t)c->max_len);
  tl_gguf_put_u32(j->w, key(j, k, "embedding_length"), (uint32_t)c->dim);
  tl_gguf_put_u32(j->w, key(j, k, "block_count"), (uint32_t)c->layers);
  tl_gguf_put_u32(j->w, key(j, k, "feed_forward_length"), (uint32_t)c->ff);
  tl_gguf_put_u32(j->w, key(j, k, "attention.head_count"), (uint32_t)c->heads);
  tl_gguf_put_u32(j->w, key(j, k, "attention.head_count_kv"), (uint32_t)c->kv_heads);
  tl_gguf_put_f32(
      j->w, key(j, k, gpt2 ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon"),
      (float)c->norm_eps);
  if (!gpt2) put_rope(j);
}

/* --- tensors -----------------------------------------------------------------------------------
 */

static tl_status put_tensor(job *j, const tl_param *p, const tl_gguf_name *map, const char *name,
                            tl_err *err) {
  int64_t shape[] = {p->shape[0], p->ndim > 1 ? p->shape[1] : 1}, n = shape[0] * shape[1];
  bool rotate = j->a->interleaved && (map->how == TL_GGUF_ROPE_Q || map->how == TL_GGUF_ROPE_K);
  bool turn = map->how == TL_GGUF_TRANSPOSED && p->ndim == 2;
  float *owned = NULL;
  if (rotate || turn) {
    owned = malloc((size_t)n * sizeof *owned);
    if (!owned) return tl_fail(err, TL_NOMEM, "%s: out of memory", name);
  }
  if (rotate)
    tl_gguf_interleave(p->data, map->how == TL_GGUF_ROPE_Q ? j->m->c.heads : j->m->c.kv_heads,
                       shape[0], shape[1], false, owned);
  if (turn) {
    tl_gguf_transpose(p->data, shape[0], shape[1], owned);
    shape[0] = p->shape[1];
    shape[1] = p->shape[0];
  }
  tl_ggml_type type = p->ndim < 2 || map->how == TL_GGUF_F32_ONLY ? TL_GGML_F32 : j->type;
  if (type == TL_GGML_Q8_0 && shape[1] % TL_GGUF_Q8_BLOCK) type = TL_GGML_F16;
  tl_gguf_add(j->w, name, type, p->ndim, shape, owned ? owned : p->data, owned);
  j->report.tensors++;
  return TL_OK;
}

static tl_status put_param(job *j, const tl_param *p, tl_err *err) {
  char name[TL_GGUF_NAME_ROOM];
  const tl_gguf_name *map = tl_gguf_name_of(j->a, p->name, name);
  return map ? put_tensor(j, p, map, name, err)
             : tl_fail(err, TL_INTERNAL, "%s has no name in GGUF", p->name);
}

static tl_status put_rope_factors(job *j, tl_err *err) {
  const tl_model_config *c = &j->m->c;
  if (c->rope_original == 0) return TL_OK;
  int64_t half = c->dim / c->heads / 2;
  float *f = malloc((size_t)half * sizeof *f);
  if (!f) return tl_fail(err, TL_NOMEM, "out of memory");
  for (int64_t i = 0; i < half; i++) f[i] = tl_gguf_rope_factor(c, i);
  tl_gguf_add(j->w, TL_GGUF_ROPE_FACTORS, TL_GGML_F32, 1, &half, f, f);
  return TL_OK;
}

static tl_status fill(job *j, const char *dir, const char *path, const tl_convert_options *o,
                      tl_err *err) {
  TL_TRY(parse_type(j, o->dtype, err));
  if (tl_file_exists(path) && !o->overwrite)
    return tl_fail(err, TL_CREATE, "%s exists; give another place, or --overwrite", path);
  TL_TRY(tl_model_load(dir, false, &j->m, err));
  if (j->m->c.adapter + j->m->c.prefix + j->m->c.prompt > 0)
    return tl_fail(err, TL_CONFIG,
                   "%s: GGUF has no place for what was added to the model (adapters, a prefix, a "
                   "prompt); export its base, or adapt with lora and `tilth merge`",
                   dir);
  TL_TRY(choose(j, dir, err));
  put_keys(j, dir);
  TL_TRY(tl_model_tokenizer(dir, &j->tok, err));
  TL_TRY(tl_tokenizer_put_gguf(j->tok, dir, j->m->c.vocab, j->w, err));
  for (int i = 0; i < j->m->params.n; i++) TL_TRY(put_param(j, j->m->params.p[i], err));
  return put_rope_factors(j, err);
}

tl_status tl_export_gguf(const char *model_dir, const char *path, const tl_convert_options *o,
                         tl_convert_report *report, tl_err *err) {
  static const tl_convert_options defaults = {0};
  job j = {.report.files = 1, .w = tl_gguf_writer_new()};
  if (!j.w) return tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  tl_status s = fill(&j, model_dir, path, o ? o : &defaults, err);
  if (s == TL_OK) s = tl_gguf_write(j.w, path, &j.report.bytes, err);
  if (s == TL_OK && report) *report = j.report;
  tl_gguf_writer_free(j.w);
  tl_tokenizer_free(j.tok);
  tl_model_free(j.m);
  return s;
}
