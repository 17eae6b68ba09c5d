#include "models/place.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tilth/gguf.h"

enum { MAX_CONFIG_BYTES = 1 << 20 };

static bool has_file(const char *dir, const char *name) {
  char *path = tl_path_join(dir, name);
  bool there = path && tl_file_exists(path);
  free(path);
  return there;
}

static bool is_model(const char *path) {
  return tl_is_dir(path) || tl_gguf_is_file(path);
}

/* base_model_name_or_path of an adapter: a model, or one beside the adapter's folder. */
static tl_status find_base(const char *adapter, char **out, tl_err *err) {
  char *path = tl_path_join(adapter, "adapter_config.json");
  if (!path) return tl_fail(err, TL_NOMEM, "%s: out of memory", adapter);
  tl_buf text = {0};
  tl_status s = tl_file_read(path, MAX_CONFIG_BYTES, &text, err);
  json_error_t je;
  json_t *o = s == TL_OK ? json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &je) : NULL;
  tl_buf_free(&text);
  const char *base = json_string_value(json_object_get(o, "base_model_name_or_path"));
  if (s == TL_OK && !o)
    s = tl_fail(err, TL_DATA, "%s:%d:%d: %s", path, je.line, je.column, je.text);
  else if (s == TL_OK && !base)
    s = tl_fail(err, TL_DATA,
                "%s: \"base_model_name_or_path\" is missing; name the model that the adapter "
                "belongs to: BASE,%s",
                path, adapter);
  char *beside = s == TL_OK ? tl_path_join(adapter, base) : NULL;
  if (s == TL_OK && is_model(base))
    *out = strdup(base);
  else if (beside && is_model(beside))
    *out = strdup(beside);
  else if (s == TL_OK)
    s = tl_fail(err, TL_NOINPUT,
                "%s: the adapter belongs to \"%s\", which is no folder here; name it with "
                "--adapter: tilth COMMAND BASE --adapter %s",
                path, base, adapter);
  if (s == TL_OK && !*out) s = tl_fail(err, TL_NOMEM, "%s: out of memory", adapter);
  free(beside);
  json_decref(o);
  free(path);
  return s;
}

tl_status tl_model_locate(const char *name, tl_model_place *p, tl_err *err) {
  *p = (tl_model_place){0};
  tl_status s = TL_OK;
  const char *comma = tl_file_exists(name) || tl_is_dir(name) ? NULL : strrchr(name, ',');
  if (comma) {
    p->base = strndup(name, (size_t)(comma - name));
    p->adapter = strdup(comma + 1);
    if (p->adapter && !has_file(p->adapter, "adapter_config.json"))
      s = tl_fail(err, TL_NOINPUT, "%s: no adapter_config.json; an adapter's folder is expected",
                  p->adapter);
  } else if (has_file(name, "adapter_config.json")) {
    p->adapter = strdup(name);
    s = find_base(name, &p->base, err);
  } else {
    p->base = strdup(name);
  }
  if (s == TL_OK) {
    bool told = p->adapter && has_file(p->adapter, "config.json");
    p->described = p->base ? strdup(told ? p->adapter : p->base) : NULL;
    if (!p->described || (comma && !p->adapter))
      s = tl_fail(err, TL_NOMEM, "%s: out of memory", name);
  }
  if (s != TL_OK) tl_model_place_free(p);
  return s;
}

void tl_model_place_free(tl_model_place *p) {
  free(p->base);
  free(p->adapter);
  free(p->described);
  *p = (tl_model_place){0};
}

tl_status tl_model_tokenizer(const char *name, tl_tokenizer **out, tl_err *err) {
  tl_model_place p;
  TL_TRY(tl_model_locate(name, &p, err));
  bool own = p.adapter && has_file(p.adapter, "tokenizer.json");
  tl_status s = tl_tokenizer_load(own ? p.adapter : p.base, out, err);
  tl_model_place_free(&p);
  return s;
}
