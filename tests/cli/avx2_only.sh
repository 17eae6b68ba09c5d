#!/bin/sh
# usage: TILTH=build/tilth sh tests/cli/avx2_only.sh
# A CPU without AVX-512, whatever this one has: valgrind's has AVX2 at most and stops at an instruction
# beyond. The program must come as far as its kernels and use none of a level that the CPU lacks. Prints
# each check that fails; exits 1 if one did, 77 without valgrind.
. "$(dirname "$0")/common.inc"
command -v valgrind > /dev/null || { echo "no valgrind"; exit 77; }
export VALGRIND_OPTS='--tool=none -q'
program=$TILTH
printf '#!/bin/sh\nexec valgrind "%s" "$@"\n' "$program" > emulated
chmod +x emulated
TILTH=$PWD/emulated

check 0 doctor
holds out 'best level *avx2'
check 0 selftest layer_norm
printf 'the sun and the moon and the sun again\n%.0s' 1 2 3 4 5 6 7 8 9 > text.txt
check 0 train data.text=text.txt data.tokenizer=bytes data.unit=file data.split=tail data.val_fraction=0.2 \
  model.type=gpt2 model.dim=16 model.layers=1 model.heads=2 train.seq_len=32 train.steps=2 train.batch=2 run.threads=1
holds err 'kernels avx2'

[ $failed -eq 0 ] || echo "$failed checks failed"
[ $failed -eq 0 ]
