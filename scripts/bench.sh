#!/usr/bin/env bash
# The whole program against its goals: builds holdfastd, holdfast and the peers as they are
# shipped, and measures them in one run. `make bench` runs it behind the Go benchmarks.
#
#   scripts/bench.sh [FLAG...]      flags of the program: scripts/bench.sh -h
#
# BENCH_DIR names the folder to write in, so that another medium can be measured.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_go
no_vcs
[ "$(go env GOHOSTOS)" = linux ] || fail "the whole-program figures need Linux: the recorder runs nowhere else"

mkdir -p "${BENCH_DIR:=dist}"
work=$(mktemp -d "$BENCH_DIR/bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
work=$(cd "$work" && pwd)
mkdir "$work/bin" "$work/run"
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -buildid=" -o "$work/bin/" \
    ./cmd/holdfastd ./cmd/holdfast ./cmd/internal/wholebench ./cmd/internal/wholebench/peer
echo "machine: $(awk -F': *' '/^(model name|Model)/ { print $2; exit }' /proc/cpuinfo), $(nproc) cores, $(uname -sr), $(go env GOVERSION)"
echo "medium: $(df -PT "$work" | awk 'NR == 2 { print $2 }'); load: $(cut -d' ' -f1-3 /proc/loadavg)"
"$work/bin/wholebench" -bin "$work/bin" -dir "$work/run" "$@"

# What each stream of a whole flight costs; three to four minutes.
if [ $# -eq 0 ]; then
    HOLDFAST_FIGURES="$work/figures" go test -count=1 -run '^TestFigures$' ./cmd/internal/e2e >"$work/log" || { cat "$work/log"; fail "the whole flight was not measured"; }
    cat "$work/figures"
fi
