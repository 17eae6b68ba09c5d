#!/bin/sh
# usage: sh tests/cli/exit_codes.sh
# docs/exit-codes.md has the codes of include/tilth/status.h, no more and no fewer.
set -eu
cd "$(dirname "$0")/../.."
header=$(sed -n 's/^ *X(\([A-Z]*\), \([0-9]*\),.*/\2 \1/p' include/tilth/status.h)
page=$(sed -n 's/^| \([0-9]*\) | `\([A-Z]*\)` |.*/\1 \2/p' docs/exit-codes.md)
[ -n "$header" ] && [ "$header" = "$page" ] && exit 0
printf 'include/tilth/status.h:\n%s\n\ndocs/exit-codes.md:\n%s\n' "$header" "$page"
exit 1
