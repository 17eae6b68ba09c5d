#!/bin/sh
# usage: TILTH=build/tilth sh tests/cli/dash.sh
# The live page: what it serves and refuses, and, where Chromium is, that it draws the curves of a run without
# a console error, and that they go on while the run trains.
. "$(dirname "$0")/common.inc"
check 66 dash nowhere
"$TILTH" dash --port 0 . > url 2> err &
pid=$!
trap 'kill $pid $training 2> /dev/null; wait; rm -rf "$dir"' EXIT
training=
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do [ -s url ] || sleep 0.1; done
if grep -q 'without libmicrohttpd' err; then
  echo "built without libmicrohttpd"
  exit 77
fi
url=$(cat url)
case $url in http://127.0.0.1:*/) ;; *) fail "the address is '$url'" ;; esac
port=${url#http://127.0.0.1:}
port=${port%/}

i=0
while [ $i -lt 200 ]; do
  echo "The man number $i plays the flute in the sun."
  i=$((i + 1))
done > text.txt
"$TILTH" train run.name=live run.dir=. run.log_every=1 data.text=text.txt data.tokenizer=bytes data.unit=file \
  data.split=tail data.val_fraction=0.1 model.dim=16 model.layers=1 model.heads=2 train.seq_len=32 train.batch=1 \
  run.minutes=2 run.eval_every=20 run.sample="The man" -q > /dev/null 2> train.err &
training=$!
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do [ -s live-*/metrics.jsonl ] || sleep 0.2; done
run=$(echo live-*)
[ -s "$run/metrics.jsonl" ] || fail "no run began: $(cat train.err)"
mkdir secret
echo '{"key": 1}' > secret/metrics.jsonl

# ask HOST PATH [METHOD]: the whole answer, status line first, to `answer`.
ask() {
  bash -c 'exec 3<> "/dev/tcp/127.0.0.1/$1" && printf "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" \
    "$4" "$3" "$2" >&3 && cat <&3' ask "$port" "$1" "$2" "${3:-GET}" > answer 2> ask.err ||
    fail "no answer to $2: $(cat ask.err)"
}
says() { grep -q -e "$1" answer || fail "no '$1' in the answer to $2: $(head -1 answer)"; }
if command -v bash > /dev/null; then
  ask "127.0.0.1:$port" /; says '^HTTP/1.1 200' /; says "default-src 'none'" /
  ask "localhost:$port" /runs; says '^HTTP/1.1 200' /runs; says "\"name\":\"$run\",\"status\":\"running\"" /runs
  ask "127.0.0.1:$port" "/data?run=$run"; says '"metrics":\[{"step":1,' /data
  i=0
  while [ $i -lt 100 ] && ! grep -q '"event": *"sample"' "$run/events.jsonl"; do sleep 0.2; i=$((i + 1)); done
  ask "127.0.0.1:$port" "/data?run=$run"; says '"event":"sample","message":"The man' "a sample of the text"
  at=$(sed -n 's/.*"metrics_at":\([0-9]*\).*/\1/p' answer)
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    sleep 0.5
    ask "127.0.0.1:$port" "/data?run=$run&metrics=$at"
    grep -q '"metrics":\[{"step":' answer && break
  done
  says "\"metrics_from\":$at," "/data from $at"
  says '"metrics":\[{"step":' "/data from $at"
  grep -q '"step":1,' answer && fail "/data from $at begins again"
  ask "127.0.0.1:$port" "/data?run=$run&metrics=99999999999"; says '"metrics_from":0,' "/data from far behind the end"
  for host in evil.example 127.0.0.1 "127.0.0.1:1" "127.0.0.1:$port.evil.example"; do
    ask "$host" /runs; says '^HTTP/1.1 403' "Host: $host"
  done
  for path in /run.json /../text.txt /text.txt "/data?run=secret" "/data?run=../secret" "/data?run=." /data; do
    ask "127.0.0.1:$port" "$path"; says '^HTTP/1.1 404' "$path"
  done
  ask "127.0.0.1:$port" /runs POST; says '^HTTP/1.1 405' POST
fi
# It listens on 127.0.0.1 (0100007F) alone.
hex=$(printf '%04X' "$port")
grep -q " 0100007F:$hex .* 0A " /proc/net/tcp || fail "it does not listen on 127.0.0.1:$port"
cat /proc/net/tcp /proc/net/tcp6 | grep " 0A " | grep ":$hex " | grep -v ' 0100007F:' && fail "it listens elsewhere too"

browser=
for b in chromium chromium-browser google-chrome; do command -v $b > /dev/null && browser=$b && break; done
if [ -n "$browser" ]; then
  "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$dir/profile" --enable-logging=stderr \
    --virtual-time-budget=8000 --window-size=390,1200 --dump-dom "$url" > dom 2> console
  grep CONSOLE console && fail "messages on the console"
  grep -q '<path[^>]* data-key="loss"' dom || fail "no curve of the loss is drawn"
  sed 's/<section id="events">.*//' dom | grep -q '<td>The man' || fail "the page shows no samples"
  grep -q "$run" dom || fail "the page does not name the run"
  updates=$(sed -n 's/.*<html[^>]*data-updates="\([0-9]*\)".*/\1/p' dom)
  [ "${updates:-0}" -ge 2 ] || fail "the curves did not go on while the run trains ($updates updates)"
else
  echo "no Chromium: the page was not opened"
fi

kill -INT $pid
wait $pid
code=$?
[ $code -eq 0 ] || fail "Ctrl-C ends it with $code"
[ $failed -eq 0 ] || echo "$failed checks failed"
[ $failed -eq 0 ]
