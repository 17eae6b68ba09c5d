/* The parameter store: named f32 master weights with gradients, in two slabs, and the packed copies
 * that the matrix products read. Graphs borrow from it; a training graph, an evaluation graph and a
 * generation graph may share one store. */
#ifndef TL_CORE_PARAMS_H
#define TL_CORE_PARAMS_H

#include "base/arena.h"
#include "base/context.h"
#include "kernels/gemm.h"
#include "kernels/kernels.h"
#include "tilth/status.h"

enum { TL_MAX_NDIM = 4, TL_MAX_CAT = 3 };

typedef enum tl_init {
  TL_INIT_NORMAL, /* N(0, scale) */
  TL_INIT_CONST,  /* scale */
} tl_init;

typedef enum tl_param_flags {
  TL_PARAM_DECAY = 1,    /* weight decay applies (matrices, not gains and biases) */
  TL_PARAM_HIDDEN = 2,   /* a hidden matrix: Muon may train it */
  TL_PARAM_PAIR = 4,     /* A or B of a low-rank update, or its magnitudes */
  TL_PARAM_CHANGED = 16, /* an adapter's file has changed its values */
  TL_PARAM_ADDED = 8,    /* of an adapter, a prefix or a prompt (models/added.c) */
  TL_PARAM_FIXED = 32,   /* computed, never trained */
  TL_PARAM_HELPER = 64,  /* an objective's own: left out of the finished model */
} tl_param_flags;

struct tl_pack_use;

typedef struct tl_param tl_param;
struct tl_param {
  const char *name; /* the name in the checkpoint and in Hugging Face's files */
  int ndim;
  int64_t shape[TL_MAX_NDIM], n; /* n: elements */
  int file_ndim;                 /* the shape in files where it is another; 0: the same */
  int64_t file_shape[TL_MAX_NDIM];
  tl_init init;
  float init_scale;
  unsigned flags;
  bool trainable;
  float *data, *grad;       /* views of the slabs; grad is NULL unless trainable */
  int64_t offset;           /* element offset of data in the value slab */
  struct tl_pack_use *uses; /* the packs that hold it */
  /* A low-rank update of this weight (lora_a [r, in], lora_b [out, r]); NULL: none. */
  tl_param *lora_a, *lora_b;
  tl_param *lora_m; /* DoRA: the length of each output [out]; NULL: none */
  float lora_scale, lora_dropout;
  bool lora_conv1d; /* the weight is stored [in, out] */
};

/* A packed copy of one weight, or of several side by side on their output axis, as the B operand of
 * a product: TL_PACK_FORWARD is B [in, sum(out)] (Y = X B), TL_PACK_BACKWARD is B [sum(out), in]
 * (dX = dY B). Kept fresh by tl_params_refresh. */
typedef enum tl_pack_kind { TL_PACK_FORWARD, TL_PACK_BACKWARD } tl_pack_kind;

typedef struct tl_pack {
  tl_pack_kind kind;
  tl_dtype dt;
  const tl_kernels *kernels; /* whose layout it has */
  int n;
  const tl_param *w[TL_MAX_CAT];
  bool conv1d;     /* weights are stored [in, out] (GPT-2's Conv1D); otherwise [out, in] */
  int64_t in, out; /* out: the sum */
  void *data;
  size_t bytes;
  uint64_t version; /* that of the values in it, plus 1; 0: never filled */
  struct tl_pack *next;
} tl_pack;

typedef struct tl_pack_use {
  tl_pack *pack;
  int64_t at; /* where this weight begins on the pack's output axis */
  struct tl_pack_use *next;
} tl_pack_use;

typedef struct tl_params {
  tl_arena arena;
  tl_param **p;
  int n, cap;
  float *values, *grads; /* the slabs; each parameter starts at a multiple of 16 elements */
  int64_t n_values;      /* elements of each slab, padding included */
  tl_pack *packs;
  size_t pack_bytes; /* of all packs */
  uint64_t version;  /* bumped whenever values change */
} tl_params;

/* Adds a parameter before tl_params_alloc; NULL when out of memory or the name is taken. */
tl_param *tl_params_add(tl_params *ps, const char *name, int ndim, const int64_t *shape,
                        tl_init init, float init_scale, unsigned flags);
tl_param *tl_params_find(const tl_params *ps, const char *name); /* NULL if absent */
/* Allocates the slabs (gradients only if with_grads) and binds the views. */
tl_status tl_params_alloc(tl_params *ps, bool with_grads, tl_err *err);
/* Fills every parameter from (seed, name): independent of order, of the other parameters and of
 * ctx, whose threads do it; NULL: the caller alone. */
void tl_params_init(tl_ctx *ctx, tl_params *ps, uint64_t seed);
void tl_param_init(tl_param *p, uint64_t seed); /* one of them */
int64_t tl_params_count(const tl_params *ps, bool trainable_only);
void tl_params_free(tl_params *ps);

/* The pack of these weights, made at the first request and shared by later ones with the same key.
 * Filled at the next tl_params_refresh. NULL when out of memory or the shapes disagree. */
const tl_pack *tl_params_pack(tl_params *ps, const tl_kernels *k, tl_pack_kind kind, tl_dtype dt,
                              int n, tl_param *const *w, bool conv1d);
/* Call after values changed: marks all packs stale. */
void tl_params_changed(tl_params *ps);
/* For an update that packs what it writes while the cache has it: after elements [row0, row0+rows)
 * x [col0, col0+cols) of a matrix were written, this writes them to the packs for ctx's kernels
 * that were fresh before; row0 and col0 are multiples of TL_PACK_ALIGN. Blocks of one update may
 * run in parallel. When all that changed was written so, tl_params_followed stands for
 * tl_params_changed: those packs are fresh again. */
enum { TL_PACK_ALIGN = 64 };
typedef struct tl_rect {
  int64_t row0, rows, col0, cols;
} tl_rect;
void tl_params_pack_block(const tl_ctx *ctx, const tl_params *ps, const tl_param *w, tl_rect b);
void tl_params_followed(const tl_ctx *ctx, tl_params *ps);
/* Repacks what is stale among the packs for ctx's kernels. The executor calls it before each
 * forward pass. */
void tl_params_refresh(tl_ctx *ctx, tl_params *ps);

#endif
