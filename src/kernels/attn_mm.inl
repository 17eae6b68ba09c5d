/* The one matrix product of the attention kernels, on blocks in cache:
 *   C[r][l] (+)= sum over c < nc of A(r, c) B[c][l],   A(r, c) = trans ? A[c][r] : A[r][c]
 * Elements of A are broadcast, rows of B and C are vectors: lanes never mix, so that a lane's bits
 * do not depend on its neighbours. Register tiles are up to 6 rows by NVT vectors.
 *
 * Elements of A and B are words: one f32 or, with PAIR 2, two bf16 whose products are both added.
 * C is f32. */

typedef struct mm_args {
  int nc;
  const float *a, *b;
  float *c;
  int64_t lda, ldb, ldc;
  bool add;
} mm_args;

VEC_INLINE void mm_tile(const int mr, const int nv, const bool trans, const mm_args *m,
                        const float *a, const float *b, float *c) {
  vf acc[6][NVT], bv[NVT];
  const int64_t lda = m->lda, ldb = m->ldb, ldc = m->ldc;
  if (m->add) {
    _Pragma("GCC unroll 6") for (int r = 0; r < mr; r++)
        _Pragma("GCC unroll 4") for (int v = 0; v < nv; v++) acc[r][v] =
            vf_load(c + r * ldc + v * VL, VL);
  } else {
    _Pragma("GCC unroll 6") for (int r = 0; r < mr; r++)
        _Pragma("GCC unroll 4") for (int v = 0; v < nv; v++) acc[r][v] = vf_all(0);
  }
  for (int k = m->nc; k > 0; k--) {
    _Pragma("GCC unroll 4") for (int v = 0; v < nv; v++) bv[v] = vf_load(b + v * VL, VL);
    _Pragma("GCC unroll 6") for (int r = 0; r < mr; r++) {
      vf x = vf_all(trans ? a[r] : a[r * lda]);
      _Pragma("GCC unroll 4") for (int v = 0; v < nv; v++) acc[r][v] =
          word_fma(x, bv[v], acc[r][v]);
    }
    a += trans ? lda : 1;
    b += ldb;
  }
  _Pragma("GCC unroll 6") for (int r = 0; r < mr; r++)
      _Pragma("GCC unroll 4") for (int v = 0; v < nv; v++)
          vf_store(c + r * ldc + v * VL, VL, acc[r][v]);
}

typedef void (*mm_tile_fn)(const mm_args *m, const float *a, const float *b, float *c);

#define MM_TILE(mr, nv)                                                                            \
  static void mm_n_##mr##_##nv(const mm_args *m, const float *a, const float *b, float *c) {       \
    mm_tile(mr, nv, false, m, a, b, c);                                                            \
  }                                                                                                \
  static void mm_t_##mr##_##nv(const mm_args *m, const float *a, const float *b, float *c) {       \
    mm_tile(mr, nv, true, m, a, b, c);                                                             \
  }
#ifdef __AVX512F__
#define MM_TILES(nv) MM_TILE(1, nv) MM_TILE(2, nv) MM_TILE(4, nv) MM_TILE(6, nv)
MM_TILES(1)
MM_TILES(2)
MM_TILES(3)
MM_TILES(4)
#define MM_ROW(t, mr)                                                                              \
  { mm_##t##_##mr##_1, mm_##t##_##mr##_2, mm_##t##_##mr##_3, mm_##t##_##mr##_4 }
#else
#define MM_TILES(nv) MM_TILE(1, nv) MM_TILE(2, nv) MM_TILE(4, nv) MM_TILE(6, nv)
MM_TILES(1)
MM_TILES(2)
#define MM_ROW(t, mr)                                                                              \
  { mm_##t##_##mr##_1, mm_##t##_##mr##_2 }
#endif
    static const mm_tile_fn mm_tiles[2][4][NVT] = {
        {MM_ROW(n, 1), MM_ROW(n, 2), MM_ROW(n, 4), MM_ROW(n, 6)},
        {MM_ROW(t, 1), MM_ROW(t, 2), MM_ROW(t, 4), MM_ROW(t, 6)}};

/* rows x nv vectors. */
static void mm(bool trans, int rows, int nv, mm_args m) {
  for (int n; nv > 0; nv -= n, m.b += n * VL, m.c += n * VL) {
    int chunks = (nv + NVT - 1) / NVT;
    n = (nv + chunks - 1) / chunks;
    const float *a = m.a;
    for (int r = 0, step; r < rows; r += step) {
      int left = rows - r, kind = left >= 6 ? 3 : left >= 4 ? 2 : left >= 2 ? 1 : 0;
      static const int sizes[4] = {1, 2, 4, 6};
      step = sizes[kind];
      mm_tiles[trans][kind][n - 1](&m, a, m.b, m.c + r * m.ldc);
      a += trans ? step : step * m.lda;
    }
  }
}
