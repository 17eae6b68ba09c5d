#include "tilth/suggest.h"

#include <ctype.h>
#include <string.h>

enum { MAX_WORD = 64 };

/* Optimal string alignment distance; words longer than MAX_WORD are never near anything. */
static size_t distance(const char *a, const char *b) {
  size_t n = strlen(a), m = strlen(b);
  if (n > MAX_WORD || m > MAX_WORD) return 2 * MAX_WORD;
  size_t row[3][MAX_WORD + 1];
  for (size_t j = 0; j <= m; j++) row[0][j] = j;
  for (size_t i = 1; i <= n; i++) {
    size_t *now = row[i % 3], *up = row[(i + 2) % 3], *up2 = row[(i + 1) % 3];
    now[0] = i;
    for (size_t j = 1; j <= m; j++) {
      int ca = tolower((unsigned char)a[i - 1]), cb = tolower((unsigned char)b[j - 1]);
      size_t best = up[j - 1] + (ca != cb);
      if (up[j] + 1 < best) best = up[j] + 1;
      if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
      if (i > 1 && j > 1 && ca == tolower((unsigned char)b[j - 2]) &&
          cb == tolower((unsigned char)a[i - 2]) && up2[j - 2] + 1 < best)
        best = up2[j - 2] + 1;
      now[j] = best;
    }
  }
  return row[n % 3][m];
}

const char *tl_suggest(const char *word, const char *const *candidates, size_t n) {
  size_t limit = strlen(word) < 4 ? 1 : strlen(word) < 8 ? 2 : 3;
  const char *best = NULL;
  for (size_t i = 0; i < n; i++) {
    size_t d = distance(word, candidates[i]);
    if (d <= limit) {
      best = candidates[i];
      limit = d ? d - 1 : 0;
      if (d == 0) break;
    }
  }
  return best;
}
