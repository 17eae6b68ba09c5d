/* tilth docs: manual pages, shell completion and the reference of the commands, all out of the
 * tables of commands and options. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "tilth/version.h"

/* What a writer does with the usage of one command or verb ("tokenizer train"). */
typedef void (*usage_fn)(FILE *f, const tl_usage *u);
typedef struct visit {
  FILE *f;
  usage_fn fn;
} visit;

static void on_usage(void *user, const tl_usage *u) {
  visit *v = user;
  v->fn(v->f, u);
}

/* Calls fn for the command, or its verb, as its --help would. */
static void visit_usage(const tl_command *c, const char *verb, FILE *f, usage_fn fn) {
  char name[32], word[32], help[] = "--help", *argv[4] = {name, help, NULL, NULL};
  int argc = 2;
  snprintf(name, sizeof name, "%s", c->name);
  if (verb) {
    snprintf(word, sizeof word, "%s", verb);
    argv[1] = word;
    argv[argc++] = help;
  }
  visit v = {f, fn};
  tl_cli_on_help(on_usage, &v);
  c->run(argc, argv);
  tl_cli_on_help(NULL, NULL);
}

/* The verb behind `at` in "train encode decode"; returns the place behind it, NULL after the last.
 */
static const char *next_verb(const char *at, char verb[32]) {
  if (!at) return NULL;
  at += strspn(at, " ");
  size_t n = strcspn(at, " ");
  if (n == 0) return NULL;
  snprintf(verb, 32, "%.*s", (int)n, at);
  return at + n;
}

static void visit_command(const tl_command *c, FILE *f, usage_fn fn) {
  char verb[32];
  visit_usage(c, NULL, f, fn);
  for (const char *p = tl_cli_verbs(c->name); (p = next_verb(p, verb));)
    visit_usage(c, verb, f, fn);
}

static void visit_all(FILE *f, usage_fn fn) {
  size_t n;
  const tl_command *c = tl_cli_commands(&n);
  for (size_t i = 0; i < n; i++) visit_command(&c[i], f, fn);
}

/* The rows of an option table, then those that every command has. */
static const tl_opt *next_opt(const tl_usage *u, const tl_opt *o) {
  const tl_opt *common = tl_cli_common_opts();
  bool own = true;
  if (!o) {
    o = u->opts ? u->opts : common;
    own = u->opts != NULL;
  } else {
    for (const tl_opt *p = common; p->name; p++) own = own && p != o;
    o++;
  }
  if (!o->name && own) o = common;
  return o->name ? o : NULL;
}

static bool takes_keys(const tl_usage *u) {
  return strstr(u->synopsis, "section.key") != NULL;
}

/* The names of all configuration keys, each followed by `end`. */
static void put_keys(FILE *f, const char *end) {
#define SECTION(name, help)
#define KEY(section, name) fprintf(f, "%s.%s%s", #section, #name, end);
#define INT(section, name, def, min, max, help) KEY(section, name)
#define REAL(section, name, def, min, max, help) KEY(section, name)
#define BOOL(section, name, def, help) KEY(section, name)
#define TEXT(section, name, def, help) KEY(section, name)
#define LIST(section, name, help) KEY(section, name)
#define ENUM(section, name, def, values, help) KEY(section, name)
#define END(name)
#include "tilth/config_keys.def"
#undef SECTION
#undef KEY
#undef INT
#undef REAL
#undef BOOL
#undef TEXT
#undef LIST
#undef ENUM
#undef END
}

static void put_presets(FILE *f) {
  const char *name;
  for (size_t i = 0; (name = tl_config_preset_name(i)); i++) fprintf(f, "%s%s", i ? " " : "", name);
}

/* --- manual pages ------------------------------------------------------------------------------
 */

/* Text for troff; `code` becomes bold. */
static void put_roff(FILE *f, const char *s) {
  bool line_start = true, code = false;
  for (; *s; s++) {
    if (line_start && (*s == '.' || *s == '\'')) fputs("\\&", f);
    line_start = *s == '\n';
    if (*s == '`')
      fputs((code = !code) ? "\\fB" : "\\fR", f);
    else if (*s == '-')
      fputs("\\-", f);
    else if (*s == '\\')
      fputs("\\e", f);
    else
      fputc(*s, f);
  }
}

static void put_title(FILE *f, const char *name, const char *help) {
  fputs(".TH \"TILTH", f);
  if (*name) fputs("\\-", f);
  for (const char *p = name; *p; p++) fputc(*p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p, f);
  fprintf(f, "\" 1 \"\" \"tilth %s\" \"User Commands\"\n.SH NAME\ntilth%s%s \\- ", tl_version(),
          *name ? "\\-" : "", name);
  put_roff(f, help);
  fputc('\n', f);
}

static void put_roff_options(FILE *f, const tl_opt *o) {
  for (; o && o->name; o++) {
    fputs(".TP\n", f);
    if (o->letter) fprintf(f, "\\fB\\-%c\\fR, ", o->letter);
    fputs("\\fB\\-\\-", f);
    put_roff(f, o->name);
    fputs("\\fR", f);
    if (o->arg) fprintf(f, " \\fI%s\\fR", o->arg);
    fputc('\n', f);
    put_roff(f, o->help);
    fputc('\n', f);
  }
}

static void roff_usage(FILE *f, const tl_usage *u) {
  bool verb = strchr(u->name, ' ') != NULL;
  if (verb)
    fprintf(f, ".SH TILTH %s\n.B tilth %s\n", u->name, u->name);
  else
    fprintf(f, ".SH SYNOPSIS\n.B tilth %s\n", u->name);
  put_roff(f, u->synopsis);
  fputs(verb ? "\n.PP\n.nf\n" : "\n.SH DESCRIPTION\n.nf\n", f);
  put_roff(f, u->summary);
  fputs("\n.fi\n", f);
  if (u->opts && u->opts->name) {
    fputs(verb ? ".PP\n" : ".SH OPTIONS\n", f);
    put_roff_options(f, u->opts);
  }
  if (u->examples) {
    fputs(verb ? ".PP\nExamples:\n.PP\n.nf\n" : ".SH EXAMPLES\n.nf\n", f);
    put_roff(f, u->examples);
    fputs("\n.fi\n", f);
  }
}

static void man_of_command(const tl_command *c, FILE *f) {
  put_title(f, c->name, c->help);
  visit_command(c, f, roff_usage);
  fputs(".SH COMMON OPTIONS\n", f);
  put_roff_options(f, tl_cli_common_opts());
  fputs(".TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nthe options and examples\n", f);
  fputs(".SH SEE ALSO\n.BR tilth (1)\n", f);
}

static void man_of_program(FILE *f) {
  size_t n;
  const tl_command *c = tl_cli_commands(&n);
  put_title(f, "", "pretraining and fine-tuning of transformers on CPUs");
  fputs(
      ".SH SYNOPSIS\n.B tilth\n\\fICOMMAND\\fR [options] [\\fIsection.key\\fR=\\fIvalue\\fR ...]\n"
      ".SH DESCRIPTION\nResults go to the standard output, messages and progress to the standard "
      "error.\n.SH COMMANDS\n",
      f);
  for (size_t i = 0; i < n; i++) {
    fprintf(f, ".TP\n.BR tilth\\-%s (1)\n", c[i].name);
    put_roff(f, c[i].help);
    fputc('\n', f);
  }
  fputs(".SH EXIT STATUS\n", f);
#define ROW(name, code, text) fprintf(f, ".TP\n.B %d\n%s\n", code, text);
  TL_STATUS_MAP(ROW)
#undef ROW
  fputs(".SH ENVIRONMENT\n.TP\n.B TILTH_CPU\nkernels to use, as \\-\\-cpu\n.TP\n"
        ".B TILTH_\\fISECTION\\fB_\\fIKEY\\fR\nvalue of a configuration key\n",
        f);
}

static int write_page(const char *dir, const tl_command *c) {
  char path[4096];
  if (snprintf(path, sizeof path, "%s/tilth%s%s.1", dir, c ? "-" : "", c ? c->name : "") >=
      (int)sizeof path)
    return tl_cli_error(TL_CREATE, "docs: the path %s is too long", dir);
  FILE *f = fopen(path, "w");
  if (!f) return tl_cli_error(TL_CREATE, "docs: cannot write %s: %s", path, strerror(errno));
  if (c)
    man_of_command(c, f);
  else
    man_of_program(f);
  bool ok = !ferror(f);
  if (fclose(f) != 0 || !ok)
    return tl_cli_error(TL_IO, "docs: cannot write %s: %s", path, strerror(errno));
  return 0;
}

static int man_pages(const char *dir) {
  size_t n;
  const tl_command *c = tl_cli_commands(&n);
  int rc = write_page(dir, NULL);
  for (size_t i = 0; rc == 0 && i < n; i++) rc = write_page(dir, &c[i]);
  return rc;
}

/* --- completion --------------------------------------------------------------------------------
 */

static void bash_case(FILE *f, const tl_usage *u) {
  fprintf(f, "    '%s') words='--help -h", u->name);
  for (const tl_opt *o = next_opt(u, NULL); o; o = next_opt(u, o)) {
    fprintf(f, " --%s", o->name);
    if (o->letter) fprintf(f, " -%c", o->letter);
  }
  fprintf(f, "' values=' ");
  for (const tl_opt *o = next_opt(u, NULL); o; o = next_opt(u, o)) {
    if (!o->arg) continue;
    fprintf(f, "--%s ", o->name);
    if (o->letter) fprintf(f, "-%c ", o->letter);
  }
  fprintf(f, "' takes_keys=%d ;;\n", takes_keys(u));
}

static void put_names(FILE *f) {
  size_t n;
  const tl_command *c = tl_cli_commands(&n);
  for (size_t i = 0; i < n; i++) fprintf(f, "%s ", c[i].name);
  fputs("help version", f);
}

static void bash(FILE *f) {
  size_t n;
  const char *verbs;
  const tl_command *c = tl_cli_commands(&n);
  fputs("# bash completion for tilth, written by `tilth docs bash`\n_tilth() {\n"
        "  local cur=$2 prev=$3 command=${COMP_WORDS[1]-} verb=${COMP_WORDS[2]-}\n"
        "  local words= values= takes_keys=0 verbs=\n  COMPREPLY=()\n"
        "  if [ \"$COMP_CWORD\" -eq 1 ] || { [ \"$command\" = help ] && [ \"$COMP_CWORD\" -eq 2 ]; "
        "}; then\n    COMPREPLY=($(compgen -W '",
        f);
  put_names(f);
  fputs("' -- \"$cur\"))\n    return\n  fi\n  case $command in\n", f);
  for (size_t i = 0; i < n; i++)
    if ((verbs = tl_cli_verbs(c[i].name))) fprintf(f, "    %s) verbs='%s' ;;\n", c[i].name, verbs);
  fputs(
      "  esac\n  case \" $verbs \" in *\" $verb \"*) [ \"$COMP_CWORD\" -gt 2 ] && [ -n \"$verb\" ] "
      "&& command=\"$command $verb\" verbs= ;; esac\n"
      "  case $command in\n",
      f);
  visit_all(f, bash_case);
  fputs("  esac\n  if [ \"$prev\" = --preset ]; then\n    COMPREPLY=($(compgen -W '", f);
  put_presets(f);
  fputs("' -- \"$cur\"))\n    return\n  fi\n"
        "  case \"$values\" in *\" $prev \"*) return ;; esac\n"
        "  [ \"$takes_keys\" -eq 1 ] && [ \"${cur#-}\" = \"$cur\" ] && words='",
        f);
  put_keys(f, "= ");
  fputs("'\n  case $cur in -*) ;; *) [ \"$COMP_CWORD\" -eq 2 ] && words=\"$verbs $words\" ;; esac\n"
        "  case $cur in\n    *=*) ;;\n    -*) COMPREPLY=($(compgen -W \"$words\" -- \"$cur\")) ;;\n"
        "    ?*) COMPREPLY=($(compgen -W \"$words\" -- \"$cur\")) ;;\n"
        "    *) COMPREPLY=($(compgen -W \"$verbs\" -- \"$cur\")) ;;\n  esac\n"
        "  case ${COMPREPLY[*]-} in *=) compopt -o nospace ;; esac\n}\n"
        "complete -o default -F _tilth tilth\n",
        f);
}

/* Text inside '...'; zsh's own specs also end a description at ']'. */
static void put_quoted(FILE *f, const char *s, const char *escaped) {
  for (; *s; s++) {
    if (*s == '\'')
      fputs("'\\''", f);
    else if (strchr(escaped, *s))
      fprintf(f, "\\%c", *s);
    else
      fputc(*s, f);
  }
}

static void zsh_case(FILE *f, const tl_usage *u) {
  fprintf(f, "    '%s') _arguments", u->name);
  for (const tl_opt *o = next_opt(u, NULL); o; o = next_opt(u, o)) {
    fprintf(f, " \\\n      '%s--%s[", o->type == TL_OPT_LIST ? "*" : "", o->name);
    put_quoted(f, o->help, "[]:\\");
    fputs("]", f);
    if (o->arg && !strcmp(o->name, "preset")) {
      fputs(":preset:(", f);
      put_presets(f);
      fputs(")", f);
    } else if (o->arg) {
      fprintf(f, ":%s:_files", o->arg);
    }
    fputs("'", f);
  }
  fprintf(f, " \\\n      '*: :%s' ;;\n", takes_keys(u) ? "_tilth_keys" : "_files");
}

static void zsh(FILE *f) {
  size_t n;
  const char *verbs;
  const tl_command *c = tl_cli_commands(&n);
  fputs("#compdef tilth\n# written by `tilth docs zsh`\n_tilth_keys() {\n  _files\n"
        "  compadd -S = -- ",
        f);
  put_keys(f, " ");
  fputs("\n}\n_tilth() {\n  local command=$words[2] verbs=\n  local -a commands=(\n", f);
  for (size_t i = 0; i < n; i++) {
    fprintf(f, "    '%s:", c[i].name);
    put_quoted(f, c[i].help, ":\\");
    fputs("'\n", f);
  }
  fputs("  )\n  if (( CURRENT == 2 )); then\n    _describe command commands\n    return\n  fi\n"
        "  case $command in\n",
        f);
  for (size_t i = 0; i < n; i++)
    if ((verbs = tl_cli_verbs(c[i].name))) fprintf(f, "    %s) verbs='%s' ;;\n", c[i].name, verbs);
  fputs("  esac\n  if [[ -n $verbs ]] && (( CURRENT == 3 )); then\n    compadd -- ${=verbs}\n  fi\n"
        "  shift words; (( CURRENT-- ))\n"
        "  if [[ \" $verbs \" == *\" $words[2] \"* ]] && (( CURRENT > 2 )); then\n"
        "    command=\"$command $words[2]\"\n    shift words; (( CURRENT-- ))\n  fi\n"
        "  case $command in\n",
        f);
  visit_all(f, zsh_case);
  fputs("  esac\n}\n_tilth \"$@\"\n", f);
}

/* The start of a line for what follows a command. */
static void fish_line(FILE *f, const tl_usage *u) {
  const char *verb = strchr(u->name, ' ');
  fprintf(f, "complete -c tilth -n '__fish_seen_subcommand_from %.*s",
          verb ? (int)(verb - u->name) : (int)strlen(u->name), u->name);
  if (verb) fprintf(f, "; and __fish_seen_subcommand_from %s", verb + 1);
  fputs("'", f);
}

static void fish_case(FILE *f, const tl_usage *u) {
  if (takes_keys(u)) {
    fish_line(f, u);
    fputs(" -a '(__tilth_keys)'\n", f);
  }
  for (const tl_opt *o = next_opt(u, NULL); o; o = next_opt(u, o)) {
    fish_line(f, u);
    fprintf(f, " -l %s", o->name);
    if (o->letter) fprintf(f, " -s %c", o->letter);
    if (o->arg) fputs(" -r", f);
    if (!strcmp(o->name, "preset")) {
      fputs(" -a '", f);
      put_presets(f);
      fputs("'", f);
    }
    fputs(" -d '", f);
    put_quoted(f, o->help, "\\");
    fputs("'\n", f);
  }
}

static void fish(FILE *f) {
  size_t n;
  const char *verbs;
  const tl_command *c = tl_cli_commands(&n);
  fputs("# fish completion for tilth, written by `tilth docs fish`\n"
        "function __tilth_keys\n"
        "  commandline -ct | string match -q '?*'; and printf '%s=\\n' ",
        f);
  put_keys(f, " ");
  fputs("\nend\n", f);
  for (size_t i = 0; i < n; i++) {
    fprintf(f, "complete -c tilth -f -n __fish_use_subcommand -a %s -d '", c[i].name);
    put_quoted(f, c[i].help, "\\");
    fputs("'\n", f);
    if ((verbs = tl_cli_verbs(c[i].name)))
      fprintf(f, "complete -c tilth -n '__fish_seen_subcommand_from %s' -a '%s'\n", c[i].name,
              verbs);
  }
  visit_all(f, fish_case);
}

/* --- the reference in Markdown -----------------------------------------------------------------
 */

static void markdown_options(FILE *f, const tl_opt *o) {
  fputs("| option | |\n|---|---|\n", f);
  for (; o->name; o++) {
    fputs("| `", f);
    if (o->letter) fprintf(f, "-%c`, `", o->letter);
    fprintf(f, "--%s%s%s` | ", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
    for (const char *p = o->help; *p; p++) fprintf(f, "%s%c", *p == '|' ? "\\" : "", *p);
    fputs(" |\n", f);
  }
  fputs("\n", f);
}

static void markdown_usage(FILE *f, const tl_usage *u) {
  fprintf(f, "## tilth %s\n\n    tilth %s %s\n\n%s\n\n", u->name, u->name, u->synopsis, u->summary);
  if (u->opts && u->opts->name) markdown_options(f, u->opts);
  if (!u->examples) return;
  for (const char *p = u->examples; *p;) {
    size_t n = strcspn(p, "\n");
    fprintf(f, "    %.*s\n", (int)n, p);
    p += n + (p[n] == '\n');
  }
  fputs("\n", f);
}

static void commands(FILE *f) {
  fputs(
      "# Commands\n\nWritten by `tilth docs commands`; do not edit. The configuration keys are in "
      "[config.md](config.md),\nthe exit codes in [exit-codes.md](exit-codes.md).\n\n"
      "Options of every command:\n\n",
      f);
  markdown_options(f, tl_cli_common_opts());
  visit_all(f, markdown_usage);
}

/* --- the command -------------------------------------------------------------------------------
 */

static const struct kind {
  const char *name;
  void (*write)(FILE *f);
} kinds[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}, {"commands", commands}};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

int tl_cmd_docs(int argc, char **argv) {
  const char *out = NULL;
  const tl_opt opts[] = {{"out", 'o', TL_OPT_STR, &out, "DIR", "man: folder for the pages"}, {0}};
  const tl_usage usage = {
      .name = "docs",
      .synopsis = "man --out DIR | bash | zsh | fish | commands",
      .summary = "Writes the manual pages, a shell's completion, or the reference of all commands\n"
                 "as Markdown, all from the tables of options.",
      .examples = "tilth docs man --out /usr/local/share/man/man1\n"
                  "tilth docs bash > ~/.local/share/bash-completion/completions/tilth\n"
                  "tilth docs commands > docs/commands.md",
      .opts = opts,
      .min_args = 1,
      .max_args = 1};
  tl_cli_args args = {0};
  int rc = tl_cli_parse(&usage, argc, argv, &args);
  if (rc >= 0) return rc;
  const char *what = args.item[0];
  bool man = !strcmp(what, "man");
  tl_cli_args_free(&args);
  if (man) return out ? man_pages(out) : tl_cli_usage_error("docs", "man needs --out DIR");
  for (int i = 0; i < N_KINDS; i++) {
    if (strcmp(what, kinds[i].name)) continue;
    kinds[i].write(stdout);
    return 0;
  }
  return tl_cli_usage_error("docs", "'%s' is unknown: man, bash, zsh, fish or commands", what);
}
