#!/usr/bin/env bash
# Runs the same attacks against the gateway, nginx and HAProxy, a few seconds each, and prints a table: the resources
# that each uses during and after the attack, and how well-behaved clients fare meanwhile (20 GETs a second, each on its
# own connection). All three have the same limits: 2 s for every wait for a client or the upstream, and 128 connections
# to the upstream. A star marks where the gateway is worse than twice the better of the others.
#
#   scripts/attacks.sh [attack ...]     all by default; `scripts/attacks.py list` names them
#
# SECONDS_EACH (4) sets how long an attack lasts, SECONDS_AFTER (2) when the memory is read again, PEERS the contenders,
# and GATEWAY a program that is already built. Installs nginx and HAProxy with apt-get if it may. Everything listens on
# loopback, on ports from $PORT (23000) up. Needs Linux and Python 3.
set -euo pipefail
cd "$(dirname "$0")/.."

PORT=${PORT:-23000}
PATH=$PATH:/usr/sbin
# shellcheck source=scripts/common.sh
. scripts/common.sh
with_work_folder
# If nginx starts as root, its workers run as another user and need access to their temporary files.
chmod 711 "$work"
declare -A pid

stop() {
    kill -KILL "${pid[$1]}" 2>/dev/null || true
    wait "${pid[$1]}" 2>/dev/null || true
    unset "pid[$1]"
}

# nginx stops its workers only on SIGTERM.
stop_nginx() {
    kill -TERM "${pid[nginx]}" 2>/dev/null || true
    wait "${pid[nginx]}" 2>/dev/null || true
    unset "pid[nginx]"
}

clean_up() {
    [ -z "${pid[nginx]-}" ] || stop_nginx
    for name in "${!pid[@]}"; do stop "$name"; done
    rm -rf "$work"
}

# --- Setup ------------------------------------------------------------------------------------------------------------

install_missing nginx haproxy
peers=(gateway)
for peer in nginx haproxy; do
    if command -v "$peer" >/dev/null; then peers+=("$peer"); else say "LEFT OUT: $peer, which is not installed"; fi
done
[ -z "${PEERS:-}" ] || read -ra peers <<<"$PEERS"
ulimit -n 8192 2>/dev/null || true

gateway=${GATEWAY-}
[ -n "$gateway" ] || build_gateway

# start <name> <port> <command ...>: starts a program and waits until it listens.
start() {
    local name=$1 port=$2
    shift 2
    "$@" >"$work/$name.log" 2>&1 &
    pid[$name]=$!
    wait_for_port "$name" "${pid[$name]}" 127.0.0.1 "$port"
}

# start_proxy <peer>: starts a proxy and sets h1 and h2, its ports for HTTP/1.1 and HTTP/2 with prior knowledge.
start_proxy() {
    local peer=$1 config
    PORT=$((PORT + 2))
    h1=$PORT h2=$PORT config=$work/$peer.$PORT
    case $peer in
    gateway)
        RUST_LOG=error start "$peer" "$h1" "$gateway" --forward --listen "127.0.0.1:$h1" --upstream "http://127.0.0.1:$upstream" \
            --header-timeout 2s --client-timeout 2s --timeout 2s --connect-timeout 2s --upstream-max-connections 128
        ;;
    nginx)
        # Before 1.25.1, a port for HTTP/2 serves nothing else.
        h2=$((PORT + 1))
        cat >"$config" <<NGINX
daemon off; worker_processes 1; pid $config.pid; error_log /dev/null;
events { worker_connections 4000; }
http {
    access_log off; proxy_temp_path $work/nginx-tmp; client_body_temp_path $work/nginx-body;
    fastcgi_temp_path $work/t1; uwsgi_temp_path $work/t2; scgi_temp_path $work/t3;
    client_header_timeout 2s; client_body_timeout 2s; send_timeout 2s; keepalive_timeout 2s;
    client_max_body_size 64m;
    map \$http_upgrade \$connection_header { default upgrade; "" ""; }
    upstream backend {
        $(for _ in 1 2 3 4; do echo "server 127.0.0.1:$upstream max_fails=0 max_conns=32;"; done)
        keepalive 128;
    }
    server {
        listen 127.0.0.1:$h1 backlog=4096;
        listen 127.0.0.1:$h2 http2 backlog=4096;
        location / {
            proxy_pass http://backend; proxy_http_version 1.1;
            proxy_set_header Connection \$connection_header; proxy_set_header Upgrade \$http_upgrade;
            proxy_next_upstream error timeout http_502 http_503 http_504; proxy_next_upstream_tries 4;
            proxy_connect_timeout 2s; proxy_send_timeout 2s; proxy_read_timeout 2s;
        }
        location = /tunnel {
            proxy_pass http://backend; proxy_http_version 1.1;
            proxy_set_header Connection \$connection_header; proxy_set_header Upgrade \$http_upgrade;
            proxy_read_timeout 600s;
        }
    }
}
NGINX
        start "$peer" "$h1" nginx -c "$config" -e /dev/null
        ;;
    haproxy)
        cat >"$config" <<HAPROXY
global
    nbthread 1
    maxconn 2000
defaults
    mode http
    timeout connect 2s
    timeout queue 2s
    timeout client 2s
    timeout http-request 2s
    timeout http-keep-alive 2s
    timeout server 2s
    timeout tunnel 600s
    option abortonclose
    retries 3
    retry-on conn-failure empty-response response-timeout junk-response 502 503 504
    http-reuse always
frontend in
    bind 127.0.0.1:$h1 backlog 4096
    default_backend out
backend out
    server one 127.0.0.1:$upstream maxconn 128
HAPROXY
        start "$peer" "$h1" haproxy -db -f "$config"
        ;;
    *) say "attacks: $peer: expected gateway, nginx or haproxy" >&2; exit 1 ;;
    esac
}

# --- Attacking --------------------------------------------------------------------------------------------------------

attacks=("$@")
[ ${#attacks[@]} -gt 0 ] || mapfile -t attacks < <(scripts/attacks.py list)
say "$(uname -sr), $(nproc) processors; nginx $(nginx -v 2>&1 | sed 's/.*\///' || true), HAProxy $(haproxy -v 2>/dev/null | awk 'NR == 1 { print $3 }' || true)"
say "Above idle: peak memory, processor time, and sockets at the end of ${SECONDS_EACH:-4} s; memory and sockets ${SECONDS_AFTER:-2} s after the attack."
say
scripts/attacks.py columns
for attack in "${attacks[@]}"; do
    title=$(scripts/attacks.py title "$attack")
    : >"$work/rows"
    for peer in "${peers[@]}"; do
        # With a new upstream, so that no attack affects the next.
        PORT=$((PORT + 2)) upstream=$PORT
        start upstream "$upstream" python3 scripts/attacks.py upstream "$upstream"
        start_proxy "$peer"
        measured=$(python3 scripts/attacks.py run "$attack" "${pid[$peer]}" "$h1" "$h2")
        printf '%s\t%s\n' "$peer" "$measured" >>"$work/rows"
        if [ "$peer" = nginx ]; then stop_nginx; else stop "$peer"; fi
        stop upstream
    done
    say "$attack: $title"
    scripts/attacks.py table "$work/rows"
done
