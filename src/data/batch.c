#include "data/batch.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH_BYTES = 4 << 20, BATCH_DOCS = 1 << 16, TASK_BYTES = 64 << 10, TASK_DOCS = 4096 };

static tl_status add_document(tl_doc_batch *b, const char *text, size_t len) {
  if (b->n_docs == b->cap) {
    size_t cap = b->cap ? 2 * b->cap : 1024;
    tl_doc *p = realloc(b->docs, cap * sizeof *p);
    if (!p) return tl_fail(&b->err, TL_NOMEM, "out of memory for a batch of documents");
    b->docs = p;
    b->cap = cap;
  }
  b->docs[b->n_docs++] = (tl_doc){.offset = b->text.len, .len = len};
  tl_buf_append(&b->text, text, len);
  return tl_buf_check(&b->text, &b->err);
}

static void read_batch(tl_text_reader *reader, tl_doc_batch *b) {
  tl_buf_clear(&b->text);
  b->n_docs = 0;
  b->last = false;
  b->status = TL_OK;
  while (b->status == TL_OK && b->text.len < BATCH_BYTES && b->n_docs < BATCH_DOCS) {
    const char *text;
    size_t len;
    b->status = tl_text_next(reader, &text, &len, &b->err);
    if (b->status == TL_OK && !text) b->last = true;
    if (b->status != TL_OK || b->last) return;
    b->status = add_document(b, text, len);
  }
}

/* Appends the ids of one document, wrapped in BOS and EOS. */
static tl_status encode_document(const tl_encoder *e, const tl_doc_batch *b, tl_doc *d, tl_ids *ids,
                                 tl_err *err) {
  size_t before = ids->len;
  if (e->bos >= 0) tl_ids_push(ids, (uint32_t)e->bos);
  size_t text_begin = ids->len;
  TL_TRY(tl_tokenizer_encode(e->tok, b->text.data + d->offset, d->len, &ids->data, &ids->len,
                             &ids->cap, err));
  if (ids->len == text_begin) {
    ids->len = before;
    return TL_OK;
  }
  if (e->eos >= 0) tl_ids_push(ids, (uint32_t)e->eos);
  if (ids->oom) return tl_fail(err, TL_NOMEM, "out of memory for the ids of a document");
  d->n_ids = ids->len - before;
  for (size_t i = before; i < ids->len; i++)
    if (ids->data[i] >= e->vocab_size)
      return tl_fail(err, TL_INTERNAL, "the tokenizer gave id %u, outside its vocabulary of %u",
                     ids->data[i], e->vocab_size);
  return TL_OK;
}

static void encode_task(const tl_encoder *e, tl_doc_batch *b, tl_encode_task *t) {
  t->ids.len = 0;
  t->status = TL_OK;
  for (size_t i = t->first; i < t->end && t->status == TL_OK; i++)
    t->status = encode_document(e, b, &b->docs[i], &t->ids, &t->err);
}

static tl_status cut_tasks(tl_encoder *e, const tl_doc_batch *b, tl_err *err) {
  e->n_tasks = 0;
  for (size_t i = 0; i < b->n_docs;) {
    if (e->n_tasks == e->cap) {
      size_t cap = e->cap ? 2 * e->cap : 64;
      tl_encode_task *p = realloc(e->tasks, cap * sizeof *p);
      if (!p) return tl_fail(err, TL_NOMEM, "out of memory for encoding tasks");
      memset(p + e->cap, 0, (cap - e->cap) * sizeof *p);
      e->tasks = p;
      e->cap = cap;
    }
    tl_encode_task *t = &e->tasks[e->n_tasks++];
    t->first = i;
    size_t begin = b->docs[i].offset;
    while (i < b->n_docs && i - t->first < TASK_DOCS && b->docs[i].offset - begin < TASK_BYTES) i++;
    t->end = i;
  }
  return TL_OK;
}

typedef struct run_arg {
  tl_encoder *e;
  tl_text_reader *reader;
  tl_doc_batch *to, *from;
} run_arg;

/* Task 0 reads, the others encode: one thread reads while the rest works on the batch before. */
static void run_task(void *varg, int64_t task, int worker) {
  (void)worker;
  run_arg *a = varg;
  if (task > 0)
    encode_task(a->e, a->from, &a->e->tasks[task - 1]);
  else if (a->to)
    read_batch(a->reader, a->to);
}

tl_status tl_doc_batch_run(tl_pool *pool, tl_encoder *e, tl_text_reader *reader, tl_doc_batch *to,
                           tl_doc_batch *from, tl_err *err) {
  e->n_tasks = 0;
  if (from) TL_TRY(cut_tasks(e, from, err));
  run_arg a = {e, reader, to, from};
  tl_parallel(pool, (int64_t)e->n_tasks + 1, run_task, &a);
  for (size_t i = 0; i < e->n_tasks; i++) {
    if (e->tasks[i].status == TL_OK) continue;
    if (err) *err = e->tasks[i].err;
    return e->tasks[i].status;
  }
  return TL_OK;
}

void tl_doc_batch_free(tl_doc_batch *b) {
  tl_buf_free(&b->text);
  free(b->docs);
  *b = (tl_doc_batch){0};
}

void tl_encoder_free(tl_encoder *e) {
  for (size_t i = 0; i < e->cap; i++) tl_ids_free(&e->tasks[i].ids);
  free(e->tasks);
  *e = (tl_encoder){0};
}
