#include "models/lowrank.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void tl_lora_declare(tl_declare *d, tl_param *w, const tl_lora_shape *l) {
  int64_t in = w->shape[l->conv1d ? 0 : 1], out = w->shape[l->conv1d ? 1 : 0];
  int stem = (int)(strlen(w->name) - strlen(".weight"));
  char name[256];
  snprintf(name, sizeof name, "%.*s.lora_A.weight", stem, w->name);
  w->lora_a = tl_declare_matrix(d, name, l->rank, in, (float)sqrt(1 / (3 * (double)in)), false);
  snprintf(name, sizeof name, "%.*s.lora_B.weight", stem, w->name);
  w->lora_b = tl_declare_matrix(d, name, out, l->rank, 0, false);
  snprintf(name, sizeof name, "%.*s.lora_magnitude_vector", stem, w->name);
  if (l->magnitudes) w->lora_m = tl_declare_vector(d, name, out, 1);
  if (!w->lora_a || !w->lora_b) return;
  w->lora_a->flags = w->lora_b->flags = TL_PARAM_DECAY | TL_PARAM_PAIR;
  if (w->lora_m) w->lora_m->flags = TL_PARAM_PAIR;
  w->lora_scale = l->scale;
  w->lora_dropout = l->dropout;
  w->lora_conv1d = l->conv1d;
}

void tl_lora_merge(const tl_param *w, float *data) {
  const tl_param *a = w->lora_a, *b = w->lora_b;
  int64_t rank = a->shape[0], in = a->shape[1], out = b->shape[0];
  for (int64_t o = 0; o < out; o++) {
    float norm = 1;
    if (w->lora_m) tl_lora_norms(w, o, o + 1, &norm); /* before the weights change */
    double by = w->lora_m ? (double)w->lora_m->data[o] / (double)norm : 1;
    for (int64_t c = 0; c < in; c++) {
      double sum = 0;
      for (int64_t k = 0; k < rank; k++)
        sum += (double)b->data[o * rank + k] * (double)a->data[k * in + c];
      int64_t at = w->lora_conv1d ? c * out + o : o * in + c;
      data[at] = (float)(by * ((double)w->data[at] + (double)w->lora_scale * sum));
    }
  }
}
