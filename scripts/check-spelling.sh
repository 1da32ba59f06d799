#!/usr/bin/env bash
# Runs typos, in the version that checkers.txt names, on all files that Git tracks. Its exceptions are in .typos.toml.
# Fails if typos cannot be installed and CI is `true`.
set -euo pipefail
cd "$(dirname "$0")/.."

if tools=$(scripts/checkers.sh); then
    "$tools/typos"
    printf 'typos found no misspelling.\n'
else
    printf 'NOT CHECKED: spelling, as typos cannot be installed (see above)\n' >&2
    [ "${CI-}" != true ]
fi
