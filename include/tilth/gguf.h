/* GGUF version 3, llama.cpp's file of a model: metadata and tensors. */
#ifndef TILTH_GGUF_H
#define TILTH_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "tilth/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tl_gguf_kind { /* of metadata values, as stored */
                            TL_GGUF_U8,
                            TL_GGUF_I8,
                            TL_GGUF_U16,
                            TL_GGUF_I16,
                            TL_GGUF_U32,
                            TL_GGUF_I32,
                            TL_GGUF_F32,
                            TL_GGUF_BOOL,
                            TL_GGUF_STRING,
                            TL_GGUF_ARRAY,
                            TL_GGUF_U64,
                            TL_GGUF_I64,
                            TL_GGUF_F64,
                            TL_GGUF_N_KINDS
} tl_gguf_kind;

/* Types of tensors whose values this program reads; the numbers are the file's. F32, F16, Q8_0 and
 * BF16 are written, too. */
typedef enum tl_ggml_type {
  TL_GGML_F32 = 0,
  TL_GGML_F16 = 1,
  TL_GGML_Q4_0 = 2,
  TL_GGML_Q8_0 = 8,
  TL_GGML_Q4_K = 12,
  TL_GGML_Q5_K = 13,
  TL_GGML_Q6_K = 14,
  TL_GGML_BF16 = 30
} tl_ggml_type;
const char *tl_ggml_name(int type); /* "F32"; "?" if unknown */

enum { TL_GGUF_MAX_NDIM = 4, TL_GGUF_ALIGN = 32, TL_GGUF_MAX_NAME = 63, TL_GGUF_Q8_BLOCK = 32 };

typedef struct tl_gguf_str { /* not NUL-terminated */
  const char *s;
  uint64_t n;
} tl_gguf_str;

typedef struct tl_gguf_kv {
  tl_gguf_str key;
  tl_gguf_kind kind, elem; /* elem: of an array, else kind */
  uint64_t n;              /* elements; 1 if not an array */
  const unsigned char *data;
  uint64_t size; /* bytes at data */
} tl_gguf_kv;

typedef struct tl_gguf_tensor {
  tl_gguf_str name;
  int ndim, type;
  int64_t shape[TL_GGUF_MAX_NDIM]; /* row-major: the last axis is contiguous */
  const unsigned char *data;
  uint64_t size; /* bytes */
} tl_gguf_tensor;

typedef struct tl_gguf {
  struct tl_gguf_map *map;
  tl_gguf_kv *kv;
  tl_gguf_tensor *tensor;
  size_t n_kv, n_tensors;
  uint32_t version;
} tl_gguf;

/* Maps and checks a file: every length, offset and name; *out is closed by tl_gguf_close. Errors:
 * DATA with the offset, NOINPUT, IO, NOMEM. */
tl_status tl_gguf_open(const char *path, tl_gguf *out, tl_err *err);
/* Whether a path is that of such a file: by the first bytes of a regular file, or its name's end.
 */
bool tl_gguf_is_file(const char *path);
void tl_gguf_close(tl_gguf *g);
const tl_gguf_kv *tl_gguf_find(const tl_gguf *g, const char *key);             /* NULL if absent */
const tl_gguf_tensor *tl_gguf_find_tensor(const tl_gguf *g, const char *name); /* NULL if absent */
bool tl_gguf_is(tl_gguf_str s, const char *text);                              /* the same bytes */
/* Element i of a value: as a string (kind or elem STRING), or as a number. */
tl_gguf_str tl_gguf_string(const tl_gguf_kv *kv, uint64_t i);
/* The string behind s of an array's; behind {0}: the first. For walks: tl_gguf_string begins at 0.
 */
tl_gguf_str tl_gguf_next_string(const tl_gguf_kv *kv, tl_gguf_str s);
double tl_gguf_number(const tl_gguf_kv *kv, uint64_t i);
/* Sets out[elements]. DATA when the type is not one of tl_ggml_type. */
tl_status tl_gguf_read_f32(const tl_gguf_tensor *t, float *out, tl_err *err);

/* Writing: keys first, then tensors, then tl_gguf_write. NULL when out of memory; what runs out of
 * it later makes tl_gguf_write fail. */
typedef struct tl_gguf_writer tl_gguf_writer;
tl_gguf_writer *tl_gguf_writer_new(void);
void tl_gguf_writer_free(tl_gguf_writer *w); /* NULL is allowed */
void tl_gguf_put_u32(tl_gguf_writer *w, const char *key, uint32_t v);
void tl_gguf_put_f32(tl_gguf_writer *w, const char *key, float v);
void tl_gguf_put_bool(tl_gguf_writer *w, const char *key, bool v);
void tl_gguf_put_string(tl_gguf_writer *w, const char *key, const char *s);
void tl_gguf_put_strings(tl_gguf_writer *w, const char *key, const char *const *s, size_t n);
void tl_gguf_put_i32s(tl_gguf_writer *w, const char *key, const int32_t *v, size_t n);
void tl_gguf_put_f32s(tl_gguf_writer *w, const char *key, const float *v, size_t n);
/* Adds a tensor of f32 values that is stored as `type`, one of those that are written. owned: NULL,
 * or the malloc'ed memory of data. A name that is too long, or rows that Q8_0 cannot cut:
 * tl_gguf_write fails. */
void tl_gguf_add(tl_gguf_writer *w, const char *name, tl_ggml_type type, int ndim,
                 const int64_t *shape, const float *data, float *owned);
/* Replaces the file in one step; *size may be NULL. Errors: CONFIG, IO, PERM, NOMEM. */
tl_status tl_gguf_write(const tl_gguf_writer *w, const char *path, uint64_t *size, tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
