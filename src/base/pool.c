#define _GNU_SOURCE
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* How long a waiting thread spins before it sleeps (about 50 us); a training step starts a new
 * parallel region every few tens of microseconds, far quicker than a futex wake-up. */
enum { SPINS = 4000 };

struct tl_pool {
  int n;
  pthread_t *threads;
  tl_task_fn fn;
  void *arg;
  int64_t n_tasks;
  _Alignas(64) _Atomic int64_t next;
  _Alignas(64) _Atomic uint64_t epoch; /* bumped to start a region */
  _Alignas(64) _Atomic int done;       /* workers finished with the region */
  _Atomic bool quit;
  _Atomic int sleepers;
  pthread_mutex_t mutex;
  pthread_cond_t cond;
};

typedef struct worker_arg {
  tl_pool *pool;
  int index;
} worker_arg;

static inline void cpu_relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

static void run_tasks(tl_pool *p, int worker) {
  for (;;) {
    int64_t t = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
    if (t >= p->n_tasks) return;
    p->fn(p->arg, t, worker);
  }
}

static void wait_for_epoch(tl_pool *p, uint64_t seen) {
  for (int i = 0; i < SPINS; i++) {
    if (atomic_load_explicit(&p->epoch, memory_order_acquire) != seen) return;
    cpu_relax();
  }
  pthread_mutex_lock(&p->mutex);
  atomic_fetch_add(&p->sleepers, 1);
  while (atomic_load(&p->epoch) == seen) pthread_cond_wait(&p->cond, &p->mutex);
  atomic_fetch_sub(&p->sleepers, 1);
  pthread_mutex_unlock(&p->mutex);
}

static void *worker_main(void *varg) {
  worker_arg a = *(worker_arg *)varg;
  free(varg);
  tl_pool *p = a.pool;
  uint64_t seen = 0;
  for (;;) {
    wait_for_epoch(p, seen);
    seen++;
    if (atomic_load(&p->quit)) return NULL;
    run_tasks(p, a.index);
    atomic_fetch_add_explicit(&p->done, 1, memory_order_release);
  }
}

static void start_region(tl_pool *p) {
  atomic_fetch_add(&p->epoch, 1); /* seq_cst: orders against the sleepers' check */
  if (atomic_load(&p->sleepers) > 0) {
    pthread_mutex_lock(&p->mutex);
    pthread_cond_broadcast(&p->cond);
    pthread_mutex_unlock(&p->mutex);
  }
}

void tl_parallel(tl_pool *p, int64_t n_tasks, tl_task_fn fn, void *arg) {
  if (n_tasks <= 0) return;
  if (n_tasks == 1 || p->n == 1) {
    for (int64_t t = 0; t < n_tasks; t++) fn(arg, t, 0);
    return;
  }
  p->fn = fn;
  p->arg = arg;
  p->n_tasks = n_tasks;
  atomic_store_explicit(&p->next, 0, memory_order_relaxed);
  atomic_store_explicit(&p->done, 0, memory_order_relaxed);
  start_region(p);
  run_tasks(p, 0);
  for (int i = 0; atomic_load_explicit(&p->done, memory_order_acquire) < p->n - 1; i++) {
    if (i < SPINS)
      cpu_relax();
    else
      sched_yield();
  }
}

/* Pins thread `index` to the index-th CPU of `mask`; a failure only costs speed. */
static void pin_thread(pthread_t t, const cpu_set_t *mask, int index) {
  for (int cpu = 0, seen = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, mask) || seen++ != index) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_setaffinity_np(t, sizeof one, &one);
    return;
  }
}

tl_status tl_pool_new(int n_threads, bool pin, tl_pool **out, tl_err *err) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) CPU_SET(0, &mask);
  int n_cpus = CPU_COUNT(&mask);
  if (n_threads <= 0) n_threads = n_cpus > 0 ? n_cpus : 1;
  tl_pool *p = aligned_alloc(64, (sizeof *p + 63) / 64 * 64);
  if (!p) return tl_fail(err, TL_NOMEM, "thread pool: out of memory");
  memset(p, 0, sizeof *p);
  p->threads = calloc((size_t)n_threads, sizeof *p->threads);
  if (!p->threads) {
    free(p);
    return tl_fail(err, TL_NOMEM, "thread pool: out of memory for %d threads", n_threads);
  }
  pthread_mutex_init(&p->mutex, NULL);
  pthread_cond_init(&p->cond, NULL);
  p->n = 1;
  pin = pin && n_threads <= n_cpus && n_threads > 1;
  if (pin) pin_thread(pthread_self(), &mask, 0);
  for (int i = 1; i < n_threads; i++) {
    worker_arg *a = malloc(sizeof *a);
    if (a) *a = (worker_arg){p, i};
    if (!a || pthread_create(&p->threads[i], NULL, worker_main, a) != 0) {
      free(a);
      tl_pool_free(p);
      return tl_fail(err, TL_NOMEM, "thread pool: cannot start thread %d of %d", i, n_threads);
    }
    if (pin) pin_thread(p->threads[i], &mask, i);
    p->n = i + 1;
  }
  *out = p;
  return TL_OK;
}

void tl_pool_free(tl_pool *p) {
  if (!p) return;
  atomic_store(&p->quit, true);
  start_region(p);
  for (int i = 1; i < p->n; i++) pthread_join(p->threads[i], NULL);
  pthread_mutex_destroy(&p->mutex);
  pthread_cond_destroy(&p->cond);
  free(p->threads);
  free(p);
}

int tl_pool_size(const tl_pool *p) {
  return p->n;
}
