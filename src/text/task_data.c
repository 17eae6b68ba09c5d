#include "tilth/task_data.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "text/text_input.h"
#include "text/task_internal.h"

enum { DEFAULT_MAX_RECORD = 16 << 20 };

#define KIND(k) (1u << TL_TASK_##k)
enum { TEXTS = KIND(CLASS) | KIND(MULTI) | KIND(VALUE) };

/* The formats. Adding one: a value of tl_task_format, a reader (task_internal.h), a row here. */
typedef struct reader {
  const char *name;
  const char *extension[3]; /* of files without .gz and the like */
  unsigned kinds;           /* of tasks it can serve */
  tl_status (*read)(tl_task_builder *b, tl_err *err);
} reader;
static const reader readers[] = {
    [TL_TASK_AUTO] = {"auto", {NULL}, 0, NULL},
    [TL_TASK_TSV] = {"tsv", {".tsv", ".tab"}, TEXTS | KIND(PAIR) | KIND(TEXTS), tl_task_read_tsv},
    [TL_TASK_CSV] = {"csv", {".csv"}, TEXTS | KIND(PAIR) | KIND(TEXTS), tl_task_read_csv},
    [TL_TASK_JSONL] = {"jsonl",
                       {".jsonl", ".ndjson"},
                       TEXTS | KIND(PAIR) | KIND(TOKENS) | KIND(TEXTS),
                       tl_task_read_jsonl},
    [TL_TASK_CONLL] = {"conll", {".conll", ".bio", ".iob"}, KIND(TOKENS), tl_task_read_conll},
    [TL_TASK_CONLLU] = {"conllu", {".conllu"}, KIND(TOKENS), tl_task_read_conllu},
    [TL_TASK_LABELLED] = {"labelled", {NULL}, TEXTS, tl_task_read_labelled},
    [TL_TASK_ALIGNED] = {"aligned", {NULL}, KIND(PAIR), tl_task_read_aligned},
    [TL_TASK_LINES] = {"lines", {NULL}, KIND(TEXTS), tl_task_read_lines},
};
static const char *const kinds[] = {
    [TL_TASK_CLASS] = "class",   [TL_TASK_MULTI] = "multi-label", [TL_TASK_VALUE] = "regression",
    [TL_TASK_TOKENS] = "tokens", [TL_TASK_PAIR] = "pair",         [TL_TASK_TEXTS] = "texts"};
enum { N_FORMATS = sizeof readers / sizeof *readers, N_KINDS = sizeof kinds / sizeof *kinds };

bool tl_task_kind_parse(const char *name, tl_task_kind *out) {
  for (int i = 0; i < N_KINDS; i++)
    if (!strcmp(kinds[i], name)) {
      *out = (tl_task_kind)i;
      return true;
    }
  return false;
}

bool tl_task_format_parse(const char *name, tl_task_format *out) {
  for (int i = 0; i < N_FORMATS; i++)
    if (!strcmp(readers[i].name, name)) {
      *out = (tl_task_format)i;
      return true;
    }
  return false;
}

const char *tl_task_next_word(const char *word) {
  return word + strlen(word) + 1;
}

/* By the extension; for other names and extensions by the first line with something in it. */
static tl_task_format format_of(const tl_task_builder *b) {
  if (b->o->format != TL_TASK_AUTO) return b->o->format;
  if (b->o->path_b) return TL_TASK_ALIGNED;
  for (int f = 0; f < N_FORMATS; f++)
    for (int i = 0; i < 3 && readers[f].extension[i]; i++)
      if (tl_input_has_extension(b->path, readers[f].extension[i])) return (tl_task_format)f;
  const char *s = b->p;
  s += strspn(s, " \t\n\r\f\v");
  if (*s == '{') return TL_TASK_JSONL;
  if (b->d->kind == TL_TASK_TOKENS) return b->o->unlabelled ? TL_TASK_LINES : TL_TASK_CONLL;
  if (b->d->kind == TL_TASK_TEXTS) return TL_TASK_LINES;
  return b->d->kind == TL_TASK_PAIR || s[strcspn(s, "\t\n")] == '\t' ? TL_TASK_TSV
                                                                     : TL_TASK_LABELLED;
}

static tl_status read_records(tl_task_builder *b, tl_err *err) {
  const reader *r = &readers[format_of(b)];
  unsigned kinds_served = r->kinds;
  if (b->o->unlabelled && r->read == tl_task_read_lines) kinds_served |= KIND(TOKENS);
  if (!(kinds_served & (1u << b->d->kind)))
    return tl_fail(err, TL_CONFIG, "%s: read as %s, which holds no data for the task %s", b->path,
                   r->name, kinds[b->d->kind]);
  if (b->o->path_b && r->read != tl_task_read_aligned)
    return tl_fail(err, TL_CONFIG, "%s: a second file goes with the format aligned, not %s",
                   b->o->path_b, r->name);
  TL_TRY(r->read(b, err));
  if (b->d->n == 0) return tl_fail(err, TL_DATA, "%s: no records", b->path);
  return TL_OK;
}

static int by_id(const void *a, const void *b) {
  return (*(const int32_t *)a > *(const int32_t *)b) - (*(const int32_t *)a < *(const int32_t *)b);
}

/* Labels of each record rising, each once. */
static void sort_items(tl_task_data *d) {
  size_t n = 0, begin = 0;
  for (size_t i = 0; i < d->n; i++) {
    size_t end = d->first[i + 1], from = n;
    qsort(d->item + begin, end - begin, sizeof *d->item, by_id);
    for (; begin < end; begin++)
      if (n == from || d->item[begin] != d->item[n - 1]) d->item[n++] = d->item[begin];
    d->first[i + 1] = n;
  }
}

static tl_status number_labels(tl_task_builder *b, tl_err *err) {
  tl_task_data *d = b->d;
  if (b->open_labels && d->labels.n > 0) {
    int32_t *id = malloc((size_t)d->labels.n * sizeof *id);
    tl_status s = id ? tl_labels_sort(&d->labels, id, err)
                     : tl_fail(err, TL_NOMEM, "%s: out of memory", b->path);
    for (size_t i = 0; s == TL_OK && d->label && i < d->n; i++) d->label[i] = id[d->label[i]];
    for (size_t i = 0; s == TL_OK && i < b->n_items; i++) d->item[i] = id[d->item[i]];
    free(id);
    TL_TRY(s);
  }
  if (d->kind == TL_TASK_MULTI && d->item) sort_items(d);
  return TL_OK;
}

/* Gives back what the columns left out took. Failing to is no error. */
static void shrink(tl_task_builder *b) {
  tl_task_data *d = b->d;
  size_t used = (size_t)(b->kept - d->bytes), size = (size_t)(b->end - d->bytes);
  char *bytes = used < size / 4 * 3 ? malloc(used + 1) : NULL;
  if (!bytes) return;
  memcpy(bytes, d->bytes, used);
  for (size_t i = 0; i < d->n; i++) {
    d->text[i] = bytes + (d->text[i] - d->bytes);
    if (d->text_b && !d->bytes_b) d->text_b[i] = bytes + (d->text_b[i] - d->bytes);
    if (d->text_c) d->text_c[i] = bytes + (d->text_c[i] - d->bytes);
  }
  free(d->bytes);
  d->bytes = bytes;
}

static tl_status read_file(tl_task_builder *b, tl_err *err) {
  tl_buf content = {0};
  tl_status s = tl_task_load(b->path, b->o->replace_bad_utf8, &content, &b->d->hash, err);
  b->d->bytes = b->p = b->kept = content.data;
  TL_TRY(s);
  b->end = b->p + content.len;
  return read_records(b, err);
}

static tl_status read_all(const char *path, const tl_task_options *o, tl_task_data *d,
                          tl_err *err) {
  bool has_labels = !o->unlabelled && d->kind != TL_TASK_VALUE && d->kind != TL_TASK_PAIR &&
                    d->kind != TL_TASK_TEXTS;
  if (has_labels && o->labels)
    TL_TRY(tl_labels_make((const char *const *)o->labels->name, (size_t)o->labels->n, &d->labels,
                          err));
  tl_task_builder b = {.o = o,
                       .d = d,
                       .path = path,
                       .max = o->max_record_bytes ? o->max_record_bytes : DEFAULT_MAX_RECORD,
                       .open_labels = !o->labels};
  const size_t n_files = d->kind == TL_TASK_CLASS ? tl_task_class_files(path) : 0;
  if (n_files)
    TL_TRY(tl_task_read_class_files(&b, n_files, err));
  else
    TL_TRY(read_file(&b, err));
  TL_TRY(number_labels(&b, err));
  shrink(&b);
  return TL_OK;
}

tl_status tl_task_read(const char *path, const tl_task_options *options, tl_task_data *out,
                       tl_err *err) {
  *out = (tl_task_data){.kind = options->kind};
  if ((unsigned)options->kind >= N_KINDS || (unsigned)options->format >= N_FORMATS)
    return tl_fail(err, TL_CONFIG, "%s: unknown task %d or format %d", path, (int)options->kind,
                   (int)options->format);
  if (options->unlabelled && ((1u << options->kind) & TEXTS)) out->kind = TL_TASK_TEXTS;
  tl_status s = read_all(path, options, out, err);
  if (s != TL_OK) tl_task_data_free(out);
  return s;
}

void tl_task_data_free(tl_task_data *d) {
  free(d->text);
  free(d->text_b);
  free(d->text_c);
  free(d->label);
  free(d->value);
  free(d->first);
  free(d->item);
  free(d->line);
  tl_labels_free(&d->labels);
  free(d->bytes);
  free(d->bytes_b);
  *d = (tl_task_data){0};
}
