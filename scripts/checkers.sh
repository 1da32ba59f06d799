#!/usr/bin/env bash
# Prints the folder with the programs from checkers.txt. Installs them into target/checkers first if necessary.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=target/checkers
if ! cmp -s scripts/checkers.txt "$folder/installed.txt"; then
    rm -rf "$folder"
    {
        python3 -m venv "$folder"
        "$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: -r scripts/checkers.txt
        "$folder/bin/pip" check --disable-pip-version-check
    } >&2
    cp scripts/checkers.txt "$folder/installed.txt"
fi
printf '%s\n' "$PWD/$folder/bin"
