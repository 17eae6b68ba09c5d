#include "kernels/gemm.h"

#include <string.h>

#include <pthread.h>
#include <stddef.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const char *const level_names[TL_N_CPU_LEVELS] = {"ref", "avx2", "avx512", "avx512bf16"};

const char *tl_cpu_level_name(tl_cpu_level level) {
  return (unsigned)level < TL_N_CPU_LEVELS ? level_names[level] : "unknown";
}

#if defined(__x86_64__)
static bool has_all(unsigned reg, unsigned bits) {
  return (reg & bits) == bits;
}

tl_cpu_level tl_cpu_detect(void) {
  unsigned a, b, c, d;
  enum { FMA = 1 << 12, OSXSAVE = 1 << 27, AVX = 1 << 28, F16C = 1 << 29 };
  if (!__get_cpuid(1, &a, &b, &c, &d) || !has_all(c, FMA | OSXSAVE | AVX | F16C)) return TL_CPU_REF;
  /* What the system saves on a context switch: xmm and ymm, then opmask and zmm. */
  unsigned xcr0, xcr0_high;
  __asm__ volatile("xgetbv" : "=a"(xcr0), "=d"(xcr0_high) : "c"(0));
  if (!has_all(xcr0, 0x6)) return TL_CPU_REF;
  enum { AVX2 = 1 << 5, BMI2 = 1 << 8 };
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !has_all(b, AVX2 | BMI2)) return TL_CPU_REF;
  const unsigned f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
  if (!has_all(xcr0, 0xe6) || !has_all(b, f_dq_bw_vl)) return TL_CPU_AVX2;
  enum { AVX512_BF16 = 1 << 5 };
  unsigned subleaves = a;
  if (subleaves < 1 || !__get_cpuid_count(7, 1, &a, &b, &c, &d) || !has_all(a, AVX512_BF16))
    return TL_CPU_AVX512;
  return TL_CPU_AVX512BF16;
}
#else
tl_cpu_level tl_cpu_detect(void) {
  return TL_CPU_REF;
}
#endif

static tl_kernels tables[TL_N_CPU_LEVELS];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void init_rung(tl_kernels *k, tl_cpu_level rung) {
  switch (rung) {
  case TL_CPU_REF:
    tl_row_init_ref(&k->row);
    tl_optim_init_ref(&k->optim);
    tl_route_init_ref(&k->route);
    tl_attn_init_ref(k->attn);
    tl_gemm_init_ref(k->gemm);
    break;
#if defined(__x86_64__)
  case TL_CPU_AVX2:
    tl_row_init_avx2(&k->row);
    tl_optim_init_avx2(&k->optim);
    tl_route_init_avx2(&k->route);
    tl_attn_init_avx2(k->attn);
    tl_gemm_init_avx2(k->gemm);
    break;
  case TL_CPU_AVX512:
    tl_row_init_avx512(&k->row);
    tl_optim_init_avx512(&k->optim);
    tl_route_init_avx512(&k->route);
    tl_attn_init_avx512(k->attn);
    tl_gemm_init_avx512(k->gemm);
    break;
  case TL_CPU_AVX512BF16:
    tl_attn_init_avx512bf16(k->attn);
    tl_gemm_init_avx512bf16(k->gemm);
    k->native_bf16 = tl_gemm_bf16_pays(&k->gemm[TL_F32], &k->gemm[TL_BF16]);
    break;
#endif
  default:
    break;
  }
}

/* A rung's init is compiled for its CPU like its kernels: above this CPU's level it must not run. */
static void init_tables(void) {
  const int best = (int)tl_cpu_detect();
  for (int level = 0; level < TL_N_CPU_LEVELS && level <= best; level++) {
    tl_kernels *k = &tables[level];
    if (level > 0) *k = tables[level - 1];
    k->level = (tl_cpu_level)level;
    k->name = tl_cpu_level_name(k->level);
    init_rung(k, k->level);
  }
}

const tl_kernels *tl_kernels_get(tl_cpu_level level) {
  pthread_once(&tables_once, init_tables);
  return &tables[level];
}

tl_dtype tl_kernels_dtype(const tl_kernels *k, const char *name) {
  if (!strcmp(name, "f32")) return TL_F32;
  return !strcmp(name, "bf16") || k->native_bf16 ? TL_BF16 : TL_F32;
}
