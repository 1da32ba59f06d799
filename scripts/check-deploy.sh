#!/usr/bin/env bash
# Checks the files in docs/deploy with systemd-analyze, the schemas of Kubernetes and Compose, and hadolint. All but the
# first come from checkers.txt. Lists what could not be checked, and fails in that case if CI is `true`. The settings in
# these files are tested in crates/retry-service/tests/deploy.rs.
set -euo pipefail
cd "$(dirname "$0")/../docs/deploy"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

check() {
    local what=$1
    shift
    if "$@" >"$work/out" 2>&1; then printf 'ok       %s\n' "$what"; else printf 'FAILED   %s\n%s\n' "$what" "$(cat "$work/out")"; failed=1; fi
}
skipped=()
skip() { skipped+=("$1"); }

if command -v systemd-analyze >/dev/null; then
    # The program does not have to be installed.
    mkdir -p "$work/unit"
    sed "s|/usr/local/bin/retry-service|$(command -v true)|" retry-service.service >"$work/unit/retry-service.service"
    check 'retry-service.service: systemd-analyze verify' systemd-analyze verify --man=no "$work/unit/retry-service.service"
else
    skip 'retry-service.service: no systemd-analyze'
fi

if tools=$(../../scripts/checkers.sh); then
    for manifest in sidecar.yaml replicas.yaml; do
        check "$manifest: Kubernetes' schema, strict" "$tools/kubernetes-validate" --strict "$manifest"
    done
    check "compose.yaml: Compose's schema" "$tools/check-jsonschema" --builtin-schema vendor.compose-spec compose.yaml
    check 'Containerfile: hadolint' "$tools/hadolint" Containerfile
else
    skip 'sidecar.yaml, replicas.yaml, compose.yaml, Containerfile: their checkers cannot be installed (see above)'
fi

if [ ${#skipped[@]} -gt 0 ]; then
    printf 'NOT CHECKED: %s\n' "${skipped[@]}" >&2
    [ "${CI-}" != true ] || failed=1
fi
exit "$failed"
