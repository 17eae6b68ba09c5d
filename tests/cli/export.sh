#!/bin/sh
# usage: TILTH=build/tilth sh tests/cli/export.sh
# tilth export and import: every form, and back where there is a way back. Prints each check that fails;
# exits 1 if one did.
. "$(dirname "$0")/common.inc"

i=0
while [ $i -lt 60 ]; do
  printf 'the sun rose %d times\nthe moon sank %d times\n' $i $i >> text.txt
  i=$((i + 1))
done
check 0 train run.name=m data.text=text.txt data.tokenizer=bytes data.unit=line data.val_fraction=0.2 \
  model.dim=32 model.layers=2 model.heads=2 train.seq_len=32 train.steps=3 train.batch=4
model=$(echo runs/m-*/model)
data=$(echo runs/m-*/data)

# Hugging Face: shards and back, keys and files that this program does not know.
sed 's/^{/{"of_somebody_else": {"x": [1, 2]},/' "$model/config.json" > config && cp config "$model/config.json"
echo '{"a": 1}' > "$model/chat_settings.json"
check 0 export "$model" --max-shard-size 20KB --out hf
[ "$(find hf -name 'model-*.safetensors' | wc -l)" -gt 2 ] || fail "no shards"
grep -q total_size hf/model.safetensors.index.json || fail "no index"
grep -q of_somebody_else hf/config.json || fail "an unknown key of config.json is lost"
cmp -s "$model/chat_settings.json" hf/chat_settings.json || fail "a file beside the weights is lost"
check 0 import hf --out back
cmp -s "$model/model.safetensors" back/model.safetensors || fail "the weights changed on the way"
check 0 export "$model" --dtype bf16 --out half
[ "$(stat -c %s half/model.safetensors)" -lt "$(stat -c %s back/model.safetensors)" ] || fail "bf16 is not smaller"
for m in "$model" hf back half; do
  check 0 generate "$m" --prompt 'the sun' --max-tokens 5 --temperature 0
done
check 73 export "$model" --out hf
check 0 export "$model" --out back --overwrite

# One run goes on where another's model stopped, with its tokenizer and its unknown keys.
check 0 train run.name=more data.text=text.txt data.unit=line data.val_fraction=0.2 model.from=hf \
  train.seq_len=16 train.steps=2 train.batch=4
grep -q of_somebody_else runs/more-*/model/config.json || fail "an unknown key does not survive training"
check 78 train data.text=text.txt data.unit=line data.val_fraction=0.2 model.from=hf train.seq_len=64 train.steps=2 train.batch=4
holds err 'the model takes 32'

# GGUF, NPZ.
for t in f32 f16 bf16 q8_0; do
  check 0 export "$model" --to gguf --dtype $t --out $t.gguf
  check 0 inspect $t.gguf
  holds out 'general.architecture *gpt2'
  holds out "blk.1.ffn_down.weight *$(echo $t | tr '[:lower:]' '[:upper:]') *\[32, 128\]"
done
check 78 export "$model" --to gguf --dtype q2 --out x.gguf
check 0 export "$model" --to npz --out m.npz
check 0 inspect m.npz
holds out 'transformer.wte.weight *f4'

# Token files.
for form in nanogpt llmc; do
  check 0 export "$data" --to $form --out $form
  suffix=$([ $form = llmc ] && echo _000000)
  check 0 import $form/train$suffix.bin --val $form/val$suffix.bin --tokenizer bytes --out $form-back
  cmp -s "$data/train-00000.tlt" $form-back/train-00000.tlt || fail "$form: the stream changed"
  cmp -s "$data/val-00000.tlt" $form-back/val-00000.tlt || fail "$form: the validation part changed"
done
[ "$(od -An -tu4 -N4 llmc/train_000000.bin | tr -d ' ')" = 20240520 ] || fail "no header of llm.c"
head -c 2000 llmc/train_000000.bin > cut.bin
check 65 import cut.bin --tokenizer bytes --out cut
head -c 333 nanogpt/train.bin > odd.bin
check 65 import odd.bin --tokenizer bytes --out cut
printf '\377\377' > high.bin
check 65 import high.bin --tokenizer bytes --out cut
holds err 'has ids below'
[ -e cut ] && fail "a failed import leaves a folder"

# Wrong usage.
check 2 export "$model" --to hf
check 2 export "$model" --to word --out x
check 2 export "$model" --max-shard-size many --out x
check 2 import nanogpt/train.bin --out x
check 66 export nowhere --out x
check 66 import nowhere.bin --tokenizer bytes --out x
sed 's/"scale_attn_weights": true/"scale_attn_weights": false/; s/^{/{"scale_attn_weights": false,/' config |
  sed 's/"of_somebody_else[^}]*},//' > half/config.json
check 65 import half --out x
holds err 'scale_attn_weights'

[ $failed -eq 0 ] || echo "$failed checks failed"
[ $failed -eq 0 ]
