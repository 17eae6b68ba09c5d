/* The rows of config_keys.def as a table, and the inside of a configuration. */
#ifndef TL_CONFIG_KEYS_H
#define TL_CONFIG_KEYS_H

#include "base/arena.h"
#include "base/buf.h"
#include "tilth/config.h"

typedef enum tl_key_type {
  TL_KEY_INT,
  TL_KEY_REAL,
  TL_KEY_BOOL,
  TL_KEY_TEXT,
  TL_KEY_LIST,
  TL_KEY_ENUM
} tl_key_type;

typedef struct tl_key {
  const char *section, *name, *path; /* path: "section.name" */
  const char *env;                   /* "section_name"; the variable is TILTH_ + upper case */
  tl_key_type type;
  size_t offset;   /* of the value in tl_config */
  const char *def; /* default, as text */
  int64_t imin, imax;
  double rmin, rmax;
  const char *values; /* ENUM: "a|b|c" */
  const char *help;
} tl_key;

typedef struct tl_section {
  const char *name, *help;
} tl_section;

extern const tl_key tl_keys[];
extern const size_t tl_n_keys;
extern const tl_section tl_sections[];
extern const size_t tl_n_sections;

struct tl_config_state {
  tl_arena arena;
  struct tl_key_origin {
    tl_config_level level;
    const char *where;
  } * origin; /* one per key */
};

/* The key of "section.name"; NULL when unknown. */
const tl_key *tl_key_find(const char *path);
/* CONFIG error for an unknown "section.key" or section, with the nearest known one. prefix: what
 * comes before the message, "file:line: " or "". */
tl_status tl_key_unknown(const char *prefix, const char *path, tl_err *err);
static inline void *tl_key_value(const tl_key *k, const tl_config *c) {
  return (char *)(uintptr_t)c + k->offset;
}
/* Sets a key; items: the value's texts (one, but for lists). Values of a lower level than the
 * present one are checked and ignored. */
tl_status tl_key_set(tl_config *c, const tl_key *k, const char *const *items, size_t n,
                     tl_config_level level, const char *prefix, const char *where, tl_err *err);
/* The value as YAML. */
void tl_key_print(const tl_key *k, const tl_config *c, tl_buf *out);

#endif
