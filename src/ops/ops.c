#include "ops/ops.h"

const tl_op *const tl_ops[] = {
#define TL_OP(name) &tl_op_##name,
#include "ops/ops.def"
#undef TL_OP
};

const int tl_n_ops = sizeof tl_ops / sizeof tl_ops[0];
