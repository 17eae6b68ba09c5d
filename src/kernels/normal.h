/* Normal numbers from counter-based words, by the method of Box and Muller in f32. Every level
 * computes the same bits: sums of products are written as fused multiply-adds.
 *
 * Numbers come in groups of TL_NORMAL_GROUP, from 16 Philox blocks of four words (a, b, c, d):
 * number j of a group is the cosine part of (a, b) of block j, 16 + j the sine part, and 32 + j and
 * 48 + j those of (c, d). Of a pair, u = (a / 2 + 1) 2^-31 in (0, 1] gives the radius
 * sqrt(-2 log u), and b the angle in turns of 2^-32. */
#ifndef TL_KERNELS_NORMAL_H
#define TL_KERNELS_NORMAL_H

enum { TL_NORMAL_GROUP = 64 };

/* -2 log u = e (-2 log 2) + f P(f), u = 2^e (1 + f), f in [sqrt(1/2) - 1, sqrt 2 - 1), error of P
 * 1.1e-8; sin t = t + t^3 P(t^2), cos t = 1 + t^2 P(t^2), |t| <= pi/4, errors of P 2.0e-8 and
 * 4.2e-8. Coefficients: interpolation at Chebyshev nodes. */
#define TL_NORMAL_LOG                                                                              \
  {                                                                                                \
    -2.0f, 0.9999997616f, -0.666666925f, 0.5000315905f, -0.4000187814f, 0.332167387f,              \
        -0.2839930058f, 0.2653206289f, -0.2561322153f, 0.1490237266f                               \
  }
#define TL_NORMAL_SIN                                                                              \
  { -0.1666666418f, 0.008332747966f, -0.0001958789071f }
#define TL_NORMAL_COS                                                                              \
  { -0.5f, 0.04166664928f, -0.001388758887f, 2.446378858e-05f }
#define TL_NORMAL_2LOG2 -1.3862943611f
#define TL_NORMAL_TURN 1.4629180793e-09f /* 2 pi 2^-32 */
/* The bits of sqrt(1/2), and what brings them to those of 1. */
#define TL_NORMAL_HALF 0x3f3504f3u
#define TL_NORMAL_SHIFT (0x3f800000u - TL_NORMAL_HALF)

#endif
