#!/usr/bin/env bash
# Runs the simulation and updates the picture, the CSV files and the table in docs/choosing-a-policy.md. With --check it
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
cargo run --quiet --locked --release -p retry-core --example simulation -- --out "$fresh/pictures" >"$fresh/table.md"

[ "$(grep -cxE '<!-- (end of )?simulation -->' "$guide")" = 2 ] || {
    printf '%s lacks the markers around the table\n' "$guide" >&2
    exit 1
}
awk -v table="$fresh/table.md" '
    $0 == "<!-- end of simulation -->" { inside = 0 }
    !inside
    $0 == "<!-- simulation -->" { inside = 1; while ((getline line < table) > 0) print line }
' "$guide" >"$fresh/guide.md"

if $check; then
    diff -u "$guide" "$fresh/guide.md"
    # Other scripts draw other pictures.
    for file in "$fresh"/pictures/*; do diff "docs/pictures/${file##*/}" "$file"; done
else
    cp "$fresh/guide.md" "$guide"
    cp "$fresh"/pictures/* docs/pictures/
fi
