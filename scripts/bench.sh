#!/usr/bin/env bash
# Compares the gateway with other proxies in one run, in alternation, with one processor for the proxy and another for
# the load and the backend. Prints medians and ratios; the absolute numbers depend on the machine.
#
#   scripts/bench.sh [healthy] [flaky] [held]     all three by default
#
# ROUNDS (3), SECONDS_EACH (4), CONNECTIONS (64) and HELD (9000) set the extent, PEERS the contenders. Installs nginx,
# HAProxy, wrk and make with apt-get if it may. Envoy takes part if it is on the path, $ENVOY names it, or
# compare-faults.py has downloaded it. Everything listens on loopback, on ports from $PORT (21000) up.
set -euo pipefail
cd "$(dirname "$0")/.."

ROUNDS=${ROUNDS:-3} SECONDS_EACH=${SECONDS_EACH:-4} CONNECTIONS=${CONNECTIONS:-64} HELD=${HELD:-9000} PORT=${PORT:-21000}
ENVOY=${ENVOY:-$(command -v envoy || find target/envoy -type f -name envoy 2>/dev/null || true)}
PROXY_CPU=0 LOAD_CPU=1
# shellcheck source=scripts/common.sh
. scripts/common.sh
with_work_folder
unset pids
declare -A address pids

# --- Setup ------------------------------------------------------------------------------------------------------------

PATH=$PATH:/usr/sbin
install_missing nginx haproxy wrk make
command -v wrk >/dev/null || { say "bench: wrk is not installed" >&2; exit 1; }
[ "$(nproc)" -ge 2 ] || { say "bench: needs two processors" >&2; exit 1; }

peers=(bare gateway)
for peer in nginx haproxy; do command -v "$peer" >/dev/null && peers+=("$peer"); done
[ -n "$ENVOY" ] && peers+=(envoy)
[ -n "${PEERS:-}" ] && read -ra peers <<<"$PEERS"

build_gateway
# Built apart from the gateway, because an example enables features of dev-dependencies.
build --release -p retry-service --example bench
bench=$(executable bench)

# start <name> <cpu> <address> <command ...>: starts a program and waits until it listens.
start() {
    local name=$1 cpu=$2 listen=$3
    shift 3
    taskset -c "$cpu" "$@" >"$work/$name.log" 2>&1 &
    pids[$name]=$! address[$name]=$listen
    wait_for_port "$name" "${pids[$name]}" "${listen%:*}" "${listen#*:}"
}

stop() {
    kill "${pids[$1]}" 2>/dev/null || true
    wait "${pids[$1]}" 2>/dev/null || true
    unset "pids[$1]"
}

next_port() { PORT=$((PORT + 1)); }

# start_proxy <peer> <upstream> <gateway's flags ...>
start_proxy() {
    local peer=$1 upstream=$2 listen config
    shift 2
    next_port
    listen=127.0.0.1:$PORT config=$work/$peer.$PORT
    case $peer in
    bare) start "$peer" $PROXY_CPU "$listen" "$bench" bare-proxy "$listen" "$upstream" ;;
    gateway)
        RUST_LOG=error start "$peer" $PROXY_CPU "$listen" \
            "$gateway" --forward --listen "$listen" --upstream "http://$upstream" "$@" ;;
    nginx)
        cat >"$config" <<NGINX
daemon off; worker_processes 1; worker_rlimit_nofile 20000; pid $config.pid; error_log /dev/null;
events { worker_connections 19900; }
http {
    access_log off; keepalive_requests 1000000000; proxy_temp_path $work/nginx-tmp; client_body_temp_path $work/nginx-body;
    fastcgi_temp_path $work/t1; uwsgi_temp_path $work/t2; scgi_temp_path $work/t3;
    upstream backend {
        $(for _ in 1 2 3 4; do echo "server $upstream max_fails=0;"; done)
        keepalive 256; keepalive_requests 1000000000;
    }
    server {
        listen $listen backlog=20000;
        location / {
            proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_next_upstream error timeout http_502 http_503 http_504; proxy_next_upstream_tries 4;
            proxy_read_timeout 600s;
        }
    }
}
NGINX
        start "$peer" $PROXY_CPU "$listen" nginx -c "$config" -e /dev/null ;;
    haproxy)
        cat >"$config" <<HAPROXY
global
    nbthread 1
    maxconn 9500
defaults
    mode http
    timeout connect 3s
    timeout client 600s
    timeout server 600s
    retries 3
    retry-on conn-failure empty-response response-timeout junk-response 502 503 504
    http-reuse always
frontend in
    bind $listen backlog 20000
    default_backend out
backend out
    server one $upstream pool-max-conn 256
HAPROXY
        start "$peer" $PROXY_CPU "$listen" haproxy -db -f "$config" ;;
    envoy)
        cat >"$config.yaml" <<ENVOY
static_resources:
  listeners:
  - address: { socket_address: { address: 127.0.0.1, port_value: $PORT } }
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          http_filters:
          - name: router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: { prefix: "/" }
                route:
                  cluster: backend
                  timeout: 600s
                  retry_policy:
                    retry_on: "connect-failure,reset,gateway-error"
                    num_retries: 3
                    retry_back_off: { base_interval: 0.001s, max_interval: 0.001s }
  clusters:
  - name: backend
    connect_timeout: 3s
    circuit_breakers:
      thresholds:
      - { max_connections: 20000, max_pending_requests: 20000, max_requests: 20000, max_retries: 20000 }
    load_assignment:
      cluster_name: backend
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: ${upstream#*:} } } }
ENVOY
        start "$peer" $PROXY_CPU "$listen" "$ENVOY" --concurrency 1 --disable-hot-restart --log-level off \
            --use-dynamic-base-id -c "$config.yaml" ;;
    esac
}

start_backend() {
    next_port
    start "$1" $LOAD_CPU "127.0.0.1:$PORT" "$bench" backend "127.0.0.1:$PORT" "$2"
}

# --- Measuring --------------------------------------------------------------------------------------------------------

# The process ids of a contender and its children.
tree() { printf '%s ' "$1"; ps -o pid= --ppid "$1" | tr '\n' ' '; }

# Its processor time so far, in clock ticks.
ticks() {
    local sum=0 id
    for id in $(tree "$1"); do sum=$((sum + $(awk '{ print $14 + $15 }' "/proc/$id/stat"))); done
    say "$sum"
}

# memory <pid> VmRSS|VmHWM: its memory in KiB.
memory() {
    local sum=0 id
    for id in $(tree "$1"); do sum=$((sum + $(awk -v what="$2:" '$1 == what { print $2 }' "/proc/$id/status"))); done
    say "$sum"
}

# load <address> <seconds>: prints requests, requests per second, p50 and p99 in ms, and responses other than 2xx.
load() {
    taskset -c $LOAD_CPU wrk -t1 -c"$CONNECTIONS" -d"$2"s --latency "http://$1/hello" | awk '
        function ms(t) { return t ~ /us$/ ? t / 1000 : t ~ /ms$/ ? t + 0 : t * 1000 }
        $1 == "50%" { p50 = ms($2) } $1 == "99%" { p99 = ms($2) }
        /requests in/ { n = $1 } /^Requests\/sec/ { rate = $2 } /Non-2xx/ { bad = $NF }
        END { print n, rate, p50, p99, bad + 0 }'
}

median() { sort -g | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

# compare <title> <backend's behaviour> <gateway's flags ...>
compare() {
    local title=$1 behaviour=$2 peer before after
    shift 2
    printf '\n%s\n' "$title"
    start_backend backend "$behaviour"
    local contenders=("${peers[@]}")
    for peer in "${contenders[@]}"; do start_proxy "$peer" "${address[backend]}" "$@"; done
    address[direct]=${address[backend]}
    for peer in direct "${contenders[@]}"; do load "${address[$peer]}" 1 >/dev/null; done
    for _ in $(seq "$ROUNDS"); do
        for peer in direct "${contenders[@]}"; do
            before=$([ "$peer" = direct ] || ticks "${pids[$peer]}")
            read -r n rate p50 p99 bad < <(load "${address[$peer]}" "$SECONDS_EACH")
            after=$([ "$peer" = direct ] || ticks "${pids[$peer]}")
            awk -v n="$n" -v a="${before:-0}" -v b="${after:-0}" -v hz="$(getconf CLK_TCK)" -v rest="$rate $p50 $p99 $bad" \
                'BEGIN { print rest, (b - a) * 1e6 / hz / n }' >>"$work/$peer.rounds"
        done
    done
    local reference=bare
    [ -f "$work/bare.rounds" ] || reference=${contenders[0]}
    printf '%-9s %9s %7s %9s %7s %9s %8s %8s %10s\n' '' requests/s ratio 'CPU us/rq' ratio 'p50 ms' 'p99 ms' 'peak MiB' 'not 2xx'
    local rate_of_bare cpu_of_bare
    rate_of_bare=$(cut -d' ' -f1 "$work/$reference.rounds" | median)
    cpu_of_bare=$(cut -d' ' -f5 "$work/$reference.rounds" | median)
    for peer in direct "${contenders[@]}"; do
        local rounds=$work/$peer.rounds
        printf '%s %s %s %s %s %s %s\n' "$peer" "$(cut -d' ' -f1 "$rounds" | median)" "$(cut -d' ' -f5 "$rounds" | median)" \
            "$(cut -d' ' -f2 "$rounds" | median)" "$(cut -d' ' -f3 "$rounds" | median)" \
            "$(if [ "$peer" = direct ]; then say 0; else memory "${pids[$peer]}" VmHWM; fi)" "$(awk '{ s += $4 } END { print s }' "$rounds")" |
            awk -v rate="$rate_of_bare" -v cpu="$cpu_of_bare" '{
                printf "%-9s %9.0f %7.2f %9s %7s %9.2f %8.2f %8s %10d\n", $1, $2, $2 / rate, $1 == "direct" ? "" : sprintf("%.1f", $3),
                    $1 == "direct" ? "" : sprintf("%.2f", $3 / cpu), $4, $5, $1 == "direct" ? "" : sprintf("%.1f", $6 / 1024), $7 }'
        rm -f "$rounds"
    done
    for peer in backend "${contenders[@]}"; do stop "$peer"; done
}

# hold <label> <peer> <backend> <gateway's flags ...>: prints the memory per waiting request.
hold() {
    local label=$1 peer=$2 backend=$3 before after
    shift 3
    start_proxy "$peer" "${address[$backend]}" "$@"
    before=$(memory "${pids[$peer]}" VmRSS)
    mkfifo "$work/end"
    taskset -c $LOAD_CPU "$bench" hold "${address[$peer]}" "$HELD" <"$work/end" >"$work/held" &
    pids[hold]=$!
    exec 4>"$work/end"
    for _ in $(seq 300); do
        grep -q holding "$work/held" && break
        sleep 0.1
    done
    # Lets requests and responses in flight settle.
    sleep 2
    after=$(memory "${pids[$peer]}" VmRSS)
    printf '%-28s %8.1f KiB each\n' "$label" "$(awk -v a="$before" -v b="$after" -v n="$HELD" 'BEGIN { print (b - a) / n }')"
    exec 4>&-
    rm "$work/end"
    stop hold
    stop "$peer"
}

wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=(healthy flaky held)
say "$(uname -sr), $(nproc) processors; $CONNECTIONS connections, $ROUNDS rounds of $SECONDS_EACH s; nginx $(nginx -v 2>&1 | sed 's/.*\///' || true), HAProxy $(haproxy -v 2>/dev/null | awk 'NR == 1 { print $3 }')"
for part in "${wanted[@]}"; do
    case $part in
    healthy) compare "A healthy backend, retries configured" ok ;;
    flaky)
        compare "Three of four responses are 503: four attempts per request on average and at most, without a wait" flaky \
            --interval 0 --jitter none --budget-ratio off ;;
    held)
        printf '\n%s\n' "$HELD waiting requests"
        start_backend hanging hang
        start_backend busy busy
        hold "gateway, in backoff" gateway busy --interval 1h --max-wait-interval 1h --jitter none --budget-ratio off
        for peer in "${peers[@]}"; do hold "$peer, no response" "$peer" hanging --timeout off --upstream-max-connections off; done ;;
    *) say "bench: $part: expected healthy, flaky or held" >&2; exit 1 ;;
    esac
done
