#!/bin/sh
# usage: TILTH=build/tilth sh tests/cli/finetune.sh
# Every task with every way to adapt, on a few records: tilth finetune, predict, resume, and the faults
# that a user makes. Prints each check that fails; exits 1 if one did.
. "$(dirname "$0")/common.inc"

i=0
while [ $i -lt 60 ]; do
  if [ $((i % 2)) -eq 0 ]; then place=sun label=day; else place=moon label=night; fi
  printf '%s\tthe %s number %d\n' $label $place $i >> classify.tsv.body
  printf '%s\tthe %s number %d\n' "$label,n$((i % 3))" $place $i >> multilabel.tsv.body
  printf '%d.5\tthe %s\tnumber %d\n' $((i % 2)) $place $i >> regression.tsv.body
  printf 'Anna B-PER\nsees O\n%s B-%s\n\n' $place $label >> tokens.conll
  printf '{"prompt":"the %s ","answer":"%s"}\n' $place $label >> prompt.jsonl
  i=$((i + 1))
done
for t in classify multilabel; do { printf 'label\ttext\n'; cat $t.tsv.body; } > $t.tsv; done
{ printf 'score\tsentence1\tsentence2\n'; cat regression.tsv.body; } > regression.tsv

tiny="model.dim=16 model.layers=2 model.heads=2 task.tokenizer=bytes task.max_len=48"
# A body to begin from.
cp classify.tsv.body text.txt
check 0 train run.name=gpt2 data.text=text.txt data.tokenizer=bytes data.unit=file data.split=tail \
  data.val_fraction=0.1 model.type=gpt2 model.dim=16 model.layers=2 model.heads=2 train.seq_len=48 \
  train.steps=3 train.batch=4
decoder=$(echo runs/gpt2-*/model)
[ -d "$decoder" ] || fail "no decoder was pretrained"

for task in classify multilabel regression tokens prompt; do
  data=$task.tsv
  [ $task = tokens ] && data=tokens.conll
  [ $task = prompt ] && data=prompt.jsonl
  for adapt in full probe last bitfit lora; do
    if [ $task-$adapt = prompt-probe ]; then
      check 78 finetune --from "$decoder" --task $task --data $data --adapt $adapt
      holds err 'this task has none'
      continue
    fi
    check 0 finetune --from "$decoder" --task $task --data $data --adapt $adapt adapt.layers=1 \
      task.max_len=48 train.steps=3 run.name=$task-$adapt --json
    holds out "\"type\":\"$task\""
    if [ $adapt = full ]; then share=1; else share=0; fi
    trained=$(sed 's/.*"trained":\([0-9]*\).*/\1/' out)
    all=$(sed 's/.*"parameters":\([0-9]*\).*/\1/' out)
    if [ "$share" -eq 1 ]; then
      [ "$trained" -eq "$all" ] || fail "$task, full: $trained of $all parameters trained"
    else
      [ "$trained" -lt "$all" ] || fail "$task, $adapt: all $all parameters trained"
    fi
  done
  [ $task = prompt ] && continue
  check 0 predict "$(echo runs/$task-lora-*/model)" --data $data --json
  [ "$(grep -c -e '"text"' -e '"tokens"' out)" -eq 60 ] || fail "$task: not one prediction a record"
  holds out '"scores":'
  check 0 predict "$(echo runs/$task-full-*/model)" --data $data
  case $task in
    classify) holds err 'true  *predicted:' && holds err 'probability  *records' && holds err 'auc ' ;;
    multilabel | tokens) holds err 'label  *precision  *recall' ;;
  esac

  # Lines without labels, from standard input: as many answers, with their probabilities.
  printf 'one line of text\n\nanother one\n' | "$TILTH" predict -q "$(echo runs/$task-full-*/model)" \
    --unlabelled --json > out 2> err || fail "$task: predict --unlabelled failed: $(cat err)"
  [ "$(grep -c -e '"text"' -e '"tokens"' out)" -eq 2 ] || fail "$task: not one prediction a line"
  [ $task = regression ] || holds out '"probabilities":'
  grep -q '"scores"' out && fail "$task: scores without labels"
done
printf 'one\ntwo\n\nthree\n' > words.conll
check 0 predict "$(echo runs/tokens-full-*/model)" --data words.conll --unlabelled
[ "$(cut -f1 out | tr '\n' ,)" = one,two,,three,, ] || fail "words without tags: $(cat out)"
[ "$(head -1 out | awk -F'\t' '{print NF}')" -eq 3 ] || fail "tokens: no probability"

# The label study: killed while it works, it goes on to the same numbers.
study() {
  "$TILTH" report labels --from "$(echo runs/classify-full-*/model)" --data classify.tsv \
    --test classify.tsv --labels 10,50% --seeds 2 --lrs 1e-3,3e-3 --max-len 48 --out "$1.json" \
    --page "$1.html" task.min_steps=10 > out 2> err
}
cmd='report labels'
study whole || fail "report labels failed: $(cat err)"
holds out 'labels .*pretrained .*gain over scratch'
holds err ' left'
grep -q 'What pretraining was worth' whole.html || fail "no page of the study"
study cut &
pid=$!
for _ in 1 2 3 4 5 6 7 8 9 10; do
  [ -e cut.json ] && break
  sleep 0.1
done
children=$(ps -o pid= --ppid $pid) # the shell's child is the program
kill -9 $children $pid 2> /dev/null
wait $pid 2> /dev/null
study cut || fail "report labels did not go on: $(cat err)"
values() { grep -A1 -e '"[a-z]*/[0-9]*/[0-9]*": {' "$1" | grep '"value"'; }
[ "$(values whole.json | wc -l)" -eq 16 ] || fail "not 16 cells in whole.json"
[ "$(values whole.json)" = "$(values cut.json)" ] || fail "a killed study came to other numbers"

# An encoder from random weights, its test records, and the stop that resume goes on from.
# shellcheck disable=SC2086
check 0 finetune --data classify.tsv --test classify.tsv $tiny model.type=encoder optim.lr=5e-3 \
  task.epochs=30 run.name=enc
holds out 'test  *accuracy  *1.0000'
# shellcheck disable=SC2086
"$TILTH" finetune --data classify.tsv $tiny model.type=encoder train.steps=200000 \
  run.name=cut run.eval_every=100 > out 2> err &
pid=$!
sleep 1
kill -TERM $pid
wait $pid
code=$?
[ $code -eq 75 ] || fail "SIGTERM during fine-tuning: exit code $code instead of 75"
cmd=finetune
holds err 'error: stopped at step .*tilth resume'

# Faults.
check 65 finetune --from "$decoder" --data classify.tsv --test multilabel.tsv task.max_len=48
holds err 'is not among the 2 known'
check 78 finetune --from "$decoder" --data classify.tsv --adapt lora adapt.targets=nothing
holds err 'names no matrix'
check 2 finetune --from "$decoder"
holds err 'give --data'
check 78 finetune --data classify.tsv
holds err 'task.from is empty'
check 66 finetune --from nowhere --data classify.tsv
check 78 predict "$decoder" --data classify.tsv
holds err 'no classification head'
printf 'label\ttext\nday\t\n' > empty.tsv
check 65 finetune --from "$decoder" --data empty.tsv
holds err 'empty.tsv:2'

[ $failed -eq 0 ] || echo "$failed checks failed"
[ $failed -eq 0 ]
