/* Files of known formats as one JSON document: {"format", "file", "facts": {..}, "tensors": [..]}.
 * To add a format: a row in `formats`. */
#include "tilth/describe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "formats/describe.h"
#include "formats/json.h"
#include "formats/tensorboard.h"
#include "tilth/checkpoint.h"
#include "tilth/dataset.h"
#include "tilth/gguf.h"
#include "tilth/npy.h"
#include "tilth/safetensors.h"

enum { HEAD = 16, SHOWN = 6, MAX_SHOWN = 200, MAX_SERIES = 1000 };
static const size_t MAX_JSON = (size_t)256 << 20, MAX_EVENTS = (size_t)1 << 31;

/* A string of unknown bytes as valid UTF-8: what is not, and control characters, as \xNN. */
static json_t *safe_string(const char *s, size_t n) {
  tl_buf b = {0};
  size_t shown = n < MAX_SHOWN ? n : MAX_SHOWN;
  tl_buf_puts(&b, "");
  for (size_t i = 0; i < shown;) {
    size_t len = tl_describe_utf8(s + i, shown - i);
    if (len)
      tl_buf_append(&b, s + i, len);
    else
      tl_buf_printf(&b, "\\x%02x", (unsigned char)s[i]);
    i += len ? len : 1;
  }
  if (shown < n) tl_buf_printf(&b, "... (%zu bytes)", n);
  json_t *v = b.oom ? NULL : json_stringn(b.data, b.len);
  tl_buf_free(&b);
  return v;
}

static json_t *facts_of(json_t *o) {
  return json_object_get(o, "facts");
}

static void add_tensor(json_t *o, json_t *name, const char *dtype, int ndim, const int64_t *shape,
                       uint64_t bytes) {
  json_t *sizes = json_array();
  for (int i = 0; i < ndim; i++) json_array_append_new(sizes, json_integer(shape[i]));
  json_array_append_new(json_object_get(o, "tensors"),
                        json_pack("{s:o, s:s, s:o, s:I}", "name", name, "dtype", dtype, "shape",
                                  sizes, "bytes", (json_int_t)bytes));
}

/* --- safetensors -------------------------------------------------------------------------------
 */

static void add_st(const tl_st *st, json_t *o) {
  for (size_t i = 0; i < tl_st_count(st); i++) {
    const tl_st_tensor *t = tl_st_at(st, i);
    add_tensor(o, safe_string(t->name, strlen(t->name)), tl_st_dtype_name(t->dtype), t->ndim,
               t->shape, t->size);
  }
}

static tl_status describe_st(const char *path, json_t *o, tl_err *err) {
  tl_st *st = NULL;
  TL_TRY(tl_st_open(path, &st, err));
  const char *format = tl_st_meta(st, "format");
  if (format)
    json_object_set_new(facts_of(o), "metadata.format", safe_string(format, strlen(format)));
  add_st(st, o);
  tl_st_close(st);
  return TL_OK;
}

static bool is_st(const char *path, const unsigned char *head, size_t n) {
  static const char end[] = ".index.json";
  size_t len = strlen(path), k = sizeof end - 1;
  if (len > k && !strcmp(path + len - k, end)) return true;
  return n > 9 && (head[8] == '{' || head[8] == ' ') && head[7] == 0 && head[6] == 0;
}

/* --- GGUF --------------------------------------------------------------------------------------
 */

static json_t *gguf_value(const tl_gguf_kv *kv, uint64_t i) {
  if (kv->elem == TL_GGUF_STRING) {
    tl_gguf_str s = tl_gguf_string(kv, i);
    return safe_string(s.s, (size_t)s.n);
  }
  double v = tl_gguf_number(kv, i);
  if (kv->elem == TL_GGUF_BOOL) return json_boolean(v != 0);
  if (kv->elem == TL_GGUF_F32 || kv->elem == TL_GGUF_F64) {
    json_t *real = json_real(v);
    return real ? real : json_string("not a number");
  }
  return json_integer((json_int_t)v);
}

static tl_status describe_gguf(const char *path, json_t *o, tl_err *err) {
  tl_gguf g;
  TL_TRY(tl_gguf_open(path, &g, err));
  json_object_set_new(facts_of(o), "version", json_integer(g.version));
  for (size_t i = 0; i < g.n_kv; i++) {
    const tl_gguf_kv *kv = &g.kv[i];
    json_t *value = kv->kind == TL_GGUF_ARRAY ? json_array() : gguf_value(kv, 0);
    for (uint64_t k = 0; kv->kind == TL_GGUF_ARRAY && k < kv->n && k < SHOWN; k++)
      json_array_append_new(value, gguf_value(kv, k));
    if (kv->kind == TL_GGUF_ARRAY && kv->n > SHOWN) {
      char more[48];
      snprintf(more, sizeof more, "... %llu in all", (unsigned long long)kv->n);
      json_array_append_new(value, json_string(more));
    }
    json_t *key = safe_string(kv->key.s, (size_t)kv->key.n);
    json_object_set_new(facts_of(o), json_string_value(key), value);
    json_decref(key);
  }
  for (size_t i = 0; i < g.n_tensors; i++) {
    const tl_gguf_tensor *t = &g.tensor[i];
    add_tensor(o, safe_string(t->name.s, (size_t)t->name.n), tl_ggml_name(t->type), t->ndim,
               t->shape, t->size);
  }
  tl_gguf_close(&g);
  return TL_OK;
}

static bool is_gguf(const char *path, const unsigned char *head, size_t n) {
  (void)path;
  return n >= 4 && !memcmp(head, "GGUF", 4);
}

/* --- NumPy -------------------------------------------------------------------------------------
 */

static tl_status add_array(void *user, const char *name, const tl_npy *a, tl_err *err) {
  (void)err;
  char dtype[48];
  snprintf(dtype, sizeof dtype, "%s%c%d%s", a->big_endian && a->item > 1 ? ">" : "", a->kind,
           a->item, a->fortran ? " (columns first)" : "");
  add_tensor(user, safe_string(name, strlen(name)), dtype, a->ndim, a->shape,
             (uint64_t)a->n * (uint64_t)a->item);
  return TL_OK;
}

static tl_status describe_npz(const char *path, json_t *o, tl_err *err) {
  return tl_npz_each(path, 0, add_array, o, err);
}

static bool is_npz(const char *path, const unsigned char *head, size_t n) {
  (void)path;
  return n >= 6 && (!memcmp(head, "\x93NUMPY", 6) || !memcmp(head, "PK\3\4", 4));
}

/* --- TensorBoard -------------------------------------------------------------------------------
 */

static tl_status add_scalar(void *user, double wall, int64_t step, const char *tag, size_t n,
                            float value, tl_err *err) {
  (void)wall;
  json_t *series = user, *name = safe_string(tag, n);
  const char *key = json_string_value(name);
  json_t *o = json_object_get(series, key);
  tl_status s = TL_OK;
  if (!o && json_object_size(series) >= MAX_SERIES)
    s = tl_fail(err, TL_DATA, "over %d different tags", MAX_SERIES);
  if (!o && s == TL_OK) {
    o = json_pack("{s:i, s:I}", "values", 0, "first step", (json_int_t)step);
    json_object_set_new(series, key, o);
  }
  if (s == TL_OK) {
    json_int_t count = json_integer_value(json_object_get(o, "values")) + 1;
    json_object_set_new(o, "values", json_integer(count));
    json_object_set_new(o, "last step", json_integer(step));
    json_t *last = json_real((double)value);
    json_object_set_new(o, "last value", last ? last : json_string("not a number"));
  }
  json_decref(name);
  return s;
}

static tl_status describe_events(const char *path, json_t *o, tl_err *err) {
  tl_map map;
  bool torn = false;
  TL_TRY(tl_map_open(path, &map, err));
  tl_status s = map.size > MAX_EVENTS
                    ? tl_fail(err, TL_DATA, "%s: an event file of over 2 GiB", path)
                    : tl_tb_read(path, map.data, map.size, add_scalar, facts_of(o), &torn, err);
  if (torn) json_object_set_new(o, "note", json_string("the last record is cut off"));
  tl_map_close(&map);
  return s;
}

static bool is_events(const char *path, const unsigned char *head, size_t n) {
  (void)path;
  uint32_t crc = 0;
  if (n < 12) return false;
  memcpy(&crc, head + 8, 4);
  return tl_tb_masked_crc(head, 8) == crc;
}

/* --- tokenizer.json ----------------------------------------------------------------------------
 */

static tl_status describe_tokenizer(const char *path, json_t *o, tl_err *err) {
  static const char *const parts[] = {"normalizer", "pre_tokenizer", "post_processor", "decoder",
                                      "model"};
  tl_buf b = {0};
  json_t *root = NULL;
  tl_status s = tl_file_read(path, MAX_JSON, &b, err);
  if (s == TL_OK) s = tl_json_object(path, b.data, b.len, &root, err);
  json_t *model = json_object_get(root, "model"), *vocab = json_object_get(model, "vocab");
  if (s == TL_OK && !json_is_object(model))
    s = tl_fail(err, TL_DATA, "%s: JSON, but of no known format", path);
  for (size_t i = 0; s == TL_OK && i < sizeof parts / sizeof *parts; i++) {
    const char *type = json_string_value(json_object_get(json_object_get(root, parts[i]), "type"));
    json_object_set_new(facts_of(o), parts[i],
                        type ? safe_string(type, strlen(type)) : json_string("none"));
  }
  if (s == TL_OK) {
    size_t n = json_is_object(vocab) ? json_object_size(vocab) : json_array_size(vocab);
    size_t merges = json_array_size(json_object_get(model, "merges"));
    json_object_set_new(facts_of(o), "tokens", json_integer((json_int_t)n));
    json_object_set_new(facts_of(o), "merges", json_integer((json_int_t)merges));
    json_object_set_new(
        facts_of(o), "added tokens",
        json_integer((json_int_t)json_array_size(json_object_get(root, "added_tokens"))));
  }
  json_decref(root);
  tl_buf_free(&b);
  return s;
}

static bool is_json(const char *path, const unsigned char *head, size_t n) {
  (void)path;
  return n > 0 && head[0] == '{';
}

/* --- token files of llm.c ----------------------------------------------------------------------
 */

static bool is_llmc(const char *path, const unsigned char *head, size_t n) {
  (void)path;
  uint32_t v[2] = {0};
  if (n >= sizeof v) memcpy(v, head, sizeof v);
  return (v[0] == TL_LLMC_MAGIC_16 && v[1] == TL_LLMC_VERSION_16) ||
         (v[0] == TL_LLMC_MAGIC_32 && v[1] == TL_LLMC_VERSION_32);
}

static tl_status describe_llmc(const char *path, json_t *o, tl_err *err) {
  tl_map map;
  uint32_t head[3] = {0};
  TL_TRY(tl_map_open(path, &map, err));
  if (map.size >= sizeof head) memcpy(head, map.data, sizeof head);
  uint64_t bytes = head[0] == TL_LLMC_MAGIC_16 ? 2 : 4;
  uint64_t want = TL_LLMC_WORDS * 4 + bytes * head[2];
  tl_status s = map.size == want ? TL_OK
                                 : tl_fail(err, TL_DATA,
                                           "%s: %zu bytes; its header says %u tokens, which take "
                                           "%llu with it",
                                           path, map.size, head[2], (unsigned long long)want);
  tl_map_close(&map);
  json_object_set_new(facts_of(o), "version", json_integer(head[1]));
  json_object_set_new(facts_of(o), "tokens", json_integer(head[2]));
  json_object_set_new(facts_of(o), "bytes of a token", json_integer((json_int_t)bytes));
  return s;
}

/* --- folders -----------------------------------------------------------------------------------
 */

static tl_status describe_checkpoint(const char *dir, json_t *o, tl_err *err) {
  tl_ckpt *c = NULL;
  tl_st *st = NULL;
  double score;
  TL_TRY(tl_ckpt_open(dir, &c, err));
  json_object_set_new(facts_of(o), "step", json_integer(tl_ckpt_step(c)));
  if (tl_ckpt_score(c, &score)) json_object_set_new(facts_of(o), "score", json_real(score));
  json_object_set_new(facts_of(o), "checksums", json_string("all files are as they were written"));
  tl_status s = TL_OK;
  if (tl_ckpt_has(c, "model.safetensors")) s = tl_ckpt_tensors(c, "model.safetensors", &st, err);
  if (s == TL_OK && st) add_st(st, o);
  tl_st_close(st);
  tl_ckpt_close(c);
  return s;
}

/* Values and lists of strings of a configuration. */
static void add_config(json_t *config, json_t *o) {
  json_t *v, *x;
  const char *key;
  size_t i;
  json_object_foreach(config, key, v) {
    if (json_is_object(v) || (json_is_array(v) && !json_is_string(json_array_get(v, 0)))) continue;
    json_t *shown = json_is_array(v) ? json_array() : json_incref(v);
    json_array_foreach(v, i, x) {
      const char *s = json_string_value(x);
      if (s && i < SHOWN) json_array_append_new(shown, safe_string(s, json_string_length(x)));
    }
    if (json_is_string(v)) {
      json_decref(shown);
      shown = safe_string(json_string_value(v), json_string_length(v));
    }
    json_object_set_new(facts_of(o), key, shown);
  }
}

/* Weights and configuration of a model's folder, or of an adapter's. */
static tl_status describe_parts(const char *dir, const char *weights, const char *configuration,
                                json_t *o, tl_err *err) {
  TL_TRY(describe_st(weights, o, err));
  char *path = tl_path_join(dir, configuration);
  tl_buf b = {0};
  json_t *config = NULL;
  tl_status s = path ? TL_OK : tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
  if (s == TL_OK && tl_file_exists(path)) s = tl_file_read(path, 1 << 20, &b, err);
  if (s == TL_OK && b.len) s = tl_json_object(path, b.data, b.len, &config, err);
  if (s == TL_OK && config) add_config(config, o);
  json_decref(config);
  tl_buf_free(&b);
  free(path);
  return s;
}

static tl_status describe_adapter(const char *dir, json_t *o, tl_err *err) {
  char *path = tl_path_join(dir, "adapter_model.safetensors");
  if (!path) return tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
  tl_status s = describe_parts(dir, path, "adapter_config.json", o, err);
  free(path);
  return s;
}

static bool holds(const char *dir, const char *name) {
  char *path = tl_path_join(dir, name);
  bool there = path && tl_file_exists(path);
  free(path);
  return there;
}

/* --- all ---------------------------------------------------------------------------------------
 */

static const struct format {
  const char *name;
  bool (*is)(const char *path, const unsigned char *head, size_t n);
  tl_status (*describe)(const char *path, json_t *o, tl_err *err);
} formats[] = {{"GGUF", is_gguf, describe_gguf},
               {"NumPy", is_npz, describe_npz},
               {"TensorBoard events", is_events, describe_events},
               {"llm.c tokens", is_llmc, describe_llmc},
               {"safetensors", is_st, describe_st},
               {"tokenizer.json", is_json, describe_tokenizer}};

static tl_status describe_folder(const char *path, json_t *o, tl_err *err) {
  bool checkpoint = holds(path, "manifest.json");
  bool adapter = !checkpoint && holds(path, "adapter_model.safetensors");
  json_object_set_new(o, "format",
                      json_string(checkpoint ? "checkpoint"
                                  : adapter  ? "adapter folder"
                                             : "model folder"));
  if (checkpoint) return describe_checkpoint(path, o, err);
  if (adapter) return describe_adapter(path, o, err);
  return describe_parts(path, path, "config.json", o, err);
}

static tl_status describe_known(const char *path, json_t *o, tl_err *err) {
  tl_map map;
  if (tl_is_dir(path)) return describe_folder(path, o, err);
  TL_TRY(tl_map_open(path, &map, err));
  unsigned char head[HEAD] = {0};
  size_t n = map.size < HEAD ? map.size : HEAD;
  if (n) memcpy(head, map.data, n);
  tl_map_close(&map);
  for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
    if (!formats[i].is(path, head, n)) continue;
    json_object_set_new(o, "format", json_string(formats[i].name));
    return formats[i].describe(path, o, err);
  }
  return tl_fail(err, TL_DATA,
                 "%s: of no known format; known are safetensors, GGUF, .npy, .npz, TensorBoard "
                 "events, tokenizer.json, llm.c's tokens, folders of models, adapters and "
                 "checkpoints",
                 path);
}

tl_status tl_describe_file(const char *path, bool json, char **text, tl_err *err) {
  json_t *o = json_pack("{s:s, s:o, s:{}, s:[]}", "format", "?", "file",
                        safe_string(path, strlen(path)), "facts", "tensors");
  if (!o) return tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  tl_status s = describe_known(path, o, err);
  if (s == TL_OK) {
    *text = json ? json_dumps(o, JSON_INDENT(1)) : tl_describe_lines(o);
    if (!*text) s = tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  }
  json_decref(o);
  return s;
}
