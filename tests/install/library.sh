#!/bin/sh
# usage: BUILD=build sh tests/install/library.sh
# The installed library: it exports what its headers declare and nothing else, neither exits nor prints nor
# keeps state, and is found by pkg-config and CMake; headers serve C++; pages and completion are in place.
. "$(dirname "$0")/install.inc"
so=$prefix/lib/libtilth.so.0

# --- symbols --------------------------------------------------------------------------------------
for h in "$prefix"/include/tilth/*.h; do "$CC" -fpreprocessed -dD -E -P "$h"; done |
  grep -v '^#' | grep -oE '\btl_[a-z0-9_]+\(' | tr -d '(' | sort -u > declared
nm -D --defined-only "$so" | awk '$2 == "T" { sub("@.*", "", $3); print $3 }' | sort -u > exported
[ "$(wc -l < declared)" -gt 100 ] || fail "only $(wc -l < declared) functions were found in the headers"
diff declared exported || fail "declared in the headers (<) and exported (>) differ"
nm -D --defined-only "$so" | awk '$2 !~ /[TA]/' > other
[ -s other ] && fail "exported besides functions: $(cat other)"
objdump -T "$so" | awk '$4 == ".text" && $6 != "TILTH_0"' > unversioned
[ -s unversioned ] && fail "without a version: $(cat unversioned)"
readelf -d "$so" | grep -q 'SONAME.*\[libtilth\.so\.0\]' || fail "no soname libtilth.so.0"

# --- manners --------------------------------------------------------------------------------------
ban='exit _exit quick_exit abort __assert_fail printf __printf_chk vprintf __vprintf_chk puts putchar perror
  stdout stderr stdin signal sigaction setlocale srand rand srandom random chdir system fork atexit strtok'
nm -u "$prefix/lib/libtilth.a" 2> nm.err | awk '{ print $2 }' | sort -u > undefined
for name in $ban; do grep -qx "$name" undefined && fail "the library uses $name"; done
grep -qx malloc undefined || fail "nm of the static library shows nothing"
# Tables of kernels, filled once under pthread_once, are the only state that a process has.
objdump -t "$prefix/lib/libtilth.a" 2> /dev/null |
  awk '$3 == "O" && $4 ~ /^(\.data|\.bss|\.tbss|\.tdata|COMMON|\*COM\*)/ && $4 !~ /rel\.ro/ { print $NF }' |
  grep -vx -e tables -e tables_once > state
[ -s state ] && fail "writable data in the library: $(tr '\n' ' ' < state)"

# --- C, C++, static, CMake ------------------------------------------------------------------------
{
  for h in "$prefix"/include/tilth/*.h; do echo "#include <tilth/$(basename "$h")>"; done
  echo '#include <stdio.h>'
  echo 'typedef void (*any)(void);'
  echo 'static const any all[] = {'
  sed 's/.*/  (any)&,/' exported
  printf '};\nint main(void) {\n  printf("%%s %%d\\n", tl_version(), (int)(sizeof all / sizeof *all));\n  return !all[0];\n}\n'
} > all.c
cp all.c all.cc
want="$(pkg-config --modversion tilth) $(wc -l < exported)"
# runs NAME COMMAND...: compiles ./NAME, which prints the version and how many functions it linked.
runs() {
  name=$1
  shift
  if "$@" -o "$name" > cc.err 2>&1; then
    [ "$(./"$name")" = "$want" ] || fail "$name prints '$(./"$name")' instead of '$want'"
  else
    fail "$name does not compile: $(tail -5 cc.err)"
  fi
}
# shellcheck disable=SC2046
runs shared "$CC" -std=c11 -Wall -Wextra -Werror -pedantic all.c $(pkg-config --cflags --libs tilth)
# shellcheck disable=SC2046
runs static "$CC" -Wall -Wextra -Werror all.c $(pkg-config --cflags tilth) "$prefix/lib/libtilth.a" \
  $(pkg-config --static --libs tilth | sed 's/-ltilth//')
readelf -d static | grep -q libtilth && fail "the static program needs libtilth.so"
if command -v "$CXX" > /dev/null; then
  # shellcheck disable=SC2046
  runs cxx "$CXX" -std=c++11 -Wall -Wextra -Werror all.cc $(pkg-config --cflags --libs tilth)
fi
mkdir cmake
cat > cmake/CMakeLists.txt << 'END'
cmake_minimum_required(VERSION 3.20)
project(user C)
find_package(tilth 0.1 REQUIRED COMPONENTS static)
add_executable(user ../all.c)
target_link_libraries(user tilth::tilth)
add_executable(user_static ../all.c)
target_link_libraries(user_static tilth::static)
END
if cmake -S cmake -B cmake/build -DCMAKE_PREFIX_PATH="$prefix" > cmake.log 2>&1 &&
  cmake --build cmake/build >> cmake.log 2>&1; then
  for name in user user_static; do
    [ "$(cmake/build/$name)" = "$want" ] || fail "CMake's $name prints '$(cmake/build/$name)'"
  done
else
  fail "CMake package: $(tail -5 cmake.log)"
fi

# --- manual pages and completion ------------------------------------------------------------------
"$prefix/bin/tilth" --help | sed -n 's/^  \([a-z]*\) .*/\1/p' > commands
[ "$(wc -l < commands)" -gt 15 ] || fail "tilth --help names $(wc -l < commands) commands"
while read -r c; do
  page=$prefix/share/man/man1/tilth-$c.1
  [ -s "$page" ] || { fail "no page tilth-$c(1)"; continue; }
  grep -q "B tilth\\\\-$c\|BR tilth\\\\-$c" "$prefix/share/man/man1/tilth.1" || fail "tilth(1) does not name $c"
  "$prefix/bin/tilth" "$c" --help | sed -n 's/^  .*--\([a-z0-9-]*\).*/\1/p' | while read -r o; do
    [ "$o" = help ] || grep -q "$(echo "$o" | sed 's/-/\\\\-/g')" "$page" || echo "$o"
  done > lost
  [ -s lost ] && fail "tilth-$c(1) lacks $(tr '\n' ' ' < lost)"
done < commands
if command -v man > /dev/null; then
  for page in "$prefix"/share/man/man1/*.1; do
    LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=100 man --warnings -E UTF-8 -l "$page" > page 2> man.err
    [ -s man.err ] && fail "$(basename "$page"): $(head -2 man.err)"
    [ -s page ] || fail "$(basename "$page") shows nothing"
  done
fi
"$prefix/bin/tilth" docs commands > commands.md
cmp -s commands.md "$source/docs/commands.md" ||
  fail "docs/commands.md is out of date; run: build/tilth docs commands > docs/commands.md"
if command -v bash > /dev/null; then
  # complete WORDS...: what is offered for the last of them.
  cat > complete.bash << 'END'
compopt() { :; }
. "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_tilth tilth "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
echo "${COMPREPLY[*]}"
END
  offers() {
    want=$1
    shift
    got=$(bash complete.bash "$prefix/share/bash-completion/completions/tilth" "$@")
    [ "$got" = "$want" ] || fail "completion of '$*': '$got' instead of '$want'"
  }
  offers tokenizer tilth toke
  offers inspect tilth help insp
  offers "--max-tokens" tilth generate --max-t
  offers "train encode decode inspect" tilth tokenizer ""
  offers --vocab-size tilth tokenizer train --vo
  offers "optim.lr=" tilth train optim.lr
  offers shakespeare-char tilth train --preset shakespeare-c
  offers "" tilth generate --seed ""
fi
if command -v fish > /dev/null; then
  fish -n "$prefix/share/fish/vendor_completions.d/tilth.fish" || fail "fish completion"
  # fish_offers WANT LINE
  fish_offers() {
    got=$(fish --no-config -c "source '$prefix/share/fish/vendor_completions.d/tilth.fish'; complete -C '$2'" | cut -f 1)
    [ "$got" = "$1" ] || fail "fish completion of '$2': '$got' instead of '$1'"
  }
  fish_offers tokenizer 'tilth toke'
  fish_offers --max-tokens 'tilth generate --max-t'
  fish_offers --vocab-size 'tilth tokenizer train --vo'
  fish_offers optim.lr= 'tilth train optim.lr'
  fish_offers shakespeare-char 'tilth train --preset shakespeare-c'
fi
if command -v zsh > /dev/null; then zsh -n "$prefix/share/zsh/site-functions/_tilth" || fail "zsh completion"; fi

finish
