/* TensorBoard event files: scalars only. */
#ifndef TL_FORMATS_TENSORBOARD_H
#define TL_FORMATS_TENSORBOARD_H

#include "base/buf.h"
#include "tilth/run.h"

uint32_t tl_crc32c(const void *data, size_t n);

/* Append records (TFRecord framing) to `out`; wall: seconds since 1970. */
void tl_tb_version(tl_buf *out, double wall); /* first record of every file */
/* Tells readers that what earlier files hold from `step` on is void. */
void tl_tb_restart(tl_buf *out, double wall, int64_t step);
void tl_tb_scalars(tl_buf *out, double wall, int64_t step, const tl_metric *m, size_t n);

#endif
