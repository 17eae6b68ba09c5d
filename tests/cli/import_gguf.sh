#!/bin/sh
# usage: TILTH=build/tilth sh tests/cli/import_gguf.sh
# GGUF files as models: what export writes comes back, and what is damaged or not supported is refused. Prints
# each check that fails; exits 1 if one did.
golden=$PWD/tests/golden/tokenizer
. "$(dirname "$0")/common.inc"

i=0
while [ $i -lt 60 ]; do
  printf 'The sun rose %d times, été; 日本 🙂!\nthe moon  sank %d times\n' $i $i >> text.txt
  i=$((i + 1))
done

train() { # NAME TOKENIZER KEYS...
  name=$1 tokenizer=$2
  shift 2
  check 0 train run.name=$name data.text=text.txt data.tokenizer=$tokenizer data.unit=line data.val_fraction=0.2 \
    model.dim=32 model.layers=2 model.heads=4 train.seq_len=32 train.steps=20 train.batch=4 "$@"
}
train gpt2 bytes model.type=gpt2
train llama "$golden/chain-llama3.json" model.type=llama model.kv_heads=2 model.tie=false
train qwen3 "$golden/bpe.json" model.type=llama model.qk_norm=true
train llama2 "$golden/chain-llama2.json" model.type=llama model.kv_heads=2

greedy() { # MODEL FILE
  check 0 generate "$1" --prompt 'The sun rose' --max-tokens 16 --temperature 0
  cp out "$2"
}

same_weights() { # MODEL MODEL WHAT
  check 0 export "$1" --to npz --out a.npz --overwrite
  check 0 export "$2" --to npz --out b.npz --overwrite
  cmp -s a.npz b.npz || fail "$3"
}

for name in gpt2 llama qwen3 llama2; do
  model=$(echo runs/$name-*/model)
  for t in f32 f16 bf16 q8_0; do
    check 0 export "$model" --to gguf --dtype $t --out $name-$t.gguf
    check 0 import $name-$t.gguf --out $name-$t
    check 0 export $name-$t --to gguf --dtype $t --out back.gguf --overwrite
    check 0 import back.gguf --out back --overwrite
    same_weights $name-$t back "$name: $t is not what its values round to"
  done
  same_weights "$model" $name-f32 "$name: the weights changed on the way"
  greedy "$model" a
  greedy $name-f32 b
  cmp -s a b || fail "$name: the text changed"
  # GGUF says that a text begins with BOS; the EOS that the tokenizer "bytes" puts behind it stays behind.
  special=$([ $name = gpt2 ] || echo --special)
  check 0 tokenizer encode $special "$model" text.txt
  cp out a
  check 0 tokenizer encode $special $name-f32 text.txt
  cmp -s a out || fail "$name: the ids changed"
  [ -s out ] || fail "$name: no ids"
done

# A file where a model or a tokenizer is named.
file=llama2-f32.gguf folder=llama2-f32
greedy $folder a
greedy $file b
cmp -s a b || fail "another text from the file itself"
same() { # COMMAND...: prints the same of the folder and of the file, which is named by @
  for m in $folder $file; do
    check 0 $(echo "$*" | sed "s/@/$m/")
    sed "s/$m//; s/\"seconds\":.*//" out > $m.out
  done
  cmp -s $folder.out $file.out || fail "$*: not the same"
  [ -s $file.out ] || fail "$*: nothing"
}
same tokenizer encode @ text.txt
same tokenizer encode --special @ text.txt
same embed @ --data text.txt --json
same inspect @ --data text.txt --windows 1 --json
check 0 prepare text.txt --tokenizer $file --unit line --val-fraction 0.2 --out data
same eval --data data @ --json
check 0 train run.name=more data.text=text.txt data.unit=line data.val_fraction=0.2 model.from=$file \
  train.seq_len=16 train.steps=2 train.batch=4
check 0 export $file --to gguf --dtype q8_0 --out again.gguf
check 0 import again.gguf --out again
check 0 import llama2-q8_0.gguf --out q8_0
cmp -s again/model.safetensors q8_0/model.safetensors || fail "another file by way of a file"
check 78 export $file --out x
holds err 'tilth import'
check 78 export $file --to npz --out x.npz
holds err 'tilth import'

# Refused.
check 73 import gpt2-f32.gguf --out gpt2-f32
check 0 import gpt2-f32.gguf --out gpt2-f32 --overwrite
check 78 import gpt2-f32.gguf --out x --dtype f16
damage() { # SED EXPECTED: the same number of bytes
  LC_ALL=C sed "$1" llama-f32.gguf > bad.gguf
  check 65 import bad.gguf --out x
  holds err "$2"
  [ -e x ] && fail "$1: a failed import leaves a folder"
}
damage 's/blk.1.ffn_up.weight/blk.7.ffn_up.weight/' "tensor 'blk.1.ffn_up.weight' is missing"
damage 's/blk.1.attn_v.weight/blk.1.attn_x.weight/' "attn_x.weight' has no place"
damage 's/llama.block_count/llama.block_cOunt/' 'llama.block_count is missing'
damage 's/general.architecture/general.architectUre/' 'general.architecture is missing'
damage 's/tokenizer.ggml.tokens/tokenizer.ggml.tOkens/' 'tokenizer.ggml.tokens is missing'
damage 's/llama-bpe/llama-xyz/' 'supported are gpt-2, llama-bpe and qwen2'
LC_ALL=C sed 's/tokenizer.ggml.scores/tokenizer.ggml.scorEs/' llama2-f32.gguf > bad.gguf
check 65 import bad.gguf --out x
holds err 'bad.gguf: tokenizer.ggml.scores is missing'
check 65 generate bad.gguf --prompt a
head -c 3000 gpt2-f32.gguf > bad.gguf
check 65 import bad.gguf --out x

[ $failed -eq 0 ] || echo "$failed checks failed"
[ $failed -eq 0 ]
