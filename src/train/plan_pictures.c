#include <stdlib.h>

#include "base/rng.h"
#include "train/finetune.h"
#include "train/plan_run.h"
#include "transfer/picture_objective.h"

/* The model, and with a teacher it and its graph. */
typedef struct picture_run {
  tl_model *model[2];
  tl_picture_parts parts[2];
  tl_picture_graph graph[2];
  float *pictures;
  int32_t *caption, *token; /* as many as there may be, all the same; NULL: none */
} picture_run;

static void run(void *user, const tl_pass *pass) {
  picture_run *r = user;
  tl_picture_graph_run(&r->graph[0], &r->graph[1], r->pictures, 0, pass);
}

static tl_status make_captions(picture_run *r, tl_err *err) {
  int64_t start[] = {0, r->parts[0].clip.text->c.max_len};
  r->caption = calloc((size_t)r->graph[0].n, sizeof *r->caption);
  r->token = calloc((size_t)start[1], sizeof *r->token);
  if (!r->caption || !r->token) return tl_fail(err, TL_NOMEM, "captions: out of memory");
  tl_clip_set(&r->graph[0], &(tl_task_samples){.start = start, .token = r->token}, r->caption);
  return TL_OK;
}

static tl_status make(tl_ctx *ctx, const tl_config *c, const tl_picture_objective *o,
                      const tl_model_config *mc, picture_run *r, tl_err *err) {
  tl_dtype dt = tl_kernels_dtype(ctx->k, c->run.dtype);
  for (int i = 0; i < (o->teach ? 2 : 1); i++) {
    TL_TRY(tl_picture_model_new(o, c, mc, i == 0, &r->parts[i], &r->model[i], err));
    TL_TRY(
        tl_picture_graph_new(ctx, o, c, r->model[i], &r->parts[i], dt, i == 1, &r->graph[i], err));
  }
  if (o->captions) TL_TRY(make_captions(r, err));
  int64_t n = r->graph[0].n * r->graph[0].values;
  r->pictures = malloc((size_t)n * sizeof *r->pictures);
  if (!r->pictures) return tl_fail(err, TL_NOMEM, "pictures: out of memory");
  tl_rng rng = tl_rng_make(1, TL_STREAM_TEST, 0, 0);
  for (int64_t i = 0; i < n; i++) r->pictures[i] = tl_rng_normal(&rng);
  return TL_OK;
}

/* Steps for the pictures that are not held out; none known: as many as the settings alone say. */
static int64_t steps_for(const tl_config *c, int64_t n) {
  tl_trainer t = {.cfg = c};
  if (c->train.steps > 0 || n == 0) return c->train.steps;
  tl_finetune_plan(&t, n - (int64_t)(c->data.val_fraction * (double)n));
  return t.s.steps;
}

tl_status tl_plan_pictures(tl_ctx *ctx, const tl_config *c, const tl_picture_objective *o,
                           tl_plan *plan, tl_err *err) {
  tl_image_data d = {.width = 32, .height = 32, .channels = 3};
  tl_model_config mc;
  picture_run r = {0};
  tl_tokenizer *tok = NULL;
  if (o->check) TL_TRY(o->check(c, err));
  if (*c->data.images) TL_TRY(tl_part_read_unlabelled(c, c->data.images, &d, err));
  tl_status s = tl_part_model_config(c, c->model.from, &d, &mc, err);
  if (s == TL_OK && o->captions) {
    s = tl_tokenizer_open(ctx, c->data.tokenizer, &tok, err);
    if (s == TL_OK) mc.vocab = tl_tokenizer_vocab_size(tok);
  }
  if (s == TL_OK) s = make(ctx, c, o, &mc, &r, err);
  if (s == TL_OK) {
    const tl_plan_subject x = {.model = r.model[0],
                               .g = r.graph[0].g,
                               .tokens = r.graph[0].n * r.model[0]->c.max_len,
                               .targets = r.graph[0].targets,
                               .steps = steps_for(c, (int64_t)d.records.n),
                               .run = run,
                               .user = &r};
    s = tl_plan_measure(ctx, c, &x, plan, err);
  }
  for (int i = 0; i < 2; i++) {
    tl_picture_graph_free(&r.graph[i]);
    tl_model_free(r.model[i]);
  }
  free(r.pictures);
  free(r.caption);
  free(r.token);
  tl_tokenizer_free(tok);
  tl_image_data_free(&d);
  return s;
}
