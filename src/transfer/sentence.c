#include "transfer/sentence.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

enum { MAX_FILE = 1 << 20 };

/* An object or array; NULL when the file is absent. */
static tl_status load(const char *dir, const char *name, json_t **out, tl_err *err) {
  char *path = tl_path_join(dir, name);
  tl_buf b = {0};
  json_error_t e;
  *out = NULL;
  if (!path) return tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
  tl_status s = TL_OK;
  if (tl_file_exists(path)) {
    s = tl_file_read(path, MAX_FILE, &b, err);
    if (s == TL_OK) *out = json_loadb(b.len ? b.data : "", b.len, JSON_REJECT_DUPLICATES, &e);
    if (s == TL_OK && !*out)
      s = tl_fail(err, TL_DATA, "%s:%d:%d: %s", path, e.line, e.column, e.text);
  }
  tl_buf_free(&b);
  free(path);
  return s;
}

static tl_status read_pooling(const char *dir, const char *folder, tl_pooling *pool, tl_err *err) {
  static const struct {
    const char *key, *word;
    tl_pooling pool;
  } modes[] = {{"pooling_mode_mean_tokens", "mean", TL_POOL_MEAN},
               {"pooling_mode_cls_token", "cls", TL_POOL_FIRST},
               {"pooling_mode_lasttoken", "lasttoken", TL_POOL_LAST}};
  json_t *o = NULL, *v;
  const char *key;
  char *path = tl_path_join(dir, folder);
  if (!path) return tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
  tl_status s = load(path, "config.json", &o, err);
  const char *word = json_string_value(json_object_get(o, "pooling_mode"));
  int on = 0, known = 0;
  json_object_foreach(o, key, v) on += !strncmp(key, "pooling_mode_", 13) && json_is_true(v);
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
    if (json_is_true(json_object_get(o, modes[i].key)) || (word && !strcmp(word, modes[i].word))) {
      *pool = modes[i].pool;
      known++;
    }
  if (s == TL_OK && (known != 1 || on > 1))
    s = tl_fail(err, TL_CONFIG,
                "%s/config.json: only pooling by the mean, the first or the last token is "
                "supported; --pool chooses one in its place",
                path);
  json_decref(o);
  free(path);
  return s;
}

static tl_status read_module(const char *dir, const json_t *module, tl_sentence_settings *out,
                             tl_err *err) {
  const char *type = json_string_value(json_object_get(module, "type"));
  const char *path = json_string_value(json_object_get(module, "path"));
  const char *name = type ? strrchr(type, '.') : NULL;
  name = name ? name + 1 : type;
  if (!name || !path || strchr(path, '/') || strstr(path, ".."))
    return tl_fail(err, TL_DATA, "%s/modules.json: a module without a type, or a path in it", dir);
  if (!strcmp(name, "Pooling")) {
    out->found = true;
    return read_pooling(dir, path, &out->pool, err);
  }
  if (!strcmp(name, "Transformer") || !strcmp(name, "Normalize")) return TL_OK;
  return tl_fail(err, TL_CONFIG, "%s/modules.json: modules of type %.100s are not supported", dir,
                 name);
}

tl_status tl_sentence_read(const char *dir, tl_sentence_settings *out, tl_err *err) {
  json_t *modules = NULL, *o = NULL;
  *out = (tl_sentence_settings){0};
  tl_status s = load(dir, "modules.json", &modules, err);
  for (size_t i = 0; s == TL_OK && i < json_array_size(modules); i++)
    s = read_module(dir, json_array_get(modules, i), out, err);
  json_decref(modules);
  if (s == TL_OK) s = load(dir, "sentence_bert_config.json", &o, err);
  const json_t *len = json_object_get(o, "max_seq_length");
  if (json_is_integer(len) && json_integer_value(len) >= 8) out->max_len = json_integer_value(len);
  json_decref(o);
  return s;
}
