/* Named entities from token tags, and their scores: an entity counts as right if its first token,
 * last token and type are. The same entities and scores as seqeval 1.2 (Nakayama 2018), in its
 * default mode, which is that of the CoNLL script conlleval, and its strict mode.
 *
 * A tag is a prefix character and a type: "B-PER", "O"; the type of a bare prefix is "_". */
#ifndef TL_EVAL_ENTITY_H
#define TL_EVAL_ENTITY_H

#include <stddef.h>
#include <stdint.h>
#include "eval/metrics.h"
#include "tilth/status.h"

typedef enum tl_tag_scheme {
  /* Reading only: any mixture of the prefixes B I E S O; a tag that cannot continue an entity
   * starts one. */
  TL_TAGS_TOLERANT,
  /* Strict: tags that do not form an entity of the scheme are no entity, other prefixes an error.
   */
  TL_TAGS_BIO,   /* B starts each entity, I continues it (IOB2) */
  TL_TAGS_IOB1,  /* I also starts; B only right after an entity of the same type */
  TL_TAGS_BIOES, /* B ... E around several tokens, S for one (IOBES) */
} tl_tag_scheme;

/* Sentences one behind the other: sentence s has the tags offset[s] .. offset[s + 1] - 1, and
 * offset[0] is 0. Tags are NUL-terminated UTF-8. Nothing is owned. */
typedef struct tl_tagged {
  const char *const *tag; /* [offset[n_sentences]] */
  const size_t *offset;   /* [n_sentences + 1] */
  size_t n_sentences;
} tl_tagged;

typedef struct tl_entity {
  size_t sentence, begin, end; /* tags begin .. end - 1, counted over all sentences */
  const char *type;            /* points into a tag, or to "_"; type_len bytes */
  size_t type_len;
} tl_entity;

typedef struct tl_entities {
  tl_entity *item; /* by rising end */
  size_t n, cap;
} tl_entities;

/* Errors: DATA (an empty tag, ill-formed UTF-8, a prefix outside a strict scheme; the message names
 * sentence and token), NOMEM. *out is freed by tl_entities_free, valid as long as the tags. */
tl_status tl_entities_read(const tl_tagged *tags, tl_tag_scheme scheme, tl_entities *out,
                           tl_err *err);
void tl_entities_free(tl_entities *e);

/* Writes the entities that `from` reads as tags of `to` (not TOLERANT), "O" elsewhere. *out: one
 * string per token, all in one block, freed by free(*out). Errors: also USAGE (`to` is TOLERANT).
 */
tl_status tl_tags_convert(const tl_tagged *tags, tl_tag_scheme from, tl_tag_scheme to,
                          const char ***out, tl_err *err);

/* Per sentence and type: how many entities are right, predicted, true; from which the scores of any
 * choice of sentences follow. */
typedef struct tl_entity_tally tl_entity_tally;

/* Errors: DATA also if the two differ in sentences or their lengths. The names are copied. */
tl_status tl_entity_tally_new(const tl_tagged *truth, const tl_tagged *pred, tl_tag_scheme scheme,
                              tl_entity_tally **out, tl_err *err);
void tl_entity_tally_free(tl_entity_tally *t); /* NULL is allowed */
size_t tl_entity_tally_types(const tl_entity_tally *t);
const char *tl_entity_tally_type(const tl_entity_tally *t, size_t i); /* in byte order */
/* Scores of the n sentences of `index` (NULL: of all, n is ignored):
 * type_prf[tl_entity_tally_types]; their averages come from tl_prf_average(.., keep_absent false).
 */
void tl_entity_scores(const tl_entity_tally *t, const size_t *index, size_t n, tl_prf *type_prf);

#endif
