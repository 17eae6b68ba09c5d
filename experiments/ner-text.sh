#!/bin/bash
# ner-text.sh DATA: unlabelled text for the body of the entity experiments, one document a line: film
# reviews, and four times over science and the words of the training parts (never those of the tests).
set -euo pipefail
zstdcat "$1/imdb/train-unsup.txt.zst" | awk 'NR <= 20000' | sed 's/<br \/>/ /g; s/  */ /g'
words='/^-DOCSTART-/ {next} NF {d = d (d == "" ? "" : " ") $1} !NF && d != "" {print d; d = ""} END {if (d != "") print d}'
for _ in 1 2 3 4; do
  cat "$1"/chemprot/{train,dev}.txt "$1/sci-cite/train.txt" |
    python3 -c 'import json, sys
for line in sys.stdin: print(*json.loads(line)["text"].split())'
  awk "$words" "$1/bc5cdr/train.txt"
  awk "$words" "$1/wnut17/train.conll"
done
