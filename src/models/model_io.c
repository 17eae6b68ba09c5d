/* Model folders: config.json and model.safetensors as Hugging Face's libraries write them; where
 * one is named, a GGUF file may be (gguf_model.c). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "models/gguf_model.h"
#include "models/lowrank.h"
#include "tilth/gguf.h"
#include "tilth/safetensors.h"

enum { MAX_CONFIG_BYTES = 1 << 20 };

/* The object that holds the last part of key "a.b.c", and that part in *last; with `make`, missing
 * objects on the way are added. NULL if absent. */
static json_t *key_parent(json_t *o, const char *key, bool make, const char **last) {
  const char *dot;
  for (; o && (dot = strchr(key, '.')); key = dot + 1) {
    size_t n = (size_t)(dot - key);
    if (make && !json_object_getn(o, key, n)) json_object_setn_new(o, key, n, json_object());
    o = json_object_getn(o, key, n);
  }
  *last = key;
  return o;
}

static void write_keys(const tl_model *m, json_t *o) {
  for (const tl_hf_key *k = m->arch->keys; k->key; k++) {
    const char *member = (const char *)&m->c + k->offset;
    json_t *v = k->type == TL_HF_INT ? json_integer(*(const int64_t *)member)
                                     : json_real(*(const double *)member);
    const char *last = NULL;
    json_t *parent = key_parent(o, k->key, true, &last);
    json_object_set_new(parent, last, v);
  }
}

static const char void_key[] = "semantic_loss_ignore_index"; /* as SegFormer's config has it */

/* What a classifier's file says besides: its class, its labels, and what they are. */
static void write_task(const tl_model *m, json_t *o) {
  const tl_task_head *h = &m->task;
  char class_name[64], key[16];
  const char *what = m->arch->image ? "Image" : h->kind == TL_HEAD_SEQUENCE ? "Sequence" : "Token";
  if (h->kind == TL_HEAD_MASKS)
    snprintf(class_name, sizeof class_name, "%sForSemanticSegmentation", m->arch->task.hf_stem);
  else
    snprintf(class_name, sizeof class_name, "%sFor%sClassification", m->arch->task.hf_stem, what);
  json_object_set_new(o, "architectures", json_pack("[s]", class_name));
  if (h->kind == TL_HEAD_MASKS) json_object_set_new(o, void_key, json_integer(h->void_id));
  if (*h->problem) json_object_set_new(o, "problem_type", json_string(h->problem));
  json_t *names = json_object(), *ids = json_object();
  for (int i = 0; i < h->n_outputs; i++) {
    char unnamed[24];
    snprintf(key, sizeof key, "%d", i);
    snprintf(unnamed, sizeof unnamed, "LABEL_%d", i);
    const char *name = h->name ? h->name[i] : unnamed;
    json_object_set_new(names, key, json_string(name));
    json_object_set_new(ids, name, json_integer(i));
  }
  json_object_set_new(o, "id2label", names);
  json_object_set_new(o, "label2id", ids);
}

/* What the weights came with, without what speaks of how they were stored or of another task. */
static json_t *start_config(const tl_model *m) {
  static const char *const stale[] = {"id2label",   "label2id", "problem_type",
                                      "num_labels", "auto_map", "quantization_config"};
  json_t *o = m->origin ? json_deep_copy(m->origin) : json_object();
  for (size_t i = 0; i < sizeof stale / sizeof *stale; i++) json_object_del(o, stale[i]);
  return o;
}

static void write_ids(const tl_model *m, const tl_tokenizer *tok, json_t *o) {
  static const struct {
    const char *key;
    tl_special role;
    bool encoder; /* of encoders only */
  } ids[] = {{"pad_token_id", TL_TOK_PAD, false}, {"bos_token_id", TL_TOK_BOS, false},
             {"eos_token_id", TL_TOK_EOS, false}, {"cls_token_id", TL_TOK_BOS, true},
             {"sep_token_id", TL_TOK_EOS, true},  {"mask_token_id", TL_TOK_MASK, true}};
  for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
    int id = tl_tokenizer_special(tok, ids[i].role);
    if (id >= 0 && (m->arch->encoder || !ids[i].encoder))
      json_object_set_new(o, ids[i].key, json_integer(id));
  }
  if (m->arch->seq2seq)
    json_object_set_new(o, "decoder_start_token_id", json_integer(tl_model_start(&m->c, tok)));
}

/* Sizes and settings of the body. */
static void write_body(const tl_model *m, const char *dtype, json_t *o) {
  write_keys(m, o);
  json_object_set_new(o, m->arch->act_key, json_string(tl_act_hf_name(m->act)));
  json_object_set_new(o, "vocab_size", json_integer(m->c.vocab));
  json_object_set_new(o, "initializer_range", json_real(m->c.init_std));
  json_object_set_new(o, "tie_word_embeddings", json_boolean(m->c.tie));
  for (int i = 0; i < 2; i++) /* up to transformers 4, from 5 on */
    json_object_set_new(o, i ? "dtype" : "torch_dtype", json_string(dtype));
  m->arch->write_constants(m, o);
}

/* What was added for a task (tl_model_config). */
static const tl_hf_key own_keys[] = {
    TL_HF_OPT(TL_HF_INT, "adapter", adapter),
    TL_HF_OPT(TL_HF_INT, "adapter_where", adapter_where),
    TL_HF_OPT(TL_HF_INT, "prefix", prefix),
    TL_HF_OPT(TL_HF_INT, "prompt", prompt),
    {0},
};

char *tl_model_config_json(const tl_model *m, const tl_tokenizer *tok) {
  const tl_arch *a = m->arch;
  bool qk = m->c.qk_norm && a->hf_type_qk;
  json_t *o = start_config(m);
  json_object_set_new(o, "architectures", json_pack("[s]", qk ? a->hf_class_qk : a->hf_class));
  json_object_set_new(o, "model_type", json_string(qk ? a->hf_type_qk : a->hf_type));
  if (tok) write_ids(m, tok, o);
  write_body(m, "float32", o);
  if (m->task.kind != TL_HEAD_NONE) write_task(m, o);
  if (m->more) json_object_update(o, m->more);
  /* What has no key in Hugging Face's file; other readers ignore it. */
  json_object_set_new(o, "tilth",
                      json_pack("{s:b, s:b, s:I}", "qk_norm", m->c.qk_norm, "shifted", m->c.shifted,
                                "window", m->c.window));
  for (const tl_hf_key *k = own_keys; k->key; k++) {
    int64_t v = *(const int64_t *)((const char *)&m->c + k->offset);
    if (v) json_object_set_new(json_object_get(o, "tilth"), k->key, json_integer(v));
  }
  char *text = json_dumps(o, JSON_INDENT(2));
  json_decref(o);
  return text;
}

char *tl_model_converted_json(const tl_model *m, const char *dtype) {
  json_t *o = json_deep_copy(m->origin);
  if (!o) return NULL;
  write_body(m, dtype, o);
  char *text = json_dumps(o, JSON_INDENT(2));
  json_decref(o);
  return text;
}

/* PyTorch counts the batches that running statistics have seen, and Hugging Face's libraries take a
 * normalisation without that count for one without weights. */
static bool counts_batches(const tl_param *p, char *name, size_t size) {
  static const char end[] = ".running_var";
  size_t n = strlen(p->name), k = strlen(end);
  if (n < k || strcmp(p->name + n - k, end)) return false;
  snprintf(name, size, "%.*s.num_batches_tracked", (int)(n - k), p->name);
  return true;
}

tl_st_tensor *tl_model_tensors(const tl_model *m, bool finished, size_t *n) {
  enum { NAME = 256 };
  static const int64_t none = 0;
  const tl_params *ps = &m->params;
  char any[NAME];
  size_t counts = 0;
  for (int i = 0; i < ps->n; i++) counts += counts_batches(ps->p[i], any, NAME);
  tl_st_tensor *t = calloc(1, ((size_t)ps->n + counts + 1) * sizeof *t + counts * NAME);
  char *name = (char *)(t + (size_t)ps->n + counts + 1);
  *n = 0;
  for (int i = 0; t && i < ps->n; i++) {
    if (finished && (ps->p[i]->flags & (TL_PARAM_PAIR | TL_PARAM_HELPER))) continue;
    t[(*n)++] = tl_param_tensor(ps->p[i], ps->p[i]->name, ps->p[i]->data);
    if (!counts_batches(ps->p[i], name, NAME)) continue;
    t[(*n)++] = (tl_st_tensor){.name = name, .dtype = TL_ST_I64, .data = &none};
    name += NAME;
  }
  return t;
}

tl_st_tensor tl_param_tensor(const tl_param *p, const char *name, const float *data) {
  tl_st_tensor t = {.name = name, .dtype = TL_ST_F32, .ndim = p->ndim, .data = data};
  const int64_t *shape = p->file_ndim ? p->file_shape : p->shape;
  if (p->file_ndim) t.ndim = p->file_ndim;
  for (int d = 0; d < t.ndim; d++) t.shape[d] = shape[d];
  return t;
}

tl_status tl_model_save(const tl_model *m, const tl_tokenizer *tok, const char *dir, tl_err *err) {
  TL_TRY(tl_mkdirs(dir, err));
  char *config = tl_path_join(dir, "config.json"),
       *weights = tl_path_join(dir, "model.safetensors");
  char *text = tl_model_config_json(m, tok);
  size_t n = 0;
  tl_st_tensor *t = tl_model_tensors(m, true, &n);
  tl_status s =
      config && weights && text && t ? TL_OK : tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
  if (s == TL_OK) s = tl_st_write(weights, t, n, NULL, 0, NULL, NULL, err);
  if (s == TL_OK) s = tl_file_write_atomic(config, text, strlen(text), err);
  if (s == TL_OK && tok) s = tl_tokenizer_save(tok, dir, err);
  free(config);
  free(weights);
  free(text);
  free(t);
  return s;
}

static tl_status read_key(json_t *o, const tl_hf_key *k, tl_model_config *c, const char *path,
                          tl_err *err) {
  const char *last = NULL;
  const json_t *parent = key_parent(o, k->key, false, &last), *v = json_object_get(parent, last);
  void *member = (char *)c + k->offset;
  if (!v || json_is_null(v)) {
    if (k->optional) return TL_OK;
    return tl_fail(err, TL_DATA, "%s: key \"%s\" is missing", path, k->key);
  }
  if (k->type == TL_HF_INT) {
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX)
      return tl_fail(err, TL_DATA, "%s: \"%s\" must be an integer from 0 to 2147483647", path,
                     k->key);
    *(int64_t *)member = json_integer_value(v);
    return TL_OK;
  }
  if (!json_is_number(v) || !isfinite(json_number_value(v)))
    return tl_fail(err, TL_DATA, "%s: \"%s\" must be a number", path, k->key);
  *(double *)member = json_number_value(v);
  return TL_OK;
}

/* A setting that is not followed would be read as the usual one, and the model would be silently
 * wrong. */
static tl_status check_fixed(json_t *o, const tl_hf_fixed *f, const char *path, tl_err *err) {
  for (; f && f->key; f++) {
    const char *last = NULL;
    const json_t *parent = key_parent(o, f->key, false, &last), *v = json_object_get(parent, last);
    if (!v || json_is_null(v)) continue;
    char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
    bool same = text && !strcmp(text, f->value);
    tl_status s = same ? TL_OK
                       : tl_fail(err, TL_DATA, "%s: \"%s\" is %.100s; only %s is supported", path,
                                 f->key, text ? text : "?", f->value);
    free(text);
    if (s != TL_OK) return s;
  }
  return TL_OK;
}

/* Of architectures that read no scaling of their positions. */
static const tl_hf_fixed plain_rope[] = {
    {"rope_parameters.rope_type", "\"default\""},
    {"rope_parameters.full_attention.rope_type", "\"default\""},
    {"rope_parameters.sliding_attention.rope_type", "\"default\""},
    {"rope_scaling.rope_type", "\"default\""},
    {"rope_scaling.type", "\"default\""},
    {0}};

static tl_status unknown_type(const char *type, const char *path, tl_err *err) {
  char known[256] = "";
  size_t n = 0;
#define TYPE(name)                                                                                 \
  n += (size_t)snprintf(known + n, sizeof known - n, " %s", tl_arch_##name.hf_type);
  TL_ARCHS(TYPE)
#undef TYPE
  return tl_fail(err, TL_DATA, "%s: model_type \"%s\" is not supported; supported are:%s", path,
                 type ? type : "(missing)", known);
}

static tl_status read_config(json_t *o, const char *path, tl_model_config *c, tl_err *err) {
  *c = (tl_model_config){.tie = true};
  const char *type = json_string_value(json_object_get(o, "model_type"));
  const tl_arch *a = type ? tl_arch_find_hf(type) : NULL;
  if (!a) return unknown_type(type, path, err);
  snprintf(c->type, sizeof c->type, "%s", a->name);
  static const tl_hf_key common[] = {
      TL_HF_OPT(TL_HF_REAL, "initializer_range", init_std), TL_HF_I("vocab_size", vocab), {0}};
  for (const tl_hf_key *k = common; k->key && !(a->image && k->offset == common[1].offset); k++)
    TL_TRY(read_key(o, k, c, path, err));
  for (const tl_hf_key *k = a->keys; k->key; k++) TL_TRY(read_key(o, k, c, path, err));
  TL_TRY(check_fixed(o, a->fixed, path, err));
  if (a->read_rest) TL_TRY(a->read_rest(o, path, c, err));
  if (a != &tl_arch_llama) TL_TRY(check_fixed(o, plain_rope, path, err));
  const char *act = json_string_value(json_object_get(o, a->act_key));
  snprintf(c->act, sizeof c->act, "%s", act ? act : "auto");
  const json_t *tie = json_object_get(o, "tie_word_embeddings");
  json_t *own = json_object_get(o, "tilth");
  if (tie) c->tie = json_is_true(tie);
  if (own) {
    c->qk_norm = json_is_true(json_object_get(own, "qk_norm"));
    c->shifted = json_is_true(json_object_get(own, "shifted"));
    static const tl_hf_key window = TL_HF_OPT(TL_HF_INT, "window", window);
    TL_TRY(read_key(own, &window, c, path, err));
    for (const tl_hf_key *k = own_keys; k->key; k++) TL_TRY(read_key(own, k, c, path, err));
  }
  return TL_OK;
}

/* A config.json that asks for far more than the files hold must not cost the memory of what it asks
 * for. Every architecture has at least these weights. */
static tl_status check_weights(const char *dir, tl_model_config *c, tl_err *err) {
  tl_st *st = NULL;
  double dim = (double)c->dim, have = 0, layers = (double)(c->layers + c->encoder_layers);
  double inner = c->head_dim ? (double)c->heads * (double)c->head_dim : dim;
  double least = (double)c->vocab * dim + layers * 2 * dim * (inner + (double)c->ff);
  TL_TRY(tl_st_open(dir, &st, err));
  for (size_t i = 0; i < tl_st_count(st); i++) have += (double)tl_st_elements(tl_st_at(st, i));
  if (tl_arch_find(c->type)->head_in_file) c->tie = !tl_st_find(st, "lm_head.weight");
  tl_st_close(st);
  if (have >= least) return TL_OK;
  return tl_fail(err, TL_DATA,
                 "%s: config.json describes a model of %.0f weights or more; the weights' file "
                 "holds %.0f",
                 dir, least, have);
}

/* dir/config.json as an object, and its path for messages; both freed by the caller. */
static tl_status load_config(const char *dir, char **path, json_t **out, tl_err *err) {
  *out = NULL;
  *path = tl_path_join(dir, "config.json");
  if (!*path) return tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
  tl_buf text = {0};
  tl_status s = tl_file_read(*path, MAX_CONFIG_BYTES, &text, err);
  json_error_t je;
  json_t *o = s == TL_OK ? json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &je) : NULL;
  if (s == TL_OK && !json_is_object(o))
    s = tl_fail(err, TL_DATA, "%s:%d:%d: %s", *path, o ? 1 : je.line, o ? 1 : je.column,
                o ? "expected an object" : je.text);
  tl_buf_free(&text);
  if (s == TL_OK)
    *out = o;
  else
    json_decref(o);
  return s;
}

tl_status tl_model_read_config(const char *dir, tl_model_config *out, tl_err *err) {
  char *path = NULL;
  json_t *o = NULL;
  tl_model_place p;
  TL_TRY(tl_model_locate(dir, &p, err));
  tl_status s = TL_OK;
  if (tl_gguf_is_file(p.base)) {
    s = tl_gguf_read_config(p.base, out, err);
    tl_model_place_free(&p);
    return s;
  }
  s = load_config(p.base, &path, &o, err);
  if (s == TL_OK) s = read_config(o, path, out, err);
  if (s == TL_OK) s = check_weights(p.base, out, err);
  tl_model_place_free(&p);
  json_decref(o);
  free(path);
  return s;
}

tl_status tl_model_read_task(const char *dir, tl_hf_task *out, tl_err *err) {
  char *path = NULL;
  json_t *o = NULL;
  tl_model_place p;
  *out = (tl_hf_task){.void_id = -1};
  TL_TRY(tl_model_locate(dir, &p, err));
  bool gguf = tl_gguf_is_file(p.described);
  tl_status s = gguf ? TL_OK : load_config(p.described, &path, &o, err);
  tl_model_place_free(&p);
  const char *name = json_string_value(json_array_get(json_object_get(o, "architectures"), 0));
  const char *problem = json_string_value(json_object_get(o, "problem_type"));
  if (name && strstr(name, "ForSequenceClassification")) out->kind = TL_HEAD_SEQUENCE;
  if (name && strstr(name, "ForImageClassification")) out->kind = TL_HEAD_SEQUENCE;
  if (name && strstr(name, "ForTokenClassification")) out->kind = TL_HEAD_TOKENS;
  if (name && strstr(name, "ForSemanticSegmentation")) out->kind = TL_HEAD_MASKS;
  const json_t *void_id = json_object_get(o, void_key);
  if (json_is_integer(void_id)) out->void_id = (int)json_integer_value(void_id);
  if (problem) snprintf(out->problem, sizeof out->problem, "%s", problem);
  json_decref(o);
  free(path);
  return s;
}

static const tl_st_tensor *find_name(const tl_st *st, const tl_arch *a, const char *name) {
  const tl_st_tensor *t = tl_st_find(st, name);
  size_t n = strlen(a->body_prefix);
  if (!t && !strncmp(name, a->body_prefix, n)) t = tl_st_find(st, name + n);
  return t;
}

const tl_st_tensor *tl_model_find_tensor(const tl_st *st, const tl_model *m, const char *name) {
  const tl_st_tensor *t = find_name(st, m->arch, name);
  size_t n = strlen(name);
  for (const char *const(*a)[2] = m->arch->aliases; !t && a && (*a)[0]; a++) {
    size_t k = strlen((*a)[0]);
    char other[256];
    if (n < k || strcmp(name + n - k, (*a)[0])) continue;
    snprintf(other, sizeof other, "%.*s%s", (int)(n - k), name, (*a)[1]);
    t = find_name(st, m->arch, other);
  }
  return t;
}

static bool same_shape(const tl_param *p, const tl_st_tensor *t) {
  const int64_t *shape = p->file_ndim ? p->file_shape : p->shape;
  if ((p->file_ndim ? p->file_ndim : p->ndim) != t->ndim) return false;
  for (int d = 0; d < t->ndim; d++)
    if (shape[d] != t->shape[d]) return false;
  return true;
}

static bool is_body(const tl_model *m, const tl_param *p) {
  bool pooler = p == m->task.pool_w || p == m->task.pool_b; /* BERT's bears the body's prefix */
  return !(p->flags & TL_PARAM_PAIR) && !pooler &&
         !strncmp(p->name, m->arch->body_prefix, strlen(m->arch->body_prefix));
}

static tl_status check_tensor(const tl_model *m, const tl_param *p, const tl_st_tensor *t,
                              const char *dir, tl_err *err) {
  if (!t && is_body(m, p))
    return tl_fail(err, TL_DATA,
                   "%s: tensor \"%s\" is missing; config.json describes a model that has it", dir,
                   p->name);
  if (t && !same_shape(p, t))
    return tl_fail(err, TL_DATA,
                   "%s: tensor \"%s\" has %d axes, first %lld; config.json implies [%lld, %lld]",
                   dir, p->name, t->ndim, (long long)(t->ndim ? t->shape[0] : 0),
                   (long long)p->shape[0], (long long)(p->ndim > 1 ? p->shape[1] : 1));
  return TL_OK;
}

/* Keeps dir/config.json with the model when it is of the same architecture. The weights of a run's
 * best step come without one. */
static tl_status keep_origin(tl_model *m, const char *dir, tl_err *err) {
  char *path = tl_path_join(dir, "config.json");
  bool alone = path && !tl_file_exists(path);
  free(path);
  if (alone) return TL_OK;
  json_t *o = NULL;
  tl_status s = load_config(dir, &path, &o, err);
  const char *type = json_string_value(json_object_get(o, "model_type"));
  free(path);
  if (s == TL_OK && type && tl_arch_is_hf(m->arch, type)) {
    json_decref(m->origin);
    m->origin = json_incref(o);
  }
  json_decref(o);
  return s;
}

/* new_head: NULL, or to be set where parts of a head are of another size and keep their values. */
static tl_status read_base(tl_model *m, const char *dir, bool *new_head, tl_err *err) {
  tl_st *st = NULL;
  TL_TRY(keep_origin(m, dir, err));
  TL_TRY(tl_st_open(dir, &st, err));
  tl_status s = TL_OK;
  for (int i = 0; s == TL_OK && i < m->params.n; i++) {
    tl_param *p = m->params.p[i];
    const tl_st_tensor *t = tl_model_find_tensor(st, m, p->name);
    bool done = false;
    if (t && m->arch->fit && !same_shape(p, t)) s = m->arch->fit(m, p, t, &done, err);
    if (done || s != TL_OK) continue;
    if (new_head && t && !is_body(m, p) && !same_shape(p, t)) {
      *new_head = true;
      continue;
    }
    s = check_tensor(m, p, t, dir, err);
    if (s == TL_OK && t) s = tl_st_read_f32(t, p->data, err);
  }
  tl_st_close(st);
  tl_params_changed(&m->params);
  return s;
}

/* As tl_model_read_weights into a model without values, which is only to be run: f32 values stay in
 * the mapped file. */
static tl_status view_weights(tl_model *m, const char *dir, tl_err *err) {
  TL_TRY(keep_origin(m, dir, err));
  TL_TRY(tl_st_open(dir, &m->weights, err));
  for (int i = 0; i < m->params.n; i++) {
    tl_param *p = m->params.p[i];
    const tl_st_tensor *t = tl_model_find_tensor(m->weights, m, p->name);
    TL_TRY(check_tensor(m, p, t, dir, err));
    if (!t)
      tl_param_init(p, 0);
    else if (t->dtype == TL_ST_F32 && (uintptr_t)t->data % sizeof(float) == 0)
      p->data = (float *)(uintptr_t)t->data;
    else
      TL_TRY(tl_st_read_f32(t, p->data, err));
  }
  tl_params_changed(&m->params);
  return TL_OK;
}

/* Base and adapter of a model's name. */
static tl_status read_place(tl_model *m, const char *name, bool view, bool *new_head, tl_err *err) {
  tl_model_place p;
  TL_TRY(tl_model_locate(name, &p, err));
  tl_status s = tl_gguf_is_file(p.base) ? tl_gguf_read_weights(m, p.base, false, err)
                : view                  ? view_weights(m, p.base, err)
                                        : read_base(m, p.base, new_head, err);
  if (s == TL_OK && p.adapter) s = tl_lora_apply(m, p.adapter, err);
  tl_model_place_free(&p);
  return s;
}

tl_status tl_model_read_weights(tl_model *m, const char *dir, tl_err *err) {
  return read_place(m, dir, false, NULL, err);
}

tl_status tl_model_start_weights(tl_model *m, const char *dir, bool *new_head, tl_err *err) {
  *new_head = false;
  return read_place(m, dir, false, new_head, err);
}

tl_status tl_model_switch(tl_model *m, const char *base, const char *adapter, tl_err *err) {
  tl_st *st = NULL;
  tl_status s = TL_OK;
  if (tl_gguf_is_file(base)) {
    TL_TRY(tl_gguf_read_weights(m, base, true, err));
    return adapter ? tl_lora_apply(m, adapter, err) : TL_OK;
  }
  TL_TRY(tl_st_open(base, &st, err));
  for (int i = 0; s == TL_OK && i < m->params.n; i++) {
    tl_param *p = m->params.p[i];
    const tl_st_tensor *t =
        p->flags & TL_PARAM_CHANGED ? tl_model_find_tensor(st, m, p->name) : NULL;
    if (t && same_shape(p, t)) s = tl_st_read_f32(t, p->data, err);
    p->flags &= ~(unsigned)TL_PARAM_CHANGED;
  }
  tl_st_close(st);
  tl_params_changed(&m->params);
  return s == TL_OK && adapter ? tl_lora_apply(m, adapter, err) : s;
}

tl_status tl_model_require(const tl_model *m, const char *dir, const tl_param *p, tl_err *err) {
  tl_st *st = NULL;
  tl_model_place place;
  if (p->flags & TL_PARAM_CHANGED) return TL_OK; /* by the adapter */
  TL_TRY(tl_model_locate(dir, &place, err));
  bool gguf = tl_gguf_is_file(place.base); /* a language model */
  tl_status s = gguf ? TL_OK : tl_st_open(place.base, &st, err);
  bool there = st && tl_model_find_tensor(st, m, p->name) != NULL;
  tl_st_close(st);
  tl_model_place_free(&place);
  if (s != TL_OK || there) return s;
  return tl_fail(err, TL_DATA,
                 "%s: tensor \"%s\" is missing; the model has not been trained for its task", dir,
                 p->name);
}

tl_status tl_model_load(const char *dir, bool with_grads, tl_model **out, tl_err *err) {
  tl_model_config c;
  TL_TRY(tl_model_read_config(dir, &c, err));
  tl_model *m = NULL;
  TL_TRY(with_grads ? tl_model_new(&c, 0, true, &m, err)
                    : tl_model_alloc(&c, false, NULL, NULL, &m, err));
  tl_status s = read_place(m, dir, !with_grads, NULL, err);
  if (s != TL_OK) {
    tl_model_free(m);
    return s;
  }
  *out = m;
  return TL_OK;
}
