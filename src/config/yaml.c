/* Reading a configuration file: two levels of YAML, from libyaml's events. */
#include "config/keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>
#include "base/file.h"

enum { MAX_FILE = 1 << 20, MAX_SECTIONS = 64 };

typedef struct reader {
  yaml_parser_t yaml;
  yaml_event_t event;
  bool have_event;
  const char *path;
  tl_config *config;
  size_t *key_line; /* per key: line + 1 where it was given; 0: not yet */
  size_t section_line[MAX_SECTIONS];
  tl_err *err;
} reader;

static size_t line_of(const reader *r) {
  return r->event.start_mark.line + 1;
}

static const char *prefix_of(const reader *r, size_t line, char *buf, size_t size) {
  snprintf(buf, size, "%s:%zu: ", r->path, line);
  return buf;
}

static tl_status next(reader *r) {
  if (r->have_event) yaml_event_delete(&r->event);
  r->have_event = yaml_parser_parse(&r->yaml, &r->event) != 0;
  if (r->have_event) return TL_OK;
  if (r->yaml.error == YAML_MEMORY_ERROR)
    return tl_fail(r->err, TL_NOMEM, "%s: out of memory", r->path);
  return tl_fail(r->err, TL_CONFIG, "%s:%zu: not valid YAML: %s", r->path,
                 r->yaml.problem_mark.line + 1, r->yaml.problem ? r->yaml.problem : "syntax error");
}

static tl_status expected(reader *r, const char *what) {
  return tl_fail(r->err, TL_CONFIG, "%s:%zu: expected %s (see: tilth config --docs)", r->path,
                 line_of(r), what);
}

/* The scalar's text; NULL for a null (`key:` or `~`) and for text with NUL bytes. */
static const char *scalar_text(const reader *r) {
  if (r->event.type != YAML_SCALAR_EVENT) return NULL;
  const char *s = (const char *)r->event.data.scalar.value;
  if (strlen(s) != r->event.data.scalar.length) return NULL;
  bool plain = r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
  return plain && (!*s || !strcmp(s, "~") || !strcmp(s, "null")) ? NULL : s;
}

static tl_status read_list(reader *r, const tl_key *k, const char *prefix, const char *where) {
  char **items = NULL;
  size_t n = 0;
  tl_status s;
  while ((s = next(r)) == TL_OK && r->event.type != YAML_SEQUENCE_END_EVENT) {
    const char *text = scalar_text(r);
    char **p = text ? realloc(items, (n + 1) * sizeof *p) : NULL;
    if (p) items = p;
    if (!text)
      s = expected(r, "a text in the list");
    else if (!p || !(items[n] = strdup(text)))
      s = tl_fail(r->err, TL_NOMEM, "%s: out of memory", r->path);
    if (s != TL_OK) break;
    n++;
  }
  if (s == TL_OK)
    s = tl_key_set(r->config, k, (const char *const *)items, n, TL_CONFIG_FILE, prefix, where,
                   r->err);
  for (size_t i = 0; i < n; i++) free(items[i]);
  free(items);
  return s;
}

/* Reads the value of "section.key"; the current event is the one after the key. */
static tl_status read_value(reader *r, const char *path, size_t line) {
  char prefix[1024], where[1024];
  prefix_of(r, line, prefix, sizeof prefix);
  snprintf(where, sizeof where, "%s:%zu", r->path, line);
  const tl_key *k = tl_key_find(path);
  if (!k) return tl_key_unknown(prefix, path, r->err);
  size_t *seen = &r->key_line[k - tl_keys];
  if (*seen)
    return tl_fail(r->err, TL_CONFIG, "%s%s is given twice, first on line %zu", prefix, path,
                   *seen);
  *seen = line;
  if (r->event.type == YAML_SEQUENCE_START_EVENT) return read_list(r, k, prefix, where);
  if (r->event.type != YAML_SCALAR_EVENT) return expected(r, "a value");
  const char *text = scalar_text(r);
  if (!text)
    return tl_fail(r->err, TL_CONFIG, "%s%s has no value; an empty text is written as \"\"", prefix,
                   path);
  return tl_key_set(r->config, k, &text, 1, TL_CONFIG_FILE, prefix, where, r->err);
}

static tl_status read_key(reader *r, char *key, size_t size, size_t *line) {
  const char *text = scalar_text(r);
  if (!text) return expected(r, "the name of a key");
  *line = line_of(r);
  snprintf(key, size, "%s", text);
  return TL_OK;
}

static tl_status read_section(reader *r, const char *section, size_t line) {
  char prefix[1024], key[128], path[256];
  size_t i = 0;
  while (i < tl_n_sections && strcmp(tl_sections[i].name, section)) i++;
  prefix_of(r, line, prefix, sizeof prefix);
  if (i == tl_n_sections) return tl_key_unknown(prefix, section, r->err);
  if (r->section_line[i])
    return tl_fail(r->err, TL_CONFIG, "%ssection %s is given twice, first on line %zu", prefix,
                   section, r->section_line[i]);
  r->section_line[i] = line;
  for (;;) {
    TL_TRY(next(r));
    if (r->event.type == YAML_MAPPING_END_EVENT) return TL_OK;
    TL_TRY(read_key(r, key, sizeof key, &line));
    TL_TRY(next(r));
    snprintf(path, sizeof path, "%s.%s", section, key);
    TL_TRY(read_value(r, path, line));
  }
}

static tl_status read_root(reader *r) {
  char key[128], prefix[1024];
  size_t line = 0;
  for (;;) {
    TL_TRY(next(r));
    if (r->event.type == YAML_MAPPING_END_EVENT) return TL_OK;
    TL_TRY(read_key(r, key, sizeof key, &line));
    TL_TRY(next(r));
    if (strchr(key, '.')) {
      TL_TRY(read_value(r, key, line));
    } else if (r->event.type == YAML_MAPPING_START_EVENT) {
      TL_TRY(read_section(r, key, line));
    } else {
      bool known = false;
      for (size_t i = 0; i < tl_n_sections; i++) known |= !strcmp(tl_sections[i].name, key);
      if (!known) return tl_key_unknown(prefix_of(r, line, prefix, sizeof prefix), key, r->err);
      if (!(r->event.type == YAML_SCALAR_EVENT && !scalar_text(r)))
        return expected(r, "the section's keys, as `section: {key: value}`");
    }
  }
}

static tl_status read_stream(reader *r) {
  TL_TRY(next(r)); /* stream start */
  TL_TRY(next(r));
  if (r->event.type == YAML_STREAM_END_EVENT) return TL_OK;
  TL_TRY(next(r)); /* after the document start */
  if (r->event.type == YAML_MAPPING_START_EVENT)
    TL_TRY(read_root(r));
  else if (!(r->event.type == YAML_SCALAR_EVENT && !scalar_text(r)))
    return expected(r, "a mapping of sections");
  TL_TRY(next(r)); /* document end */
  TL_TRY(next(r));
  return r->event.type == YAML_STREAM_END_EVENT ? TL_OK : expected(r, "one document in the file");
}

tl_status tl_config_apply_file(tl_config *c, const char *path, tl_err *err) {
  tl_buf text = {0};
  reader r = {.path = path, .config = c, .err = err};
  if (tl_n_sections > MAX_SECTIONS) return tl_fail(err, TL_INTERNAL, "too many sections");
  tl_status s = tl_file_read(path, MAX_FILE, &text, err);
  if (s == TL_OK &&
      (!(r.key_line = calloc(tl_n_keys, sizeof *r.key_line)) || !yaml_parser_initialize(&r.yaml)))
    s = tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  if (s == TL_OK) {
    yaml_parser_set_input_string(&r.yaml, (const unsigned char *)text.data, text.len);
    s = read_stream(&r);
    if (r.have_event) yaml_event_delete(&r.event);
    yaml_parser_delete(&r.yaml);
  }
  free(r.key_line);
  tl_buf_free(&text);
  return s;
}
