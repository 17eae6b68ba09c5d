#!/bin/sh
# usage: BUILD=build sh tests/install/examples.sh
# The programs of examples/, built with pkg-config alone against the installed library, and run.
. "$(dirname "$0")/install.inc"

i=0
while [ $i -lt 200 ]; do
  echo "The man number $i plays the flute in the sun."
  echo "The woman number $i sings under the moon."
  [ $i -lt 60 ] && printf 'day\tsun number %d\nnight\tmoon number %d\n' $i $i >> labels.tsv
  i=$((i + 1))
done > text.txt
for example in pretrain finetune embed; do
  # shellcheck disable=SC2046
  "$CC" -std=c11 -D_POSIX_C_SOURCE=200809L -Wall -Wextra -Werror "$source/examples/$example.c" \
    $(pkg-config --cflags --libs tilth) -o $example || fail "$example.c does not compile"
done

./pretrain text.txt 200 > out 2> err || fail "pretrain: $(cat err)"
grep -q '^step 200 of 200: loss [0-1]' err || fail "pretrain shows no progress: $(tail -3 err)"
grep -q '^The ' out || fail "pretrain wrote no text: $(cat out)"
model=$(echo runs/example-*/model)
./pretrain text.txt 1000000 0.3 > out 2> err
code=$?
[ $code -eq 75 ] || fail "a cancelled pretrain exits with $code instead of 75"
grep -q 'go on with: tilth resume runs/' err || fail "a cancelled pretrain does not say how to go on: $(cat err)"
./pretrain nowhere.txt > out 2> err && fail "pretrain of no file succeeds"
grep -q 'pretrain: .*nowhere.txt' err || fail "pretrain of no file says: $(cat err)"

./finetune "$model" labels.tsv "sun number 77" "moon number 77" > out 2> err || fail "finetune: $(cat err)"
grep -q 'accuracy 1.0000 on 12 validation records' out || fail "finetune: $(cat out)"
grep -q '^day .*: sun number 77$' out || fail "finetune predicts: $(cat out)"
grep -q '^night .*: moon number 77$' out || fail "finetune predicts: $(cat out)"

echo "The man number 7 plays the flute in the sun." | ./embed "$model" text.txt > out 2> err || fail "embed: $(cat err)"
[ "$(head -1 out)" = "1.000 The man number 7 plays the flute in the sun." ] || fail "embed answers: $(cat out)"
[ "$(wc -l < out)" -eq 3 ] || fail "embed gives $(wc -l < out) answers instead of 3"

if command -v "$CXX" > /dev/null; then
  # shellcheck disable=SC2046
  "$CXX" -std=c++11 -Wall -Wextra -Werror "$source/examples/generate.cc" $(pkg-config --cflags --libs tilth) \
    -o generate || fail "generate.cc does not compile"
  ./generate "$model" "The " "The " "sun" > out 2> err || fail "generate: $(cat err)"
  [ "$(grep -c '^---$' out)" -eq 3 ] || fail "generate: $(cat out)"
  [ "$(sed '/^---$/,$d' out)" = "$(sed '1,/^---$/d;/^---$/,$d' out)" ] || fail "one prompt, two texts: $(cat out)"
  ./generate nowhere x > out 2> err && fail "generate without a model succeeds"
  grep -q 'nowhere' err || fail "generate without a model says: $(cat err)"
fi

finish
