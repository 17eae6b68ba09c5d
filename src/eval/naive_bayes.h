/* Multinomial naive Bayes on word counts: the baseline a pretrained model has to beat.
 *
 * Words are runs of letters and digits in lower case (bytes outside ASCII count as letters);
 * counts are smoothed by adding alpha to each; words never seen in training are left out. */
#ifndef TL_EVAL_NAIVE_BAYES_H
#define TL_EVAL_NAIVE_BAYES_H

#include <stddef.h>
#include <stdint.h>
#include "tilth/status.h"

typedef struct tl_nb_text {
  const char *text; /* not owned, need not end in NUL */
  size_t len;
  int label; /* in [0, n_classes) */
} tl_nb_text;

typedef struct tl_naive_bayes tl_naive_bayes;

/* alpha: 1 is Laplace's rule; 0: the one of {1, 0.5, 0.2, 0.1, 0.05} that is best in five-fold
 * cross-validation on these texts (text i is in fold i % 5), which makes a stronger baseline
 * without a look at the test set. On success *out is freed by tl_naive_bayes_free. Errors: DATA (no
 * texts, a label out of range), NOMEM. */
tl_status tl_naive_bayes_train(const tl_nb_text *texts, size_t n, int n_classes, double alpha,
                               tl_naive_bayes **out, tl_err *err);
double tl_naive_bayes_alpha(const tl_naive_bayes *nb); /* the alpha in use */
void tl_naive_bayes_free(tl_naive_bayes *nb);          /* NULL is allowed */

/* The most probable class; a tie goes to the lower one. */
int tl_naive_bayes_predict(const tl_naive_bayes *nb, const char *text, size_t len);
/* The share of texts whose label is predicted, in [0, 1]; 0 for n == 0. */
double tl_naive_bayes_accuracy(const tl_naive_bayes *nb, const tl_nb_text *texts, size_t n);

#endif
