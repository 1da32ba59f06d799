#!/usr/bin/env bash
# Checks what can be checked of `rust-version` without that toolchain: every crate has the workspace's and takes the
# workspace's lints, among which `incompatible_msrv` refuses newer parts of the standard library, and no package in the
# lock file needs a newer Rust. Newer syntax is for that toolchain to refuse: where it is installed, the crates are
# compiled with it (the job in .github/workflows/ci.yml installs it).
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

metadata=$(cargo metadata --locked --format-version 1 --all-features)
python3 - "$version" 3<<<"$metadata" <<'PYTHON'
import json, os, sys

def parts(version):
    numbers = [int(number) for number in version.split("-")[0].split(".")]
    return numbers + [0] * (3 - len(numbers))

ours = sys.argv[1]
packages = json.load(os.fdopen(3))["packages"]
newer = [p for p in packages if p["rust_version"] and parts(p["rust_version"]) > parts(ours)]
for package in newer:
    print(f"check-rust-version: {package['name']} {package['version']} needs Rust {package['rust_version']}, ours is {ours}", file=sys.stderr)
if newer:
    sys.exit(1)
print(f"None of {len(packages)} packages needs a newer Rust than {ours}.")
PYTHON

if rustup run "$version" rustc --version >/dev/null 2>&1; then
    rustup run "$version" cargo check --locked --quiet --workspace --all-features --target-dir "target/rust-$version"
    printf 'The crates compile with Rust %s.\n' "$version"
else
    printf 'NOT CHECKED: the crates with Rust %s itself, which is not installed\n' "$version" >&2
fi
