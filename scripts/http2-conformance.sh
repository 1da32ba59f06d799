#!/usr/bin/env bash
# Checks every HTTP/2 server in this repository against RFC 9113 and RFC 7541: the gateway, the sample's service, the
# backend and the admin listener. Passes its arguments to http2-conformance.py. RETRY_SERVICE_BINARY and
# DELAYED_BACKEND_BINARY name programs that are already built.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
pids=()
clean_up() {
    for id in "${pids[@]}"; do kill "$id" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

service=${RETRY_SERVICE_BINARY-} backend=${DELAYED_BACKEND_BINARY-}
if [ -z "$service" ] || [ -z "$backend" ]; then
    packages=(-p delayed-backend -p retry-service --bins)
    built=$(cargo build --locked --quiet --message-format=json-render-diagnostics "${packages[@]}")
    executable() { sed -n 's|.*"executable":"\([^"]*/'"$1"'\)".*|\1|p' <<<"$built"; }
    service=${service:-$(executable retry-service)} backend=${backend:-$(executable delayed-backend)}
fi
unset "${!RETRY_SERVICE_@}" "${!DELAYED_BACKEND_@}"

# address <name> <text>: prints the address that follows this text in a log.
address() { sed -n 's|.*'"$2"' http://\([0-9.:]*\).*|\1|p' "$work/$1.log" | head -n 1; }

# serve <name> <command ...>: starts a program and waits until it serves.
serve() {
    local name=$1
    shift
    # The redirection below happens in the new process, which may be slow to start.
    : >"$work/$name.log"
    RUST_LOG=info "$@" --listen 127.0.0.1:0 2>"$work/$name.log" &
    pids+=($!)
    for _ in $(seq 200); do
        [ -z "$(address "$name" Serving)" ] || return 0
        kill -0 "${pids[-1]}" 2>/dev/null || break
        sleep 0.05
    done
    printf 'http2-conformance: %s does not start: %s\n' "$name" "$(cat "$work/$name.log")" >&2
    exit 1
}

serve backend "$backend" --script ok
upstream=http://$(address backend Serving)
serve gateway "$service" --forward --upstream "$upstream" --admin 127.0.0.1:0
serve sample "$service" --upstream "$upstream"
for _ in $(seq 200); do
    admin=$(address gateway 'Admin on')
    [ -z "$admin" ] || break
    sleep 0.05
done

python3 scripts/http2-conformance.py "$@" "gateway=http://$(address gateway Serving)/echo" \
    "sample=http://$(address sample Serving)/retry" "backend=$upstream/echo" "admin=http://$admin/config"
