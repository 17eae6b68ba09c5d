/* The report: one self-contained HTML page that shows what a run cost and what it was worth. No
 * scripts, no network; light and dark; readable on a phone and on paper. */
#ifndef TILTH_REPORT_H
#define TILTH_REPORT_H

#include "tilth/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* clang-format off */
/* The report document. All keys but schema and title are optional; what is absent is left out of
 * the page; null stands for a value that was not measured.
 *
 *   "schema": "tilth-report/1"
 *   "title": string            "created": string (date and time)
 *   "info": {GROUP: {NAME: string | number | bool}}      machine, versions, data: tables
 *   "notes": [string]                                    paragraphs: caveats, choices, sources
 *   "costs": [{"phase": string, "seconds": s, "steps": n, "tokens": n, "parameters": n,
 *              "flops": FLOPs done, "peak_fraction": share in [0, 1] of the machine's peak}]
 *   "curves": [{"title": string, "step": [n], "tokens": [n], "loss": [nats], "val_loss": [nats],
 *               "bpb": [bits per byte], "val_bpb": [bits per byte], "lr": [x], "grad_norm": [x],
 *               "tokens_per_s": [x]}]
 *            arrays of equal length; x axis: tokens where given, else step. Instead of the arrays,
 *            "metrics": path of a run's metrics.jsonl (relative to the document's folder), whose
 *            keys are the same, with "eval/loss" and "eval/bpb" for those of validation
 *   "study": {"task": string, "classes": n, "test_size": n, "majority": accuracy in [0, 1],
 *             "metric": {"name": string, "scale": values are shown times this, "lower": bool, true
 *                        where less is better, "range": [least, most] there can be}, accuracy in
 *                        percent where it is absent
 *             "labels": [n, increasing],
 *             "arms": [{"title": string, "role": "pretrained" | "scratch" | "baseline",
 *                       "values": [[one value per seed] per label count]}],
 *             "diverged": [string]}   trainings that were done again, or have no value
 *            the i-th values of two arms are taken as paired (same seed, same labels)
 *   "details": what tl_details_json (tilth/predict.h) writes: scores of each label, confusion,
 *            calibration
 *   "predictions": [{"text": string, "truth": string, "predicted": string, "probability": p,
 *                    "judged": false where an answer is neither right nor wrong (values, texts),
 *                    "picture": a PNG file as "data:image/png;base64,...", shown for the text}]
 *   "pictures": [{"title": string, "note": string, "columns": [string],
 *                 "width": pixels of each on the page,
 *                 "rows": [{"text": string, "pictures": [PNG files as above]}]}]
 *            a group each: with columns a table, whose last name stands over all that have none of
 *            their own; without them a row of pictures, the texts below */
/* clang-format on */

/* Reads the JSON document and writes the page in one step (a page that stood there stays if this
 * fails). Errors: NOINPUT, DATA (not JSON, or a key of the wrong type or shape: named), IO, NOMEM.
 */
tl_status tl_report_write(const char *json_path, const char *html_path, tl_err *err);

/* Makes what the page of a run on pictures shows besides: samples of its training data, its
 * answers, its attention, as pictures.json in the folder. Does nothing for other runs; data that is
 * not where the configuration says is a note on the page. Errors: those of reading the model; IO,
 * NOMEM. */
tl_status tl_report_pictures(tl_ctx *ctx, const char *run_dir, tl_err *err);

/* The page of a run folder (tilth/run.h): its record, its curves, and its pictures if there are
 * any. html_path NULL: report.html in the folder. Errors as above. */
tl_status tl_report_run(const char *run_dir, const char *html_path, tl_err *err);

#ifdef __cplusplus
}
#endif

#endif
