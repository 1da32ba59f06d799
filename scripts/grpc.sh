#!/usr/bin/env bash
# Makes unary calls and streams with gRPC's own server and client (grpcio): through the client library to the server, and with
# gRPC's client through the gateway. The server fails one call of five, half of these without a head (Trailers-Only). With
# retries, no call may fail; without, each has to end with its status, details and trailers. Installs grpcio into target/grpc.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/common.sh
. scripts/common.sh

calls=${1-100000}
[[ $calls =~ ^[0-9]{1,8}$ ]] || { echo 'Usage: scripts/grpc.sh [CALLS (100000)]' >&2; exit 2; }

with_work_folder
packages=(grpcio==1.85.3 typing-extensions==4.16.0)
if [ "$(cat target/grpc/installed.txt 2>/dev/null)" != "${packages[*]}" ]; then
    rm -rf target/grpc
    python3 -m venv target/grpc
    target/grpc/bin/pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: "${packages[@]}"
    printf '%s' "${packages[*]}" >target/grpc/installed.txt
fi
python=target/grpc/bin/python

build --release -p retry-service -p retry-client --bin retry-service --example grpc
service=$(executable retry-service) client=$(executable grpc)
unset "${!RETRY_SERVICE_@}"

# start_server: starts a server to which no call has been made, and sets `server` to its address.
start_server() { serve server "$python" scripts/grpc_calls.py server; server=$address; }

# start_gateway <flags ...>: starts a gateway to the server, and sets `address`. Even on a machine that is busy, trailers arrive
# within the time for which it buffers.
start_gateway() {
    serve gateway "$service" --forward --listen 127.0.0.1:0 --upstream "http://$server" --upstream-http2 --interval 1ms \
        --budget-ratio off --response-buffer-time 10s "$@"
}

for retries in off unbuffered buffered; do
    start_server
    say "client library, $retries: $("$client" "http://$server" "$calls" "$retries")"
done
for codes in off UNAVAILABLE; do
    start_server
    start_gateway --grpc-status-codes "$codes"
    # Failed calls are retried only with the setting.
    if [ "$codes" = off ]; then plan=always; else plan=once; fi
    say "gateway, --grpc-status-codes $codes: $("$python" scripts/grpc_calls.py unary "$address" "$calls" "$plan")"
    say "gateway, streams: $("$python" scripts/grpc_calls.py streams "$address")"
    if [ "$codes" = UNAVAILABLE ]; then
        say "gateway, after the last attempt: $("$python" scripts/grpc_calls.py unary "$address" "$((calls / 10))" always)"
    fi
done
say "without the gateway, streams: $("$python" scripts/grpc_calls.py streams "$server")"
