/* Unit tests of prepare and of the shards: round trips, splits, refusals, and damage of all kinds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "data/shard.h"
#include "text/tok_internal.h"
#include "tilth/dataset.h"

/* The library's tokenizer of bytes, in a copy with an encoder that fails when it is told to. */
static struct {
  int fail_at; /* byte that cannot be encoded, or -1 */
  bool out_of_range, silent;
} fault = {-1, false, false};
static tl_tokenizer *bytes, faulty;
static tok_type faulty_type;

static tl_status encode_faulty(const tl_tokenizer *t, const unsigned char *p, size_t len,
                               tl_ids *out, tl_err *e) {
  if (fault.silent) return TL_OK;
  if (fault.fail_at >= 0 && memchr(p, fault.fail_at, len))
    return tl_fail(e, TL_DATA, "fake failure");
  if (fault.out_of_range) tl_ids_push(out, t->n);
  return bytes->type->encode(t, p, len, out, e);
}

static uint32_t id_of(char c) {
  return bytes->byte_id[(unsigned char)c];
}

static char dir[64];
static tl_ctx *ctx1, *ctx3;
static int cancel_after = -1;
static tl_err err;

static int cancel(void *user) {
  (void)user;
  return cancel_after >= 0 && cancel_after-- == 0;
}

static tl_status no_text(void *user, const char **text, size_t *len, tl_err *e) {
  (void)user;
  (void)len;
  (void)e;
  *text = NULL;
  return TL_OK;
}

static int set_up(void **state) {
  (void)state;
  /* In memory where possible: the many synced writes would wait for the disk. */
  strcpy(dir, access("/dev/shm", W_OK) ? "/tmp/tilth-data-XXXXXX" : "/dev/shm/tilth-data-XXXXXX");
  tl_ctx_options o = {.n_threads = 1, .cancel = cancel};
  if (!mkdtemp(dir) || tl_ctx_new(&o, &ctx1, NULL) != TL_OK) return -1;
  o.n_threads = 3;
  if (tl_ctx_new(&o, &ctx3, NULL) != TL_OK) return -1;
  tl_tokenizer_train_options to = {.type = "bytes"};
  if (tl_tokenizer_train(ctx1, &to, no_text, NULL, &bytes, NULL) != TL_OK) return -1;
  faulty = *bytes;
  faulty_type = *bytes->type;
  faulty_type.encode = encode_faulty;
  faulty.type = &faulty_type;
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  tl_ctx_free(ctx1);
  tl_ctx_free(ctx3);
  tl_tokenizer_free(bytes);
  return tl_remove_tree(dir, NULL) == TL_OK ? 0 : -1;
}

/* Path of `name` in the test folder; equal names share one string, which stays valid. */
static const char *at(const char *name) {
  static char paths[64][256];
  char p[256];
  snprintf(p, sizeof p, "%s/%s", dir, name);
  int i = 0;
  while (paths[i][0] && strcmp(paths[i], p)) i++;
  assert_true(i < 63);
  return strcpy(paths[i], p);
}

static void put(const char *path, const void *data, size_t n) {
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(data, 1, n, f), n);
  assert_int_equal(fclose(f), 0);
}

static tl_buf get(const char *path) {
  tl_buf b = {0};
  assert_int_equal(tl_file_read(path, 1 << 30, &b, NULL), TL_OK);
  return b;
}

/* `n` lines of one to sixty letters each; every seventh repeats the line "the same". */
static void make_text(const char *path, int n) {
  tl_buf b = {0};
  uint64_t x = 1;
  for (int i = 0; i < n; i++) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    int len = 1 + (int)(x >> 33) % 60;
    if (i % 7 == 3)
      tl_buf_puts(&b, "the same");
    else
      for (int j = 0; j < len; j++) tl_buf_putc(&b, (char)('a' + (x >> (j % 40 + 8)) % 26));
    tl_buf_putc(&b, '\n');
  }
  put(path, b.data, b.len);
  tl_buf_free(&b);
}

static tl_status run(tl_ctx *ctx, const char *in, const tl_prepare_options *o, const char *out,
                     bool overwrite, tl_prepare_report *report) {
  tl_text_options to = {.unit = TL_UNIT_LINE};
  tl_text_reader *r = NULL;
  memset(&err, 0, sizeof err);
  assert_int_equal(tl_text_open(&in, 1, &to, &r, &err), TL_OK);
  tl_status s = tl_prepare(ctx, r, &faulty, o, out, overwrite, report, &err);
  tl_text_close(r);
  if (s != TL_OK) assert_int_equal(err.code, s);
  return s;
}

/* Nothing but what was there before is left beside the output. */
static void expect_entries(const char *const *names, size_t n) {
  tl_names have;
  assert_int_equal(tl_dir_list(at("out"), &have, NULL), TL_OK);
  if (have.n != n)
    for (size_t i = 0; i < have.n; i++) print_error("there is %s\n", have.name[i]);
  assert_int_equal(have.n, n);
  for (size_t i = 0; i < n; i++) assert_string_equal(have.name[i], names[i]);
  tl_names_free(&have);
}

static void fresh_out(void) {
  assert_int_equal(tl_remove_tree(at("out"), NULL), TL_OK);
  assert_int_equal(tl_mkdirs(at("out"), NULL), TL_OK);
}

static void prepared_text_comes_back(void **state) {
  (void)state;
  make_text(at("in.txt"), 500);
  fresh_out();
  tl_prepare_options o = {
      .val_fraction = 0.2, .seed = 3, .shard_tokens = 1000, .add_bos = true, .add_eos = true};
  tl_prepare_report rep;
  assert_int_equal(run(ctx1, at("in.txt"), &o, at("out/ds"), false, &rep), TL_OK);
  assert_int_equal(rep.docs[0] + rep.docs[1], 500);
  assert_true(rep.docs[1] > 50 && rep.docs[1] < 250);
  tl_dataset *d = NULL;
  assert_int_equal(tl_dataset_open(at("out/ds"), true, &d, &err), TL_OK);
  assert_string_equal(tl_dataset_dir(d), at("out/ds"));
  assert_int_equal(tl_dataset_vocab_size(d), bytes->n);
  assert_int_equal(tl_dataset_tokenizer(d), bytes->fingerprint);
  tl_tokenizer *saved = NULL;
  assert_int_equal(tl_tokenizer_load(at("out/ds"), &saved, &err), TL_OK);
  assert_int_equal(tl_tokenizer_fingerprint(saved), bytes->fingerprint);
  tl_tokenizer_free(saved);
  uint32_t bos = (uint32_t)tl_tokenizer_special(bytes, TL_TOK_BOS);
  uint32_t eos = (uint32_t)tl_tokenizer_special(bytes, TL_TOK_EOS);
  /* Every document is read back by its starts and compared with the lines in order. */
  tl_buf in = get(at("in.txt"));
  uint64_t begin[2] = {0}, text_bytes[2] = {0};
  int same_side = -1, same_seen = 0;
  uint32_t *starts[2], *ids[2];
  size_t n_starts[2], next[2] = {0};
  for (int s = 0; s < 2; s++) {
    uint64_t n = tl_dataset_tokens(d, (tl_split)s);
    assert_int_equal(n, rep.tokens[s]);
    assert_true(n > 1000); /* several shards */
    starts[s] = malloc(4 * n);
    ids[s] = malloc(4 * n);
    n_starts[s] = tl_dataset_doc_starts(d, (tl_split)s, 0, n, starts[s]);
    assert_int_equal(n_starts[s], tl_dataset_docs(d, (tl_split)s));
    tl_dataset_read(d, (tl_split)s, 0, n, ids[s]);
  }
  for (char *line = in.data; *line;) {
    size_t len = strcspn(line, "\n");
    int s = -1;
    for (int k = 0; k < 2; k++) { /* the side whose next document this is */
      if (next[k] == n_starts[k]) continue;
      uint32_t b = starts[k][next[k]];
      uint64_t e = next[k] + 1 < n_starts[k] ? starts[k][next[k] + 1] : rep.tokens[k];
      bool equal = e - b == len + 2 && ids[k][b] == bos && ids[k][e - 1] == eos;
      for (size_t i = 0; equal && i < len; i++) equal = ids[k][b + 1 + i] == id_of(line[i]);
      if (equal) s = k;
    }
    assert_true(s >= 0);
    assert_int_equal(starts[s][next[s]], begin[s]);
    next[s]++;
    begin[s] += len + 2;
    text_bytes[s] += len;
    if (len == 8 && !memcmp(line, "the same", 8)) {
      if (same_side < 0) same_side = s;
      assert_int_equal(s, same_side);
      same_seen++;
    }
    line += len + (line[len] == '\n');
  }
  assert_true(same_seen > 60);
  for (int s = 0; s < 2; s++) {
    assert_int_equal(begin[s], rep.tokens[s]);
    assert_int_equal(text_bytes[s], rep.bytes[s]);
    assert_int_equal(text_bytes[s], tl_dataset_bytes(d, (tl_split)s));
    /* Any range, across shards too, is the same as the whole. */
    for (uint64_t b = 0; b < rep.tokens[s]; b += 97) {
      uint32_t part[400], sub[400];
      tl_dataset_read(d, (tl_split)s, b, 400, part);
      size_t have = rep.tokens[s] - b < 400 ? (size_t)(rep.tokens[s] - b) : 400, count = 0;
      assert_memory_equal(part, ids[s] + b, have * 4);
      for (size_t i = have; i < 400; i++) assert_int_equal(part[i], 0);
      size_t got = tl_dataset_doc_starts(d, (tl_split)s, b, 400, sub);
      for (size_t i = 0; i < n_starts[s]; i++)
        if (starts[s][i] >= b && starts[s][i] < b + 400)
          assert_int_equal(sub[count++], starts[s][i] - b);
      assert_int_equal(got, count);
    }
    free(starts[s]);
    free(ids[s]);
  }
  tl_buf_free(&in);
  tl_dataset_close(d);
}

static void same_folder(const char *a, const char *b) {
  tl_names x, y;
  assert_int_equal(tl_dir_list(a, &x, NULL), TL_OK);
  assert_int_equal(tl_dir_list(b, &y, NULL), TL_OK);
  assert_int_equal(x.n, y.n);
  assert_true(x.n > 2);
  for (size_t i = 0; i < x.n; i++) {
    assert_string_equal(x.name[i], y.name[i]);
    char *p = tl_path_join(a, x.name[i]), *q = tl_path_join(b, x.name[i]);
    tl_buf f = get(p), g = get(q);
    assert_int_equal(f.len, g.len);
    assert_memory_equal(f.data, g.data, f.len);
    tl_buf_free(&f);
    tl_buf_free(&g);
    free(p);
    free(q);
  }
  tl_names_free(&x);
  tl_names_free(&y);
}

static void threads_do_not_matter(void **state) {
  (void)state;
  make_text(at("big.txt"), 200000); /* several batches of the reader */
  fresh_out();
  tl_prepare_options o = {.val_fraction = 0.01, .add_eos = true, .shard_tokens = 2000000};
  for (int tail = 0; tail < 2; tail++) {
    o.split_tail = tail;
    assert_int_equal(run(ctx1, at("big.txt"), &o, at("out/t1"), true, NULL), TL_OK);
    assert_int_equal(run(ctx3, at("big.txt"), &o, at("out/t3"), true, NULL), TL_OK);
    same_folder(at("out/t1"), at("out/t3"));
  }
}

static uint64_t fingerprint_of(const tl_prepare_options *o) {
  tl_dataset *d = NULL;
  assert_int_equal(run(ctx1, at("in.txt"), o, at("out/fp"), true, NULL), TL_OK);
  assert_int_equal(tl_dataset_open(at("out/fp"), false, &d, &err), TL_OK);
  uint64_t f = tl_dataset_fingerprint(d);
  tl_dataset_close(d);
  return f;
}

static void fingerprint_follows_the_data(void **state) {
  (void)state;
  fresh_out();
  make_text(at("in.txt"), 300);
  tl_prepare_options o = {.val_fraction = 0.2, .seed = 1}, other = o;
  uint64_t f = fingerprint_of(&o);
  assert_int_equal(fingerprint_of(&o), f);
  other.seed = 2;
  assert_int_not_equal(fingerprint_of(&other), f);
  other = o;
  other.add_eos = true;
  assert_int_not_equal(fingerprint_of(&other), f);
  faulty.fingerprint++;
  assert_int_not_equal(fingerprint_of(&o), f);
  faulty.fingerprint--;
  make_text(at("in.txt"), 301);
  assert_int_not_equal(fingerprint_of(&o), f);
}

static void the_tail_is_the_end_of_the_stream(void **state) {
  (void)state;
  fresh_out();
  put(at("tail.txt"), "0123456789\nabcdefghij\n", 22);
  tl_prepare_options o = {.val_fraction = 0.3, .split_tail = true};
  tl_prepare_report rep;
  assert_int_equal(run(ctx1, at("tail.txt"), &o, at("out/tail"), false, &rep), TL_OK);
  static const char *const entries[] = {"tail"};
  expect_entries(entries, 1);
  assert_int_equal(rep.tokens[0], 14);
  assert_int_equal(rep.tokens[1], 6);
  assert_int_equal(rep.docs[0], 2);
  assert_int_equal(rep.docs[1], 1);
  assert_int_equal(rep.bytes[0], 14);
  assert_int_equal(rep.bytes[1], 6);
  tl_dataset *d = NULL;
  assert_int_equal(tl_dataset_open(at("out/tail"), true, &d, &err), TL_OK);
  uint32_t ids[6], starts[14];
  tl_dataset_read(d, TL_VAL, 0, 6, ids);
  for (int i = 0; i < 6; i++) assert_int_equal(ids[i], id_of("efghij"[i]));
  assert_int_equal(tl_dataset_doc_starts(d, TL_TRAIN, 0, 14, starts), 2);
  assert_int_equal(starts[1], 10);
  assert_int_equal(tl_dataset_doc_starts(d, TL_VAL, 0, 6, starts), 1);
  assert_int_equal(starts[0], 0);
  tl_dataset_close(d);
}

static void failed(tl_status got, tl_status want, const char *part) {
  if (got != want || !strstr(err.msg, part)) print_error("status %d: %s\n", (int)got, err.msg);
  assert_int_equal(got, want);
  assert_non_null(strstr(err.msg, part));
}

/* Each failure leaves no folder and no temporary folder behind. */
static void failures_leave_nothing(void **state) {
  (void)state;
  fresh_out();
  make_text(at("in.txt"), 100);
  put(at("one.txt"), "just one document\n", 18);
  tl_prepare_options o = {.val_fraction = 0.2};
  failed(run(ctx1, at("one.txt"), &o, at("out/x"), false, NULL), TL_DATA, "split would be empty");
  o.split_tail = true;
  o.val_fraction = 0.01;
  failed(run(ctx1, at("one.txt"), &o, at("out/x"), false, NULL), TL_DATA, "the validation split");
  o = (tl_prepare_options){.val_fraction = 0.2};
  fault.fail_at = 'q';
  failed(run(ctx3, at("in.txt"), &o, at("out/x"), false, NULL), TL_DATA, "fake failure");
  fault.fail_at = -1;
  fault.out_of_range = true;
  failed(run(ctx3, at("in.txt"), &o, at("out/x"), false, NULL), TL_INTERNAL,
         "outside its vocabulary");
  fault.out_of_range = false;
  fault.silent = true;
  failed(run(ctx3, at("in.txt"), &o, at("out/x"), false, NULL), TL_DATA, "no tokens");
  fault.silent = false;
  cancel_after = 1;
  failed(run(ctx1, at("in.txt"), &o, at("out/x"), false, NULL), TL_PREEMPTED,
         "nothing was written");
  cancel_after = 2;
  o.split_tail = true;
  failed(run(ctx1, at("in.txt"), &o, at("out/x"), false, NULL), TL_PREEMPTED,
         "nothing was written");
  cancel_after = -1;
  put(at("bad.txt"), "ok\nbad \0 here\n", 14);
  failed(run(ctx1, at("bad.txt"), &o, at("out/x"), false, NULL), TL_DATA, "bad.txt: binary");
  static const double fractions[] = {-0.1, 1.0, 2.0, (double)__builtin_nanf("")};
  for (int i = 0; i < 4; i++) {
    o = (tl_prepare_options){.val_fraction = fractions[i]};
    failed(run(ctx1, at("in.txt"), &o, at("out/x"), false, NULL), TL_CONFIG, "val_fraction");
  }
  o = (tl_prepare_options){.shard_tokens = UINT64_C(1) << 32};
  failed(run(ctx1, at("in.txt"), &o, at("out/x"), false, NULL), TL_CONFIG, "shard_tokens");
  o.shard_tokens = 0;
  failed(run(ctx1, at("in.txt"), &o, at("in.txt/x"), false, NULL), TL_CREATE, "not a folder");
  failed(run(ctx1, at("in.txt"), &o, "", false, NULL), TL_CREATE, "empty");
  expect_entries(NULL, 0);
}

/* A limit on the size of files stands for a full disk: write() fails half-way in both. */
static void a_full_disk_leaves_nothing(void **state) {
  (void)state;
  fresh_out();
  make_text(at("big.txt"), 100000);
  struct rlimit old, small;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
  small = old;
  small.rlim_cur = 1 << 20;
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
  tl_prepare_options o = {.val_fraction = 0.1};
  tl_status hash = run(ctx1, at("big.txt"), &o, at("out/x"), false, NULL);
  tl_err first = err;
  o.split_tail = true;
  tl_status tail = run(ctx1, at("big.txt"), &o, at("out/x"), false, NULL);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
  signal(SIGXFSZ, SIG_DFL);
  failed(tail, TL_IO, "cannot write");
  err = first;
  failed(hash, TL_IO, "cannot write");
  expect_entries(NULL, 0);
}

static void folders_are_replaced_only_when_asked(void **state) {
  (void)state;
  fresh_out();
  make_text(at("in.txt"), 100);
  tl_prepare_options o = {.val_fraction = 0.2};
  assert_int_equal(run(ctx1, at("in.txt"), &o, at("out/ds/"), false, NULL), TL_OK);
  failed(run(ctx1, at("in.txt"), &o, at("out/ds"), false, NULL), TL_CREATE, "exists already");
  put(at("out/ds/extra"), "x", 1);
  assert_int_equal(run(ctx1, at("in.txt"), &o, at("out/ds"), true, NULL), TL_OK);
  assert_false(tl_file_exists(at("out/ds/extra")));
  /* A folder that is not ours survives --overwrite. */
  assert_int_equal(tl_mkdirs(at("out/home"), NULL), TL_OK);
  put(at("out/home/thesis.txt"), "x", 1);
  failed(run(ctx1, at("in.txt"), &o, at("out/home"), true, NULL), TL_CREATE, "neither empty");
  assert_true(tl_file_exists(at("out/home/thesis.txt")));
  static const char *const entries[] = {"ds", "home"};
  expect_entries(entries, 2);
  assert_int_equal(run(ctx1, at("in.txt"), &o, at("out/a/b/c"), false, NULL), TL_OK);
}

static void no_validation_when_asked(void **state) {
  (void)state;
  fresh_out();
  make_text(at("in.txt"), 50);
  tl_prepare_options o = {.val_fraction = 0};
  assert_int_equal(run(ctx1, at("in.txt"), &o, at("out/ds"), false, NULL), TL_OK);
  tl_dataset *d = NULL;
  assert_int_equal(tl_dataset_open(at("out/ds"), true, &d, &err), TL_OK);
  assert_int_equal(tl_dataset_tokens(d, TL_VAL), 0);
  assert_int_equal(tl_dataset_docs(d, TL_TRAIN), 50);
  uint32_t id = 7;
  tl_dataset_read(d, TL_VAL, 0, 1, &id);
  assert_int_equal(id, 0);
  assert_int_equal(tl_dataset_doc_starts(d, TL_VAL, 0, 1, &id), 0);
  tl_dataset_close(d);
}

/* A dataset of a few hundred bytes, for tests that go through every byte of it. */
static const char *tiny(void) {
  fresh_out();
  put(at("tiny.txt"), "one\ntwo\nthree\nfour\nfive\nsix\n", 28);
  tl_prepare_options o = {.val_fraction = 0.3, .split_tail = true, .shard_tokens = 12};
  assert_int_equal(run(ctx1, at("tiny.txt"), &o, at("out/ds"), false, NULL), TL_OK);
  return at("out/ds/train-00000.tlt");
}

/* Opens the dataset; a success must give ids inside the vocabulary and starts in order. */
static tl_status open_and_read(bool verify) {
  tl_dataset *d = NULL;
  memset(&err, 0, sizeof err);
  tl_status s = tl_dataset_open(at("out/ds"), verify, &d, &err);
  if (s != TL_OK) {
    assert_true(err.code == s && strlen(err.msg) > 10);
    return s;
  }
  for (int k = 0; k < 2; k++) {
    uint64_t n = tl_dataset_tokens(d, (tl_split)k);
    assert_true(n < 100);
    uint32_t ids[100], starts[100];
    tl_dataset_read(d, (tl_split)k, 0, n, ids);
    for (uint64_t i = 0; i < n; i++) assert_true(ids[i] < faulty.n);
    size_t m = tl_dataset_doc_starts(d, (tl_split)k, 0, n, starts);
    for (size_t i = 0; i < m; i++)
      assert_true(starts[i] < n && (i == 0 || starts[i] > starts[i - 1]));
  }
  tl_dataset_close(d);
  return TL_OK;
}

static void every_flipped_bit_of_a_shard_is_found(void **state) {
  (void)state;
  const char *path = tiny();
  tl_buf b = get(path);
  assert_true(b.len < 1000);
  int unseen = 0;
  for (size_t i = 0; i < b.len; i++) {
    for (int bit = 0; bit < 8; bit++) {
      b.data[i] ^= (char)(1 << bit);
      put(path, b.data, b.len);
      assert_int_equal(open_and_read(true), TL_DATA);
      unseen += open_and_read(false) == TL_OK;
      b.data[i] ^= (char)(1 << bit);
    }
  }
  /* Without verification only the block of tokens (12 ids, padded to 64 bytes) goes unseen. */
  assert_int_equal(unseen, 64 * 8);
  put(path, b.data, b.len);
  assert_int_equal(open_and_read(true), TL_OK);
  tl_buf_free(&b);
}

static void every_truncation_is_found(void **state) {
  (void)state;
  const char *path = tiny();
  tl_buf b = get(path);
  for (size_t n = 0; n < b.len; n++) {
    put(path, b.data, n);
    failed(open_and_read(false), TL_DATA, "train-00000.tlt");
  }
  tl_buf_putc(&b, 0);
  put(path, b.data, b.len);
  failed(open_and_read(false), TL_DATA, "cut short or replaced");
  assert_int_equal(unlink(path), 0);
  failed(open_and_read(false), TL_NOINPUT, "train-00000.tlt");
  tl_buf_free(&b);
}

static void swapped_shards_are_found(void **state) {
  (void)state;
  tiny();
  assert_int_equal(rename(at("out/ds/train-00000.tlt"), at("out/ds/x")), 0);
  put(at("out/ds/train-00000.tlt"), "", 0);
  tl_buf other = get(at("out/ds/val-00000.tlt")), own = get(at("out/ds/x"));
  assert_int_equal(other.len, own.len);
  put(at("out/ds/train-00000.tlt"), other.data, other.len);
  failed(open_and_read(false), TL_DATA, "belongs to another");
  tl_buf_free(&other);
  tl_buf_free(&own);
}

static void every_changed_byte_of_the_manifest(void **state) {
  (void)state;
  tiny();
  const char *path = at("out/ds/dataset.json");
  tl_buf b = get(path);
  int found = 0;
  for (size_t i = 0; i < b.len; i++) {
    static const char changes[] = {'\1', '\x10', '\x7F'};
    for (size_t k = 0; k < sizeof changes; k++) {
      b.data[i] ^= changes[k];
      put(path, b.data, b.len);
      tl_status s = open_and_read(false);
      assert_true(s == TL_OK || s == TL_DATA || s == TL_NOINPUT);
      found += s != TL_OK;
      b.data[i] ^= changes[k];
    }
  }
  assert_true(found > (int)b.len); /* the rest: the seed and other information, white space */
  for (size_t n = 0; n < b.len - 2; n++) {
    put(path, b.data, n);
    assert_int_equal(open_and_read(false), TL_DATA);
  }
  static const char *const bad[] = {"[]", "{}", "{\"format\":\"tilth-dataset\",\"version\":2}",
                                    "{\"format\":\"tilth-dataset\",\"version\":1}"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    put(path, bad[i], strlen(bad[i]));
    failed(open_and_read(false), TL_DATA, "dataset.json");
  }
  assert_int_equal(unlink(path), 0);
  failed(open_and_read(false), TL_NOINPUT, "no prepared dataset");
  tl_buf_free(&b);
}

/* Fields that lie, under checksums that are right: what a hostile file looks like. */
static void hostile_footers_are_refused(void **state) {
  (void)state;
  const char *path = tiny();
  tl_buf b = get(path);
  tl_shard_kind kind = {faulty.n, faulty.fingerprint, 12};
  tl_shard_footer f, good;
  memcpy(&good, b.data + b.len - sizeof good, sizeof good);
  tl_shard shard;
  tl_shard_info info = {b.len, good.n_tokens, good.n_docs, good.seal};
  assert_int_equal(tl_shard_open(path, &kind, TL_TRAIN, 0, &info, true, &shard, &err), TL_OK);
  tl_shard_close(&shard);
  static const uint64_t values[] = {0,          1,          13,         64,        UINT32_MAX,
                                    1ull << 32, 1ull << 62, 1ull << 63, UINT64_MAX};
  int accepted = 0;
  for (size_t at_byte = 8; at_byte < offsetof(tl_shard_footer, header_hash); at_byte += 8) {
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
      f = good;
      if (!memcmp((char *)&f + at_byte, &values[i], 8)) continue;
      memcpy((char *)&f + at_byte, &values[i], 8);
      f.seal = tl_hash64(&f, offsetof(tl_shard_footer, seal));
      memcpy(b.data + b.len - sizeof f, &f, sizeof f);
      put(path, b.data, b.len);
      info = (tl_shard_info){b.len, f.n_tokens, f.n_docs, f.seal};
      tl_status s = tl_shard_open(path, &kind, TL_TRAIN, 0, &info, false, &shard, &err);
      if (s == TL_OK) { /* a smaller count, or one that only takes in padding: harmless */
        assert_true(shard.n_tokens <= 32 && shard.n_docs <= good.n_docs);
        for (uint64_t k = 0; k < shard.n_docs; k++) assert_true(shard.starts[k] < shard.n_tokens);
        tl_shard_close(&shard);
        accepted++;
      } else {
        failed(s, TL_DATA, "damaged");
      }
    }
  }
  assert_int_equal(accepted, 2); /* one document for four, and 13 tokens for 12 */
  /* Starts that do not increase, and a table that admits an id outside the vocabulary. */
  for (int lie = 0; lie < 2; lie++) {
    f = good;
    tl_buf c = {0};
    tl_buf_append(&c, b.data, b.len);
    uint64_t offset = lie ? f.table_offset + 8 : f.docs_offset + 4;
    uint32_t value = lie ? faulty.n : 0;
    memcpy(c.data + offset, &value, 4);
    f.docs_hash = tl_hash64(c.data + f.docs_offset, f.table_offset - f.docs_offset);
    f.table_hash = tl_hash64(c.data + f.table_offset, c.len - sizeof f - f.table_offset);
    f.seal = tl_hash64(&f, offsetof(tl_shard_footer, seal));
    memcpy(c.data + c.len - sizeof f, &f, sizeof f);
    put(path, c.data, c.len);
    info = (tl_shard_info){c.len, f.n_tokens, f.n_docs, f.seal};
    failed(tl_shard_open(path, &kind, TL_TRAIN, 0, &info, false, &shard, &err), TL_DATA,
           lie ? "outside the vocabulary" : "not increasing");
    tl_buf_free(&c);
  }
  tl_buf_free(&b);
}

/* Large shards: several blocks, two- and four-byte ids, and shards that end inside a document. */
static void blocks_and_widths(void **state) {
  (void)state;
  static const uint32_t vocabs[] = {65536, 65537};
  enum { N = 1300000 };
  uint32_t *ids = malloc(4 * N);
  for (int v = 0; v < 2; v++) {
    fresh_out();
    for (uint32_t i = 0; i < N; i++) ids[i] = (i * 2654435761u >> 7) % vocabs[v];
    ids[0] = vocabs[v] - 1;
    tl_split_writer w = {.kind = {vocabs[v], 1, 1000000}, .split = TL_VAL, .dir = at("out")};
    assert_int_equal(tl_split_writer_add(&w, ids, 5, 1, &err), TL_OK);
    assert_int_equal(tl_split_writer_add(&w, ids + 5, N - 6, 1, &err), TL_OK);
    assert_int_equal(tl_split_writer_add(&w, ids + N - 1, 1, 1, &err), TL_OK);
    assert_int_equal(tl_split_writer_end(&w, &err), TL_OK);
    assert_int_equal(w.n_shards, 2);
    assert_int_equal(w.shards[0].docs, 2);
    assert_int_equal(w.shards[1].docs, 1);
    assert_int_equal(w.tokens, N);
    for (uint32_t k = 0; k < 2; k++) {
      tl_shard s;
      char *path = tl_path_join(at("out"), k ? "val-00001.tlt" : "val-00000.tlt");
      assert_int_equal(tl_shard_open(path, &w.kind, TL_VAL, k, &w.shards[k], true, &s, &err),
                       TL_OK);
      for (uint64_t i = 0; i < s.n_tokens; i++) {
        uint32_t id = v ? ((const uint32_t *)(const void *)s.tokens)[i]
                        : ((const uint16_t *)(const void *)s.tokens)[i];
        if (id != ids[k * 1000000 + i]) assert_int_equal(id, ids[k * 1000000 + i]);
      }
      tl_shard_close(&s);
      /* A flip anywhere in the tokens is found by verification. */
      tl_buf b = get(path);
      for (size_t i = 64; i < b.len; i += b.len / 11) {
        b.data[i] ^= 4;
        put(path, b.data, b.len);
        assert_int_equal(tl_shard_open(path, &w.kind, TL_VAL, k, &w.shards[k], true, &s, &err),
                         TL_DATA);
        b.data[i] ^= 4;
      }
      tl_buf_free(&b);
      free(path);
    }
    tl_split_writer_free(&w);
  }
  free(ids);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(prepared_text_comes_back),
      cmocka_unit_test(threads_do_not_matter),
      cmocka_unit_test(fingerprint_follows_the_data),
      cmocka_unit_test(the_tail_is_the_end_of_the_stream),
      cmocka_unit_test(failures_leave_nothing),
      cmocka_unit_test(a_full_disk_leaves_nothing),
      cmocka_unit_test(folders_are_replaced_only_when_asked),
      cmocka_unit_test(no_validation_when_asked),
      cmocka_unit_test(every_flipped_bit_of_a_shard_is_found),
      cmocka_unit_test(every_truncation_is_found),
      cmocka_unit_test(swapped_shards_are_found),
      cmocka_unit_test(every_changed_byte_of_the_manifest),
      cmocka_unit_test(hostile_footers_are_refused),
      cmocka_unit_test(blocks_and_widths),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
