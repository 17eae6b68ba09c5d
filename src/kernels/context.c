#include "base/context.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "kernels/gemm_impl.h"

/* The level asked for by name; NULL or "" means the best one. `source` names where the name was
 * given, for the message. */
static tl_status choose_level(const char *name, const char *source, tl_cpu_level *out,
                              tl_err *err) {
  tl_cpu_level best = tl_cpu_detect();
  *out = best;
  if (!name || !*name) return TL_OK;
  char have[64] = "";
  for (int l = 0; l <= (int)best; l++) {
    size_t used = strlen(have);
    snprintf(have + used, sizeof have - used, "%s%s", l ? ", " : "",
             tl_cpu_level_name((tl_cpu_level)l));
  }
  for (int l = 0; l < TL_N_CPU_LEVELS; l++) {
    if (strcmp(name, tl_cpu_level_name((tl_cpu_level)l)) != 0) continue;
    if (l > (int)best)
      return tl_fail(err, TL_CONFIG,
                     "%s = \"%s\": this CPU does not have these instructions; it supports: %s",
                     source, name, have);
    *out = (tl_cpu_level)l;
    return TL_OK;
  }
  return tl_fail(err, TL_CONFIG, "%s = \"%s\": unknown CPU level; this CPU supports: %s", source,
                 name, have);
}

tl_status tl_ctx_new(const tl_ctx_options *options, tl_ctx **out, tl_err *err) {
  static const tl_ctx_options defaults;
  const tl_ctx_options *o = options ? options : &defaults;
  tl_cpu_level level;
  if (o->cpu)
    TL_TRY(choose_level(o->cpu, "cpu", &level, err));
  else
    TL_TRY(choose_level(getenv("TILTH_CPU"), "TILTH_CPU", &level, err));
  tl_ctx *ctx = calloc(1, sizeof *ctx);
  if (!ctx) return tl_fail(err, TL_NOMEM, "context: out of memory");
  tl_status s = tl_pool_new(o->n_threads, o->pin, &ctx->pool, err);
  if (s != TL_OK) {
    free(ctx);
    return s;
  }
  ctx->scratch_bytes = (size_t)tl_pool_size(ctx->pool) * TL_GEMM_SCRATCH_BYTES;
  ctx->scratch = tl_slab_alloc(ctx->scratch_bytes);
  if (!ctx->scratch) {
    tl_ctx_free(ctx);
    return tl_fail(err, TL_NOMEM, "context: out of memory for the threads' scratch");
  }
  ctx->k = tl_kernels_get(level);
  ctx->log = o->log;
  ctx->cancel = o->cancel;
  ctx->user = o->user;
  *out = ctx;
  return TL_OK;
}

void tl_ctx_free(tl_ctx *ctx) {
  if (!ctx) return;
  tl_pool_free(ctx->pool);
  if (ctx->scratch) tl_slab_free(ctx->scratch, ctx->scratch_bytes);
  free(ctx);
}

int tl_ctx_threads(const tl_ctx *ctx) {
  return tl_pool_size(ctx->pool);
}

const char *tl_ctx_cpu(const tl_ctx *ctx) {
  return ctx->k->name;
}

bool tl_ctx_cancelled(const tl_ctx *ctx) {
  return ctx->cancel && ctx->cancel(ctx->user) != 0;
}

void tl_log(const tl_ctx *ctx, tl_log_level level, const char *fmt, ...) {
  if (!ctx->log) return;
  char line[2048];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(line, sizeof line, fmt, ap);
  va_end(ap);
  ctx->log(ctx->user, level, line);
}
