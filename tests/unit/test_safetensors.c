/* Unit tests of src/formats/safetensors*.c: the conformance list of the format, truncations,
 * mutations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "tilth/safetensors.h"

static char g_dir[64], g_file[96];

static int make_dir(void **state) {
  (void)state;
  /* In memory where possible: these tests sync often, and a shared disk is slow at that. */
  bool memory = access("/dev/shm", W_OK) == 0;
  snprintf(g_dir, sizeof g_dir, "%s/tl_st_XXXXXX", memory ? "/dev/shm" : "/tmp");
  if (!mkdtemp(g_dir)) return -1;
  snprintf(g_file, sizeof g_file, "%s/model.safetensors", g_dir);
  return 0;
}

static int remove_dir(void **state) {
  (void)state;
  return tl_remove_tree(g_dir, NULL) == TL_OK ? 0 : -1;
}

static void put_file(const char *path, const void *data, size_t n) {
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(data, 1, n, f), n);
  assert_int_equal(fclose(f), 0);
}

/* A file with this header and `n` data bytes. */
static void put(const char *header, size_t header_len, size_t n) {
  tl_buf b = {0};
  for (int i = 0; i < 8; i++) tl_buf_putc(&b, (char)((uint64_t)header_len >> 8 * i));
  tl_buf_append(&b, header, header_len);
  for (size_t i = 0; i < n; i++) tl_buf_putc(&b, (char)i);
  put_file(g_file, b.data, b.len);
  tl_buf_free(&b);
}

static tl_status open_close(tl_err *err) {
  tl_st *st = NULL;
  tl_status s = tl_st_open(g_file, &st, err);
  if (s == TL_OK) tl_st_close(st);
  return s;
}

static const float g_a[6] = {1, -2, 3.5f, 0, 1e-20f, -1e30f};
static const uint16_t g_h[3] = {0x3f80, 0xc000, 0x0001};
static const int64_t g_i[1] = {-5};

static const tl_st_tensor g_tensors[] = {
    {.name = "h.0.w", .dtype = TL_ST_F32, .ndim = 2, .shape = {2, 3}, .data = g_a},
    {.name = "bf", .dtype = TL_ST_BF16, .ndim = 1, .shape = {3}, .data = g_h},
    {.name = "step", .dtype = TL_ST_I64, .ndim = 0, .data = g_i},
    {.name = "empty", .dtype = TL_ST_F32, .ndim = 2, .shape = {0, 7}, .data = NULL},
    {.name = "Ünï\"code", .dtype = TL_ST_F16, .ndim = 1, .shape = {3}, .data = g_h},
};

static void write_sample(uint64_t *size, uint64_t *hash) {
  static const tl_st_pair meta[] = {{"producer", "test"}};
  assert_int_equal(tl_st_write(g_file, g_tensors, 5, meta, 1, size, hash, NULL), TL_OK);
}

static void written_files_read_back(void **state) {
  (void)state;
  uint64_t size = 0, hash = 0, hash2 = 0;
  write_sample(&size, &hash);
  tl_buf file = {0};
  assert_int_equal(tl_file_read(g_file, 1 << 20, &file, NULL), TL_OK);
  assert_int_equal(file.len, size);
  assert_true(tl_hash64(file.data, file.len) == hash);
  uint64_t n = 0;
  memcpy(&n, file.data, 8);
  assert_int_equal((8 + n) % 64, 0);
  assert_int_equal(file.data[8], '{');
  assert_int_equal(size, 8 + n + 24 + 6 + 8 + 6);
  tl_buf_free(&file);

  tl_st *st = NULL;
  assert_int_equal(tl_st_open(g_dir, &st, NULL), TL_OK);
  assert_int_equal(tl_st_count(st), 5);
  assert_string_equal(tl_st_meta(st, "format"), "pt");
  assert_string_equal(tl_st_meta(st, "producer"), "test");
  assert_null(tl_st_meta(st, "nothing"));
  for (int i = 0; i < 5; i++) {
    const tl_st_tensor *t = tl_st_find(st, g_tensors[i].name);
    assert_non_null(t);
    assert_int_equal(t->dtype, g_tensors[i].dtype);
    assert_int_equal(t->ndim, g_tensors[i].ndim);
    for (int k = 0; k < t->ndim; k++) assert_int_equal(t->shape[k], g_tensors[i].shape[k]);
    if (t->size) assert_memory_equal(t->data, g_tensors[i].data, t->size);
    if (i)
      assert_true(strcmp(tl_st_at(st, (size_t)i - 1)->name, tl_st_at(st, (size_t)i)->name) < 0);
  }
  assert_null(tl_st_find(st, "h.0"));
  float v[6];
  assert_int_equal(tl_st_read_f32(tl_st_find(st, "h.0.w"), v, NULL), TL_OK);
  assert_memory_equal(v, g_a, sizeof g_a);
  assert_int_equal(tl_st_read_f32(tl_st_find(st, "bf"), v, NULL), TL_OK);
  assert_true(v[0] == 1 && v[1] == -2);
  tl_err err = {0};
  assert_int_equal(tl_st_read_f32(tl_st_find(st, "step"), v, &err), TL_DATA);
  assert_non_null(strstr(err.msg, "step"));
  tl_st_close(st);

  /* The same tensors in another order give the same bytes. */
  tl_st_tensor back[5];
  for (int i = 0; i < 5; i++) back[i] = g_tensors[4 - i];
  static const tl_st_pair meta[] = {{"producer", "test"}};
  assert_int_equal(tl_st_write(g_file, back, 5, meta, 1, NULL, &hash2, NULL), TL_OK);
  assert_true(hash == hash2);
}

static void half_precision_is_exact(void **state) {
  (void)state;
  static const uint16_t h[] = {0x0000, 0x8000, 0x3c00, 0xc000, 0x7bff,
                               0x0001, 0x03ff, 0x0400, 0x7c00};
  static const float want[] = {0, -0.0f, 1, -2, 65504, 0x1p-24f, 0x1.ff8p-15f, 0x1p-14f, 0};
  tl_st_tensor t = {.name = "t", .dtype = TL_ST_F16, .ndim = 1, .shape = {9}, .data = h};
  float got[9];
  assert_int_equal(tl_st_read_f32(&t, got, NULL), TL_OK);
  assert_memory_equal(got, want, 8 * sizeof *got);
  assert_true(got[8] > 3.4e38f);
  static const double d[] = {0.5, -3};
  t = (tl_st_tensor){.name = "t", .dtype = TL_ST_F64, .ndim = 1, .shape = {2}, .data = d};
  assert_int_equal(tl_st_read_f32(&t, got, NULL), TL_OK);
  assert_true(got[0] == 0.5f && got[1] == -3);
}

static void writer_refuses_what_readers_would(void **state) {
  (void)state;
  tl_st_tensor t[2] = {g_tensors[0], g_tensors[0]};
  assert_int_equal(tl_st_write(g_file, t, 2, NULL, 0, NULL, NULL, NULL), TL_CONFIG);
  t[0].name = "__metadata__";
  assert_int_equal(tl_st_write(g_file, t, 1, NULL, 0, NULL, NULL, NULL), TL_CONFIG);
  t[0].name = "bad\xff";
  assert_int_equal(tl_st_write(g_file, t, 1, NULL, 0, NULL, NULL, NULL), TL_CONFIG);
  t[0] = g_tensors[0];
  t[0].shape[0] = -1;
  assert_int_equal(tl_st_write(g_file, t, 1, NULL, 0, NULL, NULL, NULL), TL_CONFIG);
  t[0].shape[0] = t[0].shape[1] = INT64_MAX;
  assert_int_equal(tl_st_write(g_file, t, 1, NULL, 0, NULL, NULL, NULL), TL_CONFIG);
  assert_int_equal(tl_st_write("/no/such/folder/x", g_tensors, 1, NULL, 0, NULL, NULL, NULL),
                   TL_NOINPUT);
}

static void headers_are_checked(void **state) {
  (void)state;
#define T(dtype, shape, off)                                                                       \
  "{\"t\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" off "}}"
  static const struct {
    const char *header;
    size_t data;
    const char *part; /* NULL: accepted */
  } cases[] = {
      {"{}", 0, NULL},
      {"  {}   ", 0, NULL},
      {"{\"__metadata__\":null}", 0, NULL},
      {"{\"__metadata__\":{\"format\":\"pt\"}}", 0, NULL},
      {T("F32", "[]", "[0,4]"), 4, NULL},
      {T("F32", "[2,0]", "[0,0]"), 0, NULL},
      {T("F4", "[4]", "[0,2]"), 2, NULL},
      {T("F6_E2M3", "[4]", "[0,3]"), 3, NULL},
      {T("BOOL", "[3]", "[0,3]"), 3, NULL},
      {"", 0, "not valid JSON"},
      {"{", 0, "not valid JSON"},
      {"[]", 0, "not a JSON object"},
      {"{}x", 0, "not valid JSON"},
      {"{\"\xff\":1}", 0, "not valid JSON"},
      {"{\"__metadata__\":{\"a\":1}}", 0, "the value of 'a' is not a string"},
      {"{\"__metadata__\":[]}", 0, "__metadata__ is not an object"},
      {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "not valid JSON"},
      {"{\"t\":3}", 0, "no dtype"},
      {"{\"t\":{\"shape\":[],\"data_offsets\":[0,4]}}", 4, "no dtype"},
      {"{\"t\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "shape is not an array"},
      {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "data_offsets"},
      {T("F33", "[1]", "[0,4]"), 4, "'t': unknown dtype 'F33'"},
      {T("F32", "[1.0]", "[0,4]"), 4, "dimension 0"},
      {T("F32", "[-1]", "[0,4]"), 4, "dimension 0"},
      {T("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "at most 8"},
      {T("F32", "[1]", "[0]"), 4, "data_offsets"},
      {T("F32", "[1]", "[0,4,8]"), 4, "data_offsets"},
      {T("F32", "[1]", "[4,0]"), 4, "data_offsets"},
      {T("F32", "[1]", "[-4,0]"), 4, "data_offsets"},
      {T("F32", "[1]", "[0,8]"), 8, "span 8 bytes"},
      {T("F32", "[1]", "[4,8]"), 8, "begins at byte 4"},
      {T("F32", "[2]", "[0,8]"), 7, "truncated"},
      {T("F32", "[2]", "[0,8]"), 9, "1 bytes after the last tensor"},
      {T("F4", "[3]", "[0,1]"), 1, "not a whole number of bytes"},
      {T("F32", "[4611686018427387904,4]", "[0,0]"), 0, "too large"},
      {T("F32", "[4611686018427387904,4,0]", "[0,0]"), 0, "too large"},
      {T("F32", "[99999999999999999999]", "[0,0]"), 0, "not valid JSON"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
       "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[3,7]}}",
       7, "'b' begins at byte 3 of the data, expected 4"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
       "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[5,9]}}",
       9, "'b' begins at byte 5 of the data, expected 4"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
       "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
       2, "not valid JSON"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    put(cases[i].header, strlen(cases[i].header), cases[i].data);
    tl_err err = {0};
    tl_status s = open_close(&err);
    if (s != (cases[i].part ? TL_DATA : TL_OK)) fail_msg("%s: %s", cases[i].header, err.msg);
    if (cases[i].part && (!strstr(err.msg, cases[i].part) || !strstr(err.msg, g_file)))
      fail_msg("%s: '%s' lacks '%s'", cases[i].header, err.msg, cases[i].part);
  }
}

static void lengths_are_checked(void **state) {
  (void)state;
  static const struct {
    uint64_t n;
    const char *part;
  } cases[] = {{100000001, "exceeds the limit"},
               {UINT64_MAX, "exceeds the limit"},
               {UINT64_MAX - 7, "exceeds the limit"},
               {3, "it is truncated"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char bytes[10] = "\0\0\0\0\0\0\0\0{}";
    memcpy(bytes, &cases[i].n, 8);
    put_file(g_file, bytes, sizeof bytes);
    tl_err err = {0};
    assert_int_equal(open_close(&err), TL_DATA);
    assert_non_null(strstr(err.msg, cases[i].part));
  }
  unlink(g_file);
  assert_int_equal(open_close(NULL), TL_NOINPUT);
}

static void every_truncation_is_detected(void **state) {
  (void)state;
  uint64_t size = 0;
  write_sample(&size, NULL);
  for (uint64_t n = size; n-- > 0;) {
    assert_int_equal(truncate(g_file, (off_t)n), 0);
    if (open_close(NULL) != TL_DATA)
      fail_msg("a file cut to %llu bytes is read", (unsigned long long)n);
  }
}

static void mutations_never_crash(void **state) {
  (void)state;
  write_sample(NULL, NULL);
  tl_buf file = {0};
  assert_int_equal(tl_file_read(g_file, 1 << 20, &file, NULL), TL_OK);
  char *copy = malloc(file.len);
  uint32_t x = 7;
  int ok = 0, bad = 0;
  static const char bytes[] = "\0\xff{}[]\",:019eE.-\\u ";
  for (int round = 0; round < 3000; round++) {
    memcpy(copy, file.data, file.len);
    for (int k = 0; k <= round % 5; k++) {
      x = x * 1664525u + 1013904223u;
      copy[(x >> 8) % file.len] =
          (x >> 30) ? bytes[(x >> 20) % (sizeof bytes - 1)] : (char)(x >> 16);
    }
    put_file(g_file, copy, file.len);
    tl_st *st = NULL;
    tl_err err = {0};
    if (tl_st_open(g_file, &st, &err) == TL_OK) {
      ok++;
      /* Touch every byte that the reader says is there. */
      for (size_t i = 0; i < tl_st_count(st); i++) {
        const tl_st_tensor *t = tl_st_at(st, i);
        for (uint64_t b = 0; b < t->size; b++) x ^= ((const unsigned char *)t->data)[b];
      }
      tl_st_close(st);
    } else {
      bad++;
      assert_true(strlen(err.msg) > 0);
    }
  }
  assert_true(ok > 0 && bad > 0);
  free(copy);
  tl_buf_free(&file);
}

static void put_index(const char *text) {
  char path[160];
  snprintf(path, sizeof path, "%s/model.safetensors.index.json", g_dir);
  put_file(path, text, strlen(text));
}

static tl_status open_dir(tl_st **st, tl_err *err) {
  return tl_st_open(g_dir, st, err);
}

static void shards_are_read_through_the_index(void **state) {
  (void)state;
  char a[160], b[160];
  snprintf(a, sizeof a, "%s/a.safetensors", g_dir);
  snprintf(b, sizeof b, "%s/b.safetensors", g_dir);
  unlink(g_file);
  assert_int_equal(tl_st_write(a, g_tensors, 2, NULL, 0, NULL, NULL, NULL), TL_OK);
  assert_int_equal(tl_st_write(b, g_tensors + 1, 2, NULL, 0, NULL, NULL, NULL), TL_OK);
  tl_st *st = NULL;
  tl_err err = {0};
  put_index(
      "{\"metadata\":{},\"weight_map\":{\"step\":\"b.safetensors\",\"h.0.w\":\"a.safetensors\","
      "\"bf\":\"b.safetensors\"}}");
  assert_int_equal(open_dir(&st, &err), TL_OK);
  assert_int_equal(tl_st_count(st), 3);
  assert_non_null(tl_st_find(st, "bf"));
  assert_memory_equal(tl_st_find(st, "h.0.w")->data, g_a, sizeof g_a);
  tl_st_close(st);
  static const struct {
    const char *text, *part;
    tl_status status;
  } cases[] = {
      {"{\"weight_map\":{\"x\":\"a.safetensors\"}}", "'x' is not in a.safetensors", TL_DATA},
      {"{\"weight_map\":{\"x\":\"../a.safetensors\"}}", "not the name of a file", TL_DATA},
      {"{\"weight_map\":{\"x\":\"/etc/passwd\"}}", "not the name of a file", TL_DATA},
      {"{\"weight_map\":{\"x\":\"\"}}", "not the name of a file", TL_DATA},
      {"{\"weight_map\":{\"x\":\"..\"}}", "not the name of a file", TL_DATA},
      {"{\"weight_map\":{\"x\":3}}", "not the name of a file", TL_DATA},
      {"{\"weight_map\":{\"x\":\"none.safetensors\"}}", "none.safetensors", TL_NOINPUT},
      {"{\"weight_map\":[]}", "no object weight_map", TL_DATA},
      {"[]", "not a JSON object", TL_DATA},
      {"{", "not valid JSON", TL_DATA},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    put_index(cases[i].text);
    assert_int_equal(open_dir(&st, &err), cases[i].status);
    if (!strstr(err.msg, cases[i].part)) fail_msg("'%s' lacks '%s'", err.msg, cases[i].part);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(written_files_read_back),
      cmocka_unit_test(half_precision_is_exact),
      cmocka_unit_test(writer_refuses_what_readers_would),
      cmocka_unit_test(headers_are_checked),
      cmocka_unit_test(lengths_are_checked),
      cmocka_unit_test(every_truncation_is_detected),
      cmocka_unit_test(mutations_never_crash),
      cmocka_unit_test(shards_are_read_through_the_index),
  };
  return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
