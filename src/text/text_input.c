#include "text/text_input.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

/* A compressed file may expand this much once it has given so many bytes; beyond it is taken for
 * a decompression bomb. Honest text stays below 100:1; zlib cannot exceed 1032:1. */
enum { MAX_RATIO = 2000, RATIO_FROM = 64 << 20 };
enum { MAX_DEPTH = 64, READ_BLOCK = 1 << 18 };

static int by_name(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static tl_status add(tl_names *out, const char *path, tl_err *err) {
  if ((out->n & (out->n - 1)) == 0) { /* the capacity is the next power of two */
    char **p = realloc(out->name, (out->n ? 2 * out->n : 1) * sizeof *p);
    if (!p) return tl_fail(err, TL_NOMEM, "%s: out of memory for the list of files", path);
    out->name = p;
  }
  out->name[out->n] = strdup(path);
  if (!out->name[out->n]) return tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  out->n++;
  return TL_OK;
}

static tl_status walk(const char *dir, int depth, tl_names *out, tl_err *err);

static tl_status walk_entry(const char *path, int depth, tl_names *out, tl_err *err) {
  struct stat st;
  if (lstat(path, &st) != 0) return tl_fail_errno(err, "%s: cannot stat", path);
  if (S_ISDIR(st.st_mode)) return walk(path, depth + 1, out, err);
  if (S_ISLNK(st.st_mode) && stat(path, &st) != 0)
    return tl_fail_errno(err, "%s: a link that leads nowhere", path);
  return S_ISREG(st.st_mode) ? add(out, path, err) : TL_OK;
}

static tl_status walk(const char *dir, int depth, tl_names *out, tl_err *err) {
  if (depth > MAX_DEPTH)
    return tl_fail(err, TL_DATA, "%s: folders nested more than %d deep", dir, (int)MAX_DEPTH);
  tl_names names;
  TL_TRY(tl_dir_list(dir, &names, err));
  tl_status s = TL_OK;
  for (size_t i = 0; s == TL_OK && i < names.n; i++) {
    if (names.name[i][0] == '.') continue;
    char *path = tl_path_join(dir, names.name[i]);
    s = path ? walk_entry(path, depth, out, err) : tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
    free(path);
  }
  tl_names_free(&names);
  return s;
}

/* A file, or everything below a folder in bytewise order of the paths. */
static tl_status add_path(const char *path, tl_names *out, tl_err *err) {
  struct stat st;
  if (stat(path, &st) != 0) return tl_fail_errno(err, "%s: cannot open", path);
  if (!S_ISDIR(st.st_mode)) return add(out, path, err);
  size_t before = out->n;
  TL_TRY(walk(path, 1, out, err));
  if (out->n == before)
    return tl_fail(err, TL_NOINPUT,
                   "%s: no regular files in this folder (hidden ones are left out)", path);
  qsort(out->name + before, out->n - before, sizeof *out->name, by_name);
  return TL_OK;
}

static tl_status add_glob(const char *pattern, tl_names *out, tl_err *err) {
  glob_t g;
  int rc = glob(pattern, GLOB_NOSORT, NULL, &g);
  if (rc == GLOB_NOMATCH) return tl_fail(err, TL_NOINPUT, "%s: no file matches", pattern);
  if (rc == GLOB_NOSPACE) return tl_fail(err, TL_NOMEM, "%s: out of memory", pattern);
  if (rc != 0) return tl_fail(err, TL_IO, "%s: cannot read the folders of the pattern", pattern);
  qsort(g.gl_pathv, g.gl_pathc, sizeof *g.gl_pathv, by_name);
  tl_status s = TL_OK;
  for (size_t i = 0; s == TL_OK && i < g.gl_pathc; i++) s = add_path(g.gl_pathv[i], out, err);
  globfree(&g);
  return s;
}

tl_status tl_input_expand(const char *const *inputs, size_t n_inputs, tl_names *out, tl_err *err) {
  if (n_inputs == 0)
    return tl_fail(err, TL_NOINPUT,
                   "no input: name text files, folders, globs or - (standard input)");
  bool stdin_seen = false;
  for (size_t i = 0; i < n_inputs; i++) {
    const char *in = inputs[i];
    if (!strcmp(in, "-")) {
      if (stdin_seen) return tl_fail(err, TL_USAGE, "-: standard input can be read once only");
      stdin_seen = true;
      TL_TRY(add(out, in, err));
    } else if (!tl_file_exists(in) && strpbrk(in, "*?[")) {
      TL_TRY(add_glob(in, out, err));
    } else {
      TL_TRY(add_path(in, out, err));
    }
  }
  return TL_OK;
}

static tl_status archive_fail(tl_source *s, tl_err *err) {
  int e = archive_errno(s->archive);
  const char *why = archive_error_string(s->archive);
  tl_status code = e == ENOMEM ? TL_NOMEM : e == EIO || e == EISDIR ? TL_IO : TL_DATA;
  return tl_fail(err, code, "%s: cannot be read after %llu bytes of its content: %s",
                 s->name.len ? s->name.data : s->path, (unsigned long long)s->produced,
                 why ? why : "unknown reason");
}

static void close_file(tl_source *s) {
  if (!s->archive) return;
  archive_read_free(s->archive);
  if (s->fd != STDIN_FILENO) close(s->fd);
  s->archive = NULL;
}

/* Filters are named one by one: "all" would also take uuencode and rpm, which match by text, and
 * ones that start external programs. */
static void enable_formats(struct archive *a) {
  archive_read_support_filter_gzip(a);
  archive_read_support_filter_bzip2(a);
  archive_read_support_filter_xz(a);
  archive_read_support_filter_zstd(a);
  archive_read_support_filter_lz4(a);
  archive_read_support_format_empty(a);
  archive_read_support_format_raw(a);
  archive_read_support_format_tar(a);
  archive_read_support_format_zip(a);
}

static tl_status open_file(tl_source *s, tl_err *err) {
  s->path = s->files.name[s->next_file++];
  s->produced = 0;
  tl_buf_clear(&s->name);
  s->fd = STDIN_FILENO;
  if (strcmp(s->path, "-")) {
    do s->fd = open(s->path, O_RDONLY | O_CLOEXEC);
    while (s->fd < 0 && errno == EINTR);
    if (s->fd < 0) return tl_fail_errno(err, "%s: cannot open", s->path);
  } else {
    s->path = "standard input";
  }
  s->archive = archive_read_new();
  if (!s->archive) {
    if (s->fd != STDIN_FILENO) close(s->fd);
    return tl_fail(err, TL_NOMEM, "%s: out of memory", s->path);
  }
  enable_formats(s->archive);
  int rc = archive_read_open_fd(s->archive, s->fd, READ_BLOCK);
  return rc == ARCHIVE_OK || rc == ARCHIVE_WARN ? TL_OK : archive_fail(s, err);
}

static bool ends_with(const char *s, size_t n, const char *suffix) {
  size_t m = strlen(suffix);
  return n >= m && !strncasecmp(s + n - m, suffix, m);
}

bool tl_input_has_extension(const char *name, const char *extension) {
  static const char *const packed[] = {".gz", ".zst", ".xz", ".bz2", ".lz4"};
  size_t n = strlen(name);
  for (size_t i = 0; i < sizeof packed / sizeof *packed; i++) {
    if (!ends_with(name, n, packed[i])) continue;
    n -= strlen(packed[i]);
    break;
  }
  return ends_with(name, n, extension);
}

/* Sets the printable name: a member's name comes from outside and may hold control characters. */
static tl_status set_name(tl_source *s, const char *member, tl_err *err) {
  tl_buf_clear(&s->name);
  tl_buf_puts(&s->name, s->path);
  if (member) {
    tl_buf_putc(&s->name, ':');
    tl_buf_puts(&s->name, member);
  }
  for (size_t i = 0; i < s->name.len; i++)
    if ((unsigned char)s->name.data[i] < 0x20 || s->name.data[i] == 0x7F) s->name.data[i] = '?';
  const char *name = member ? member : s->path;
  s->json_lines = tl_input_has_extension(name, ".jsonl") || tl_input_has_extension(name, ".ndjson");
  return tl_buf_check(&s->name, err);
}

/* Hidden members are what macOS and editors leave behind ("._a.txt"), as in folders. */
static bool is_hidden(const char *member) {
  const char *slash = strrchr(member, '/');
  const char *base = slash ? slash + 1 : member;
  return base[0] == '.' && base[1] != 0;
}

tl_status tl_source_next(tl_source *s, bool *more, tl_err *err) {
  *more = true;
  for (;;) {
    if (!s->archive) {
      *more = s->next_file < s->files.n;
      if (!*more) return TL_OK;
      TL_TRY(open_file(s, err));
    }
    struct archive_entry *e;
    int rc = archive_read_next_header(s->archive, &e);
    if (rc == ARCHIVE_EOF) {
      close_file(s);
      continue;
    }
    if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN) return archive_fail(s, err);
    if (archive_format(s->archive) == ARCHIVE_FORMAT_RAW) return set_name(s, NULL, err);
    if (archive_entry_filetype(e) != AE_IFREG || archive_entry_hardlink(e)) continue;
    const char *member = archive_entry_pathname(e);
    if (!member) member = archive_entry_pathname_utf8(e);
    if (!member) member = "(name in an unknown encoding)";
    if (!is_hidden(member)) return set_name(s, member, err);
  }
}

tl_status tl_source_read(tl_source *s, void *to, size_t n, size_t *got, tl_err *err) {
  la_ssize_t r = archive_read_data(s->archive, to, n);
  if (r < 0 && r != ARCHIVE_WARN) return archive_fail(s, err);
  *got = r > 0 ? (size_t)r : 0;
  s->produced += *got;
  if (s->produced > RATIO_FROM) {
    la_int64_t in = archive_filter_bytes(s->archive, -1);
    if (in > 0 && s->produced / MAX_RATIO > (uint64_t)in)
      return tl_fail(err, TL_DATA,
                     "%s: expands more than %d times (%llu bytes from %lld): refused as a "
                     "decompression bomb; unpack it first if it is right",
                     s->name.data, (int)MAX_RATIO, (unsigned long long)s->produced, (long long)in);
  }
  return TL_OK;
}

void tl_source_close(tl_source *s) {
  close_file(s);
  tl_names_free(&s->files);
  tl_buf_free(&s->name);
}
