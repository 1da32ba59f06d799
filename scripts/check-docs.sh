#!/usr/bin/env bash
# Checks what the documents say about the code: the tests that docs/parity.md names exist, and the README's commands work.
# scripts/check-cookbook.py compiles their snippets.
set -euo pipefail
cd "$(dirname "$0")/.."
failed=0

fail() {
    printf 'check-docs: %s\n' "$1" >&2
    failed=1
}

# The last column of each table names the tests.
# shellcheck disable=SC2016 # The backquotes are Markdown's.
tests=$(awk -F'|' '/^\|/ && NF > 3 { print $(NF - 1) }' docs/parity.md | grep -o '`[a-z0-9_]*`' | tr -d '`' | sort -u)
[ "$(printf '%s\n' "$tests" | wc -l)" -ge 20 ] || fail "docs/parity.md names fewer than 20 tests"
for name in $tests; do
    grep -rqE "fn $name\(" crates || fail "docs/parity.md names a test that does not exist: $name"
done

# How long a program may take to start and to stop.
LIMIT_S=20
work=$(mktemp -d)
pid=''
clean_up() {
    [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# within <command ...>: repeats a command until it succeeds or the limit is over.
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

# check_served <crate> <arguments ...>: runs the program on a free port, waits until it serves, and stops it.
check_served() {
    local crate=$1 variable log=$work/log
    shift
    variable=$(printf '%s' "$crate" | tr 'a-z-' 'A-Z_')_LISTEN
    # Compiling does not count towards the limit.
    cargo build --quiet -p "$crate" || { fail "'cargo build -p $crate' fails"; return; }
    # The redirection below happens in the new process. Until then, the log would be that of the previous program.
    : >"$log"
    # `cargo run` replaces itself with the program, so this is the program's process.
    env "$variable=127.0.0.1:0" cargo run --quiet -p "$crate" "$@" 2>"$log" &
    pid=$!
    within serves_or_gone || true
    grep -q 'Serving http://' "$log" || fail "'cargo run -p $crate' does not start within $LIMIT_S s: $(cat "$log")"
    kill "$pid" 2>/dev/null || true
    within gone || { fail "'cargo run -p $crate' does not stop within $LIMIT_S s"; kill -KILL "$pid" 2>/dev/null || true; }
    wait "$pid" || fail "'cargo run -p $crate' does not stop cleanly"
    pid=''
}

# The commands, as the README prints them, on free ports.
for crate in delayed-backend retry-service; do
    grep -qx "cargo run -p $crate" README.md || fail "README.md lacks 'cargo run -p $crate'"
    check_served "$crate"
done
grep -qx 'cargo run -p retry-service -- --forward --upstream http://localhost:8080' README.md || fail "README.md lacks the gateway's command"
check_served retry-service -- --forward --upstream http://localhost:8080

exit "$failed"
