#include "base/process.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

double tl_process_age(void) {
  unsigned long long start = 0;
  struct timespec now;
  char line[1024];
  FILE *f = fopen("/proc/self/stat", "r");
  if (!f) return 0;
  size_t n = fread(line, 1, sizeof line - 1, f);
  fclose(f);
  line[n] = 0;
  const char *at =
      strrchr(line, ')'); /* the name before it may hold anything; `start` is field 22 */
  for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
  if (!at || sscanf(at, "%llu", &start) != 1 || clock_gettime(CLOCK_BOOTTIME, &now) != 0) return 0;
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec -
         (double)start / (double)sysconf(_SC_CLK_TCK);
}

double tl_process_peak_rss(void) {
  struct rusage u;
  return getrusage(RUSAGE_SELF, &u) == 0 ? 1024.0 * (double)u.ru_maxrss : 0;
}
