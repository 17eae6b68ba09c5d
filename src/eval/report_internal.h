/* Parts of the report writer; tilth/report.h describes the document. */
#ifndef TL_EVAL_REPORT_INTERNAL_H
#define TL_EVAL_REPORT_INTERNAL_H

#include <jansson.h>
#include "base/buf.h"
#include "eval/stats.h"
#include "tilth/status.h"

extern const char tl_report_style[]; /* the style sheet */

/* --- html (report_html.c) --- */

void tl_html_text(tl_buf *b, const char *s);      /* escaped for text and attributes */
void tl_html_count(tl_buf *b, double v);          /* 82115 -> 82,115 */
void tl_html_short(tl_buf *b, double v);          /* 1250000 -> 1.25M; 0.0006 -> 6e-04 */
void tl_html_duration(tl_buf *b, double seconds); /* 598 -> 9 min 58 s */
void tl_html_value(tl_buf *b, const json_t *v);   /* a string, number or bool, escaped */
/* A PNG file as a data URI; anything else is an error (DATA), which names `where`. */
tl_status tl_html_picture(tl_buf *b, const json_t *uri, const char *where, const char *alt,
                          tl_err *err); /* report_pictures.c */
/* Typed members; the key path of an error is where.key. A missing or null member gives NULL or NAN
 * with TL_OK. */
tl_status tl_json_str(const json_t *o, const char *where, const char *key, const char **out,
                      tl_err *err);
tl_status tl_json_num(const json_t *o, const char *where, const char *key, double *out,
                      tl_err *err);
/* DATA unless v is of this type. */
tl_status tl_json_expect(const json_t *v, json_type type, const char *where, tl_err *err);

/* --- plots (report_plot.c) --- */

typedef struct tl_plot_series {
  const char *name; /* for the legend */
  int style;        /* 0..4: colour, dash and marker; the style sheet has the colours */
  bool markers;     /* a marker at each point */
  const double *x, *y;
  const double *half; /* interval bars y +- half on a linear axis, or NULL; NAN: none there */
  size_t n;           /* points with a NAN are left out */
} tl_plot_series;

typedef struct tl_plot {
  const char *label; /* what it shows, for those who do not see it */
  const char *x_title, *y_title;
  bool log_x, log_y;
  bool small;            /* drawn at phone size only */
  double y_scale;        /* ticks show y * y_scale (100 for percent); 0: 1 */
  double y_low, y_high;  /* there are no y beyond: bars and axis end there; both 0: no ends */
  const double *x_ticks; /* ticks exactly here, or NULL */
  size_t n_x_ticks;
  double level;            /* a horizontal line, or NAN */
  const char *level_title; /* its text */
  const tl_plot_series *series;
  size_t n_series;
} tl_plot;

/* Appends a legend and two SVG drawings (wide; narrow for phones), of which the style sheet shows
 * one. Nothing if there is no point to show. */
void tl_plot_html(tl_buf *b, const tl_plot *p);

/* --- sections --- */

enum { TL_MAX_LABELS = 32, TL_MAX_SEEDS = 64, TL_MAX_ARMS = 5 };

typedef struct tl_arm {
  const char *title; /* borrowed from the document */
  enum { TL_ARM_PRETRAINED, TL_ARM_SCRATCH, TL_ARM_BASELINE } role;
  double value[TL_MAX_LABELS][TL_MAX_SEEDS]; /* NAN: that seed has none */
  size_t n[TL_MAX_LABELS];
  tl_interval stat[TL_MAX_LABELS];
  double mean[TL_MAX_LABELS], half[TL_MAX_LABELS]; /* of stat */
} tl_arm;

typedef struct tl_study {
  const char *task, *metric;           /* metric: "accuracy" or another score's name */
  double scale;                        /* values are shown times this */
  bool lower;                          /* lower values are better */
  double range[2];                     /* of all values there can be; both 0: any */
  double classes, test_size, majority; /* NAN: not given */
  size_t n_labels, n_arms;
  double labels[TL_MAX_LABELS];
  tl_arm arms[TL_MAX_ARMS];
  const json_t *diverged; /* strings; NULL: none */
} tl_study;

/* report_study.c; `s` is large: on the heap. */
tl_status tl_study_parse(const json_t *study, tl_study *s, tl_err *err);
const tl_arm *tl_study_arm(const tl_study *s, int role); /* the first of the role, or NULL */
void tl_study_verdict(tl_buf *b, const tl_study *s);     /* the result in a few sentences */
void tl_study_section(tl_buf *b, const tl_study *s);
/* report_run.c; `dir` is the document's folder. */
tl_status tl_curves_section(tl_buf *b, const json_t *curves, const char *dir, tl_err *err);
tl_status tl_costs_section(tl_buf *b, const json_t *costs, tl_err *err);
tl_status tl_details_section(tl_buf *b, const json_t *details, tl_err *err); /* report_details.c */
tl_status tl_predictions_section(tl_buf *b, const json_t *predictions, tl_err *err);
tl_status tl_info_section(tl_buf *b, const json_t *info, tl_err *err);
tl_status tl_pictures_section(tl_buf *b, const json_t *pictures,
                              tl_err *err); /* report_pictures.c */

/* report_layers.c: {"layers": [name], "step": [n], "norm": [[of each layer] per step]} of a run's
 * metrics.jsonl, empty where it has none; and its picture (nothing without two steps). */
tl_status tl_layers_read(const char *metrics, json_t **out, tl_err *err);
void tl_layers_section(tl_buf *b, const json_t *doc);

/* --- training curves (report_curve.c) --- */

enum tl_curve_column {
  TL_CURVE_STEP,
  TL_CURVE_TOKENS,
  TL_CURVE_LOSS,
  TL_CURVE_VAL_LOSS,
  TL_CURVE_BITS,
  TL_CURVE_VAL_BITS,
  TL_CURVE_LR,
  TL_CURVE_GRAD_NORM,
  TL_CURVE_SPEED,
  TL_CURVE_COLUMNS
};

/* Rows of one curve, NAN where there is no value; a column that is absent is NULL. */
typedef struct tl_curve {
  double *column[TL_CURVE_COLUMNS];
  size_t n;
} tl_curve;

/* From an entry of "curves"; *c is freed by tl_curve_free, after an error, too. */
tl_status tl_curve_read(const json_t *o, const char *where, const char *dir, tl_curve *c,
                        tl_err *err);
void tl_curve_free(tl_curve *c);

#endif
