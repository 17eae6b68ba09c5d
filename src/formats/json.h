/* Parsing JSON with the project's errors. */
#ifndef TL_FORMATS_JSON_H
#define TL_FORMATS_JSON_H

#include <jansson.h>
#include "tilth/status.h"

/* *out: a new reference to an object; other values are refused, so are duplicate keys. what: the
 * file, for the message. DATA names line and column; NOMEM is told apart, so that a lack of memory
 * is never taken for a damaged file. */
tl_status tl_json_object(const char *what, const char *text, size_t n, json_t **out, tl_err *err);

#endif
