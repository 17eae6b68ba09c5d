#!/bin/sh
# usage: TILTH=build/tilth sh tests/cli/pretrain_images.sh
# Pretraining on pictures through the command line: plan, train, resume, what is left begins fine-tuning and is
# probed; what cannot be is refused. Prints each check that fails; exits 1 if one did.
. "$(dirname "$0")/common.inc"
make=$(dirname "$TILTH")/make_pictures
[ -x "$make" ] || { echo "no $make: build the target make_pictures"; exit 1; }
"$make" folder train 64 && "$make" folder test 24 || fail "no pictures were made"
mkdir flat && for f in train/*/*; do cp "$f" "flat/$(echo "$f" | tr / -)"; done

tiny="model.dim=16 model.layers=1 model.heads=2 model.patch=4 train.batch=16 run.dtype=f32 optim.warmup=4"
tiny="$tiny objective.decoder_dim=16 objective.decoder_heads=2 objective.hidden=32 objective.projection=16"
number() { grep -o "\"$2\":[-0-9.e+]*" "$1" | head -1 | sed 's/.*://'; }

for p in mae-fashion simclr-fashion; do
  # shellcheck disable=SC2086
  check 0 plan -p $p $tiny data.images=train train.steps=7 --json
  [ "$(number out steps)" -eq 7 ] && [ "$(number out parameters)" -gt 1000 ] || fail "plan $p: $(cat out)"
done
planned=$(number out parameters)
# shellcheck disable=SC2086
check 0 train -p simclr-fashion $tiny data.images=train train.steps=3 --json
[ "$(number out parameters)" -eq "$planned" ] || fail "planned $planned parameters: $(cat out)"

# --- pictures without classes; the hidden ones are filled in better and better
# shellcheck disable=SC2086
check 0 train -p mae-fashion $tiny data.images=flat data.val_fraction=0.3 train.steps=60 optim.lr=5e-3 \
  image.flip=0 image.crop=none run.name=mae --json
model=$(echo runs/mae-*/model)
holds "$model/config.json" '"model_type": "vit_mae"'
holds "$model/config.json" 'ViTMAEForPreTraining'
[ -s "$model/preprocessor_config.json" ] || fail "no preprocessor_config.json"
awk -v last="$(number out val_loss)" 'BEGIN { exit !(last < 0.5) }' || fail "validation loss $(number out val_loss)"
check 0 finetune --task image_classify --data train --test test --from "$model" train.steps=3 --json
holds "$(echo runs/finetune-*/model)/config.json" '"model_type": "vit"'
check 0 probe "$model" --data train --test test --baselines none --json
check 0 inspect "$model"

# --- captions: those of folders are their names
clip="objective.type=clip model.type=vit data.tokenizer=bytes objective.text_dim=16 objective.text_heads=2"
# shellcheck disable=SC2086
check 0 plan $tiny $clip data.images=train train.steps=7 --json
planned=$(number out parameters)
# shellcheck disable=SC2086
check 0 train $tiny $clip data.images=train data.val_fraction=0.3 train.steps=3 run.name=clip --json
[ "$(number out parameters)" -eq "$planned" ] || fail "planned $planned parameters: $(cat out)"
holds out '"image_to_text@10"'
holds out '"text_to_image@1"'
model=$(echo runs/clip-*/model)
check 0 finetune --task image_classify --data train --test test --from "$model" train.steps=3 --json
check 0 predict "$model" --data test --names 0,1 --json
holds out '"accuracy"'
check 0 predict "$model" --data flat --unlabelled --names "zero, one"
check 65 predict "$model" --data test --names 0,2
check 78 predict "$model" --data test --names 0,,1
check 78 predict "$model" --data test
echo 0 > query && check 0 embed "$model/text" --data query --json

# --- refused
check 78 predict "$(echo runs/mae-*/model)" --data test --names 0,1
# shellcheck disable=SC2086
check 78 train $clip data.tokenizer= data.images=train
# shellcheck disable=SC2086
check 65 train $clip data.images=flat
check 78 train -p mae-fashion data.images=
check 78 train -p mae-fashion data.images=train model.type=resnet
check 78 train -p encoder-small data.images=train
check 78 plan -p encoder-small data.images=train
check 66 train -p mae-fashion data.images=nowhere

[ $failed -eq 0 ] || echo "$failed checks failed"
[ $failed -eq 0 ]
