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
tests=$(awk -F'|' '/^\|/ && NF > 3 { print $(NF - 1) }' docs/parity.md | grep -o '`[a-z0-9_]*`' | tr -d '`' | sort -u)
[ "$(printf '%s\n' "$tests" | wc -l)" -ge 20 ] || fail "docs/parity.md names hardly any tests"
for name in $tests; do
    grep -rqE "fn $name\(" crates || fail "docs/parity.md names a test that is not there: $name"
done

# check_served <crate>: runs it as printed, with $flags, on a free port, until it serves.
check_served() {
    local crate=$1 variable log pid child
    variable=$(printf '%s' "$crate" | tr 'a-z-' 'A-Z_')_LISTEN
    log=$(mktemp)
    env "$variable=127.0.0.1:0" cargo run -p "$crate" "${flags[@]}" 2>"$log" &
    pid=$!
    for _ in $(seq 600); do
        grep -q 'Serving http://' "$log" && break
        sleep 0.1
    done
    grep -q 'Serving http://' "$log" || fail "'cargo run -p $crate' does not serve: $(cat "$log")"
    # cargo runs the program as its child; ask that one to stop.
    child=$(cat "/proc/$pid/task/$pid/children" 2>/dev/null || true)
    kill "${child:-$pid}" 2>/dev/null || true
    wait "$pid" || fail "'cargo run -p $crate' does not stop cleanly"
    rm -f "$log"
}

# The sample by hand: the commands as printed, on free ports.
for crate in delayed-backend retry-service; do
    grep -qx "cargo run -p $crate" README.md || fail "README.md lacks 'cargo run -p $crate'"
    flags=()
    check_served "$crate"
done
# And the gateway.
grep -qx 'cargo run -p retry-service -- --forward --upstream http://localhost:8080' README.md || fail "README.md lacks the gateway's command"
flags=(-- --forward --upstream http://localhost:8080)
check_served retry-service

exit "$failed"
