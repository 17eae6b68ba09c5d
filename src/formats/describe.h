/* Inside of tl_describe_file. */
#ifndef TL_FORMATS_DESCRIBE_H
#define TL_FORMATS_DESCRIBE_H

#include <jansson.h>
#include <stddef.h>

/* Bytes of the character at s (n > 0) when it is well-formed UTF-8 that a terminal shows; else 0.
 */
size_t tl_describe_utf8(const char *s, size_t n);
/* The document as lines to read (malloc'ed; NULL when out of memory). */
char *tl_describe_lines(const json_t *o);

#endif
