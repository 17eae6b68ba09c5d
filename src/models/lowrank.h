/* Low-rank updates of a model's weights, and their files as Hugging Face's peft has them. */
#ifndef TL_MODELS_LOWRANK_H
#define TL_MODELS_LOWRANK_H

#include "models/model.h"

typedef struct tl_lora_shape {
  int64_t rank;
  float scale, dropout;
  bool conv1d; /* the weight is stored [in, out] */
  bool magnitudes;
} tl_lora_shape;
/* Adds to w, the weight "X.weight", the pair X.lora_A.weight [r, in] and X.lora_B.weight [out, r]
 * and, with magnitudes, X.lora_magnitude_vector [out]. */
void tl_lora_declare(tl_declare *d, tl_param *w, const tl_lora_shape *l);
/* out: the updated weight, of w's shape; may be w->data. */
void tl_lora_merge(const tl_param *w, float *out);

/* What adapter_config.json says of an adapter of this program's. */
typedef struct tl_lora_about {
  const char *base; /* folder of the model that it belongs to; NULL: there is none to name */
  const char *task; /* peft's task_type: "SEQ_CLS", "TOKEN_CLS", "CAUSAL_LM", ... */
  int64_t rank;
  double alpha, dropout;
  bool rs, dora;
  bool body; /* names are those of the body's class, without arch->body_prefix */
} tl_lora_about;
/* Writes adapter_config.json, adapter_model.safetensors (the pairs, and what was trained beside
 * them), and config.json, which names the labels. */
tl_status tl_lora_save(const tl_model *m, const tl_lora_about *a, const char *dir, tl_err *err);

/* Applies the adapter in dir to a model with the values of its base: updates are added to the
 * weights, other tensors replace theirs; params that change get TL_PARAM_CHANGED. DATA: a tensor
 * that belongs to nothing, another kind of adapter; then values are as if half applied. */
tl_status tl_lora_apply(tl_model *m, const char *dir, tl_err *err);

#endif
