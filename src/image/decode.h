/* The decoders behind tl_image_decode. */
#ifndef TL_IMAGE_DECODE_H
#define TL_IMAGE_DECODE_H

#include "tilth/image.h"

/* The limits with their defaults filled in. */
tl_image_limits tl_image_limits_of(const tl_image_limits *limits);
/* DATA when a picture of this size is beyond the limits; sets out's sizes. */
tl_status tl_image_check_size(uint64_t width, uint64_t height, int32_t channels, const char *name,
                              const tl_image_limits *limits, tl_image *out, tl_err *err);
tl_status tl_image_alloc(tl_image *m, const char *name, tl_err *err);

/* decode false: the size alone. The limits are filled in. */
tl_status tl_image_png(const void *bytes, size_t n, const char *name, const tl_image_limits *limits,
                       bool decode, tl_image *out, tl_err *err);
/* The raw values, see tl_image_decode_ids. */
tl_status tl_image_png_ids(const void *bytes, size_t n, const char *name,
                           const tl_image_limits *limits, tl_image *out, tl_err *err);
tl_status tl_image_jpeg(const void *bytes, size_t n, const char *name,
                        const tl_image_limits *limits, bool decode, tl_image *out, tl_err *err);

#endif
