/* Well-formedness of UTF-8 (Unicode 15, table 3-7): overlong forms, surrogates and values above
 * U+10FFFF are ill-formed. */
#ifndef TL_TEXT_UTF8_H
#define TL_TEXT_UTF8_H

#include <stddef.h>
#include "base/buf.h"

/* Number of leading bytes of `s` that are well-formed; n when all of them are. */
size_t tl_utf8_valid_prefix(const char *s, size_t n);
/* Length of the ill-formed sequence at s (which tl_utf8_valid_prefix stopped at): the longest
 * prefix of a well-formed sequence, or one byte ("maximal subpart"). *truncated: the sequence is
 * well-formed so far and only lacks bytes after s[n-1]. */
size_t tl_utf8_bad_length(const char *s, size_t n, bool *truncated);
/* Appends `s` to `out` with U+FFFD in place of each ill-formed sequence. */
void tl_utf8_replace(const char *s, size_t n, tl_buf *out);
/* The largest cut <= max (max < n) that does not split a character of s[0..n). */
size_t tl_utf8_cut(const char *s, size_t max);

#endif
