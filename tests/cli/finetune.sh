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

# Of another program's, which every folder made from it must keep.
sed -i '1s/{/{ "chat_template": "{{ kept }}",/' "$decoder/tokenizer_config.json"
echo '{{ kept }}' > "$decoder/chat_template.jinja"

# An encoder-decoder to begin from.
printf 'the sun\tdie sonne\nthe moon\tder mond\na sun\teine sonne\na moon\tein mond\n' > pairs.body
{ printf 'source\ttarget\n'; cat pairs.body pairs.body; } > translate.tsv
cp regression.tsv simcse.valid.tsv
cut -f 2 classify.tsv.body > simcse.txt
# shellcheck disable=SC2086
check 0 finetune --task translate --data translate.tsv $tiny model.type=encdec train.steps=2 \
  train.batch=4 run.name=encdec task.valid_fraction=0.25
seq2seq=$(echo runs/encdec-*/model)
[ -d "$seq2seq" ] || fail "no encoder-decoder was made"

# Every task with every way to adapt: two steps, a finite loss, and, from the files, the same scores.
number() { grep -o "\"$2\":[-0-9.e+]*" "$1" | tail -1 | sed 's/.*://'; }
score() { grep -o "\"$2\":{[^}]*" "$1" | tail -1 | sed 's/.*"value":\([^,}]*\).*/\1/'; }
same() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; exit !(a != "" && b != "" && d < 1e-4 && d > -1e-4) }'; }
for task in classify multilabel regression tokens prompt translate simcse; do
  data=$task.tsv from=$decoder valid=$task.tsv
  [ $task = tokens ] && data=tokens.conll valid=tokens.conll
  [ $task = prompt ] && data=prompt.jsonl valid=prompt.jsonl
  [ $task = translate ] && from=$seq2seq
  [ $task = simcse ] && data=simcse.txt valid=simcse.valid.tsv
  for adapt in full probe last bitfit lora dora adapter prefix prompt; do
    case $task-$adapt in
    prompt-probe | translate-probe | simcse-probe)
      check 78 finetune --from "$from" --task $task --data $data --adapt $adapt train.batch=4
      holds err 'this task has none'
      continue
      ;;
    esac
    check 0 finetune --from "$from" --task $task --data $data --valid $valid --adapt $adapt \
      adapt.layers=1 adapt.rank=4 adapt.width=4 adapt.length=3 task.max_len=48 train.steps=2 \
      train.batch=4 run.dtype=f32 run.name=$task-$adapt --json
    holds out "\"type\":\"$task\""
    trained=$(number out trained) all=$(number out parameters)
    if [ $adapt = full ]; then
      [ "$trained" -eq "$all" ] || fail "$task, full: $trained of $all parameters trained"
    else
      [ "$trained" -lt "$all" ] || fail "$task, $adapt: all $all parameters trained"
    fi
    model=$(echo runs/$task-$adapt-*/model)
    case $adapt in lora | dora) [ -f "$model/adapter_config.json" ] || fail "$task, $adapt: no adapter" ;; esac
    if [ "$from" = "$decoder" ]; then
      cmp "$decoder/tokenizer_config.json" "$model/tokenizer_config.json" &&
        cmp "$decoder/chat_template.jinja" "$model/chat_template.jinja" || fail "$task, $adapt: no chat_template"
    fi
    loss=$(score out loss)
    case $task in
    prompt)
      check 0 generate "$model" --prompt 'the sun ' -n 3
      ;;
    translate)
      cut -f 1 pairs.body > source.txt
      check 0 translate "$model" --data source.txt --beam 2 --max-len 40
      [ "$(wc -l < out)" -eq 4 ] || fail "translate, $adapt: not one translation a line"
      ;;
    simcse)
      spearman=$(score out spearman)
      check 0 embed "$model" --sts $valid --dtype f32 --json
      same "$spearman" "$(score out spearman)" || fail "simcse, $adapt: spearman $spearman, from the files $(score out spearman)"
      ;;
    *)
      check 0 predict "$model" --data $data --json --dtype f32 --max-len 48
      [ "$(grep -c -e '"text"' -e '"tokens"' out)" -eq 60 ] || fail "$task: not one prediction a record"
      same "$loss" "$(score out loss)" || fail "$task, $adapt: loss $loss, from the files $(score out loss)"
      ;;
    esac
  done
done

# What reads texts without the learned rows says so.
for rows in prefix prompt; do
  model=$(echo runs/prompt-$rows-*/model)
  check 78 train model.from="$model" data.text=text.txt data.unit=file data.split=tail data.val_fraction=0.1 \
    data.tokenizer=bytes train.steps=2
  holds err "learned rows (adapt.method $rows)"
  check 78 inspect "$model" --text text.txt
  holds err "learned rows (adapt.method $rows)"
  check 78 export "$model" --to gguf -o x.gguf
  holds err 'GGUF has no place'
done

# Several adapters on one base, named by their folders or with --adapter; merged.
a=$(echo runs/classify-lora-*/model)
check 0 predict "$a" --data classify.tsv --json --dtype f32
cp out alone
check 0 predict "$decoder" --adapter "$a" --data classify.tsv --json --dtype f32
cmp -s out alone || fail "predict: base and adapter differ from the adapter's folder"
check 0 merge "$decoder" "$a" --out merged
grep -q '{{ kept }}' merged/tokenizer_config.json || fail "merge: no chat_template"
check 0 predict merged --data classify.tsv --json --dtype f32
cmp -s out alone || fail "predict: the merged model differs from base and adapter"
# From one set of classes to another: the body stays, the head begins anew.
{ cat classify.tsv; sed 's/^[a-z]*\t/dusk\t/' classify.tsv.body | head -20; } > dusk.tsv
check 0 finetune --from merged --task classify --data dusk.tsv --valid dusk.tsv train.steps=2 train.batch=4 task.max_len=48 \
  adapt.method=probe optim.lr=1e-9 run.name=dusk
holds err 'merged has a head for other classes'
new=$(echo runs/dusk-*/model)
check 0 embed merged --data text.txt -o old.npy
check 0 embed "$new" --data text.txt -o new.npy
cmp -s old.npy new.npy || fail "other classes: the body has changed"
check 0 predict "$new" --data dusk.tsv
check 0 finetune --from merged --task classify --data classify.tsv train.steps=2 train.batch=4 task.max_len=48
grep -q 'other classes' err && fail "the same classes, and a new head"
check 78 merge "$decoder" --out twice
holds err 'nothing to merge'
check 78 predict "$seq2seq" --adapter "$a" --data classify.tsv
cp -r "$a" lost
sed 's/"base_model_name_or_path": "[^"]*"/"base_model_name_or_path": "gone"/' "$a/adapter_config.json" \
  > lost/adapter_config.json
check 66 predict lost --data classify.tsv
holds err 'belongs to "gone"'
sed 's/"LORA"/"IA3"/' "$a/adapter_config.json" > lost/adapter_config.json
check 65 predict lost --data classify.tsv
holds err 'only "LORA"'
check 78 finetune --from "$decoder" --data classify.tsv --adapt lora adapt.rank=40
holds err 'adapt.rank 40 is larger than'
check 78 finetune --from "$decoder" --data classify.tsv --adapt prefix adapt.length=45
holds err 'at least 8'

# What predict prints besides.
for task in classify multilabel regression tokens; do
  data=$task.tsv
  [ $task = tokens ] && data=tokens.conll
  check 0 predict "$(echo runs/$task-lora-*/model)" --data $data --json
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
holds err 'names no matrix of the blocks; there are c_attn,c_proj,c_fc'
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
