/* A growable byte buffer, always NUL-terminated once it has data. Out of memory is sticky: later
 * appends are no-ops and `oom` is checked once at the end (tl_buf_check). Zero-initialise to use.
 */
#ifndef TL_BASE_BUF_H
#define TL_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>
#include "tilth/status.h"

typedef struct tl_buf {
  char *data;
  size_t len, cap;
  bool oom;
} tl_buf;

bool tl_buf_reserve(tl_buf *b, size_t extra); /* room for `extra` more bytes (+ NUL) */
void tl_buf_append(tl_buf *b, const void *data, size_t n);
void tl_buf_puts(tl_buf *b, const char *s);
void tl_buf_putc(tl_buf *b, char c);
void tl_buf_printf(tl_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The number with the fewest digits that read back as the same double; NaN and infinities as
 * printf has them. */
void tl_buf_put_real(tl_buf *b, double v);
void tl_buf_put_base64(tl_buf *b, const void *data, size_t n); /* RFC 4648, section 4 */
void tl_buf_clear(tl_buf *b);                                  /* keeps the memory */
void tl_buf_free(tl_buf *b);
tl_status tl_buf_check(const tl_buf *b, tl_err *err); /* NOMEM if an append failed */

/* A growable array of token ids; same rules. */
typedef struct tl_ids {
  uint32_t *data;
  size_t len, cap;
  bool oom;
} tl_ids;

bool tl_ids_reserve(tl_ids *v, size_t extra);
void tl_ids_push(tl_ids *v, uint32_t id);
void tl_ids_free(tl_ids *v);

#endif
