#!/bin/sh
# usage: TILTH=build/tilth sh tests/cli/embed.sh
# tilth embed: vectors, search, agreement with people, and the faults that a user makes. Prints each
# check that fails; exits 1 if one did.
. "$(dirname "$0")/common.inc"

i=0
while [ $i -lt 40 ]; do
  printf 'the sun rose %d times\nthe moon sank %d times\n' $i $i >> text.txt
  printf '%d\tthe sun %d\tthe %s %d\n' $((i % 2 * 5)) $i "$([ $((i % 2)) -eq 1 ] && echo sun || echo moon)" $i >> body
  i=$((i + 1))
done
{ printf 'score\tsentence1\tsentence2\n'; cat body; } > sts.tsv
sed 's/^/main-news\tX\t2012\t1\t/' body > stsb.tsv
check 0 train run.name=enc data.text=text.txt data.tokenizer=bytes data.unit=line data.split=tail \
  data.val_fraction=0.1 model.type=encoder model.dim=16 model.layers=2 model.heads=2 train.seq_len=48 \
  train.steps=3 train.batch=4 objective.type=masked
model=$(echo runs/enc-*/model)

check 0 embed "$model" --data text.txt --json
[ "$(grep -c '"embedding":\[' out)" -eq 80 ] || fail "not one vector a line"
check 0 embed "$model" --data text.txt --out x.npy
holds err '80 embeddings of 16 numbers'
[ "$(wc -c < x.npy)" -eq $((128 + 80 * 16 * 4)) ] || fail "x.npy has a wrong size"
check 0 embed "$model" --data text.txt --query 'the sun rose 7 times' -k 3
[ "$(wc -l < out)" -eq 3 ] || fail "not three neighbours"
head -1 out | grep -q '^1.0000 *15  the sun rose 7 times$' || fail "a text is not its own neighbour"
check 0 embed "$model" --data text.txt --query 'the sun' -k 2 --json
holds out '"line":'
for f in sts.tsv stsb.tsv; do
  check 0 embed "$model" --sts $f
  holds out '^spearman  *-*[0-9.]*  (95%'
  holds out '^uniformity'
  cp out $f.out
done
cmp -s sts.tsv.out stsb.tsv.out || fail "the two forms of the same pairs score differently"
check 0 embed "$model" --sts sts.tsv --json --pool last
holds out '"pairs":40'

# SimCSE: single lines, pairs, pairs with hard negatives; by judged pairs and by held-out loss.
quick="train.batch=8 train.steps=12 task.max_len=32"
# shellcheck disable=SC2086
check 0 finetune --from "$model" --task simcse --data text.txt --valid stsb.tsv --test sts.tsv $quick \
  run.name=cse --json
holds out '"metric":"spearman"'
holds out '"test":.*"uniformity"'
want=$(sed 's/.*"test"://; s/.*"spearman":{"value":\([-0-9.]*\).*/\1/' out | cut -c 1-6)
check 0 embed "$(echo runs/cse-*/model)" --sts sts.tsv --json
holds out "\"spearman\":{\"value\":$want"
while read -r line; do printf '%s\t%s again\t%s never\n' "$line" "$line" "$line"; done < text.txt > triples.tsv
cut -f 1,2 triples.tsv > twos.tsv
for f in text.txt twos.tsv triples.tsv; do
  # shellcheck disable=SC2086
  check 0 finetune --from "$model" --task simcse --data $f $quick task.pool=first run.name=held
  holds out 'validation *loss'
  holds out 'alignment'
done
# shellcheck disable=SC2086
check 0 finetune --from "$model" --task simcse --data text.txt --adapt lora $quick
check 78 finetune --from "$model" --task simcse --data text.txt train.batch=1
holds err 'at least 2'
check 65 finetune --from "$model" --task simcse --data text.txt train.batch=64
holds err '72 texts to train on'
check 78 finetune --from "$model" --task simcse --data text.txt train.batch=8 task.dropout=0
holds err 'task.dropout is 0'
check 65 finetune --from "$model" --task simcse --data text.txt --valid text.txt train.batch=8
check 78 finetune --from "$model" --task simcse --data text.txt task.temperature=0
check 78 finetune --from "$model" --task simcse --data text.txt --adapt probe train.batch=8

# Faults.
check 2 embed "$model"
holds err 'is needed'
check 2 embed "$model" --data text.txt
holds err 'what is to be done'
check 2 embed "$model" --sts sts.tsv --query x
check 2 embed "$model" --data text.txt --query x -k 0
check 2 embed "$model" --data text.txt --query ' '
check 2 embed "$model" --data text.txt --json --pool max
check 66 embed "$model" --data nowhere.txt --json
check 66 embed nowhere --data text.txt --json
check 78 embed "$model" --data text.txt --json --max-len 3
printf 'score\tsentence1\tsentence2\nmuch\ta\tb\n' > bad.tsv
check 65 embed "$model" --sts bad.tsv
holds err 'bad.tsv:2'
printf 'score\tsentence\n1\ta\n' > single.tsv
check 65 embed "$model" --sts single.tsv
holds err 'pairs'
check 66 embed "$model" --data text.txt --out nowhere/x.npy

[ $failed -eq 0 ] || echo "$failed checks failed"
[ $failed -eq 0 ]
