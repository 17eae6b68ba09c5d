#!/bin/sh
# usage: TILTH=build/tilth sh tests/cli/smoke.sh
# The whole way on a few KB of text: tokenizer, prepare, train, eval, generate, fill, stop, resume,
# report. Prints each check that fails; exits 1 if one did.
. "$(dirname "$0")/common.inc"

i=0
while [ $i -lt 240 ]; do
  echo "The small bird number $((i * 7 % 31)) sings in the old tree near house $((i % 13))."
  echo
  i=$((i + 1))
done > text.txt

cmd=tokenizer
check 0 tokenizer train -t wordpiece --lowercase -n 90 -o tok text.txt
[ -s tok/tokenizer.json ] || fail "no tok/tokenizer.json"

cmd=prepare
check 0 prepare -t tok -o data --unit paragraph --val-fraction 0.1 --json text.txt
holds out '"fingerprint":"[0-9a-f]*"'

tiny="model.dim=32 model.layers=1 model.heads=2 train.seq_len=32 train.batch=4 optim.warmup=2"
tiny="$tiny data.path=data run.dir=runs run.threads=1"

cmd='train (decoder)'
# shellcheck disable=SC2086
check 0 train --json $tiny run.name=dec train.steps=20 run.log_every=5
holds out '"steps":20'
holds out '"val_loss":[0-9]'
holds err 'step 20/20'
cmd='train (encoder)'
# shellcheck disable=SC2086
check 0 train --json $tiny run.name=enc model.type=encoder objective.type=masked train.steps=20
holds out '"steps":20'
cmd='train (hybrid)'
# shellcheck disable=SC2086
check 0 train -q $tiny run.name=both model.type=llama objective.type=hybrid train.steps=20
dec=$(echo runs/dec-*) enc=$(echo runs/enc-*)
for f in config.json model.safetensors tokenizer.json; do
  [ -s "$dec/model/$f" ] && [ -s "$enc/model/$f" ] || fail "no $f in a model folder"
done

# number KEY: its value in the JSON of the last command.
number() { sed -n "s/.*\"$1\":\([0-9.e+-]*\).*/\1/p" out; }

# The finished model has the loss that training reported for it.
cmd=eval
for run in "$dec" "$enc"; do
  check 0 resume --json -q "$run"
  trained=$(number val_loss)
  check 0 eval --data data --json "$run/model"
  holds out '"perplexity":[0-9]'
  loss=$(number loss)
  [ -n "$loss" ] && awk "BEGIN { d = $loss - $trained; exit !(d < 1e-4 && d > -1e-4) }" ||
    fail "eval: loss '$loss' of $run, training reported '$trained'"
done
check 0 eval --data data "$enc/model"
holds out 'bits per byte'

cmd=generate
check 0 generate -q -n 20 -s 3 -p 'the small' "$dec/model"
cp out first
[ "$(wc -c < first)" -gt 1 ] || fail "generate: no text"
check 0 generate -q -n 20 -s 3 -p 'the small' --threads 2 "$dec/model"
cmp -s first out || fail "generate: the same seed gave another text"

cmd=fill
check 0 fill -n 3 "$enc/model" 'the [MASK] bird [MASK]'
holds out '^mask 1: .*(0\.[0-9]*)'
holds out '^mask 2: '

cmd='a model of both kinds'
both=$(echo runs/both-*)
check 0 eval --data data "$both/model"
holds out 'bits per byte'
check 0 fill "$both/model" 'the [MASK] bird'
holds out '^mask 1: '
for seed in 1 2 3 4 5; do # a piece of a word is joined to the prompt's
  check 0 generate -q -n 5 -s $seed -p 'the small' "$both/model"
  grep -q '^##' out && fail "generate: the text begins with '$(cat out)'"
done

cmd='train --profile'
# shellcheck disable=SC2086
check 0 train -q $tiny run.name=prof train.steps=5 --profile
holds out '^linear 32 x 96 *backward  *1 '
holds out '^optimizer '
holds out '^step .* 100.0%'
# shellcheck disable=SC2086
check 0 train -q $tiny run.name=prof2 train.steps=5 --profile --json
holds out '"profile":{"schema_version":1,"steps":4,'
[ "$(cat runs/prof2-*/profile.json)" = "$(sed 's/.*"profile":\(.*\)}$/\1/' out)" ] ||
  fail "train --profile --json: not what profile.json says"

cmd='bench step'
small="model.dim=32 model.layers=1 model.heads=2 train.seq_len=32 train.batch=4"
# shellcheck disable=SC2086
check 0 bench step --steps 3 --warmup 1 --json $small
holds out '"step_seconds":\[[0-9.e-]*,[0-9.e-]*,[0-9.e-]*\],"median"'
awk "BEGIN { exit !($(number tokens_per_step) == 128 && $(number min) > 0 && $(number mfu) > 0 &&
  $(number mfu) < 1 && $(number peak_rss_bytes) > 1e6 && $(number to_first_step) >= 0) }" ||
  fail "bench step: $(cat out)"
printf '3\n40\n' > lengths.txt
# shellcheck disable=SC2086
cmd='bench finetune'
check 0 bench finetune --steps 2 --warmup 1 --lengths lengths.txt $small model.type=encoder
holds out 'pieces and'
cmd='bench generate'
check 0 bench generate --prompt 5 --tokens 9 --steps 2 --json $small model.type=gpt2
holds out '"tokens_per_s":[1-9]'
check 0 bench step --steps 2 --profile --lengths lengths.txt $small model.type=encoder objective.type=masked
holds out '^tokens *128 in [0-9]* pieces'
holds out '^linear .*backward'

# SIGTERM: saves and exits with 75; resume goes on to the end.
cmd='train, stopped'
# shellcheck disable=SC2086
"$TILTH" train $tiny run.name=cut train.steps=1000 run.log_every=1 > out 2> err &
pid=$!
tries=0
until grep -q 'step [3-9]' err || [ $tries -ge 300 ]; do
  sleep 0.02
  tries=$((tries + 1))
done
kill -TERM $pid
wait $pid
code=$?
[ $code -eq 75 ] || fail "SIGTERM during training: exit code $code instead of 75"
holds err 'error: stopped at step .*tilth resume'
cut=$(echo runs/cut-*)
cmd=resume
check 0 resume --json "$cut"
holds out '"steps":1000'
holds err 'going on after step'
check 0 resume --json "$dec"
holds out '"steps":20'

cmd=report
check 0 report "$dec"
holds "$dec/report.html" '<svg'

[ $failed -eq 0 ] || echo "$failed checks failed"
[ $failed -eq 0 ]
