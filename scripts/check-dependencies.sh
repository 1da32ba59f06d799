#!/usr/bin/env bash
# Checks that crates depend only on those below them, that retry-core without features depends on no runtime, and
# retry-client on no provider of cryptography unless it is asked to, and that no two files or folders of a crate import
# each other.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    printf 'check-dependencies: %s\n' "$1" >&2
    exit 1
}

# forbid <crate> <names of crates> <features ...>: fails if the crate depends on one of these. A name that no package
# has is an error, since it would forbid nothing.
forbid() {
    local crate=$1 names=$2 name tree found
    shift 2
    for name in "$crate" $names; do
        grep -qx "name = \"$name\"" Cargo.lock || fail "no package is called $name"
    done
    tree=$(cargo tree --locked --edges normal --prefix none -p "$crate" "$@") || fail "cargo tree failed for $crate"
    [[ $tree == "$crate v"* ]] || fail "cargo tree printed no tree of $crate: $tree"
    if found=$(tail -n +2 <<<"$tree" | grep -E "^(${names// /|}) "); then
        fail "$crate must not depend on $(sort -u <<<"$found")"
    fi
}

forbid retry-core 'tokio hyper log' --no-default-features
forbid retry-core 'tokio hyper log' --no-default-features --features std
forbid retry-core 'hyper http retry-client' --all-features
forbid retry-client 'retry-service delayed-backend clap env_logger' --all-features
forbid retry-client 'ring' --features tls-no-provider
forbid retry-service 'delayed-backend' --all-features
forbid delayed-backend 'retry-core retry-client retry-service' --all-features
printf 'Crates depend only on those below them.\n'
scripts/check-modules.py
