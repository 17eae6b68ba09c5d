#!/bin/sh
# The include order: a file may include its own folder and what the table below lists for it. Also: file
# names of sources are unique, no file and no function of the kind the design forbids, every public header
# compiles alone.
set -eu
cd "$(dirname "$0")/.."
bad=0
complain() { echo "$*"; bad=1; }

# folder: folders it may include besides itself (public headers tilth/ are open to all but base)
allowed() {
  case $1 in
    base) echo "" ;;
    kernels) echo "base" ;;
    core) echo "base kernels" ;;
    ops) echo "base kernels core" ;;
    nn | optim) echo "base kernels core ops" ;;
    models | objectives) echo "base kernels core ops nn optim" ;;
    transfer | eval | plan) echo "base kernels core ops nn optim models objectives eval" ;;
    train) echo "base kernels core ops nn optim models objectives transfer eval plan" ;;
    cli) echo "" ;;
    formats | text | image | data | dist | config) echo "base" ;;
  esac
}
for dir in src/*/; do
  folder=$(basename "$dir")
  ok=" $folder $(allowed "$folder") "
  for inc in $(grep -rhoE '^#include "[a-z]+/[^"]+"' "$dir" | sed 's/#include "\([a-z]*\)\/.*/\1/' | sort -u); do
    [ "$inc" = tilth ] && continue
    case $ok in *" $inc "*) ;; *)
      complain "src/$folder includes $inc/: $(grep -rlE "^#include \"$inc/" "$dir" | tr '\n' ' ')" ;;
    esac
  done
done
grep -rl '<mpi.h>' src | grep -v '^src/dist/' && complain "only src/dist may include <mpi.h>"

twice=$(find src -name '*.c' -printf '%f\n' | sort | uniq -d)
[ -z "$twice" ] || complain "file names are not unique: $twice"
grep -rnE '\b(exit|abort|printf|puts)\(' src --include='*.c' --include='*.h' --include='*.inl' |
  grep -vE '^src/cli/|tl_buf_|snprintf|_printf|fprintf|tl_arena|/\*' && complain "the library must not exit, abort or print"

for f in $(find src include -name '*.[ch]' -o -name '*.inl'); do
  n=$(wc -l < "$f")
  [ "$n" -le 620 ] || complain "$f has $n lines (limit 620)"
done
for h in include/tilth/*.h; do
  echo "#include \"${h#include/}\"" | ${CC:-cc} -std=c11 -Wall -Wextra -Werror -pedantic -Iinclude -fsyntax-only -x c - ||
    complain "$h does not compile alone"
  grep -q '^extern "C" {' "$h" || complain "$h lacks extern \"C\" for C++"
done
[ $bad -eq 0 ] && echo "layers, names, sizes and public headers are in order"
exit $bad
