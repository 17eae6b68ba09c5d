#include "transfer/answer.h"

#include <math.h>
#include <string.h>

#include "base/buf.h"

typedef struct texts {
  tl_buf text, truth, predicted;
} texts;

static bool has_label(const tl_task_data *d, size_t i, int32_t k) {
  for (size_t j = d->first[i]; j < d->first[i + 1]; j++)
    if (d->item[j] == k) return true;
  return false;
}

bool tl_answer_right(const tl_task_data *d, size_t i, const tl_predictions *p, size_t at) {
  if (d->kind == TL_TASK_CLASS) return p->label[at] == d->label[i];
  const float *output = p->output + at * (size_t)p->n_outputs;
  for (int32_t k = 0; k < p->n_outputs; k++)
    if ((output[k] > 0.5f) != has_label(d, i, k)) return false;
  return true;
}

double tl_answer_surety(const tl_task_data *d, size_t i, const tl_predictions *p, size_t at) {
  const float *output = p->output + at * (size_t)p->n_outputs;
  if (d->kind == TL_TASK_CLASS) return (double)output[p->label[at]];
  double most = 0;
  for (int32_t k = 0; k < p->n_outputs; k++)
    if ((output[k] > 0.5f) != has_label(d, i, k))
      most = fmax(most, (double)fmaxf(output[k], 1 - output[k]));
  return most;
}

static void put_label(tl_buf *b, const tl_task_data *d, int32_t k) {
  tl_buf_printf(b, "%s%s", b->len ? ", " : "", d->labels.name[k]);
}

static void describe_words(const tl_task_data *d, size_t i, const tl_predictions *p, texts *t) {
  const char *word = d->text[i];
  for (size_t w = d->first[i]; w < d->first[i + 1]; w++, word = tl_task_next_word(word)) {
    const char *blank = w > d->first[i] ? " " : "";
    const int32_t tag[] = {d->item[w], p->label[w]};
    tl_buf *to[] = {&t->truth, &t->predicted};
    tl_buf_printf(&t->text, "%s%s", blank, word);
    for (int k = 0; k < 2; k++) {
      tl_buf_printf(to[k], "%s%s", blank, word);
      const char *name = d->labels.name[tag[k]];
      if (strcmp(name, "O")) tl_buf_printf(to[k], "/%s", name);
    }
  }
}

static void describe_labels(const tl_task_data *d, size_t i, const float *output, texts *t) {
  for (size_t j = d->first[i]; j < d->first[i + 1]; j++) put_label(&t->truth, d, d->item[j]);
  for (int32_t k = 0; k < d->labels.n; k++)
    if (output[k] > 0.5f) put_label(&t->predicted, d, k);
  if (!t->truth.len) tl_buf_puts(&t->truth, "(none)");
  if (!t->predicted.len) tl_buf_puts(&t->predicted, "(none)");
}

static void describe(const tl_task_data *d, size_t i, const tl_predictions *p, size_t at,
                     texts *t) {
  const float *output = p->output ? p->output + at * (size_t)p->n_outputs : NULL;
  if (d->kind == TL_TASK_TOKENS) {
    describe_words(d, i, p, t);
    return;
  }
  tl_buf_puts(&t->text, d->text[i]);
  if (d->kind != TL_TASK_PAIR && d->text_b) tl_buf_printf(&t->text, " | %s", d->text_b[i]);
  switch (d->kind) {
  case TL_TASK_PAIR:
    tl_buf_puts(&t->truth, d->text_b[i]);
    tl_buf_puts(&t->predicted, p->text[at]);
    break;
  case TL_TASK_CLASS:
    put_label(&t->truth, d, d->label[i]);
    put_label(&t->predicted, d, p->label[at]);
    break;
  case TL_TASK_VALUE:
    tl_buf_printf(&t->truth, "%.3g", d->value[i]);
    tl_buf_printf(&t->predicted, "%.3g", (double)output[0]);
    break;
  default:
    describe_labels(d, i, output, t);
  }
}

json_t *tl_answer_json(const tl_task_data *d, size_t i, const tl_predictions *p, size_t at) {
  texts t = {0};
  json_t *o = NULL;
  tl_buf *all[] = {&t.text, &t.truth, &t.predicted};
  for (int k = 0; k < 3; k++) tl_buf_puts(all[k], ""); /* a text that stays empty is one, too */
  describe(d, i, p, at, &t);
  if (!t.text.oom && !t.truth.oom && !t.predicted.oom)
    o = json_pack("{s:s, s:s, s:s}", "text", t.text.data, "truth", t.truth.data, "predicted",
                  t.predicted.data);
  if (o && d->kind == TL_TASK_CLASS)
    json_object_set_new(o, "probability", json_real(tl_answer_surety(d, i, p, at)));
  if (o && (d->kind == TL_TASK_VALUE || d->kind == TL_TASK_PAIR))
    json_object_set_new(o, "judged", json_false());
  for (int k = 0; k < 3; k++) tl_buf_free(all[k]);
  return o;
}
