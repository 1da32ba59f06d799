#!/usr/bin/env bash
# Shows what clients see of every fault of delayed-backend: curl, Python's requests and httpx, and Node, over HTTP/1.1 and
# HTTP/2, with and without TLS. Prints two tables; with --write, they replace those in docs/faults.md. Clients that are not
# installed are left out. Takes about three minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/common.sh
. scripts/common.sh
with_work_folder
install_missing curl node:nodejs
build -p delayed-backend --bin delayed-backend

python3 -m venv "$work/python"
"$work/python/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: -r scripts/faults/requirements.txt
"$work/python/bin/python" scripts/faults "$(executable delayed-backend)" "$work" "$@"
