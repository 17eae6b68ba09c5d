/* Optimizers over a parameter store.
 *
 * adamw  Loshchilov and Hutter 2019, for every parameter.
 * muon   Jordan et al. 2024: TL_PARAM_HIDDEN matrices move along their orthogonalised momentum
 *        (see muon.h); adamw for the rest.
 * sgd    with Nesterov momentum.
 *
 * Weight decay is decoupled and applies to TL_PARAM_DECAY parameters only. A step allocates nothing
 * and gives the same bits on any number of threads. */
#ifndef TL_OPTIM_OPTIM_H
#define TL_OPTIM_OPTIM_H

#include "core/params.h"

typedef enum tl_optim_type {
  TL_OPTIM_ADAMW,
  TL_OPTIM_MUON,
  TL_OPTIM_SGD,
  TL_N_OPTIMS
} tl_optim_type;

/* "adamw", "muon" or "sgd"; false for another name. */
bool tl_optim_parse(const char *name, tl_optim_type *out);

typedef struct tl_optim_options {
  tl_optim_type type;
  float lr, muon_lr;       /* peak rates; muon_lr: of muon's matrices */
  float beta1, beta2, eps; /* adamw */
  float momentum;          /* muon, sgd */
  float weight_decay, ema; /* ema: decay of the averaged weights, 0: none kept */
  tl_params *teacher;      /* with ema: the average is the weights of these names; or NULL */
} tl_optim_options;

typedef struct tl_optim tl_optim;

/* For the trainable parameters of ps, which must be allocated and keep their trainability. Borrows
 * ctx, ps and the teacher, a store that has every one of them too. With ema the average starts at
 * the current values. Errors: NOMEM; INTERNAL: the teacher lacks one. */
tl_status tl_optim_new(tl_ctx *ctx, tl_params *ps, const tl_optim_options *options, tl_optim **out,
                       tl_err *err);
void tl_optim_free(tl_optim *o); /* NULL is allowed */

/* Factor on the learning rate of each parameter, by its index in the store; 1 at first. */
float *tl_optim_lr_factors(tl_optim *o);

/* One update. step counts from 1; lr_scale: the schedule's value; gradients count grad_scale times
 * (clipping). Calls tl_params_changed. */
void tl_optim_step(tl_optim *o, int64_t step, float lr_scale, float grad_scale);

/* The norm of all trainable parameters' gradients; not finite if any of them is not. The same bits
 * on any number of threads. */
double tl_grad_norm(tl_ctx *ctx, const tl_params *ps);
double tl_grad_sum_sq(tl_ctx *ctx, const tl_param *p); /* of one weight's gradient; 0: none */

/* Exchanges the weights with their average: once before an evaluation, once after. No step may come
 * between. Nothing without ema, and nothing with a teacher, which is there besides. */
void tl_optim_swap_ema(tl_optim *o);
/* The average's decay from the next step on, as it is: without the shorter memory that ema has in
 * the first steps. For a teacher's schedule. */
void tl_optim_set_ema(tl_optim *o, float decay);

/* The state, for checkpoints: with it, the parameters and the step number, a run resumes with the
 * same bits. Names are "adam.m/NAME", "adam.v/NAME", "momentum/NAME" and "ema/NAME". */
typedef struct tl_optim_tensor {
  const char *name;
  const tl_param *param; /* whose shape it has */
  float *data;           /* param->n elements */
} tl_optim_tensor;
int tl_optim_n_tensors(const tl_optim *o);
const tl_optim_tensor *tl_optim_tensor_at(const tl_optim *o, int i);
size_t tl_optim_bytes(const tl_optim *o); /* of state and scratch memory */
double tl_optim_flops(const tl_optim *o); /* of muon's products in one step; elementwise rules: 0 */

#endif
