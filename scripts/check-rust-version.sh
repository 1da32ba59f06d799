#!/usr/bin/env bash
# Checks `rust-version` as far as that is possible without that toolchain: every crate inherits the workspace's version
# and its lints, and the lint `incompatible_msrv` denies newer parts of the standard library. If the toolchain is
# installed, the crates are compiled with it, which finds newer syntax; a job in .github/workflows/ci.yml installs it.
# The packages in Cargo.lock are checked by scripts/check-packages.py.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n 's/^rust-version = "\([0-9.]*\)"$/\1/p' Cargo.toml)
[ -n "$version" ] || { printf 'check-rust-version: Cargo.toml has no rust-version\n' >&2; exit 1; }
grep -qx 'incompatible_msrv = "deny"' Cargo.toml || { printf 'check-rust-version: Cargo.toml does not deny incompatible_msrv\n' >&2; exit 1; }
for manifest in crates/*/Cargo.toml; do
    grep -qx 'rust-version.workspace = true' "$manifest" || { printf "check-rust-version: %s lacks the workspace's rust-version\n" "$manifest" >&2; exit 1; }
    awk '/^\[/ { inside = $0 == "[lints]" } inside && $0 == "workspace = true" { found = 1 } END { exit !found }' "$manifest" ||
        { printf "check-rust-version: %s lacks the workspace's lints\n" "$manifest" >&2; exit 1; }
done

if rustup run "$version" rustc --version >/dev/null 2>&1; then
    rustup run "$version" cargo check --locked --quiet --workspace --all-features --target-dir "target/rust-$version"
    printf 'The crates compile with Rust %s.\n' "$version"
else
    printf 'NOT CHECKED: whether the crates compile with Rust %s, which is not installed\n' "$version" >&2
fi
