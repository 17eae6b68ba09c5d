#include "eval/entity.h"

#include <stdlib.h>
#include <string.h>

typedef struct row {
  size_t sentence, type, correct, predicted, actual;
} row;

struct tl_entity_tally {
  size_t n_types, n_sentences, n_rows;
  char **type;       /* [n_types], in byte order */
  row *rows;         /* by sentence; one per entity of either side */
  size_t *first_row; /* [n_sentences + 1] */
};

static int compare_types(const char *a, size_t a_len, const char *b, size_t b_len) {
  int c = memcmp(a, b, a_len < b_len ? a_len : b_len);
  return c ? c : (a_len > b_len) - (a_len < b_len);
}

static int by_type(const void *a, const void *b) {
  const tl_entity *x = a, *y = b;
  return compare_types(x->type, x->type_len, y->type, y->type_len);
}

static int by_name(const void *key, const void *name) {
  const tl_entity *x = key;
  const char *s = *(char *const *)name;
  return compare_types(x->type, x->type_len, s, strlen(s));
}

/* The names of all types of the n entities (which are sorted by it). */
static tl_status collect_types(tl_entity_tally *t, tl_entity *all, size_t n, tl_err *err) {
  qsort(all, n, sizeof *all, by_type);
  t->type = calloc(n ? n : 1, sizeof *t->type);
  if (!t->type) return tl_fail(err, TL_NOMEM, "out of memory for entity types");
  for (size_t i = 0; i < n; i++) {
    if (i && !by_type(&all[i - 1], &all[i])) continue;
    if (!(t->type[t->n_types] = strndup(all[i].type, all[i].type_len)))
      return tl_fail(err, TL_NOMEM, "out of memory for entity types");
    t->n_types++;
  }
  return TL_OK;
}

static size_t type_of(const tl_entity_tally *t, const tl_entity *e) {
  char **found = bsearch(e, t->type, t->n_types, sizeof *t->type, by_name);
  return (size_t)(found - t->type);
}

/* Merges the two lists, both by rising end; two entities of one list never share their end. */
static void fill_rows(tl_entity_tally *t, const tl_entities *truth, const tl_entities *pred) {
  size_t i = 0, j = 0;
  while (i < truth->n || j < pred->n) {
    const tl_entity *a = i < truth->n ? &truth->item[i] : NULL;
    const tl_entity *b = j < pred->n ? &pred->item[j] : NULL;
    if (a && b && a->end != b->end) {
      if (a->end < b->end)
        b = NULL;
      else
        a = NULL;
    }
    if (a && b && a->begin == b->begin && !by_type(a, b)) {
      t->rows[t->n_rows++] = (row){a->sentence, type_of(t, a), 1, 1, 1};
    } else {
      if (a) t->rows[t->n_rows++] = (row){a->sentence, type_of(t, a), 0, 0, 1};
      if (b) t->rows[t->n_rows++] = (row){b->sentence, type_of(t, b), 0, 1, 0};
    }
    i += a != NULL;
    j += b != NULL;
  }
  for (size_t s = 0, r = 0; s <= t->n_sentences; s++) {
    while (r < t->n_rows && t->rows[r].sentence < s) r++;
    t->first_row[s] = r;
  }
}

static tl_status tally(tl_entity_tally *t, const tl_entities *truth, const tl_entities *pred,
                       tl_err *err) {
  size_t n = truth->n + pred->n;
  tl_entity *all = calloc(n ? n : 1, sizeof *all);
  t->rows = calloc(n ? n : 1, sizeof *t->rows);
  t->first_row = calloc(t->n_sentences + 1, sizeof *t->first_row);
  tl_status st = TL_OK;
  if (!all || !t->rows || !t->first_row)
    st = tl_fail(err, TL_NOMEM, "out of memory for the scores of %zu entities", n);
  if (st == TL_OK) {
    if (truth->n) memcpy(all, truth->item, truth->n * sizeof *all);
    if (pred->n) memcpy(all + truth->n, pred->item, pred->n * sizeof *all);
    st = collect_types(t, all, n, err);
  }
  if (st == TL_OK) fill_rows(t, truth, pred);
  free(all);
  return st;
}

static tl_status check_same_shape(const tl_tagged *truth, const tl_tagged *pred, tl_err *err) {
  if (truth->n_sentences != pred->n_sentences)
    return tl_fail(err, TL_DATA, "%zu true but %zu predicted sentences", truth->n_sentences,
                   pred->n_sentences);
  for (size_t s = 0; s < truth->n_sentences; s++) {
    size_t a = truth->offset[s + 1] - truth->offset[s], b = pred->offset[s + 1] - pred->offset[s];
    if (a != b)
      return tl_fail(err, TL_DATA, "sentence %zu: %zu true but %zu predicted tags", s, a, b);
  }
  return TL_OK;
}

tl_status tl_entity_tally_new(const tl_tagged *truth, const tl_tagged *pred, tl_tag_scheme scheme,
                              tl_entity_tally **out, tl_err *err) {
  TL_TRY(check_same_shape(truth, pred, err));
  tl_entities a = {0}, b = {0};
  tl_entity_tally *t = calloc(1, sizeof *t);
  tl_status st = t ? TL_OK : tl_fail(err, TL_NOMEM, "out of memory for entity scores");
  if (st == TL_OK) st = tl_entities_read(truth, scheme, &a, err);
  if (st == TL_OK) st = tl_entities_read(pred, scheme, &b, err);
  if (st == TL_OK) {
    t->n_sentences = truth->n_sentences;
    st = tally(t, &a, &b, err);
  }
  tl_entities_free(&a);
  tl_entities_free(&b);
  if (st == TL_OK)
    *out = t;
  else
    tl_entity_tally_free(t);
  return st;
}

void tl_entity_tally_free(tl_entity_tally *t) {
  if (!t) return;
  for (size_t i = 0; i < t->n_types; i++) free(t->type[i]);
  free(t->type);
  free(t->rows);
  free(t->first_row);
  free(t);
}

size_t tl_entity_tally_types(const tl_entity_tally *t) {
  return t->n_types;
}

const char *tl_entity_tally_type(const tl_entity_tally *t, size_t i) {
  return t->type[i];
}

void tl_entity_scores(const tl_entity_tally *t, const size_t *index, size_t n, tl_prf *type_prf) {
  for (size_t k = 0; k < t->n_types; k++) type_prf[k] = (tl_prf){0};
  for (size_t i = 0; i < (index ? n : t->n_sentences); i++) {
    size_t s = index ? index[i] : i;
    for (size_t r = t->first_row[s]; r < t->first_row[s + 1]; r++) {
      tl_prf *p = &type_prf[t->rows[r].type];
      p->correct += t->rows[r].correct;
      p->predicted += t->rows[r].predicted;
      p->actual += t->rows[r].actual;
    }
  }
  for (size_t k = 0; k < t->n_types; k++)
    type_prf[k] = tl_prf_of_counts(type_prf[k].correct, type_prf[k].predicted, type_prf[k].actual);
}
