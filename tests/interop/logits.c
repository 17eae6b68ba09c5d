/* interop_logits MODEL INPUT OUT.npy: logits of a model in f32, all of INPUT packed into one batch
 * as training has it. For tests/interop/ only. INPUT and what comes out: language models sequences
 * of ids, one a line: [tokens, vocabulary] encoder-decoders  "SOURCE IDS | DECODER'S IDS" a line:
 * [decoder's tokens, vocabulary] picture models    f32 [pictures][channels][size][size]: [pictures,
 * classes] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tilth/npy.h"
#include "transfer/image_graph.h"

enum { MAX_TOKENS = 4096, MAX_TEXTS = 256 };

/* One side of the batch: ids, their positions, where each text lies. */
typedef struct side {
  int32_t token[MAX_TOKENS], position[MAX_TOKENS];
  tl_segment segment[MAX_TEXTS];
  int n, n_texts;
} side;
static side text, source;
static tl_segment cross[MAX_TEXTS];

static int fail(const char *what) {
  fprintf(stderr, "interop_logits: %s\n", what);
  return 1;
}

static char *read_side(side *s, char *p, bool causal) {
  char *end = NULL;
  int begin = s->n;
  for (long v = strtol(p, &end, 10); end != p && s->n < MAX_TOKENS; v = strtol(p, &end, 10)) {
    s->token[s->n] = (int32_t)v;
    s->position[s->n] = s->n - begin;
    s->n++;
    p = end;
  }
  s->segment[s->n_texts++] = (tl_segment){begin, s->n, begin, s->n, causal};
  return p;
}

static void read_ids(FILE *f, const tl_model *m) {
  char line[65536];
  while (text.n_texts < MAX_TEXTS && fgets(line, sizeof line, f)) {
    char *p = line;
    int i = text.n_texts;
    if (m->arch->seq2seq) p = strchr(read_side(&source, p, false), '|') + 1;
    read_side(&text, p, !tl_model_is_encoder(m));
    cross[i] = (tl_segment){text.segment[i].q0, text.segment[i].q1, source.segment[i].q0,
                            source.segment[i].q1, false};
  }
}

static void fill(tl_node *input, const void *data, int n, size_t size) {
  if (input && input->live) memcpy(input->data, data, (size_t)n * size);
}

static void fill_all(const tl_model_io *io) {
  static const int32_t types[MAX_TOKENS];
  fill(io->tokens, text.token, text.n, sizeof *text.token);
  fill(io->pos, text.position, text.n, sizeof *text.position);
  fill(io->types, types, text.n, sizeof *types);
  fill(io->segments, text.segment, text.n_texts, sizeof *text.segment);
  fill(io->src_tokens, source.token, source.n, sizeof *source.token);
  fill(io->src_pos, source.position, source.n, sizeof *source.position);
  fill(io->src_segments, source.segment, source.n_texts, sizeof *source.segment);
  fill(io->cross, cross, text.n_texts, sizeof *cross);
}

static int run(tl_ctx *ctx, const char *dir, const char *ids, const char *out) {
  tl_err err = {TL_OK, ""};
  tl_model *m = NULL;
  FILE *f = fopen(ids, "r");
  if (!f) return fail("no ids");
  if (tl_model_load(dir, false, &m, &err) != TL_OK) return fail(err.msg);
  read_ids(f, m);
  fclose(f);
  tl_graph *g = tl_graph_new(ctx, &m->params, &(tl_graph_options){TL_F32, false});
  int tokens = tl_graph_dim(g, text.n), texts = tl_graph_dim(g, text.n_texts);
  tl_model_io io = tl_model_inputs(m, g, tokens, text.n, texts, text.n_texts);
  if (m->arch->seq2seq)
    tl_model_source(g, &io, tl_graph_dim(g, source.n), source.n, texts, text.n_texts);
  tl_node *y = tl_model_logits(m, g, m->arch->body(m, g, &io));
  if (tl_graph_compile(g, NULL, &y, 1, &err) != TL_OK) return fail(err.msg);
  fill_all(&io);
  tl_graph_run(g, &(tl_pass){.loss_scale = 1});
  tl_status s = tl_npy_write(out, y->data, (size_t)text.n, (size_t)m->c.vocab, &err);
  tl_graph_free(g);
  tl_model_free(m);
  return s == TL_OK ? 0 : fail(err.msg);
}

static tl_status classify(tl_ctx *ctx, tl_model *m, const tl_buf *pictures, const char *out,
                          tl_err *err) {
  size_t values = (size_t)(m->c.channels * m->c.image_size * m->c.image_size);
  size_t n = pictures->len / sizeof(float) / values, classes = (size_t)m->task.n_outputs;
  const float *x = (const float *)(const void *)pictures->data;
  tl_image_graph p;
  TL_TRY(tl_image_graph_new(ctx, m, TL_F32, (int64_t)n, false, &p, err));
  float *rows = malloc(pictures->len + 1), *logits = malloc((n * classes + 1) * sizeof *logits);
  if (!rows || !logits) return tl_fail(err, TL_NOMEM, "out of memory");
  for (size_t i = 0; i < n; i++) tl_picture_rows(&m->c, x + i * values, rows + i * values);
  tl_image_graph_set(&p, (int64_t)n, rows, NULL);
  tl_image_graph_run(&p, &(tl_pass){.loss_scale = 1});
  tl_task_graph view = {.model = m, .g = p.g, .features = p.features, .n_targets = (int64_t)n};
  tl_task_graph_logits(&view, logits);
  tl_status s = tl_npy_write(out, logits, n, classes, err);
  tl_image_graph_free(&p);
  free(rows);
  free(logits);
  return s;
}

static int run_pictures(tl_ctx *ctx, const char *dir, const char *in, const char *out) {
  tl_err err = {TL_OK, ""};
  tl_model_config c;
  tl_labels labels;
  tl_buf pictures = {0};
  tl_model *m = NULL;
  tl_status s = tl_model_read_config(dir, &c, &err);
  if (s == TL_OK) s = tl_labels_read(dir, &labels, &err);
  if (s != TL_OK) return fail(err.msg);
  tl_task_head_options o = {
      .kind = TL_HEAD_SEQUENCE, .n_outputs = labels.n, .name = (const char *const *)labels.name};
  s = tl_model_new_task(&c, &o, 0, false, &m, &err);
  if (s == TL_OK) s = tl_model_read_weights(m, dir, &err);
  if (s == TL_OK) s = tl_file_read(in, 1 << 28, &pictures, &err);
  if (s == TL_OK) s = classify(ctx, m, &pictures, out, &err);
  tl_buf_free(&pictures);
  tl_model_free(m);
  tl_labels_free(&labels);
  return s == TL_OK ? 0 : fail(err.msg);
}

int main(int argc, char **argv) {
  tl_err err = {TL_OK, ""};
  tl_ctx *ctx = NULL;
  tl_model_config c;
  if (argc != 4) return fail("usage: interop_logits MODEL INPUT OUT.npy");
  if (tl_ctx_new(&(tl_ctx_options){.n_threads = 2}, &ctx, &err) != TL_OK ||
      tl_model_read_config(argv[1], &c, &err) != TL_OK)
    return fail(err.msg);
  bool image = tl_arch_find(c.type)->image;
  int rc = (image ? run_pictures : run)(ctx, argv[1], argv[2], argv[3]);
  tl_ctx_free(ctx);
  return rc;
}
