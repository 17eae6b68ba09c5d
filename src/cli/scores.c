/* Scores for people and for programs. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include "cli/cli.h"

void tl_cli_print_scores(const char *what, const tl_scores *scores, FILE *f) {
  for (int i = 0; i < scores->n; i++) {
    const tl_score *s = &scores->score[i];
    if (isnan(s->value)) continue;
    if (what) fprintf(f, "%-12s ", what);
    if (what) what = "";
    fprintf(f, "%-18s %.4f", s->name, s->value);
    if (!isnan(s->lo)) fprintf(f, "  (95%% %.4f .. %.4f)", s->lo, s->hi);
    char how[128];
    tl_score_signature(s->name, how, sizeof how);
    fprintf(f, "%s%s\n", *how ? "  " : "", how);
  }
}

json_t *tl_cli_scores_json(const tl_scores *scores) {
  json_t *o = json_object();
  for (int i = 0; i < scores->n; i++) {
    const tl_score *s = &scores->score[i];
    if (isnan(s->value)) continue;
    json_t *x = isnan(s->lo)
                    ? json_pack("{s:f}", "value", s->value)
                    : json_pack("{s:f,s:f,s:f}", "value", s->value, "low", s->lo, "high", s->hi);
    char how[128];
    tl_score_signature(s->name, how, sizeof how);
    if (*how) json_object_set_new(x, "signature", json_string(how));
    json_object_set_new(o, s->name, x);
  }
  return o;
}
