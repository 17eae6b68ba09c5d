/* The table of tilth train --profile. */
#include <stdio.h>
#include "cli/cli.h"

static void print_or_dash(double value, int width, int decimals) {
  if (value > 0)
    printf(" %*.*f", width, decimals, value);
  else
    printf(" %*s", width, "-");
}

static void print_row(const tl_profile *p, const tl_profile_row *r) {
  char name[80];
  snprintf(name, sizeof name, "%s%s%s", r->name, *r->shape ? " " : "", r->shape);
  double per_s = r->seconds > 0 ? 1 / r->seconds : 0;
  printf("%-24s %-8s %6.5g %9.3f %5.1f%%", name, r->pass, r->calls, r->seconds * 1e3,
         100 * r->seconds / p->step_seconds);
  print_or_dash(r->flops * 1e-9, 9, 2);
  print_or_dash(r->flops * per_s * 1e-9, 8, 1);
  print_or_dash(100 * r->flops * per_s * 1e-9 / p->gflops, 6, 1);
  print_or_dash(r->bytes * 1e-6, 9, 1);
  print_or_dash(r->bytes * per_s * 1e-9, 7, 1);
  print_or_dash(r->floor * 1e3, 9, 3);
  print_or_dash(r->floor > 0 ? r->seconds / r->floor : 0, 6, 1);
  printf("\n");
}

static void print_whole(const tl_profile *p, const char *name, double seconds) {
  if (seconds > 0) printf("%-24s %14.3f s %5.1f%%\n", name, seconds, 100 * seconds / p->seconds);
}

void tl_cli_print_profile(const tl_profile *p) {
  printf("\nprofile: mean of %lld steps of %.3f ms; peak %.1f GFLOP/s (%s), memory %.1f GB/s\n\n",
         (long long)p->steps, p->step_seconds * 1e3, p->gflops, tl_dtype_name(p->dt), p->gbytes);
  printf("%-24s %-8s %6s %9s %6s %9s %8s %6s %9s %7s %9s %6s\n", "", "pass", "calls", "ms", "share",
         "GFLOP", "GFLOP/s", "% peak", "MB", "GB/s", "floor ms", "x");
  tl_profile_row sum = {.name = "step", .pass = "", .calls = 1};
  for (size_t i = 0; i < p->n; i++) {
    const tl_profile_row *r = &p->row[i];
    if (r->calls > 0) print_row(p, r);
    sum.seconds += r->seconds;
    sum.flops += r->flops;
    sum.bytes += r->bytes;
    sum.floor += r->floor;
  }
  print_row(p, &sum);
  printf(
      "\nfloor: what peak and memory bandwidth allow; x: time over floor (data in the caches can "
      "be below 1)\n\n");
  print_whole(p, "steps", (double)p->steps * p->step_seconds);
  print_whole(p, "first step", p->first_step);
  print_whole(p, "evaluation", p->evaluation);
  print_whole(p, "checkpoints", p->checkpoints);
  print_whole(p, "logging", p->logging);
  print_whole(p, "other", p->outside);
  print_whole(p, "in all", p->seconds);
}
