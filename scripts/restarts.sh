#!/usr/bin/env bash
# Restarts the upstream of a gateway with default settings, and prints what clients and the upstream notice. First, clients
# send 100,000 requests at a steady rate, while the upstream is killed or stopped every few seconds and is away for up to
# three. Then, 5000 clients wait while it is away for eight seconds, and 2000 of them leave. Fails if a client notices more
# than it has to, or if the upstream gets more than the slow start allows.
#
# REQUESTS (100000) and RATE (1000 per second) set other numbers, GATEWAY names a program that is already built. Needs
# Linux and strace, which it installs with apt-get if it may.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/common.sh
. scripts/common.sh
with_work_folder
build_outage

mkdir "$work/restarts" "$work/queue"
"$outage" restarts "$gateway" "$work/restarts" "${REQUESTS:-100000}" "${RATE:-1000}"
printf '\n'
"$outage" queue "$gateway" "$work/queue" 5000
