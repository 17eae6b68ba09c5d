/* Folders in Hugging Face's form: checked, brought to today's names, stored as asked. */
#include "tilth/convert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/half.h"
#include "models/gguf_model.h"

static const size_t MAX_OTHER = (size_t)1 << 30; /* bytes of one file that is carried over */

typedef struct item {
  tl_st_tensor t; /* name, type and shape as they will be written */
  const tl_st_tensor *from;
} item;

typedef struct job {
  const char *from, *out;
  const tl_convert_options *o;
  tl_convert_report report;
  tl_model *m;
  tl_st *st;
  item *item;
  size_t n;
  tl_st_dtype dtype;
  bool keep; /* every tensor keeps its type */
} job;

static tl_status parse_dtype(job *j, tl_err *err) {
  static const struct {
    const char *name;
    tl_st_dtype dtype;
  } names[] = {{"f32", TL_ST_F32}, {"f16", TL_ST_F16}, {"bf16", TL_ST_BF16}};
  j->keep = !j->o->dtype;
  if (j->keep) return TL_OK;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (!strcmp(j->o->dtype, names[i].name)) {
      j->dtype = names[i].dtype;
      return TL_OK;
    }
  return tl_fail(err, TL_CONFIG, "dtype \"%s\" is unknown; expected f32, f16 or bf16", j->o->dtype);
}

static bool is_real(tl_st_dtype t) {
  return t == TL_ST_F32 || t == TL_ST_F64 || t == TL_ST_F16 || t == TL_ST_BF16;
}

/* Buffers that readers compute anew. */
static bool is_computed(const char *name) {
  static const char *const ends[] = {"position_ids", ".attn.bias", ".attn.masked_bias",
                                     "rotary_emb.inv_freq"};
  size_t n = strlen(name);
  for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
    size_t k = strlen(ends[i]);
    if (n >= k && !strcmp(name + n - k, ends[i])) return true;
  }
  return false;
}

/* The parameter of the model that this tensor is; NULL: none. */
static const tl_param *param_of(const job *j, const tl_st_tensor *t) {
  for (int i = 0; i < j->m->params.n; i++)
    if (tl_model_find_tensor(j->st, j->m, j->m->params.p[i]->name) == t) return j->m->params.p[i];
  return NULL;
}

/* Tied output matrices are stored once. */
static bool is_tied_copy(const job *j, const char *name) {
  size_t n = strlen(name);
  static const char *const heads[] = {"lm_head.weight", "decoder.weight"};
  if (!j->m->c.tie) return false;
  for (int i = 0; i < 2; i++) {
    size_t k = strlen(heads[i]);
    if (n >= k && !strcmp(name + n - k, heads[i])) return true;
  }
  return n > 12 && !strcmp(name + n - 12, "decoder.bias") && j->m->arch->encoder &&
         tl_params_find(&j->m->params, name) == NULL;
}

static tl_status collect(job *j, tl_err *err) {
  size_t n = tl_st_count(j->st);
  j->item = calloc(n + 1, sizeof *j->item);
  if (!j->item) return tl_fail(err, TL_NOMEM, "%s: out of memory", j->out);
  for (size_t i = 0; i < n; i++) {
    const tl_st_tensor *t = tl_st_at(j->st, i);
    const tl_param *p = param_of(j, t);
    if (!p && (is_computed(t->name) || is_tied_copy(j, t->name))) {
      j->report.dropped++;
      continue;
    }
    item *it = &j->item[j->n++];
    it->from = t;
    it->t = *t;
    if (p) it->t.name = p->name;
    if (!p) j->report.unused++;
    if (p && strcmp(p->name, t->name)) j->report.renamed++;
    if (!j->keep && is_real(t->dtype)) it->t.dtype = j->dtype;
  }
  j->report.tensors = (int64_t)j->n;
  return TL_OK;
}

/* The values of one tensor in the type asked for; *owned is freed by the caller. */
static tl_status convert(const item *it, void **owned, const void **data, tl_err *err) {
  *owned = NULL;
  *data = it->from->data;
  if (it->from->dtype == it->t.dtype) return TL_OK;
  size_t n = (size_t)tl_st_elements(it->from);
  float *x = malloc((n + 1) * sizeof *x);
  if (!x) return tl_fail(err, TL_NOMEM, "%s: out of memory", it->t.name);
  tl_status s = tl_st_read_f32(it->from, x, err);
  for (size_t i = 0; s == TL_OK && it->t.dtype != TL_ST_F32 && i < n; i++) {
    uint16_t h = it->t.dtype == TL_ST_F16 ? tl_f32_to_half(x[i]) : tl_f32_to_bf16(x[i]);
    memcpy((char *)x + 2 * i, &h, 2); /* in place: what is read lies behind what is written */
  }
  *data = *owned = x;
  return s;
}

static uint64_t bytes_of(const item *it) {
  uint64_t n = (uint64_t)tl_st_elements(&it->t);
  if (it->t.dtype == it->from->dtype) return it->from->size;
  return n * (it->t.dtype == TL_ST_F32 ? 4 : 2);
}

static tl_status write_shard(job *j, size_t first, size_t end, const char *name, tl_err *err) {
  tl_st_tensor *t = calloc(end - first + 1, sizeof *t);
  void **owned = calloc(end - first + 1, sizeof *owned);
  char *path = tl_path_join(j->out, name);
  tl_status s = t && owned && path ? TL_OK : tl_fail(err, TL_NOMEM, "%s: out of memory", j->out);
  for (size_t i = first; s == TL_OK && i < end; i++) {
    t[i - first] = j->item[i].t;
    s = convert(&j->item[i], &owned[i - first], &t[i - first].data, err);
  }
  uint64_t size = 0;
  if (s == TL_OK) s = tl_st_write(path, t, end - first, NULL, 0, &size, NULL, err);
  j->report.bytes += size;
  j->report.files++;
  for (size_t i = 0; owned && i < end - first; i++) free(owned[i]);
  free(owned);
  free(path);
  free(t);
  return s;
}

/* End of the shard that begins at `first`: at least one tensor, then what fits. */
static size_t shard_end(const job *j, size_t first) {
  uint64_t most = j->o->max_shard_bytes, sum = 0;
  size_t i = first;
  for (; i < j->n; i++) {
    sum += bytes_of(&j->item[i]);
    if (most && i > first && sum > most) break;
  }
  return i;
}

static tl_status write_index(job *j, json_t *map, tl_err *err) {
  uint64_t total = 0;
  for (size_t i = 0; i < j->n; i++) total += bytes_of(&j->item[i]);
  json_t *o =
      json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)total, "weight_map", map);
  char *text = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
  char *path = tl_path_join(j->out, "model.safetensors.index.json");
  tl_status s = text && path ? tl_file_write_atomic(path, text, strlen(text), err)
                             : tl_fail(err, TL_NOMEM, "%s: out of memory", j->out);
  free(path);
  free(text);
  json_decref(o);
  return s;
}

static tl_status write_weights(job *j, tl_err *err) {
  size_t n_shards = 0, number = 0;
  for (size_t i = 0; i < j->n; i = shard_end(j, i)) n_shards++;
  if (n_shards <= 1) return write_shard(j, 0, j->n, "model.safetensors", err);
  json_t *map = json_object();
  tl_status s = TL_OK;
  for (size_t i = 0, end; s == TL_OK && i < j->n; i = end) {
    char name[64];
    end = shard_end(j, i);
    snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", ++number, n_shards);
    s = write_shard(j, i, end, name, err);
    for (size_t k = i; k < end; k++) json_object_set_new(map, j->item[k].t.name, json_string(name));
  }
  if (s == TL_OK) s = write_index(j, map, err);
  json_decref(map);
  return s;
}

static bool is_weights(const char *name) {
  static const char *const ends[] = {".safetensors", ".safetensors.index.json", ".bin",  ".h5",
                                     ".msgpack",     ".bin.index.json",         ".gguf", ".onnx",
                                     ".ot"};
  size_t n = strlen(name);
  if (!strcmp(name, "config.json")) return true;
  for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
    size_t k = strlen(ends[i]);
    if (n > k && !strcmp(name + n - k, ends[i])) return true;
  }
  return false;
}

static tl_status copy_file(const char *from, const char *to, tl_err *err) {
  tl_buf b = {0};
  tl_status s = tl_file_read(from, MAX_OTHER, &b, err);
  if (s == TL_OK) s = tl_file_write_atomic(to, b.len ? b.data : "", b.len, err);
  tl_buf_free(&b);
  return s;
}

/* All other files, and those of folders below (1_Pooling): to a depth of one. */
static tl_status copy_rest(const char *from, const char *to, int depth, tl_err *err) {
  tl_names names = {0};
  TL_TRY(tl_dir_list(from, &names, err));
  tl_status s = tl_mkdirs(to, err);
  for (size_t i = 0; s == TL_OK && i < names.n; i++) {
    const char *name = names.name[i];
    if (name[0] == '.' || (depth == 0 && is_weights(name))) continue;
    char *a = tl_path_join(from, name), *b = tl_path_join(to, name);
    if (!a || !b)
      s = tl_fail(err, TL_NOMEM, "%s: out of memory", to);
    else if (!tl_is_dir(a))
      s = copy_file(a, b, err);
    else if (depth == 0)
      s = copy_rest(a, b, 1, err);
    free(a);
    free(b);
  }
  tl_names_free(&names);
  return s;
}

static tl_status write_config(job *j, tl_err *err) {
  static const char *const names[] = {
      [TL_ST_F32] = "float32", [TL_ST_F16] = "float16", [TL_ST_BF16] = "bfloat16"};
  tl_st_dtype t = j->dtype;
  if (j->keep && j->n) t = j->item[0].t.dtype;
  const char *dtype = is_real(t) && t != TL_ST_F64 ? names[t] : "float32";
  char *text = tl_model_converted_json(j->m, dtype), *path = tl_path_join(j->out, "config.json");
  tl_status s = text && path ? tl_file_write_atomic(path, text, strlen(text), err)
                             : tl_fail(err, TL_NOMEM, "%s: out of memory", j->out);
  free(text);
  free(path);
  return s;
}

static tl_status run(job *j, tl_err *err) {
  TL_TRY(parse_dtype(j, err));
  if (tl_file_exists(j->out) && !j->o->overwrite)
    return tl_fail(err, TL_CREATE, "%s exists; give another place, or --overwrite", j->out);
  TL_TRY(tl_gguf_refuse(j->from, err));
  TL_TRY(tl_model_load(j->from, false, &j->m, err));
  TL_TRY(tl_st_open(j->from, &j->st, err));
  TL_TRY(collect(j, err));
  TL_TRY(tl_mkdirs(j->out, err));
  TL_TRY(copy_rest(j->from, j->out, 0, err));
  TL_TRY(write_weights(j, err));
  return write_config(j, err);
}

tl_status tl_convert_hf(const char *from, const char *out_dir, const tl_convert_options *o,
                        tl_convert_report *report, tl_err *err) {
  static const tl_convert_options defaults = {0};
  job j = {.from = from, .out = out_dir, .o = o ? o : &defaults};
  tl_status s = run(&j, err);
  if (s == TL_OK && report) *report = j.report;
  free(j.item);
  tl_st_close(j.st);
  tl_model_free(j.m);
  return s;
}
