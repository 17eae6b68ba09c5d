/* Graphs: built once from operators, differentiated in reverse, planned, and run many times.
 *
 * Errors while building are sticky: constructors always return a node, later ones do nothing, and
 * tl_graph_compile reports the first error. */
#ifndef TL_CORE_GRAPH_H
#define TL_CORE_GRAPH_H

#include "core/op.h"

typedef struct tl_graph_options {
  tl_dtype dt;   /* of activations: TL_F32 or TL_BF16 */
  bool training; /* a backward pass will be asked for */
} tl_graph_options;

typedef struct tl_plan_stats {
  size_t slab_bytes; /* activations, their gradients, saved values, scratch, states and inputs */
  size_t sum_bytes;  /* what it would be without reuse */
  int n_nodes;
} tl_plan_stats;

struct tl_graph {
  tl_ctx *ctx;
  tl_params *params;
  tl_graph_options opt;
  tl_arena arena;
  tl_node **node;
  int n_nodes, cap;
  char scope[128];
  int n_dims;
  int64_t dim_max[TL_MAX_DIMS], dim_cur[TL_MAX_DIMS];
  int dim_of[TL_MAX_DIMS]; /* the size that this one is a multiple of; 0: none */
  int64_t dim_times[TL_MAX_DIMS];
  tl_err err;       /* the first error while building */
  tl_node stand_in; /* for a node after an error, so that building goes on; never compiled */
  bool compiled;
  /* Set before building: layers do not add what they read to what they give; norms over a batch
   * take its own moments always, and leave the running ones alone (a teacher's graph). */
  bool cut_skips, batch_moments;
  tl_node *loss;
  void **scratch_fwd, **scratch_bwd; /* by node */
  void *slab;
  tl_plan_stats stats;
  double *seconds; /* [2][n_nodes] forward, backward, summed over runs; NULL unless profiling */
};

/* The graph borrows ctx and params. NULL when out of memory. */
tl_graph *tl_graph_new(tl_ctx *ctx, tl_params *params, const tl_graph_options *options);
void tl_graph_free(tl_graph *g);
/* Prefix of the names of the nodes that follow ("h.3.attn"). */
void tl_graph_scope(tl_graph *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A dynamic size for axis 0 of inputs and of what is computed from them; starts at max. */
int tl_graph_dim(tl_graph *g, int64_t max);
void tl_graph_set_dim(tl_graph *g, int dim, int64_t current); /* 0 <= current <= max */
/* `times` rows for each one of `of`, a size that tl_graph_dim gave: follows it. The same number for
 * the same two. */
int tl_graph_dim_times(tl_graph *g, int of, int64_t times);

/* Inputs have memory of their own: zeros after compile, then what the caller wrote last. */
tl_node *tl_graph_input(tl_graph *g, const char *name, tl_dtype dt, int ndim, const int64_t *shape,
                        int dim);
/* An input of these values (copied), which stay. */
tl_node *tl_graph_constant(tl_graph *g, const char *name, tl_dtype dt, int ndim,
                           const int64_t *shape, const void *values);
tl_node *tl_graph_param(tl_graph *g, tl_param *p); /* the same node for the same parameter */
tl_node *tl_graph_state(tl_graph *g, const char *name, tl_dtype dt, int ndim, const int64_t *shape);
/* Used by the constructors in ops.h: copies attr, runs infer. */
tl_node *tl_graph_op(tl_graph *g, const tl_op *op, tl_node *const *in, int n_in, const void *attr,
                     size_t attr_bytes);
/* Records a sticky error from a constructor. */
void tl_graph_fail(tl_graph *g, tl_status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Differentiates with respect to trainable parameters from `loss` (NULL: forward only), plans
 * memory and allocates it. outputs stay readable after the run. */
tl_status tl_graph_compile(tl_graph *g, tl_node *loss, tl_node *const *outputs, int n_outputs,
                           tl_err *err);

/* Runs forward, and backward too when run->training. Inputs' data must be filled before. */
typedef struct tl_pass {
  bool training, accumulate;
  float loss_scale;
  uint64_t seed, tick;
} tl_pass;
void tl_graph_run(tl_graph *g, const tl_pass *run);
/* FLOPs and bytes of one forward + backward at the current dynamic sizes. */
tl_cost tl_graph_cost(const tl_graph *g);

/* For operators' test cases: a differentiable leaf with values from N(0, 1), as an activation of
 * the graph's type; and plain parameters. Values depend on the order of the calls. */
tl_node *tl_case_input(tl_graph *g, int64_t rows, int64_t cols);
tl_param *tl_case_param(tl_graph *g, int ndim, const int64_t *shape, float mean, float std);
/* An i32 or f32 input with these values (copied), kept through all runs. */
tl_node *tl_case_ints(tl_graph *g, int ndim, const int64_t *shape, const int32_t *values);
tl_node *tl_case_floats(tl_graph *g, int ndim, const int64_t *shape, const float *values);

#endif
