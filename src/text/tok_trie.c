/* A prefix tree over bytes. */
#include "tok_internal.h"

#include <stdlib.h>
#include <string.h>

struct tok_edge {
  uint64_t key; /* parent << 8 | byte, plus 1; 0: free */
  uint32_t child;
};

static uint32_t slot_of(const tok_trie *t, uint64_t key) {
  uint32_t i = (uint32_t)((key * 0x9E3779B97F4A7C15u) >> 32) & t->mask;
  while (t->edge[i].key && t->edge[i].key != key) i = (i + 1) & t->mask;
  return i;
}

static bool grow_edges(tok_trie *t) {
  tok_trie old = *t;
  uint32_t n = old.edge ? (old.mask + 1) * 2 : 1024;
  t->edge = calloc(n, sizeof *t->edge);
  if (!t->edge) {
    *t = old;
    return false;
  }
  t->mask = n - 1;
  for (uint32_t i = 0; old.edge && i <= old.mask; i++) {
    if (old.edge[i].key) t->edge[slot_of(t, old.edge[i].key)] = old.edge[i];
  }
  free(old.edge);
  return true;
}

static uint32_t new_node(tok_trie *t) {
  if (t->n_nodes == t->cap_nodes) {
    uint32_t cap = t->cap_nodes ? t->cap_nodes * 2 : 1024;
    uint32_t *v = realloc(t->value, cap * sizeof *v);
    if (!v) return TOK_NONE;
    t->value = v;
    t->cap_nodes = cap;
  }
  t->value[t->n_nodes] = TOK_NONE;
  return t->n_nodes++;
}

bool tok_trie_add(tok_trie *t, const unsigned char *key, size_t len, uint32_t value) {
  if (t->n_nodes == 0 && new_node(t) == TOK_NONE) return false;
  uint32_t node = 0;
  for (size_t i = 0; i < len; i++) {
    if ((!t->edge || t->n_edges * 2 > t->mask) && !grow_edges(t)) return false;
    uint64_t k = ((uint64_t)node << 8 | key[i]) + 1;
    uint32_t s = slot_of(t, k);
    if (!t->edge[s].key) {
      uint32_t child = new_node(t);
      if (child == TOK_NONE) return false;
      t->edge[s].key = k;
      t->edge[s].child = child;
      t->n_edges++;
    }
    node = t->edge[s].child;
  }
  t->value[node] = value;
  return true;
}

uint32_t tok_trie_step(const tok_trie *t, uint32_t node, unsigned char byte) {
  if (!t->edge) return TOK_NONE;
  uint32_t s = slot_of(t, ((uint64_t)node << 8 | byte) + 1);
  return t->edge[s].key ? t->edge[s].child : TOK_NONE;
}

void tok_trie_free(tok_trie *t) {
  free(t->edge);
  free(t->value);
  *t = (tok_trie){0};
}
