#!/bin/sh
# usage: scripts/get-corpus.sh OUT
# Real English text and a labelled task from Debian's own packages, without root rights:
#   OUT/pretrain/*.txt          plain text; a document is a block of lines, blank lines between
#   OUT/wordnet/{train,test}.tsv  noun glosses: supersense<TAB>gloss
#   OUT/sources.txt             packages, versions and sizes; written last
# Packages are fetched by apt (which checks Debian's signatures) into $TILTH_CACHE, by default
# build/cache; what is there is not fetched again. The text may still hold glosses of the test set:
# `tilth decontam` removes them before pretraining.
set -eu
export LC_ALL=C

[ $# -eq 1 ] || { echo "usage: $0 OUT" >&2; exit 2; }
out=$1
here=$(cd "$(dirname "$0")" && pwd)
cache=${TILTH_CACHE:-$here/../build/cache}
test_size=5000
packages="dict-gcide dict-foldoc linux-doc-6.1 libreoffice-help-en-us postgresql-doc-15 wordnet-base"

say() { echo "get-corpus: $*" >&2; }
fail() { echo "get-corpus: error: $*" >&2; exit 1; }

if [ -f "$out/sources.txt" ]; then
  say "$out is complete already (delete $out/sources.txt to build it again)"
  exit 0
fi
. "$here/corpus/packages.inc"
needs gzip perl
mkdir -p "$out"

translations() { ls "$cache"/apt/lists/*_main_i18n_Translation-en* 2> /dev/null || true; }

if [ -z "$(translations)" ]; then
  update
  [ -n "$(translations)" ] || { cat "$cache/apt/update.log" >&2; fail "no package descriptions came; is the network there, and does /etc/apt name a Debian mirror?"; }
fi

for p in $packages; do
  [ -d "$cache/$p" ] && continue
  say "fetching $p"
  unpack "$p"
  if [ "$p" = linux-doc-6.1 ]; then
    find "$cache/$p.part" -path '*/translations' -prune -o \( -name '*.rst.gz' -o -name '*.txt.gz' \) -print0 | xargs -0 gzip -d
    rm -rf "$cache/$p.part/usr/share/doc/linux-doc-6.1/html"
  fi
  mv "$cache/$p.part" "$cache/$p"
done

say "cleaning the text"
rm -rf "$out/pretrain" "$out/wordnet"
mkdir -p "$out/pretrain.part" "$out/wordnet"
gzip -dc < "$cache/dict-gcide/usr/share/dictd/gcide.dict.dz" |
  perl "$here/corpus/dict.pl" '^\S.*\\' > "$out/pretrain.part/gcide.txt" &
gcide=$!
gzip -dc < "$cache/dict-foldoc/usr/share/dictd/foldoc.dict.dz" |
  perl "$here/corpus/dict.pl" '^!!!Batch' > "$out/pretrain.part/foldoc.txt"
doc=$cache/linux-doc-6.1/usr/share/doc/linux-doc-6.1/Documentation
find "$doc" \( -path '*/translations' -o -path '*/devicetree' \) -prune -o \( -name '*.rst' -o -name '*.txt' \) -print |
  sort | perl "$here/corpus/rst.pl" > "$out/pretrain.part/linux-doc.txt"
find "$cache/libreoffice-help-en-us" -name '*.html' | sort |
  perl "$here/corpus/html.pl" > "$out/pretrain.part/libreoffice-help.txt"
find "$cache/postgresql-doc-15" -name '*.html' ! -name 'release-*' | sort |
  perl "$here/corpus/html.pl" > "$out/pretrain.part/postgresql-doc.txt"
for list in $(translations); do /usr/lib/apt/apt-helper cat-file "$list"; done |
  perl "$here/corpus/packages.pl" > "$out/pretrain.part/packages.txt"
perl "$here/corpus/wordnet.pl" "$cache/wordnet-base/usr/share/wordnet/data.noun" "$test_size" "$out/wordnet"
wait "$gcide" || fail "the text of dict-gcide could not be cleaned"
mv "$out/pretrain.part" "$out/pretrain"

{
  for p in $packages; do cat "$cache/$p/package"; done
  for f in "$out"/pretrain/*.txt "$out"/wordnet/*.tsv; do
    size=$(wc -c < "$f")
    [ "$size" -gt 100000 ] || fail "$f has only $size bytes: a package has changed its layout"
    echo "$size bytes ${f#"$out"/}"
  done
} > "$out/sources.part"
mv "$out/sources.part" "$out/sources.txt"
cat "$out/sources.txt"
