/* Status codes and error messages.
 *
 * Every function that can fail returns a tl_status and takes a `tl_err *` as its last argument.
 * On success the error is left untouched, so calls chain; on failure it holds one message that
 * says what went wrong, where (file, line, offset, key, tensor), what was expected, and how to
 * mend it. `err` may be NULL when the caller wants the code only. The library never exits,
 * aborts or prints. */
#ifndef TILTH_STATUS_H
#define TILTH_STATUS_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, exit code of the command line, short text). The exit codes follow sysexits(3). */
#define TL_STATUS_MAP(X)                                                                           \
  X(OK, 0, "ok")                                                                                   \
  X(FAILED, 1, "failed")                                                                           \
  X(USAGE, 2, "wrong usage")                                                                       \
  X(DATA, 65, "bad or corrupt data")                                                               \
  X(NOINPUT, 66, "input not found")                                                                \
  X(INTERNAL, 70, "internal error")                                                                \
  X(NOMEM, 71, "out of memory or another system resource")                                         \
  X(CREATE, 73, "cannot create, or locked by another process")                                     \
  X(IO, 74, "input/output error")                                                                  \
  X(PREEMPTED, 75, "stopped by request; saved, and can be resumed")                                \
  X(DIVERGED, 76, "training diverged")                                                             \
  X(PERM, 77, "permission denied")                                                                 \
  X(CONFIG, 78, "invalid configuration")

typedef enum tl_status {
#define TL_STATUS_ENUM(name, exit_code, text) TL_##name,
  TL_STATUS_MAP(TL_STATUS_ENUM)
#undef TL_STATUS_ENUM
} tl_status;

typedef struct tl_err {
  tl_status code;
  char msg[1024]; /* NUL-terminated, complete enough to print as it is */
} tl_err;

/* Fills `err` (if not NULL) and returns `code`, so that `return tl_fail(err, TL_DATA, ...)` works.
 */
tl_status tl_fail(tl_err *err, tl_status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* As tl_fail, with ": <strerror(errno)>" appended and the code derived from errno
 * (ENOENT -> NOINPUT, EACCES/EPERM -> PERM, ENOMEM -> NOMEM, EEXIST -> CREATE, else IO). */
tl_status tl_fail_errno(tl_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

const char *tl_status_name(tl_status s); /* "DATA" */
const char *tl_status_text(tl_status s); /* "bad or corrupt data" */
int tl_status_exit_code(tl_status s);

/* Evaluates a tl_status expression once and returns from the enclosing function unless TL_OK. */
#define TL_TRY(expr)                                                                               \
  do {                                                                                             \
    tl_status tl_try_status_ = (expr);                                                             \
    if (tl_try_status_ != TL_OK) return tl_try_status_;                                            \
  } while (0)

#ifdef __cplusplus
}
#endif

#endif
