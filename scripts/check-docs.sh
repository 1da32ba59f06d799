#!/usr/bin/env bash
# Checks what the documents claim of the code: every test that docs/parity.md names exists, and the
# README's commands work. Its snippets are doctests of `retry-client`.
set -euo pipefail
cd "$(dirname "$0")/.."
failed=0

fail() {
    printf 'check-docs: %s\n' "$1" >&2
    failed=1
}

# In the last column of its tables stand the tests that hold each row.
# shellcheck disable=SC2016 # The backquotes are Markdown's.
tests=$(awk -F'|' '/^\|/ && NF > 3 { print $(NF - 1) }' docs/parity.md | grep -o '`[a-z0-9_]*`' | tr -d '`' | sort -u)
[ "$(printf '%s\n' "$tests" | wc -l)" -ge 20 ] || fail "docs/parity.md names hardly any tests"
for name in $tests; do
    grep -rqE "fn $name\(" crates || fail "docs/parity.md names a test that is not there: $name"
done

# Where a program listens is in the first lines of its log; how long it may take to get there, and to stop.
LIMIT_S=20
work=$(mktemp -d)
pid=''
clean_up() {
    # Only what this script started, and what has not been waited for.
    [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# within <command ...>: repeats it until it succeeds, or the limit is over.
within() {
    local tries
    for ((tries = 0; tries < LIMIT_S * 10; tries++)); do
        ! "$@" || return 0
        sleep 0.1
    done
    return 1
}
gone() { ! kill -0 "$pid" 2>/dev/null; }
serves_or_gone() { grep -q 'Serving http://' "$log" || gone; }

# check_served <crate> <arguments ...>: runs it as printed on a free port, until it serves, and asks it to stop.
check_served() {
    local crate=$1 variable log=$work/log
    shift
    variable=$(printf '%s' "$crate" | tr 'a-z-' 'A-Z_')_LISTEN
    # The time it takes to compile is no part of the time it takes to serve.
    cargo build --quiet -p "$crate" || { fail "'cargo build -p $crate' fails"; return; }
    # The redirection below happens in the new process: until then the log of the one before would be read.
    : >"$log"
    # Cargo becomes the program, so that this is its process.
    env "$variable=127.0.0.1:0" cargo run --quiet -p "$crate" "$@" 2>"$log" &
    pid=$!
    within serves_or_gone || true
    grep -q 'Serving http://' "$log" || fail "'cargo run -p $crate' does not serve within $LIMIT_S s: $(cat "$log")"
    kill "$pid" 2>/dev/null || true
    within gone || { fail "'cargo run -p $crate' does not stop within $LIMIT_S s"; kill -KILL "$pid" 2>/dev/null || true; }
    wait "$pid" || fail "'cargo run -p $crate' does not stop cleanly"
    pid=''
}

# The sample by hand: the commands as printed, on free ports.
for crate in delayed-backend retry-service; do
    grep -qx "cargo run -p $crate" README.md || fail "README.md lacks 'cargo run -p $crate'"
    check_served "$crate"
done
# And the gateway.
grep -qx 'cargo run -p retry-service -- --forward --upstream http://localhost:8080' README.md || fail "README.md lacks the gateway's command"
check_served retry-service -- --forward --upstream http://localhost:8080

exit "$failed"
