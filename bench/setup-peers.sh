#!/bin/sh
# usage: bench/setup-peers.sh [torch] [torch113] [llama] [allocator]
# Installs the peers of `make bench` outside the repository, in $TILTH_PEERS
# (~/.cache/tilth-peers): a current PyTorch with transformers, PyTorch 1.13 (Debian 12's packages,
# unpacked there, not installed), llama.cpp built for this CPU with a GPT-2 of random weights, and
# jemalloc. Without arguments: all of them. About 6 GB and 15 minutes, most of it downloads.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
peers=${TILTH_PEERS:-$HOME/.cache/tilth-peers}
python=${PYTHON:-python3}
mkdir -p "$peers"

# unpack PACKAGE...: Debian packages and what they depend on that is not installed, into $peers/deb
unpack() {
  mkdir -p "$peers/debs"
  (
    cd "$peers/debs"
    # shellcheck disable=SC2046
    apt-get -q download $(apt-get install -s --no-install-recommends "$@" | awk '/^Inst/ {print $2}')
    for f in *.deb; do dpkg -x "$f" "$peers/deb"; done
  )
  rm -rf "$peers/debs"
}

torch() {
  [ -x "$peers/torch/bin/python" ] || "$python" -m venv "$peers/torch"
  "$peers/torch/bin/pip" install -q torch transformers numpy
}

torch113() {
  unpack python3-torch libopenblas0-pthread
  cat > "$peers/torch113-python" << WRAPPER
#!/bin/sh
r=$peers/deb lib=$peers/deb/usr/lib/x86_64-linux-gnu
export LD_LIBRARY_PATH="\$lib/openblas-pthread:\$lib:\$r/lib/x86_64-linux-gnu:\$r/usr/lib"
export PYTHONPATH="\$r/usr/lib/python3/dist-packages"
exec /usr/bin/python3.11 "\$@"
WRAPPER
  chmod +x "$peers/torch113-python"
  "$peers/torch113-python" -c 'import torch; print("PyTorch", torch.__version__)'
}

llama() {
  [ -x "$peers/torch/bin/python" ] || torch
  [ -x "$peers/llama/bin/python" ] || "$python" -m venv "$peers/llama"
  CMAKE_ARGS="-DGGML_NATIVE=ON" "$peers/llama/bin/pip" install -q llama-cpp-python gguf safetensors
  "$peers/torch/bin/python" "$here/peers/torch_generate.py" --save "$peers/gpt2-random"
  for kind in bf16 f32; do
    "$peers/llama/bin/python" "$here/peers/gguf_gpt2.py" "$peers/gpt2-random" \
      "$peers/gpt2-$kind.gguf" "$kind"
  done
  rm -rf "$peers/gpt2-random"
}

allocator() {
  unpack libjemalloc2
  mkdir -p "$peers/lib"
  cp "$peers"/deb/usr/lib/*/libjemalloc.so.2 "$peers/lib/"
}

[ $# -gt 0 ] || set -- torch torch113 llama allocator
for part in "$@"; do
  case $part in
    torch | torch113 | llama | allocator) "$part" ;;
    *) echo "setup-peers: unknown part '$part'; there are torch, torch113, llama, allocator" >&2; exit 64 ;;
  esac
done
echo "setup-peers: peers are in $peers" >&2
