/* The operators' test: every kernel level against the readable reference, gradients against finite
 * differences, and the same bits on any number of threads. It runs on the user's own machine, so
 * that a wrong result of a CPU, compiler or kernel is found before a training run. */
#ifndef TILTH_SELFTEST_H
#define TILTH_SELFTEST_H

#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What was found for one operator; borrowed during the callback. Errors are the worst over all
 * cases, kernel levels and threads, relative to the largest magnitude of the tensor. */
typedef struct tl_selftest_result {
  const char *op;
  int n_cases;
  float value_err[2], value_tol[2]; /* of the output: {f32, bf16} */
  float grad_err[2], grad_tol[2];   /* of the parameters' gradients, against the reference */
  float fd_err, fd_tol;             /* against finite differences in f32; fd_tol 0: not checked */
  bool ok;
  char message[256]; /* the first failure: case, type, level; empty if ok */
} tl_selftest_result;
typedef void (*tl_selftest_fn)(void *user, const tl_selftest_result *r);

/* Tests the operator named `only` (NULL: all) at every level up to `cpu` (NULL: TILTH_CPU or the
 * best of this CPU), and calls cb after each operator. *n_failed: operators that failed; the status
 * is OK even then. Errors: USAGE for an unknown operator, CONFIG for an unknown level, NOMEM. */
tl_status tl_selftest(const char *only, const char *cpu, tl_selftest_fn cb, void *user,
                      int *n_failed, tl_err *err);

/* All operators with formula and tolerances, in Markdown (docs/operators.md). *text is malloc'ed,
 * freed by the caller. */
tl_status tl_selftest_docs(char **text, tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
