#include "tilth/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
  const char *name, *text;
  int exit_code;
} status_table[] = {
#define ROW(name, exit_code, text) {#name, text, exit_code},
    TL_STATUS_MAP(ROW)
#undef ROW
};

enum { N_STATUS = sizeof status_table / sizeof status_table[0] };

static size_t index_of(tl_status s) {
  return (size_t)s < N_STATUS ? (size_t)s : (size_t)TL_INTERNAL;
}

const char *tl_status_name(tl_status s) {
  return status_table[index_of(s)].name;
}
const char *tl_status_text(tl_status s) {
  return status_table[index_of(s)].text;
}
int tl_status_exit_code(tl_status s) {
  return status_table[index_of(s)].exit_code;
}

tl_status tl_fail(tl_err *err, tl_status code, const char *fmt, ...) {
  if (err) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    err->code = code;
  }
  return code;
}

static tl_status status_of_errno(int e) {
  switch (e) {
  case ENOENT:
  case ENOTDIR:
    return TL_NOINPUT;
  case EACCES:
  case EPERM:
  case EROFS:
    return TL_PERM;
  case ENOMEM:
    return TL_NOMEM;
  case EEXIST:
    return TL_CREATE;
  default:
    return TL_IO;
  }
}

tl_status tl_fail_errno(tl_err *err, const char *fmt, ...) {
  int e = errno;
  tl_status code = status_of_errno(e);
  if (err) {
    char reason[128];
    if (strerror_r(e, reason, sizeof reason) != 0) snprintf(reason, sizeof reason, "errno %d", e);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof err->msg)
      snprintf(err->msg + n, sizeof err->msg - (size_t)n, ": %s", reason);
    err->code = code;
  }
  return code;
}
