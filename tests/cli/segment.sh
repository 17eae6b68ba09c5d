#!/bin/sh
# usage: TILTH=build/tilth sh tests/cli/segment.sh
# Classes of pixels on CamVid (../shared/data, else this is skipped): a few steps of a tiny model, from
# the archive and from folders, the scores again from the finished model, its masks, the page, and the
# faults that a user makes. Prints each check that fails; exits 1 if one did.
data=$PWD/../shared/data/camvid/camvid-240x180.tar
if [ ! -f "$data" ]; then
  echo "skipped: $data is not there"
  exit 0
fi
. "$(dirname "$0")/common.inc"

tar xf "$data" && chmod -R u+w train val || fail "$data cannot be unpacked"
mkdir few few/images few/masks
for f in $(ls val/images | head -12); do
  cp "val/images/$f" few/images/
  cp "val/masks/${f%.jpg}.png" few/masks/
done
# Twelve pictures serve for all; the archive is read once.
tiny="model.dim=16 model.layers=1 model.heads=2 model.image_size=64 train.steps=2 run.dtype=f32"
# shellcheck disable=SC2086
check 0 finetune -p segment-camvid --data "$data,train" --test few $tiny task.limit=37
holds out '37 records to train on, 37 to validate, 12 to test'
holds out '^test  *miou '
model=$(echo runs/segment-camvid-*/model)
miou=$(sed -n 's/^test  *miou  *\([0-9.]*\) .*/\1/p' out)

check 0 predict "$model" --data few -o masks --dtype f32
holds err "^miou  *$miou "
holds err '^label .*iou'
holds err '^bicyclist '
[ "$(ls masks | wc -l)" -eq 12 ] || fail "$(ls masks | wc -l) masks instead of 12"
check 0 predict "$model" --data few/images --unlabelled -o again --json --dtype f32
holds out '"mask":"again/.*"parts":{"sky":'
diff -r masks again > err || fail "other masks without truth"
# A model's masks are masks: it is always right on them.
mkdir own && cp -r few/images own/images && mv masks own/masks
check 0 predict "$model" --data own -o again --dtype f32
holds err '^pixel_accuracy  *1.0000'
check 0 report runs/segment-camvid-*/
holds "$(echo runs/segment-camvid-*/report.html)" 'Classes of pixels'
holds "$(echo runs/segment-camvid-*/report.html)" 'bicyclist, IoU'

check 2 predict "$model" --data few
holds err 'name their folder with -o'
# shellcheck disable=SC2086
check 65 finetune -p segment-camvid --data few $tiny image.void_id=-1
holds err 'class 11 in the mask'
# shellcheck disable=SC2086
check 78 finetune -p segment-camvid --data few $tiny image.mixup=0.1
holds err 'with masks leave them 0'
# shellcheck disable=SC2086
check 78 finetune -p segment-camvid --data few $tiny model.type=gpt2
holds err 'needs a model of pictures'
rm few/masks/"$(ls few/masks | head -1)"
check 65 predict "$model" --data few -o again
holds err 'a picture without a mask'
check 0 predict "$model" --data few -o again --bad skip
holds err '1 broken pictures were left out'

[ $failed -eq 0 ] || echo "$failed checks failed"
[ $failed -eq 0 ]
