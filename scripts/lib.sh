# Shared by the scripts beside it; sourced, not run.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export GOEXPERIMENT=runtimesecret

fail() {
    echo "$*" >&2
    exit 1
}

# need_go ends the script with one line where Go is missing or too old for go.mod.
need_go() {
    command -v go >/dev/null || fail "Go is not installed: get $(go_wanted) or later from https://go.dev/dl/"
    local have
    have=$(go env GOVERSION 2>/dev/null) || fail "go env does not work: $(go env GOVERSION 2>&1 | tail -1)"
    if [ "$(printf '%s\n' "$(go_wanted)" "${have%% *}" | sort -V | head -1)" != "$(go_wanted)" ]; then
        fail "Go is too old: ${have} found, $(go_wanted) or later needed (https://go.dev/dl/)"
    fi
}

go_wanted() { awk '$1 == "go" { print "go" $2; exit }' go.mod; }

# no_vcs keeps go build working in a tree whose repository git does not trust or does not
# see, such as a copy owned by somebody else. The programs then carry no revision.
no_vcs() {
    if ! git status --porcelain >/dev/null 2>&1; then
        export GOFLAGS="${GOFLAGS:-} -buildvcs=false"
    fi
}

host() { echo "$(go env GOHOSTOS)-$(go env GOHOSTARCH)"; }
