/* The speed of operators and kernels on this machine, beside what it can reach at all. */
#ifndef TILTH_BENCH_H
#define TILTH_BENCH_H

#include "tilth/context.h"
#include "tilth/dtype.h"
#include "tilth/status.h"

/* The limits, measured on the spot with the context's kernels and threads. */
typedef struct tl_bench_peak {
  double gflops[2]; /* multiply-adds from registers, all threads: {f32, bf16} */
  double gbytes;    /* per second of memory: y = a + b over 256 MB, counted once each */
} tl_bench_peak;
tl_status tl_bench_measure_peak(tl_ctx *ctx, tl_bench_peak *out, tl_err *err);

/* One timing: the fastest of many runs. Borrowed during the callback. */
typedef struct tl_bench_row {
  const char *name;  /* of the operator or kernel */
  const char *shape; /* the dims of its case, "1024 768"; of a product "M N K" */
  const char *pass;  /* "forward", "backward", "both" (a loss), "run" (a kernel) */
  tl_dtype dt;
  double seconds;
  double flops, bytes; /* of one run; 0: not counted */
} tl_bench_row;
typedef void (*tl_bench_fn)(void *user, const tl_bench_row *row);

/* Times the operator or kernel named `only` (NULL: all), each for about `seconds` per type, in f32
 * and bf16. Stops early with PREEMPTED when the context is cancelled. Errors: USAGE for an unknown
 * name, NOMEM. */
tl_status tl_bench(tl_ctx *ctx, const char *only, double seconds, tl_bench_fn fn, void *user,
                   tl_err *err);

#endif
