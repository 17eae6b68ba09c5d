#include "config/keys.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include "tilth/suggest.h"

#define ROW(section, name, ...)                                                                    \
  {#section, #name, #section "." #name, #section "_" #name, __VA_ARGS__},
#define AT(section, name) .offset = offsetof(tl_config, section.name)

const tl_key tl_keys[] = {
#define SECTION(name, help)
#define END(name)
#define INT(s, n, d, lo, hi, h)                                                                    \
  ROW(s, n, TL_KEY_INT, AT(s, n), .def = #d, .imin = lo, .imax = hi, .help = h)
#define REAL(s, n, d, lo, hi, h)                                                                   \
  ROW(s, n, TL_KEY_REAL, AT(s, n), .def = #d, .rmin = lo, .rmax = hi, .help = h)
#define BOOL(s, n, d, h) ROW(s, n, TL_KEY_BOOL, AT(s, n), .def = #d, .help = h)
#define TEXT(s, n, d, h) ROW(s, n, TL_KEY_TEXT, AT(s, n), .def = d, .help = h)
#define LIST(s, n, h) ROW(s, n, TL_KEY_LIST, AT(s, n), .help = h)
#define ENUM(s, n, d, v, h) ROW(s, n, TL_KEY_ENUM, AT(s, n), .def = d, .values = v, .help = h)
#include "tilth/config_keys.def"
#undef SECTION
#undef END
#undef INT
#undef REAL
#undef BOOL
#undef TEXT
#undef LIST
#undef ENUM
};
const size_t tl_n_keys = sizeof tl_keys / sizeof *tl_keys;

const tl_section tl_sections[] = {
#define SECTION(name, help) {#name, help},
#define END(name)
#define INT(...)
#define REAL(...)
#define BOOL(...)
#define TEXT(...)
#define LIST(...)
#define ENUM(...)
#include "tilth/config_keys.def"
};
const size_t tl_n_sections = sizeof tl_sections / sizeof *tl_sections;

enum { N_KEYS = sizeof tl_keys / sizeof *tl_keys };
enum { N_SECTIONS = sizeof tl_sections / sizeof *tl_sections };

const tl_key *tl_key_find(const char *path) {
  for (size_t i = 0; i < tl_n_keys; i++)
    if (!strcmp(tl_keys[i].path, path)) return &tl_keys[i];
  return NULL;
}

tl_status tl_key_unknown(const char *prefix, const char *path, tl_err *err) {
  const char *names[N_KEYS + N_SECTIONS], *dot = strchr(path, '.');
  size_t n = 0;
  if (dot) {
    for (size_t i = 0; i < tl_n_keys; i++) names[n++] = tl_keys[i].path;
  } else {
    for (size_t i = 0; i < tl_n_sections; i++) names[n++] = tl_sections[i].name;
  }
  const char *near = tl_suggest(path, names, n);
  /* The right key in the wrong section, or without one, is a likely mistake too. */
  for (size_t i = 0; !near && i < tl_n_keys; i++)
    if (!strcmp(tl_keys[i].name, dot ? dot + 1 : path)) near = tl_keys[i].path;
  const char *kind = dot ? "key" : "section";
  if (near)
    return tl_fail(err, TL_CONFIG, "%sunknown %s '%.200s'; did you mean '%s'?", prefix, kind, path,
                   near);
  return tl_fail(err, TL_CONFIG, "%sunknown %s '%.200s' (see: tilth config --docs)", prefix, kind,
                 path);
}

/* --- values from text --------------------------------------------------------------------------
 */

/* Whole numbers may be written as 100000 or 1e5. */
static bool parse_int(const char *text, int64_t *out) {
  char *end;
  errno = 0;
  long long v = strtoll(text, &end, 10);
  if (!*text || errno) return false;
  if (*end) {
    double d = strtod(text, &end);
    if (*end || !(fabs(d) <= 9007199254740992.0) || d != floor(d)) return false;
    v = (long long)d;
  }
  *out = v;
  return true;
}

static bool parse_real(const char *text, double *out) {
  char *end;
  errno = 0;
  double v = strtod(text, &end);
  if (!*text || *end || !isfinite(v)) return false;
  *out = v;
  return true;
}

static bool parse_bool(const char *text, bool *out) {
  static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (!strcmp(text, words[i])) {
      *out = i & 1;
      return true;
    }
  return false;
}

/* A value that cannot be written to a YAML file and read back is refused at once. */
static bool is_plain_text(const char *text) {
  const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)text;
  utf8proc_ssize_t left = (utf8proc_ssize_t)strlen(text);
  while (left > 0) {
    utf8proc_int32_t c;
    utf8proc_ssize_t used = utf8proc_iterate(p, left, &c);
    if (used <= 0 || c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xfeff || c == 0xfffe)
      return false;
    p += used;
    left -= used;
  }
  return true;
}

static tl_status set_enum(const tl_key *k, const char *text, const char *prefix, tl_arena *arena,
                          const char **out, tl_err *err) {
  const char *names[16];
  size_t n = 0;
  for (const char *p = k->values; *p && n < 16;) {
    size_t len = strcspn(p, "|");
    if (!(names[n] = tl_arena_printf(arena, "%.*s", (int)len, p)))
      return tl_fail(err, TL_NOMEM, "%sout of memory", prefix);
    if (!strcmp(names[n], text)) {
      *out = names[n];
      return TL_OK;
    }
    n++;
    p += len + (p[len] == '|');
  }
  const char *near = tl_suggest(text, names, n);
  return tl_fail(err, TL_CONFIG, "%s%s: '%.200s' is not one of %s%s%s%s", prefix, k->path, text,
                 k->values, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static tl_status set_list(const char *const *items, size_t n, const char *prefix, tl_arena *arena,
                          tl_strlist *out, tl_err *err) {
  const char **copy = tl_arena_alloc(arena, (n + 1) * sizeof *copy);
  if (!copy) return tl_fail(err, TL_NOMEM, "%sout of memory", prefix);
  for (size_t i = 0; i < n; i++)
    if (!(copy[i] = tl_arena_strdup(arena, items[i])))
      return tl_fail(err, TL_NOMEM, "%sout of memory", prefix);
  *out = (tl_strlist){copy, n};
  return TL_OK;
}

typedef union value {
  int64_t i;
  double r;
  bool b;
  const char *t;
  tl_strlist l;
} value;

static tl_status parse_value(const tl_key *k, const char *const *items, size_t n,
                             const char *prefix, tl_arena *arena, value *v, tl_err *err) {
  const char *text = n ? items[0] : "";
  if (k->type != TL_KEY_LIST && n != 1)
    return tl_fail(err, TL_CONFIG, "%s%s: takes one value, not a list", prefix, k->path);
  for (size_t i = 0; i < n; i++)
    if (!is_plain_text(items[i]))
      return tl_fail(err, TL_CONFIG, "%s%s: the value holds control characters or is not UTF-8",
                     prefix, k->path);
  switch (k->type) {
  case TL_KEY_INT:
    if (!parse_int(text, &v->i))
      return tl_fail(err, TL_CONFIG, "%s%s: '%.200s' is not a whole number", prefix, k->path, text);
    if (v->i < k->imin || v->i > k->imax)
      return tl_fail(err, TL_CONFIG, "%s%s: %.200s is out of bounds, [%lld, %lld]", prefix, k->path,
                     text, (long long)k->imin, (long long)k->imax);
    return TL_OK;
  case TL_KEY_REAL:
    if (!parse_real(text, &v->r))
      return tl_fail(err, TL_CONFIG, "%s%s: '%.200s' is not a number", prefix, k->path, text);
    if (v->r < k->rmin || v->r > k->rmax)
      return tl_fail(err, TL_CONFIG, "%s%s: %.200s is out of bounds, [%g, %g]", prefix, k->path,
                     text, k->rmin, k->rmax);
    return TL_OK;
  case TL_KEY_BOOL:
    if (!parse_bool(text, &v->b))
      return tl_fail(err, TL_CONFIG, "%s%s: '%.200s' is neither true nor false", prefix, k->path,
                     text);
    return TL_OK;
  case TL_KEY_TEXT:
    v->t = tl_arena_strdup(arena, text);
    return v->t ? TL_OK : tl_fail(err, TL_NOMEM, "%sout of memory", prefix);
  case TL_KEY_LIST:
    return set_list(items, n, prefix, arena, &v->l, err);
  case TL_KEY_ENUM:
    return set_enum(k, text, prefix, arena, &v->t, err);
  }
  return tl_fail(err, TL_INTERNAL, "%s: key without a type", k->path);
}

tl_status tl_key_set(tl_config *c, const tl_key *k, const char *const *items, size_t n,
                     tl_config_level level, const char *prefix, const char *where, tl_err *err) {
  value v = {0};
  TL_TRY(parse_value(k, items, n, prefix, &c->state->arena, &v, err));
  struct tl_key_origin *o = &c->state->origin[k - tl_keys];
  if (level < o->level) return TL_OK;
  const char *copy = tl_arena_strdup(&c->state->arena, where);
  if (!copy) return tl_fail(err, TL_NOMEM, "%sout of memory", prefix);
  *o = (struct tl_key_origin){level, copy};
  void *at = tl_key_value(k, c);
  switch (k->type) {
  case TL_KEY_INT:
    *(int64_t *)at = v.i;
    break;
  case TL_KEY_REAL:
    *(double *)at = v.r;
    break;
  case TL_KEY_BOOL:
    *(bool *)at = v.b;
    break;
  case TL_KEY_TEXT:
  case TL_KEY_ENUM:
    *(const char **)at = v.t;
    break;
  case TL_KEY_LIST:
    *(tl_strlist *)at = v.l;
    break;
  }
  return TL_OK;
}

/* --- values to text ----------------------------------------------------------------------------
 */

static void print_text(const char *s, tl_buf *out) {
  tl_buf_putc(out, '"');
  for (; *s; s++) {
    if (*s == '"' || *s == '\\') tl_buf_putc(out, '\\');
    tl_buf_putc(out, *s);
  }
  tl_buf_putc(out, '"');
}

void tl_key_print(const tl_key *k, const tl_config *c, tl_buf *out) {
  const void *at = tl_key_value(k, c);
  switch (k->type) {
  case TL_KEY_INT:
    tl_buf_printf(out, "%lld", (long long)*(const int64_t *)at);
    break;
  case TL_KEY_REAL:
    tl_buf_put_real(out, *(const double *)at);
    break;
  case TL_KEY_BOOL:
    tl_buf_puts(out, *(const bool *)at ? "true" : "false");
    break;
  case TL_KEY_TEXT:
    print_text(*(const char *const *)at, out);
    break;
  case TL_KEY_ENUM:
    tl_buf_puts(out, *(const char *const *)at);
    break;
  case TL_KEY_LIST: {
    const tl_strlist *l = at;
    tl_buf_putc(out, '[');
    for (size_t i = 0; i < l->n; i++) {
      if (i) tl_buf_puts(out, ", ");
      print_text(l->item[i], out);
    }
    tl_buf_putc(out, ']');
    break;
  }
  }
}
