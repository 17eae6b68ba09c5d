/* Tokenizers: training, loading (tokenizer.json of Hugging Face's tokenizers), encoding, decoding.
 */
#ifndef TILTH_TOKENIZER_H
#define TILTH_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>
#include "tilth/context.h"
#include "tilth/status.h"

typedef struct tl_tokenizer tl_tokenizer;

/* Roles of special tokens. A role may be absent: its id is then -1. */
typedef enum tl_special {
  TL_TOK_PAD,  /* <pad>  [PAD]  */
  TL_TOK_BOS,  /* <s>    [CLS]: first token of a document, also the pooled one */
  TL_TOK_EOS,  /* </s>   [SEP]: last token of a document */
  TL_TOK_UNK,  /* <unk>  [UNK]  */
  TL_TOK_MASK, /* <mask> [MASK] */
  TL_TOK_N_SPECIAL
} tl_special;

typedef struct tl_tokenizer_train_options {
  const char
      *type;      /* "bpe" (byte-level, GPT-2 pre-tokenization), "wordpiece", "unigram", "bytes" */
  int vocab_size; /* specials included; ignored for "bytes" */
  bool lowercase; /* wordpiece and unigram: BERT's uncased normalization */
  int64_t max_bytes; /* stop reading text after this many bytes; 0: no limit */
} tl_tokenizer_train_options;

/* Delivers the next document (bytes stay valid until the next call); *text = NULL at the end. */
typedef tl_status (*tl_text_next_fn)(void *user, const char **text, size_t *len, tl_err *err);

/* Trains on documents from `next`. Deterministic: the same documents and options give the same
 * tokenizer on any number of threads. Errors: CONFIG (vocab_size out of bounds or larger than the
 * data allows: the message says how many can be made), DATA (no text), NOMEM. */
tl_status tl_tokenizer_train(tl_ctx *ctx, const tl_tokenizer_train_options *options,
                             tl_text_next_fn next, void *user, tl_tokenizer **out, tl_err *err);

/* path: a tokenizer.json or a folder that holds one. */
tl_status tl_tokenizer_load(const char *path, tl_tokenizer **out, tl_err *err);
/* Writes dir/tokenizer.json, tokenizer_config.json and special_tokens_map.json (dir is created). */
tl_status tl_tokenizer_save(const tl_tokenizer *t, const char *dir, tl_err *err);
void tl_tokenizer_free(tl_tokenizer *t);

int tl_tokenizer_vocab_size(const tl_tokenizer *t);
const char *tl_tokenizer_type(const tl_tokenizer *t);
int tl_tokenizer_special(const tl_tokenizer *t, tl_special role); /* id or -1 */
/* XXH3-64 of the canonical description: equal tokenizers have equal fingerprints. */
uint64_t tl_tokenizer_fingerprint(const tl_tokenizer *t);
/* The token as stored ("Ġthe", "##ing"); NULL for a hole. Borrowed. */
const char *tl_tokenizer_token(const tl_tokenizer *t, uint32_t id);
int tl_tokenizer_id(const tl_tokenizer *t, const char *token); /* -1 if absent */
/* flags[vocab_size]: 1 where the token starts a word, 0 where it continues one; specials are 1.
 * Borrowed; used by whole-word masking. */
const uint8_t *tl_tokenizer_word_starts(const tl_tokenizer *t);

/* Appends the ids of `text` (any bytes) to *ids; *n grows. No special tokens are added; text that
 * looks like a special token is encoded as plain text. Thread-safe: several threads may encode with
 * one tokenizer. *ids is a malloc'ed array of *cap elements (NULL and 0 to begin with). */
tl_status tl_tokenizer_encode(const tl_tokenizer *t, const char *text, size_t len, uint32_t **ids,
                              size_t *n, size_t *cap, tl_err *err);
/* *text: malloc'ed, NUL-terminated, freed by the caller. Byte-level tokenizers give back the exact
 * bytes. Special tokens are left out when skip_special. Ids out of range: DATA. */
tl_status tl_tokenizer_decode(const tl_tokenizer *t, const uint32_t *ids, size_t n,
                              bool skip_special, char **text, size_t *len, tl_err *err);

#endif
