#include "tilth/report.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "eval/report_internal.h"

enum { MAX_DOCUMENT = 256 << 20 };

static tl_status load(const char *path, json_t **doc, tl_err *err) {
  tl_buf text = {0};
  tl_status s = tl_file_read(path, MAX_DOCUMENT, &text, err);
  if (s == TL_OK) {
    json_error_t e;
    *doc = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &e);
    if (!*doc)
      s = tl_fail(err, TL_DATA, "%s:%d:%d: not valid JSON: %s", path, e.line, e.column, e.text);
  }
  tl_buf_free(&text);
  if (s != TL_OK) return s;
  const char *schema = json_string_value(json_object_get(*doc, "schema"));
  if (schema && !strcmp(schema, "tilth-report/1")) return TL_OK;
  json_decref(*doc);
  *doc = NULL;
  return tl_fail(err, TL_DATA,
                 "%s: not a report document: expected an object with \"schema\": "
                 "\"tilth-report/1\"",
                 path);
}

static tl_status notes_section(tl_buf *b, const json_t *notes, tl_err *err) {
  if (!notes) return TL_OK;
  TL_TRY(tl_json_expect(notes, JSON_ARRAY, "notes", err));
  if (!json_array_size(notes)) return TL_OK;
  tl_buf_puts(b, "<section><h2>Notes</h2>");
  for (size_t i = 0; i < json_array_size(notes); i++) {
    const json_t *note = json_array_get(notes, i);
    TL_TRY(tl_json_expect(note, JSON_STRING, "notes: each note", err));
    tl_buf_puts(b, "<p>");
    tl_html_text(b, json_string_value(note));
    tl_buf_puts(b, "</p>");
  }
  tl_buf_puts(b, "</section>\n");
  return TL_OK;
}

static tl_status page(tl_buf *b, const json_t *doc, tl_study *study, tl_err *err) {
  const char *title, *created;
  TL_TRY(tl_json_str(doc, "document", "title", &title, err));
  TL_TRY(tl_json_str(doc, "document", "created", &created, err));
  if (!title) return tl_fail(err, TL_DATA, "report document: title must be a string");
  const json_t *study_doc = json_object_get(doc, "study");
  if (study_doc) TL_TRY(tl_study_parse(study_doc, study, err));
  tl_buf_puts(b,
              "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
              "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>");
  tl_html_text(b, title);
  tl_buf_puts(b, "</title>\n<style>");
  tl_buf_puts(b, tl_report_style);
  tl_buf_puts(
      b, "</style>\n</head>\n<body>\n<main>\n<header><p class=\"eyebrow\">Tilth report</p><h1>");
  tl_html_text(b, title);
  tl_buf_puts(b, "</h1>");
  if (study_doc) tl_study_verdict(b, study);
  if (created) {
    tl_buf_puts(b, "<p class=\"meta\">");
    tl_html_text(b, created);
    tl_buf_puts(b, "</p>");
  }
  tl_buf_puts(b, "</header>\n");
  if (study_doc) tl_study_section(b, study);
  TL_TRY(tl_predictions_section(b, json_object_get(doc, "predictions"), err));
  TL_TRY(tl_curves_section(b, json_object_get(doc, "curves"), err));
  TL_TRY(tl_costs_section(b, json_object_get(doc, "costs"), err));
  TL_TRY(notes_section(b, json_object_get(doc, "notes"), err));
  TL_TRY(tl_info_section(b, json_object_get(doc, "info"), err));
  tl_buf_puts(b,
              "<footer>Written by tilth. This page needs no network and runs no scripts.</footer>"
              "\n</main>\n</body>\n</html>\n");
  return tl_buf_check(b, err);
}

tl_status tl_report_write(const char *json_path, const char *html_path, tl_err *err) {
  json_t *doc = NULL;
  TL_TRY(load(json_path, &doc, err));
  tl_buf b = {0};
  tl_study *study = calloc(1, sizeof *study);
  tl_status s = study ? page(&b, doc, study, err) : tl_fail(err, TL_NOMEM, "out of memory");
  if (s == TL_OK) s = tl_file_write_atomic(html_path, b.data, b.len, err);
  free(study);
  tl_buf_free(&b);
  json_decref(doc);
  return s;
}
