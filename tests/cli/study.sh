#!/bin/sh
# usage: TILTH=build/tilth sh tests/cli/study.sh
# tilth report labels for every task on a few records, and a study that is killed again and again. (Pictures
# besides: report_images.sh; masks: tests/unit/test_masks.c.) Prints each check that fails; exits 1 if one did.
. "$(dirname "$0")/common.inc"
make=$(dirname "$TILTH")/make_pictures
[ -x "$make" ] || { echo "no $make: build the target make_pictures"; exit 1; }

i=0
while [ $i -lt 60 ]; do
  if [ $((i % 2)) -eq 0 ]; then place=sun label=day; else place=moon label=night; fi
  printf '%s\tthe %s number %d\n' $label $place $i >> classify.tsv
  printf '{"label":"%s","sentence1":"the %s","sentence2":"number %d"}\n' $label $place $i >> pairs.jsonl
  printf '%s\tthe %s number %d\n' "$label,n$((i % 3))" $place $i >> multilabel.tsv
  printf '{"score":%d.5,"text":"the %s number %d"}\n' $((i % 2)) $place $i >> regression.jsonl
  printf 'Anna B-PER\nsees O\n%s B-%s\n\n' $place $label >> tokens.conll
  printf '{"prompt":"the %s ","answer":"%s"}\n' $place $label >> prompt.jsonl
  echo "the $place" >> a.en
  echo "der $label" >> a.de
  i=$((i + 1))
done
"$make" folder train 64 || fail "no pictures were made"
{ echo path,label; for c in 0 1; do for f in train/$c/*; do echo "$f,bars;kind$c"; done; done; } > pictures.csv

# A body of each kind to begin from; the decoder has learnt its task before.
tiny="model.dim=16 model.layers=2 model.heads=2 task.tokenizer=bytes task.max_len=48 train.batch=8"
body="data.text=classify.tsv data.tokenizer=bytes data.unit=file data.split=tail data.val_fraction=0.1
  model.dim=16 model.layers=2 model.heads=2 train.seq_len=48 train.steps=3 train.batch=4"
# shellcheck disable=SC2086
{
  check 0 train run.name=encoder $body model.type=encoder objective.type=masked
  check 0 finetune --task prompt --data prompt.jsonl $tiny model.type=gpt2 train.steps=200 optim.lr=1e-2 run.name=decoder
  check 0 finetune --task translate --data a.en,a.de $tiny model.type=encdec train.steps=2 run.name=encdec
  check 0 train run.name=vit data.images=train objective.type=simclr model.type=vit model.dim=16 model.layers=1 \
    model.heads=2 model.patch=4 image.crop=resized train.batch=16 train.steps=4
}
model() { echo runs/"$1"-*/model; }
# study NAME MODEL TASK DATA OPTION...
study() {
  name=$1 from=$(model "$2") task=$3 data=$4
  shift 4
  cmd="report labels, $task"
  "$TILTH" report labels --from "$from" --task "$task" --data "$data" --test "$data" --labels 10,50% --seeds 2 \
    --max-len 48 --out "$name.json" --page "$name.html" train.batch=8 task.min_steps=15 "$@" > out 2> err
}
values() { grep -A1 -e '"[a-z]*/[0-9]*/[0-9]*": {' "$1" | grep '"value": [-0-9]'; }

# every NAME MODEL TASK DATA METRIC ARMS: as many arms as the task has, each with its four numbers; the page.
every() {
  study "$1" "$2" "$3" "$4" --lrs 3e-3 --arms pretrained,scratch,frozen,frozen-lora,bayes,pixels adapt.rank=4 ||
    fail "$1: report labels failed"
  holds out "^$5"
  for arm in bayes pretrained scratch frozen frozen-lora pixels; do
    if echo ",$6," | grep -q ",$arm,"; then want=4; else want=0; fi
    n=$(grep -A1 -e "\"$arm/[0-9]*/[0-9]*\": {" "$1.json" | grep -c '"value": [-0-9]')
    [ "$n" -eq $want ] || fail "$1: arm $arm has $n values instead of $want"
  done
  grep -q 'Worth how many labels' "$1.html" || fail "$1: no page"
  grep -qi '>nan\|-nan' "$1.html" && fail "$1: the page has what is no number"
}
networks=pretrained,scratch,frozen,frozen-lora
every classify encoder classify classify.tsv accuracy bayes,$networks
holds classify.html 'test accuracy, %'
holds classify.html 'always the most frequent class'
every pairs encoder classify pairs.jsonl accuracy $networks
every multilabel encoder multilabel multilabel.tsv f1_micro bayes,$networks
holds multilabel.html 'test f1 micro x 100'
every regression encoder regression regression.jsonl spearman $networks
holds regression.html 'What the fine-tuned network says, and the truth'
every tokens encoder tokens tokens.conll entity_f1 $networks
every prompt decoder prompt prompt.jsonl 'loss (less is better)' pretrained,scratch,frozen-lora
grep -q '^ *10 .*  +[0-9]' out || fail "prompt: what has a smaller loss is no gain: $(cat out)"
holds prompt.html '</b><span>95&nbsp;% interval'
holds prompt.html 'class="up">+'
every translate encdec translate a.en,a.de bleu pretrained,scratch,frozen-lora
holds translate.html 'truth: der night'
every pictures vit image_multilabel pictures.csv f1_micro $networks,pixels
holds pictures.html 'bars, kind[01]'
check 2 report labels --from "$(model encoder)" --task simcse --data a.en --test a.en
holds err 'has no labels'

# Killed again and again, it goes on to the same numbers.
again="encoder classify classify.tsv --lrs 1e-3,3e-3"
# shellcheck disable=SC2086
study whole $again || fail "report labels failed"
holds out 'labels .*pretrained .*gain over scratch'
holds err ' left'
grep -q 'What pretraining was worth' whole.html || fail "no page of the study"
for moment in 0.3 0.7 1.1; do
  # shellcheck disable=SC2086
  study cut $again &
  pid=$!
  sleep $moment
  children=$(ps -o pid= --ppid $pid) # the shell's child is the program
  kill -9 $children $pid 2> /dev/null
  wait $pid 2> /dev/null
done
# shellcheck disable=SC2086
study cut $again || fail "report labels did not go on"
[ "$(values whole.json | wc -l)" -eq 16 ] || fail "not 16 cells in whole.json"
[ "$(values whole.json)" = "$(values cut.json)" ] || fail "a killed study came to other numbers"

[ $failed -eq 0 ] || echo "$failed checks failed"
[ $failed -eq 0 ]
