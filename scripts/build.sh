#!/usr/bin/env bash
# Builds into dist/<os>-<arch>/. `build.sh all` builds for every system, `build.sh host`
# for this machine. No C compiler, no paths, no build id: the same source gives the same
# bytes anywhere. The version is what Go's build information says.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_go
no_vcs

# The board's programs are for Linux; the operator's tool is for all. 32-bit ARM is built
# for the oldest Pi (ARMv6).
board=(./cmd/holdfastd ./cmd/holdfast-bench ./cmd/holdfast)
operator=(./cmd/holdfast)

build() {
    local os=$1 arch=$2
    shift 2
    local dir="dist/$os-$arch" begin=$SECONDS
    mkdir -p "$dir"
    CGO_ENABLED=0 GOOS=$os GOARCH=$arch GOARM=6 \
        go build -trimpath -ldflags "-s -w -buildid=" -o "$dir/" "$@"
    echo "built $dir: $(ls "$dir" | tr '\n' ' ')($((SECONDS - begin)) s)"
}

case "${1:-all}" in
host)
    packages=("${operator[@]}")
    [ "$(go env GOHOSTOS)" != linux ] || packages=("${board[@]}")
    build "$(go env GOHOSTOS)" "$(go env GOHOSTARCH)" "${packages[@]}"
    ;;
all)
    for arch in amd64 arm64 arm; do build linux $arch "${board[@]}"; done
    for os in darwin windows; do
        for arch in amd64 arm64; do build $os $arch "${operator[@]}"; done
    done
    ;;
*)
    fail "usage: scripts/build.sh all|host"
    ;;
esac
