/* Pretrains a small language model of a text file's bytes and lets it write a line.
 *
 *   cc pretrain.c $(pkg-config --cflags --libs tilth) -o pretrain
 *   ./pretrain input.txt [STEPS] [SECONDS]
 *
 * Ctrl-C, or the end of SECONDS, stops it in order; `tilth resume RUN` goes on to the same bits. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <tilth/generate.h>
#include <tilth/train.h>

static volatile sig_atomic_t stop;

static void on_signal(int sig) {
  stop = sig;
}

static int cancelled(void *user) { /* asked between steps */
  (void)user;
  return stop != 0;
}

static void show(void *user, const tl_progress *p) { /* every run.log_every steps */
  long long step = p->step, steps = p->steps;
  const double *seconds = user;
  if (p->note)
    fprintf(stderr, "step %lld: %s\n", step, p->note);
  else
    fprintf(stderr, "step %lld of %lld: loss %.3f, %.0f tokens/s\n", step, steps, p->loss,
            p->tokens_per_s);
  if (*seconds > 0 && p->seconds > *seconds) stop = 1;
}

static void write_text(void *user, const char *text, size_t len) {
  fwrite(text, 1, len, user);
}

int main(int argc, char **argv) {
  if (argc < 2) return fprintf(stderr, "usage: pretrain TEXT [STEPS] [SECONDS]\n"), 2;
  char text[1024], steps[64], model[600];
  snprintf(text, sizeof text, "data.text=%s", argv[1]);
  snprintf(steps, sizeof steps, "train.steps=%s", argc > 2 ? argv[2] : "500");
  const char *settings[] = {text, steps, "run.name=example", "model.layers=2", "model.dim=64"};
  double seconds = argc > 3 ? atof(argv[3]) : 0;
  tl_ctx_options options = {.cancel = cancelled};
  tl_train_options train = {.progress = show, .user = &seconds};
  tl_err err = {0};
  tl_config *config = NULL;
  tl_ctx *ctx = NULL;
  tl_train_result r = {0};
  signal(SIGINT, on_signal);

  tl_status s = tl_config_load("shakespeare-char", NULL, settings, 5, &config, &err);
  if (s == TL_OK) s = tl_ctx_new(&options, &ctx, &err);
  if (s == TL_OK) s = tl_train(ctx, config, &train, &r, &err);
  if (s == TL_OK) {
    printf("%s: loss %.3f after %lld steps\nThe ", r.run_dir, r.loss, (long long)r.steps);
    snprintf(model, sizeof model, "%s/model", r.run_dir);
    s = tl_generate(ctx, model, "The ", NULL, write_text, stdout, NULL, &err);
    printf("\n");
  }
  if (s != TL_OK) fprintf(stderr, "pretrain: %s\n", err.msg);
  tl_ctx_free(ctx);
  tl_config_free(config);
  return tl_status_exit_code(s); /* 75 (TL_PREEMPTED): stopped, can be resumed */
}
