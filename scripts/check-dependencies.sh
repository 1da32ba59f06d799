#!/usr/bin/env bash
# Checks that arrows between crates point down only, and that the engine without features stands alone.
set -euo pipefail
cd "$(dirname "$0")/.."

tree() {
    cargo tree --locked --edges normal --prefix none "$@"
}

forbid() {
    local crate=$1 pattern=$2
    shift 2
    if tree -p "$crate" "$@" | tail -n +2 | grep -E "^($pattern) "; then
        printf 'check-dependencies: %s must not depend on the above\n' "$crate" >&2
        exit 1
    fi
}

forbid retry-core 'tokio|hyper|log|std' --no-default-features
forbid retry-core 'hyper|http|retry-client' --all-features
forbid retry-client 'retry-service|delayed-backend|clap|env_logger' --all-features
forbid retry-service 'delayed-backend' --all-features
forbid delayed-backend 'retry-core|retry-client|retry-service' --all-features
printf 'The arrows between the crates point down only.\n'
