#!/usr/bin/env bash
# Records an outage of about 60 seconds with the gateway's --record-faults, and replays it with delayed-backend --replay under
# the same load. Each attempt has to meet the same outcome, and the gateway's metrics have to agree within 5 %. Prints both
# side by side. With --fast, the outage takes a few seconds, and only what does not depend on time is compared.
#
# GATEWAY and BACKEND name programs that are already built.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/common.sh
. scripts/common.sh
with_work_folder
gateway=${GATEWAY-} backend=${BACKEND-}
if [ -z "$gateway" ] || [ -z "$backend" ]; then
    build --release -p retry-service -p delayed-backend --bin retry-service --bin delayed-backend
    gateway=${gateway:-$(executable retry-service)} backend=${backend:-$(executable delayed-backend)}
fi
python3 scripts/record-replay.py "$gateway" "$backend" "$work" "$@"
