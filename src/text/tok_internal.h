/* Inside of tl_tokenizer: shared by the files src/text/tok_*.c only.
 *
 * A tokenizer is a vocabulary (strings and flags by id), the settings of its text normalization,
 * and the model's own data (merges, scores). From these, `type->prepare` builds the tables that
 * encoding needs; everything is read-only afterwards, apart from the cache of encoded words, which
 * is lock-free. */
#ifndef TL_TEXT_TOK_INTERNAL_H
#define TL_TEXT_TOK_INTERNAL_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "base/buf.h"
#include "base/context.h"
#include "tilth/tokenizer.h"

enum {
  TOK_MAX_VOCAB = 1 << 22,  /* ids beyond are refused */
  TOK_MAX_STRING = 1 << 16, /* bytes of one token */
  TOK_BYTES = 256,
};
#define TOK_NONE UINT32_MAX /* no id, no symbol */

/* tl_tokenizer.flag. ADDED tokens are never made from text. */
enum {
  TOK_F_ADDED = 1,
  TOK_F_SPECIAL = 2,
  TOK_F_BYTE = 4,  /* "<0x41>" of a unigram model */
  TOK_F_EXTRA = 8, /* not in the model's vocabulary */
};

typedef struct tok_merge {
  uint32_t a, b, id; /* a followed by b becomes id; the index in the array is the priority */
} tok_merge;

/* BERT's normalizer, field names as in tokenizer.json. */
typedef struct tok_norm {
  bool on, clean_text, chinese_chars, strip_accents, lowercase;
} tok_norm;

/* A prefix tree over bytes: edges in an open hash table, nodes are numbers, 0 is the root. */
typedef struct tok_trie {
  struct tok_edge *edge;
  uint32_t mask, n_edges, n_nodes, cap_nodes;
  uint32_t *value; /* by node; TOK_NONE where no token ends */
} tok_trie;

enum { TOK_BESIDE = 3 };

/* A word of 1..16 bytes as two integers; with its length it is the word. */
enum { TOK_KEY_MAX = 16 };
typedef struct tok_key {
  uint64_t lo, hi;
} tok_key;

static inline tok_key tok_key_of(const unsigned char *p, size_t len) {
  tok_key k = {0, 0};
  if (len >= 8) {
    memcpy(&k.lo, p, 8);
    memcpy(&k.hi, p + len - 8, 8);
  } else if (len >= 4) {
    uint32_t first, last;
    memcpy(&first, p, 4);
    memcpy(&last, p + len - 4, 4);
    k.lo = first | (uint64_t)last << 32;
  } else {
    k.lo = p[0] | (uint64_t)p[len / 2] << 8 | (uint64_t)p[len - 1] << 16;
  }
  return k;
}

static inline uint64_t tok_key_hash(tok_key k, size_t len) {
  uint64_t h = (k.lo ^ len) * 0x9E3779B97F4A7C15u ^ (k.hi + 0x7F4A7C15u) * 0xD6E8FEB86659FD93u;
  return (h ^ h >> 32) * 0xD6E8FEB86659FD93u >> 20;
}

typedef struct tok_type tok_type;

struct tl_tokenizer {
  const tok_type *type;
  uint32_t n;          /* vocabulary size */
  tl_buf pool;         /* the strings, each NUL-terminated */
  uint32_t *at;        /* [n] start in pool */
  uint8_t *flag;       /* [n] TOK_F_* */
  uint8_t *word_start; /* [n] */
  uint32_t cap;        /* of the arrays by id */
  uint32_t *slot;      /* open hash table string -> id */
  uint32_t slot_mask;
  int special[TL_TOK_N_SPECIAL];

  tok_norm norm;
  bool split_words;        /* byte level: GPT-2's pre-tokenization */
  bool byte_fallback;      /* unigram */
  bool cleanup;            /* wordpiece: decoding draws punctuation to the word before it */
  uint32_t max_word_chars; /* wordpiece: longer words are unknown */

  tok_merge *merge;
  uint32_t n_merges;
  double *score; /* [n] unigram: log probability; 0 for specials */

  /* Tables built by prepare. */
  uint32_t byte_id[TOK_BYTES]; /* byte level, byte fallback */
  tl_buf raw;                  /* byte level: what each token stands for, joined */
  uint32_t *raw_at;            /* [n + 1] */
  struct tok_pair_slot *pair;  /* BPE: (a, b) -> priority and id */
  unsigned char *joins;        /* and whether a token is the first, the second of a pair at all */
  uint32_t pair_mask;
  struct tok_word_slot *word; /* BPE: whole words that are one token */
  uint32_t word_mask;
  struct tok_cache *cache;  /* byte level and unigram: words encoded before */
  tok_trie trie, trie_cont; /* wordpiece (start, ##), unigram */
  double unk_score;
  uint64_t fingerprint;

  /* Of a tokenizer that was read. */
  bool ignore_merges;        /* byte level: a word that is a token is not looked at further */
  struct tok_pipe *pipe;     /* chains of steps, where the file needs them */
  struct tok_added *added;   /* what is found in text before the model sees it */
  tl_ids around[2][3];       /* [one text, two][tl_around] */
  tl_buf source;             /* the file */
  tl_buf beside[TOK_BESIDE]; /* the files of tl_tokenizer_files behind it; empty: not there */
};

/* Counts of distinct pre-tokens, sorted by count (descending), then bytewise. */
typedef struct tok_word {
  const unsigned char *p;
  uint32_t len;
  uint64_t count;
} tok_word;
typedef struct tok_words {
  tok_word *word;
  size_t n;
  void *memory; /* owns the bytes */
} tok_words;
void tok_words_free(tok_words *w);

/* Calls emit for each pre-token of a piece of text. first: the piece begins the document. */
typedef void (*tok_emit_fn)(void *arg, const unsigned char *p, size_t len);
typedef bool (*tok_split_fn)(const tl_tokenizer *t, const unsigned char *p, size_t len, bool first,
                             tl_buf *scratch, tok_emit_fn emit, void *arg);

/* One row per type. All functions work on a tokenizer whose `type` is this row. */
struct tok_type {
  const char *name;
  const char *special[TL_TOK_N_SPECIAL]; /* ids 0..4 of a tokenizer trained here */
  bool needs_text;                       /* training reads the documents */
  bool can_lower;                        /* takes the option `lowercase` */
  /* Sets the normalization fields of a new tokenizer. */
  void (*configure)(tl_tokenizer *t, const tl_tokenizer_train_options *o);
  /* false: out of memory. */
  tok_split_fn split;
  /* Adds tokens (the specials are there already) from the counted words. */
  tl_status (*train)(tl_tokenizer *t, tl_ctx *ctx, const tok_words *w, int vocab_size, tl_err *err);
  /* Checks the vocabulary and builds the tables; after training and loading. */
  tl_status (*prepare)(tl_tokenizer *t, tl_err *err);
  tl_status (*encode)(const tl_tokenizer *t, const unsigned char *p, size_t len, tl_ids *out,
                      tl_err *err);
  /* Appends the text of the ids, which are known to be in range. */
  void (*decode)(const tl_tokenizer *t, const uint32_t *ids, size_t n, bool skip_special,
                 tl_buf *out);
  bool (*starts_word)(const tl_tokenizer *t, uint32_t id);
  /* Writes the members "normalizer" to "model" of tokenizer.json. */
  void (*write)(const tl_tokenizer *t, tl_buf *out);
  /* Whether a tokenizer.json is of this type; then reads everything but the added tokens. */
  bool (*claims)(const json_t *root);
  tl_status (*read)(tl_tokenizer *t, const json_t *root, tl_err *err);
};

extern const tok_type *const tok_types[];
extern const size_t tok_n_types;
extern const tok_type tok_type_bpe, tok_type_bytes, tok_type_wordpiece, tok_type_unigram;

/* tok_vocab.c: the strings. */
tl_tokenizer *tok_new(const tok_type *type);
/* Adds a token under the next id; TOK_NONE when out of memory. */
uint32_t tok_add(tl_tokenizer *t, const char *s, size_t len);
uint32_t tok_find(const tl_tokenizer *t, const char *s, size_t len); /* TOK_NONE if absent */
const char *tok_str(const tl_tokenizer *t, uint32_t id);
tl_status tok_nomem(tl_err *err);
/* Word starts, fingerprint and the type's tables. */
tl_status tok_finish(tl_tokenizer *t, tl_err *err);

/* tok_unicode.c */
/* One code point at p (len > 0): its length in bytes; *cp = -1 and length 1 where ill-formed. */
size_t tok_utf8(const unsigned char *p, size_t len, int32_t *cp);
size_t tok_utf8_put(int32_t cp, char out[4]);
bool tok_is_space(int32_t cp); /* White_Space */
bool tok_is_letter(int32_t cp);
bool tok_is_number(int32_t cp);
bool tok_is_mark(int32_t cp);
bool tok_is_left_alone(int32_t cp); /* the library's normal forms leave it as it is, where it is */
bool tok_is_punct(int32_t cp);      /* BERT's: ASCII punctuation and Unicode P* */
/* GPT-2's printable stand-in for each byte, as UTF-8 (returns its length); and back (-1: none). */
int tok_char_byte(int32_t cp);
size_t tok_byte_string(unsigned char byte, char out[4]);
/* Appends BERT's normal form of the text. */
tl_status tok_normalize(const tok_norm *norm, const unsigned char *p, size_t len, tl_buf *out,
                        tl_err *err);

/* tok_scan.c */
/* Length of GPT-2's next pre-token at p (len > 0). */
size_t tok_gpt2_next(const unsigned char *p, size_t len);
/* That of Llama 3's, whose numbers have up to `digits` digits. */
size_t tok_llama3_next(const unsigned char *p, size_t len, int digits);
/* That of GPT-4o's. */
size_t tok_o200k_next(const unsigned char *p, size_t len);

/* tok_count.c */
tl_status tok_count(tl_ctx *ctx, const tl_tokenizer *t, tl_text_next_fn next, void *user,
                    int64_t max_bytes, tok_words *out, tl_err *err);

/* tok_merge.c: learns merges. Words are runs of symbols; TOK_NONE separates. */
typedef struct tok_corpus {
  uint32_t *sym; /* changed while merging */
  size_t *at;    /* [n + 1] */
  uint64_t *count;
  size_t n;
} tok_corpus;
/* Room for the words: a symbol per byte at most. To be freed after a failure, too. */
tl_status tok_corpus_init(tok_corpus *c, const tok_words *w, tl_err *err);
void tok_corpus_free(tok_corpus *c);
/* Makes the token for (a, b); may give an id that exists. TOK_NONE when out of memory. */
typedef uint32_t (*tok_make_fn)(tl_tokenizer *t, uint32_t a, uint32_t b);
/* Merges the most frequent pair (ties: the smallest ids) until the vocabulary has vocab_size
 * tokens or no pair occurs twice; records merges in t->merge. */
tl_status tok_learn_merges(tl_tokenizer *t, tok_corpus *c, uint32_t vocab_size, tok_make_fn make,
                           tl_err *err);
tl_status tok_too_large(const tl_tokenizer *t, int vocab_size, tl_err *err);

/* tok_trie.c */
bool tok_trie_add(tok_trie *t, const unsigned char *key, size_t len, uint32_t value);
uint32_t tok_trie_step(const tok_trie *t, uint32_t node, unsigned char byte); /* TOK_NONE */
void tok_trie_free(tok_trie *t);

/* tok_unigram_train.c: adds the pieces and sets t->score. */
tl_status tok_unigram_train(tl_tokenizer *t, tl_ctx *ctx, const tok_words *w, int vocab_size,
                            tl_err *err);
/* Appends text with "\u2581" for each space and one in front. */
void tok_metaspace(const unsigned char *p, size_t len, bool first, tl_buf *out);
bool tok_unigram_split(const tl_tokenizer *t, const unsigned char *p, size_t len, bool first,
                       tl_buf *scratch, tok_emit_fn emit, void *arg);
enum { TOK_META_LEN = 3 };
#define TOK_META "\xe2\x96\x81"

/* tok_cache.c: short words encoded before; any number of threads may read and write. */
enum { TOK_CACHE_IDS = 10 };
struct tok_cache *tok_cache_new(void);
void tok_cache_free(struct tok_cache *c);
/* Number of ids written to out; 0: not in the cache. h: tok_key_hash of the key. */
size_t tok_cache_get(struct tok_cache *c, tok_key key, size_t len, uint64_t h,
                     uint32_t out[TOK_CACHE_IDS]);
void tok_cache_put(struct tok_cache *c, tok_key key, size_t len, uint64_t h, const uint32_t *ids,
                   size_t n);
/* Adds the ids of a word, from the cache or by `encode`. */
static inline tl_status tok_cached_word(const tl_tokenizer *t, const unsigned char *p, size_t len,
                                        tl_status (*encode)(const tl_tokenizer *,
                                                            const unsigned char *, size_t, tl_ids *,
                                                            tl_err *),
                                        tl_ids *out, tl_err *err) {
  if (len > TOK_KEY_MAX) return encode(t, p, len, out, err);
  if (!tl_ids_reserve(out, TOK_CACHE_IDS)) return tok_nomem(err);
  tok_key key = tok_key_of(p, len);
  uint64_t h = tok_key_hash(key, len);
  size_t n = tok_cache_get(t->cache, key, len, h, out->data + out->len), start = out->len;
  if (n > 0) {
    out->len += n;
    return TL_OK;
  }
  TL_TRY(encode(t, p, len, out, err));
  if (!out->oom) tok_cache_put(t->cache, key, len, h, out->data + start, out->len - start);
  return TL_OK;
}

/* tok_bpe.c: the merges. */
tl_status tok_bpe_prepare_bytes(tl_tokenizer *t, tl_err *err);
/* The table of words that are one token, and the cache of the others. whole: is the token what its
 * own text comes to? It also says what that is, at most TOK_KEY_MAX bytes. */
typedef bool (*tok_whole_fn)(const tl_tokenizer *t, uint32_t id, const unsigned char **p,
                             size_t *len);
tl_status tok_bpe_build_words(tl_tokenizer *t, tok_whole_fn whole, tl_err *err);
uint32_t tok_bpe_whole(const tl_tokenizer *t, const unsigned char *p, size_t len); /* or TOK_NONE */
tl_status tok_bpe_build_pairs(tl_tokenizer *t, tl_err *err);
/* A word in bytes. */
tl_status tok_bpe_word(const tl_tokenizer *t, const unsigned char *p, size_t len, tl_ids *out,
                       tl_err *err);
/* Merges the symbols, which are changed, and appends what is left. */
tl_status tok_bpe_merge(const tl_tokenizer *t, uint32_t *sym, size_t n, tl_ids *out, tl_err *err);
tl_status tok_bpe_read_merges(tl_tokenizer *t, const json_t *model, size_t prefix_len, tl_err *err);
/* tok_wordpiece.c, tok_unigram.c: one word. */
void tok_wordpiece_word(const tl_tokenizer *t, const unsigned char *p, size_t len, tl_ids *out);
tl_status tok_unigram_word(const tl_tokenizer *t, const unsigned char *p, size_t len, tl_ids *out,
                           tl_err *err);
tl_status tok_unigram_read_pieces(tl_tokenizer *t, const json_t *vocab, tl_err *err);
tl_status tok_unigram_find_bytes(tl_tokenizer *t, tl_err *err);

/* tok_added.c: added tokens in text. */
tl_status tok_added_read(tl_tokenizer *t, const json_t *root, tl_err *err);
void tok_added_free(struct tok_added *a);
/* Calls for each stretch between added tokens; `first`: it begins the text. */
typedef tl_status (*tok_stretch_fn)(const tl_tokenizer *t, const unsigned char *p, size_t len,
                                    bool first, void *user, tl_ids *out, tl_err *err);
/* normalized: the tokens that are looked for in normal form. special: those that are special, too.
 */
tl_status tok_added_split(const tl_tokenizer *t, bool normalized, bool special,
                          const unsigned char *p, size_t len, bool first, tok_stretch_fn fn,
                          void *user, tl_ids *out, tl_err *err);
/* Whether the file has an added token with this property set; absent: false. */
bool tok_added_any(const json_t *root, const char *key, bool value);

/* tok_pipe.c: tokenizers made of steps. */
extern const tok_type tok_type_pipe_bpe, tok_type_pipe_wordpiece, tok_type_pipe_unigram,
    tok_type_pipe_wordlevel;
void tok_pipe_free(struct tok_pipe *p);
tl_status tok_pipe_encode(const tl_tokenizer *t, const unsigned char *p, size_t len, bool first,
                          bool special, tl_ids *out, tl_err *err);
/* Appends the normal form of a text. */
tl_status tok_pipe_normal(const tl_tokenizer *t, const char *s, size_t len, tl_buf *out,
                          tl_err *err);
/* tok_post.c: `around`, from a file or, for a tokenizer made here, from its special tokens. */
tl_status tok_post_read(tl_tokenizer *t, const json_t *root, tl_err *err);
tl_status tok_post_make(tl_tokenizer *t, tl_err *err);

/* tok_json.c: writing. */
void tok_json_string(tl_buf *b, const char *s);
void tok_json_chars(tl_buf *b, const char *s);         /* the same without the quotes */
void tok_json_vocab(tl_buf *b, const tl_tokenizer *t); /* "vocab": {...} of the model */
void tok_json_norm(tl_buf *b, const tok_norm *n);      /* the value of "normalizer" */
void tok_json_post(tl_buf *b, const tl_tokenizer *t);  /* "post_processor": ..., */
void tok_write_json(const tl_tokenizer *t, tl_buf *out);

/* tok_json.c: reads the files beside dir/tokenizer.json, which are kept as they are. */
tl_status tok_read_beside(tl_tokenizer *t, const char *dir, tl_err *err);

/* tok_load.c: reading. The text of a tokenizer.json, which the tokenizer keeps. */
tl_status tok_parse(const tl_buf *text, tl_tokenizer **out, tl_err *err);
/* `where` names the object in messages. */
bool tok_json_is(const json_t *object, const char *type); /* object.type == type */
/* Absent or null: *out keeps its value. */
tl_status tok_json_bool(const json_t *object, const char *where, const char *key, bool *out,
                        tl_err *err);
/* Fails unless the member is absent, null, false or "": what this program does not do. */
tl_status tok_json_unset(const json_t *object, const char *where, const char *key, tl_err *err);
tl_status tok_json_norm_read(tok_norm *norm, const json_t *root, tl_err *err);
/* Reads model.vocab (an object {token: id}) and added_tokens; ids must be 0..n-1, each once. */
tl_status tok_json_vocab_read(tl_tokenizer *t, const json_t *root, tl_err *err);
/* Sets the flags from added_tokens, whose strings are in the vocabulary already. */
tl_status tok_json_flags_read(tl_tokenizer *t, const json_t *root, tl_err *err);

#endif
