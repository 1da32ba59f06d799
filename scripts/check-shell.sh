#!/usr/bin/env bash
# Runs ShellCheck, in the version that checkers.txt names, on every shell script. Fails if it cannot be installed and CI
# is `true`.
set -euo pipefail
cd "$(dirname "$0")/.."

# Scripts are recognized by their first line.
scripts=()
while IFS= read -r file; do
    if head -n 1 "$file" | grep -qE '^#!.*\b(ba|da)?sh\b'; then scripts+=("$file"); fi
done < <(find . \( -name .git -o -name target -o -name corpus -o -name artifacts \) -prune -o -type f -print)
[ ${#scripts[@]} -gt 0 ] || { printf 'check-shell: no scripts found\n' >&2; exit 1; }

if tools=$(scripts/checkers.sh); then
    "$tools/shellcheck" "${scripts[@]}"
    printf 'ShellCheck passes on %s scripts.\n' "${#scripts[@]}"
else
    printf 'NOT CHECKED: shell scripts, as ShellCheck cannot be installed (see above)\n' >&2
    [ "${CI-}" != true ]
fi
