/* To add an architecture: a row in tl_gguf_archs with its names; what its keys need in put_keys of
 * export_gguf.c and read_keys of import_gguf.c. */
#include "models/gguf_names.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const tl_gguf_name gpt2_names[] = {{"transformer.wte", "token_embd", TL_GGUF_AS_IS},
                                          {"transformer.wpe", "position_embd", TL_GGUF_F32_ONLY},
                                          {"transformer.ln_f", "output_norm", TL_GGUF_AS_IS},
                                          {"lm_head", "output", TL_GGUF_AS_IS},
                                          {"ln_1", "attn_norm", TL_GGUF_AS_IS},
                                          {"attn.c_attn", "attn_qkv", TL_GGUF_TRANSPOSED},
                                          {"attn.c_proj", "attn_output", TL_GGUF_TRANSPOSED},
                                          {"ln_2", "ffn_norm", TL_GGUF_AS_IS},
                                          {"mlp.c_fc", "ffn_up", TL_GGUF_TRANSPOSED},
                                          {"mlp.c_proj", "ffn_down", TL_GGUF_TRANSPOSED},
                                          {0}};
static const tl_gguf_name llama_names[] = {{"model.embed_tokens", "token_embd", TL_GGUF_AS_IS},
                                           {"model.norm", "output_norm", TL_GGUF_AS_IS},
                                           {"lm_head", "output", TL_GGUF_AS_IS},
                                           {"input_layernorm", "attn_norm", TL_GGUF_AS_IS},
                                           {"self_attn.q_proj", "attn_q", TL_GGUF_ROPE_Q},
                                           {"self_attn.k_proj", "attn_k", TL_GGUF_ROPE_K},
                                           {"self_attn.v_proj", "attn_v", TL_GGUF_AS_IS},
                                           {"self_attn.o_proj", "attn_output", TL_GGUF_AS_IS},
                                           {"self_attn.q_norm", "attn_q_norm", TL_GGUF_AS_IS},
                                           {"self_attn.k_norm", "attn_k_norm", TL_GGUF_AS_IS},
                                           {"post_attention_layernorm", "ffn_norm", TL_GGUF_AS_IS},
                                           {"mlp.gate_proj", "ffn_gate", TL_GGUF_AS_IS},
                                           {"mlp.up_proj", "ffn_up", TL_GGUF_AS_IS},
                                           {"mlp.down_proj", "ffn_down", TL_GGUF_AS_IS},
                                           {0}};

const tl_gguf_arch tl_gguf_archs[] = {
    {&tl_arch_gpt2, false, "gpt2", "transformer.h.", gpt2_names, TL_ACT_GELU_TANH, false},
    {&tl_arch_llama, false, "llama", "model.layers.", llama_names, TL_ACT_SILU, true},
    {&tl_arch_llama, true, "qwen3", "model.layers.", llama_names, TL_ACT_SILU, false},
    {0},
};

const tl_gguf_name *tl_gguf_name_of(const tl_gguf_arch *a, const char *param,
                                    char name[TL_GGUF_NAME_ROOM]) {
  const char *rest = param, *dot = strrchr(param, '.');
  size_t n = strlen(a->block);
  char block[24] = "";
  if (!strncmp(rest, a->block, n)) {
    char *end = NULL;
    long number = strtol(rest + n, &end, 10);
    snprintf(block, sizeof block, "blk.%ld.", number);
    rest = end + 1;
  }
  for (const tl_gguf_name *map = a->names; dot && map->from; map++) {
    if (strlen(map->from) != (size_t)(dot - rest) || strncmp(rest, map->from, (size_t)(dot - rest)))
      continue;
    snprintf(name, TL_GGUF_NAME_ROOM, "%s%s%s", block, map->to, dot);
    return map;
  }
  return NULL;
}

float tl_gguf_rope_factor(const tl_model_config *c, int64_t i) {
  const tl_rope_scaling scaling = {c->rope_factor, c->rope_low, c->rope_high, c->rope_original};
  double frequency = pow(c->rope_theta, -(double)i / (double)(c->dim / c->heads / 2));
  return (float)(frequency / tl_rope_frequency(&scaling, frequency));
}

void tl_gguf_transpose(const float *x, int64_t rows, int64_t cols, float *y) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < cols; c++) y[c * rows + r] = x[r * cols + c];
}

void tl_gguf_interleave(const float *x, int64_t heads, int64_t rows, int64_t cols, bool undo,
                        float *y) {
  int64_t hd = rows / heads, half = hd / 2;
  for (int64_t beside = 0; beside < rows; beside++) {
    int64_t in = beside % hd, apart = beside - in + in / 2 + (in % 2 ? half : 0);
    int64_t from = undo ? beside : apart, to = undo ? apart : beside;
    memcpy(y + to * cols, x + from * cols, (size_t)cols * sizeof *y);
  }
}
