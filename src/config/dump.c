/* The resolved configuration as YAML, and the reference of all keys as Markdown. */
#include "config/keys.h"

#include <ctype.h>
#include <string.h>
#include "config/presets.h"

static tl_status finish(tl_buf *b, char **text, tl_err *err) {
  tl_status s = tl_buf_check(b, err);
  if (s == TL_OK)
    *text = b->data; /* handed to the caller */
  else
    tl_buf_free(b);
  return s;
}

tl_status tl_config_dump(const tl_config *c, bool origins, char **text, tl_err *err) {
  tl_buf b = {0};
  const char *section = "";
  for (size_t i = 0; i < tl_n_keys; i++) {
    const tl_key *k = &tl_keys[i];
    if (strcmp(section, k->section)) tl_buf_printf(&b, "%s:\n", section = k->section);
    size_t start = b.len;
    tl_buf_printf(&b, "  %s: ", k->name);
    tl_key_print(k, c, &b);
    if (origins) {
      do tl_buf_putc(&b, ' ');
      while (!b.oom && b.len - start < 36);
      tl_buf_printf(&b, "# %s", c->state->origin[i].where);
    }
    tl_buf_putc(&b, '\n');
  }
  return finish(&b, text, err);
}

static void print_bounds(const tl_key *k, tl_buf *b) {
  if (k->type == TL_KEY_INT && k->imax == INT64_MAX)
    tl_buf_printf(b, "whole number from %lld", (long long)k->imin);
  else if (k->type == TL_KEY_INT)
    tl_buf_printf(b, "whole number, %lld to %lld", (long long)k->imin, (long long)k->imax);
  else if (k->type == TL_KEY_REAL)
    tl_buf_printf(b, "number, %g to %g", k->rmin, k->rmax);
  else if (k->type == TL_KEY_BOOL)
    tl_buf_puts(b, "true or false");
  else if (k->type == TL_KEY_TEXT)
    tl_buf_puts(b, "text");
  else if (k->type == TL_KEY_LIST)
    tl_buf_puts(b, "list of texts");
  else
    for (const char *p = k->values; *p;) {
      size_t n = strcspn(p, "|");
      tl_buf_printf(b, "%s`%.*s`", p == k->values ? "" : ", ", (int)n, p);
      p += n + (p[n] == '|');
    }
}

static void print_key(const tl_key *k, tl_buf *b) {
  tl_buf_printf(b, "| `%s` | ", k->path);
  print_bounds(k, b);
  if (k->type == TL_KEY_LIST || !*k->def)
    tl_buf_puts(b, " | empty");
  else
    tl_buf_printf(b, " | `%s`", k->def);
  tl_buf_printf(b, " | %s |\n", k->help);
}

static const char intro[] =
    "# Configuration\n\n"
    "This page is made by `tilth config --docs` from `include/tilth/config_keys.def`.\n\n"
    "A value comes from, each overriding the one before: the default, a preset (`--preset NAME`),\n"
    "a YAML file (`--config FILE`), an environment variable `TILTH_<SECTION>_<KEY>` (for example\n"
    "`TILTH_OPTIM_LR=3e-4`), and `section.key=value` on the command line. A file holds\n"
    "`section: {key: value}` in block or flow style, or `section.key: value`. Unknown and "
    "repeated\n"
    "keys, wrong types and values out of bounds are errors that name the file and line. In a\n"
    "variable or on the command line the items of a list are separated by commas.\n\n"
    "`tilth config --preset NAME --origin` shows all values and where each came from.\n";

tl_status tl_config_docs(char **text, tl_err *err) {
  tl_buf b = {0};
  tl_buf_puts(&b, intro);
  size_t k = 0;
  for (size_t i = 0; i < tl_n_sections; i++) {
    tl_buf_printf(&b, "\n## %s\n\n%s\n\n| key | values | default | meaning |\n|---|---|---|---|\n",
                  tl_sections[i].name, tl_sections[i].help);
    for (; k < tl_n_keys && !strcmp(tl_keys[k].section, tl_sections[i].name); k++)
      print_key(&tl_keys[k], &b);
  }
  tl_buf_puts(&b, "\n## Presets\n");
  for (const tl_preset *p = tl_presets; p->name; p++) {
    tl_buf_printf(&b, "\n`%s`: %s.\n\n", p->name, p->help);
    for (size_t i = 0; p->settings[i]; i++) tl_buf_printf(&b, "    %s\n", p->settings[i]);
  }
  return finish(&b, text, err);
}
