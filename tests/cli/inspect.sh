#!/bin/sh
# usage: TILTH=build/tilth sh tests/cli/inspect.sh
# tilth inspect of a decoder and an encoder: the page, the JSON, and the faults that a user makes.
# Prints each check that fails; exits 1 if one did.
source=$PWD
. "$(dirname "$0")/common.inc"

i=0
while [ $i -lt 60 ]; do
  printf 'the sun & the moon <%d> rose over the hill and sank again\n' $i >> text.txt
  i=$((i + 1))
done
for type in gpt2 encoder; do
  objective=next_token
  [ $type = encoder ] && objective=masked
  check 0 train run.name=$type data.text=text.txt data.tokenizer=bytes data.unit=line data.split=tail \
    data.val_fraction=0.1 model.type=$type model.dim=16 model.layers=2 model.heads=2 train.seq_len=48 \
    train.steps=3 train.batch=4 objective.type=$objective
  model=$(echo runs/$type-*/model)
  check 0 inspect "$model" --text 'the sun <b>' --data text.txt --words sun,moon --out page.html
  for part in 'What each head is worth' 'Loss by position' 'skip connections' 'Neighbours' 'Attention' '<svg'; do
    holds page.html "$part"
  done
  grep -q '<b>the' page.html && fail "$type: text of the user is not escaped"
  grep -q -i -e '<script' -e 'nan<' page.html && fail "$type: a script, or a value that is none"
  check 0 inspect "$model" --data text.txt --json
  for key in attention importance position gradients cut neighbours; do holds out "\"$key\":"; done
  cp out first
  check 0 inspect "$model" --data text.txt --json --threads 1
  cmp -s out first || fail "$type: the numbers depend on the threads"
  check 0 inspect "$model" --text 'the sun and the moon' --json
done
decoder=$(echo runs/gpt2-*/model)
check 0 inspect "$decoder" --data text.txt --json
holds out '"induction":{"length":24,'
check 0 inspect "$decoder"
holds out 'model folder, [0-9]* tensors'
holds out 'model_type *gpt2'
check 0 inspect "$decoder/model.safetensors" --json
holds out '"format": "safetensors"'
check 0 inspect "$decoder/tokenizer.json"
check 0 inspect "$(echo runs/gpt2-*/tb/events*)"
holds out '^  loss '
check 0 inspect "$(echo runs/gpt2-*/checkpoints/step-* | cut -d ' ' -f 1)"
holds out 'all files are as they were written'
check 0 inspect "$source/tests/golden/classifiers/lora-gpt2"
holds out 'adapter folder, [0-9]* tensors'
holds out 'target_modules .*c_attn'
check 0 export "$(echo runs/gpt2-*/data)" --to llmc --out llmc
check 0 inspect llmc/train_000000.bin
holds out 'llm.c tokens'
holds out 'bytes of a token  *2'
head -c 1500 llmc/train_000000.bin > cut.bin
check 65 inspect cut.bin
holds err '1500 bytes; its header says'
check 65 inspect text.txt
holds err 'no known format'
head -c 1000 "$decoder/model.safetensors" > cut.safetensors
check 65 inspect cut.safetensors
check 66 inspect nowhere.gguf
check 2 inspect "$decoder" --text x --length 3
check 66 inspect "$decoder" --data nowhere.txt
check 66 inspect nowhere --text 'the sun'
check 65 inspect "$decoder" --text x
check 65 inspect "$decoder" --text 'the sun and the moon' --words ,
check 66 inspect "$decoder" --text 'the sun and the moon' --out nowhere/page.html

[ $failed -eq 0 ] || echo "$failed checks failed"

# The gradient of each layer over time: its squares add up to that of the whole.
seq 1 400 | sed 's/$/ is the number of this line/' > lines.txt
check 0 train run.name=norms data.text=lines.txt data.tokenizer=bytes data.unit=file data.split=tail \
  data.val_fraction=0.1 model.type=gpt2 model.dim=16 model.layers=2 model.heads=2 train.seq_len=48 \
  train.steps=6 train.batch=4 run.log_every=2 optim.clip=0.01
norms=$(echo runs/norms-*)
check 0 inspect "$norms" --json
holds out '"layers":\["embeddings","layer 0","layer 1","head"\]'
grep '"grad_norm/head"' "$norms/metrics.jsonl" | tr -d '{}"' | tr ',' '\n' | awk -F': *' '
  $1 == "grad_norm" { whole = $2 }
  $1 ~ /^grad_norm\// { sum += $2 * $2; n++ }
  $1 == "grad_norm/head" { r = sqrt(sum) / whole; if (r < 0.9999 || r > 1.0001 || n != 4) exit 1; sum = n = 0; k++ }
  END { if (k < 3) exit 1 }' || fail "the layers' norms do not add up"
check 0 inspect "$norms" -o norms.html
grep -q 'Gradient of each layer over time' norms.html || fail "no picture of the layers' gradients"
check 0 report "$norms"
grep -q 'Gradient of each layer over time' "$norms/report.html" || fail "no picture in the report"

[ $failed -eq 0 ]
