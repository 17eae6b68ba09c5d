/* Features of pictures without any network: k-means of whitened patches, as in Coates, Lee and Ng
 * (2011), "An analysis of single-layer networks in unsupervised feature learning". With thousands
 * of centroids they are a strong floor for small pictures.
 *
 * A patch of 6 x 6 pixels has its mean taken off and is divided by sqrt(variance + 10) (pixels 0 ..
 * 255), and is whitened by V (L + 0.1)^-1/2 V^T of its covariance V L V^T over the patches learnt
 * from. It becomes max(0, mean_j d_j - d_k) for each centroid k at distance d_k; the sums of these
 * over the patches of each quadrant of the picture are its features. */
#ifndef TL_EVAL_PATCH_MEANS_H
#define TL_EVAL_PATCH_MEANS_H

#include "base/context.h"
#include "tilth/image.h"

typedef struct tl_patch_means tl_patch_means;
typedef struct tl_patch_means_options {
  int64_t centroids;      /* 2 .. 16,384 */
  int64_t pictures;       /* that patches are learnt from: at most; 20 patches of each */
  int32_t size, channels; /* of the pictures as they are looked at, size from 6 */
  uint64_t seed;
} tl_patch_means_options;

/* From the pictures index[0 .. n) (NULL: the first n) of d; their labels are not looked at. Freed
 * by tl_patch_means_free. Errors: CONFIG, DATA (fewer patches than centroids; a file has changed),
 * PREEMPTED, NOMEM. */
tl_status tl_patch_means_learn(tl_ctx *ctx, const tl_image_data *d, const size_t *index, size_t n,
                               const tl_patch_means_options *o, tl_patch_means **out, tl_err *err);
int64_t tl_patch_means_dim(const tl_patch_means *p); /* 4 centroids */
/* Sets out[n][tl_patch_means_dim]. Errors: DATA, PREEMPTED, NOMEM. */
tl_status tl_patch_means_run(tl_patch_means *p, const tl_image_data *d, const size_t *index,
                             size_t n, float *out, tl_err *err);
void tl_patch_means_free(tl_patch_means *p);

#endif
