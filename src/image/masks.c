/* Pictures with masks: which file is what, which belong together, and what their values mean. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "image/build.h"

/* --- names -------------------------------------------------------------------------------------
 */

static const char suffix[] = "_mask", masks_folder[] = "masks", pictures_folder[] = "images";

/* The last part of the path that is this folder; NULL: there is none. *n: its length. */
static const char *find_folder(const char *path, const char *folder) {
  size_t n = strlen(folder);
  const char *found = NULL;
  for (const char *at = path; (at = strstr(at, folder)); at++)
    if ((at == path || at[-1] == '/') && at[n] == '/') found = at;
  return found;
}

/* Length without the extension. */
static size_t stem_length(const char *name) {
  const char *slash = strrchr(name, '/'), *dot = strrchr(slash ? slash : name, '.');
  return dot ? (size_t)(dot - name) : strlen(name);
}

static bool has_suffix(const char *name, size_t stem) {
  size_t n = sizeof suffix - 1;
  return stem > n && !memcmp(name + stem - n, suffix, n);
}

static bool is_mask(const char *name) {
  return find_folder(name, masks_folder) || has_suffix(name, stem_length(name));
}

bool tl_mask_wanted(const tl_image_builder *b, const char *name) {
  if (b->part && !find_folder(name, b->part)) return false;
  return b->role == TL_ROLE_ALL || is_mask(name) == (b->role == TL_ROLE_MASKS);
}

void tl_mask_key(const char *name, tl_buf *key) {
  size_t stem = stem_length(name);
  const char *masks = find_folder(name, masks_folder);
  if (has_suffix(name, stem)) stem -= sizeof suffix - 1;
  if (masks) {
    size_t before = (size_t)(masks - name), behind = before + sizeof masks_folder - 1;
    tl_buf_append(key, name, before);
    tl_buf_puts(key, pictures_folder);
    tl_buf_append(key, name + behind, stem - behind);
  } else {
    tl_buf_append(key, name, stem);
  }
}

/* --- values ------------------------------------------------------------------------------------
 */

void tl_mask_void(tl_image *m, int32_t void_id) {
  size_t n = (size_t)m->width * (size_t)m->height;
  for (size_t i = 0; i < n; i++)
    if (m->pixels[i] == void_id) m->pixels[i] = TL_MASK_VOID;
}

tl_status tl_mask_take(tl_image_builder *b, const char *name, tl_image *m, tl_err *err) {
  int32_t void_id = b->o->masks->void_id, most = TL_MASK_CLASSES, top = -1;
  if (b->o->labels) most = b->o->labels->n;
  size_t n = (size_t)m->width * (size_t)m->height;
  for (size_t i = 0; i < n; i++)
    if (m->pixels[i] != void_id && m->pixels[i] > top) top = m->pixels[i];
  if (top >= most)
    return tl_fail(err, TL_DATA,
                   "%s: class %d in the mask; expected 0 to %d%s (image.void_id names the value of "
                   "pixels without a class)",
                   name, top, most - 1, b->o->labels ? ", the classes there are" : "");
  if (top >= b->n_ids) b->n_ids = top + 1;
  tl_mask_void(m, void_id);
  return TL_OK;
}

/* --- pairs -------------------------------------------------------------------------------------
 */

typedef struct keyed {
  const char *key;
  size_t at;
} keyed;

static int by_key(const void *a, const void *b) {
  const keyed *x = a, *y = b;
  int c = strcmp(x->key, y->key);
  return c ? c : (x->at > y->at) - (x->at < y->at);
}

static tl_status sort_keys(const tl_image_builder *b, keyed **out, tl_err *err) {
  const tl_task_data *d = &b->d->records;
  keyed *k = *out = malloc((d->n + 1) * sizeof *k);
  if (!k) return tl_fail(err, TL_NOMEM, "%s: out of memory for %zu pictures", b->path, d->n);
  for (size_t i = 0; i < d->n; i++) k[i] = (keyed){b->label[i], i};
  qsort(k, d->n, sizeof *k, by_key);
  for (size_t i = 1; i < d->n; i++)
    if (!strcmp(k[i].key, k[i - 1].key))
      return tl_fail(err, TL_DATA,
                     "%s and %s: the same name twice, so that masks and pictures do "
                     "not know which is meant",
                     d->text[k[i - 1].at], d->text[k[i].at]);
  return TL_OK;
}

static tl_status alone(tl_image_builder *b, const char *name, const char *what, tl_err *err) {
  tl_err why;
  tl_fail(&why, TL_DATA,
          "%s: %s (docs/images.md: images/NAME.jpg has masks/NAME.png, or NAME.jpg "
          "has NAME_mask.png)",
          name, what);
  return tl_image_bad(b, &why, err);
}

/* mask[i]: the mask of picture i, or SIZE_MAX where it was left out as broken. */
static tl_status match(tl_image_builder *p, tl_image_builder *m, size_t *mask, tl_err *err) {
  keyed *a = NULL, *b = NULL;
  size_t n = p->d->records.n, n_masks = m->d->records.n, i = 0, k = 0;
  tl_status s = sort_keys(p, &a, err);
  if (s == TL_OK) s = sort_keys(m, &b, err);
  while (s == TL_OK && (i < n || k < n_masks)) {
    int c = i == n ? 1 : k == n_masks ? -1 : strcmp(a[i].key, b[k].key);
    if (c < 0) s = alone(p, p->d->records.text[a[i].at], "a picture without a mask", err);
    if (c > 0) s = alone(p, m->d->records.text[b[k].at], "a mask without a picture", err);
    if (c <= 0) mask[a[i].at] = c < 0 ? SIZE_MAX : b[k].at;
    i += c <= 0;
    k += c >= 0;
  }
  free(a);
  free(b);
  return s;
}

static tl_status check_size(const tl_image_data *p, size_t i, const tl_image_data *m, size_t k,
                            tl_err *err) {
  const tl_image_entry *a = &p->entry[i], *b = &m->entry[k];
  if (a->width == b->width && a->height == b->height) return TL_OK;
  return tl_fail(err, TL_DATA, "%s: %d x %d pixels, and its mask %s has %d x %d; they must agree",
                 p->records.text[i], a->width, a->height, m->records.text[k], b->width, b->height);
}

/* Leaves the pictures with a mask in d, and of m their masks in the same order. */
static tl_status arrange(tl_image_data *d, tl_image_data *m, const size_t *mask, tl_err *err) {
  size_t n = 0, old = d->records.n;
  tl_image_entry *entry = malloc((old + 1) * sizeof *entry);
  char **text = calloc(old + 1, sizeof *text);
  tl_status s = entry && text ? TL_OK : tl_fail(err, TL_NOMEM, "masks: out of memory");
  for (size_t i = 0; s == TL_OK && i < old; i++)
    if (mask[i] != SIZE_MAX) s = check_size(d, i, m, mask[i], err);
  if (s != TL_OK) {
    free(entry);
    free(text);
    return s;
  }
  for (size_t i = 0; i < old; i++) {
    char *name = d->records.text[i];
    if (mask[i] == SIZE_MAX) {
      free(name);
      continue;
    }
    entry[n] = m->entry[mask[i]];
    text[n] = m->records.text[mask[i]];
    m->records.text[mask[i]] = NULL;
    d->entry[n] = d->entry[i];
    d->records.text[n++] = name;
  }
  for (size_t i = 0; i < m->records.n; i++) free(m->records.text[i]);
  free(m->records.text);
  free(m->entry);
  m->entry = entry;
  m->records.text = text;
  d->records.n = m->records.n = n;
  return TL_OK;
}

static tl_status pair_up(tl_image_builder *p, tl_image_builder *m, tl_err *err) {
  size_t *mask = malloc((p->d->records.n + 1) * sizeof *mask);
  tl_status s = mask ? match(p, m, mask, err) : tl_fail(err, TL_NOMEM, "masks: out of memory");
  if (s == TL_OK) s = arrange(p->d, m->d, mask, err);
  free(mask);
  if (s == TL_OK && p->d->records.n == 0)
    s = tl_fail(err, TL_DATA, "%s: no picture with a mask (%zu broken)", p->path, p->d->n_bad);
  return s;
}

static tl_status make_classes(const tl_image_builder *p, const tl_image_builder *m, tl_err *err) {
  const tl_labels *known = p->o->labels;
  tl_labels *out = &p->d->records.labels;
  if (known) return tl_labels_make((const char *const *)known->name, (size_t)known->n, out, err);
  char text[TL_MASK_CLASSES][12];
  const char *name[TL_MASK_CLASSES];
  for (int32_t i = 0; i < m->n_ids; i++) {
    snprintf(text[i], sizeof text[i], "%d", i);
    name[i] = text[i];
  }
  if (m->n_ids == 0) return tl_fail(err, TL_DATA, "%s: no pixel of the masks has a class", p->path);
  return tl_labels_make(name, (size_t)m->n_ids, out, err);
}

/* Both builders' parts in turn; the masks have what memory the pictures leave. */
static tl_status read_both(tl_image_builder *p, tl_image_builder *m, tl_err *err) {
  TL_TRY(tl_image_build(p, err));
  p->d->records.kind = TL_TASK_TEXTS;
  if (p->d->records.n == 0)
    return tl_fail(err, TL_DATA, "%s: no pictures%s%s", p->path, p->part ? " below a folder " : "",
                   p->part ? p->part : "");
  if (p->o->unlabelled) return TL_OK;
  m->budget = p->budget - p->used > 0 ? p->budget - p->used : 1;
  TL_TRY(tl_image_build(m, err));
  m->d->void_id = p->o->masks->void_id;
  p->d->records.hash = tl_mix64(p->d->records.hash, m->d->records.hash);
  TL_TRY(pair_up(p, m, err));
  return make_classes(p, m, err);
}

tl_status tl_mask_read(const char *path, const tl_image_options *o, tl_image_data *out,
                       tl_err *err) {
  const char *comma = tl_file_exists(path) ? NULL : strrchr(path, ',');
  char *whole = comma ? strndup(path, (size_t)(comma - path)) : strdup(path);
  tl_image_data *masks = calloc(1, sizeof *masks);
  tl_image_builder p = {.o = o, .path = whole, .role = TL_ROLE_PICTURES, .d = out};
  p.part = comma ? comma + 1 : NULL;
  tl_image_builder m = p;
  m.role = TL_ROLE_MASKS;
  m.d = masks;
  *out = (tl_image_data){0};
  tl_status s =
      whole && masks ? read_both(&p, &m, err) : tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  if (masks && masks->records.n == 0) {
    tl_image_data_free(masks);
    free(masks);
  } else {
    out->masks = masks;
  }
  tl_arena_free(&p.names);
  tl_arena_free(&m.names);
  free(p.label);
  free(m.label);
  free(whole);
  if (s != TL_OK) tl_image_data_free(out);
  return s;
}
