/* Checkpoints, resume, and the snapshot in memory that a rollback goes back to. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tilth/checkpoint.h"
#include "train/trainer.h"

/* trainer.bin: fixed-size records of this build, guarded by sizes and a version. */
typedef struct state_file {
  uint32_t version, state_bytes, guard_bytes, reserved;
  tl_train_state state;
  tl_guard guard;
} state_file;
enum { STATE_VERSION = 2 };

static tl_st_tensor *optim_tensors(const tl_trainer *t, size_t *n) {
  *n = (size_t)tl_optim_n_tensors(t->optim);
  tl_st_tensor *list = calloc(*n + 1, sizeof *list);
  for (size_t i = 0; list && i < *n; i++) {
    const tl_optim_tensor *o = tl_optim_tensor_at(t->optim, (int)i);
    list[i] = tl_param_tensor(o->param, o->name, o->data);
  }
  return list;
}

/* The tokenizer's files, so that the checkpoint is a complete model folder. */
static tl_status add_tokenizer(tl_trainer *t, tl_ckpt_writer *w, tl_err *err) {
  tl_status s = TL_OK;
  for (const char *const *name = tl_tokenizer_files; t->tok && s == TL_OK && *name; name++) {
    char *path = tl_path_join(t->tok_dir, *name);
    tl_buf text = {0};
    if (!path) return tl_fail(err, TL_NOMEM, "checkpoint: out of memory");
    if (tl_file_exists(path)) {
      s = tl_file_read(path, (size_t)1 << 30, &text, err);
      if (s == TL_OK) s = tl_ckpt_add_file(w, *name, text.data, text.len, err);
    }
    tl_buf_free(&text);
    free(path);
  }
  return s;
}

static tl_status add_all(tl_trainer *t, tl_ckpt_writer *w, tl_err *err) {
  size_t n = 0, n_model = 0;
  tl_st_tensor *model = tl_model_tensors(t->model, false, &n_model), *optim = optim_tensors(t, &n);
  char *config = tl_model_config_json(t->model, t->tok);
  state_file *f = calloc(1, sizeof *f);
  tl_status s =
      model && optim && config && f ? TL_OK : tl_fail(err, TL_NOMEM, "checkpoint: out of memory");
  if (s == TL_OK) {
    *f = (state_file){.version = STATE_VERSION,
                      .state_bytes = sizeof f->state,
                      .guard_bytes = sizeof f->guard,
                      .state = t->s,
                      .guard = t->guard};
    s = tl_ckpt_add_tensors(w, "model.safetensors", model, n_model, NULL, 0, err);
  }
  if (s == TL_OK) s = tl_ckpt_add_tensors(w, "optimizer.safetensors", optim, n, NULL, 0, err);
  if (s == TL_OK) s = tl_ckpt_add_file(w, "config.json", config, strlen(config), err);
  if (s == TL_OK) s = tl_ckpt_add_file(w, "trainer.bin", f, sizeof *f, err);
  if (s == TL_OK) s = add_tokenizer(t, w, err);
  free(model);
  free(optim);
  free(config);
  free(f);
  return s;
}

tl_status tl_trainer_save(tl_trainer *t, tl_err *err) {
  const char *dir = tl_run_dir(t->run);
  if (t->s.step == t->saved_step) return TL_OK;
  t->s.seconds = tl_now() - t->started;
  tl_ckpt_writer *w = NULL;
  TL_TRY(tl_ckpt_begin(dir, t->s.step, &w, err));
  tl_status s = add_all(t, w, err);
  if (s != TL_OK) {
    tl_ckpt_abort(w);
    return s;
  }
  if (t->s.val_loss == t->s.val_loss) tl_ckpt_set_score(w, t->s.val_loss);
  TL_TRY(tl_ckpt_commit(w, err));
  t->saved_step = t->s.step;
  t->last_saved = tl_now();
  /* A rollback after a resume must find what a rollback without the interruption finds. */
  tl_snapshot_take(t);
  tl_trainer_note(t, "checkpoint", "checkpoint step %lld saved", (long long)t->s.step);
  return tl_ckpt_rotate(dir, (int)t->cfg->run.keep_last, (int)t->cfg->run.keep_best, err);
}

static tl_status read_state(tl_trainer *t, tl_ckpt *c, tl_err *err) {
  const void *data = NULL;
  size_t n = 0;
  TL_TRY(tl_ckpt_file(c, "trainer.bin", &data, &n, err));
  state_file *f = malloc(sizeof *f);
  if (!f) return tl_fail(err, TL_NOMEM, "checkpoint: out of memory");
  tl_status s = TL_OK;
  if (n == sizeof *f) memcpy(f, data, n);
  if (n != sizeof *f || f->version != STATE_VERSION || f->state_bytes != sizeof f->state ||
      f->guard_bytes != sizeof f->guard)
    s = tl_fail(err, TL_DATA, "%s/trainer.bin: written by another version of tilth",
                tl_ckpt_dir(c));
  if (s == TL_OK) {
    t->s = f->state;
    tl_guard_options now = t->guard.opt;
    t->guard = f->guard;
    t->guard.opt = now;
  }
  free(f);
  return s;
}

static tl_status read_optim(tl_trainer *t, tl_ckpt *c, tl_err *err) {
  tl_st *st = NULL;
  TL_TRY(tl_ckpt_tensors(c, "optimizer.safetensors", &st, err));
  tl_status s = TL_OK;
  for (int i = 0; s == TL_OK && i < tl_optim_n_tensors(t->optim); i++) {
    const tl_optim_tensor *o = tl_optim_tensor_at(t->optim, i);
    const tl_st_tensor *x = tl_st_find(st, o->name);
    if (!x || tl_st_elements(x) != o->param->n)
      s = tl_fail(err, TL_DATA,
                  "%s/optimizer.safetensors: tensor \"%s\" is missing or has another size",
                  tl_ckpt_dir(c), o->name);
    else
      s = tl_st_read_f32(x, o->data, err);
  }
  tl_st_close(st);
  return s;
}

tl_status tl_trainer_load(tl_trainer *t, tl_err *err) {
  tl_ckpt *c = NULL;
  char warning[512] = "";
  tl_status s = tl_ckpt_open_latest(tl_run_dir(t->run), &c, warning, sizeof warning, err);
  if (s == TL_NOINPUT) return TL_OK; /* killed before the first checkpoint: begin again */
  if (s != TL_OK) return s;
  if (*warning) tl_log(t->ctx, TL_LOG_WARN, "%s", warning);
  s = tl_model_read_weights(t->model, tl_ckpt_dir(c), err);
  if (s == TL_OK) s = read_optim(t, c, err);
  if (s == TL_OK && t->teacher) tl_params_changed(t->teacher);
  if (s == TL_OK) s = read_state(t, c, err);
  if (s == TL_OK) {
    t->saved_step = t->s.step;
    tl_snapshot_take(t);
  }
  tl_ckpt_close(c);
  return s;
}

static char *best_dir(const tl_trainer *t) {
  return tl_path_join(tl_run_dir(t->run), "best");
}

tl_status tl_trainer_save_best(tl_trainer *t, tl_err *err) {
  char *dir = best_dir(t), *path = dir ? tl_path_join(dir, "model.safetensors") : NULL;
  size_t n = 0;
  tl_st_tensor *list = tl_model_tensors(t->model, false, &n);
  tl_status s = path && list ? tl_mkdirs(dir, err) : tl_fail(err, TL_NOMEM, "out of memory");
  if (s == TL_OK) s = tl_st_write(path, list, n, NULL, 0, NULL, NULL, err);
  free(list);
  free(path);
  free(dir);
  return s;
}

tl_status tl_trainer_load_best(tl_trainer *t, tl_err *err) {
  char *dir = best_dir(t);
  tl_status s =
      dir ? tl_model_read_weights(t->model, dir, err) : tl_fail(err, TL_NOMEM, "out of memory");
  free(dir);
  return s;
}

tl_status tl_snapshot_init(tl_trainer *t, tl_err *err) {
  int64_t n = 0;
  for (int i = 0; i < tl_optim_n_tensors(t->optim); i++)
    n += tl_optim_tensor_at(t->optim, i)->param->n;
  t->snap.optim_bytes = (size_t)n * sizeof(float);
  t->snap.values = tl_slab_alloc((size_t)t->model->params.n_values * sizeof(float));
  t->snap.optim = tl_slab_alloc(t->snap.optim_bytes);
  if (!t->snap.values || !t->snap.optim)
    return tl_fail(
        err, TL_NOMEM,
        "guard.policy rollback: out of memory for a copy of weights and optimizer state; "
        "use guard.policy=skip");
  tl_snapshot_take(t);
  return TL_OK;
}

void tl_snapshot_free(tl_trainer *t) {
  if (t->snap.values)
    tl_slab_free(t->snap.values, (size_t)t->model->params.n_values * sizeof(float));
  tl_slab_free(t->snap.optim, t->snap.optim_bytes);
}

typedef struct copy_job {
  float *to;
  const float *from;
  int64_t n;
} copy_job;
enum { COPY_PART = 1 << 19 };

static void copy_part(void *arg, int64_t task, int worker) {
  (void)worker;
  const copy_job *j = arg;
  int64_t at = task * COPY_PART, n = j->n - at < COPY_PART ? j->n - at : COPY_PART;
  memcpy(j->to + at, j->from + at, (size_t)n * sizeof(float));
}

/* On all threads: a model's state is gigabytes. */
static void copy_floats(tl_trainer *t, float *to, const float *from, int64_t n) {
  tl_parallel(t->ctx->pool, (n + COPY_PART - 1) / COPY_PART, copy_part, &(copy_job){to, from, n});
}

static void copy_optim(tl_trainer *t, bool restore) {
  float *at = t->snap.optim;
  for (int i = 0; i < tl_optim_n_tensors(t->optim); i++) {
    const tl_optim_tensor *o = tl_optim_tensor_at(t->optim, i);
    copy_floats(t, restore ? o->data : at, restore ? at : o->data, o->param->n);
    at += o->param->n;
  }
}

void tl_snapshot_take(tl_trainer *t) {
  if (!t->snap.values) return;
  copy_floats(t, t->snap.values, t->model->params.values, t->model->params.n_values);
  copy_optim(t, false);
  t->snap.updates = t->s.updates;
  t->snap.step = t->s.step;
}

void tl_snapshot_restore(tl_trainer *t) {
  copy_floats(t, t->model->params.values, t->snap.values, t->model->params.n_values);
  copy_optim(t, true);
  t->s.updates = t->snap.updates;
  tl_params_changed(&t->model->params);
  if (t->teacher) tl_params_changed(t->teacher);
}
