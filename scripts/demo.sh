#!/usr/bin/env bash
# Builds for this machine and runs the demonstration into a fresh folder.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
out=${1:?usage: scripts/demo.sh FOLDER}
need_go
[ "$(go env GOHOSTOS)" = linux ] || fail "the demo needs Linux: the recorder runs nowhere else"
if [ -n "$(ls -A "$out" 2>/dev/null)" ]; then
    fail "$out is not empty: remove it, or name another folder with make demo DEMO_DIR=NAME"
fi
scripts/build.sh host
exec "dist/$(host)/holdfast-bench" demo -o "$out"
