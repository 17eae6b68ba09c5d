/* The parts of a tokenizer.json that is not one of the four types made here: a chain of
 * normalizers, a chain of pre-tokenizers, a model, a chain of decoders. Shared by tok_pipe*.c,
 * tok_regex.c and tok_added.c. */
#ifndef TL_TEXT_TOK_PIPE_H
#define TL_TEXT_TOK_PIPE_H

#include "tok_internal.h"

/* ---- tok_regex.c: what text is searched for ---- */

enum tok_pattern_kind { PAT_NONE, PAT_LITERAL, PAT_GPT2, PAT_LLAMA3, PAT_O200K, PAT_PCRE };

typedef struct tok_pattern {
  enum tok_pattern_kind kind;
  char *literal;
  size_t len;
  int digits; /* PAT_LLAMA3: so many digits make a word at most */
  struct pcre2_real_code_8 *code;
} tok_pattern;

/* {"String": s} or {"Regex": s}. */
tl_status tok_pattern_read(tok_pattern *p, const json_t *object, const char *where, tl_err *err);
void tok_pattern_free(tok_pattern *p);

/* Memory of a search: one per call of encode or decode. */
typedef struct tok_matcher {
  struct pcre2_real_match_data_8 *data;
  struct pcre2_real_match_context_8 *limits;
} tok_matcher;
void tok_matcher_free(tok_matcher *m);
/* The next match at or after `from` that is not empty; *found says whether there is one. p is
 * well-formed UTF-8. DATA: the pattern takes too many steps on this text. */
tl_status tok_pattern_next(const tok_pattern *pat, tok_matcher *m, const unsigned char *p,
                           size_t len, size_t from, bool *found, size_t *start, size_t *end,
                           tl_err *err);

/* ---- steps of the chains ---- */

enum tok_op {
  NORM_BERT,
  NORM_NFC,
  NORM_NFD,
  NORM_NFKC,
  NORM_NFKD,
  NORM_LOWERCASE,
  NORM_STRIP_ACCENTS,
  NORM_STRIP,
  NORM_REPLACE,
  NORM_PREPEND,
  NORM_NMT,
  NORM_CHARSMAP,
  NORM_BYTE_LEVEL,
  PRE_BYTE_LEVEL,
  PRE_SPLIT,
  PRE_WORD,
  PRE_SPACE,
  PRE_BERT,
  PRE_METASPACE,
  PRE_DIGITS,
  PRE_PUNCTUATION,
  PRE_DELIMITER,
  DEC_BYTE_LEVEL,
  DEC_WORDPIECE,
  DEC_METASPACE,
  DEC_BPE,
  DEC_BYTE_FALLBACK,
  DEC_FUSE,
  DEC_STRIP,
  DEC_REPLACE,
};

enum tok_behavior { SPLIT_REMOVED, SPLIT_ISOLATED, SPLIT_PREVIOUS, SPLIT_NEXT, SPLIT_CONTIGUOUS };
enum tok_prepend { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER };

typedef struct tok_step {
  enum tok_op op;
  enum tok_behavior behavior;
  enum tok_prepend prepend;
  tok_pattern pattern;
  char *text; /* content, prefix, replacement, suffix */
  size_t text_len;
  bool left, right;  /* strip */
  bool prefix_space; /* byte level */
  bool words;        /* byte level: use_regex; metaspace: split; digits: individual; cleanup */
  bool invert;
  size_t start, stop; /* decoder Strip */
  tok_norm bert;
  struct tok_charsmap *map;
} tok_step;

enum { TOK_MAX_STEPS = 64 };

typedef struct tok_steps {
  tok_step *step;
  size_t n;
} tok_steps;

enum tok_model { MODEL_BYTE_BPE, MODEL_BPE, MODEL_WORDPIECE, MODEL_UNIGRAM, MODEL_WORDLEVEL };

typedef struct tok_pipe {
  tok_steps norm, pre, dec;
  bool joined_by_space; /* decoding without a decoder */
  enum tok_model model;
  char *prefix, *suffix; /* of BPE's continuing and last symbols, WordPiece's "##"; NULL: none */
  bool fuse_unk;
  uint32_t unk; /* TOK_NONE: none */
  bool byte_fallback;
  bool cuts;                    /* BPE of characters: words are cut by `neighbours` */
  uint64_t neighbours[1 << 10]; /* a bit for pairs of characters; some pairs share one */
  bool asks_first; /* a pre-tokenizer treats the text's first piece in its own way: runs follow
                      `head` */
} tok_pipe;

/* A piece of text in a run's buffer. first: it begins within what the original text's first
 * character has become. */
typedef struct tok_span {
  size_t at, len;
  bool first;
} tok_span;

typedef struct tok_spans {
  tok_span *v;
  size_t n, cap;
  size_t head; /* as in tok_run */
} tok_spans;

/* Text on its way through the chains; steps that change it write to the other buffer. */
typedef struct tok_run {
  tl_buf text, other;
  tok_spans spans, next;
  tok_matcher matcher;
  size_t
      head; /* so many bytes of the text come from the original's first character; 0: it is gone */
  int32_t *cps; /* normal forms: room for code points */
  size_t cap_cps;
} tok_run;
void tok_run_free(tok_run *r);
bool tok_spans_add(tok_spans *s, size_t at, size_t len, bool first);

/* tok_norm.c */
tl_status tok_norm_read(tok_steps *s, const json_t *object, tl_err *err);
/* r->text becomes its normal form. */
tl_status tok_norm_run(const tok_steps *s, tok_run *r, tl_err *err);
/* tok_charsmap.c: SentencePiece's table of replacements, in base64. */
tl_status tok_charsmap_read(struct tok_charsmap **out, const char *base64, tl_err *err);
void tok_charsmap_free(struct tok_charsmap *m);
void tok_charsmap_apply(const struct tok_charsmap *m, const unsigned char *p, size_t len,
                        tl_buf *out);
/* tok_pre.c */
tl_status tok_pre_read(tok_steps *s, const json_t *object, tl_err *err);
/* Cuts r->text into r->spans. */
tl_status tok_pre_run(const tok_steps *s, tok_run *r, bool first, tl_err *err);
void tok_bytes_to_chars(const unsigned char *p, size_t len, tl_buf *out);
bool tok_is_word_char(int32_t cp); /* \w */
/* tok_decoder.c */
tl_status tok_decoder_read(tok_steps *s, const json_t *object, tl_err *err);
void tok_decoder_run(const tl_tokenizer *t, const uint32_t *ids, size_t n, bool skip_special,
                     tl_buf *out);

/* Adds a step; NULL when there are too many or memory is out. */
tok_step *tok_steps_add(tok_steps *s, enum tok_op op);
void tok_steps_free(tok_steps *s);
/* A copy of a member that is a string; "" where it is absent. */
tl_status tok_step_text(tok_step *step, const json_t *object, const char *where, const char *key,
                        bool needed, tl_err *err);
/* Calls read for the object, or for each of those in a Sequence's `list`; NULL and null: none. */
typedef tl_status (*tok_read_step_fn)(tok_steps *s, const json_t *object, const char *type,
                                      tl_err *err);
tl_status tok_read_chain(tok_steps *s, const json_t *object, const char *where, const char *list,
                         tok_read_step_fn read, tl_err *err);

#endif
