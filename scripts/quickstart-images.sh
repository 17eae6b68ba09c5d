#!/bin/sh
# usage: TILTH=build/tilth MINUTES=8 scripts/quickstart-images.sh
# The main job on pictures, without a network but for one of Debian's packages: self-supervised
# pretraining on the 60,000 pictures of Fashion-MNIST, fine-tuning with 10 and 100 labels per class against
# the same network from random weights, and one report. Steps that are done already are not repeated; OUT
# holds everything.
set -eu
export LC_ALL=C

here=$(cd "$(dirname "$0")/.." && pwd)
tilth=${TILTH:-$here/build/tilth}
minutes=${MINUTES:-8}
out=${OUT:-$here/out/quickstart-images}
cache=${TILTH_CACHE:-$here/build/cache}

say() { echo "quickstart-images: $*" >&2; }
fail() { say "error: $*"; exit 1; }

case $minutes in '' | *[!0-9.]*) echo "quickstart-images: MINUTES=$minutes is no number" >&2; exit 2 ;; esac
mkdir -p "$out"

data=$cache/dataset-fashion-mnist
if [ ! -d "$data" ]; then
  . "$here/scripts/corpus/packages.inc"
  needs
  say "fetching Debian's package dataset-fashion-mnist"
  ls "$cache"/apt/lists/*_Packages* > /dev/null 2>&1 || update
  unpack dataset-fashion-mnist
  mv "$data.part" "$data"
fi
pictures=$data/usr/share/datasets/fashion-mnist
train=$pictures/train-images-idx3-ubyte.gz
test=$pictures/t10k-images-idx3-ubyte.gz

runs=$out/runs-$minutes
run=$(ls -d "$runs"/quickstart-images-* 2> /dev/null | tail -1 || true)
if [ -n "$run" ] && [ -d "$run/model" ]; then
  say "pretraining: done already ($run)"
elif [ -n "$run" ]; then
  say "pretraining: going on with $run"
  "$tilth" resume "$run"
else
  say "pretraining on 60,000 pictures without their labels for $minutes minutes"
  "$tilth" train --preset quickstart-images "data.images=$train" "run.dir=$runs" "run.minutes=$minutes"
  run=$(ls -d "$runs"/quickstart-images-* | tail -1)
fi

say "fine-tuning with 10 and 100 labels per class: pretrained, from scratch, a linear classifier; 3 seeds each"
"$tilth" report labels --task image_classify --from "$run/model" --run "$run" --data "$train" --test "$test" \
  --title "Fashion-MNIST: what pretraining was worth" --arms pretrained,scratch,pixels \
  --labels 100,1000 --seeds 3 --lrs 1e-3,3e-3 --max-test 3000 --out "$out/labels-$minutes.json" \
  --page "$out/report.html" train.batch=32 task.epochs=20 task.min_steps=300 task.dropout=0 \
  image.crop=pad image.pad=2 image.flip=0.5 optim.schedule=cosine optim.weight_decay=0.05
say "the report is at $out/report.html"
