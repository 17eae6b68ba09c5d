/* Objectives that compare two views of each picture: what a projector makes of their features. */
#include "transfer/picture_objective.h"

/* Barlow Twins' weight of the whole loss, as published. */
static const double barlow_scale = 0.1;

static void declare_projector(tl_declare *d, const tl_model *m, const tl_config *c, int layers,
                              tl_picture_parts *parts) {
  parts->projector = tl_declare_projector(d, "projector", layers, m->c.dim, c->objective.hidden,
                                          c->objective.projection);
}

static tl_node *projected(tl_picture_graph *p) {
  tl_node *x = tl_picture_features(p);
  tl_graph_scope(p->g, "projector");
  return tl_nn_projector(p->g, x, &p->parts->projector);
}

/* A teacher has no predictor: its rows are what the student's predictor is to find. */
static void declare_pair(tl_declare *d, const tl_model *m, const tl_config *c,
                         tl_picture_parts *parts) {
  declare_projector(d, m, c, 2, parts);
  parts->predictor = tl_declare_projector(d, "predictor", 2, c->objective.projection,
                                          c->objective.hidden, c->objective.projection);
}

static tl_node *teach(tl_picture_graph *p) {
  return tl_unit_rows(p->g, projected(p));
}

static tl_node *predicted(tl_picture_graph *p) {
  tl_node *x = projected(p);
  tl_graph_scope(p->g, "predictor");
  return tl_unit_rows(p->g, tl_nn_projector(p->g, x, &p->parts->predictor));
}

static tl_node *taught(tl_picture_graph *p, tl_dtype dt) {
  int64_t shape[] = {p->n, p->cfg->objective.projection};
  return tl_graph_input(p->g, "taught", dt, 2, shape, 0);
}

/* --- simclr ------------------------------------------------------------------------------------
 */

static void declare_simclr(tl_declare *d, const tl_model *m, const tl_config *c,
                           tl_picture_parts *parts) {
  declare_projector(d, m, c, 2, parts);
}

static tl_node *simclr_loss(tl_picture_graph *p) {
  tl_node *z = tl_unit_rows(p->g, projected(p));
  return tl_nt_xent(p->g, z, p->cfg->objective.temperature);
}

const tl_picture_objective tl_picture_objective_simclr = {
    .name = "simclr", .views = 2, .declare = declare_simclr, .loss = simclr_loss};

/* --- byol --------------------------------------------------------------------------------------
 */

static tl_node *byol_taught(tl_picture_graph *p) {
  return taught(p, TL_F32);
}

static tl_node *byol_loss(tl_picture_graph *p) {
  return tl_teacher_distance(p->g, predicted(p), p->taught);
}

const tl_picture_objective tl_picture_objective_byol = {.name = "byol",
                                                        .views = 2,
                                                        .declare = declare_pair,
                                                        .loss = byol_loss,
                                                        .teach = teach,
                                                        .taught = byol_taught};

/* --- moco --------------------------------------------------------------------------------------
 */

static tl_node *moco_taught(tl_picture_graph *p) {
  return taught(p, p->g->opt.dt);
}

static tl_node *moco_loss(tl_picture_graph *p) {
  return tl_teacher_xent(p->g, predicted(p), p->taught, p->cfg->objective.temperature);
}

const tl_picture_objective tl_picture_objective_moco = {.name = "moco",
                                                        .views = 2,
                                                        .declare = declare_pair,
                                                        .loss = moco_loss,
                                                        .teach = teach,
                                                        .taught = moco_taught};

/* --- barlow ------------------------------------------------------------------------------------
 */

static void declare_barlow(tl_declare *d, const tl_model *m, const tl_config *c,
                           tl_picture_parts *parts) {
  declare_projector(d, m, c, 3, parts);
}

static tl_node *barlow_loss(tl_picture_graph *p) {
  return tl_barlow_twins(p->g, projected(p), p->cfg->objective.redundancy, barlow_scale);
}

const tl_picture_objective tl_picture_objective_barlow = {
    .name = "barlow", .views = 2, .whole = true, .declare = declare_barlow, .loss = barlow_loss};
