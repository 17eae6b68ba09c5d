/* A growing arena: many small allocations, one free. Memory is zeroed and 64-byte aligned. */
#ifndef TL_BASE_ARENA_H
#define TL_BASE_ARENA_H

#include <stddef.h>

typedef struct tl_arena {
  struct tl_arena_block *head;
} tl_arena;

/* NULL when out of memory. Freed by tl_arena_free only. */
void *tl_arena_alloc(tl_arena *a, size_t size);
char *tl_arena_strdup(tl_arena *a, const char *s);
/* printf into the arena; NULL when out of memory. */
char *tl_arena_printf(tl_arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void tl_arena_free(tl_arena *a); /* leaves an empty arena that can be used again */

/* A large, zeroed, 64-byte aligned slab, on huge pages where the system has them.
 * Freed by tl_slab_free with the same size. NULL when out of memory. */
void *tl_slab_alloc(size_t size);
void tl_slab_free(void *p, size_t size);

#endif
