#include "config/keys.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "config/presets.h"
#include "tilth/suggest.h"

extern char **environ;

tl_status tl_config_new(tl_config **out, tl_err *err) {
  tl_config *c = calloc(1, sizeof *c);
  if (c) c->state = calloc(1, sizeof *c->state);
  if (c && c->state)
    c->state->origin = tl_arena_alloc(&c->state->arena, tl_n_keys * sizeof *c->state->origin);
  if (!c || !c->state || !c->state->origin) {
    tl_config_free(c);
    return tl_fail(err, TL_NOMEM, "out of memory for the configuration");
  }
  for (size_t i = 0; i < tl_n_keys; i++) {
    const tl_key *k = &tl_keys[i];
    tl_status s =
        tl_key_set(c, k, &k->def, k->def ? 1 : 0, TL_CONFIG_DEFAULT, "default: ", "default", err);
    if (s != TL_OK) {
      tl_config_free(c);
      return s;
    }
  }
  *out = c;
  return TL_OK;
}

static tl_status copy_key(const tl_key *k, const tl_config *from, tl_config *to, tl_err *err) {
  const void *v = tl_key_value(k, from);
  char number[32];
  const char *text = number;
  const char *const *items = &text;
  size_t n = 1;
  switch (k->type) {
  case TL_KEY_INT:
    snprintf(number, sizeof number, "%lld", (long long)*(const int64_t *)v);
    break;
  case TL_KEY_REAL:
    snprintf(number, sizeof number, "%.17g", *(const double *)v);
    break;
  case TL_KEY_BOOL:
    text = *(const bool *)v ? "true" : "false";
    break;
  case TL_KEY_TEXT:
  case TL_KEY_ENUM:
    text = *(const char *const *)v;
    break;
  case TL_KEY_LIST:
    items = ((const tl_strlist *)v)->item;
    n = ((const tl_strlist *)v)->n;
    break;
  }
  return tl_key_set(to, k, items, n, TL_CONFIG_FLAG, "copy: ", "copy", err);
}

tl_status tl_config_copy(const tl_config *c, tl_config **out, tl_err *err) {
  tl_config *copy = NULL;
  TL_TRY(tl_config_new(&copy, err));
  tl_status s = TL_OK;
  for (size_t i = 0; i < tl_n_keys && s == TL_OK; i++) s = copy_key(&tl_keys[i], c, copy, err);
  if (s == TL_OK)
    *out = copy;
  else
    tl_config_free(copy);
  return s;
}

void tl_config_free(tl_config *c) {
  if (!c) return;
  if (c->state) tl_arena_free(&c->state->arena);
  free(c->state);
  free(c);
}

static const tl_preset *preset_find(const char *name) {
  for (const tl_preset *p = tl_presets; p->name; p++)
    if (!strcmp(p->name, name)) return p;
  return NULL;
}

const char *tl_config_preset_name(size_t i) {
  for (size_t n = 0; tl_presets[n].name; n++)
    if (n == i) return tl_presets[n].name;
  return NULL;
}

const char *tl_config_preset_help(const char *name) {
  const tl_preset *p = preset_find(name);
  return p ? p->help : NULL;
}

/* Splits the items of a list at commas (in place) and sets the key. */
static tl_status set_split(tl_config *c, const tl_key *k, char *value, tl_config_level level,
                           const char *prefix, const char *where, tl_err *err) {
  if (k->type != TL_KEY_LIST)
    return tl_key_set(c, k, (const char *const *)&value, 1, level, prefix, where, err);
  size_t n = *value ? 1 : 0;
  for (const char *p = value; *p; p++) n += *p == ',';
  const char **items = calloc(n + 1, sizeof *items);
  if (!items) return tl_fail(err, TL_NOMEM, "%sout of memory", prefix);
  for (size_t i = 0; i < n; i++) {
    items[i] = value;
    value += strcspn(value, ",");
    if (*value) *value++ = 0;
  }
  tl_status s = tl_key_set(c, k, items, n, level, prefix, where, err);
  free(items);
  return s;
}

static tl_status set_text(tl_config *c, const char *key, const char *value, tl_config_level level,
                          const char *prefix, const char *where, tl_err *err) {
  const tl_key *k = tl_key_find(key);
  if (!k) return tl_key_unknown(prefix, key, err);
  char *copy = strdup(value);
  if (!copy) return tl_fail(err, TL_NOMEM, "%sout of memory", prefix);
  tl_status s = set_split(c, k, copy, level, prefix, where, err);
  free(copy);
  return s;
}

tl_status tl_config_set(tl_config *c, const char *key, const char *value, tl_config_level level,
                        const char *where, tl_err *err) {
  char prefix[256];
  snprintf(prefix, sizeof prefix, "%s: ", where);
  return set_text(c, key, value, level, prefix, where, err);
}

static tl_status set_assignment(tl_config *c, const char *text, tl_config_level level,
                                const char *where, tl_err *err) {
  const char *eq = strchr(text, '=');
  if (!eq)
    return tl_fail(err, TL_CONFIG, "%s: '%.200s' is not of the form section.key=value", where,
                   text);
  char key[128];
  size_t n = (size_t)(eq - text);
  if (n >= sizeof key) n = sizeof key - 1;
  memcpy(key, text, n);
  key[n] = 0;
  return tl_config_set(c, key, eq + 1, level, where, err);
}

tl_status tl_config_apply_override(tl_config *c, const char *text, tl_err *err) {
  return set_assignment(c, text, TL_CONFIG_FLAG, "command line", err);
}

tl_status tl_config_apply_preset(tl_config *c, const char *name, tl_err *err) {
  const tl_preset *p = preset_find(name);
  if (!p) {
    const char *names[64];
    tl_buf all = {0};
    size_t n = 0;
    for (const tl_preset *q = tl_presets; q->name && n < 64; q++) {
      tl_buf_printf(&all, "%s%s", n ? ", " : "", q->name);
      names[n++] = q->name;
    }
    const char *near = tl_suggest(name, names, n);
    tl_status s = tl_fail(err, TL_CONFIG, "unknown preset '%.100s'%s%s%s (presets: %s)", name,
                          near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "",
                          all.oom ? "" : all.data);
    tl_buf_free(&all);
    return s;
  }
  char where[128];
  snprintf(where, sizeof where, "preset %s", name);
  for (size_t i = 0; p->settings[i]; i++)
    TL_TRY(set_assignment(c, p->settings[i], TL_CONFIG_PRESET, where, err));
  return TL_OK;
}

/* TILTH_TRAIN_LR -> the key whose `env` is "train_lr"; NULL if none. */
static const tl_key *key_of_variable(const char *name) {
  for (size_t i = 0; i < tl_n_keys; i++)
    if (!strcmp(tl_keys[i].env, name)) return &tl_keys[i];
  return NULL;
}

static tl_status apply_variable(tl_config *c, const char *name, const char *value, tl_err *err) {
  char lower[128], variable[160], prefix[192];
  size_t n = 0;
  for (; name[n] && n < sizeof lower - 1; n++) lower[n] = (char)tolower((unsigned char)name[n]);
  lower[n] = 0;
  bool ours = false; /* variables of other parts (TILTH_CPU) have no section's name */
  for (size_t i = 0; i < tl_n_sections; i++) {
    size_t len = strlen(tl_sections[i].name);
    if (!strncmp(lower, tl_sections[i].name, len) && lower[len] == '_') ours = true;
  }
  if (!ours) return TL_OK;
  snprintf(variable, sizeof variable, "TILTH_%.*s", (int)n, name);
  snprintf(prefix, sizeof prefix, "environment variable %s: ", variable);
  const tl_key *k = key_of_variable(lower);
  if (!k) {
    *strchr(lower, '_') = '.';
    return tl_key_unknown(prefix, lower, err);
  }
  return set_text(c, k->path, value, TL_CONFIG_ENV, prefix, variable, err);
}

tl_status tl_config_apply_env(tl_config *c, tl_err *err) {
  for (char **e = environ; e && *e; e++) {
    const char *eq = strchr(*e, '=');
    if (!eq || strncmp(*e, "TILTH_", 6) || eq - *e < 7 || eq - *e >= 128) continue;
    char name[128];
    size_t n = (size_t)(eq - *e) - 6;
    memcpy(name, *e + 6, n);
    name[n] = 0;
    TL_TRY(apply_variable(c, name, eq + 1, err));
  }
  return TL_OK;
}

const char *tl_config_origin(const tl_config *c, const char *key) {
  const tl_key *k = tl_key_find(key);
  return k ? c->state->origin[k - tl_keys].where : NULL;
}

tl_config_level tl_config_level_of(const tl_config *c, const char *key) {
  const tl_key *k = tl_key_find(key);
  return k ? c->state->origin[k - tl_keys].level : TL_CONFIG_DEFAULT;
}

/* --- what holds between keys -------------------------------------------------------------------
 */

/* Keys set at least as explicitly as the depth keep their value. */
static tl_status derive(tl_config *c, const char *key, int64_t value, tl_err *err) {
  tl_config_level level = tl_config_level_of(c, "model.depth");
  if (tl_config_level_of(c, key) >= level && strcmp(tl_config_origin(c, key), "model.depth"))
    return TL_OK;
  char text[32];
  snprintf(text, sizeof text, "%lld", (long long)value);
  return tl_config_set(c, key, text, level, "model.depth", err);
}

/* Steps, tokens and minutes are three ways to say how long: the most explicit one holds, so that
 * `run.minutes=5` shortens a preset that counts in steps. */
static tl_status choose_length(tl_config *c, tl_err *err) {
  static const char *const keys[] = {"train.steps", "train.tokens", "run.minutes"};
  const bool given[] = {c->train.steps > 0, c->train.tokens > 0, c->run.minutes > 0};
  int best = -1;
  for (int i = 0; i < 3; i++) {
    if (!given[i]) continue;
    if (best < 0) {
      best = i;
      continue;
    }
    tl_config_level a = tl_config_level_of(c, keys[best]), b = tl_config_level_of(c, keys[i]);
    if (a == b)
      return tl_fail(err, TL_CONFIG, "%s (%s) and %s (%s) are both given; set one of them to 0",
                     keys[best], tl_config_origin(c, keys[best]), keys[i],
                     tl_config_origin(c, keys[i]));
    if (b > a) best = i;
  }
  if (best < 0) return TL_OK;
  tl_config_level level = tl_config_level_of(c, keys[best]);
  for (int i = 0; i < 3; i++)
    if (i != best && given[i]) TL_TRY(tl_config_set(c, keys[i], "0", level, keys[best], err));
  return TL_OK;
}

static tl_status check(const tl_config *c, tl_err *err) {
  int64_t dim = c->model.dim, heads = c->model.heads, kv = c->model.kv_heads;
  if (dim % heads)
    return tl_fail(err, TL_CONFIG, "model.heads (%lld, %s) does not divide model.dim (%lld, %s)",
                   (long long)heads, tl_config_origin(c, "model.heads"), (long long)dim,
                   tl_config_origin(c, "model.dim"));
  if (kv && heads % kv)
    return tl_fail(err, TL_CONFIG,
                   "model.kv_heads (%lld, %s) does not divide model.heads (%lld, %s)",
                   (long long)kv, tl_config_origin(c, "model.kv_heads"), (long long)heads,
                   tl_config_origin(c, "model.heads"));
  if (c->model.max_len && c->model.max_len < c->train.seq_len)
    return tl_fail(err, TL_CONFIG, "train.seq_len (%lld) is longer than model.max_len (%lld)",
                   (long long)c->train.seq_len, (long long)c->model.max_len);
  if (c->objective.mask_keep + c->objective.mask_random > 1)
    return tl_fail(err, TL_CONFIG,
                   "objective.mask_keep (%g) and objective.mask_random (%g) add up to more than 1",
                   c->objective.mask_keep, c->objective.mask_random);
  if (*c->data.path && c->data.text.n)
    return tl_fail(err, TL_CONFIG,
                   "data.path (%s) and data.text (%s) are both given: the data is either prepared "
                   "or raw text",
                   tl_config_origin(c, "data.path"), tl_config_origin(c, "data.text"));
  return TL_OK;
}

tl_status tl_config_finish(tl_config *c, tl_err *err) {
  int64_t depth = c->model.depth;
  if (depth > 0) {
    TL_TRY(derive(c, "model.layers", depth, err));
    TL_TRY(derive(c, "model.heads", depth, err));
    TL_TRY(derive(c, "model.dim", 64 * depth, err));
  }
  TL_TRY(choose_length(c, err));
  return check(c, err);
}

static tl_status load(tl_config *c, const char *preset, const char *file,
                      const char *const *overrides, size_t n, tl_err *err) {
  if (preset) TL_TRY(tl_config_apply_preset(c, preset, err));
  if (file) TL_TRY(tl_config_apply_file(c, file, err));
  TL_TRY(tl_config_apply_env(c, err));
  for (size_t i = 0; i < n; i++) TL_TRY(tl_config_apply_override(c, overrides[i], err));
  return tl_config_finish(c, err);
}

tl_status tl_config_load(const char *preset, const char *file, const char *const *overrides,
                         size_t n, tl_config **out, tl_err *err) {
  tl_config *c = NULL;
  TL_TRY(tl_config_new(&c, err));
  tl_status s = load(c, preset, file, overrides, n, err);
  if (s == TL_OK)
    *out = c;
  else
    tl_config_free(c);
  return s;
}
