/* Next-token prediction: loss = -log p(t[i+1] | t[0..i]) at every position of a document. The first
 * token of the next document is no target. */
#include "objectives/objective.h"

static void add(const tl_objective_args *a, const tl_sample *s, tl_batch *b) {
  (void)a;
  int64_t row0 = tl_batch_append(b, s, true);
  size_t next = s->n_starts && s->starts[0] == 0 ? 1 : 0;
  for (uint32_t i = 0; i < s->n; i++) {
    bool boundary = next < s->n_starts && s->starts[next] == i + 1;
    bool known = i + 1 < s->n || s->has_next;
    next += boundary;
    b->targets[row0 + i] = boundary || !known ? -1 : (int32_t)s->tok[i + 1];
    b->n_counted += b->targets[row0 + i] >= 0;
  }
  b->n_targets += s->n;
}

const tl_objective tl_objective_next_token = {.name = "next_token", .decoder = true, .add = add};
