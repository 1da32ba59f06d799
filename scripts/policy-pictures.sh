#!/usr/bin/env bash
# Runs the simulation and updates the picture, the CSV files and the tables in docs/choosing-a-policy.md. With --check it
# changes nothing, and fails if they are out of date.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1-}" in
'') check=false ;;
--check) check=true ;;
*) printf 'usage: %s [--check]\n' "$0" >&2 && exit 2 ;;
esac

guide=docs/choosing-a-policy.md
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
mkdir "$fresh/pictures"
# Optimized, but with dependencies as for the tests, which may have been built already.
cargo run --quiet --locked --config profile.dev.package.retry-core.opt-level=3 --example simulation -- --out "$fresh/pictures" >"$fresh/tables.md"

[ "$(grep -cxFf <(grep '^<!-- ' "$fresh/tables.md") "$guide")" = 4 ] || {
    printf '%s lacks the markers around the tables\n' "$guide" >&2
    exit 1
}
# Replaces what is between the markers with the text between the same markers in the first file.
awk '
    FNR == NR {
        if (/^<!-- end of /) { name = "" }
        else if (/^<!-- /) { name = $0 }
        else { table[name] = table[name] $0 "\n" }
        next
    }
    /^<!-- end of / { inside = 0 }
    !inside
    $0 in table { inside = 1; printf "%s", table[$0] }
' "$fresh/tables.md" "$guide" >"$fresh/guide.md"

if $check; then
    diff -u "$guide" "$fresh/guide.md"
    # Other scripts draw other pictures.
    for file in "$fresh"/pictures/*; do diff "docs/pictures/${file##*/}" "$file"; done
else
    cp "$fresh/guide.md" "$guide"
    cp "$fresh"/pictures/* docs/pictures/
fi
