#!/usr/bin/env bash
# Checks the packages in Cargo.lock with cargo-deny and the rules in deny.toml: licenses, bans, sources, and known
# vulnerabilities. Installs cargo-deny into target/tools if it is missing, which takes some minutes. The advisory
# database comes from GitHub. If it cannot be fetched, the script checks the rest and exits with 3.
#
#   scripts/audit.sh [--without-advisories]
set -euo pipefail
cd "$(dirname "$0")/.."

VERSION=0.20.2
case ${1-} in
'') advisories=true ;;
--without-advisories) advisories=false ;;
*) printf 'usage: %s [--without-advisories]\n' "$0" >&2; exit 2 ;;
esac

if [ "$(cargo deny --version 2>/dev/null)" != "cargo-deny $VERSION" ]; then
    PATH=$PWD/target/tools/bin:$PATH
    cargo install --locked --quiet --root target/tools --target-dir target/tools/build "cargo-deny@$VERSION"
fi

failed=0
cargo deny --locked check licenses bans sources || failed=1

if $advisories; then
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    if cargo deny fetch db >"$log" 2>&1; then
        cargo deny --frozen check advisories || failed=1
    else
        cat "$log" >&2
        printf 'audit: NOT CHECKED: known vulnerabilities, as the advisory database cannot be fetched (see above)\n' >&2
        [ "$failed" != 0 ] || failed=3
    fi
fi
exit "$failed"
