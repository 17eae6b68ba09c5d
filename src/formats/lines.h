/* Files of lines that survive a kill at any instant: whole lines are appended by single writes. */
#ifndef TL_FORMATS_LINES_H
#define TL_FORMATS_LINES_H

#include <stddef.h>
#include <stdint.h>
#include "tilth/status.h"

/* Opens for appending, creating the file if needed. *fd is closed by the caller. */
tl_status tl_lines_open(const char *path, int *fd, tl_err *err);
/* Appends bytes; when the disk is full nothing of them remains. path: for the message. */
tl_status tl_lines_append(int fd, const char *path, const void *data, size_t n, tl_err *err);
/* Drops torn lines and lines that are not JSON objects; and, when max_step >= 0, those whose "step"
 * is larger. Replaces the file in one step, so not while it is open. ok if it does not exist. */
tl_status tl_lines_repair(const char *path, int64_t max_step, tl_err *err);

#endif
