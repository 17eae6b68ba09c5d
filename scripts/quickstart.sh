#!/bin/sh
# usage: TILTH=build/tilth MINUTES=10 scripts/quickstart.sh
# The main job on real text, without a network but for Debian's packages: corpus, tokenizer, pretraining
# of an encoder, fine-tuning with few labels against the same network from random weights and naive
# Bayes, and one report. Steps that are done already are not repeated; OUT holds everything.
set -eu
export LC_ALL=C

here=$(cd "$(dirname "$0")/.." && pwd)
tilth=${TILTH:-$here/build/tilth}
minutes=${MINUTES:-10}
out=${OUT:-$here/out/quickstart}

say() { echo "quickstart: $*" >&2; }
# A folder or file is complete when its step has ended: every step writes under another name first.
step() { [ -e "$1" ] && { say "$2: there already ($1)"; return 1; }; say "$2"; }

case $minutes in '' | *[!0-9.]*) echo "quickstart: MINUTES=$minutes is no number" >&2; exit 2 ;; esac
mkdir -p "$out"

TILTH_CACHE=${TILTH_CACHE:-$here/build/cache} "$here/scripts/get-corpus.sh" "$out/corpus"

step "$out/clean" "cutting the task's test texts out of the pretraining text" && {
  rm -rf "$out/clean.part"
  "$tilth" decontam --against "$out/corpus/wordnet/test.tsv" --out "$out/clean.part" "$out"/corpus/pretrain/*.txt
  mv "$out/clean.part" "$out/clean"
}
step "$out/tokenizer" "training a tokenizer" &&
  "$tilth" tokenizer train --type wordpiece --lowercase --vocab-size 8192 --out "$out/tokenizer" "$out"/clean/*.txt
# The dictionary is nearest to the task's texts: it counts three times in the mixture.
step "$out/data" "turning text into tokens" &&
  "$tilth" prepare --tokenizer "$out/tokenizer" --out "$out/data" "$out"/clean/*.txt \
    "$out/clean/gcide.txt" "$out/clean/gcide.txt"

runs=$out/runs-$minutes
run=$(ls -d "$runs"/quickstart-* 2> /dev/null | tail -1 || true)
if [ -n "$run" ] && [ -d "$run/model" ]; then
  say "pretraining: done already ($run)"
elif [ -n "$run" ]; then
  say "pretraining: going on with $run"
  "$tilth" resume "$run"
else
  say "pretraining an encoder by masked language modelling for $minutes minutes"
  "$tilth" train --preset quickstart "data.path=$out/data" "run.dir=$runs" "run.minutes=$minutes"
  run=$(ls -d "$runs"/quickstart-* | tail -1)
fi

say "fine-tuning with 100, 500 and 5,000 labels: pretrained, from scratch, naive Bayes; 3 seeds each"
"$tilth" report labels --from "$run/model" --run "$run" \
  --data "$out/corpus/wordnet/train.tsv" --test "$out/corpus/wordnet/test.tsv" \
  --title "WordNet glosses: what pretraining was worth" --arms pretrained,scratch,bayes \
  --labels 100,500,5000 --seeds 3 --max-len 64 --max-test 3000 --out "$out/labels-$minutes.json" \
  --page "$out/report.html" task.epochs=4 task.min_steps=200 task.replace_bad_utf8=true
say "the report is at $out/report.html"
