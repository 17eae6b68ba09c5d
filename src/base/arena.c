#define _GNU_SOURCE
#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGN = 64, BLOCK = 1 << 16 };

struct tl_arena_block {
  struct tl_arena_block *next;
  size_t used, size;
  _Alignas(ALIGN) unsigned char data[];
};

void *tl_arena_alloc(tl_arena *a, size_t size) {
  if (size > SIZE_MAX - 2 * (size_t)BLOCK) return NULL;
  size = (size + ALIGN - 1) / ALIGN * ALIGN;
  struct tl_arena_block *b = a->head;
  if (!b || b->size - b->used < size) {
    size_t cap = size > BLOCK ? size : BLOCK;
    b = aligned_alloc(ALIGN, sizeof *b + cap);
    if (!b) return NULL;
    memset(b, 0, sizeof *b + cap);
    b->size = cap;
    b->next = a->head;
    a->head = b;
  }
  void *p = b->data + b->used;
  b->used += size;
  return p;
}

char *tl_arena_strdup(tl_arena *a, const char *s) {
  size_t n = strlen(s) + 1;
  char *p = tl_arena_alloc(a, n);
  return p ? memcpy(p, s, n) : NULL;
}

char *tl_arena_printf(tl_arena *a, const char *fmt, ...) {
  va_list ap, ap2;
  va_start(ap, fmt);
  va_copy(ap2, ap);
  int n = vsnprintf(NULL, 0, fmt, ap);
  char *p = n < 0 ? NULL : tl_arena_alloc(a, (size_t)n + 1);
  if (p) vsnprintf(p, (size_t)n + 1, fmt, ap2);
  va_end(ap2);
  va_end(ap);
  return p;
}

void tl_arena_free(tl_arena *a) {
  for (struct tl_arena_block *b = a->head, *next; b; b = next) {
    next = b->next;
    free(b);
  }
  a->head = NULL;
}

void *tl_slab_alloc(size_t size) {
  if (size == 0) size = 1;
  void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return NULL;
  /* Also for slabs smaller than a huge page: neighbours are joined into one mapping, and most
   * packed weights of a model lie beside each other. */
  if (size >= (size_t)64 << 10) madvise(p, size, MADV_HUGEPAGE);
  return p;
}

void tl_slab_free(void *p, size_t size) {
  if (p) munmap(p, size ? size : 1);
}
