/* Unit tests of the text reader: units, normalisation, archives, and each way input can be bad. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <archive.h>
#include <archive_entry.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "text/text_utf8.h"
#include "tilth/text.h"

static char dir[64];

static int make_dir(void **state) {
  (void)state;
  strcpy(dir, "/tmp/tilth-text-XXXXXX");
  return mkdtemp(dir) ? 0 : -1;
}

static int drop_dir(void **state) {
  (void)state;
  return tl_remove_tree(dir, NULL) == TL_OK ? 0 : -1;
}

/* Path of a file in the test folder; a few can be in use at a time. */
static const char *at(const char *name) {
  static char paths[8][256];
  static int next;
  char *p = paths[next++ % 8];
  snprintf(p, sizeof paths[0], "%s/%s", dir, name);
  return p;
}

static const char *put_bytes(const char *name, const void *data, size_t n) {
  const char *path = at(name);
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(data, 1, n, f), n);
  assert_int_equal(fclose(f), 0);
  return path;
}

static const char *put(const char *name, const char *text) {
  return put_bytes(name, text, strlen(text));
}

static tl_text_stats stats;
static tl_err err;

/* All documents, each in [ ]; the status of the first failure. */
static tl_status read_all(const char *const *in, size_t n, const tl_text_options *o, tl_buf *out) {
  tl_text_reader *r = NULL;
  memset(&err, 0, sizeof err);
  tl_status s = tl_text_open(in, n, o, &r, &err);
  while (s == TL_OK) {
    const char *text;
    size_t len;
    s = tl_text_next(r, &text, &len, &err);
    if (s != TL_OK || !text) break;
    tl_buf_putc(out, '[');
    tl_buf_append(out, text, len);
    tl_buf_putc(out, ']');
  }
  if (r) tl_text_get_stats(r, &stats);
  tl_text_close(r);
  if (s != TL_OK) {
    assert_int_equal(err.code, s);
    assert_true(strlen(err.msg) > 10);
  }
  return s;
}

static void expect_text(const char *path, tl_text_options o, const char *expected) {
  tl_buf b = {0};
  tl_status s = read_all(&path, 1, &o, &b);
  if (s != TL_OK) print_error("%s\n", err.msg);
  assert_int_equal(s, TL_OK);
  assert_string_equal(b.data, expected);
  tl_buf_free(&b);
}

static void expect_error(const char *path, tl_text_options o, tl_status code, const char *part) {
  tl_buf b = {0};
  assert_int_equal(read_all(&path, 1, &o, &b), code);
  if (!strstr(err.msg, part)) print_error("message: %s\n", err.msg);
  assert_non_null(strstr(err.msg, part));
  tl_buf_free(&b);
}

static const tl_text_options AUTO, LINE = {.unit = TL_UNIT_LINE}, WHOLE = {.unit = TL_UNIT_FILE},
                                   JSONL = {.unit = TL_UNIT_JSONL};

static void units_cut_documents(void **state) {
  (void)state;
  const char *p = put("u.txt", "\n \na\nb\n\n\n \t\nc \n\nd");
  expect_text(p, AUTO, "[a\nb][c ][d]");
  expect_text(p, LINE, "[a][b][c ][d]");
  assert_int_equal(stats.empty, 6);
  expect_text(p, WHOLE, "[\n \na\nb\n\n\n \t\nc \n\nd]");
  assert_int_equal(stats.files, 1);
  assert_int_equal(stats.docs, 1);
  assert_int_equal(stats.bytes, 17);
  expect_text(put("v.txt", "one\n   "), AUTO, "[one]");
  expect_text(put("w.txt", "one\n\n"), AUTO, "[one]");
}

static void newlines_and_bom_are_normalised(void **state) {
  (void)state;
  expect_text(put("n.txt", "\xEF\xBB\xBFx\r\ny\r\n\r\nz\rq\r"), AUTO, "[x\ny][z\rq\r]");
  expect_text(put("n2.txt", "a\r\r\nb"), WHOLE, "[a\r\nb]");
  expect_text(put("n3.txt", "a\xEF\xBB\xBF"), WHOLE, "[a\xEF\xBB\xBF]");
  /* CR LF across the 64 KiB chunk, and a CR there that stays. */
  for (int keep = 0; keep < 2; keep++) {
    tl_buf b = {0}, want = {0};
    for (int i = 0; i < 65535; i++) tl_buf_putc(&b, 'a');
    tl_buf_puts(&want, "[");
    tl_buf_append(&want, b.data, b.len);
    tl_buf_puts(&want, keep ? "\rb\n]" : "\nb\n]");
    tl_buf_puts(&b, keep ? "\rb\r\n" : "\r\nb\r\n");
    expect_text(put_bytes("n4.txt", b.data, b.len), WHOLE, want.data);
    tl_buf_free(&b);
    tl_buf_free(&want);
  }
}

static void long_documents_are_cut_between_characters(void **state) {
  (void)state;
  tl_text_options o = {.unit = TL_UNIT_LINE, .max_doc_bytes = 4};
  expect_text(put("c.txt", "abcd\nabcde\n\xC3\xA9\xC3\xA9\xC3\xA9\nabc\xE2\x82\xAC"), o,
              "[abcd][abcd][e][\xC3\xA9\xC3\xA9][\xC3\xA9][abc][\xE2\x82\xAC]");
  assert_int_equal(stats.cut, 3);
  assert_int_equal(stats.docs, 7);
  o.unit = TL_UNIT_PARAGRAPH;
  expect_text(put("c2.txt", "abcd\n\nab\ncd\n\nabcd\nefgh\n\nx"), o,
              "[abcd][ab\nc][d][abcd][\nefg][h][x]");
  assert_int_equal(stats.cut, 2);
  o.unit = TL_UNIT_JSONL;
  expect_text(put("c3.txt", "{\"text\":\"abcdefghi\"}\n{\"text\":\"x\"}"), o, "[abcd][efgh][i][x]");
  assert_int_equal(stats.cut, 1);
  o.unit = TL_UNIT_FILE;
  expect_text(put("c4.txt", "\x80\x80\x80\x80\x80"),
              (tl_text_options){.unit = TL_UNIT_FILE, .max_doc_bytes = 4, .utf8 = TL_UTF8_KEEP},
              "[\x80\x80\x80\x80][\x80]");
  expect_error(at("c.txt"), (tl_text_options){.max_doc_bytes = 3}, TL_CONFIG, "max_doc_bytes");
}

static void lines_longer_than_any_buffer(void **state) {
  (void)state;
  tl_buf b = {0}, want = {0};
  for (int i = 0; i < 300000; i++) tl_buf_putc(&b, (char)('a' + i % 26));
  tl_buf_printf(&want, "[%s][tail]", b.data);
  tl_buf_puts(&b, "\ntail\n");
  expect_text(put_bytes("l.txt", b.data, b.len), LINE, want.data);
  tl_buf_free(&b);
  tl_buf_free(&want);
}

static void utf8_policies(void **state) {
  (void)state;
  const char *p = put("bad.txt", "good\nx\xC3(\xE2\x82z\xF0\x9F\x98\n\xED\xA0\x80\nend");
  tl_text_options o = {.unit = TL_UNIT_LINE};
  expect_text(p, o,
              "[good][x\xEF\xBF\xBD(\xEF\xBF\xBDz\xEF\xBF\xBD]"
              "[\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD][end]");
  assert_int_equal(stats.bad_utf8, 2);
  o.utf8 = TL_UTF8_SKIP;
  expect_text(p, o, "[good][end]");
  assert_int_equal(stats.skipped, 2);
  o.utf8 = TL_UTF8_KEEP;
  expect_text(p, o, "[good][x\xC3(\xE2\x82z\xF0\x9F\x98][\xED\xA0\x80][end]");
  o.utf8 = TL_UTF8_ERROR;
  expect_error(p, o, TL_DATA, "byte 6;");
  expect_error(put("bad2.txt", "ab\xE2\x82"), o, TL_DATA, "byte 2;");
  expect_error(put("bad3.txt", "\xEF\xBB\xBF\r\na\xFF"), o, TL_DATA, "byte 6;");
  expect_text(put("ok.txt", "\xF0\x9F\x98\x80\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF"), o,
              "[\xF0\x9F\x98\x80\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF]");
  o.utf8 = TL_UTF8_SKIP;
  expect_error(put("bad4.txt", "\xFF"), o, TL_DATA, "skipped");
}

/* Error offsets and checks are the same wherever the 64 KiB chunk cuts a sequence. */
static void utf8_errors_across_chunks(void **state) {
  (void)state;
  tl_text_options o = {.unit = TL_UNIT_FILE, .utf8 = TL_UTF8_ERROR};
  for (size_t before = 65530; before <= 65536; before++) {
    char want[32];
    tl_buf b = {0};
    for (size_t i = 0; i < before; i++) tl_buf_putc(&b, 'a');
    tl_buf_puts(&b, "\xF0\x9F\x98\x80");
    const char *p = put_bytes("x.txt", b.data, b.len);
    tl_buf out = {0};
    assert_int_equal(read_all(&p, 1, &o, &out), TL_OK);
    assert_int_equal(out.len, before + 6);
    tl_buf_free(&out);
    tl_buf_puts(&b, "\xF0\x9F\x98z");
    snprintf(want, sizeof want, "byte %zu;", before + 4);
    expect_error(put_bytes("x.txt", b.data, b.len), o, TL_DATA, want);
    tl_buf_free(&b);
  }
}

/* Against the definition (Unicode table 3-7), for every sequence of up to three bytes. */
static void utf8_matches_its_definition(void **state) {
  (void)state;
  for (unsigned v = 0; v < 1u << 24; v += 7) {
    unsigned char s[3] = {(unsigned char)(v >> 16), (unsigned char)(v >> 8), (unsigned char)v};
    bool three = s[0] >= 0xE0 && s[0] <= 0xEF && (s[1] & 0xC0) == 0x80 && (s[2] & 0xC0) == 0x80;
    unsigned code = (s[0] & 15u) << 12 | (s[1] & 63u) << 6 | (s[2] & 63u);
    three = three && code >= 0x800 && !(code >= 0xD800 && code <= 0xDFFF);
    bool two = s[0] >= 0xC2 && s[0] <= 0xDF && (s[1] & 0xC0) == 0x80;
    size_t want = s[0] < 0x80 ? 1 : three ? 3 : two ? 2 : 0;
    if (want == 0)
      assert_int_equal(tl_utf8_valid_prefix((char *)s, 3), 0);
    else
      assert_true(tl_utf8_valid_prefix((char *)s, 3) >= want);
  }
}

static void json_lines(void **state) {
  (void)state;
  expect_text(put("j.jsonl", "{\"text\":\"a\\nb\\u00e9\",\"n\":18446744073709551616}\r\n\n \n"
                             "{\"x\":1,\"text\":\"\"}\n{\"text\":\"\\ud83d\\ude00\"}"),
              AUTO, "[a\nb\xC3\xA9][\xF0\x9F\x98\x80]");
  assert_int_equal(stats.empty, 1);
  tl_text_options key = {.unit = TL_UNIT_JSONL, .text_key = "body"};
  expect_text(put("k.txt", "{\"body\":\"q\"}"), key, "[q]");
  expect_text(put("k2.jsonl", "{\"text\":\"q\xFF\"}"), AUTO, "[q\xEF\xBF\xBD]");
  assert_int_equal(stats.bad_utf8, 1);
  expect_error(at("k.txt"), JSONL, TL_DATA, "k.txt:1: the object has no key \"text\"");
  expect_error(put("e1.jsonl", "{\"text\":\"a\"}\n\n{\"text\":}"), AUTO, TL_DATA,
               "e1.jsonl:3: bad JSON");
  expect_error(put("e2.jsonl", "{\"text\":5}"), AUTO, TL_DATA,
               "e2.jsonl:1: the value of \"text\" is not");
  expect_error(put("e3.jsonl", "{\"text\":\"a\"}\n[1]\n"), AUTO, TL_DATA,
               "e3.jsonl:2: expected one JSON");
  expect_error(put("e4.jsonl", "\n{\"text\":\"\\ud800 x\"}"), AUTO, TL_DATA,
               "e4.jsonl:2: bad JSON");
  expect_error(put("e5.jsonl", "{\"text\":\"a\",\"text\":\"b\"}"), AUTO, TL_DATA, "e5.jsonl:1: ");
  expect_error(put("e6.jsonl", "{\"text\":\"a\"} {\"text\":\"b\"}"), AUTO, TL_DATA, "e6.jsonl:1: ");
  tl_buf b = {0};
  for (int i = 0; i < 100000; i++) tl_buf_putc(&b, '[');
  expect_error(put_bytes("e7.jsonl", b.data, b.len), AUTO, TL_DATA, "e7.jsonl:1: bad JSON");
  tl_buf_free(&b);
}

static void binary_is_refused(void **state) {
  (void)state;
  expect_error(put_bytes("b.bin", "text\0more", 9), AUTO, TL_DATA,
               "b.bin: binary data (a NUL byte at byte 4)");
  expect_error(put_bytes("b16.txt", "\xFF\xFEh\0i\0", 6), AUTO, TL_DATA, "UTF-16");
  char *big = malloc(70000);
  memset(big, 'a', 70000);
  big[65536] = 0;
  tl_buf b = {0};
  const char *p = put_bytes("late.txt", big, 70000);
  assert_int_equal(read_all(&p, 1, &WHOLE, &b), TL_OK);
  assert_int_equal(b.len, 70002);
  tl_buf_free(&b);
  big[65535] = 0;
  expect_error(put_bytes("late.txt", big, 70000), WHOLE, TL_DATA, "byte 65535");
  free(big);
}

static void folders_globs_and_order(void **state) {
  (void)state;
  assert_int_equal(tl_mkdirs(at("d/b"), NULL), TL_OK);
  assert_int_equal(tl_mkdirs(at("d/.git"), NULL), TL_OK);
  put("d/c.txt", "c");
  put("d/a.txt", "a");
  put("d/b/x.jsonl", "{\"text\":\"b\"}");
  put("d/.hidden", "no");
  put("d/.git/x", "no");
  put("d/empty.txt", "");
  assert_int_equal(symlink(at("d"), at("d/loop")), 0);
  expect_text(at("d"), AUTO, "[a][b][c]");
  expect_text(at("d/*.txt"), AUTO, "[a][c]");
  expect_text(at("d/[b]"), AUTO, "[b]");
  put("d/q[1].txt", "lit");
  expect_text(at("d/q[1].txt"), AUTO, "[lit]");
  const char *two[] = {at("d/c.txt"), at("d/a.txt")};
  tl_buf b = {0};
  assert_int_equal(read_all(two, 2, NULL, &b), TL_OK);
  assert_string_equal(b.data, "[c][a]");
  tl_buf_free(&b);
  assert_int_equal(symlink("/nowhere/at/all", at("d/b/dead")), 0);
  expect_error(at("d"), AUTO, TL_NOINPUT, "leads nowhere");
}

static void missing_input(void **state) {
  (void)state;
  expect_error(at("nothing"), AUTO, TL_NOINPUT, "nothing");
  expect_error(at("no*.zzz"), AUTO, TL_NOINPUT, "no file matches");
  expect_error(put("zero.txt", ""), AUTO, TL_NOINPUT, "zero.txt");
  expect_error(put("blank.txt", "\n \n"), AUTO, TL_NOINPUT, "holds no text");
  assert_int_equal(tl_mkdirs(at("hollow"), NULL), TL_OK);
  expect_error(at("hollow"), AUTO, TL_NOINPUT, "no regular files");
  tl_buf b = {0};
  assert_int_equal(read_all(NULL, 0, NULL, &b), TL_NOINPUT);
  const char *twice[] = {"-", "-"};
  assert_int_equal(read_all(twice, 2, NULL, &b), TL_USAGE);
  expect_error(at("blank.txt"), (tl_text_options){.unit = 77}, TL_CONFIG, "unit");
  expect_error(at("blank.txt"), (tl_text_options){.utf8 = 77}, TL_CONFIG, "policy");
}

typedef struct member {
  const char *name, *text;
  size_t n;
} member;

static const char *pack(const char *name, int format, int filter, const member *m, size_t n) {
  const char *path = at(name);
  struct archive *a = archive_write_new();
  assert_int_equal(archive_write_add_filter(a, filter), ARCHIVE_OK);
  assert_int_equal(archive_write_set_format(a, format), ARCHIVE_OK);
  assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
  for (size_t i = 0; i < n; i++) {
    size_t len = m[i].n ? m[i].n : strlen(m[i].text);
    struct archive_entry *e = archive_entry_new();
    archive_entry_set_pathname(e, m[i].name);
    archive_entry_set_size(e, (la_int64_t)len);
    archive_entry_set_filetype(e, AE_IFREG);
    archive_entry_set_perm(e, 0644);
    assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
    assert_int_equal(archive_write_data(a, m[i].text, len), len);
    archive_entry_free(e);
  }
  assert_int_equal(archive_write_close(a), ARCHIVE_OK);
  archive_write_free(a);
  return path;
}

static void compression_is_recognised_by_content(void **state) {
  (void)state;
  static const int filters[] = {ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_BZIP2, ARCHIVE_FILTER_XZ,
                                ARCHIVE_FILTER_ZSTD};
  member one = {"x", "p\n\nq", 0};
  member three[] = {{"../../up.txt", "a\n\nb", 0},
                    {"./._up.txt", "\0\1", 2},
                    {"in.jsonl", "{\"text\":\"c\"}", 0}};
  for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
    expect_text(pack("raw.dat", ARCHIVE_FORMAT_RAW, filters[i], &one, 1), AUTO, "[p][q]");
    expect_text(pack("t.dat", ARCHIVE_FORMAT_TAR_PAX_RESTRICTED, filters[i], three, 3), AUTO,
                "[a][b][c]");
    assert_int_equal(stats.files, 2);
  }
  expect_text(pack("t.tar", ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FILTER_NONE, three, 3), AUTO,
              "[a][b][c]");
  expect_text(pack("z.zip", ARCHIVE_FORMAT_ZIP, ARCHIVE_FILTER_NONE, three, 3), AUTO, "[a][b][c]");
  member js = {"x", "{\"text\":\"j\"}", 0};
  expect_text(pack("s.jsonl.gz", ARCHIVE_FORMAT_RAW, ARCHIVE_FILTER_GZIP, &js, 1), AUTO, "[j]");
  assert_false(tl_file_exists(at("../up.txt")));
  /* Text that merely looks like uuencode stays text. */
  expect_text(put("uu.txt", "begin 644 file\n#86)C\n`\nend\n"), WHOLE,
              "[begin 644 file\n#86)C\n`\nend\n]");
}

static void archive_errors_name_the_member(void **state) {
  (void)state;
  member bad[] = {{"ok.txt", "fine", 0}, {"evil\n\x1b[31m.txt", "a\0b", 3}};
  expect_error(pack("m.tar", ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FILTER_NONE, bad, 2), AUTO, TL_DATA,
               "m.tar:evil??[31m.txt: binary data");
  member js[] = {{"a.ndjson", "{\"text\":\"j\"}\n{}", 0}};
  expect_error(pack("m.tar", ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FILTER_GZIP, js, 1), AUTO, TL_DATA,
               "m.tar:a.ndjson:2: ");
}

/* A compressed file cut anywhere is an error, never a shorter text. */
static void truncated_compression(void **state) {
  (void)state;
  static const int filters[] = {ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_BZIP2, ARCHIVE_FILTER_XZ,
                                ARCHIVE_FILTER_ZSTD};
  char text[2000];
  for (size_t i = 0; i < sizeof text; i++) text[i] = (char)('a' + (i * i / 7) % 26);
  member one = {"x", text, sizeof text};
  for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
    tl_buf b = {0}, out = {0};
    const char *p = pack("cut.dat", ARCHIVE_FORMAT_RAW, filters[i], &one, 1);
    assert_int_equal(tl_file_read(p, 1 << 20, &b, NULL), TL_OK);
    for (size_t n = b.len / 2; n < b.len - 8; n += 13) {
      p = put_bytes("cut.dat", b.data, n);
      tl_status s = read_all(&p, 1, &WHOLE, &out);
      if (s != TL_DATA) print_error("filter %d, %zu of %zu bytes\n", filters[i], n, b.len);
      assert_int_equal(s, TL_DATA);
    }
    tl_buf_free(&b);
    tl_buf_free(&out);
  }
}

static void bombs_are_refused(void **state) {
  (void)state;
  struct archive *a = archive_write_new();
  archive_write_add_filter_zstd(a);
  archive_write_set_format_raw(a);
  const char *path = at("bomb.zst");
  assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
  struct archive_entry *e = archive_entry_new();
  archive_entry_set_filetype(e, AE_IFREG);
  assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
  char *block = malloc(1 << 20);
  memset(block, 'a', 1 << 20);
  for (int i = 0; i < 100; i++) assert_int_equal(archive_write_data(a, block, 1 << 20), 1 << 20);
  archive_entry_free(e);
  archive_write_free(a);
  free(block);
  tl_text_options o = {.unit = TL_UNIT_FILE, .max_doc_bytes = 1 << 20};
  tl_buf b = {0};
  tl_text_reader *r = NULL;
  assert_int_equal(tl_text_open(&path, 1, &o, &r, NULL), TL_OK);
  const char *text = "";
  size_t len;
  tl_status s = TL_OK;
  while (s == TL_OK && text) s = tl_text_next(r, &text, &len, &err);
  assert_int_equal(s, TL_DATA);
  assert_non_null(strstr(err.msg, "bomb"));
  tl_text_get_stats(r, &stats);
  assert_true(stats.bytes <= 65 << 20);
  tl_text_close(r);
  tl_buf_free(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(units_cut_documents),
      cmocka_unit_test(newlines_and_bom_are_normalised),
      cmocka_unit_test(long_documents_are_cut_between_characters),
      cmocka_unit_test(lines_longer_than_any_buffer),
      cmocka_unit_test(utf8_policies),
      cmocka_unit_test(utf8_errors_across_chunks),
      cmocka_unit_test(utf8_matches_its_definition),
      cmocka_unit_test(json_lines),
      cmocka_unit_test(binary_is_refused),
      cmocka_unit_test(folders_globs_and_order),
      cmocka_unit_test(missing_input),
      cmocka_unit_test(compression_is_recognised_by_content),
      cmocka_unit_test(archive_errors_name_the_member),
      cmocka_unit_test(truncated_compression),
      cmocka_unit_test(bombs_are_refused),
  };
  return cmocka_run_group_tests(tests, make_dir, drop_dir);
}
