#!/usr/bin/env bash
# Measures an outage with and without waiting requests, and draws it for docs/gateway.md. GATEWAY names a program that is
# already built. Needs Linux and strace, which it installs with apt-get if it may.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/common.sh
. scripts/common.sh
with_work_folder
build_outage
"$outage" picture "$gateway" "$work" docs/pictures/outage-wait.svg
