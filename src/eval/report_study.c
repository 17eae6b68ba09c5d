/* The label study: how much pretraining was worth. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "eval/report_internal.h"

static tl_status parse_labels(const json_t *list, tl_study *s, tl_err *err) {
  TL_TRY(tl_json_expect(list, JSON_ARRAY, "study.labels", err));
  s->n_labels = json_array_size(list);
  if (s->n_labels < 1 || s->n_labels > TL_MAX_LABELS)
    return tl_fail(err, TL_DATA, "report document: study.labels has %zu counts; expected 1 to %d",
                   s->n_labels, TL_MAX_LABELS);
  for (size_t i = 0; i < s->n_labels; i++) {
    s->labels[i] = json_number_value(json_array_get(list, i));
    if (!(s->labels[i] > (i ? s->labels[i - 1] : 0)))
      return tl_fail(err, TL_DATA,
                     "report document: study.labels[%zu] must be a number above the one before it",
                     i);
  }
  return TL_OK;
}

static tl_status parse_metric(const json_t *metric, tl_study *s, tl_err *err) {
  s->metric = "accuracy";
  s->scale = 100;
  s->range[1] = 1;
  if (!metric) return TL_OK;
  TL_TRY(tl_json_expect(metric, JSON_OBJECT, "study.metric", err));
  const json_t *range = json_object_get(metric, "range");
  for (size_t i = 0; i < 2; i++) s->range[i] = json_number_value(json_array_get(range, i));
  TL_TRY(tl_json_str(metric, "study.metric", "name", &s->metric, err));
  TL_TRY(tl_json_num(metric, "study.metric", "scale", &s->scale, err));
  s->lower = json_is_true(json_object_get(metric, "lower"));
  if (s->metric && s->scale > 0) return TL_OK;
  return tl_fail(err, TL_DATA,
                 "report document: study.metric must have a name and a scale above 0");
}

/* Of the values that are there, or of the differences of those that both have. */
static tl_interval finite_interval(const double *x, const double *minus, size_t n) {
  double v[TL_MAX_SEEDS];
  size_t k = 0;
  for (size_t i = 0; i < n; i++)
    if (isfinite(v[k] = minus ? x[i] - minus[i] : x[i])) k++;
  return tl_t_interval(v, k, 0.95);
}

static tl_status parse_values(const json_t *list, const char *where, const tl_study *s, tl_arm *a,
                              size_t i, tl_err *err) {
  const bool is_share = !strcmp(s->metric, "accuracy");
  TL_TRY(tl_json_expect(list, JSON_ARRAY, where, err));
  size_t n = json_array_size(list);
  if (n > TL_MAX_SEEDS)
    return tl_fail(err, TL_DATA, "report document: %s has %zu values; at most %d are shown", where,
                   n, TL_MAX_SEEDS);
  for (size_t k = 0; k < n; k++) {
    const json_t *v = json_array_get(list, k);
    double x = json_is_null(v) ? NAN : json_number_value(v);
    if (!json_is_null(v) && (!json_is_number(v) || (is_share && !(x >= 0 && x <= 1))))
      return tl_fail(err, TL_DATA, "report document: %s[%zu] must be a number%s", where, k,
                     is_share ? " from 0 to 1" : "");
    a->value[i][k] = x;
  }
  a->n[i] = n;
  a->stat[i] = finite_interval(a->value[i], NULL, n);
  a->mean[i] = a->stat[i].mean;
  a->half[i] = a->stat[i].half;
  return TL_OK;
}

static tl_status parse_arm(const json_t *o, size_t index, tl_study *s, tl_err *err) {
  char where[64];
  snprintf(where, sizeof where, "study.arms[%zu]", index);
  TL_TRY(tl_json_expect(o, JSON_OBJECT, where, err));
  tl_arm *a = &s->arms[index];
  const char *role;
  TL_TRY(tl_json_str(o, where, "title", &a->title, err));
  TL_TRY(tl_json_str(o, where, "role", &role, err));
  static const char *const roles[] = {"pretrained", "scratch", "baseline"};
  size_t r = 0;
  while (r < 3 && (!role || strcmp(role, roles[r]) != 0)) r++;
  if (r == 3 || !a->title)
    return tl_fail(err, TL_DATA,
                   "report document: %s must have a title and the role \"pretrained\", "
                   "\"scratch\" or \"baseline\"",
                   where);
  a->role = r;
  const json_t *values = json_object_get(o, "values");
  if (json_array_size(values) != s->n_labels)
    return tl_fail(err, TL_DATA,
                   "report document: %s.values must be an array of %zu arrays, one for each "
                   "entry of study.labels",
                   where, s->n_labels);
  for (size_t i = 0; i < s->n_labels; i++) {
    char path[96];
    snprintf(path, sizeof path, "%s.values[%zu]", where, i);
    TL_TRY(parse_values(json_array_get(values, i), path, s, a, i, err));
  }
  return TL_OK;
}

tl_status tl_study_parse(const json_t *study, tl_study *s, tl_err *err) {
  TL_TRY(tl_json_expect(study, JSON_OBJECT, "study", err));
  TL_TRY(tl_json_str(study, "study", "task", &s->task, err));
  TL_TRY(tl_json_num(study, "study", "classes", &s->classes, err));
  TL_TRY(tl_json_num(study, "study", "test_size", &s->test_size, err));
  TL_TRY(tl_json_num(study, "study", "majority", &s->majority, err));
  TL_TRY(parse_labels(json_object_get(study, "labels"), s, err));
  TL_TRY(parse_metric(json_object_get(study, "metric"), s, err));
  s->diverged = json_object_get(study, "diverged");
  if (s->diverged) TL_TRY(tl_json_expect(s->diverged, JSON_ARRAY, "study.diverged", err));
  const json_t *arms = json_object_get(study, "arms");
  TL_TRY(tl_json_expect(arms, JSON_ARRAY, "study.arms", err));
  s->n_arms = json_array_size(arms);
  if (s->n_arms > TL_MAX_ARMS)
    return tl_fail(err, TL_DATA, "report document: study.arms has %zu arms; at most %d are shown",
                   s->n_arms, TL_MAX_ARMS);
  for (size_t i = 0; i < s->n_arms; i++) TL_TRY(parse_arm(json_array_get(arms, i), i, s, err));
  return TL_OK;
}

const tl_arm *tl_study_arm(const tl_study *s, int role) {
  for (size_t i = 0; i < s->n_arms; i++)
    if ((int)s->arms[i].role == role) return &s->arms[i];
  return NULL;
}

/* How much better pretrained is than other at label count i, paired where both have the same seeds.
 */
static tl_interval gain(const tl_study *s, const tl_arm *p, const tl_arm *other, size_t i) {
  tl_interval g = {p->mean[i] - other->mean[i], NAN, 0};
  if (p->n[i] == other->n[i]) g = finite_interval(p->value[i], other->value[i], p->n[i]);
  if (s->lower) g.mean = -g.mean;
  return g;
}

/* Scores of 0 to 100 have one digit behind the point, losses three. */
static int digits(const tl_study *s) {
  return s->lower ? 3 : 1;
}
static const char *percent_sign(const tl_study *s) {
  return s->scale == 100 && !strcmp(s->metric, "accuracy") ? "&nbsp;%" : "";
}

static void number(tl_buf *b, const tl_study *s, double v) {
  tl_buf_printf(b, "%.*f%s", digits(s), s->scale * v, percent_sign(s));
}

static void number_with_interval(tl_buf *b, const tl_study *s, tl_interval v) {
  if (!isfinite(v.mean)) {
    tl_buf_puts(b, "&ndash;");
    return;
  }
  number(b, s, v.mean);
  if (isfinite(v.half))
    tl_buf_printf(b, " <small>&plusmn;&nbsp;%.*f</small>", digits(s), s->scale * v.half);
}

static void points(tl_buf *b, const tl_study *s, double v) {
  tl_buf_printf(b, "%s%.*f", v < 0 ? "&minus;" : "+", digits(s), fabs(s->scale * v));
}

static void range_of(tl_buf *b, const tl_study *s, tl_interval g) {
  tl_buf_printf(b, "95&nbsp;%% interval %.*f to %.*f", digits(s), s->scale * (g.mean - g.half),
                digits(s), s->scale * (g.mean + g.half));
}

/* "entity_f1" as "entity f1". */
static void metric_name(tl_buf *b, const tl_study *s) {
  size_t at = b->len;
  tl_html_text(b, s->metric);
  for (; b->data && at < b->len; at++)
    if (b->data[at] == '_') b->data[at] = ' ';
}

/* What `other` would need to reach the accuracy of `p` at label count i: tl_labels_needed on its
 * curve; false if there is nothing to compare. */
static bool labels_worth(const tl_study *s, const tl_arm *p, const tl_arm *other, size_t i,
                         int *side, double *needed) {
  double labels[TL_MAX_LABELS], score[TL_MAX_LABELS];
  size_t n = 0;
  for (size_t k = 0; k < s->n_labels; k++) {
    if (!isfinite(other->mean[k])) continue;
    labels[n] = s->labels[k];
    score[n++] = s->lower ? -other->mean[k] : other->mean[k];
  }
  if (!n || !isfinite(p->mean[i])) return false;
  *side = tl_labels_needed(labels, score, n, s->lower ? -p->mean[i] : p->mean[i], needed);
  /* Interpolated between few points: two digits are all it can bear. */
  double unit = *side == 0 ? pow(10, floor(log10(*needed)) - 1) : 1;
  if (unit > 1) *needed = round(*needed / unit) * unit;
  return true;
}

static void worth_cell(tl_buf *b, const tl_study *s, const tl_arm *p, const tl_arm *other,
                       size_t i) {
  int side;
  double needed;
  tl_buf_puts(b, "<td class=\"n\">");
  if (labels_worth(s, p, other, i, &side, &needed)) {
    tl_buf_puts(b, side < 0 ? "fewer than " : side > 0 ? "more than " : "");
    tl_html_count(b, needed);
    double ratio = needed / s->labels[i];
    if (side >= 0 && ratio > 1.05) tl_buf_printf(b, " <small>(%.2g&times;)</small>", ratio);
  } else {
    tl_buf_puts(b, "&ndash;");
  }
  tl_buf_puts(b, "</td>");
}

static bool is_gain(tl_interval g) {
  return isfinite(g.half) && g.mean - g.half > 0;
}
static bool is_loss(tl_interval g) {
  return isfinite(g.half) && g.mean + g.half < 0;
}

/* The label count with the largest gain over random weights, or n_labels. */
static size_t best_gain(const tl_study *s, const tl_arm *p, const tl_arm *scratch) {
  size_t best = s->n_labels;
  for (size_t i = 0; i < s->n_labels; i++) {
    tl_interval g = gain(s, p, scratch, i);
    if (is_gain(g) && (best == s->n_labels || g.mean > gain(s, p, scratch, best).mean)) best = i;
  }
  return best;
}

void tl_study_verdict(tl_buf *b, const tl_study *s) {
  const tl_arm *p = tl_study_arm(s, TL_ARM_PRETRAINED), *r = tl_study_arm(s, TL_ARM_SCRATCH);
  const tl_arm *base = tl_study_arm(s, TL_ARM_BASELINE);
  if (!p || !r) return;
  tl_buf_puts(b, "<p class=\"lead\">");
  size_t i = best_gain(s, p, r);
  if (i < s->n_labels) {
    tl_interval g = gain(s, p, r, i);
    tl_buf_puts(b, "Pretraining paid. With ");
    tl_html_count(b, s->labels[i]);
    tl_buf_puts(b, " labels the pretrained network has a test ");
    metric_name(b, s);
    tl_buf_puts(b, " of ");
    number(b, s, p->mean[i]);
    tl_buf_puts(b, ", the same network from random weights ");
    number(b, s, r->mean[i]);
    tl_buf_puts(b, ": <b>");
    points(b, s, g.mean);
    tl_buf_puts(b, s->lower ? " better</b> (" : " points</b> (");
    range_of(b, s, g);
    tl_buf_puts(b, "). ");
    int side;
    double needed;
    if (labels_worth(s, p, r, i, &side, &needed) && side >= 0) {
      tl_buf_puts(b, "From random weights that takes ");
      tl_buf_puts(b, side > 0 ? "more than " : "about ");
      tl_html_count(b, needed);
      double ratio = needed / s->labels[i];
      if (ratio > 1.05)
        tl_buf_printf(b, " labels, %.2g times as many. ", ratio);
      else
        tl_buf_puts(b, " labels. ");
    }
  } else {
    tl_buf_puts(b, "At no number of labels do these seeds show that the pretrained network is "
                   "better than the same network from random weights. ");
  }
  if (base) {
    size_t wins = 0, losses = 0;
    for (size_t k = 0; k < s->n_labels; k++) {
      double more = (p->mean[k] - base->mean[k]) * (s->lower ? -1 : 1);
      wins += more > 0;
      losses += more < 0;
    }
    tl_buf_puts(b, "The baseline, ");
    tl_html_text(b, base->title);
    if (wins && !losses)
      tl_buf_puts(b, ", does worse than the pretrained network throughout.");
    else if (losses && !wins)
      tl_buf_puts(b, ", does better than the pretrained network throughout.");
    else
      tl_buf_printf(b, ", does better than the pretrained network at %zu of the %zu label counts.",
                    losses, s->n_labels);
  }
  tl_buf_puts(b, "</p>\n");
}

static void tiles(tl_buf *b, const tl_study *s, const tl_arm *p, const tl_arm *r) {
  tl_buf_puts(b, "<div class=\"tiles\">");
  for (size_t i = 0; i < s->n_labels; i++) {
    tl_interval g = gain(s, p, r, i);
    if (!isfinite(g.mean)) continue;
    tl_buf_puts(b, "<div class=\"tile\"><span>");
    tl_html_count(b, s->labels[i]);
    tl_buf_printf(b, " labels</span><b class=\"%s\">",
                  is_gain(g)   ? "up"
                  : is_loss(g) ? "down"
                               : "same");
    points(b, s, g.mean);
    tl_buf_puts(b, s->lower ? "</b><span>" : " points</b><span>");
    if (isfinite(g.half))
      range_of(b, s, g);
    else
      tl_buf_puts(b, "no interval: too few paired seeds");
    tl_buf_puts(b, "</span><span>");
    number(b, s, p->mean[i]);
    tl_buf_puts(b, " against ");
    number(b, s, r->mean[i]);
    tl_buf_puts(b, "</span></div>");
  }
  tl_buf_puts(b, "</div>");
}

static void figure(tl_buf *b, const tl_study *s) {
  tl_plot_series series[TL_MAX_ARMS];
  size_t seeds = 0;
  for (size_t a = 0; a < s->n_arms; a++) {
    const tl_arm *arm = &s->arms[a];
    series[a] = (tl_plot_series){.name = arm->title,
                                 .style = (int)a,
                                 .markers = true,
                                 .x = s->labels,
                                 .y = arm->mean,
                                 .half = arm->half,
                                 .n = s->n_labels};
    for (size_t i = 0; i < s->n_labels; i++)
      if (arm->n[i] > seeds) seeds = arm->n[i];
  }
  char title[96];
  snprintf(title, sizeof title, "test %.60s%s", s->metric,
           s->scale == 100 ? (*percent_sign(s) ? ", %" : " x 100") : "");
  for (char *c = title; *c; c++)
    if (*c == '_') *c = ' ';
  tl_plot plot = {.label = "Score on the test set by number of labels, for each method",
                  .x_title = "labelled examples (logarithmic)",
                  .y_title = title,
                  .log_x = true,
                  .y_scale = s->scale,
                  .y_low = s->range[0],
                  .y_high = s->range[1],
                  .x_ticks = s->labels,
                  .n_x_ticks = s->n_labels,
                  .level = s->majority,
                  .level_title = "always the most frequent class",
                  .series = series,
                  .n_series = s->n_arms};
  tl_buf_puts(b, "<figure>");
  tl_plot_html(b, &plot);
  tl_buf_printf(b,
                "<figcaption>Mean over %zu seed%s; the bars are 95&nbsp;%% t-intervals of the "
                "mean. Each seed draws its own labelled examples%s. The vertical axis need not "
                "start at zero.</figcaption></figure>",
                seeds, seeds == 1 ? "" : "s", s->n_arms > 1 ? ", the same for every method" : "");
}

static void table(tl_buf *b, const tl_study *s) {
  tl_buf_puts(b, "<div class=\"scroll\"><table><thead><tr><th>labels</th>");
  for (size_t a = 0; a < s->n_arms; a++) {
    tl_buf_puts(b, "<th class=\"n\">");
    tl_html_text(b, s->arms[a].title);
    tl_buf_puts(b, "</th>");
  }
  tl_buf_puts(b, "</tr></thead><tbody>");
  for (size_t i = 0; i < s->n_labels; i++) {
    tl_buf_puts(b, "<tr><td>");
    tl_html_count(b, s->labels[i]);
    tl_buf_puts(b, "</td>");
    for (size_t a = 0; a < s->n_arms; a++) {
      tl_buf_puts(b, "<td class=\"n\">");
      number_with_interval(b, s, s->arms[a].stat[i]);
      tl_buf_puts(b, "</td>");
    }
    tl_buf_puts(b, "</tr>");
  }
  tl_buf_puts(b, "</tbody></table></div>");
}

static void diverged(tl_buf *b, const tl_study *s) {
  if (!json_array_size(s->diverged)) return;
  tl_buf_puts(
      b, "<h3 style=\"margin-top:24px\">Trainings that diverged</h3><p class=\"note\">Each was "
         "done again with the learning rate that was next best on the records held out.</p>"
         "<ul>");
  for (size_t i = 0; i < json_array_size(s->diverged); i++) {
    tl_buf_puts(b, "<li>");
    tl_html_value(b, json_array_get(s->diverged, i));
    tl_buf_puts(b, "</li>");
  }
  tl_buf_puts(b, "</ul>");
}

/* One row per label count: what each other method would need for the pretrained accuracy. */
static void worth_table(tl_buf *b, const tl_study *s, const tl_arm *p) {
  tl_buf_puts(b, "<h3 style=\"margin-top:24px\">Worth how many labels?</h3><p class=\"note\">How "
                 "many labels each other method needs for the score that the pretrained network "
                 "has with the number on the left, read off its curve (linear in the logarithm of "
                 "the number of labels, nothing read beyond its ends).</p>"
                 "<div class=\"scroll\"><table><thead><tr><th>pretrained with</th>");
  for (size_t a = 0; a < s->n_arms; a++) {
    if (&s->arms[a] == p) continue;
    tl_buf_puts(b, "<th class=\"n\">");
    tl_html_text(b, s->arms[a].title);
    tl_buf_puts(b, "</th>");
  }
  tl_buf_puts(b, "</tr></thead><tbody>");
  for (size_t i = 0; i < s->n_labels; i++) {
    tl_buf_puts(b, "<tr><td>");
    tl_html_count(b, s->labels[i]);
    tl_buf_puts(b, "</td>");
    for (size_t a = 0; a < s->n_arms; a++) {
      if (&s->arms[a] == p) continue;
      worth_cell(b, s, p, &s->arms[a], i);
    }
    tl_buf_puts(b, "</tr>");
  }
  tl_buf_puts(b, "</tbody></table></div>");
}

void tl_study_section(tl_buf *b, const tl_study *s) {
  const tl_arm *p = tl_study_arm(s, TL_ARM_PRETRAINED), *r = tl_study_arm(s, TL_ARM_SCRATCH);
  tl_buf_puts(b, "<section><h2>What pretraining was worth</h2><p>");
  if (s->task) tl_html_text(b, s->task);
  if (isfinite(s->classes)) tl_buf_printf(b, " &middot; %.0f classes", s->classes);
  if (isfinite(s->test_size)) {
    tl_buf_puts(b, " &middot; ");
    tl_html_count(b, s->test_size);
    tl_buf_puts(b, " test records");
  }
  tl_buf_puts(b, "</p>");
  if (p && r) {
    tl_buf_puts(b, "<p class=\"note\">How much better the pretrained network is than the same "
                   "network from random weights (");
    metric_name(b, s);
    tl_buf_puts(b, "):</p>");
    tiles(b, s, p, r);
  }
  figure(b, s);
  table(b, s);
  if (p && s->n_arms > 1) worth_table(b, s, p);
  diverged(b, s);
  tl_buf_puts(b, "</section>\n");
}
