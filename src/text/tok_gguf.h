/* The tokenizer of a GGUF file: what both directions know, and SentencePiece's order of merging. */
#ifndef TL_TEXT_TOK_GGUF_H
#define TL_TEXT_TOK_GGUF_H

#include "tilth/gguf.h"
#include "tok_internal.h"

enum { /* kinds of tokens, as stored */
       TOK_GGUF_NORMAL = 1,
       TOK_GGUF_UNKNOWN = 2,
       TOK_GGUF_CONTROL = 3,
       TOK_GGUF_USER = 4,
       TOK_GGUF_UNUSED = 5,
       TOK_GGUF_BYTE = 6
};

typedef struct tok_gguf_split {
  const char *name, *regex; /* llama.cpp's name of a pre-tokenizer */
} tok_gguf_split;
extern const tok_gguf_split tok_gguf_splits[]; /* ends with zeros, as tok_gguf_roles does */

typedef struct tok_gguf_role {
  const char *key, *hf; /* in GGUF; in tokenizer_config.json */
  tl_special role;
  int llama; /* the id where a tokenizer of kind "llama" lacks the key; -1: none */
} tok_gguf_role;
extern const tok_gguf_role tok_gguf_roles[]; /* BOS and EOS are the first two */

/* The tokenizer of a GGUF file, by way of the tokenizer.json that says the same. Errors: DATA. */
tl_status tok_gguf_load(const char *path, tl_tokenizer **out, tl_err *err);

/* tok_spm.c. A token that is made of two others: the bytes of the first, and when it happens. */
typedef struct tok_spm_pair {
  uint32_t id, first;
  double rank;
} tok_spm_pair;
/* When the first `first` bytes of token `id` and its rest are joined, where they are neighbours:
 * lower ranks first; INFINITY: never. */
typedef double (*tok_spm_rank_fn)(const void *user, uint32_t id, size_t first);
/* The tokens of t that merging makes, in the order in which it does; *out: malloc'ed [*n]. CONFIG
 * where neighbours whose text is a token would stay apart; DATA: a token twice, or one of more
 * than TOK_SPM_MAX characters. */
tl_status tok_spm_order(const tl_tokenizer *t, tok_spm_rank_fn rank, const void *user,
                        tok_spm_pair **out, size_t *n, tl_err *err);
enum { TOK_SPM_MAX = 512 };

#endif
