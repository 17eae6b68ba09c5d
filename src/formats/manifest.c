#include "formats/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include "base/file.h"
#include "formats/json.h"

enum { MAX_MANIFEST = 1 << 20, READ_BUFFER = 1 << 18, VERSION = 1 };

/* The text is `{...members` + seal, where the seal is the last member and the closing brace. The
 * seal's hash covers all bytes before it and its own spelling is fixed, so that no byte of the file
 * can change unnoticed. */
enum { SEAL_LEN = 28 };
static void make_seal(const char *text, size_t n, char seal[SEAL_LEN + 1]) {
  snprintf(seal, SEAL_LEN + 1, ",\"xxh3\":\"%016" PRIx64 "\"}\n", tl_hash64(text, n));
}

tl_status tl_manifest_add(tl_manifest *m, const char *name, uint64_t size, uint64_t hash,
                          tl_err *err) {
  char hex[17];
  snprintf(hex, sizeof hex, "%016" PRIx64, hash);
  if (!m->files) m->files = json_object();
  json_t *entry = json_pack("{s:I, s:s}", "size", (json_int_t)size, "xxh3", hex);
  if (json_object_set_new(m->files, name, entry) != 0)
    return tl_fail(err, TL_NOMEM, "%s: out of memory", name);
  return TL_OK;
}

static json_t *to_json(const tl_manifest *m) {
  json_t *j = json_pack("{s:s, s:i, s:I, s:I}", "format", "tilth-checkpoint", "version", VERSION,
                        "step", (json_int_t)m->step, "serial", (json_int_t)m->serial);
  int bad = 0;
  if (m->has_score) bad |= json_object_set_new(j, "score", json_real(m->score));
  bad |= m->files ? json_object_set(j, "files", m->files)
                  : json_object_set_new(j, "files", json_object());
  if (!bad) return j;
  json_decref(j);
  return NULL;
}

tl_status tl_manifest_write(const tl_manifest *m, const char *dir, tl_err *err) {
  json_t *j = to_json(m);
  char *text = j ? json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
  char *path = tl_path_join(dir, TL_MANIFEST_NAME), seal[SEAL_LEN + 1];
  json_decref(j);
  tl_out o = {0};
  tl_status s = TL_OK;
  if (!text || !path) {
    s = tl_fail(err, TL_NOMEM, "%s: out of memory for the manifest", dir);
  } else {
    size_t n = strlen(text) - 1; /* without the closing brace, which is part of the seal */
    make_seal(text, n, seal);
    s = tl_out_open(path, &o, err);
    if (s == TL_OK) s = tl_out_write(&o, text, n, err);
    if (s == TL_OK) s = tl_out_write(&o, seal, SEAL_LEN, err);
    if (s == TL_OK) s = tl_out_commit(&o, NULL, err);
    tl_out_abort(&o);
  }
  free(text);
  free(path);
  return s;
}

static bool files_are_sound(const json_t *files) {
  const char *name;
  json_t *f;
  if (!json_is_object(files)) return false;
  json_object_foreach((json_t *)(uintptr_t)files, name, f) {
    const char *hash = json_string_value(json_object_get(f, "xxh3"));
    const json_t *size = json_object_get(f, "size");
    if (!*name || *name == '.' || strchr(name, '/')) return false;
    if (!json_is_integer(size) || json_integer_value(size) < 0) return false;
    if (!hash || strlen(hash) != 16 || strspn(hash, "0123456789abcdef") != 16) return false;
  }
  return true;
}

static tl_status from_json(const char *path, const json_t *j, tl_manifest *out, tl_err *err) {
  const char *format = json_string_value(json_object_get(j, "format"));
  json_int_t version = json_integer_value(json_object_get(j, "version"));
  const json_t *step = json_object_get(j, "step"), *serial = json_object_get(j, "serial");
  json_t *files = json_object_get(j, "files"), *score = json_object_get(j, "score");
  if (!format || strcmp(format, "tilth-checkpoint"))
    return tl_fail(err, TL_DATA, "%s: not a checkpoint's manifest", path);
  if (version != VERSION)
    return tl_fail(err, TL_DATA, "%s: version %lld; this program reads version %d", path,
                   (long long)version, VERSION);
  if (!json_is_integer(step) || json_integer_value(step) < 0 || !json_is_integer(serial) ||
      (score && !json_is_number(score)) || !files_are_sound(files))
    return tl_fail(err, TL_DATA, "%s: a member is missing or has a wrong type", path);
  *out = (tl_manifest){.step = json_integer_value(step),
                       .serial = json_integer_value(serial),
                       .has_score = score != NULL,
                       .score = json_number_value(score),
                       .files = json_incref(files)};
  return TL_OK;
}

tl_status tl_manifest_read(const char *dir, tl_manifest *out, tl_err *err) {
  char *path = tl_path_join(dir, TL_MANIFEST_NAME), seal[SEAL_LEN + 1];
  tl_buf text = {0};
  if (!path) return tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
  tl_status s = tl_file_read(path, MAX_MANIFEST, &text, err);
  if (s == TL_OK) {
    size_t n = text.len < SEAL_LEN ? 0 : text.len - SEAL_LEN;
    make_seal(text.data, n, seal);
    json_t *j = NULL;
    if (n && !memcmp(text.data + n, seal, SEAL_LEN))
      s = tl_json_object(path, text.data, text.len, &j, err);
    else
      s = tl_fail(err, TL_DATA, "%s: damaged (its checksum does not match)", path);
    if (s == TL_OK) s = from_json(path, j, out, err);
    json_decref(j);
  }
  tl_buf_free(&text);
  free(path);
  return s;
}

/* read(), not a map: a bad sector is then an error and not a signal. */
static tl_status hash_file(const char *path, uint64_t *size, uint64_t *hash, tl_err *err) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return tl_fail_errno(err, "%s: cannot open", path);
  char *buffer = malloc(READ_BUFFER);
  XXH3_state_t *x = XXH3_createState();
  tl_status s = buffer && x ? TL_OK : tl_fail(err, TL_NOMEM, "%s: out of memory", path);
  if (s == TL_OK) XXH3_64bits_reset(x);
  *size = 0;
  while (s == TL_OK) {
    ssize_t n = read(fd, buffer, READ_BUFFER);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) s = tl_fail_errno(err, "%s: cannot read at byte %" PRIu64, path, *size);
    if (n <= 0) break;
    XXH3_64bits_update(x, buffer, (size_t)n);
    *size += (uint64_t)n;
  }
  if (s == TL_OK) *hash = XXH3_64bits_digest(x);
  XXH3_freeState(x);
  free(buffer);
  close(fd);
  return s;
}

static tl_status verify_file(const char *path, const json_t *entry, tl_err *err) {
  uint64_t size = 0, hash = 0,
           want = strtoull(json_string_value(json_object_get(entry, "xxh3")), NULL, 16);
  uint64_t want_size = (uint64_t)json_integer_value(json_object_get(entry, "size"));
  TL_TRY(hash_file(path, &size, &hash, err));
  if (size != want_size)
    return tl_fail(err, TL_DATA, "%s: damaged: %" PRIu64 " bytes, the manifest says %" PRIu64, path,
                   size, want_size);
  if (hash != want)
    return tl_fail(err, TL_DATA, "%s: damaged: its checksum is not the manifest's", path);
  return TL_OK;
}

tl_status tl_manifest_verify(const tl_manifest *m, const char *dir, tl_err *err) {
  const char *name;
  json_t *entry;
  json_object_foreach(m->files, name, entry) {
    char *path = tl_path_join(dir, name);
    if (!path) return tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
    tl_status s = verify_file(path, entry, err);
    free(path);
    if (s != TL_OK) return s;
  }
  return TL_OK;
}

uint64_t tl_manifest_bytes(const tl_manifest *m) {
  uint64_t sum = 0;
  const char *name;
  json_t *entry;
  json_object_foreach(m->files, name, entry) {
    sum += (uint64_t)json_integer_value(json_object_get(entry, "size"));
  }
  return sum;
}

void tl_manifest_free(tl_manifest *m) {
  json_decref(m->files);
  *m = (tl_manifest){0};
}
