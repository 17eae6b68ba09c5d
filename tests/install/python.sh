#!/bin/sh
# usage: BUILD=build sh tests/install/python.sh
# The Python package over the installed library: its declarations against the headers, its tests, its
# examples. Skipped (77) where there is no python3 with numpy; PYTHON names another one.
. "$(dirname "$0")/install.inc"
python=${PYTHON:-}
for p in $python python3 /usr/bin/python3; do
  "$p" -c 'import numpy' 2> /dev/null && python=$p && break
done
"${python:-python3}" -c 'import numpy' 2> /dev/null || {
  echo "there is no python3 with numpy (Debian: python3-numpy)"
  exit 77
}
export PYTHONPATH="$source/python" PYTHONDONTWRITEBYTECODE=1

"$python" "$source/tests/python/check_abi.py" "$prefix/include" "$CC" || fail "python/tilth/_abi.py is not what the headers say"
# The check can fail: a declaration that differs is found.
mkdir -p changed/tests/python changed/python/tilth
cp "$source/tests/python/check_abi.py" changed/tests/python
sed 's/  int32_t \*label;/  int64_t *labels;/' "$source/python/tilth/_abi.py" > changed/python/tilth/_abi.py
"$python" changed/tests/python/check_abi.py "$prefix/include" "$CC" > /dev/null 2>&1 && fail "a changed declaration is not noticed"
"$python" -W error "$source/tests/python/test_tilth.py" > tests.log 2>&1 || { fail "tests of the package"; tail -40 tests.log; }

for example in pretrain finetune embed; do cp "$source/python/examples/$example.py" .; done
"$python" pretrain.py text.txt 200 > out 2> err || fail "pretrain.py: $(cat err)"
grep -q '^step 200 of 200: loss [0-1]' err || fail "pretrain.py shows no progress: $(tail -3 err)"
model=$(echo runs/example-*/model)
"$python" pretrain.py text.txt 1000000 0.3 > out 2> err
code=$?
[ $code -eq 75 ] || fail "a cancelled pretrain.py exits with $code instead of 75: $(tail -3 err)"
"$python" finetune.py "$model" labels.tsv "sun number 77" "moon number 77" > out 2> err || fail "finetune.py: $(cat err)"
grep -q '^day .*: sun number 77$' out || fail "finetune.py predicts: $(cat out)"
grep -q '^night .*: moon number 77$' out || fail "finetune.py predicts: $(cat out)"
echo "The man number 7 plays the flute." | "$python" embed.py "$model" text.txt > out 2> err || fail "embed.py: $(cat err)"
[ "$(head -1 out)" = "1.000 The man number 7 plays the flute." ] || fail "embed.py answers: $(cat out)"

unset TILTH_LIBRARY
LD_LIBRARY_PATH='' "$python" -c 'import tilth' > out 2> err && [ ! -e /usr/local/lib/libtilth.so.0 ] && fail "a library from nowhere was loaded"
grep -q 'set TILTH_LIBRARY' err || [ -e /usr/local/lib/libtilth.so.0 ] || fail "without the library: $(tail -1 err)"

finish
