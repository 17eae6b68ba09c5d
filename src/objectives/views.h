/* Losses of two views (pictures changed by chance) of each of n things, in rows [2n, D]: rows i and
 * i + n are the views of thing i. The rows' number is fixed: no dynamic size.
 *
 * Behind a model's features stands a projector, whose rows the losses read; it is thrown away
 * afterwards. A teacher is a second model whose weights are an average of the first's; its rows are
 * inputs. */
#ifndef TL_OBJECTIVES_VIEWS_H
#define TL_OBJECTIVES_VIEWS_H

#include "nn/nn.h"

enum { TL_MAX_PROJECTOR = 3 };

/* Linear layers; behind each but the last a norm over the batch and a ReLU. */
typedef struct tl_projector {
  int n; /* layers */
  tl_param *w[TL_MAX_PROJECTOR], *gain[TL_MAX_PROJECTOR];
  tl_param *bias[TL_MAX_PROJECTOR]; /* of the norm; of the last layer itself */
} tl_projector;
/* NAME.0.weight [hidden, in], NAME.0.gain, NAME.0.bias, ... up to [out, hidden] and its bias. */
tl_projector tl_declare_projector(tl_declare *d, const char *name, int layers, int64_t in,
                                  int64_t hidden, int64_t out);
tl_node *tl_nn_projector(tl_graph *g, tl_node *x, const tl_projector *p);

/* Rows of length 1. */
tl_node *tl_unit_rows(tl_graph *g, tl_node *x);
/* NT-Xent (SimCLR; Chen et al., 2020) of unit rows z: of all other 2n - 1 rows, a view's partner is
 * to be the nearest. The logits are the cosines over the temperature. */
tl_node *tl_nt_xent(tl_graph *g, tl_node *z, double temperature);
/* The same of unit rows q against the unit rows of a teacher (MoCo v3; Chen et al., 2021): of the n
 * of the other view. */
tl_node *tl_teacher_xent(tl_graph *g, tl_node *q, tl_node *teacher, double temperature);
/* BYOL (Grill et al., 2020): the squared distance of a view's unit row to its partner's from the
 * teacher, f32, which is 2 - 2 cos. */
tl_node *tl_teacher_distance(tl_graph *g, tl_node *q, tl_node *teacher);
/* Barlow Twins (Zbontar et al., 2021): tl_barlow_loss of the columns' correlations between the two
 * views, each column brought to mean 0 and variance 1 over the view. */
tl_node *tl_barlow_twins(tl_graph *g, tl_node *z, double off, double scale);
/* CLIP (Radford et al., 2021) of unit rows of n pictures and of their texts [n, D]: of all texts a
 * picture's own is to be the nearest, and of all pictures a text's own. The logits are the cosines
 * times exp(log_scale), at most 100, plus mask [2n, 2n], which hides a row's own kind
 * (tl_clip_mask); *rows are both, [2n, D]. The sum over both directions. */
tl_node *tl_clip_loss(tl_graph *g, tl_node *pictures, tl_node *texts, tl_param *log_scale,
                      tl_node *mask, tl_node **rows);
/* Sets the mask's values for texts of these numbers: equal texts are no negatives of each other. */
void tl_clip_mask(tl_node *mask, const int32_t *text);

#endif
