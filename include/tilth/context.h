/* A context: the threads, the chosen kernels, and the caller's callbacks. There is no global
 * state; a program may hold several contexts. A context is used by one thread at a time. */
#ifndef TILTH_CONTEXT_H
#define TILTH_CONTEXT_H

#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_ctx tl_ctx;

typedef enum tl_log_level { TL_LOG_DEBUG, TL_LOG_INFO, TL_LOG_WARN, TL_LOG_ERROR } tl_log_level;

/* Called with a complete line without newline. May be NULL: then nothing is reported. */
typedef void (*tl_log_fn)(void *user, tl_log_level level, const char *line);
/* Asked between steps of long work; non-zero requests an orderly stop (TL_PREEMPTED). */
typedef int (*tl_cancel_fn)(void *user);

typedef struct tl_ctx_options {
  int n_threads;   /* 0: all CPUs in the affinity mask */
  const char *cpu; /* NULL: TILTH_CPU or the best; "ref", "avx2", "avx512", "avx512bf16" lower it */
  bool pin;        /* pin each thread to one CPU (skipped when the mask has fewer CPUs) */
  tl_log_fn log;
  tl_cancel_fn cancel;
  void *user; /* passed to both callbacks */
} tl_ctx_options;

/* On success *out owns the context; free it with tl_ctx_free. options may be NULL (defaults).
 * Errors: CONFIG (unknown or unsupported cpu level), NOMEM. */
tl_status tl_ctx_new(const tl_ctx_options *options, tl_ctx **out, tl_err *err);
void tl_ctx_free(tl_ctx *ctx); /* NULL is allowed */

int tl_ctx_threads(const tl_ctx *ctx);
const char *tl_ctx_cpu(const tl_ctx *ctx); /* the kernel level in use: "ref", "avx2", ... */
bool tl_ctx_cancelled(const tl_ctx *ctx);
void tl_log(const tl_ctx *ctx, tl_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#ifdef __cplusplus
}
#endif

#endif
