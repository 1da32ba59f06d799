#!/usr/bin/env bash
# Packages each crate as for a registry, and compiles and tests the examples in its documentation outside the repository.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cargo package --workspace --locked --no-verify --allow-dirty --quiet --target-dir "$work/target" 2>"$work/log" ||
    { cat "$work/log" >&2; exit 1; }
# The packages depend on each other by version, so they are one workspace and replace what a registry would have.
{
    # With the same profile, what was built for the tests is not built again.
    sed -n '/^\[profile.dev\]$/,/^$/p' Cargo.toml
    printf '[workspace]\nresolver = "3"\nmembers = ["*-[0-9]*"]\n\n[patch.crates-io]\n'
    for package in "$work"/target/package/*.crate; do
        tar -xzf "$package" -C "$work"
        name=$(basename "$package" .crate)
        printf '%s = { path = "%s" }\n' "${name%-*}" "$name"
    done
} >"$work/Cargo.toml"
cp Cargo.lock "$work/"
cargo test --doc --workspace --all-features --offline --manifest-path "$work/Cargo.toml" --target-dir target
printf 'Every crate can be packaged, and its examples pass without the repository.\n'
