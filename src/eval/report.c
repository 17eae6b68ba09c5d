#include "tilth/report.h"

#include <stdio.h>
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
  return s;
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

static tl_status page(tl_buf *b, const json_t *doc, const char *dir, tl_study *study, tl_err *err) {
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
  TL_TRY(tl_details_section(b, json_object_get(doc, "details"), err));
  TL_TRY(tl_predictions_section(b, json_object_get(doc, "predictions"), err));
  TL_TRY(tl_pictures_section(b, json_object_get(doc, "pictures"), err));
  TL_TRY(tl_curves_section(b, json_object_get(doc, "curves"), dir, err));
  tl_layers_section(b, json_object_get(doc, "layer_norms"));
  TL_TRY(tl_costs_section(b, json_object_get(doc, "costs"), err));
  TL_TRY(notes_section(b, json_object_get(doc, "notes"), err));
  TL_TRY(tl_info_section(b, json_object_get(doc, "info"), err));
  tl_buf_puts(b,
              "<footer>Written by tilth. This page needs no network and runs no scripts.</footer>"
              "\n</main>\n</body>\n</html>\n");
  return tl_buf_check(b, err);
}

static tl_status write_page(const json_t *doc, const char *dir, const char *html_path,
                            tl_err *err) {
  tl_buf b = {0};
  tl_study *study = calloc(1, sizeof *study);
  tl_status s = study ? page(&b, doc, dir, study, err) : tl_fail(err, TL_NOMEM, "out of memory");
  if (s == TL_OK) s = tl_file_write_atomic(html_path, b.data, b.len, err);
  free(study);
  tl_buf_free(&b);
  return s;
}

tl_status tl_report_write(const char *json_path, const char *html_path, tl_err *err) {
  json_t *doc = NULL;
  TL_TRY(load(json_path, &doc, err));
  const char *schema = json_string_value(json_object_get(doc, "schema"));
  const char *slash = strrchr(json_path, '/');
  char *dir = slash ? strndup(json_path, (size_t)(slash - json_path) + 1) : strdup(".");
  tl_status s;
  if (!schema || strcmp(schema, "tilth-report/1") != 0)
    s = tl_fail(err, TL_DATA,
                "%s: not a report document: expected an object with \"schema\": "
                "\"tilth-report/1\"",
                json_path);
  else
    s = dir ? write_page(doc, dir, html_path, err) : tl_fail(err, TL_NOMEM, "out of memory");
  free(dir);
  json_decref(doc);
  return s;
}

static void set_fact(json_t *facts, const char *key, json_t *value) {
  char name[64];
  snprintf(name, sizeof name, "%s", key);
  for (char *p = name; *p; p++)
    if (*p == '_') *p = ' ';
  json_object_set(facts, name, value);
}

/* The scalars of run.json, and the command line as one text. */
static json_t *run_facts(const json_t *run) {
  json_t *facts = json_object();
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)(uintptr_t)run, key, value) {
    if (json_is_string(value) || json_is_number(value) || json_is_boolean(value))
      set_fact(facts, key, value);
  }
  const json_t *argv = json_object_get(run, "argv");
  tl_buf line = {0};
  for (size_t i = 0; i < json_array_size(argv); i++) {
    const char *arg = json_string_value(json_array_get(argv, i));
    tl_buf_printf(&line, "%s%s", i ? " " : "", arg ? arg : "?");
  }
  if (line.len) json_object_set_new(facts, "command", json_string(line.data));
  tl_buf_free(&line);
  return facts;
}

/* Adds what tl_report_pictures left in the folder. */
static tl_status add_pictures(json_t *doc, const char *run_dir, tl_err *err) {
  char *path = tl_path_join(run_dir, "pictures.json");
  json_t *pictures = NULL;
  if (!path) return tl_fail(err, TL_NOMEM, "out of memory");
  tl_status s = tl_file_exists(path) ? load(path, &pictures, err) : TL_OK;
  if (s == TL_OK && pictures && !json_is_object(pictures))
    s = tl_fail(err, TL_DATA, "%s: expected an object", path);
  if (s == TL_OK && pictures) json_object_update(doc, pictures);
  json_decref(pictures);
  free(path);
  return s;
}

tl_status tl_report_run(const char *run_dir, const char *html_path, tl_err *err) {
  char *run_path = tl_path_join(run_dir, "run.json");
  char *default_path = tl_path_join(run_dir, "report.html");
  json_t *run = NULL, *doc = NULL;
  tl_status s = run_path && default_path ? load(run_path, &run, err)
                                         : tl_fail(err, TL_NOMEM, "out of memory");
  if (s == TL_OK && !json_is_object(run))
    s = tl_fail(err, TL_DATA, "%s: not the record of a run: expected an object", run_path);
  if (s == TL_OK) {
    const char *id = json_string_value(json_object_get(run, "id"));
    const char *started = json_string_value(json_object_get(run, "started"));
    doc = json_pack("{s:s, s:s*, s:{s:o}, s:[{s:s, s:s}]}", "title", id ? id : run_dir, "created",
                    started, "info", "Record", run_facts(run), "curves", "title", "Training",
                    "metrics", "metrics.jsonl");
    char *metrics = tl_path_join(run_dir, "metrics.jsonl");
    json_t *layers = NULL;
    s = metrics ? tl_layers_read(metrics, &layers, err) : tl_fail(err, TL_NOMEM, "out of memory");
    if (doc && layers) json_object_set_new(doc, "layer_norms", layers);
    free(metrics);
    if (s == TL_OK && doc) s = add_pictures(doc, run_dir, err);
  }
  if (s == TL_OK) {
    s = doc ? write_page(doc, run_dir, html_path ? html_path : default_path, err)
            : tl_fail(err, TL_NOMEM, "out of memory, or text in %s that is not UTF-8", run_path);
  }
  json_decref(doc);
  json_decref(run);
  free(run_path);
  free(default_path);
  return s;
}
