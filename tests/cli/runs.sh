#!/bin/sh
# usage: TILTH=build/tilth sh tests/cli/runs.sh
# tilth runs: the list of runs, and what two of them differ in.
. "$(dirname "$0")/common.inc"
i=0
while [ $i -lt 200 ]; do
  echo "The man number $i plays the flute in the sun."
  i=$((i + 1))
done > text.txt
tiny="data.text=text.txt data.tokenizer=bytes data.unit=file data.split=tail data.val_fraction=0.1 model.dim=16
  model.layers=1 model.heads=2 train.seq_len=32 train.batch=4"
# shellcheck disable=SC2086
check 0 train run.name=a $tiny train.steps=4 -q
# shellcheck disable=SC2086
check 0 train run.name=b $tiny train.steps=8 optim.lr=0.002 -q
a=$(echo runs/a-*) b=$(echo runs/b-*)
mkdir runs/no-run
check 0 runs ls
holds out "^a-[^ ]*  finished  *4  *[0-9]"
holds out "^b-[^ ]*  finished  *8  *[0-9]"
[ "$(wc -l < out)" -eq 3 ] || fail "runs ls prints $(wc -l < out) lines instead of 3"
check 0 runs ls --json "$a"
holds out "\"dir\":\"$a\""
holds out '"status":"finished"'
[ "$(wc -l < out)" -eq 1 ] || fail "runs ls --json prints $(wc -l < out) lines instead of 1"
# A run whose process is gone is not running.
sed 's/"finished"/"running"/; s/"pid": [0-9]*/"pid": 4194303/' "$a/run.json" > run.json && cp run.json "$a/run.json"
check 0 runs ls
holds out "^a-[^ ]*  died"

check 0 runs diff "$a" "$b"
holds out '^configuration$'
holds out '^  optim.lr  *0.001  *0.002$'
holds out '^  train.steps  *4  *8$'
holds out '^result$'
holds out '^  val_loss '
grep -q model.dim out && fail "runs diff names what is equal"
check 0 runs diff --json "$a" "$b"
holds out '"train.steps":\["4","8"\]'
check 0 runs diff "$a" "$a"
[ -s out ] && fail "a run differs from itself: $(cat out)"

# A run that goes on in another process runs; where that one is gone, it has died.
until_it_says() { # PATTERN: runs ls of the live run comes to print it
  n=0
  while [ $n -lt 100 ]; do
    "$TILTH" runs ls live/live-* > out 2> /dev/null && grep -q "$1" out && return
    sleep 0.1
    n=$((n + 1))
  done
  fail "runs ls does not come to say '$1': $(cat out)"
}
# shellcheck disable=SC2086
"$TILTH" train run.name=live run.dir=live $tiny train.steps=1000000 -q > /dev/null 2>&1 &
pid=$!
until_it_says '  running  '
n=0
while [ $n -lt 100 ] && ! ls live/live-*/metrics.jsonl > /dev/null 2>&1; do sleep 0.1; n=$((n + 1)); done
kill -INT $pid
wait $pid
"$TILTH" resume -q live/live-* > /dev/null 2>&1 &
pid=$!
until_it_says '  running  '
kill -9 $pid
wait $pid 2> /dev/null
until_it_says '  died  '

check 66 runs ls nowhere
holds err 'nowhere'
check 66 runs diff runs "$b"
holds err 'holds 2 runs'
check 2 runs
check 2 runs list
holds err 'ls or diff'

[ $failed -eq 0 ] || echo "$failed checks failed"
[ $failed -eq 0 ]
