#!/bin/sh
# usage: TILTH=build/tilth sh tests/cli/images.sh
# Pictures through the command line: every container is trained on, predicted and probed; broken pictures,
# wrong classes, pictures without classes, empty folders. Prints each check that fails; exits 1 if one did.
. "$(dirname "$0")/common.inc"
make=$(dirname "$TILTH")/make_pictures
[ -x "$make" ] || { echo "no $make: build the target make_pictures"; exit 1; }

"$make" folder train 64 && "$make" folder test 24 && "$make" idx train 64 && "$make" idx test 24 &&
  "$make" npz train 64 || fail "no pictures were made"
{ echo path,label; for c in 0 1; do for f in train/$c/*; do echo "$f,$c"; done; done; } > train.csv
tar cf train.tar train
idx=train-images-idx3-ubyte

tiny="model.type=vit model.dim=16 model.layers=1 model.heads=2 model.patch=4 train.batch=16 run.dtype=f32"
tiny="$tiny optim.lr=5e-3 optim.warmup=4 image.crop=none image.flip=0"
number() { grep -o "\"$2\":[-0-9.e+]*" "$1" | head -1 | sed 's/.*://'; }
# learn NAME STEPS DATA SETTING...
learn() {
  name=$1 steps=$2 data=$3
  shift 3
  # shellcheck disable=SC2086
  check 0 finetune --task image_classify --data "$data" --test test $tiny train.steps="$steps" \
    run.name="$name" --json "$@"
  model=$(echo runs/"$name"-*/model)
}

# --- every container is trained on, predicted and probed
for data in train train.csv train.tar $idx $idx,train-labels-idx1-ubyte train.npz,train; do
  name=$(echo "$data" | tr ',.' '--')
  learn "$name" 3 "$data"
  [ "$(number out n_train)" -gt 40 ] || fail "$data: $(number out n_train) pictures to train on"
  check 0 predict "$model" --data "$data" --json --dtype f32
  [ "$(grep -c '"image":' out)" -eq 64 ] || fail "$data: not one prediction a picture"
  holds out '"scores":.*"accuracy":.*"confusion":.*"calibration":'
  cp out "predicted-$name"
  check 0 probe "$model" --data "$data" --test test --baselines none --json
  [ "$(number out train)" -eq 64 ] && [ "$(number out test)" -eq 24 ] || fail "$data: probed $(cat out)"
done
probabilities() { grep -o '"probabilities":{[^}]*}' "$1"; }
learn same 3 $idx
check 0 predict "$model" --data train.npz,train --json --dtype f32
probabilities out > from-npz
check 0 predict "$model" --data $idx --json --dtype f32
probabilities out | cmp -s - from-npz || fail "the same pictures in IDX and NPZ are predicted differently"

# --- a model that has learnt, as a table, into a file, without labels
learn good 150 train
holds out '"accuracy","value":1[,.]'
check 0 predict "$model" --data test -o answers.tsv
[ ! -s out ] || fail "predict -o: output besides the file"
[ "$(wc -l < answers.tsv)" -eq 24 ] || fail "predict -o: $(wc -l < answers.tsv) lines"
[ "$(awk -F'\t' '$3 !~ "test/" $1 "/"' answers.tsv | wc -l)" -eq 0 ] || fail "wrong answers: $(cat answers.tsv)"
holds err 'accuracy  *1.0000'
holds err 'true  *predicted:'
holds err 'probability  *records'
mkdir flat
cp test/0/*.png test/1/*.jpg flat
check 0 predict "$model" --data flat --unlabelled --json
[ "$(grep -c '"image":"flat/' out)" -eq 12 ] || fail "unlabelled: $(cat out)"
grep -q '"scores"' out && fail "scores without labels"
ls -d flat/* > flat.csv
check 0 predict "$model" --data flat.csv --unlabelled
[ "$(wc -l < out)" -eq 12 ] || fail "a list without labels: $(cat out)"
check 0 predict "$model" --data test --unlabelled
[ "$(wc -l < out)" -eq 24 ] || fail "class folders, unlabelled: $(cat out)"
check 65 predict "$model" --data flat
holds err 'flat: pictures without labels.*--unlabelled'
check 74 predict "$model" --data test -o /dev/full
check 73 predict "$model" --data test -o nowhere/answers

# --- probes
check 0 probe "$model" --data train --test test --centroids 8 --patch-pictures 20
[ "$(grep -c -e '^model' -e '^random' -e '^k-means' out)" -eq 5 ] || fail "probe: $(cat out)"
holds err 'features of 64 pictures'
check 0 probe "$model" --data train --test test --per-class 5 --pool mean --baselines random --json
[ "$(number out train)" -eq 10 ] || fail "probe --per-class 5: $(cat out)"
check 0 probe "$model" --data train --test test --labels 0.5 --baselines none --json
[ "$(number out train)" -eq 32 ] || fail "probe --labels 0.5: $(cat out)"
check 2 probe "$model" --data train
holds err '\-\-test'
check 2 probe "$model" --data train --test test --baselines some
check 2 probe "$model" --data train --test test --labels 5 --per-class 5
check 78 probe "$model" --data train --test test --labels 100
holds err '100 .*but there are 64'
check 78 probe "$model" --data train --test test --pool last
holds err 'first or mean'
check 65 probe "$model" --data train --test test --centroids 16000
check 65 probe "$model" --data flat --test test
holds err 'flat: pictures without labels'

# --- broken pictures
cp -r test broken
head -c 40 test/0/000.png > broken/0/000.png
echo 'no picture' > broken/1/003.jpg
for cmd in "predict $model --data broken" "probe $model --data train --test broken" \
  "finetune --task image_classify --data broken $tiny train.steps=3"; do
  # shellcheck disable=SC2086
  check 65 $cmd
  holds err 'broken/0/000.png: .*image.bad=skip'
done
check 0 predict "$model" --data broken --bad skip
[ "$(wc -l < out)" -eq 22 ] || fail "skip: $(wc -l < out) predictions"
holds err 'left out: broken/0/000.png'
holds err '2 broken pictures were left out'
check 0 probe "$model" --data train --test broken --bad skip --baselines none --json
[ "$(number out test)" -eq 22 ] || fail "skip: probed $(cat out)"
# shellcheck disable=SC2086
check 0 finetune --task image_classify --data broken $tiny train.steps=3 image.bad=skip run.name=skip
holds err '2 broken pictures were left out'
# shellcheck disable=SC2086
check 0 finetune -q --task image_classify --data broken $tiny train.steps=3 image.bad=skip run.name=skip
holds err 'warning: .*2 broken pictures were left out'
grep -q loss err && fail "-q shows more than warnings: $(cat err)"
check 2 predict "$model" --data broken --bad ignore
holds err 'stop or skip'
head -c 1000 train.tar > cut.tar
check 65 predict "$model" --data cut.tar
holds err 'cut.tar'
head -c 100 $idx > cut-images-idx3-ubyte
check 65 predict "$model" --data cut-images-idx3-ubyte --unlabelled
holds err 'cut-images-idx3-ubyte: .*header'

# --- classes
cp -r test other
mv other/1 other/cat
check 65 predict "$model" --data other
holds err 'other/cat/.*class "cat" is not one of the 2 known ones (0, ...)'
check 65 probe "$model" --data train --test other
holds err 'class "cat" is not one of'
# shellcheck disable=SC2086
check 65 finetune --task image_classify --data train --test other $tiny train.steps=3
holds err 'class "cat" is not one of'
mkdir one && cp -r test/0 one
# shellcheck disable=SC2086
check 65 finetune --task image_classify --data one $tiny train.steps=3
holds err 'only one label occurs'
check 65 probe "$model" --data one --test test
cp test/0/000.png other
check 65 predict "$model" --data other
holds err 'without a class among others'
printf 'path,label\ntest/0/000.png\n' > short.csv
check 65 predict "$model" --data short.csv
holds err 'short.csv:2'
printf 'path,label\ntest/0/none.png,0\n' > lost.csv
check 66 predict "$model" --data lost.csv
holds err 'test/0/none.png'

# --- names of classes that are numbers in the file
# shellcheck disable=SC2086
check 0 finetune --task image_classify --data $idx --test test-images-idx3-ubyte $tiny train.steps=150 \
  image.classes=lying,standing run.name=named --json
holds out '"accuracy","value":1[,.]'
named=$(echo runs/named-*/model)
check 0 predict "$named" --data test-images-idx3-ubyte
[ "$(cut -f 1 out | sort | uniq -c | tr -s ' \n' ' ')" = ' 12 lying 12 standing ' ] || fail "named: $(cat out)"
holds err 'accuracy  *1.0000'
holds err '^lying '
check 0 report "$(dirname "$named")"
holds "$(dirname "$named")/report.html" '>standing<'
grep -q 'class="label[^>]*>[01]<' "$(dirname "$named")/report.html" && fail "the page has a number for a name"
printf 'lying\nstanding\n' > names.txt
# shellcheck disable=SC2086
check 0 finetune --task image_classify --data $idx $tiny train.steps=2 image.classes=names.txt
# shellcheck disable=SC2086
check 65 finetune --task image_classify --data $idx $tiny train.steps=2 image.classes=lying
holds err 'class "1" is not one of'

# --- weights of classes: of one and the same picture, five times as often the one as the other
{ echo path,label; for i in 0 1 2 3 4; do echo train/0/000.png,0; done; echo train/0/000.png,1; } > rare.csv
one=$model
for weights in none balanced; do
  learn "rare-$weights" 100 rare.csv task.valid_fraction=0 image.class_weights=$weights train.batch=6
  check 0 predict "$model" --data rare.csv --json
  number out 1 > "rare-$weights.1"
done
model=$one
awk '{ exit !($1 > 0.12 && $1 < 0.22) }' rare-none.1 || fail "rare class: $(cat rare-none.1), not 1/6"
awk '{ exit !($1 > 0.45 && $1 < 0.55) }' rare-balanced.1 || fail "balanced rare class: $(cat rare-balanced.1), not 1/2"

# --- any number of classes: what lies, what stands, and what every picture has
{ echo path,label; for c in 0 1; do for f in train/$c/*; do echo "$f,bars;kind$c"; done; done; } > several.csv
{ echo path,label; for c in 0 1; do for f in test/$c/*; do echo "$f,\"kind$c; bars\""; done; done; } > several.test.csv
# shellcheck disable=SC2086
check 0 finetune --task image_multilabel --data several.csv --test several.test.csv $tiny train.steps=150 \
  run.name=several --json
holds out '"f1_micro","value":1[,.]'
# shellcheck disable=SC2086
check 78 finetune --task image_multilabel --data several.csv $tiny image.class_weights=balanced train.steps=3
holds err 'class_weights=balanced is for one class a picture'
one=$model
model=$(echo runs/several-*/model)
holds "$model/config.json" multi_label_classification
check 0 predict "$model" --data several.test.csv
[ "$(grep -c -e '^bars,kind0.*test/0/' -e '^bars,kind1.*test/1/' out)" -eq 24 ] || fail "several: $(cat out)"
holds err 'f1_macro  *1.0000'
check 0 predict "$model" --data test --unlabelled --json
[ "$(grep -c '"image":' out)" -eq 24 ] || fail "several, unlabelled: $(cat out)"
check 78 predict "$model" --data test
holds err 'read from a list'
sed 's/kind1/kind2/' several.test.csv > strange.csv
check 65 predict "$model" --data strange.csv
holds err 'strange.csv:.*kind2'
sed 's,test/0/000,broken/0/000,' several.test.csv > several.broken.csv
check 65 predict "$model" --data several.broken.csv
check 0 predict "$model" --data several.broken.csv --bad skip
[ "$(grep -c -e '^bars,kind0.*test/0/' -e '^bars,kind1.*test/1/' out)" -eq 23 ] || fail "several, skip: $(cat out)"
holds err 'f1_macro  *1.0000'
# shellcheck disable=SC2086
check 78 finetune --task image_multilabel --data train $tiny train.steps=3
holds err 'read from a list'
model=$one

# --- places
mkdir empty
check 65 predict "$model" --data empty --unlabelled
holds err 'empty: no pictures'
check 66 predict "$model" --data nowhere
holds err 'nowhere: no such file or folder'
check 66 predict nowhere --data test
: > flat.txt
check 78 predict "$model" --data flat.txt
check 66 predict "$model" --data nowhere.tar
check 66 predict "$model" --data nowhere-images-idx3-ubyte
check 65 predict "$model" --data train.npz,valid
holds err 'valid_images'
check 2 predict "$model" --data test --format gif
holds err 'folder, csv, tar'

[ $failed -eq 0 ] || echo "$failed checks failed"
[ $failed -eq 0 ]
