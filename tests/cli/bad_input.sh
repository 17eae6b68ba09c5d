#!/bin/sh
# usage: TILTH=build/tilth sh tests/cli/bad_input.sh
# Bad input gives one clear line on stderr and the exit code that docs/exit-codes.md names. Prints
# each check that fails; exits 1 if one did.
set -u
export LC_ALL=C
TILTH=${TILTH:-build/tilth}
case $TILTH in /*) ;; *) TILTH=$PWD/$TILTH ;; esac
dir=$(mktemp -d "${TMPDIR:-/tmp}/tl_bad_XXXXXX") || exit 1
trap 'umount "$dir/full" 2> /dev/null; rm -rf "$dir"' EXIT
cd "$dir" || exit 1
failed=0

fail() {
  failed=$((failed + 1))
  echo "FAILED: $*"
  [ -s err ] && sed 's/^/    /' err | tail -5
}

# bad CODE PATTERN COMMAND...: `tilth COMMAND` exits with CODE; its one line on stderr, besides warnings, says PATTERN.
bad() {
  want=$1 pattern=$2
  shift 2
  "$TILTH" "$@" > out 2> err
  code=$?
  [ $code -eq "$want" ] || fail "tilth $*: exit code $code instead of $want"
  [ "$(grep -vc '^tilth: warning: ' err)" -eq 1 ] || fail "tilth $*: not one line of error on stderr: $(cat err)"
  grep -q '^tilth: error: .' err || fail "tilth $*: no error line"
  grep -q -e "$pattern" err || fail "tilth $*: the message does not say '$pattern'"
  [ ! -s out ] || fail "tilth $*: output besides the error"
}
good() {
  "$TILTH" "$@" > out 2> err || fail "tilth $*: exit code $?"
}

i=0
while [ $i -lt 200 ]; do
  echo "The small bird number $((i * 7 % 31)) sings in the old tree near house $((i % 13))."
  echo
  i=$((i + 1))
done > text.txt
: > empty.txt
printf 'a\0b\377\376\0\0\1\2' > binary.bin
good prepare -q -t bytes -o data --unit paragraph --val-fraction 0.1 text.txt
tiny="model.dim=32 model.layers=1 model.heads=2 train.seq_len=32 train.batch=4 optim.warmup=2"
tiny="$tiny run.dir=runs run.threads=1 train.steps=30"
# shellcheck disable=SC2086
good train -q $tiny data.path=data run.name=dec run.checkpoint_every=10
dec=$(echo runs/dec-*)

# --- files
echo 12x > lengths.txt
bad 65 'lengths.txt: line 1' bench step --lengths lengths.txt
bad 66 'no-such' bench step --lengths no-such
bad 66 'empty.txt' bench step --lengths empty.txt
bad 66 'no-such.txt' tokenizer train -q -n 300 -o tok no-such.txt
bad 66 'no-such.txt' prepare -q -t bytes -o d2 no-such.txt
bad 66 'no-such.yaml' train -q no-such.yaml
bad 66 'no-such' eval -q --data data no-such
bad 66 'no-such' eval -q --data no-such "$dec/model"
bad 66 'no-such' generate -q no-such
bad 66 'no-such' fill -q no-such 'a <mask>'
bad 66 'no-such' resume -q no-such
bad 66 'no-such' report -q no-such.json
bad 66 'no-such' report labels -q --from "$dec/model" --data no-such.tsv --test no-such.tsv
bad 66 'empty.txt' prepare -q -t bytes -o d2 empty.txt
bad 66 'empty.txt' tokenizer train -q -n 300 -o tok empty.txt
bad 65 'binary.bin.*binary' prepare -q -t bytes -o d2 binary.bin
bad 65 'binary.bin.*binary' tokenizer train -q -n 300 -o tok binary.bin
bad 65 'binary.bin' prepare -q -t binary.bin -o d2 text.txt
bad 78 'binary.bin' train -q binary.bin
printf 'a\tone\nno tab\n' > bad.tsv
bad 65 'bad.tsv:2: .*tab' report labels -q --from "$dec/model" --data bad.tsv --test bad.tsv
bad 73 'data' prepare -q -t bytes -o data text.txt
[ ! -e d2 ] && [ ! -e tok ] || fail "something was left after a failure"

# --- configuration and options
bad 78 'larger than the text allows.*at most' tokenizer train -q -n 50000 -o tok text.txt
bad 78 'train.setps.*train.steps' train -q data.path=data train.setps=3
bad 78 'optim.lr' train -q data.path=data optim.lr=1000
bad 78 'train.batch' train -q data.path=data train.batch=0
bad 78 'train.batch' train -q data.path=data train.batch=four
bad 78 'optim.type' train -q data.path=data optim.type=adam
printf 'train:\n  steps: 3\n  stepz: 4\n' > typo.yaml
bad 78 'typo.yaml:3.*steps' train -q typo.yaml data.path=data
printf 'train: {steps: [3\n' > broken.yaml
bad 78 'broken.yaml:' train -q broken.yaml
bad 78 'no-such-preset' train -q --preset no-such-preset data.path=data
bad 78 'data.path' train -q train.steps=3 run.dir=runs
# shellcheck disable=SC2086
bad 78 'train.steps' train -q $tiny data.path=data train.steps=0
# shellcheck disable=SC2086
bad 78 'next_token.*encoder' train -q $tiny data.path=data model.type=encoder
# shellcheck disable=SC2086
bad 78 'masked.*decoder' train -q $tiny data.path=data objective.type=masked
# shellcheck disable=SC2086
bad 78 'model.heads' train -q $tiny data.path=data model.heads=3
bad 78 'train.batch' bench step train.batc=0
bad 78 'masked.*decoder' bench step objective.type=masked
bad 78 'model.vocab' bench step model.vocab=1
bad 2 '--steps' bench step --steps 0
bad 2 'min:max' bench step --lengths 5:2
bad 78 'does not continue text' bench generate model.type=encoder
bad 78 'the model takes' bench generate --tokens 500 train.seq_len=64
bad 2 '--prompt' bench generate --prompt 0
bad 78 'no-such-level' train -q --cpu no-such-level data.path=data
bad 2 '--no-such' train -q --no-such
bad 2 'did you mean --preset' train -q --preste x
bad 2 'did you mean .train' trian
bad 2 '--data' eval -q "$dec/model"
bad 2 'missing argument' resume -q
bad 2 '--seq-len' eval -q --data data --seq-len -1 "$dec/model"
bad 2 '--choices' fill -q -n 0 "$dec/model" 'a <mask>'
bad 2 '--labels' report labels -q --from m --data t --test t --labels 10,x
bad 2 '--labels' report labels -q --from m --data t --test t --labels 10.5
bad 2 '--temperature' generate -q -t -1 "$dec/model"
bad 78 'seq.*32\|32.*seq\|at most 32' eval -q --data data --seq-len 4096 "$dec/model"
good tokenizer train -q -t wordpiece -n 80 -o wp text.txt
good prepare -q -t wp -o data-wp --unit paragraph --val-fraction 0.1 text.txt
bad 78 'another tokenizer' eval -q --data data-wp "$dec/model"
bad 78 'tilth generate' fill -q "$dec/model" 'a <mask>'
bad 78 'at most 32' generate -q -p 'a prompt that is longer than the model can take' "$dec/model"
# shellcheck disable=SC2086
good train -q $tiny data.path=data run.name=enc model.type=encoder objective.type=masked
bad 65 'no mask' fill -q runs/enc-*/model 'a text without'
bad 78 'tilth fill' generate -q runs/enc-*/model

# Diverging.
# shellcheck disable=SC2086
bad 76 "diverged at step" train -q $tiny data.path=data optim.type=sgd optim.lr=100 optim.clip=0 optim.warmup=0 guard.policy=stop

# --- damaged folders
cp -r data damaged
printf '{"format": ' > damaged/dataset.json
# shellcheck disable=SC2086
bad 65 'damaged/dataset.json' train -q $tiny data.path=damaged
bad 65 'damaged/dataset.json' eval -q --data damaged "$dec/model"
cp data/dataset.json damaged/dataset.json
rm damaged/train-00000.tlt
# shellcheck disable=SC2086
bad 66 'damaged/train-00000.tlt' train -q $tiny data.path=damaged
cp -r "$dec/model" model
rm model/config.json
bad 66 'model/config.json' generate -q model
cp "$dec/model/config.json" model
truncate -s 1000 model/model.safetensors
bad 65 'model/model.safetensors' generate -q model
echo '{' > model/config.json
bad 65 'model/config.json' generate -q model
sed 's/"gpt2"/"mamba"/' "$dec/model/config.json" > model/config.json
bad 65 'mamba.*gpt2' generate -q model

# --- checkpoints: a damaged one is left out, and that is said
newest=$(cat "$dec/checkpoints/latest")
printf 'X' | dd of="$dec/checkpoints/$newest/optimizer.safetensors" bs=1 seek=2000 conv=notrunc 2> dd.log
good resume -q "$dec"
grep -q "warning: .*$newest" err || fail "resume: no warning about the damaged checkpoint"
[ "$(grep -c . err)" -eq 1 ] || fail "resume: more than one line on stderr"
grep -q '"resume".*after step 20"' "$dec/events.jsonl" || fail "resume: not from the step before"
for c in "$dec"/checkpoints/step-*; do echo X >> "$c/model.safetensors"; done
bad 65 'checkpoint' resume -q "$dec"

# --- a run in use
# shellcheck disable=SC2086
"$TILTH" train -q $tiny data.path=data run.name=long train.steps=100000000 2> long.err &
pid=$!
tries=0
until [ -s "$(echo runs/long-*)/metrics.jsonl" ] || [ $tries -ge 300 ]; do
  sleep 0.02
  tries=$((tries + 1))
done
bad 73 "another process.*pid $pid" resume -q runs/long-*
kill -TERM $pid
wait $pid
[ $? -eq 75 ] || fail "SIGTERM: no exit code 75"
chmod a-w runs/long-* && [ "$(id -u)" -ne 0 ] && bad 77 'runs/long' resume -q runs/long-*
chmod u+w runs/long-*

# --- a full disk
mkdir full
if mount -t tmpfs -o size=300k tmpfs full 2> /dev/null; then
  i=0
  while [ $i -lt 40 ]; do
    cat text.txt
    i=$((i + 1))
  done > long.txt
  bad 74 'full.*space' prepare -q -t bytes -o full/d --split tail --val-fraction 0.1 long.txt
  [ -z "$(ls full)" ] || fail "prepare left files on the full disk"
  # shellcheck disable=SC2086
  bad 74 'full.*space' train -q $tiny data.path=data run.dir=full model.dim=128
  grep -q '"event": *"warning".*MB of disk are left' full/*/events.jsonl || fail "train on a small disk: no warning at the start"
  [ -z "$(find full -name '.tmp*')" ] || fail "train left temporary files on the full disk"
  umount full
else
  echo "skipped: a full disk (mount is not permitted)"
fi
"$TILTH" config --docs > /dev/full 2> err
code=$?
[ $code -eq 74 ] || fail "output to a full disk: exit code $code instead of 74"
grep -q '^tilth: error: .*standard output' err || fail "output to a full disk: no error line"

# --- a file that another program cuts while it is read
good prepare -q -t bytes -o cut --unit paragraph --val-fraction 0.1 text.txt
shard=$(find cut -name 'train-*')
# shellcheck disable=SC2086
"$TILTH" train $tiny data.path=cut train.steps=1000000 run.eval_every=1000000 > out 2> err &
pid=$!
i=0
until tr '\r' '\n' < err | grep -q '^step [1-9]' || [ $i -ge 300 ]; do
  i=$((i + 1))
  sleep 0.1
done
: > "$shard"
wait $pid
code=$?
cmd="train on a file that is cut"
[ $code -eq 74 ] || fail "$cmd: exit code $code instead of 74"
tail -1 err | grep -q "^tilth: error: .*$shard: the file became shorter" || fail "$cmd: no line that names it"

[ $failed -eq 0 ] || echo "$failed checks failed"
[ $failed -eq 0 ]
