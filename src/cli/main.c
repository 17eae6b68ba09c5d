/* tilth: the command line. Adding a command:
 *   1. src/cli/cmd_NAME.c with `int tl_cmd_NAME(int argc, char **argv)`: a tl_opt table, a tl_usage
 *      with examples, tl_cli_parse, the work through public headers, an exit code
 *      (tl_cli_fail / tl_cli_error give the right one);
 *   2. its prototype in cli.h;
 *   3. a row in commands[] below, and one in verbs[] if it has verbs with options of their own.
 * The help, `tilth help NAME`, the did-you-mean, manual pages and completion follow from the row.
 */
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"
#include "tilth/suggest.h"
#include "tilth/version.h"

static const tl_command commands[] = {
    {"bench", tl_cmd_bench, "time the operators and kernels on this machine"},
    {"config", tl_cmd_config, "show, check and document the configuration"},
    {"dash", tl_cmd_dash, "show runs on a live page"},
    {"decontam", tl_cmd_decontam, "cut a task's test texts out of pretraining text"},
    {"docs", tl_cmd_docs, "write manual pages, completion, the reference of commands"},
    {"doctor", tl_cmd_doctor, "show what this machine and build offer"},
    {"embed", tl_cmd_embed, "vectors of texts, search among them, similarity"},
    {"eval", tl_cmd_eval, "measure a model's loss on held-out text"},
    {"export", tl_cmd_export, "write a model or dataset in another program's form"},
    {"fill", tl_cmd_fill, "predict the masked words of a text"},
    {"finetune", tl_cmd_finetune, "train a pretrained model on labelled records"},
    {"generate", tl_cmd_generate, "continue a text with a pretrained decoder"},
    {"import", tl_cmd_import, "check and convert a Hugging Face folder, or token files"},
    {"inspect", tl_cmd_inspect, "look into a model: attention, heads, gradients, neighbours"},
    {"merge", tl_cmd_merge, "add an adapter to the weights of its base"},
    {"plan", tl_cmd_plan, "what a run will cost, before it runs"},
    {"predict", tl_cmd_predict, "labels, tags or values from a fine-tuned model"},
    {"prepare", tl_cmd_prepare, "turn text into token shards for training"},
    {"probe", tl_cmd_probe, "what a frozen model's features are worth, beside baselines"},
    {"report", tl_cmd_report, "pages of runs; what pretraining was worth, in labels"},
    {"resume", tl_cmd_resume, "go on with an interrupted run"},
    {"runs", tl_cmd_runs, "list runs, show what two of them differ in"},
    {"selftest", tl_cmd_selftest, "check the operators and kernels on this machine"},
    {"tokenizer", tl_cmd_tokenizer, "train, use and inspect tokenizers"},
    {"train", tl_cmd_train, "pretrain a model on text"},
    {"translate", tl_cmd_translate, "translate texts with an encoder-decoder"},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

/* Verbs with options of their own, for the manual and completion. */
static const struct {
  const char *command, *verbs;
} verbs[] = {
    {"bench", "step finetune generate"},
    {"report", "labels"},
    {"runs", "ls diff"},
    {"tokenizer", "train encode decode inspect"},
};

const char *tl_cli_verbs(const char *command) {
  for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
    if (!strcmp(verbs[i].command, command)) return verbs[i].verbs;
  return NULL;
}

const tl_command *tl_cli_commands(size_t *n) {
  *n = N_COMMANDS;
  return commands;
}

static void print_help(FILE *f) {
  fprintf(f,
          "tilth %s: pretraining and fine-tuning of transformers on CPUs\n\n"
          "usage: tilth COMMAND [options] [section.key=value ...]\n\nCommands:\n",
          tl_version());
  for (int i = 0; i < N_COMMANDS; i++)
    fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].help);
  fprintf(f, "\n`tilth help COMMAND` shows a command's options and examples.\n");
}

static int unknown_command(const char *name) {
  const char *names[N_COMMANDS];
  for (int i = 0; i < N_COMMANDS; i++) names[i] = commands[i].name;
  const char *near = tl_suggest(name, names, N_COMMANDS);
  if (near) return tl_cli_error(TL_USAGE, "unknown command '%s'; did you mean '%s'?", name, near);
  return tl_cli_error(TL_USAGE, "unknown command '%s' (see: tilth --help)", name);
}

static int run_command(const char *name, int argc, char **argv) {
  for (int i = 0; i < N_COMMANDS; i++)
    if (!strcmp(commands[i].name, name)) return commands[i].run(argc, argv);
  return unknown_command(name);
}

static int dispatch(int argc, char **argv) {
  if (argc < 2) {
    print_help(stderr);
    return tl_status_exit_code(TL_USAGE);
  }
  const char *name = argv[1];
  if (!strcmp(name, "--version") || !strcmp(name, "version")) {
    printf("tilth %s\n", tl_version());
    return 0;
  }
  if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
    if (argc < 3) {
      print_help(stdout);
      return 0;
    }
    char help[] = "--help", *help_argv[] = {argv[2], help, NULL};
    return run_command(argv[2], 2, help_argv);
  }
  if (name[0] == '-')
    return tl_cli_error(TL_USAGE, "unknown option %s before the command (see: tilth --help)", name);
  return run_command(name, argc - 1, argv + 1);
}

int main(int argc, char **argv) {
  tl_cli_guard_mapped_files();
  int rc = dispatch(argc, argv);
  /* Results that did not reach stdout (a full disk behind a pipe or a file) are a failure. */
  if ((fflush(stdout) != 0 || ferror(stdout)) && rc == 0)
    rc = tl_cli_error(TL_IO, "cannot write to standard output");
  return rc;
}
