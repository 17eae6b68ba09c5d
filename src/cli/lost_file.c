/* A mapped file that another program shortens, or whose disk fails, raises SIGBUS at the next read
 * of its lost part. That is an input's fault, so it ends as one: a line that names the file, exit
 * code 74, and nothing that was saved is lost. Only async-signal-safe calls here
 * (signal-safety(7)). */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

static void say(const char *text) {
  size_t n = strlen(text);
  if (write(STDERR_FILENO, text, n) < 0) return;
}

/* The next byte of a file, read in blocks; -1 at its end. */
static int next(int fd) {
  static char block[4096];
  static ssize_t have, at;
  if (at == have) {
    have = read(fd, block, sizeof block);
    at = 0;
    if (have <= 0) return -1;
  }
  return (unsigned char)block[at++];
}

static int hex_digit(int c) {
  return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static uintptr_t hex(int fd) {
  uintptr_t v = 0;
  for (int c = next(fd), d; (d = hex_digit(c)) >= 0; c = next(fd)) v = v << 4 | (uintptr_t)d;
  return v;
}

/* The file that is mapped at an address: lines of /proc/self/maps are
 * "BEGIN-END PERMISSIONS OFFSET DEVICE INODE   PATH". False: no file is. */
static bool mapped_file(uintptr_t address, char *path, size_t room) {
  int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  bool found = false;
  for (int c = 0; fd >= 0 && !found && c != -1;) {
    uintptr_t begin = hex(fd), end = hex(fd);
    size_t n = 0;
    for (c = next(fd); c != -1 && c != '\n'; c = next(fd))
      if ((n > 0 || c == '/') && n + 1 < room) path[n++] = (char)c;
    path[n] = 0;
    found = begin <= address && address < end && n > 0;
  }
  if (fd >= 0) close(fd);
  return found;
}

static void on_lost(int sig, siginfo_t *info, void *context) {
  (void)context;
  static char path[4096];
  if (!mapped_file((uintptr_t)info->si_addr, path, sizeof path)) {
    signal(sig, SIG_DFL);
    raise(sig);
    return;
  }
  say("\ntilth: error: ");
  say(path);
  say(": the file became shorter, or cannot be read any more, while it was in use; bring it back "
      "whole, then the same command, or tilth resume, goes on\n");
  _exit(tl_status_exit_code(TL_IO));
}

void tl_cli_guard_mapped_files(void) {
  struct sigaction sa = {.sa_sigaction = on_lost, .sa_flags = SA_SIGINFO};
  sigemptyset(&sa.sa_mask);
  sigaction(SIGBUS, &sa, NULL);
}
