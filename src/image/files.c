/* Pictures in files: folders by class, lists of paths, tar archives. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/rng.h"
#include "image/build.h"

/* Folders below folders: a bound against links in a circle. */
enum { MAX_DEPTH = 16 };

static bool has_extension(const char *name, const char *extension) {
  size_t n = strlen(name), e = strlen(extension);
  return n > e && !strcasecmp(name + n - e, extension);
}

static bool is_picture(const char *name) {
  const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
  return *base != '.' && (has_extension(base, ".png") || has_extension(base, ".jpg") ||
                          has_extension(base, ".jpeg"));
}

static void mix_hash(tl_image_builder *b, const char *name, const void *bytes, size_t n) {
  uint64_t h = tl_mix64(tl_hash64(name, strlen(name)), tl_hash64(bytes, n));
  b->d->records.hash = tl_mix64(b->d->records.hash, h);
}

/* What a picture has in common with its mask, in place of a label. */
static tl_status make_key(const tl_image_builder *b, const char *below, tl_buf *key,
                          const char **label, tl_err *err) {
  if (b->role == TL_ROLE_ALL) return TL_OK;
  tl_buf_clear(key);
  tl_mask_key(below, key);
  *label = key->data;
  return tl_buf_check(key, err);
}

static tl_status add_file(tl_image_builder *b, const char *path, const char *label, tl_err *err) {
  tl_err why = {TL_OK, ""};
  tl_buf bytes = {0};
  tl_image_limits l = tl_image_limits_of(&b->o->limits);
  tl_status s = tl_file_read(path, l.max_bytes, &bytes, &why);
  if (s == TL_OK) {
    const char *base = strrchr(path, '/');
    mix_hash(b, base ? base + 1 : path, bytes.data, bytes.len);
    s = tl_image_add(b, path, label, bytes.data, bytes.len, true, err);
  } else {
    s = tl_image_bad(b, &why, err);
  }
  tl_buf_free(&bytes);
  return s;
}

/* A picture in a folder; without masks its label is that of the folder. */
static tl_status add_found(tl_image_builder *b, const char *path, const char *label, tl_err *err) {
  const char *below = path + strlen(b->path);
  if (!is_picture(path) || !tl_mask_wanted(b, below)) return TL_OK;
  tl_buf key = {0};
  tl_status s = make_key(b, below, &key, &label, err);
  if (s == TL_OK) s = add_file(b, path, label, err);
  tl_buf_free(&key);
  return s;
}

/* Pictures in `dir` and below it, all of one class. */
static tl_status add_folder(tl_image_builder *b, const char *dir, const char *label, int depth,
                            tl_err *err) {
  tl_names names;
  if (depth > MAX_DEPTH)
    return tl_fail(err, TL_DATA, "%s: more than %d folders deep", dir, MAX_DEPTH);
  TL_TRY(tl_dir_list(dir, &names, err));
  tl_status s = TL_OK;
  for (size_t i = 0; s == TL_OK && i < names.n; i++) {
    if (names.name[i][0] == '.') continue;
    char *path = tl_path_join(dir, names.name[i]);
    if (!path)
      s = tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
    else if (tl_is_dir(path))
      s = add_folder(b, path, label ? label : names.name[i], depth + 1, err);
    else
      s = add_found(b, path, label, err);
    free(path);
  }
  tl_names_free(&names);
  return s;
}

tl_status tl_image_read_folder(tl_image_builder *b, tl_err *err) {
  return add_folder(b, b->path, NULL, 0, err);
}

/* The cells of the first line that name the columns: "text=NAME,label=label" for tl_task_read,
 * unlabelled "text=NAME", or with masks "text=NAME,text_b=mask". */
static tl_status list_columns(const tl_image_builder *b, char *columns, size_t size, bool *header,
                              tl_err *err) {
  const char *path = b->path, *second = b->role == TL_ROLE_ALL ? "label" : "mask";
  const char *role = b->role == TL_ROLE_ALL ? "label" : "text_b";
  bool alone = b->o->unlabelled;
  static const char *const known[] = {"path", "file", "image", "filename", "file_name"};
  char line[256] = "";
  *header = false;
  FILE *f = fopen(path, "rb");
  if (!f) return tl_fail_errno(err, "%s", path);
  if (fgets(line, sizeof line, f)) line[strcspn(line, "\r\n")] = 0;
  fclose(f);
  if (b->role == TL_ROLE_ALL && !strstr(line, second) && strstr(line, "caption"))
    second = "caption";
  snprintf(columns, size, alone ? "text=1" : "text=1,%s=2", role);
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    size_t n = strlen(known[i]);
    char *at = strstr(line, known[i]);
    bool cell = at && (at == line || at[-1] == ',' || at[-1] == '\t') && strchr(",\t", at[n]) &&
                (alone || strstr(line, second));
    if (!cell) continue;
    *header = true;
    snprintf(columns, size, alone ? "text=%s" : "text=%s,%s=%s", known[i], role, second);
  }
  return TL_OK;
}

/* Row i of a list; rows of masks and their pictures have the row's number in common, and so have
 * pictures and rows with several classes. */
static tl_status add_row(tl_image_builder *b, const char *dir, const tl_task_data *list, size_t i,
                         tl_err *err) {
  char key[24];
  const char *class = list->label ? list->labels.name[list->label[i]] : NULL;
  const char *name = b->role == TL_ROLE_MASKS ? list->text_b[i] : list->text[i];
  bool by_row = b->role != TL_ROLE_ALL || list->kind == TL_TASK_MULTI;
  snprintf(key, sizeof key, "%zu", i);
  char *path = name[0] == '/' ? strdup(name) : tl_path_join(dir, name);
  tl_status s = path ? add_file(b, path, by_row ? key : class, err)
                     : tl_fail(err, TL_NOMEM, "%s: out of memory", b->path);
  free(path);
  return s;
}

/* The classes of the pictures that were kept, whose labels are still their rows' numbers. */
static tl_status take_classes(tl_image_builder *b, tl_task_data *list, tl_err *err) {
  tl_task_data *d = &b->d->records;
  size_t total = list->first[list->n];
  d->kind = TL_TASK_MULTI;
  d->first = malloc((d->n + 1) * sizeof *d->first);
  d->item = malloc((total + 1) * sizeof *d->item);
  if (!d->first || !d->item) return tl_fail(err, TL_NOMEM, "%s: out of memory", b->path);
  d->first[0] = 0;
  for (size_t i = 0; i < d->n; i++) {
    size_t row = strtoul(b->label[i], NULL, 10), n = list->first[row + 1] - list->first[row];
    memcpy(d->item + d->first[i], list->item + list->first[row], n * sizeof *d->item);
    d->first[i + 1] = d->first[i] + n;
  }
  d->labels = list->labels;
  list->labels = (tl_labels){0};
  b->n_labelled = 0;
  return TL_OK;
}

tl_status tl_image_read_csv(tl_image_builder *b, tl_err *err) {
  char columns[64];
  bool header = false;
  tl_task_data list;
  TL_TRY(list_columns(b, columns, sizeof columns, &header, err));
  bool pairs = b->role != TL_ROLE_ALL && !b->o->unlabelled;
  bool several = b->o->several && !b->o->unlabelled;
  tl_task_options o = {.kind = pairs     ? TL_TASK_PAIR
                               : several ? TL_TASK_MULTI
                                         : TL_TASK_CLASS,
                       .label_separator = ';',
                       .labels = several ? b->o->labels : NULL,
                       .format = has_extension(b->path, ".tsv") ? TL_TASK_TSV : TL_TASK_CSV,
                       .columns = columns,
                       .header = header ? TL_HEADER_YES : TL_HEADER_NO,
                       .unlabelled = b->o->unlabelled,
                       .extra_columns = true};
  TL_TRY(tl_task_read(b->path, &o, &list, err));
  const char *slash = strrchr(b->path, '/');
  char *dir = slash ? strndup(b->path, (size_t)(slash - b->path)) : strdup(".");
  tl_status s = dir ? TL_OK : tl_fail(err, TL_NOMEM, "%s: out of memory", b->path);
  for (size_t i = 0; s == TL_OK && i < list.n; i++) s = add_row(b, dir, &list, i, err);
  if (s == TL_OK && several) s = take_classes(b, &list, err);
  free(dir);
  tl_task_data_free(&list);
  return s;
}

/* --- tar ---------------------------------------------------------------------------------------
 */

/* A WebDataset's sample waits until both its picture and its class have come. */
typedef struct sample {
  tl_buf key, name, picture, class;
} sample;

/* Length of a member's key: to the first dot of its last part. */
static size_t key_length(const char *name) {
  const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
  return (size_t)(base - name) + strcspn(base, ".");
}

static tl_status flush(tl_image_builder *b, sample *w, tl_err *err) {
  tl_status s = TL_OK;
  if (w->picture.len && w->class.len) {
    w->class.data[strcspn(w->class.data, " \t\r\n")] = 0;
    s = tl_image_add(b, w->name.data, w->class.data, w->picture.data, w->picture.len, false, err);
  } else if (w->picture.len) { /* a folder by class: dir/class/name.jpg */
    char *end = w->key.data ? strrchr(w->key.data, '/') : NULL;
    char *begin = w->key.data;
    if (end) {
      *end = 0;
      char *before = strrchr(w->key.data, '/');
      if (before) begin = before + 1;
    }
    s = tl_image_add(b, w->name.data, end && *begin ? begin : NULL, w->picture.data, w->picture.len,
                     false, err);
  }
  tl_buf_clear(&w->key);
  tl_buf_clear(&w->picture);
  tl_buf_clear(&w->class);
  return s;
}

static tl_status take_member(tl_image_builder *b, tl_members *m, sample *w, tl_err *err) {
  tl_image_limits l = tl_image_limits_of(&b->o->limits);
  size_t n = key_length(m->name);
  bool picture = is_picture(m->name);
  if (w->key.len != n || memcmp(w->key.data, m->name, n) || (picture && w->picture.len)) {
    TL_TRY(flush(b, w, err));
    tl_buf_append(&w->key, m->name, n);
  }
  if (picture) {
    tl_buf_clear(&w->name);
    tl_buf_printf(&w->name, "%s:%s", m->path, m->name);
    TL_TRY(tl_members_read(m, l.max_bytes, &w->picture, err));
    mix_hash(b, m->name, w->picture.data, w->picture.len);
  } else if (has_extension(m->name, ".cls")) {
    TL_TRY(tl_members_read(m, 4096, &w->class, err));
    tl_buf_putc(&w->class, 0);
  }
  TL_TRY(tl_buf_check(&w->key, err));
  TL_TRY(tl_buf_check(&w->class, err));
  return tl_buf_check(&w->name, err);
}

/* Of pictures with masks. */
static tl_status take_paired(tl_image_builder *b, tl_members *m, sample *w, tl_err *err) {
  tl_image_limits l = tl_image_limits_of(&b->o->limits);
  const char *label = NULL;
  if (!is_picture(m->name) || !tl_mask_wanted(b, m->name)) return TL_OK;
  tl_buf_clear(&w->name);
  tl_buf_printf(&w->name, "%s:%s", m->path, m->name);
  TL_TRY(tl_buf_check(&w->name, err));
  TL_TRY(make_key(b, m->name, &w->key, &label, err));
  TL_TRY(tl_members_read(m, l.max_bytes, &w->picture, err));
  mix_hash(b, m->name, w->picture.data, w->picture.len);
  return tl_image_add(b, w->name.data, label, w->picture.data, w->picture.len, false, err);
}

static tl_status read_tar(tl_image_builder *b, const char *path, tl_err *err) {
  tl_members m;
  sample w = {0};
  bool more = true, paired = b->role != TL_ROLE_ALL;
  TL_TRY(tl_members_open(&m, path, TL_MEMBERS_TAR, err));
  tl_status s = TL_OK;
  while (s == TL_OK && (s = tl_members_next(&m, &more, err)) == TL_OK && more)
    s = paired ? take_paired(b, &m, &w, err) : take_member(b, &m, &w, err);
  if (s == TL_OK && !paired) s = flush(b, &w, err);
  tl_members_close(&m);
  tl_buf_free(&w.key);
  tl_buf_free(&w.name);
  tl_buf_free(&w.picture);
  tl_buf_free(&w.class);
  return s;
}

/* "name-{000..012}.tar": the shards in turn. */
tl_status tl_image_read_tar(tl_image_builder *b, tl_err *err) {
  const char *open = strchr(b->path, '{'), *dots = open ? strstr(open, "..") : NULL;
  const char *close = dots ? strchr(dots, '}') : NULL;
  if (!close) return read_tar(b, b->path, err);
  char *end1, *end2;
  unsigned long first = strtoul(open + 1, &end1, 10), last = strtoul(dots + 2, &end2, 10);
  if (end1 != dots || end2 != close || last < first || last - first > 1000000)
    return tl_fail(err, TL_CONFIG, "%s: expected shards as name-{000..012}.tar", b->path);
  tl_status s = TL_OK;
  for (unsigned long i = first; s == TL_OK && i <= last; i++) {
    tl_buf path = {0};
    tl_buf_append(&path, b->path, (size_t)(open - b->path));
    tl_buf_printf(&path, "%0*lu%s", (int)(dots - open - 1), i, close + 1);
    s = tl_buf_check(&path, err);
    if (s == TL_OK) s = read_tar(b, path.data, err);
    tl_buf_free(&path);
  }
  return s;
}
