#!/usr/bin/env bash
# Runs every fuzz target of the tree for a while; finds land in testdata/fuzz of the package.
# Ends with 1 when there was a find.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
time=${1:-1m}
need_go

# targets prints "package target" for each; go test -list gives the names first, then a
# line with the package.
targets() {
    go test -list '^Fuzz' ./... | awk '
        /^Fuzz/ { names[++n] = $1 }
        /^ok/   { for (i = 1; i <= n; i++) print $2, names[i]; n = 0 }'
}

finds=0 count=0
list=$(targets)
[ -n "$list" ] || fail "no fuzz target found"
while read -r package target; do
    count=$((count + 1))
    echo "== $package $target for $time"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 10x "$package" || finds=$((finds + 1))
done <<<"$list"
echo "$count fuzz targets, $finds with a find"
[ "$finds" -eq 0 ]
