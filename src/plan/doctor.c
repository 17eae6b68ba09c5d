#define _GNU_SOURCE
#define PCRE2_CODE_UNIT_WIDTH 8
#include "tilth/doctor.h"

#include <archive.h>
#include <jansson.h>
#include <math.h>
#include <pcre2.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <utf8proc.h>
#include <xxhash.h>
#include <yaml.h>

#include "base/file.h"
#include "kernels/kernels.h"
#include "tilth/version.h"

#define GIB (1024.0 * 1024 * 1024)

typedef struct doctor {
  tl_finding_fn fn;
  void *user;
  const char *section;
  int n_advice;
} doctor;

static void say(doctor *d, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void advise(doctor *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void say(doctor *d, const char *key, const char *fmt, ...) {
  char text[1024];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  d->fn(d->user, &(tl_finding){d->section, key, text, false, 0});
}

static void advise(doctor *d, const char *fmt, ...) {
  char text[1024];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  d->n_advice++;
  d->fn(d->user, &(tl_finding){d->section, "advice", text, false, 0});
}

static void say_count(doctor *d, const char *key, double n) {
  char text[32];
  snprintf(text, sizeof text, "%.0f", n);
  d->fn(d->user, &(tl_finding){d->section, key, text, true, n});
}

static void say_bytes(doctor *d, const char *key, double bytes) {
  static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  double x = bytes;
  int unit = 0;
  while (x >= 1024 && unit < 4) {
    x /= 1024;
    unit++;
  }
  char text[32];
  snprintf(text, sizeof text, unit && x < 100 ? "%.1f %s" : "%.0f %s", x, units[unit]);
  d->fn(d->user, &(tl_finding){d->section, key, text, true, bytes});
}

/* The text of a small file without its last newline; false if it cannot be read. */
static bool read_text(const char *path, char *out, size_t size) {
  FILE *f = fopen(path, "re");
  if (!f) return false;
  size_t n = fread(out, 1, size - 1, f);
  fclose(f);
  while (n > 0 && out[n - 1] == '\n') n--;
  out[n] = 0;
  return n > 0;
}

/* The value of "key ... : value" or "key: number kB" lines; NULL if absent. Cuts text there. */
static const char *field(char *text, const char *key) {
  for (char *line = text; line && *line; line = strchr(line, '\n')) {
    if (*line == '\n') line++;
    if (strncmp(line, key, strlen(key)) != 0) continue;
    char *value = strchr(line, ':');
    if (!value) continue;
    value++;
    value += strspn(value, " \t");
    char *end = strchr(value, '\n');
    if (end) *end = 0;
    return value;
  }
  return NULL;
}

static void examine_build(doctor *d) {
  struct utsname u;
  d->section = "build";
  say(d, "version", "%s", tl_version());
  say(d, "compiler", "%s", __VERSION__);
  if (uname(&u) == 0) say(d, "system", "%s %s %s", u.sysname, u.release, u.machine);
#ifdef TL_HAVE_MPI
  say(d, "mpi", "on");
#else
  say(d, "mpi", "off (not in this build)");
#endif
#ifdef TL_HAVE_CUDA
  say(d, "cuda", "on");
#else
  say(d, "cuda", "off (not in this build)");
#endif
}

static void examine_libraries(doctor *d) {
  int major, minor, patch;
  char pcre[64] = "?";
  d->section = "libraries";
  yaml_get_version(&major, &minor, &patch);
  pcre2_config(PCRE2_CONFIG_VERSION, pcre);
  unsigned xx = XXH_versionNumber();
  say(d, "jansson", "%s", jansson_version_str());
  say(d, "libyaml", "%d.%d.%d", major, minor, patch);
  say(d, "utf8proc", "%s", utf8proc_version());
  say(d, "pcre2", "%s", pcre);
  say(d, "libarchive", "%s", archive_version_string() + strlen("libarchive "));
  say(d, "xxhash", "%u.%u.%u", xx / 10000, xx / 100 % 100, xx % 100);
}

/* --- CPU ------------------------------------------------------------------------------------ */

/* The instruction sets that matter here, out of the "flags" line. */
static void say_features(doctor *d, const char *flags) {
  static const char *const wanted[] = {
      "sse4_2",   "avx",      "f16c",     "fma",         "bmi2",        "avx2",        "avx512f",
      "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16"};
  char out[256] = "";
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
    size_t n = strlen(wanted[i]), used = strlen(out);
    for (const char *p = strstr(flags, wanted[i]); p; p = strstr(p + n, wanted[i])) {
      if ((p != flags && p[-1] != ' ') || (p[n] && p[n] != ' ')) continue;
      snprintf(out + used, sizeof out - used, "%s%s", used ? " " : "", wanted[i]);
      break;
    }
  }
  say(d, "features", "%s", *out ? out : "none of those that the kernels use");
}

static void examine_caches(doctor *d) {
  for (int i = 0; i < 8; i++) {
    char path[128], level[16], type[32], size[32], key[32], shared[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", i);
    if (!read_text(path, level, sizeof level)) return;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/type", i);
    if (!read_text(path, type, sizeof type) || !strcmp(type, "Instruction")) continue;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
    if (!read_text(path, size, sizeof size)) continue;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/shared_cpu_list", i);
    bool known = read_text(path, shared, sizeof shared);
    snprintf(key, sizeof key, "L%s cache", level);
    say(d, key, "%s%s%s", size, known ? ", shared by CPUs " : "", known ? shared : "");
  }
}

/* CPUs' worth of time that the control group grants; 0: no limit known. */
static double cgroup_cpus(void) {
  char text[64];
  double quota, period;
  if (read_text("/sys/fs/cgroup/cpu.max", text, sizeof text))
    return sscanf(text, "%lf %lf", &quota, &period) == 2 && period > 0 ? quota / period : 0;
  if (!read_text("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", text, sizeof text)) return 0;
  quota = strtod(text, NULL);
  if (!read_text("/sys/fs/cgroup/cpu/cpu.cfs_period_us", text, sizeof text)) return 0;
  period = strtod(text, NULL);
  return quota > 0 && period > 0 ? quota / period : 0;
}

static int count_nodes(void) {
  int n = 0;
  char path[64];
  do snprintf(path, sizeof path, "/sys/devices/system/node/node%d", n);
  while (tl_is_dir(path) && ++n < 1024);
  return n;
}

static void examine_threads(doctor *d, int n_threads) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  int online = (int)sysconf(_SC_NPROCESSORS_ONLN);
  int allowed = sched_getaffinity(0, sizeof mask, &mask) == 0 ? CPU_COUNT(&mask) : online;
  int used = n_threads > 0 ? n_threads : allowed, nodes = count_nodes();
  double granted = cgroup_cpus();
  say_count(d, "CPUs online", online);
  say_count(d, "CPUs allowed", allowed);
  say_count(d, "threads", used);
  if (nodes > 0) say_count(d, "NUMA nodes", nodes);
  if (granted > 0) say(d, "CPUs granted", "%.2f", granted);
  if (allowed < online)
    advise(d, "the affinity mask allows %d of %d CPUs (taskset, a batch system or a container)",
           allowed, online);
  if (used > allowed)
    advise(d, "%d threads on %d CPUs take turns: use --threads %d", used, allowed, allowed);
  if (granted > 0 && granted < used)
    advise(d, "the control group grants %.2f CPUs for %d threads: use --threads %d", granted, used,
           (int)fmax(1, floor(granted)));
  double load[1];
  if (getloadavg(load, 1) == 1) {
    say(d, "load", "%.2f", load[0]);
    if (load[0] > 0.5 * allowed)
      advise(d, "other programs are using the CPUs (load %.1f): training will be slower", load[0]);
  }
}

static void examine_cpu(doctor *d, int n_threads) {
  char text[16384]; /* the first CPU's block */
  char copy[sizeof text];
  const char *value;
  d->section = "cpu";
  if (read_text("/proc/cpuinfo", text, sizeof text)) {
    memcpy(copy, text, sizeof copy);
    if ((value = field(copy, "model name"))) say(d, "model", "%s", value);
    memcpy(copy, text, sizeof copy);
    if ((value = field(copy, "flags"))) say_features(d, value);
  }
  examine_threads(d, n_threads);
  examine_caches(d);
}

/* --- kernels -------------------------------------------------------------------------------- */

/* From which rung of the ladder the functions of one family of the level's table come. */
static void say_family(doctor *d, const char *family, tl_cpu_level level, size_t offset,
                       size_t size) {
  typedef void (*function)(void);
  int from[TL_N_CPU_LEVELS] = {0};
  char key[64], out[128] = "";
  for (size_t at = 0; at < size; at += sizeof(function)) {
    int rung = (int)level;
    for (; rung > 0; rung--) {
      const char *a = (const char *)tl_kernels_get((tl_cpu_level)rung) + offset + at;
      const char *b = (const char *)tl_kernels_get((tl_cpu_level)(rung - 1)) + offset + at;
      if (memcmp(a, b, sizeof(function)) != 0) break;
    }
    from[rung]++;
  }
  for (int rung = (int)level; rung >= 0; rung--) {
    size_t used = strlen(out);
    if (from[rung])
      snprintf(out + used, sizeof out - used, "%s%d %s", used ? ", " : "", from[rung],
               tl_cpu_level_name((tl_cpu_level)rung));
  }
  snprintf(key, sizeof key, "%s %s", tl_cpu_level_name(level), family);
  say(d, key, "%s", out);
}

static void examine_kernels(doctor *d) {
  const char *lowered = getenv("TILTH_CPU");
  tl_cpu_level best = tl_cpu_detect();
  d->section = "kernels";
  say(d, "best level", "%s", tl_cpu_level_name(best));
  say(d, "level in use", "%s", lowered && *lowered ? lowered : tl_cpu_level_name(best));
  bool bf16 = tl_kernels_dtype(tl_kernels_get(best), "auto") == TL_BF16;
  say(d, "run.dtype=auto", "%s%s", bf16 ? "bf16" : "f32",
      bf16 || best < TL_CPU_AVX512BF16 ? "" : ": its products are faster here than those of bf16");
  for (int level = (int)best; level >= 0; level--) {
    tl_cpu_level l = (tl_cpu_level)level;
    say_family(d, "rows", l, offsetof(tl_kernels, row), sizeof(tl_row_kernels));
    say_family(d, "updates", l, offsetof(tl_kernels, optim), sizeof(tl_optim_kernels));
    say_family(d, "attention", l, offsetof(tl_kernels, attn), sizeof(tl_attn_kernels));
    for (int dt = 0; dt < 2; dt++) {
      size_t at = offsetof(tl_kernels, gemm) + (size_t)dt * sizeof(tl_gemm_kernels);
      say_family(d, dt ? "product bf16" : "product f32", l, at + offsetof(tl_gemm_kernels, impl),
                 sizeof(void *));
    }
  }
  if (lowered && *lowered && strcmp(lowered, tl_cpu_level_name(best)) != 0)
    advise(d, "TILTH_CPU=%s: unset it to use the faster %s kernels", lowered,
           tl_cpu_level_name(best));
  if (best == TL_CPU_REF)
    advise(d, "this CPU (or the system's settings) has no AVX2 and FMA: only the slow reference "
              "kernels run");
}

/* --- memory and disk ------------------------------------------------------------------------ */

static double meminfo(char *text, const char *key) {
  char copy[8192];
  snprintf(copy, sizeof copy, "%s", text);
  const char *v = field(copy, key);
  return v ? strtod(v, NULL) * 1024 : -1;
}

static void examine_memory(doctor *d) {
  char text[8192], limit[64], thp[128];
  d->section = "memory";
  double available = -1;
  if (read_text("/proc/meminfo", text, sizeof text)) {
    available = meminfo(text, "MemAvailable");
    say_bytes(d, "total", meminfo(text, "MemTotal"));
    if (available >= 0) say_bytes(d, "available", available);
    say_bytes(d, "swap", fmax(0, meminfo(text, "SwapTotal")));
    say_count(d, "reserved huge pages", fmax(0, meminfo(text, "HugePages_Total") / 1024));
  }
  bool limited = read_text("/sys/fs/cgroup/memory.max", limit, sizeof limit) ||
                 read_text("/sys/fs/cgroup/memory/memory.limit_in_bytes", limit, sizeof limit);
  double bytes = limited ? strtod(limit, NULL) : 0;
  if (bytes > 0 && bytes < 1e15) {
    say_bytes(d, "control group limit", bytes);
    if (available < 0 || bytes < available) available = bytes;
  } else {
    say(d, "control group limit", "none");
  }
  if (read_text("/sys/kernel/mm/transparent_hugepage/enabled", thp, sizeof thp)) {
    say(d, "transparent huge pages", "%s", thp);
    if (strstr(thp, "[never]"))
      advise(d, "transparent huge pages are off: `echo madvise > "
                "/sys/kernel/mm/transparent_hugepage/enabled` as root speeds large models up");
  }
  if (available >= 0 && available < 2 * GIB)
    advise(d, "%.1f GiB of memory are available: enough for small models only (see: tilth plan)",
           available / GIB);
}

static void examine_disk(doctor *d) {
  char cwd[512];
  d->section = "disk";
  double available = getcwd(cwd, sizeof cwd) ? tl_file_room(cwd) : -1;
  if (available < 0) {
    advise(d, "the current folder cannot be read");
    return;
  }
  say(d, "folder", "%s", cwd);
  say_bytes(d, "available", available);
  if (access(cwd, W_OK) != 0) advise(d, "%s is not writable: run from another folder", cwd);
  if (available < 2 * GIB)
    advise(d, "%.1f GiB of disk space are left: checkpoints and data may not fit", available / GIB);
}

void tl_doctor(int n_threads, tl_finding_fn fn, void *user, int *n_advice) {
  doctor d = {.fn = fn, .user = user};
  examine_build(&d);
  examine_cpu(&d, n_threads);
  examine_kernels(&d);
  examine_memory(&d);
  examine_disk(&d);
  examine_libraries(&d);
  *n_advice = d.n_advice;
}
