#!/bin/sh
# usage: TILTH=build/tilth sh tests/cli/task_faults.sh
# What real records are like, for each task: empty lines, texts longer than the limit, labels and tags that
# the training data do not have. Each gives an error that names the line, or is handled as docs/task-data.md
# says. Prints each check that fails; exits 1 if one did.
. "$(dirname "$0")/common.inc"

long=$(printf 'a long text %.0s' 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
i=0
while [ $i -lt 16 ]; do
  if [ $((i % 2)) -eq 0 ]; then place=sun label=day; else place=moon label=night; fi
  printf '%s\tthe %s %d\n\n' $label $place $i >> classify.tsv
  printf '%s,old\tthe %s %d\n\n' $label $place $i >> multilabel.tsv
  printf '%d.5\tthe %s\tnumber %d\n\n' $((i % 2)) $place $i >> regression.tsv
  printf 'Anna\tB-PER\nsees\tO\n%s\tB-LOC\n\n\n' $place >> tokens.conll
  printf '{"prompt":"the %s ","answer":"%s"}\n\n' $place $label >> prompt.jsonl
  printf 'the %s\tdas %s\n\n' $place $label >> translate.tsv
  printf 'the %s %d\n\n' $place $i >> simcse.txt
  i=$((i + 1))
done
for t in classify multilabel; do sed -i '1i label\ttext' $t.tsv; done
sed -i '1i score\tsentence1\tsentence2' regression.tsv
sed -i '1i source\ttarget' translate.tsv
# The same records, one of them too long.
{ cat classify.tsv; printf 'day\t%s\n' "$long"; } > classify.long.tsv
{ cat multilabel.tsv; printf 'day\t%s\n' "$long"; } > multilabel.long.tsv
{ cat regression.tsv; printf '1.5\t%s\t%s\n' "$long" "$long"; } > regression.long.tsv
{ cat tokens.conll; for w in $long $long; do printf '%s\tO\n' "$w"; done; } > tokens.long.conll
{ cat prompt.jsonl; printf '{"prompt":"%s","answer":"day"}\n' "$long"; } > prompt.long.jsonl
{ cat translate.tsv; printf '%s\t%s\n' "$long" "$long"; } > translate.long.tsv
{ cat simcse.txt; printf '%s\n' "$long"; } > simcse.long.txt

tiny="model.dim=16 model.layers=2 model.heads=2 task.tokenizer=bytes task.max_len=48 train.batch=4 train.steps=2"
# shellcheck disable=SC2086
train() { check 0 finetune --task "$1" --data "$2" $tiny model.type="$3" run.name="$4" task.valid_fraction=0.25 --json; }
count() { grep -o "\"$1\":[0-9]*" out | tail -1 | sed 's/.*://'; }
for task in classify multilabel regression tokens prompt translate simcse; do
  data=$task.tsv type=encoder
  case $task in
  tokens) data=tokens.conll ;;
  prompt) data=prompt.jsonl type=gpt2 ;;
  translate) type=encdec ;;
  simcse) data=simcse.txt ;;
  esac
  long_data=${data%.*}.long.${data##*.}
  # Empty lines are passed over: 16 records, none of them cut.
  train $task $data $type $task
  [ $(($(count n_train) + $(count n_valid))) -eq 16 ] || fail "$task: $(count n_train) + $(count n_valid) records instead of 16"
  [ "$(count n_cut)" -eq 0 ] || fail "$task: $(count n_cut) records cut"
  # What is too long is cut (tokens: goes on in a further window), and said.
  case $task in
  simcse) more="task.valid_fraction=0.25 run.seed=3" ;;
  *) more="--valid $data" ;;
  esac
  # shellcheck disable=SC2086
  check 0 finetune --task $task --data $long_data $more $tiny model.type=$type run.name=$task-long
  holds out 'cut  *1 records were longer than task.max_len'
done

# Labels and tags that training did not have, in validation and in prediction: file, line, and those known.
printf 'label\ttext\nday\tthe sun\nnoon\tthe sun\n' > classify.bad.tsv
printf 'label\ttext\nday\tthe sun\nday,new\tthe sun\n' > multilabel.bad.tsv
printf 'score\tsentence1\tsentence2\n1\ta\tb\nmuch\ta\tb\n' > regression.bad.tsv
printf 'Anna\tB-PER\n\nAnna\tB-FISH\n' > tokens.bad.conll
wrong() { # TASK DATA WHERE WHAT
  # shellcheck disable=SC2086
  check 65 finetune --task "$1" --data "${2%%.*}.${2##*.}" --valid "$2" $tiny model.type=encoder
  holds err "$2:$3"
  holds err "$4"
  check 65 predict "$(echo runs/"$1"-[0-9]*/model)" --data "$2"
  holds err "$2:$3"
  holds err "$4"
}
wrong classify classify.bad.tsv 3 'label "noon" is not among the 2 known'
wrong multilabel multilabel.bad.tsv 3 'label "new" is not among the 3 known'
wrong regression regression.bad.tsv 3 'value "much" is not a finite number'
wrong tokens tokens.bad.conll 3 'tag "B-FISH" is not among'
# Fields that are empty, half a pair, files that do not go together.
bad() { # TASK TYPE DATA WHAT
  # shellcheck disable=SC2086
  check 65 finetune --task "$1" --data "$3" $tiny model.type="$2"
  holds err "$4"
}
printf 'label\ttext\nday\t\n' > empty.tsv
bad classify encoder empty.tsv 'empty.tsv:2'
printf 'label\ttext\n\tthe sun\n' > unlabelled.tsv
bad classify encoder unlabelled.tsv 'unlabelled.tsv:2'
printf 'label\ttext\n' > none.tsv
bad classify encoder none.tsv 'none.tsv'
printf '{"prompt":"the sun ","answer":"day"}\n{"prompt":"the sun "}\n' > half.jsonl
bad prompt gpt2 half.jsonl 'half.jsonl:2.*answer'
printf 'Anna\tB-PER\nsees\n' > short.conll
bad tokens encoder short.conll 'short.conll:2'
printf 'a\nb\nc\n' > three.en
printf 'a\nb\n' > two.de
printf 'a\n\nc\n' > gap.de
bad translate encdec three.en,two.de 'three.en.*3.*two.de.*2\|two.de.*2.*three.en.*3'
bad translate encdec three.en,gap.de 'gap.de:2'

[ $failed -eq 0 ] || echo "$failed checks failed"
[ $failed -eq 0 ]
