/* A batch of documents on its way from the reader to the shards. */
#ifndef TL_DATA_BATCH_H
#define TL_DATA_BATCH_H

#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/pool.h"
#include "tilth/text.h"
#include "tilth/tokenizer.h"

typedef struct tl_doc {
  size_t offset, len; /* of its text in the batch */
  size_t n_ids;       /* 0: nothing is left of it once encoded */
} tl_doc;

typedef struct tl_doc_batch {
  tl_buf text;
  tl_doc *docs;
  size_t n_docs, cap;
  bool last; /* the reader has come to its end */
  tl_status status;
  tl_err err; /* of the reader */
} tl_doc_batch;

/* One encoding task: a run of documents and their ids, joined. */
typedef struct tl_encode_task {
  size_t first, end; /* documents */
  tl_ids ids;
  tl_status status;
  tl_err err;
} tl_encode_task;

typedef struct tl_encoder {
  const tl_tokenizer *tok;
  int bos, eos; /* -1: none */
  uint32_t vocab_size;
  tl_encode_task *tasks;
  size_t n_tasks, cap;
} tl_encoder;

/* Reads the next documents into `to` and, on the other threads at the same time, encodes `from`
 * (either may be NULL) into e->tasks. The cut into tasks depends on the documents alone. Returns
 * the first error of encoding in the order of the documents; the reader's stays in to->status. */
tl_status tl_doc_batch_run(tl_pool *pool, tl_encoder *e, tl_text_reader *reader, tl_doc_batch *to,
                           tl_doc_batch *from, tl_err *err);
void tl_doc_batch_free(tl_doc_batch *b);
void tl_encoder_free(tl_encoder *e);

#endif
