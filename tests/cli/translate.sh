#!/bin/sh
# usage: TILTH=build/tilth sh tests/cli/translate.sh
# An encoder-decoder from pretraining to translations, on a few lines, and the faults that a user makes.
# Prints each check that fails; exits 1 if one did.
. "$(dirname "$0")/common.inc"

i=0
while [ $i -lt 64 ]; do
  a=$((i % 4)) b=$((i / 4 % 4))
  set -- red blue old new; shift $a; en=$1
  set -- rot blau alt neu; shift $a; de=$1
  set -- cat dog car house; shift $b; en="$en $1"
  set -- Katze Hund Auto Haus; shift $b; de="$de $1"
  echo "there is a $en" >> train.en
  echo "da ist ein $de" >> train.de
  i=$((i + 1))
done
head -16 train.en > few.en
head -16 train.de > few.de

model="model.type=encdec model.dim=48 model.layers=2 model.encoder_layers=1 model.heads=4"
for o in denoise span_corruption; do
  check 0 train run.name=$o data.text=train.en,train.de data.unit=line data.tokenizer=bytes \
    data.val_fraction=0.1 $model model.max_len=64 objective.type=$o objective.mask_rate=0.35 train.seq_len=48 \
    train.steps=4 train.batch=8 run.eval_every=2
  holds out validation
done
check 78 train data.text=train.en data.tokenizer=bytes $model objective.type=next_token train.steps=1
holds err 'use denoise or span_corruption'

task="--task translate --data train.en,train.de --valid few.en,few.de --test few.en,few.de task.max_len=64
  optim.lr=5e-3 train.batch=16 task.dropout=0"
check 0 finetune run.name=scratch $task task.tokenizer=bytes $model train.steps=700 run.eval_every=350
holds out 'bleu .*nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp'
scratch=$(echo runs/scratch-*/model)
check 0 finetune run.name=warm $task --from runs/denoise-*/model train.steps=3 run.eval_every=2 --json
holds out '"signature":"nrefs:1'

check 0 translate $scratch --data train.en --reference train.de
cmp -s out train.de || fail "the words that were learnt are not translated"
holds err 'bleu *100'
check 0 translate $scratch --data train.en --beam 1 --threads 1
cmp -s out train.de || fail "greedy search does not translate"
printf 'there is a red dog\n\nthere is a new cat\n' > blank
check 0 translate $scratch --data blank
[ "$(cat out)" = "$(printf 'da ist ein rot Hund\n\nda ist ein neu Katze')" ] || fail "a blank line lost its place"
check 0 translate $scratch --data blank --n-best 3 --json
[ "$(wc -l < out)" -eq 3 ] || fail "not one object a line"
holds out '"source":"there is a red dog","translations":\[{"text":"da ist ein rot Hund","score":-'

t5="model.type=t5 model.dim=48 model.layers=2 model.encoder_layers=1 model.heads=4 model.max_len=64"
check 0 train run.name=t5-spans data.text=train.en,train.de data.unit=line data.tokenizer=bytes data.val_fraction=0.1 \
  $t5 objective.type=span_corruption train.seq_len=48 train.steps=4 train.batch=8 run.eval_every=2
check 0 finetune run.name=t5 $task --from runs/t5-spans-*/model train.steps=300 run.eval_every=150
check 0 translate runs/t5-[0-9]*/model --data train.en
cmp -s out train.de || fail "T5 does not translate what it learnt"
check 0 train run.name=t5-on model.from=$(echo runs/t5-spans-*/model) data.text=train.en,train.de data.unit=line \
  data.val_fraction=0.1 objective.type=denoise train.seq_len=48 train.steps=2 train.batch=8
check 78 train data.text=train.en,train.de data.unit=line data.tokenizer=bytes data.val_fraction=0.1 $t5 \
  objective.type=denoise model.kv_heads=2 train.seq_len=48 train.steps=1
holds err 'type t5 has neither grouped queries'

body="data.text=train.en,train.de data.unit=line data.tokenizer=bytes data.val_fraction=0.1 model.dim=48
  model.heads=4 model.ff=96 train.seq_len=48 train.steps=2 train.batch=8"
check 0 train run.name=reads $body model.type=encoder model.layers=1 objective.type=masked
check 0 train run.name=writes $body model.type=llama model.layers=2
from="task.encoder_from=$(echo runs/reads-*/model) task.decoder_from=$(echo runs/writes-*/model)"
check 0 finetune run.name=two $task $from $model model.ff=96 model.act=gelu train.steps=2 run.eval_every=2
holds err 'tensors taken: 9 for the encoder, 19 for the decoder, 2 of embedding and output; fresh: 11'
holds err 'was trained with model.act silu, goes on with gelu'
check 78 finetune $task $from $model model.ff=64 train.steps=2
holds err 'has shape \[192, 48\], but "model.encoder.layers.0.mlp.gate_proj.weight" of the new model takes \[128'
check 78 finetune $task $from --from runs/denoise-*/model train.steps=2
holds err 'task.from names a whole model'

check 65 translate $scratch --data train.en --reference few.de
holds err 'train.en has 64 lines, few.de 16'
check 78 translate $scratch --data few.en --n-best 6
holds err 'the best at most as many'
check 66 translate $scratch --data missing.en
check 2 translate $scratch
check 78 predict $scratch --data few.en
holds err 'use tilth translate'
check 78 generate $scratch --prompt a
holds err 'use `tilth translate`'
check 78 finetune $task task.tokenizer=bytes model.type=llama train.steps=1
holds err 'needs an encoder-decoder'
check 78 finetune --from $scratch --task prompt --data train.en,train.de train.steps=1
holds err 'needs a decoder'
head -15 few.de > short.de
check 65 finetune --task translate --data few.en,short.de task.tokenizer=bytes $model train.steps=1
holds err 'line 16 of few.en has no partner'

[ $failed -eq 0 ] || echo "$failed checks failed"
[ $failed -eq 0 ]
