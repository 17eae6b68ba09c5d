#!/bin/sh
# usage: BUILD=build JOBS=2 scripts/check.sh      (make check)
# All tests: style rules, unit tests, selftest at every CPU level, command line, and the unit tests again
# under the address and undefined-behaviour sanitizers. TILTH_LONG=1 adds the long ones (make check-long).
# Closes with `N passed, N failed, N skipped`; exits 0 only if none failed.
set -eu
export LC_ALL=C

here=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-$here/build}
jobs=${JOBS:-2}
log=$build/check.log
passed=0 failed=0 skipped=0

# run NAME COMMAND...: one test; exit code 77 means skipped.
run() {
  name=$1
  shift
  start=$(date +%s)
  if "$@" > "$log" 2>&1; then code=0; else code=$?; fi
  seconds=$(($(date +%s) - start))
  case $code in
    0) passed=$((passed + 1)); echo "ok      $name (${seconds}s)" ;;
    77) skipped=$((skipped + 1)); echo "skipped $name: $(tail -1 "$log")" ;;
    *) failed=$((failed + 1)); echo "FAILED  $name (exit $code, ${seconds}s)"; sed 's/^/    /' "$log" | tail -60 ;;
  esac
}

cd "$here"
for t in tools/check_*.sh; do [ -e "$t" ] && run "$(basename "$t" .sh)" sh "$t"; done
for t in "$build"/test_*; do [ -x "$t" ] && run "$(basename "$t")" "$t"; done
for t in "$build"/fuzz_*; do [ -x "$t" ] && run "$(basename "$t")" "$t"; done
# Exit code 78: this CPU lacks the level.
selftest_at() {
  if TILTH_CPU=$1 "$build/tilth" selftest; then return 0; else code=$?; fi
  [ $code -eq 78 ] && return 77
  return $code
}
run "selftest at the best level" "$build/tilth" selftest
for level in ref avx2 avx512; do run "selftest $level" selftest_at $level; done
for t in tests/cli/*.sh; do [ -e "$t" ] && run "cli $(basename "$t" .sh)" env TILTH="$build/tilth" sh "$t"; done
for t in tests/install/*.sh; do [ -e "$t" ] && run "install $(basename "$t" .sh)" env BUILD="$build" sh "$t"; done

asan=$here/build-asan
cmake -S . -B "$asan" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DTILTH_SANITIZE=address,undefined > /dev/null
# Damaged files for the readers, one second each; five minutes each in the long run.
fuzz_seconds=1
[ -n "${TILTH_LONG:-}" ] && fuzz_seconds=300
if cmake --build "$asan" -j "$jobs" > "$log" 2>&1; then
  for t in "$asan"/fuzz_*; do [ -x "$t" ] && run "sanitized $(basename "$t")" env FUZZ_SECONDS=$fuzz_seconds "$t"; done
  for t in "$asan"/test_*; do [ -x "$t" ] && run "sanitized $(basename "$t")" env TILTH_SANITIZED=1 "$t"; done
else
  failed=$((failed + 1))
  echo "FAILED  sanitized build"
  tail -40 "$log"
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
