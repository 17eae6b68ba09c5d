/* Adapters as Hugging Face's peft writes them: adapter_config.json and adapter_model.safetensors,
 * whose names are "base_model.model." and that of the module in the base's class. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "models/lowrank.h"

#define PREFIX "base_model.model."
enum { MAX_CONFIG_BYTES = 1 << 20 };

/* --- writing ---------------------------------------------------------------------------------- */

static const char *file_name(const tl_model *m, const tl_lora_about *a, const char *name) {
  size_t n = strlen(m->arch->body_prefix);
  return a->body && !strncmp(name, m->arch->body_prefix, n) ? name + n : name;
}

/* Saved beside the pairs: what was trained, and what stands between body and task head, which a
 * base that is a bare body lacks. */
static bool is_saved(const tl_model *m, const tl_param *p) {
  bool between = m->task.kind != TL_HEAD_NONE && m->arch->task.head &&
                 (p == m->head_dense || p == m->head_dense_bias || p == m->head_norm.gain ||
                  p == m->head_norm.bias);
  return !(p->flags & TL_PARAM_PAIR) && (p->trainable || between);
}

static tl_status write_tensors(const tl_model *m, const tl_lora_about *a, const char *path,
                               tl_err *err) {
  const tl_params *ps = &m->params;
  size_t n = 0, at = 0, bytes = 0;
  for (int i = 0; i < ps->n; i++) bytes += strlen(ps->p[i]->name) + sizeof PREFIX;
  tl_st_tensor *t = calloc((size_t)ps->n + 1, sizeof *t);
  char *names = malloc(bytes + 1);
  tl_status s = t && names ? TL_OK : tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  for (int i = 0; s == TL_OK && i < ps->n; i++) {
    const tl_param *p = ps->p[i];
    if (!(p->flags & TL_PARAM_PAIR) && !is_saved(m, p)) continue;
    char *name = names + at;
    at += (size_t)snprintf(name, bytes - at, "%s%s", PREFIX, file_name(m, a, p->name)) + 1;
    t[n++] = tl_param_tensor(p, name, p->data);
  }
  if (s == TL_OK) s = tl_st_write(path, t, n, NULL, 0, NULL, NULL, err);
  free(t);
  free(names);
  return s;
}

static json_t *module_name(const tl_model *m, const tl_lora_about *a, const tl_param *p) {
  const char *name = file_name(m, a, p->name), *dot = strrchr(name, '.');
  return json_stringn(name, dot ? (size_t)(dot - name) : strlen(name));
}

static json_t *number(double v) {
  return v == floor(v) && fabs(v) < 1e9 ? json_integer((json_int_t)v) : json_real(v);
}

static char *config_text(const tl_model *m, const tl_lora_about *a) {
  json_t *o = json_object(), *targets = json_array(), *saved = json_array();
  bool conv1d = false;
  for (int i = 0; i < m->params.n; i++) {
    const tl_param *p = m->params.p[i];
    conv1d = conv1d || (p->lora_a && p->lora_conv1d);
    if (p->lora_a) json_array_append_new(targets, module_name(m, a, p));
    if (is_saved(m, p) && strstr(p->name, ".weight"))
      json_array_append_new(saved, module_name(m, a, p));
  }
  json_object_set_new(o, "peft_type", json_string("LORA"));
  json_object_set_new(o, "task_type", json_string(a->task));
  json_object_set_new(o, "base_model_name_or_path", json_string(a->base));
  json_object_set_new(o, "r", json_integer(a->rank));
  json_object_set_new(o, "lora_alpha", number(a->alpha));
  json_object_set_new(o, "lora_dropout", json_real(a->dropout));
  json_object_set_new(o, "target_modules", targets);
  json_object_set_new(o, "modules_to_save", json_array_size(saved) ? saved : json_null());
  if (!json_array_size(saved)) json_decref(saved);
  json_object_set_new(o, "fan_in_fan_out", json_boolean(conv1d));
  json_object_set_new(o, "use_rslora", json_boolean(a->rs));
  json_object_set_new(o, "use_dora", json_boolean(a->dora));
  json_object_set_new(o, "bias", json_string("none"));
  json_object_set_new(o, "init_lora_weights", json_true());
  json_object_set_new(o, "inference_mode", json_true());
  char *text = json_dumps(o, JSON_INDENT(2));
  json_decref(o);
  return text;
}

tl_status tl_lora_save(const tl_model *m, const tl_lora_about *a, const char *dir, tl_err *err) {
  TL_TRY(tl_mkdirs(dir, err));
  char *weights = tl_path_join(dir, "adapter_model.safetensors"),
       *about = tl_path_join(dir, "adapter_config.json"),
       *config = tl_path_join(dir, "config.json");
  char *text = config_text(m, a), *model = tl_model_config_json(m, NULL);
  tl_status s = weights && about && config && text && model
                    ? write_tensors(m, a, weights, err)
                    : tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
  if (s == TL_OK) s = tl_file_write_atomic(config, model, strlen(model), err);
  if (s == TL_OK) s = tl_file_write_atomic(about, text, strlen(text), err);
  free(weights);
  free(about);
  free(config);
  free(text);
  free(model);
  return s;
}

/* --- reading ---------------------------------------------------------------------------------- */

typedef struct about {
  double alpha;
  bool rs;
} about;

static tl_status refuse(tl_err *err, const char *path, const char *what) {
  return tl_fail(err, TL_DATA, "%s: %s", path, what);
}

static tl_status read_about(const char *path, about *a, tl_err *err) {
  static const char *const changing[] = {"pissa", "olora", "loftq", "corda"};
  tl_buf text = {0};
  json_error_t je;
  TL_TRY(tl_file_read(path, MAX_CONFIG_BYTES, &text, err));
  json_t *o = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &je);
  tl_buf_free(&text);
  if (!o) return tl_fail(err, TL_DATA, "%s:%d:%d: %s", path, je.line, je.column, je.text);
  const char *type = json_string_value(json_object_get(o, "peft_type"));
  const char *init = json_string_value(json_object_get(o, "init_lora_weights"));
  const json_t *alpha = json_object_get(o, "lora_alpha");
  *a = (about){.alpha = json_number_value(alpha),
               .rs = json_is_true(json_object_get(o, "use_rslora"))};
  tl_status s = TL_OK;
  if (!type || strcmp(type, "LORA"))
    s = tl_fail(err, TL_DATA, "%s: peft_type is \"%s\"; only \"LORA\" is supported", path,
                type ? type : "(missing)");
  else if (!json_is_number(alpha) || !isfinite(a->alpha))
    s = refuse(err, path, "\"lora_alpha\" must be a number");
  else if (json_object_size(json_object_get(o, "alpha_pattern")))
    s = refuse(err, path, "\"alpha_pattern\" is not supported");
  for (size_t i = 0; s == TL_OK && init && i < sizeof changing / sizeof *changing; i++)
    if (!strncmp(init, changing[i], strlen(changing[i])))
      s = refuse(err, path,
                 "\"init_lora_weights\" has changed the base's weights; convert the adapter first "
                 "(path_initial_model_for_weight_conversion)");
  json_decref(o);
  return s;
}

/* The parameter of a tensor's name, with or without the prefix of the body. */
static tl_param *find_param(const tl_model *m, const char *name) {
  char full[320];
  tl_param *p = tl_params_find(&m->params, name);
  if (p) return p;
  snprintf(full, sizeof full, "%s%s", m->arch->body_prefix, name);
  return tl_params_find(&m->params, full);
}

enum { PART_VALUE, PART_A, PART_B, PART_M, N_PARTS };

/* What a tensor is, and the parameter that it is for (NULL: none). */
static tl_param *classify(const tl_model *m, const char *tensor, int *part) {
  static const struct {
    const char *end;
    int part;
  } ends[] = {{".lora_A.weight", PART_A},
              {".lora_B.weight", PART_B},
              {".lora_magnitude_vector", PART_M},
              {".lora_magnitude_vector.weight", PART_M}};
  char name[256];
  size_t len = strlen(tensor), skip = sizeof PREFIX - 1;
  if (len + 8 > sizeof name || strncmp(tensor, PREFIX, skip)) return NULL;
  *part = PART_VALUE;
  snprintf(name, sizeof name, "%s", tensor + skip);
  len -= skip;
  for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
    size_t n = strlen(ends[i].end);
    if (len <= n || strcmp(name + len - n, ends[i].end)) continue;
    *part = ends[i].part;
    snprintf(name + len - n, sizeof name - (len - n), ".weight");
    break;
  }
  return find_param(m, name);
}

/* A tensor as a parameter by itself, whose data are malloc'ed. */
static tl_status take(const tl_st_tensor *t, tl_param *out, const char *dir, tl_err *err) {
  *out = (tl_param){.name = t->name, .ndim = t->ndim, .n = tl_st_elements(t)};
  if (t->ndim < 1 || t->ndim > 2 || out->n < 1)
    return tl_fail(err, TL_DATA, "%s: tensor \"%s\" has %d axes", dir, t->name, t->ndim);
  for (int i = 0; i < t->ndim; i++) out->shape[i] = t->shape[i];
  out->data = malloc((size_t)out->n * sizeof(float));
  if (!out->data) return tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
  return tl_st_read_f32(t, out->data, err);
}

static bool is_conv1d(const tl_model *m, const tl_param *w) {
  for (int64_t i = 0; i < m->n_blocks; i++) {
    const tl_block *b = &m->block[i];
    const tl_linear_spec *list[] = {&b->attn.qkv, &b->attn.out, &b->mlp.in, &b->mlp.out};
    for (int k = 0; k < 4; k++)
      for (int j = 0; j < list[k]->n; j++)
        if (list[k]->w[j] == w) return list[k]->conv1d;
  }
  return false;
}

/* The shapes of what was read for w: A [r, in], B [out, r], magnitudes [out]. */
static bool fits(const tl_param *w, const tl_param *x, bool conv1d) {
  int64_t in = w->shape[conv1d ? 0 : 1], out = w->shape[conv1d ? 1 : 0];
  return w->ndim == 2 && x[PART_A].ndim == 2 && x[PART_B].ndim == 2 && x[PART_A].shape[1] == in &&
         x[PART_B].shape[0] == out && x[PART_A].shape[0] == x[PART_B].shape[1] &&
         (!x[PART_M].data || x[PART_M].n == out);
}

/* Values that are views of a mapped file become the store's own before they change. */
static void own_values(tl_model *m, tl_param *w) {
  float *own = m->params.values + w->offset;
  if (w->data != own) memcpy(own, w->data, (size_t)w->n * sizeof *own);
  w->data = own;
  w->flags |= TL_PARAM_CHANGED;
}

static tl_status update(tl_model *m, tl_param *w, tl_param *x, const about *a, const char *dir,
                        tl_err *err) {
  bool conv1d = is_conv1d(m, w);
  if (!x[PART_A].data || !x[PART_B].data || !fits(w, x, conv1d))
    return tl_fail(err, TL_DATA,
                   "%s: the low-rank update of %s, [%lld, %lld], is not whole, or does not fit it",
                   dir, w->name, (long long)w->shape[0], (long long)w->shape[1]);
  double r = (double)x[PART_A].shape[0];
  own_values(m, w);
  w->lora_a = &x[PART_A];
  w->lora_b = &x[PART_B];
  w->lora_m = x[PART_M].data ? &x[PART_M] : NULL;
  w->lora_scale = (float)(a->alpha / (a->rs ? sqrt(r) : r));
  w->lora_conv1d = conv1d;
  tl_lora_merge(w, w->data);
  w->lora_a = w->lora_b = w->lora_m = NULL;
  return TL_OK;
}

static tl_status replace(tl_model *m, tl_param *w, const tl_st_tensor *t, const char *dir,
                         tl_err *err) {
  bool same = w->ndim == t->ndim;
  for (int i = 0; same && i < w->ndim; i++) same = w->shape[i] == t->shape[i];
  if (!same)
    return tl_fail(err, TL_DATA, "%s: tensor \"%s\" has another shape than %s of the model", dir,
                   t->name, w->name);
  own_values(m, w);
  return tl_st_read_f32(t, w->data, err);
}

/* All tensors that are for the parameter of tensor i; those seen before are skipped. */
static tl_status apply_one(tl_model *m, const tl_st *st, size_t i, const about *a, const char *dir,
                           tl_err *err) {
  int part = 0;
  tl_param *w = classify(m, tl_st_at(st, i)->name, &part), x[N_PARTS] = {{0}};
  if (!w)
    return tl_fail(err, TL_DATA,
                   "%s: tensor \"%s\" belongs to no weight of this model (%s): an adapter of "
                   "another base, or a kind that is not supported",
                   dir, tl_st_at(st, i)->name, m->arch->name);
  if (part == PART_VALUE) return replace(m, w, tl_st_at(st, i), dir, err);
  tl_status s = TL_OK;
  bool first = true;
  for (size_t k = 0; s == TL_OK && k < tl_st_count(st); k++) {
    int p = 0;
    if (classify(m, tl_st_at(st, k)->name, &p) != w || p == PART_VALUE) continue;
    if (k < i) first = false;
    if (k >= i && first && !x[p].data) s = take(tl_st_at(st, k), &x[p], dir, err);
  }
  if (s == TL_OK && first) s = update(m, w, x, a, dir, err);
  for (int p = 0; p < N_PARTS; p++) free(x[p].data);
  return s;
}

tl_status tl_lora_apply(tl_model *m, const char *dir, tl_err *err) {
  char *about_path = tl_path_join(dir, "adapter_config.json"),
       *path = tl_path_join(dir, "adapter_model.safetensors");
  about a = {0};
  tl_st *st = NULL;
  tl_status s = path && about_path ? TL_OK : tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
  if (s == TL_OK) s = read_about(about_path, &a, err);
  if (s == TL_OK) s = tl_st_open(path, &st, err);
  for (size_t i = 0; s == TL_OK && i < tl_st_count(st); i++) s = apply_one(m, st, i, &a, dir, err);
  tl_st_close(st);
  free(path);
  free(about_path);
  tl_params_changed(&m->params);
  return s;
}
