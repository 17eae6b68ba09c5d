/* Tokenizers: training, loading (tokenizer.json of Hugging Face's tokenizers), encoding, decoding.
 *
 *   bpe        byte-level byte-pair encoding with GPT-2's pre-tokenization; any bytes come back as
 *              they were, and nothing is unknown
 *   wordpiece  BERT's normalization and longest-match pieces; what it cannot spell is unknown
 *   unigram    SentencePiece's language model of pieces; what it cannot spell it writes in bytes
 *   bytes      one token a byte
 *
 * The ids are those of Hugging Face's tokenizers for the same file; special tokens written in the
 * text are plain text unless TL_ENCODE_PARSE asks for them. */
#ifndef TILTH_TOKENIZER_H
#define TILTH_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>
#include "tilth/context.h"
#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

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
  int vocab_size; /* specials included; ignored for "bytes". At least 261 for bpe, 262 for unigram:
                     specials and the 256 bytes */
  bool lowercase; /* wordpiece and unigram only: BERT's uncased normalization (no accents) */
  int64_t max_bytes; /* stop reading text after this many bytes; 0: no limit */
} tl_tokenizer_train_options;

/* Delivers the next document (bytes stay valid until the next call); *text = NULL at the end. */
typedef tl_status (*tl_text_next_fn)(void *user, const char **text, size_t *len, tl_err *err);

/* Trains on documents from `next`. Deterministic: the same documents and options give the same
 * tokenizer on any number of threads; bpe gives the merges of Hugging Face's trainer with
 * min_frequency 2. Special tokens get the ids 0 to 4, in the order of tl_special. Errors: CONFIG
 * (unknown type; vocab_size out of bounds or larger than the data allows: the message says how many
 * can be made), DATA (no text), NOMEM, PREEMPTED (the context's cancel function asked for a stop),
 * and what `next` returns. next is not called for "bytes". */
tl_status tl_tokenizer_train(tl_ctx *ctx, const tl_tokenizer_train_options *options,
                             tl_text_next_fn next, void *user, tl_tokenizer **out, tl_err *err);

/* name: "bytes" for one token per byte, else a path for tl_tokenizer_load. */
tl_status tl_tokenizer_open(tl_ctx *ctx, const char *name, tl_tokenizer **out, tl_err *err);
/* path: a tokenizer.json or a folder that holds one, or a GGUF file: BPE, WordPiece, Unigram or
 * WordLevel with the normalizers, pre-tokenizers, post-processors and decoders that
 * docs/tokenizers.md lists. The file is not trusted. Errors: DATA (ill-formed, ids that repeat or
 * leave holes, merges of tokens that do not exist, settings that this program does not follow; the
 * message names the file and the place in it), NOINPUT, PERM, IO, NOMEM. */
tl_status tl_tokenizer_load(const char *path, tl_tokenizer **out, tl_err *err);
/* Writes dir/tokenizer.json, tokenizer_config.json and special_tokens_map.json (dir is created). Of
 * a tokenizer that was read: the same bytes, with what this program does not use (the template of
 * chats, also chat_template.jinja); the folder it was read from decides which files there are. */
tl_status tl_tokenizer_save(const tl_tokenizer *t, const char *dir, tl_err *err);
/* The names of all files that tl_tokenizer_save may write; NULL ends the list. */
extern const char *const tl_tokenizer_files[];
void tl_tokenizer_free(tl_tokenizer *t);
/* Adds the keys of a GGUF file's tokenizer (tilth/gguf.h) for a model with `vocab` ids; those that
 * the tokenizer lacks are named [PADi] and unused. name: for messages. Errors: CONFIG when
 * llama.cpp has no tokenizer that gives the same ids; DATA, NOMEM. */
struct tl_gguf_writer;
tl_status tl_tokenizer_put_gguf(const tl_tokenizer *t, const char *name, int64_t vocab,
                                struct tl_gguf_writer *w, tl_err *err);

int tl_tokenizer_vocab_size(const tl_tokenizer *t);
const char *tl_tokenizer_type(const tl_tokenizer *t);
int tl_tokenizer_special(const tl_tokenizer *t, tl_special role); /* id or -1 */
/* XXH3-64 of the canonical description: equal tokenizers have equal fingerprints. */
uint64_t tl_tokenizer_fingerprint(const tl_tokenizer *t);
/* The token as stored ("Ġthe", "##ing"); NULL for a hole. Borrowed. */
const char *tl_tokenizer_token(const tl_tokenizer *t, uint32_t id);
int tl_tokenizer_id(const tl_tokenizer *t, const char *token); /* -1 if absent */
/* flags[vocab_size]: 1 where the token starts a word, 0 where it continues one; specials are 1.
 * bpe and bytes: it begins with white space or with an ASCII character that is neither letter nor
 * digit (so a word without a space before it counts as part of the one before); wordpiece: it does
 * not begin with "##"; unigram: it begins with "▁". Borrowed; used by whole-word masking. */
const uint8_t *tl_tokenizer_word_starts(const tl_tokenizer *t);

/* Appends the ids of `text` (any bytes) to *ids; *n grows. No special tokens are added; text that
 * looks like a special token is encoded as plain text. Thread-safe: several threads may encode with
 * one tokenizer. *ids is a malloc'ed array of *cap elements (NULL and 0 to begin with). */
tl_status tl_tokenizer_encode(const tl_tokenizer *t, const char *text, size_t len, uint32_t **ids,
                              size_t *n, size_t *cap, tl_err *err);
/* The same with choices, a sum of these. */
enum {
  TL_ENCODE_PARSE = 1, /* special tokens written in the text are those tokens */
  TL_ENCODE_WRAP = 2,  /* what the file's post_processor puts around one text is put around it */
};
tl_status tl_tokenizer_encode_with(const tl_tokenizer *t, unsigned flags, const char *text,
                                   size_t len, uint32_t **ids, size_t *n, size_t *cap, tl_err *err);
/* The tokens that belong around texts: those that the file's post_processor puts before and after
 * one text (pair false) or before, between and after two. Tokenizers made here: TL_TOK_BOS before,
 * TL_TOK_EOS between and after. A file that puts nothing around texts has TL_TOK_EOS between two
 * all the same. *n of them (maybe 0), borrowed. */
typedef enum tl_around { TL_AROUND_BEFORE, TL_AROUND_BETWEEN, TL_AROUND_AFTER } tl_around;
const uint32_t *tl_tokenizer_around(const tl_tokenizer *t, bool pair, tl_around place, size_t *n);
/* *text: malloc'ed, NUL-terminated, freed by the caller. Byte-level tokenizers give back the exact
 * bytes. Special tokens are left out when skip_special. Ids out of range: DATA. */
tl_status tl_tokenizer_decode(const tl_tokenizer *t, const uint32_t *ids, size_t n,
                              bool skip_special, char **text, size_t *len, tl_err *err);
/* The same without special tokens, and as UTF-8 whatever the tokens are: U+FFFD stands for each
 * ill-formed sequence of bytes. */
tl_status tl_tokenizer_decode_utf8(const tl_tokenizer *t, const uint32_t *ids, size_t n,
                                   char **text, tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
