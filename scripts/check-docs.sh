#!/usr/bin/env bash
# Checks what the documents say about the code: the tests that docs/parity.md names exist, the README's commands work,
# and its snippets compile in a program that depends on the libraries as the README says.
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

# The snippets of the README and of the guide to policies, as tests of a program with the dependencies that the README names.
snippets=$work/program
mkdir -p "$snippets/src"
# block <language> <file ...>: the code blocks in this language, those in Rust as a test each.
block() {
    awk -v language="$1" '
        $0 == "```" language { inside = 1; if (language == "rust") print "#[test]\nfn snippet_" ++count "() {"; next }
        $0 == "```" { if (inside && language == "rust") print "}"; inside = 0 }
        inside' "${@:2}"
}
{
    printf '[package]\nname = "snippets"\nedition = "2024"\n\n[workspace]\n\n'
    block toml README.md | sed "s|\.\./retry/|$PWD/|"
} >"$snippets/Cargo.toml"
{ printf '#![allow(dead_code)]\n' && block rust README.md docs/choosing-a-policy.md; } >"$snippets/src/lib.rs"
# With the versions of this lock file, and without access to the registry.
cp Cargo.lock "$snippets/"
cargo test --quiet --offline --manifest-path "$snippets/Cargo.toml" --target-dir target >"$work/snippets.log" 2>&1 ||
    fail "the snippets of README.md and docs/choosing-a-policy.md fail: $(cat "$work/snippets.log")"

exit "$failed"
