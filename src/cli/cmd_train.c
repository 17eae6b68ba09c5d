/* tilth train and tilth resume, and what all training commands print. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "tilth/train.h"

static void format_time(double s, char *out, size_t size) {
  if (!(s >= 0)) {
    snprintf(out, size, "?");
    return;
  }
  long t = (long)(s + 0.5);
  if (t >= 3600)
    snprintf(out, size, "%ldh%02ldm", t / 3600, t / 60 % 60);
  else if (t >= 60)
    snprintf(out, size, "%ldm%02lds", t / 60, t % 60);
  else
    snprintf(out, size, "%lds", t);
}

void tl_cli_show_progress(void *user, const tl_progress *p) {
  (void)user;
  if (p->note && p->warning && tl_cli_quiet()) {
    tl_cli_log(NULL, TL_LOG_WARN, p->note);
    return;
  }
  if (p->note) {
    tl_cli_progress("step %lld: %s", (long long)p->step, p->note);
    tl_cli_progress_end();
    return;
  }
  char eta[24], val[48] = "", bpb[32] = "", peak[24] = "";
  format_time(p->eta, eta, sizeof eta);
  if (!isnan(p->val_loss)) snprintf(val, sizeof val, " (val %.4f)", p->val_loss);
  if (!isnan(p->bpb)) snprintf(bpb, sizeof bpb, " | bpb %.4f", p->bpb);
  if (!isnan(p->peak)) snprintf(peak, sizeof peak, " | %.0f%% of peak", 100 * p->peak);
  tl_cli_progress("step %lld/%lld | loss %.4f%s%s | lr %.2e | gnorm %.3f | %.0f tok/s | "
                  "%.1f GFLOP/s%s | ETA %s",
                  (long long)p->step, (long long)p->steps, p->loss, val, bpb, p->lr, p->grad_norm,
                  p->tokens_per_s, p->flops_per_s * 1e-9, peak, eta);
}

static void print_number(const char *key, double value) {
  if (isfinite(value))
    printf(",\"%s\":%.6g", key, value);
  else
    printf(",\"%s\":null", key);
}

static void print_scores_json(const char *key, const tl_scores *s) {
  printf(",\"%s\":{", key);
  for (int i = 0; i < s->n; i++) {
    printf("%s\"%s\":{\"name\":\"%s\"", i ? "," : "", s->score[i].name, s->score[i].name);
    print_number("value", s->score[i].value);
    print_number("low", s->score[i].lo);
    print_number("high", s->score[i].hi);
    char how[128];
    tl_score_signature(s->score[i].name, how, sizeof how);
    if (*how) printf(",\"signature\":\"%s\"", how);
    printf("}");
  }
  printf("}");
}

static void print_task_json(const tl_task_result *t) {
  printf(",\"task\":{\"type\":\"%s\",\"metric\":\"%s\",\"trained\":%lld,\"n_train\":%lld,"
         "\"n_valid\":%lld,\"n_test\":%lld,\"n_cut\":%lld",
         t->type, t->metric, (long long)t->trained, (long long)t->n_train, (long long)t->n_valid,
         (long long)t->n_test, (long long)t->n_cut);
  print_number("best", t->best);
  print_scores_json("valid", &t->valid);
  print_scores_json("test", &t->test);
  printf("}");
}

static void print_task(const tl_train_result *r) {
  const tl_task_result *t = &r->task;
  printf("task         %s, %lld records to train on, %lld to validate, %lld to test\n", t->type,
         (long long)t->n_train, (long long)t->n_valid, (long long)t->n_test);
  printf("trained      %lld of %lld parameters (%.2f %%)\n", (long long)t->trained,
         (long long)r->params, 100 * (double)t->trained / (double)r->params);
  if (t->n_cut > 0)
    printf("cut          %lld records were longer than task.max_len\n", (long long)t->n_cut);
  if (t->n_valid > 0)
    printf("best         %s %.4f at step %lld\n", t->metric, t->best, (long long)r->best_step);
  tl_cli_print_scores("validation", &t->valid, stdout);
  tl_cli_print_scores("test", &t->test, stdout);
}

static void print_json(const tl_train_result *r) {
  printf("{\"schema_version\":1,\"run\":\"%s\",\"steps\":%lld,\"tokens\":%llu,\"parameters\":%lld",
         r->run_dir, (long long)r->steps, (unsigned long long)r->tokens, (long long)r->params);
  print_number("val_loss", r->val_loss);
  print_number("val_bpb", r->val_bpb);
  print_number("best_val_loss", r->best_val_loss);
  printf(",\"best_step\":%lld", (long long)r->best_step);
  print_number("seconds", r->seconds);
  print_number("flops", r->flops);
  if (r->task.type) print_task_json(&r->task);
  if (r->profile) {
    char *profile = tl_profile_json(r->profile);
    printf(",\"profile\":%s", profile ? profile : "null");
    free(profile);
  }
  printf("}\n");
}

static void print_result(const tl_train_result *r, bool json) {
  if (json) {
    print_json(r);
    return;
  }
  printf("run          %s\nmodel        %s/model\nparameters   %lld\nsteps        %lld\ntokens     "
         "  %llu\n",
         r->run_dir, r->run_dir, (long long)r->params, (long long)r->steps,
         (unsigned long long)r->tokens);
  if (r->task.type)
    print_task(r);
  else if (isfinite(r->val_loss) && isnan(r->val_bpb))
    printf("validation   loss %.4f (best %.4f at step %lld)\n", r->val_loss, r->best_val_loss,
           (long long)r->best_step);
  else if (isfinite(r->val_loss))
    printf("validation   %.4f nats, %.4f bits per byte (best %.4f at step %lld)\n", r->val_loss,
           r->val_bpb, r->best_val_loss, (long long)r->best_step);
  printf("time         %.1f s, %.3g FLOPs, %.1f GFLOP/s\n", r->seconds, r->flops,
         r->seconds > 0 ? r->flops / r->seconds * 1e-9 : 0);
  if (r->profile) tl_cli_print_profile(r->profile);
}

/* An interrupted run says nothing on stdout but its profile, if it has one. */
int tl_cli_end_training(tl_status s, tl_train_result *r, bool json, const tl_err *err) {
  tl_cli_progress_end();
  if (s == TL_OK || r->profile) print_result(r, json);
  tl_profile_free(r->profile);
  return s == TL_OK ? 0 : tl_cli_fail(err);
}

int tl_cmd_train(int argc, char **argv) {
  const char *preset = NULL;
  int64_t depth = 0;
  bool json = false, profile = false;
  const tl_opt opts[] = {
      {"preset", 'p', TL_OPT_STR, &preset, "NAME",
       "begin with a preset (see: tilth config --presets)"},
      {"depth", 0, TL_OPT_INT, &depth, "N", "size by one dial: layers = heads = N, dim = 64 N"},
      {"profile", 0, TL_OPT_FLAG, &profile, NULL, TL_PROFILE_HELP},
      {"json", 0, TL_OPT_FLAG, &json, NULL, "print the result as JSON"},
      {0}};
  const tl_usage usage = {
      .name = "train",
      .synopsis = "[CONFIG.yaml | --preset NAME] [--depth N] [section.key=value ...]",
      .summary = "Pretrains a model on prepared data (data.path), on text files (data.text) or on\n"
                 "pictures (data.images) into a new run folder. SIGTERM or Ctrl-C saves and exits "
                 "with code 75; go on with\n"
                 "`tilth resume RUN`.",
      .examples = "tilth train --preset shakespeare-char data.text=input.txt\n"
                  "tilth train --preset encoder-small data.path=data/english run.minutes=10\n"
                  "tilth train --preset simclr-fashion data.images=train-images-idx3-ubyte.gz\n"
                  "tilth train config.yaml optim.lr=2e-3 run.seed=2",
      .opts = opts,
      .max_args = -1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  tl_err err = {0};
  tl_config *cfg = NULL;
  tl_ctx *ctx = NULL;
  tl_train_result result = {0};
  tl_status s = tl_cli_load_config(preset, &args, &cfg, &err);
  if (s == TL_OK && depth > 0) {
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)depth);
    s = tl_config_set(cfg, "model.depth", text, TL_CONFIG_FLAG, "--depth", &err);
    if (s == TL_OK) s = tl_config_finish(cfg, &err);
  }
  if (s == TL_OK) s = tl_cli_make_ctx(cfg, &ctx, &err);
  tl_train_options o = {
      .argc = argc, .argv = argv, .progress = tl_cli_show_progress, .profile = profile};
  if (s == TL_OK) s = tl_train(ctx, cfg, &o, &result, &err);
  rc = tl_cli_end_training(s, &result, json, &err);
  tl_ctx_free(ctx);
  tl_config_free(cfg);
  tl_cli_args_free(&args);
  return rc;
}

int tl_cmd_resume(int argc, char **argv) {
  bool json = false, profile = false;
  const tl_opt opts[] = {{"profile", 0, TL_OPT_FLAG, &profile, NULL, TL_PROFILE_HELP},
                         {"json", 0, TL_OPT_FLAG, &json, NULL, "print the result as JSON"},
                         {0}};
  const tl_usage usage = {
      .name = "resume",
      .synopsis = "RUN",
      .summary =
          "Goes on with an interrupted run from its newest good checkpoint, to the same bits\n"
          "as without the interruption (also with another number of threads).",
      .examples = "tilth resume runs/shakespeare-char-20260102-030405-1a2b",
      .opts = opts,
      .min_args = 1,
      .max_args = 1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  tl_err err = {0};
  tl_ctx *ctx = NULL;
  tl_train_result result = {0};
  tl_status s = tl_cli_make_ctx(NULL, &ctx, &err);
  tl_train_options o = {
      .argc = argc, .argv = argv, .progress = tl_cli_show_progress, .profile = profile};
  if (s == TL_OK) s = tl_resume(ctx, args.item[0], &o, &result, &err);
  rc = tl_cli_end_training(s, &result, json, &err);
  tl_ctx_free(ctx);
  tl_cli_args_free(&args);
  return rc;
}
