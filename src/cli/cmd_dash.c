/* tilth dash: a live page of runs on 127.0.0.1.
 *
 *   GET /        the page
 *   GET /runs    [{"name", "status", "steps", ...}], read anew each time, so that new runs appear
 *   GET /data?run=NAME&metrics=AT&events=AT
 *                {"metrics": [...], "metrics_at": AT, "events": [...], "events_at": AT}: what the
 *                two files hold from these offsets on. A file that became shorter (a resumed run
 *                went back) begins again: "metrics_from" and "events_from" say where the answer
 * does.
 *
 * Names are looked up in the list of runs; nothing that a client sends becomes a path. */
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"

#ifdef TL_HAVE_HTTPD

#include <arpa/inet.h>
#include <limits.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <time.h>
#include "cli/runs.h"

enum { MAX_PART = 4 << 20 }; /* bytes of a file in one answer */

extern const char tl_dash_page[];

typedef struct server {
  const char *const *paths;
  size_t n_paths;
  unsigned port;
} server;

static enum MHD_Result answer(struct MHD_Connection *c, unsigned code, const char *type, void *body,
                              size_t n, enum MHD_ResponseMemoryMode mode) {
  struct MHD_Response *r = MHD_create_response_from_buffer(n, body, mode);
  if (!r) {
    if (mode == MHD_RESPMEM_MUST_FREE) free(body);
    return MHD_NO;
  }
  MHD_add_response_header(r, "Content-Type", type);
  MHD_add_response_header(r, "Cache-Control", "no-store");
  MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
  MHD_add_response_header(r, "Content-Security-Policy",
                          "default-src 'none'; style-src 'unsafe-inline'; script-src "
                          "'unsafe-inline'; connect-src 'self'; img-src data:; frame-ancestors "
                          "'none'; base-uri 'none'; form-action 'none'");
  enum MHD_Result result = MHD_queue_response(c, code, r);
  MHD_destroy_response(r);
  return result;
}

static enum MHD_Result refuse(struct MHD_Connection *c, unsigned code, const char *why) {
  return answer(c, code, "text/plain", (void *)(uintptr_t)why, strlen(why), MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result answer_json(struct MHD_Connection *c, json_t *o) {
  char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
  json_decref(o);
  if (!text) return refuse(c, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory\n");
  return answer(c, MHD_HTTP_OK, "application/json", text, strlen(text), MHD_RESPMEM_MUST_FREE);
}

/* A page elsewhere whose name was made to point at this machine sends its own name. */
static bool host_is_ours(const server *s, const char *host) {
  static const char *const names[] = {"127.0.0.1", "localhost"};
  char want[64];
  for (int i = 0; host && i < 2; i++) {
    snprintf(want, sizeof want, "%s:%u", names[i], s->port);
    if (!strcmp(host, want)) return true;
    if (s->port == 80 && !strcmp(host, names[i])) return true;
  }
  return false;
}

static enum MHD_Result list_runs(const server *s, struct MHD_Connection *c) {
  static const char *const keys[] = {"started", "ended",    "steps",   "parameters",
                                     "tokens",  "val_loss", "seconds", "cpu",
                                     "threads", "dtype",    "version"};
  tl_run_list l;
  if (tl_run_list_read(s->paths, s->n_paths, &l, NULL) != TL_OK)
    return refuse(c, MHD_HTTP_INTERNAL_SERVER_ERROR, "the runs' folder cannot be read\n");
  json_t *all = json_array();
  for (size_t i = 0; i < l.n; i++) {
    json_t *o = json_pack("{s:s, s:s}", "name", l.run[i].name, "status", tl_run_status(&l.run[i]));
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
      json_t *v = json_object_get(l.run[i].facts, keys[k]);
      if (v) json_object_set(o, keys[k], v);
    }
    json_array_append_new(all, o);
  }
  tl_run_list_free(&l);
  return answer_json(c, all);
}

/* The whole lines of dir/file from byte `at` on, those that are JSON objects; *at moves behind
 * them, *from is where they begin. */
static json_t *read_lines(const char *dir, const char *file, long *at, long *from) {
  char path[PATH_MAX];
  json_t *lines = json_array();
  FILE *f =
      snprintf(path, sizeof path, "%s/%s", dir, file) < (int)sizeof path ? fopen(path, "rb") : NULL;
  char *text = f ? malloc(MAX_PART) : NULL;
  *from = *at;
  if (text && fseek(f, 0, SEEK_END) == 0) {
    if (*at < 0 || *at > ftell(f)) *at = *from = 0;
    size_t n = fseek(f, *at, SEEK_SET) == 0 ? fread(text, 1, MAX_PART, f) : 0;
    for (char *p = text, *end; (end = memchr(p, '\n', n)) != NULL; p = end + 1) {
      json_t *o = json_loadb(p, (size_t)(end - p), 0, NULL);
      if (json_is_object(o)) json_array_append(lines, o);
      json_decref(o);
      n -= (size_t)(end + 1 - p);
      *at += end + 1 - p;
    }
  }
  free(text);
  if (f) fclose(f);
  return lines;
}

static long offset_asked(struct MHD_Connection *c, const char *key) {
  const char *text = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, key);
  return text ? strtol(text, NULL, 10) : 0;
}

static enum MHD_Result run_data(const server *s, struct MHD_Connection *c) {
  const char *name = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "run");
  tl_run_list l;
  if (!name || tl_run_list_read(s->paths, s->n_paths, &l, NULL) != TL_OK)
    return refuse(c, MHD_HTTP_NOT_FOUND, "no such run\n");
  size_t i = 0;
  while (i < l.n && strcmp(l.run[i].name, name)) i++;
  json_t *o = NULL;
  if (i < l.n) {
    long at[2] = {offset_asked(c, "metrics"), offset_asked(c, "events")}, from[2];
    json_t *metrics = read_lines(l.run[i].dir, "metrics.jsonl", &at[0], &from[0]);
    json_t *events = read_lines(l.run[i].dir, "events.jsonl", &at[1], &from[1]);
    o = json_pack("{s:o, s:I, s:I, s:o, s:I, s:I}", "metrics", metrics, "metrics_from",
                  (json_int_t)from[0], "metrics_at", (json_int_t)at[0], "events", events,
                  "events_from", (json_int_t)from[1], "events_at", (json_int_t)at[1]);
  }
  bool found = i < l.n;
  tl_run_list_free(&l);
  return found ? answer_json(c, o) : refuse(c, MHD_HTTP_NOT_FOUND, "no such run\n");
}

static enum MHD_Result serve(void *user, struct MHD_Connection *c, const char *url,
                             const char *method, const char *version, const char *body,
                             size_t *body_size, void **state) {
  const server *s = user;
  (void)version;
  (void)body;
  (void)body_size;
  (void)state;
  if (!host_is_ours(s, MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Host")))
    return refuse(c, MHD_HTTP_FORBIDDEN, "this page is for 127.0.0.1 only\n");
  if (strcmp(method, "GET") && strcmp(method, "HEAD"))
    return refuse(c, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET\n");
  if (!strcmp(url, "/"))
    return answer(c, MHD_HTTP_OK, "text/html; charset=utf-8", (void *)(uintptr_t)tl_dash_page,
                  strlen(tl_dash_page), MHD_RESPMEM_PERSISTENT);
  if (!strcmp(url, "/runs")) return list_runs(s, c);
  if (!strcmp(url, "/data")) return run_data(s, c);
  return refuse(c, MHD_HTTP_NOT_FOUND, "not found\n");
}

/* Serves until a signal comes. */
static int dash(server *s) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)s->port)};
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  struct MHD_Daemon *d =
      MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, serve, s,
                       MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&at, MHD_OPTION_CONNECTION_TIMEOUT,
                       30u, MHD_OPTION_CONNECTION_LIMIT, 64u, MHD_OPTION_END);
  if (!d)
    return tl_cli_error(TL_CREATE,
                        "dash: cannot listen on 127.0.0.1:%u; is the port in use? "
                        "--port 0 takes a free one",
                        s->port);
  const union MHD_DaemonInfo *info = MHD_get_daemon_info(d, MHD_DAEMON_INFO_BIND_PORT);
  if (info && info->port) s->port = info->port;
  printf("http://127.0.0.1:%u/\n", s->port);
  fflush(stdout);
  const struct timespec wait = {.tv_nsec = 100000000};
  while (!tl_cli_cancelled(NULL)) nanosleep(&wait, NULL);
  MHD_stop_daemon(d);
  return 0;
}

static int check_and_dash(const tl_cli_args *args, int64_t port) {
  static const char *const usual[] = {"runs"};
  server s = {.paths = args->n ? args->item : usual, .n_paths = args->n ? args->n : 1};
  tl_run_list l;
  tl_err err = {0};
  if (port < 0 || port > 65535) return tl_cli_usage_error("dash", "--port is from 0 to 65535");
  if (tl_run_list_read(s.paths, s.n_paths, &l, &err) != TL_OK) return tl_cli_fail(&err);
  tl_run_list_free(&l);
  s.port = (unsigned)port;
  tl_cli_catch_signals();
  return dash(&s);
}

#else

static int check_and_dash(const tl_cli_args *args, int64_t port) {
  (void)args;
  (void)port;
  return tl_cli_error(TL_CONFIG, "dash: this tilth was built without libmicrohttpd (Debian: "
                                 "libmicrohttpd-dev)");
}

#endif

int tl_cmd_dash(int argc, char **argv) {
  int64_t port = 8470;
  const tl_opt opts[] = {
      {"port", 0, TL_OPT_INT, &port, "N", "port on 127.0.0.1 (8470; 0: a free one)"}, {0}};
  const tl_usage usage = {
      .name = "dash",
      .synopsis = "[--port N] [RUN...]",
      .summary =
          "Shows runs on a live page: loss, learning rate, gradient norms, throughput, events.\n"
          "RUN: folders of runs, or folders that hold them (runs). The address is printed;\n"
          "only this machine reaches it. Ctrl-C ends it.",
      .examples = "tilth dash\n"
                  "tilth dash runs/shakespeare-char-20260102-030405-1a2b --port 0",
      .opts = opts,
      .max_args = -1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  rc = check_and_dash(&args, port);
  tl_cli_args_free(&args);
  return rc;
}
