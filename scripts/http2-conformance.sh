#!/usr/bin/env bash
# Checks every HTTP/2 server in this repository against RFC 9113 and RFC 7541: the gateway, the sample's service, the
# backend and the admin listener. Passes its arguments to http2-conformance.py. RETRY_SERVICE_BINARY and
# DELAYED_BACKEND_BINARY name programs that are already built.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/common.sh
. scripts/common.sh
with_work_folder

service=${RETRY_SERVICE_BINARY-} backend=${DELAYED_BACKEND_BINARY-}
if [ -z "$service" ] || [ -z "$backend" ]; then
    build -p delayed-backend -p retry-service --bins
    service=${service:-$(executable retry-service)} backend=${backend:-$(executable delayed-backend)}
fi
unset "${!RETRY_SERVICE_@}" "${!DELAYED_BACKEND_@}"

any=127.0.0.1:0
serve backend "$backend" --listen $any --script ok
upstream=http://$address
serve sample "$service" --listen $any --upstream "$upstream"
sample=http://$address
serve gateway "$service" --listen $any --forward --upstream "$upstream" --admin $any
for _ in $(seq 200); do
    admin=$(sed -n 's|.*Admin on http://\([0-9.:]*\).*|\1|p' "$work/gateway.log")
    [ -z "$admin" ] || break
    sleep 0.05
done

python3 scripts/http2-conformance.py "$@" "gateway=http://$address/echo" "sample=$sample/retry" "backend=$upstream/echo" \
    "admin=http://$admin/config"
