/* interop_logits MODEL IDS OUT.npy: logits [tokens, vocabulary] of a model in f32 for sequences of
 * ids, one a line of IDS, packed into one batch as training has it. For tests/interop/ only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/model.h"
#include "tilth/npy.h"

enum { MAX_TOKENS = 4096, MAX_TEXTS = 256 };

static int32_t token[MAX_TOKENS], position[MAX_TOKENS];
static tl_segment segment[MAX_TEXTS];

static int fail(const char *what) {
  fprintf(stderr, "interop_logits: %s\n", what);
  return 1;
}

/* Returns the number of tokens; *n_texts of lines. */
static int read_ids(FILE *f, bool causal, int *n_texts) {
  char line[65536];
  int n = 0;
  for (*n_texts = 0; *n_texts < MAX_TEXTS && fgets(line, sizeof line, f); ++*n_texts) {
    int begin = n;
    char *p = line, *end = NULL;
    for (long v = strtol(p, &end, 10); end != p && n < MAX_TOKENS; v = strtol(p, &end, 10)) {
      token[n] = (int32_t)v;
      position[n] = n - begin;
      n++;
      p = end;
    }
    segment[*n_texts] = (tl_segment){begin, n, begin, n, causal};
  }
  return n;
}

static int run(tl_ctx *ctx, tl_model *m, const char *ids, const char *out) {
  tl_err err = {TL_OK, ""};
  int n_texts = 0;
  FILE *f = fopen(ids, "r");
  if (!f) return fail("no ids");
  int n = read_ids(f, !tl_model_is_encoder(m), &n_texts);
  fclose(f);
  tl_graph *g = tl_graph_new(ctx, &m->params, &(tl_graph_options){TL_F32, false});
  int tokens = tl_graph_dim(g, n), texts = tl_graph_dim(g, n_texts);
  tl_model_io io = tl_model_inputs(m, g, tokens, n, texts, n_texts);
  tl_node *y = tl_model_logits(m, g, m->arch->body(m, g, &io));
  if (tl_graph_compile(g, NULL, &y, 1, &err) != TL_OK) return fail(err.msg);
  memcpy(io.tokens->data, token, (size_t)n * sizeof *token);
  if (io.pos->live) memcpy(io.pos->data, position, (size_t)n * sizeof *position);
  if (io.types && io.types->live) memset(io.types->data, 0, (size_t)n * sizeof *token);
  memcpy(io.segments->data, segment, (size_t)n_texts * sizeof *segment);
  tl_graph_run(g, &(tl_pass){.loss_scale = 1});
  tl_status s = tl_npy_write(out, y->data, (size_t)n, (size_t)m->c.vocab, &err);
  tl_graph_free(g);
  return s == TL_OK ? 0 : fail(err.msg);
}

int main(int argc, char **argv) {
  tl_err err = {TL_OK, ""};
  tl_ctx *ctx = NULL;
  tl_model *m = NULL;
  if (argc != 4) return fail("usage: interop_logits MODEL IDS OUT.npy");
  if (tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &ctx, &err) != TL_OK ||
      tl_model_load(argv[1], false, &m, &err) != TL_OK)
    return fail(err.msg);
  int rc = run(ctx, m, argv[2], argv[3]);
  tl_model_free(m);
  tl_ctx_free(ctx);
  return rc;
}
