/* Eigenvectors of small symmetric matrices. */
#ifndef TL_EVAL_SYMMETRIC_H
#define TL_EVAL_SYMMETRIC_H

/* a [n][n] symmetric becomes diagonal (its eigenvalues, in no order), v [n][n] the eigenvectors,
 * one in each column: cyclic Jacobi rotations. */
void tl_symmetric_eigen(double *a, int n, double *v);

#endif
