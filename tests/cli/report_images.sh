#!/bin/sh
# usage: TILTH=build/tilth sh tests/cli/report_images.sh
# What reports show of pictures: pretraining without labels, the label study on its model, killed and gone
# on with, the page of a run, and data that is gone. Prints each check that fails; exits 1 if one did.
. "$(dirname "$0")/common.inc"
make=$(dirname "$TILTH")/make_pictures
[ -x "$make" ] || { echo "no $make: build the target make_pictures"; exit 1; }

"$make" idx train 64 && "$make" idx test 24 || fail "no pictures were made"
train=train-images-idx3-ubyte test=test-images-idx3-ubyte
pictures() { grep -o 'data:image/png;base64,' "$1" | wc -l; }

check 0 train run.name=pre data.images=$train objective.type=simclr model.type=vit model.dim=16 \
  model.layers=1 model.heads=2 model.patch=4 image.crop=resized train.batch=16 train.steps=4
run=$(echo runs/pre-*)

study() {
  "$TILTH" report labels --task image_classify --from "$run/model" --run "$run" --data $train --test $test \
    --labels 10,50% --seeds 2 --lrs 1e-3,1e-2 --out "$1.json" --page "$1.html" task.min_steps=20 \
    train.batch=8 > out 2> err
}
cmd='report labels'
study whole || fail "report labels failed: $(cat err)"
holds out 'labels  *pretrained  *scratch  *frozen  *pixels  *gain over scratch'
holds whole.html 'Where it looks'
holds whole.html 'as the model sees it'
[ "$(pictures whole.html)" -gt 60 ] || fail "only $(pictures whole.html) pictures on the page"
study cut &
pid=$!
for _ in 1 2 3 4 5 6 7 8 9 10; do
  [ -e cut.json ] && break
  sleep 0.1
done
children=$(ps -o pid= --ppid $pid) # the shell's child is the program
kill -9 $children $pid 2> /dev/null
wait $pid 2> /dev/null
study cut || fail "report labels did not go on: $(cat err)"
values() { grep -A1 -e '"[a-z]*/[0-9]*/[0-9]*": {' "$1" | grep '"value"'; }
[ "$(values whole.json | wc -l)" -eq 16 ] || fail "not 16 cells in whole.json"
[ "$(values whole.json)" = "$(values cut.json)" ] || fail "a killed study came to other numbers"

check 0 finetune --task image_classify --from "$run/model" --data $train --test $test run.name=fine \
  train.batch=8 train.steps=4
run=$(echo runs/fine-*)
check 0 report "$run"
holds "$run/report.html" 'Examples from the test set'
rm $train
check 0 report "$run" -o gone.html
holds gone.html "Some pictures are missing here: $train"
holds gone.html 'Examples from the test set'

[ $failed -eq 0 ] || echo "$failed checks failed"
[ $failed -eq 0 ]
