#!/bin/sh
# usage: scripts/install-deps.sh [tests]
# Sees to it that the packages needed to build and test tilth on Debian are there. Installs what is
# missing when run as root; otherwise names it and the command, and exits with 69. With `tests` root
# installs what single tests need besides (others are not asked for it, and these tests are skipped).
set -eu

packages="gcc libc6-dev cmake ninja-build pkg-config libjansson-dev libyaml-dev libutf8proc-dev
  libpcre2-dev libarchive-dev libxxhash-dev libspng-dev libjpeg62-turbo-dev libmicrohttpd-dev libcmocka-dev zstd"

command -v dpkg-query > /dev/null || { echo "install-deps: not a Debian system; needed are: $packages" >&2; exit 69; }
missing=
if [ "$(id -u)" -eq 0 ] && [ "${1:-}" = tests ]; then packages="$packages python3-numpy valgrind"; fi
for p in $packages; do
  # pkgconf provides pkg-config under another name; the tool itself is what counts.
  [ "$p" = pkg-config ] && command -v pkg-config > /dev/null && continue
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2> /dev/null)" = installed ] || missing="$missing $p"
done
[ -z "$missing" ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "install-deps: missing packages:$missing" >&2
  echo "install-deps: as root, run: apt-get update && apt-get install -y --no-install-recommends$missing" >&2
  exit 69
fi
echo "install-deps: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
ls /var/lib/apt/lists/*_Packages* > /dev/null 2>&1 || apt-get -q update
# Lists that are old may name versions the mirror no longer has.
# shellcheck disable=SC2086
apt-get -q install -y --no-install-recommends $missing ||
  { apt-get -q update && apt-get -q install -y --no-install-recommends $missing; }
