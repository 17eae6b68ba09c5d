/* Line plots as SVG. All colours come from the style sheet (classes s0 .. s4), so that one drawing
 * serves light and dark. */
#include <math.h>
#include <stdio.h>

#include "eval/report_internal.h"

enum { MAX_TICKS = 32 };

typedef struct axis {
  double low, high; /* in the axis' own scale: log10 where logarithmic */
  bool log;
  double tick[MAX_TICKS]; /* in data units */
  size_t n_ticks;
} axis;

typedef struct frame {
  double width, height, left, right, top, bottom; /* right, bottom: coordinates, not margins */
  axis x, y;
} frame;

static double scaled(const axis *a, double v) {
  return a->log ? log10(v) : v;
}
static double at_x(const frame *f, double v) {
  return f->left + (scaled(&f->x, v) - f->x.low) / (f->x.high - f->x.low) * (f->right - f->left);
}
static double at_y(const frame *f, double v) {
  return f->bottom - (scaled(&f->y, v) - f->y.low) / (f->y.high - f->y.low) * (f->bottom - f->top);
}

/* Values beyond 1e30 would leave no room for the arithmetic of the axes. */
static bool shown(const tl_plot *p, double x, double y) {
  return fabs(x) < 1e30 && fabs(y) < 1e30 && (!p->log_x || x > 0) && (!p->log_y || y > 0);
}

static void include(axis *a, double v) {
  if (!(fabs(v) < 1e30) || (a->log && v <= 0)) return;
  double s = scaled(a, v);
  if (s < a->low) a->low = s;
  if (s > a->high) a->high = s;
}

/* Widens the linear axis to multiples of a step of 1, 2, 2.5 or 5 times a power of ten. */
static void linear_ticks(axis *a, size_t about, bool widen) {
  double span = a->high - a->low;
  double raw = span / (double)about, power = pow(10, floor(log10(raw))), step = 10 * power;
  static const double nice[] = {1, 2, 2.5, 5};
  for (int i = 3; i >= 0; i--)
    if (nice[i] * power >= raw * 0.999) step = nice[i] * power;
  if (widen) {
    a->low = floor(a->low / step + 1e-9) * step;
    a->high = ceil(a->high / step - 1e-9) * step;
  }
  double first = ceil(a->low / step - 1e-9);
  for (double i = first; i * step <= a->high + step * 1e-6 && a->n_ticks < MAX_TICKS; i++)
    a->tick[a->n_ticks++] = i == 0 ? 0 : i * step;
}

static void log_ticks(axis *a, size_t about) {
  double decades = a->high - a->low;
  static const double dense[] = {1, 2, 5};
  int per_decade = decades * 3 <= (double)about + 2 ? 3 : 1;
  double every = per_decade == 1 ? fmax(1, ceil(decades / (double)about)) : 1;
  for (double e = floor(a->low); e <= a->high + 1; e += every)
    for (int i = 0; i < per_decade && a->n_ticks < MAX_TICKS; i++) {
      double s = e + log10(dense[i]);
      if (s >= a->low - 1e-9 && s <= a->high + 1e-9) a->tick[a->n_ticks++] = pow(10, s);
    }
}

static double bounded(const tl_plot *p, double y) {
  return p->y_low < p->y_high ? fmin(fmax(y, p->y_low), p->y_high) : y;
}

static void include_series(const tl_plot *p, const tl_plot_series *r, frame *f) {
  for (size_t i = 0; i < r->n; i++) {
    if (!shown(p, r->x[i], r->y[i])) continue;
    include(&f->x, r->x[i]);
    include(&f->y, r->y[i]);
    if (r->half && isfinite(r->half[i])) {
      include(&f->y, bounded(p, r->y[i] - r->half[i]));
      include(&f->y, bounded(p, r->y[i] + r->half[i]));
    }
  }
}

static bool lay_out(const tl_plot *p, frame *f) {
  f->x = (axis){.low = INFINITY, .high = -INFINITY, .log = p->log_x};
  f->y = (axis){.low = INFINITY, .high = -INFINITY, .log = p->log_y};
  for (size_t s = 0; s < p->n_series; s++) include_series(p, &p->series[s], f);
  if (!(f->x.low <= f->x.high)) return false;
  include(&f->y, p->level);
  if (f->x.high - f->x.low < 1e-12) {
    f->x.low -= 0.5;
    f->x.high += 0.5;
  } else if (p->x_ticks) { /* few points: keep them off the edges */
    double pad = 0.06 * (f->x.high - f->x.low);
    f->x.low -= pad;
    f->x.high += pad;
  }
  if (f->y.high - f->y.low < 1e-12 * fmax(1, fabs(f->y.high))) {
    double pad = f->y.high == 0 ? 1 : 0.1 * fabs(f->y.high);
    f->y.low = bounded(p, f->y.low - pad);
    f->y.high = bounded(p, f->y.high + pad);
  }
  size_t about_x = f->width > 500 ? 7 : 4, about_y = 5;
  if (p->x_ticks)
    for (size_t i = 0; i < p->n_x_ticks && i < MAX_TICKS; i++)
      f->x.tick[f->x.n_ticks++] = p->x_ticks[i];
  else if (p->log_x)
    log_ticks(&f->x, about_x);
  else
    linear_ticks(&f->x, about_x, false);
  if (p->log_y) {
    double pad = 0.05 * (f->y.high - f->y.low);
    f->y.low -= pad;
    f->y.high += pad;
    log_ticks(&f->y, about_y);
  } else {
    linear_ticks(&f->y, about_y, true);
  }
  return true;
}

static void tick_label(tl_buf *b, double v) {
  if (fabs(v) >= 1000 && fabs(v) < 10000 && v == round(v))
    tl_html_count(b, v);
  else
    tl_html_short(b, v);
}

static void draw_axes(tl_buf *b, const tl_plot *p, const frame *f) {
  double scale = p->y_scale > 0 ? p->y_scale : 1;
  for (size_t i = 0; i < f->y.n_ticks; i++) {
    double y = at_y(f, f->y.tick[i]);
    tl_buf_printf(b, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>",
                  f->left, f->right, y, y);
    tl_buf_printf(b, "<text class=\"tick\" text-anchor=\"end\" x=\"%.1f\" y=\"%.1f\">", f->left - 8,
                  y + 4);
    tick_label(b, f->y.tick[i] * scale);
    tl_buf_puts(b, "</text>");
  }
  tl_buf_printf(b, "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>",
                f->left, f->right, f->bottom, f->bottom);
  for (size_t i = 0; i < f->x.n_ticks; i++) {
    double x = at_x(f, f->x.tick[i]);
    tl_buf_printf(b, "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", x, x,
                  f->bottom, f->bottom + 5);
    tl_buf_printf(b, "<text class=\"tick\" text-anchor=\"middle\" x=\"%.1f\" y=\"%.1f\">", x,
                  f->bottom + 19);
    tick_label(b, f->x.tick[i]);
    tl_buf_puts(b, "</text>");
  }
  tl_buf_printf(b, "<text class=\"name\" text-anchor=\"end\" x=\"%.1f\" y=\"%.1f\">", f->right,
                f->bottom + 38);
  tl_html_text(b, p->x_title);
  tl_buf_printf(b, "</text><text class=\"name\" x=\"%.1f\" y=\"%.1f\">", 2.0, f->top - 12);
  tl_html_text(b, p->y_title);
  tl_buf_puts(b, "</text>");
  if (!(fabs(p->level) < 1e30) || (p->log_y && p->level <= 0)) return;
  double y = at_y(f, p->level);
  tl_buf_printf(b, "<line class=\"level\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>",
                f->left, f->right, y, y);
  tl_buf_printf(b, "<text class=\"tick\" text-anchor=\"end\" x=\"%.1f\" y=\"%.1f\">", f->right,
                y - 6);
  tl_html_text(b, p->level_title);
  tl_buf_puts(b, "</text>");
}

static void draw_marker(tl_buf *b, int style, double x, double y) {
  switch (style) {
  case 1:
    tl_buf_printf(b, "<rect class=\"m s1\" x=\"%.1f\" y=\"%.1f\" width=\"9\" height=\"9\"/>",
                  x - 4.5, y - 4.5);
    break;
  case 2:
    tl_buf_printf(b, "<path class=\"m s2\" d=\"M%.1f %.1fl5.5 9.5h-11z\"/>", x, y - 6.0);
    break;
  default:
    tl_buf_printf(b, "<circle class=\"m s%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"5\"/>", style, x, y);
  }
}

/* Interval bars of the series stand side by side, `shift` to the right of their points. */
static void draw_series(tl_buf *b, const tl_plot *p, const frame *f, const tl_plot_series *s,
                        double shift) {
  bool open = false;
  for (size_t i = 0; i < s->n; i++) {
    if (!shown(p, s->x[i], s->y[i])) continue;
    if (!open) tl_buf_printf(b, "<polyline class=\"l s%d\" points=\"", s->style);
    tl_buf_printf(b, "%s%.1f,%.1f", open ? " " : "", at_x(f, s->x[i]) + shift, at_y(f, s->y[i]));
    open = true;
  }
  if (open) tl_buf_puts(b, "\"/>");
  if (!s->markers && !s->half) return;
  for (size_t i = 0; i < s->n; i++) {
    if (!shown(p, s->x[i], s->y[i])) continue;
    double x = at_x(f, s->x[i]) + shift, y = at_y(f, s->y[i]);
    if (s->half && isfinite(s->half[i]) && !p->log_y) {
      double top = at_y(f, bounded(p, s->y[i] + s->half[i]));
      double low = at_y(f, bounded(p, s->y[i] - s->half[i]));
      tl_buf_printf(b, "<path class=\"i s%d\" d=\"M%.1f %.1fV%.1fM%.1f %.1fh8M%.1f %.1fh8\"/>",
                    s->style, x, top, low, x - 4, top, x - 4, low);
    }
    if (s->markers) draw_marker(b, s->style, x, y);
  }
}

static void draw(tl_buf *b, const tl_plot *p, double width, double height, const char *class) {
  frame f = {.width = width,
             .height = height,
             .left = 52,
             .right = width - 14,
             .top = 32,
             .bottom = height - 48};
  if (!lay_out(p, &f)) return;
  tl_buf_printf(b, "<svg class=\"%s\" viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"", class,
                width, height);
  tl_html_text(b, p->label);
  tl_buf_puts(b, "\">");
  draw_axes(b, p, &f);
  size_t with_bars = 0, bar = 0;
  for (size_t s = 0; s < p->n_series; s++) with_bars += p->series[s].half != NULL;
  for (size_t s = 0; s < p->n_series; s++) {
    double shift = 0;
    if (p->series[s].half) shift = 7.0 * ((double)bar++ - (double)(with_bars - 1) / 2);
    draw_series(b, p, &f, &p->series[s], shift);
  }
  tl_buf_puts(b, "</svg>");
}

void tl_plot_html(tl_buf *b, const tl_plot *p) {
  frame probe = {.width = 700};
  if (!lay_out(p, &probe)) return;
  if (p->n_series > 1) {
    tl_buf_puts(b, "<div class=\"legend\">");
    for (size_t s = 0; s < p->n_series; s++) {
      int style = p->series[s].style;
      tl_buf_printf(b,
                    "<span><svg class=\"chip\" viewBox=\"0 0 34 14\" aria-hidden=\"true\">"
                    "<polyline class=\"l s%d\" points=\"1,7 33,7\"/>",
                    style);
      if (p->series[s].markers) draw_marker(b, style, 17, 7);
      tl_buf_puts(b, "</svg>");
      tl_html_text(b, p->series[s].name);
      tl_buf_puts(b, "</span>");
    }
    tl_buf_puts(b, "</div>");
  }
  if (!p->small) draw(b, p, 720, 380, "wide");
  draw(b, p, 360, 300, p->small ? "always" : "narrow");
}
