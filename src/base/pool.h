/* A pool of pinned threads that runs "for task in 0..n" in parallel.
 *
 * Which worker runs which task is not fixed; a task's result must not depend on it. Tasks are cut
 * by problem shape, never by thread count, so results are the same on any number of threads. */
#ifndef TL_BASE_POOL_H
#define TL_BASE_POOL_H

#include <stdint.h>
#include "tilth/status.h"

typedef struct tl_pool tl_pool;

/* worker is in [0, tl_pool_size): index for per-worker scratch only. */
typedef void (*tl_task_fn)(void *arg, int64_t task, int worker);

tl_status tl_pool_new(int n_threads, bool pin, tl_pool **out, tl_err *err);
void tl_pool_free(tl_pool *p);
int tl_pool_size(const tl_pool *p);
/* Returns when all tasks are done. The caller is worker 0. Not re-entrant: never called from a
 * task. n_tasks == 1 runs in the caller without waking anyone. */
void tl_parallel(tl_pool *p, int64_t n_tasks, tl_task_fn fn, void *arg);

#endif
