/* "Did you mean": the nearest of a list of known words. */
#ifndef TILTH_SUGGEST_H
#define TILTH_SUGGEST_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The candidate nearest to `word` by edit distance (a swap of neighbours counts as one edit), or
 * NULL when none is near enough to be worth naming. Case is ignored. The result is one of the
 * candidates. */
const char *tl_suggest(const char *word, const char *const *candidates, size_t n);

#ifdef __cplusplus
}
#endif

#endif
