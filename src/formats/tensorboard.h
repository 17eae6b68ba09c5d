/* TensorBoard event files: scalars only. */
#ifndef TL_FORMATS_TENSORBOARD_H
#define TL_FORMATS_TENSORBOARD_H

#include "base/buf.h"
#include "tilth/run.h"

uint32_t tl_crc32c(const void *data, size_t n);
uint32_t tl_tb_masked_crc(const void *data, size_t n); /* as records have it */

/* Append records (TFRecord framing) to `out`; wall: seconds since 1970. */
void tl_tb_version(tl_buf *out, double wall); /* first record of every file */
/* Tells readers that what earlier files hold from `step` on is void. */
void tl_tb_restart(tl_buf *out, double wall, int64_t step);
void tl_tb_scalars(tl_buf *out, double wall, int64_t step, const tl_metric *m, size_t n);

/* Reads a file's bytes: calls `each` for every scalar, in order; tag is not NUL-terminated. DATA
 * where a length or a checksum is wrong; a last record that is cut off (its writer was killed) ends
 * the reading, *torn says so. */
typedef tl_status (*tl_tb_fn)(void *user, double wall, int64_t step, const char *tag, size_t n,
                              float value, tl_err *err);
tl_status tl_tb_read(const char *path, const unsigned char *data, size_t size, tl_tb_fn each,
                     void *user, bool *torn, tl_err *err);

#endif
