/* Mutation of files for the programs tests/fuzz/fuzz_*.c: damaged bytes go to a reader, which must
 * answer each with success or a plain error: no crash, no hang, no allocation out of proportion.
 *
 * The inputs are a function of (FUZZ_SEED, number): FUZZ_FIRST=N starts at number N, so that an
 * input that failed is the first one tried when run again. FUZZ_SECONDS says how long (1 by
 * default; `make check-long`: 300). First come truncations of each seed, then mutations. */
#ifndef TESTS_FUZZ_MUTATE_H
#define TESTS_FUZZ_MUTATE_H

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
enum { FUZZ_ASAN = 1 };
#else
enum { FUZZ_ASAN = 0 };
#endif

enum {
  FUZZ_MAX_SEEDS = 64,
  FUZZ_HANG_S = 20,                 /* an input may take so long */
  FUZZ_MEMORY = 1 << 30,            /* address space of the program (not under the sanitizer) */
  FUZZ_TRUNCATIONS = 400,           /* of each seed, evenly spread; all of short ones */
  FUZZ_MAX_INPUT = 4 * 1024 * 1024, /* a mutation does not grow beyond */
};

typedef struct fuzz_bytes {
  unsigned char *p;
  size_t len, cap;
} fuzz_bytes;

typedef struct fuzz_target {
  const char *name;
  /* Strings that mean something in the format; NULL ends the list. */
  const char *const *words;
  /* Gives the bytes to the reader and uses what it reads. NULL: as it should be; else what is
   * wrong. The bytes are on the heap in a block of exactly len (so that an overread is seen). */
  const char *(*try_one)(const unsigned char *bytes, size_t len);
} fuzz_target;

static unsigned long fuzz_number; /* of the input being tried */
static const char *fuzz_name = "";
static fuzz_bytes fuzz_seeds[FUZZ_MAX_SEEDS];
static size_t fuzz_n_seeds;

/* splitmix64 */
static inline uint64_t fuzz_next(uint64_t *s) {
  uint64_t z = (*s += 0x9E3779B97F4A7C15u);
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

static inline size_t fuzz_below(uint64_t *s, size_t n) {
  return n ? (size_t)(fuzz_next(s) % n) : 0;
}

static inline void fuzz_die(const char *what) {
  char line[256];
  int n = snprintf(line, sizeof line, "%s: input %lu: %s; run again with FUZZ_FIRST=%lu\n",
                   fuzz_name, fuzz_number, what, fuzz_number);
  if (n > 0 && write(2, line, (size_t)n) < 0) _exit(2);
  _exit(1);
}

static inline void fuzz_on_signal(int sig) {
  fuzz_die(sig == SIGALRM ? "it hangs" : "it crashes");
}

void __sanitizer_set_death_callback(void (*call)(void)) __attribute__((weak));
static inline void fuzz_on_death(void) {
  fuzz_die("the sanitizer stopped it");
}

static inline void fuzz_add_seed(const void *p, size_t len) {
  if (fuzz_n_seeds == FUZZ_MAX_SEEDS) fuzz_die("too many seeds");
  unsigned char *copy = malloc(len + 1);
  if (!copy) fuzz_die("out of memory");
  memcpy(copy, p, len);
  fuzz_seeds[fuzz_n_seeds++] = (fuzz_bytes){copy, len, len};
}

static inline void fuzz_add_seed_file(const char *path) {
  FILE *f = fopen(path, "rb");
  if (!f) fuzz_die(path);
  unsigned char *p = malloc(FUZZ_MAX_INPUT);
  size_t len = p ? fread(p, 1, FUZZ_MAX_INPUT, f) : 0;
  fclose(f);
  fuzz_add_seed(p, len);
  free(p);
}

/* Replaces [at, at + gone) by n bytes. */
static inline void fuzz_splice(fuzz_bytes *b, size_t at, size_t gone, const void *p, size_t n) {
  if (at > b->len) at = b->len;
  if (gone > b->len - at) gone = b->len - at;
  if (b->len - gone + n > FUZZ_MAX_INPUT) return;
  if (b->len - gone + n > b->cap) {
    size_t cap = (b->len + n) * 2;
    unsigned char *q = realloc(b->p, cap);
    if (!q) fuzz_die("out of memory");
    b->p = q;
    b->cap = cap;
  }
  memmove(b->p + at + n, b->p + at + gone, b->len - at - gone);
  if (n) memcpy(b->p + at, p, n);
  b->len += n - gone;
}

/* A number that readers stumble over, little-endian, in 1 to 8 bytes. */
static inline void fuzz_put_number(fuzz_bytes *b, uint64_t *s) {
  static const uint64_t odd[] = {0,           1,          2,          0x7F,           0x80,
                                 0xFF,        0x7FFF,     0xFFFF,     0x10000,        0x7FFFFFFF,
                                 0x80000000u, 0xFFFFFFFF, UINT64_MAX, INT64_MAX,      1ull << 63,
                                 1ull << 32,  1ull << 40, 0x100000,   UINT64_MAX - 7, 100000001};
  uint64_t v = odd[fuzz_below(s, sizeof odd / sizeof *odd)];
  size_t width = (size_t)1 << fuzz_below(s, 4), at = fuzz_below(s, b->len);
  unsigned char le[8];
  for (int i = 0; i < 8; i++) le[i] = (unsigned char)(v >> (8 * i));
  if (at + width <= b->len) memcpy(b->p + at, le, width);
}

/* Replaces a decimal number of a text by another. */
static inline void fuzz_put_decimal(fuzz_bytes *b, uint64_t *s) {
  static const char *const odd[] = {"0",           "-1",
                                    "1",           "4294967295",
                                    "4294967296",  "2147483648",
                                    "99999999999", "1e308",
                                    "1e-400",      "0.5",
                                    "-0",          "9223372036854775807",
                                    "1000000",     "18446744073709551616"};
  size_t at = fuzz_below(s, b->len), end;
  while (at < b->len && (b->p[at] < '0' || b->p[at] > '9')) at++;
  for (end = at; end < b->len && b->p[end] >= '0' && b->p[end] <= '9';) end++;
  const char *v = odd[fuzz_below(s, sizeof odd / sizeof *odd)];
  if (at < b->len) fuzz_splice(b, at, end - at, v, strlen(v));
}

static inline void fuzz_mutate_once(fuzz_bytes *b, const fuzz_target *t, uint64_t *s) {
  size_t at = fuzz_below(s, b->len), n_words = 0, n;
  unsigned char c = (unsigned char)fuzz_next(s);
  while (t->words && t->words[n_words]) n_words++;
  switch (fuzz_below(s, 10)) {
  case 0: /* a bit */
    if (b->len) b->p[at] ^= (unsigned char)(1u << fuzz_below(s, 8));
    break;
  case 1: /* a byte */
    if (b->len) b->p[at] = c;
    break;
  case 2: /* put one in */
    fuzz_splice(b, at, 0, &c, 1);
    break;
  case 3: /* take some out */
    fuzz_splice(b, at, 1 + fuzz_below(s, fuzz_below(s, 4) ? 4 : 64), NULL, 0);
    break;
  case 4:
    fuzz_put_number(b, s);
    break;
  case 5:
    fuzz_put_decimal(b, s);
    break;
  case 6:
  case 7: /* a word of the format, over others or between */
    if (n_words) {
      const char *w = t->words[fuzz_below(s, n_words)];
      fuzz_splice(b, at, fuzz_below(s, 2) ? strlen(w) : 0, w, strlen(w));
    }
    break;
  case 8: /* a piece of a seed, or of itself, again */
  {
    const fuzz_bytes *from = &fuzz_seeds[fuzz_below(s, fuzz_n_seeds)];
    size_t start = fuzz_below(s, from->len);
    n = fuzz_below(s, from->len - start < 300 ? from->len - start + 1 : 300);
    fuzz_splice(b, at, fuzz_below(s, 2) ? n : 0, from->p + start, n);
    break;
  }
  default: /* the end */
    if (fuzz_below(s, 4) == 0) b->len = at;
  }
}

static inline void fuzz_try(const fuzz_target *t, const unsigned char *p, size_t len) {
  unsigned char *exact = malloc(len ? len : 1);
  if (!exact) fuzz_die("out of memory");
  memcpy(exact, p, len);
  alarm(FUZZ_HANG_S);
  const char *wrong = t->try_one(exact, len);
  alarm(0);
  free(exact);
  if (wrong) fuzz_die(wrong);
  fuzz_number++;
}

static inline unsigned long fuzz_setting(const char *name, unsigned long otherwise) {
  const char *s = getenv(name);
  return s && *s ? strtoul(s, NULL, 10) : otherwise;
}

static inline double fuzz_clock(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

/* Inputs are numbered through: truncations of the seeds, then mutations. */
static inline void fuzz_truncations(const fuzz_target *t, unsigned long first) {
  for (size_t i = 0; i < fuzz_n_seeds; i++) {
    size_t len = fuzz_seeds[i].len, n = len < FUZZ_TRUNCATIONS ? len : FUZZ_TRUNCATIONS;
    for (size_t k = 0; k <= n; k++) {
      if (fuzz_number >= first)
        fuzz_try(t, fuzz_seeds[i].p, n ? len * k / n : 0);
      else
        fuzz_number++;
    }
  }
}

/* Call with the seeds added. The exit status of the program. */
static inline int fuzz_main(const fuzz_target *t) {
  unsigned long first = fuzz_setting("FUZZ_FIRST", 0), seed = fuzz_setting("FUZZ_SEED", 1);
  double end = fuzz_clock() + (double)fuzz_setting("FUZZ_SECONDS", 1);
  fuzz_name = t->name;
  if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(fuzz_on_death);
  signal(SIGALRM, fuzz_on_signal);
  if (!FUZZ_ASAN) {
    struct rlimit limit = {FUZZ_MEMORY, FUZZ_MEMORY};
    setrlimit(RLIMIT_AS, &limit);
    signal(SIGSEGV, fuzz_on_signal);
    signal(SIGABRT, fuzz_on_signal);
    signal(SIGFPE, fuzz_on_signal);
    signal(SIGBUS, fuzz_on_signal);
  }
  fuzz_truncations(t, first);
  if (fuzz_number < first) fuzz_number = first;
  fuzz_bytes b = {0};
  while (fuzz_clock() < end) {
    uint64_t s = seed * 0x632BE59BD9B4E019u + fuzz_number;
    const fuzz_bytes *from = &fuzz_seeds[fuzz_below(&s, fuzz_n_seeds)];
    b.len = 0;
    fuzz_splice(&b, 0, 0, from->p, from->len);
    for (size_t n = 1 + fuzz_below(&s, fuzz_below(&s, 8) ? 4 : 30); n > 0; n--)
      fuzz_mutate_once(&b, t, &s);
    fuzz_try(t, b.p, b.len);
  }
  printf("%s: %lu inputs, none of them did harm\n", t->name, fuzz_number - first);
  free(b.p);
  for (size_t i = 0; i < fuzz_n_seeds; i++) free(fuzz_seeds[i].p);
  return 0;
}

#endif
