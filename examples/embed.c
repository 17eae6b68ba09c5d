/* A search by meaning inside another program: the lines of a file are turned into vectors once,
 * then each line of the standard input is answered with the nearest ones.
 *
 *   cc embed.c $(pkg-config --cflags --libs tilth) -o embed
 *   echo "a man plays a flute" | ./embed MODEL sentences.txt */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tilth/embed.h>

enum { N_BEST = 3 };

typedef struct search {
  tl_embedder *embedder;
  tl_task_data lines;
  float *vector; /* [lines.n][dim] */
  size_t dim;
} search;

static tl_status search_open(search *x, tl_ctx *ctx, const char *model, const char *file,
                             tl_err *err) {
  tl_task_options options = {.kind = TL_TASK_TEXTS, .format = TL_TASK_LINES};
  TL_TRY(tl_embedder_open(ctx, model, NULL, &x->embedder, err));
  TL_TRY(tl_task_read(file, &options, &x->lines, err));
  x->dim = (size_t)tl_embedder_dim(x->embedder);
  x->vector = malloc(x->lines.n * x->dim * sizeof *x->vector);
  if (!x->vector) return tl_fail(err, TL_NOMEM, "out of memory for %zu vectors", x->lines.n);
  return tl_embedder_run(x->embedder, (const char *const *)x->lines.text, x->lines.n, x->vector,
                         err);
}

static tl_status search_answer(search *x, const char *question, tl_err *err) {
  tl_neighbour best[N_BEST];
  float *q = malloc(x->dim * sizeof *q);
  tl_status s = q ? tl_embedder_run(x->embedder, &question, 1, q, err)
                  : tl_fail(err, TL_NOMEM, "out of memory");
  size_t n = s == TL_OK ? tl_nearest(x->vector, x->lines.n, x->dim, q, N_BEST, best) : 0;
  for (size_t i = 0; i < n; i++) printf("%.3f %s\n", best[i].cosine, x->lines.text[best[i].index]);
  free(q);
  return s;
}

static void search_close(search *x) {
  free(x->vector);
  tl_task_data_free(&x->lines);
  tl_embedder_free(x->embedder);
}

int main(int argc, char **argv) {
  if (argc != 3) return fprintf(stderr, "usage: embed MODEL FILE\n"), 2;
  char question[4096];
  search x = {0};
  tl_err err = {0};
  tl_ctx *ctx = NULL;
  tl_status s = tl_ctx_new(NULL, &ctx, &err);
  if (s == TL_OK) s = search_open(&x, ctx, argv[1], argv[2], &err);
  while (s == TL_OK && fgets(question, sizeof question, stdin)) {
    question[strcspn(question, "\n")] = 0;
    s = search_answer(&x, question, &err);
  }
  if (s != TL_OK) fprintf(stderr, "embed: %s\n", err.msg);
  search_close(&x);
  tl_ctx_free(ctx);
  return tl_status_exit_code(s);
}
