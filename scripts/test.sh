#!/usr/bin/env bash
# The test runs: `test.sh check` for any laptop, `test.sh test` with everything a short run
# holds, `test.sh long` for the long batteries. One line a step, a summary at the end; the
# output of a step is shown when it fails, or always with V=1.
#
# TEST_STRICT=1 makes a step that had to be left out count as failed.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
passed=0 failed=() skipped=()

# step NAME COMMAND... runs one step; a failure does not end the run.
step() {
    local name=$1 log="$logs/step" begin=$SECONDS status=0
    shift
    if [ "${V:-0}" = 1 ]; then
        echo "run   $name"
        ("$@") 2>&1 | tee "$log" || status=$?
    else
        ("$@") >"$log" 2>&1 || status=$?
    fi
    if [ "$status" -eq 0 ]; then
        passed=$((passed + 1))
        printf 'ok    %-34s %4d s\n' "$name" $((SECONDS - begin))
        return
    fi
    failed+=("$name")
    printf 'FAIL  %-34s %4d s\n' "$name" $((SECONDS - begin))
    [ "${V:-0}" = 1 ] || tail -n 200 "$log" | sed 's/^/      /'
}

skip() {
    skipped+=("$1")
    printf 'skip  %-34s %s\n' "$1" "$2"
}

summary() {
    echo
    echo "$passed steps passed, ${#failed[@]} failed, ${#skipped[@]} left out, in $SECONDS s"
    [ ${#skipped[@]} -eq 0 ] || printf 'left out: %s\n' "${skipped[@]}"
    [ ${#failed[@]} -eq 0 ] || printf 'failed: %s\n' "${failed[@]}"
    [ ${#failed[@]} -eq 0 ] || exit 1
    [ ${#skipped[@]} -eq 0 ] || [ "${TEST_STRICT:-0}" != 1 ] || exit 1
}

# install PACKAGE... gets packages by apt. It says what it does, and changes nothing where
# apt is not there or may not be used; what is still missing then leaves its step out.
install() {
    local sudo='' package
    have apt-get || return 0
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || return 0
        sudo='sudo -n'
    fi
    [ -n "${apt_updated:-}" ] || $sudo apt-get update -qq >/dev/null 2>&1 || true
    apt_updated=1
    for package in "$@"; do
        echo "get   $package by apt-get install"
        $sudo env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1 || true
    done
}

install_missing() {
    have zstd || install zstd
    has_cryptography || install python3 python3-cryptography
    have gcc || have clang || install gcc libc6-dev
    have lua5.4 || have lua5.3 || install lua5.4 # the arming script is run against a stub of its autopilot
    qemu aarch64 >/dev/null || install qemu-user-static
    qemu aarch64 >/dev/null || install qemu-user
    have zstd || skip "stock zstd" "tests that need it leave themselves out: apt-get install zstd"
    has_cryptography || skip "second reader" "tests leave it out: apt-get install python3-cryptography"
}

# install_guest gets what the power-cut test of a whole machine needs.
install_guest() {
    have qemu-system-x86_64 || install qemu-system-x86
    have cpio || install cpio
    have e2fsck || install e2fsprogs
    scripts/guest.sh dist/guest || skip "power cuts of a guest" "its kernel cannot be had"
    have debootstrap || install debootstrap
    have mkswap || install util-linux
    scripts/guest-systemd.sh dist/guest-systemd || skip "boot window of a guest" "it cannot be made"
}

have() { command -v "$1" >/dev/null; }

# has_cryptography tells whether the second reader can run.
has_cryptography() {
    /usr/bin/python3 -c 'import cryptography' 2>/dev/null || python3 -c 'import cryptography' 2>/dev/null
}

# qemu prints the emulator for an architecture; Debian has it under two names.
qemu() {
    command -v "qemu-$1-static" || command -v "qemu-$1"
}

gofmt_clean() {
    local list
    list=$(git ls-files -co --exclude-standard '*.go' 2>/dev/null || find . -name '*.go')
    list=$(gofmt -l $list)
    [ -z "$list" ] || fail "not formatted (run gofmt -w): $list"
}

# operator_builds compiles the operator's tool for the systems the tests do not run on.
operator_builds() {
    local dir="$logs/build"
    mkdir -p "$dir"
    for target in darwin/arm64 windows/amd64; do
        CGO_ENABLED=0 GOOS=${target%/*} GOARCH=${target#*/} go build -o "$dir/" ./cmd/holdfast || return
    done
}

# race PACKAGE... looks for races. The end-to-end tests are left out: the programs they start are the ones
# that are shipped, built without the race detector, and only the tests' own code would be looked at.
race() {
    if ! have gcc && ! have clang; then
        skip "go test -race" "no C compiler: apt-get install gcc libc6-dev"
        return
    fi
    CGO_ENABLED=1 step "go test -race" go test -vet=off -race -timeout 20m $(go list "$@" | grep -v "/cmd/internal/e2e\$")
}

# others lists all packages but the end-to-end tests, which have the machine for themselves: their
# flights are real time.
others() { go list ./... | grep -v "/cmd/internal/e2e\$"; }

# emulated ARCH QEMU runs what reads and writes bytes as a program of another processor:
# other sizes, other alignment, other memory order. -short, for qemu is some 10 times slower; the
# simulated vehicle is left out, for it flies on no board.
emulated() {
    local arch=$1 emulator
    if ! emulator=$(qemu "$2"); then
        skip "linux/$arch under qemu" "no qemu-$2: apt-get install qemu-user-static"
        return
    fi
    CGO_ENABLED=0 GOOS=linux GOARCH=$arch GOARM=6 step "linux/$arch under qemu" \
        go test -vet=off -short -timeout 10m -exec "$emulator" $(go list ./mavlink/... ./crypto/... ./storage/... | grep -v "/mavlink/vehicle\$")
}

staticcheck() {
    if ! go run "$STATICCHECK" -version >/dev/null 2>&1; then
        skip "staticcheck" "${STATICCHECK} cannot be had (no network?)"
        return
    fi
    step "staticcheck" go run "$STATICCHECK" ./...
}

quick() {
    step "gofmt" gofmt_clean
    step "go vet" go vet ./...
}

need_go
no_vcs
STATICCHECK=${STATICCHECK:-honnef.co/go/tools/cmd/staticcheck@v0.7.0}
case "${1:-test}" in
check)
    quick
    staticcheck
    step "import rules" go test ./scripts/imports
    race ./...
    ;;
test)
    install_missing
    quick
    step "operator's tool, macOS and Windows" operator_builds
    step "go test" go test -vet=off -timeout 20m $(others)
    step "end to end" go test -vet=off -timeout 20m ./cmd/internal/e2e
    race ./firmware/... ./storage/... ./mavlink/... # the others share nothing between goroutines: make check, make test-long
    step "audit, quick" go run ./cmd/holdfast-bench audit --quick
    emulated arm64 aarch64
    emulated arm arm
    ;;
long)
    install_missing
    install_guest
    V=1 step "long batteries" go test -count=1 -timeout 6h ./...
    HOLDFAST_LONG='' V=1 race ./...
    V=1 step "audit, whole" go run ./cmd/holdfast-bench audit
    ;;
*)
    fail "usage: scripts/test.sh check|test|long"
    ;;
esac
summary
