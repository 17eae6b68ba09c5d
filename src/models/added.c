/* What is added to a pretrained model for a task, whatever its architecture: adapters behind
 * attention and MLP (Houlsby et al. 2019; behind the MLP alone: Pfeiffer et al. 2020), prefixes
 * (Li and Liang 2021) and prompts (Lester et al. 2021).
 *
 * Learned rows stand in front of a text as rows of the batch. Those of a prompt are embeddings; of
 * those of a prefix each layer's keys and values are set to learned ones, and nothing else of them
 * is read. An encoder-decoder has them in front of the source. */
#include <stdio.h>

#include "models/model.h"

enum { AFTER_ATTENTION = 1, AFTER_MLP = 2 };

static tl_bottleneck declare_bottleneck(const tl_model *m, tl_declare *d, int i,
                                        const char *where) {
  int64_t width = m->c.adapter, dim = m->c.dim;
  tl_declare_prefix(d, "tilth.adapter.%d.%s.", i, where);
  tl_param *w = tl_declare_matrix(d, "down.weight", width, dim, (float)m->c.init_std, false);
  tl_bottleneck b = {.down = tl_spec1(w, tl_declare_vector(d, "down.bias", width, 0), false)};
  b.down.act = TL_ACT_GELU;
  w = tl_declare_matrix(d, "up.weight", dim, width, 0, false);
  b.up = tl_spec1(w, tl_declare_vector(d, "up.bias", dim, 0), false);
  return b;
}

tl_learned_rows tl_model_learned_rows(const tl_model *m) {
  return (tl_learned_rows){.first = (int32_t)m->c.vocab,
                           .n = (int32_t)(m->c.prefix + m->c.prompt),
                           .keys = (int32_t)m->c.prefix};
}

tl_status tl_model_without_rows(const tl_model_config *c, const char *dir, tl_err *err) {
  if (c->prefix + c->prompt == 0) return TL_OK;
  return tl_fail(err, TL_CONFIG,
                 "%s: the model reads each text behind %lld learned rows (adapt.method %s), which "
                 "this cannot place; use the commands for its task (tilth predict, translate, "
                 "generate, embed)",
                 dir, (long long)(c->prefix + c->prompt), c->prefix ? "prefix" : "prompt");
}

static void declare_prefix(tl_model *m, tl_declare *d, int i) {
  tl_self_attention *a = &m->block[i].attn;
  char name[32];
  snprintf(name, sizeof name, "%d.weight", i);
  tl_declare_prefix(d, "tilth.prefix.");
  a->prefix = tl_declare_matrix(d, name, m->c.prefix, 2 * (int64_t)a->n_kv * a->hd,
                                (float)m->c.init_std, false);
  a->first_learned = m->c.vocab;
}

void tl_model_declare_added(tl_model *m, tl_declare *d) {
  int before = m->params.n;
  int64_t with_prefix = m->arch->seq2seq ? m->c.encoder_layers : m->n_blocks;
  for (int i = 0; i < m->n_blocks; i++) {
    if (m->c.adapter && (m->c.adapter_where & AFTER_ATTENTION))
      m->block[i].attn.after = declare_bottleneck(m, d, i, "attention");
    if (m->c.adapter && (m->c.adapter_where & AFTER_MLP))
      m->block[i].mlp.after = declare_bottleneck(m, d, i, "mlp");
    if (m->c.prefix && i < with_prefix) declare_prefix(m, d, i);
  }
  tl_declare_prefix(d, "tilth.");
  if (m->c.prompt)
    m->prompt_embed =
        tl_declare_matrix(d, "prompt.weight", m->c.prompt, m->c.dim, (float)m->c.init_std, false);
  for (int i = before; i < m->params.n; i++) m->params.p[i]->flags |= TL_PARAM_ADDED;
}

tl_node *tl_model_embed(const tl_model *m, tl_graph *g, tl_node *tokens) {
  tl_node *x = tl_embedding(g, m->tok_embed, tokens);
  return m->prompt_embed ? tl_splice(g, x, m->prompt_embed, tokens, m->c.vocab, 0) : x;
}
