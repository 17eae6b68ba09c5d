/* Fine-tunes a pretrained model on labelled records and classifies new texts.
 *
 *   cc finetune.c $(pkg-config --cflags --libs tilth) -o finetune
 *   ./finetune MODEL train.tsv "a text" "another text"
 *
 * MODEL: a folder made by tilth or by Hugging Face's libraries. */
#include <stdio.h>
#include <tilth/predict.h>
#include <tilth/train.h>

static void warn(void *user, tl_log_level level, const char *line) {
  (void)user;
  if (level >= TL_LOG_WARN) fprintf(stderr, "finetune: %s\n", line);
}

static tl_status train(tl_ctx *ctx, const char *from, const char *data, tl_train_result *result,
                       tl_err *err) {
  tl_config *config = NULL;
  tl_status s = tl_config_load("finetune", NULL, NULL, 0, &config, err);
  if (s == TL_OK) s = tl_config_set(config, "task.from", from, TL_CONFIG_FLAG, "finetune.c", err);
  if (s == TL_OK) s = tl_config_set(config, "task.train", data, TL_CONFIG_FLAG, "finetune.c", err);
  if (s == TL_OK) s = tl_config_finish(config, err);
  if (s == TL_OK) s = tl_train(ctx, config, NULL, result, err);
  tl_config_free(config);
  return s;
}

static tl_status classify(tl_ctx *ctx, const char *model, const char *const *text, size_t n,
                          tl_err *err) {
  tl_predictor *p = NULL;
  tl_task_data records = {0};
  tl_predictions out = {0};
  tl_status s = tl_predictor_open(ctx, model, "auto", 0, &p, err);
  if (s == TL_OK) s = tl_task_make(tl_predictor_kind(p), text, NULL, n, &records, err);
  if (s == TL_OK) s = tl_predictor_run(p, &records, &out, NULL, err);
  for (size_t i = 0; s == TL_OK && i < n; i++) {
    const float *probability = out.output + i * (size_t)out.n_outputs;
    printf("%s (%.0f %%): %s\n", tl_predictor_labels(p)->name[out.label[i]],
           100 * (double)probability[out.label[i]], text[i]);
  }
  tl_predictions_free(&out);
  tl_task_data_free(&records);
  tl_predictor_free(p);
  return s;
}

int main(int argc, char **argv) {
  if (argc < 4) return fprintf(stderr, "usage: finetune MODEL DATA TEXT...\n"), 2;
  tl_ctx_options options = {.log = warn};
  tl_err err = {0};
  tl_ctx *ctx = NULL;
  tl_train_result result = {0};
  char model[600];
  tl_status s = tl_ctx_new(&options, &ctx, &err);
  if (s == TL_OK) s = train(ctx, argv[1], argv[2], &result, &err);
  if (s == TL_OK) {
    printf("%s: %s %.4f on %lld validation records\n", result.run_dir, result.task.metric,
           result.task.best, (long long)result.task.n_valid);
    snprintf(model, sizeof model, "%s/model", result.run_dir);
    s = classify(ctx, model, (const char *const *)argv + 3, (size_t)argc - 3, &err);
  }
  if (s != TL_OK) fprintf(stderr, "finetune: %s\n", err.msg);
  tl_ctx_free(ctx);
  return tl_status_exit_code(s);
}
