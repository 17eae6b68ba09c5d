/* Pictures and their labels, whatever they came from. */
#include "tilth/image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "image/build.h"

static const size_t default_memory = (size_t)1 << 30;

static const struct {
  const char *name;
  tl_status (*read)(tl_image_builder *b, tl_err *err);
} readers[] = {{"auto", NULL},
               {"folder", tl_image_read_folder},
               {"csv", tl_image_read_csv},
               {"tar", tl_image_read_tar},
               {"idx", tl_image_read_idx},
               {"cifar", tl_image_read_cifar},
               {"npz", tl_image_read_npz}};
enum { N_READERS = sizeof readers / sizeof *readers };

bool tl_image_format_parse(const char *name, tl_image_format *out) {
  for (int i = 0; i < N_READERS; i++)
    if (!strcmp(readers[i].name, name)) {
      *out = (tl_image_format)i;
      return true;
    }
  return false;
}

/* --- building ----------------------------------------------------------------------------------
 */

tl_status tl_image_keep(tl_image_builder *b, uint8_t *data, tl_err *err) {
  tl_image_block *k = malloc(sizeof *k);
  if (!k) {
    free(data);
    return tl_fail(err, TL_NOMEM, "%s: out of memory", b->path);
  }
  *k = (tl_image_block){b->d->blocks, data};
  b->d->blocks = k;
  return TL_OK;
}

tl_status tl_image_bad(tl_image_builder *b, const tl_err *why, tl_err *err) {
  if (!b->o->skip_bad || why->code == TL_NOMEM)
    return tl_fail(err, why->code, "%s%s", why->msg,
                   why->code == TL_NOMEM
                       ? ""
                       : " (image.bad=skip, or --bad skip, leaves broken pictures out)");
  if (b->d->n_bad < TL_IMAGE_MAX_BAD) b->d->bad[b->d->n_bad] = strdup(why->msg);
  b->d->n_bad++;
  return TL_OK;
}

static tl_status grow(tl_image_builder *b, size_t extra, tl_err *err) {
  tl_image_data *d = b->d;
  size_t need = d->records.n + extra, cap = b->cap;
  if (need <= cap) return TL_OK;
  if (need > INT32_MAX) return tl_fail(err, TL_DATA, "%s: more than 2^31 pictures", b->path);
  while (cap < need) cap = cap ? 2 * cap : 256;
  tl_image_entry *entry = realloc(d->entry, cap * sizeof *entry);
  if (entry) d->entry = entry;
  char **text = realloc(d->records.text, cap * sizeof *text);
  if (text) d->records.text = text;
  const char **label = realloc(b->label, cap * sizeof *label);
  if (label) b->label = label;
  if (!entry || !text || !label)
    return tl_fail(err, TL_NOMEM, "%s: out of memory for %zu pictures", b->path, need);
  b->cap = cap;
  return TL_OK;
}

static tl_status push(tl_image_builder *b, const char *name, const char *label,
                      const tl_image_entry *e, tl_err *err) {
  tl_image_data *d = b->d;
  TL_TRY(grow(b, 1, err));
  size_t i = d->records.n;
  if (b->o->unlabelled && b->role == TL_ROLE_ALL) label = NULL;
  if (label && !(label = tl_arena_strdup(&b->names, label)))
    return tl_fail(err, TL_NOMEM, "%s: out of memory", name);
  char *copy = strdup(name);
  if (!copy) return tl_fail(err, TL_NOMEM, "%s: out of memory", name);
  d->records.text[i] = copy;
  b->label[i] = label;
  b->n_labelled += label != NULL;
  d->entry[i] = *e;
  d->records.n = i + 1;
  d->n_decoded += e->pixels != NULL;
  if (e->channels > d->channels) d->channels = e->channels;
  if (e->width > d->width) d->width = e->width;
  if (e->height > d->height) d->height = e->height;
  return TL_OK;
}

/* Keeps the pixels while there is room, then the encoded bytes; a file needs neither. */
static tl_status keep_one(tl_image_builder *b, tl_image *m, const void *bytes, size_t n, bool file,
                          tl_image_entry *e, tl_err *err) {
  size_t size = (size_t)m->width * (size_t)m->height * (size_t)m->channels;
  *e = (tl_image_entry){.width = m->width, .height = m->height, .channels = m->channels};
  if (size <= b->budget - b->used) {
    TL_TRY(tl_image_keep(b, m->pixels, err));
    e->pixels = m->pixels;
    m->pixels = NULL;
    b->used += size;
  } else if (!file) {
    uint8_t *copy = malloc(n);
    if (!copy) return tl_fail(err, TL_NOMEM, "%s: out of memory", b->path);
    memcpy(copy, bytes, n);
    TL_TRY(tl_image_keep(b, copy, err));
    e->bytes = copy;
    e->n_bytes = n;
  }
  return TL_OK;
}

tl_status tl_image_add(tl_image_builder *b, const char *name, const char *label, const void *bytes,
                       size_t n, bool file, tl_err *err) {
  tl_err why = {TL_OK, ""};
  tl_image m;
  tl_image_entry e;
  bool masks = b->role == TL_ROLE_MASKS;
  tl_status s = masks ? tl_image_decode_ids(bytes, n, name, &b->o->limits, &m, &why)
                      : tl_image_decode(bytes, n, name, &b->o->limits, &m, &why);
  if (s == TL_OK && masks) s = tl_mask_take(b, name, &m, &why);
  if (s != TL_OK) {
    tl_image_free(&m);
    return tl_image_bad(b, &why, err);
  }
  s = keep_one(b, &m, bytes, n, file, &e, err);
  tl_image_free(&m);
  return s == TL_OK ? push(b, name, label, &e, err) : s;
}

/* Of a class that is a number: its place among the names there may be, unless it is one of them. */
static const char *class_name(const tl_image_builder *b, int32_t class, const char *number) {
  const tl_labels *l = b->o->labels;
  return l && class < l->n && tl_labels_find(l, number) < 0 ? l->name[class] : number;
}

tl_status tl_image_add_block(tl_image_builder *b, const uint8_t *pixels, size_t n,
                             const tl_image *shape, const int32_t *class, tl_err *err) {
  size_t size = (size_t)shape->width * (size_t)shape->height * (size_t)shape->channels;
  tl_buf name = {0};
  tl_status s = TL_OK;
  for (size_t i = 0; s == TL_OK && i < n; i++) {
    char label[16];
    tl_image_entry e = {.width = shape->width,
                        .height = shape->height,
                        .channels = shape->channels,
                        .pixels = pixels + i * size};
    if (class) snprintf(label, sizeof label, "%d", class[i]);
    tl_buf_clear(&name);
    tl_buf_printf(&name, "%s:%zu", b->path, b->d->records.n);
    s = tl_buf_check(&name, err);
    if (s == TL_OK) s = push(b, name.data, class ? class_name(b, class[i], label) : NULL, &e, err);
  }
  tl_buf_free(&name);
  return s;
}

/* --- labels ------------------------------------------------------------------------------------
 */

static bool is_number(const char *s) {
  size_t n = strspn(s, "0123456789");
  return n > 0 && n < 10 && !s[n];
}

static int by_name(const void *a, const void *b) {
  const char *x = *(const char *const *)a, *y = *(const char *const *)b;
  if (is_number(x) && is_number(y)) {
    long u = strtol(x, NULL, 10), v = strtol(y, NULL, 10);
    if (u != v) return u < v ? -1 : 1;
  }
  return strcmp(x, y);
}

static tl_status make_labels(tl_image_builder *b, tl_err *err) {
  tl_task_data *d = &b->d->records;
  if (b->o->labels)
    return tl_labels_make((const char *const *)b->o->labels->name, (size_t)b->o->labels->n,
                          &d->labels, err);
  const char **sorted = malloc((d->n + 1) * sizeof *sorted);
  if (!sorted) return tl_fail(err, TL_NOMEM, "%s: out of memory", b->path);
  memcpy(sorted, b->label, d->n * sizeof *sorted);
  qsort(sorted, d->n, sizeof *sorted, by_name);
  size_t n = 0;
  for (size_t i = 0; i < d->n; i++)
    if (n == 0 || strcmp(sorted[n - 1], sorted[i])) sorted[n++] = sorted[i];
  tl_status s = tl_labels_make(sorted, n, &d->labels, err);
  free(sorted);
  return s;
}

static tl_status number_labels(tl_image_builder *b, tl_err *err) {
  tl_task_data *d = &b->d->records;
  if (b->n_labelled == 0) return TL_OK;
  for (size_t i = 0; b->n_labelled < d->n && i < d->n; i++)
    if (!b->label[i])
      return tl_fail(err, TL_DATA, "%s: a picture without a class among others that have one",
                     d->text[i]);
  TL_TRY(make_labels(b, err));
  d->label = malloc(d->n * sizeof *d->label);
  if (!d->label) return tl_fail(err, TL_NOMEM, "%s: out of memory", b->path);
  for (size_t i = 0; i < d->n; i++) {
    d->label[i] = tl_labels_find(&d->labels, b->label[i]);
    if (d->label[i] < 0)
      return tl_fail(err, TL_DATA, "%s: class \"%s\" is not one of the %d known ones (%s, ...)",
                     d->text[i], b->label[i], d->labels.n, d->labels.name[0]);
  }
  return TL_OK;
}

/* --- reading -----------------------------------------------------------------------------------
 */

static tl_image_format guess(const char *path) {
  size_t n = strcspn(path, ",");
  if (tl_is_dir(path)) return TL_IMAGES_FOLDER;
  static const struct {
    const char *part;
    tl_image_format format;
  } known[] = {{".tar", TL_IMAGES_TAR}, {".tgz", TL_IMAGES_TAR}, {".csv", TL_IMAGES_CSV},
               {".tsv", TL_IMAGES_CSV}, {".npz", TL_IMAGES_NPZ}, {".bin", TL_IMAGES_CIFAR},
               {"idx", TL_IMAGES_IDX},  {"ubyte", TL_IMAGES_IDX}};
  const char *base = path + n;
  while (base > path && base[-1] != '/') base--;
  size_t len = (size_t)(path + n - base);
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    size_t k = strlen(known[i].part);
    for (size_t at = 0; at + k <= len; at++)
      if (!strncasecmp(base + at, known[i].part, k)) return known[i].format;
  }
  return TL_IMAGES_AUTO;
}

tl_status tl_image_build(tl_image_builder *b, tl_err *err) {
  tl_image_format f = b->o->format == TL_IMAGES_AUTO ? guess(b->path) : b->o->format;
  *b->d = (tl_image_data){.records = {.kind = TL_TASK_CLASS},
                          .limits = tl_image_limits_of(&b->o->limits),
                          .ids = b->role == TL_ROLE_MASKS};
  if ((unsigned)f >= N_READERS || f == TL_IMAGES_AUTO)
    return tl_fail(err, tl_file_exists(b->path) ? TL_CONFIG : TL_NOINPUT,
                   "%s: %s; expected a folder, .csv, .tar, .npz, .bin (CIFAR) or an idx file",
                   b->path,
                   tl_file_exists(b->path) ? "not known as a set of pictures by its name"
                                           : "no such file or folder");
  if (b->role != TL_ROLE_ALL && f != TL_IMAGES_FOLDER && f != TL_IMAGES_TAR && f != TL_IMAGES_CSV)
    return tl_fail(err, TL_CONFIG,
                   "%s: pictures with masks are read from a folder, .csv or .tar, not from \"%s\"",
                   b->path, readers[f].name);
  if (b->o->several && !b->o->unlabelled && f != TL_IMAGES_CSV)
    return tl_fail(err, TL_CONFIG,
                   "%s: pictures with several classes are read from a list (.csv: path,\"a;b\"), "
                   "not from \"%s\"",
                   b->path, readers[f].name);
  if (b->budget == 0) b->budget = b->o->memory ? b->o->memory : default_memory;
  return readers[f].read(b, err);
}

tl_status tl_image_read(const char *path, const tl_image_options *options, tl_image_data *out,
                        tl_err *err) {
  static const tl_image_options defaults;
  const tl_image_options *o = options ? options : &defaults;
  if (o->masks) return tl_mask_read(path, o, out, err);
  tl_image_builder b = {.o = o, .path = path, .d = out};
  tl_status s = tl_image_build(&b, err);
  if (s == TL_OK && out->records.n == 0)
    s = tl_fail(err, TL_DATA, "%s: no pictures (%zu broken)%s%s", path, out->n_bad,
                out->n_bad ? ": " : "", out->n_bad && out->bad[0] ? out->bad[0] : "");
  if (s == TL_OK) s = number_labels(&b, err);
  tl_arena_free(&b.names);
  free(b.label);
  if (s != TL_OK) tl_image_data_free(out);
  return s;
}

void tl_image_data_free(tl_image_data *d) {
  for (size_t i = 0; i < d->records.n; i++) free(d->records.text[i]);
  for (int i = 0; i < TL_IMAGE_MAX_BAD; i++) free(d->bad[i]);
  for (tl_image_block *k = d->blocks, *next; k; k = next) {
    next = k->next;
    free(k->data);
    free(k);
  }
  free(d->entry);
  if (d->masks) tl_image_data_free(d->masks);
  free(d->masks);
  tl_task_data_free(&d->records);
  *d = (tl_image_data){0};
}

/* In place of m's pixels; by the luma weights of BT.601. */
static tl_status set_channels(tl_image *m, int32_t channels, const char *name, tl_err *err) {
  if (channels == 0 || channels == m->channels) return TL_OK;
  tl_image out = {.width = m->width, .height = m->height, .channels = channels};
  TL_TRY(tl_image_alloc(&out, name, err));
  size_t n = (size_t)m->width * (size_t)m->height;
  for (size_t i = 0; i < n; i++) {
    const uint8_t *p = m->pixels + i * (size_t)m->channels;
    if (channels == 3)
      memset(out.pixels + 3 * i, *p, 3);
    else
      out.pixels[i] = (uint8_t)((299u * p[0] + 587u * p[1] + 114u * p[2] + 500u) / 1000u);
  }
  tl_image_free(m);
  *m = out;
  return TL_OK;
}

static tl_status decode_again(const tl_image_data *d, size_t i, tl_image *out, tl_err *err) {
  const tl_image_entry *e = &d->entry[i];
  const char *name = d->records.text[i];
  tl_status (*decode)(const void *, size_t, const char *, const tl_image_limits *, tl_image *,
                      tl_err *) = d->ids ? tl_image_decode_ids : tl_image_decode;
  if (e->bytes) return decode(e->bytes, e->n_bytes, name, &d->limits, out, err);
  tl_buf bytes = {0};
  tl_status s = tl_file_read(name, d->limits.max_bytes, &bytes, err);
  if (s == TL_OK) s = decode(bytes.data, bytes.len, name, &d->limits, out, err);
  tl_buf_free(&bytes);
  return s;
}

tl_status tl_image_get(const tl_image_data *d, size_t i, int32_t channels, tl_image *out,
                       tl_err *err) {
  const tl_image_entry *e = &d->entry[i];
  const char *name = d->records.text[i];
  *out = (tl_image){.width = e->width, .height = e->height, .channels = e->channels};
  if (e->pixels) {
    TL_TRY(tl_image_alloc(out, name, err));
    memcpy(out->pixels, e->pixels, (size_t)e->width * (size_t)e->height * (size_t)e->channels);
  } else {
    TL_TRY(decode_again(d, i, out, err));
    if (d->ids) tl_mask_void(out, d->void_id);
  }
  tl_status s = set_channels(out, channels, name, err);
  if (s != TL_OK) tl_image_free(out);
  return s;
}
