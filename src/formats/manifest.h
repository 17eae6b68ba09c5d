/* The manifest of a checkpoint: what it holds, with a checksum of each file and of itself. */
#ifndef TL_FORMATS_MANIFEST_H
#define TL_FORMATS_MANIFEST_H

#include <jansson.h>
#include <stdint.h>
#include "tilth/status.h"

#define TL_MANIFEST_NAME "manifest.json"

typedef struct tl_manifest {
  int64_t step, serial;
  bool has_score;
  double score;
  json_t *files; /* name -> {"size": bytes, "xxh3": "16 hex digits"}; owned */
} tl_manifest;

tl_status tl_manifest_add(tl_manifest *m, const char *name, uint64_t size, uint64_t hash,
                          tl_err *err);
/* dir/manifest.json, synced. */
tl_status tl_manifest_write(const tl_manifest *m, const char *dir, tl_err *err);
/* Reads and checks the manifest alone. DATA on any change of any of its bytes. */
tl_status tl_manifest_read(const char *dir, tl_manifest *out, tl_err *err);
/* Reads every listed file and compares size and checksum. */
tl_status tl_manifest_verify(const tl_manifest *m, const char *dir, tl_err *err);
uint64_t tl_manifest_bytes(const tl_manifest *m); /* sum of the sizes */
void tl_manifest_free(tl_manifest *m);

#endif
