#include "train/loader.h"

#include <math.h>
#include <stdlib.h>

static tl_status make_window(tl_loader *l, uint32_t window, tl_err *err) {
  l->tok = malloc(((size_t)window + 1) * sizeof *l->tok);
  l->starts = malloc(((size_t)window + 1) * sizeof *l->starts);
  if (l->tok && l->starts) return TL_OK;
  tl_loader_free(l);
  return tl_fail(err, TL_NOMEM, "data: out of memory for a window of %u tokens", window);
}

tl_status tl_loader_init(tl_loader *l, const tl_dataset *data, tl_split split, uint64_t seed,
                         uint32_t window, bool documents, const tl_objective *o, tl_err *err) {
  uint64_t n = tl_dataset_tokens(data, split);
  *l = (tl_loader){.data = data, .split = split, .objective = o, .documents = documents};
  /* The last token has no successor, so it is only ever a target. */
  l->order = (tl_order){
      .seed = seed, .n_tokens = n > 0 ? n - 1 : 0, .window = window, .sequential = split == TL_VAL};
  if (tl_order_per_epoch(&l->order) == 0)
    return tl_fail(
        err, TL_DATA,
        "%s: the %s part has %llu tokens, fewer than one window of %u; give more text, %sor a "
        "smaller train.seq_len",
        tl_dataset_dir(data), split == TL_VAL ? "validation" : "training", (unsigned long long)n,
        window, split == TL_VAL ? "a larger part for validation (--val-fraction) " : "");
  return make_window(l, window, err);
}

tl_status tl_loader_init_made_up(tl_loader *l, const tl_made_up *m, uint32_t window,
                                 const tl_objective *o, tl_err *err) {
  *l = (tl_loader){.made_up = m, .objective = o, .order = {.window = window}};
  return make_window(l, window, err);
}

void tl_loader_free(tl_loader *l) {
  free(l->tok);
  free(l->starts);
  *l = (tl_loader){0};
}

uint64_t tl_loader_per_epoch(const tl_loader *l) {
  return tl_order_per_epoch(&l->order);
}

static void read_data(tl_loader *l, uint64_t position, tl_sample *s) {
  uint64_t begin = tl_order_at(&l->order, position, &s->n);
  tl_dataset_read(l->data, l->split, begin, s->n + 1, l->tok);
  if (l->documents)
    s->n_starts = tl_dataset_doc_starts(l->data, l->split, begin, s->n + 1, l->starts);
}

/* Windows follow one another in the stream. */
static void make_up(tl_loader *l, uint64_t position, tl_sample *s) {
  const tl_made_up *m = l->made_up;
  s->n = l->order.window;
  tl_rng r = tl_rng_make(m->seed, TL_STREAM_TEST, 0, position << 20);
  for (uint32_t i = 0; i <= s->n; i++)
    l->tok[i] = m->first + (uint32_t)tl_rng_below(&r, m->vocab - m->first);
  if (m->n_lengths == 0) return;
  uint64_t begin = position * s->n, cycle = m->starts[m->n_lengths];
  size_t doc = 0;
  while (m->starts[doc] < begin % cycle) doc++; /* the cycle's end is the next one's start */
  for (uint64_t base = begin - begin % cycle;; doc++) {
    if (doc == m->n_lengths) {
      doc = 0;
      base += cycle;
    }
    uint64_t start = base + m->starts[doc];
    if (start > begin + s->n) return;
    l->starts[s->n_starts++] = (uint32_t)(start - begin);
  }
}

bool tl_loader_add(tl_loader *l, const tl_objective_args *a, uint64_t position, tl_batch *b) {
  if (l->order.sequential && position >= tl_loader_per_epoch(l)) return false;
  tl_sample s = {.tok = l->tok, .has_next = true, .position = position, .starts = l->starts};
  if (l->made_up)
    make_up(l, position, &s);
  else
    read_data(l, position, &s);
  l->objective->add(a, &s, b);
  return true;
}

void tl_loader_fill(tl_loader *l, const tl_objective_args *a, uint64_t position, int64_t n,
                    tl_batch *b) {
  tl_batch_clear(b);
  for (int64_t i = 0; i < n && tl_loader_add(l, a, position + (uint64_t)i, b);) i++;
}

double tl_loader_bpb(const tl_loader *l, double loss) {
  if (!l->data) return NAN;
  double bytes = (double)tl_dataset_bytes(l->data, l->split);
  return loss / log(2) * (double)tl_dataset_tokens(l->data, l->split) / fmax(1, bytes);
}
