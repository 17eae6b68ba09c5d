#ifndef TL_TRANSFER_SENTENCE_H
#define TL_TRANSFER_SENTENCE_H

#include "models/model.h"

/* What the files of sentence-transformers in a model's folder say: how texts become vectors. */
typedef struct tl_sentence_settings {
  bool found;
  tl_pooling pool;
  int64_t max_len; /* tokens per text; 0: not said */
} tl_sentence_settings;
/* Reads modules.json, the pooling's config.json and sentence_bert_config.json; none: found is
 * false. CONFIG when they ask for what this program does not do (pooling by maximum, a dense
 * layer). */
tl_status tl_sentence_read(const char *dir, tl_sentence_settings *out, tl_err *err);

#endif
