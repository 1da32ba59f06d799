#!/usr/bin/env bash
# Checks that the files which two programs share are identical.
set -euo pipefail
cd "$(dirname "$0")/../crates"

diff -r retry-service/src/common delayed-backend/src/common || {
    echo 'check-common: the files in src/common must be the same in retry-service and delayed-backend' >&2
    exit 1
}
echo 'The files in src/common are the same in both programs.'
