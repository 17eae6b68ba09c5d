/* What pictures are normalised by: measured on them, and kept beside the model. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "transfer/image_graph.h"

enum { MAX_PICTURES = 5000, MAX_BYTES = 1 << 20 };
/* Pixels of a batch that is only run: 256 pictures of 32 x 32. */
enum { ROOM_PIXELS = 1 << 18, ROOM_MIN = 4, ROOM_MAX = 128 };

static const char file_name[] = "preprocessor_config.json";

int64_t tl_image_room(const tl_model_config *c) {
  int64_t n = ROOM_PIXELS / (c->image_size * c->image_size);
  return n < ROOM_MIN ? ROOM_MIN : n > ROOM_MAX ? ROOM_MAX : n;
}

tl_status tl_image_statistics(const tl_image_data *d, const size_t *index, size_t n, tl_augment *a,
                              tl_err *err) {
  double sum[3] = {0}, square[3] = {0}, count = 0;
  size_t step = n > MAX_PICTURES ? n / MAX_PICTURES : 1;
  for (size_t i = 0; i < n; i += step) {
    tl_image m;
    TL_TRY(tl_image_get(d, index ? index[i] : i, a->channels, &m, err));
    size_t pixels = (size_t)m.width * (size_t)m.height;
    for (size_t p = 0; p < pixels; p++)
      for (int32_t k = 0; k < a->channels; k++) {
        double v = m.pixels[p * (size_t)a->channels + (size_t)k] / 255.0;
        sum[k] += v;
        square[k] += v * v;
      }
    count += (double)pixels;
    tl_image_free(&m);
  }
  for (int32_t k = 0; k < a->channels; k++) {
    double mean = sum[k] / count, spread = sqrt(fmax(square[k] / count - mean * mean, 0));
    a->mean[k] = (float)mean;
    a->std[k] = (float)(spread > 1e-3 ? spread : 1);
  }
  return TL_OK;
}

static json_t *list(const float *v, int32_t n) {
  json_t *a = json_array();
  for (int32_t k = 0; k < n; k++) json_array_append_new(a, json_real((double)v[k]));
  return a;
}

tl_status tl_image_write_preprocessor(const char *dir, const tl_augment *a, tl_err *err) {
  TL_TRY(tl_mkdirs(dir, err));
  char *path = tl_path_join(dir, file_name);
  json_t *o =
      json_pack("{s:s, s:b, s:{s:i, s:i}, s:i, s:b, s:f, s:b, s:o, s:o}", "image_processor_type",
                "ViTImageProcessor", "do_resize", 1, "size", "height", a->size, "width", a->size,
                "resample", 2, "do_rescale", 1, "rescale_factor", 1.0 / 255, "do_normalize", 1,
                "image_mean", list(a->mean, a->channels), "image_std", list(a->std, a->channels));
  char *text = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
  tl_status s = path && text ? tl_file_write_atomic(path, text, strlen(text), err)
                             : tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
  free(text);
  free(path);
  json_decref(o);
  return s;
}

static tl_status read_list(const json_t *o, const char *key, const char *path, int32_t n, float *v,
                           tl_err *err) {
  const json_t *a = json_object_get(o, key);
  if (!a) return TL_OK;
  for (int32_t k = 0; k < n; k++) {
    const json_t *x = json_array_get(a, (size_t)k);
    if (!json_is_number(x) || !isfinite(json_number_value(x)))
      return tl_fail(err, TL_DATA, "%s: \"%s\" must be %d numbers", path, key, n);
    v[k] = (float)json_number_value(x);
  }
  return TL_OK;
}

tl_status tl_image_read_preprocessor(const char *dir, tl_augment *a, tl_err *err) {
  for (int k = 0; k < 3; k++) a->mean[k] = a->std[k] = 0.5f;
  char *path = tl_path_join(dir, file_name);
  if (!path) return tl_fail(err, TL_NOMEM, "%s: out of memory", dir);
  tl_buf text = {0};
  tl_status s = TL_OK;
  if (tl_file_exists(path)) {
    json_error_t je;
    s = tl_file_read(path, MAX_BYTES, &text, err);
    json_t *o = s == TL_OK ? json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &je) : NULL;
    if (s == TL_OK && !json_is_object(o))
      s = tl_fail(err, TL_DATA, "%s: expected a JSON object", path);
    if (s == TL_OK) s = read_list(o, "image_mean", path, a->channels, a->mean, err);
    if (s == TL_OK) s = read_list(o, "image_std", path, a->channels, a->std, err);
    json_decref(o);
  }
  tl_buf_free(&text);
  free(path);
  return s;
}

tl_status tl_image_plain(const tl_model_place *place, const tl_model_config *c, tl_augment *a,
                         tl_err *err) {
  *a = (tl_augment){.size = (int32_t)c->image_size, .channels = (int32_t)c->channels};
  char *own = place->adapter ? tl_path_join(place->adapter, file_name) : NULL;
  bool from_adapter = own && tl_file_exists(own);
  free(own);
  return tl_image_read_preprocessor(from_adapter ? place->adapter : place->base, a, err);
}
