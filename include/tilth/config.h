/* The configuration of a run: one struct with a member per key of config_keys.def.
 *
 * Values come from, each overriding the one before: defaults, a preset, a YAML file, environment
 * variables TILTH_<SECTION>_<KEY>, and `section.key=value` from the command line. Every value
 * knows where it came from. All errors are CONFIG (or those of reading a file), name the key and
 * the place, and suggest the nearest known name. */
#ifndef TILTH_CONFIG_H
#define TILTH_CONFIG_H

#include <stddef.h>
#include <stdint.h>
#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_strlist {
  const char *const *item;
  size_t n;
} tl_strlist;

/* cfg->train.steps, cfg->optim.type, ... INT: int64_t, REAL: double, BOOL: bool, LIST: tl_strlist;
 * TEXT and ENUM: const char *, never NULL, owned by the configuration (an ENUM is always one of
 * its words). Values are read here; they are changed by tl_config_set only. */
typedef struct tl_config {
#define SECTION(name, help) struct tl_config_##name {
#define INT(section, name, def, min, max, help) int64_t name;
#define REAL(section, name, def, min, max, help) double name;
#define BOOL(section, name, def, help) bool name;
#define TEXT(section, name, def, help) const char *name;
#define LIST(section, name, help) tl_strlist name;
#define ENUM(section, name, def, values, help) const char *name;
#define END(name)                                                                                  \
  }                                                                                                \
  name;
#include "tilth/config_keys.def"
#undef SECTION
#undef INT
#undef REAL
#undef BOOL
#undef TEXT
#undef LIST
#undef ENUM
#undef END
  struct tl_config_state *state; /* memory and origins of the values */
} tl_config;

/* A value's source; a later one overrides an earlier one. */
typedef enum tl_config_level {
  TL_CONFIG_DEFAULT,
  TL_CONFIG_PRESET,
  TL_CONFIG_FILE,
  TL_CONFIG_ENV,
  TL_CONFIG_FLAG,
} tl_config_level;

/* All defaults. On success *out is freed with tl_config_free. */
tl_status tl_config_new(tl_config **out, tl_err *err);
/* A copy of all values; the origins are lost. */
tl_status tl_config_copy(const tl_config *c, tl_config **out, tl_err *err);
void tl_config_free(tl_config *c); /* NULL is allowed */

/* The usual way: all sources in order of precedence, then tl_config_finish. preset and file may be
 * NULL. overrides: n texts "section.key=value". */
tl_status tl_config_load(const char *preset, const char *file, const char *const *overrides,
                         size_t n, tl_config **out, tl_err *err);

tl_status tl_config_apply_preset(tl_config *c, const char *name, tl_err *err);
/* YAML: `section: {key: value}` in block or flow style, or `section.key: value`. Unknown and
 * duplicate keys, wrong types and values out of bounds are errors with file:line. */
tl_status tl_config_apply_file(tl_config *c, const char *path, tl_err *err);
tl_status tl_config_apply_env(tl_config *c, tl_err *err);
/* "section.key=value"; a list's items are separated by commas. */
tl_status tl_config_apply_override(tl_config *c, const char *text, tl_err *err);
/* Sets "section.key" from text. where: shown in messages and as the origin ("lr finder"). */
tl_status tl_config_set(tl_config *c, const char *key, const char *value, tl_config_level level,
                        const char *where, tl_err *err);
/* Derives what model.depth implies and checks what must hold between keys. May be called again. */
tl_status tl_config_finish(tl_config *c, tl_err *err);

/* Where the value of "section.key" came from: "default", "preset gpt2", "run.yaml:7",
 * "TILTH_TRAIN_LR", "command line", "model.depth"; NULL for an unknown key. Borrowed. */
const char *tl_config_origin(const tl_config *c, const char *key);
tl_config_level tl_config_level_of(const tl_config *c, const char *key);

/* YAML of all values; reading it back gives an equal configuration. With `origins` each line ends
 * in a comment that says where the value came from. *text: malloc'ed, freed by the caller. */
tl_status tl_config_dump(const tl_config *c, bool origins, char **text, tl_err *err);
/* The reference of all keys and presets in Markdown (docs/config.md). *text: as above. */
tl_status tl_config_docs(char **text, tl_err *err);

/* The presets' names and one-line descriptions: i from 0; NULL after the last. */
const char *tl_config_preset_name(size_t i);
const char *tl_config_preset_help(const char *name);

#ifdef __cplusplus
}
#endif

#endif
