#!/usr/bin/env bash
# Runs the sample end to end: starts both programs, calls the service, prints each event with its predicted time, and
# fails at the first difference. Works with bash 3.2, as on macOS.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/common.sh
. scripts/common.sh

usage='Usage: scripts/demo.sh [--fast] [--backend-port N] [--service-port N]

Runs the retry sample and checks it. Exit code: 0 all as predicted, 1 a difference, 2 bad usage.

  --fast            run at five times the speed, with more tolerance for a busy machine
  --backend-port N  port of the backend (8080 in the sample)
  --service-port N  port of the service (9090 in the sample)
  --help            print this text

By default the demo uses free ports.'

refuse() { echo "demo.sh: $1; see --help" >&2 && exit 2; }
fail() { echo "Verdict: FAILED. $1" >&2 && exit 1; }

port() {
    [[ $2 =~ ^[0-9]{1,5}$ && $((10#$2)) -le 65535 ]] || refuse "$1 takes a port, not '$2'"
    echo "$((10#$2))"
}

speed=1 late=300 backend_port=0 service_port=0 # late: the tolerance in ms
while (($#)); do
    case $1 in
        --fast) speed=5 late=500 ;;
        --backend-port) backend_port=$(port "$1" "${2-}"); shift ;;
        --service-port) service_port=$(port "$1" "${2-}"); shift ;;
        --help) echo "$usage"; exit ;;
        *) refuse "unknown option '$1'" ;;
    esac
    shift
done

bold='' green='' cyan='' yellow='' plain=''
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    bold=$'\033[1m' green=$'\033[32m' cyan=$'\033[36m' yellow=$'\033[33m' plain=$'\033[0m'
fi

# --- Time, in milliseconds.

day=86400000 start=0

# Prints the time since the demo began, or before that, the time of day. Falls back to perl, which macOS includes, if
# neither bash 5 nor GNU date is available.
now() {
    local ms=${EPOCHREALTIME:-}
    ms=${ms/./} ms=${ms%???}
    [[ -n $ms ]] || ms=$(date +%s%3N)
    [[ $ms =~ ^[0-9]+$ ]] || ms=$(perl -MTime::HiRes=time -e 'printf "%d", time * 1000')
    echo $(((ms - start) % day))
}

# Prints $1 seconds of the sample at the demo's speed, as in the logs.
span() {
    local ms=$(($1 * 1000 / speed))
    if ((ms < 1000)); then echo "${ms}ms"; else printf '%gs' "${ms}e-3"; fi
}

# --- Processes. Each is a job of this shell, so that clean_up finds it.

# Stops a process, kills it after 5 s, and returns its exit status.
stop() {
    local tries
    kill "$1" 2>/dev/null || true
    for ((tries = 0; tries < 100; tries++)); do
        kill -0 "$1" 2>/dev/null || break
        sleep 0.05
    done
    kill -KILL "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null
}

clean_up() {
    trap '' HUP INT TERM
    local pids pid
    pids=$(jobs -p)
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    for pid in $pids; do stop "$pid" || true; done
    rm -rf "$dir"
}

# Starts $1, the backend or the service, waits until it serves, and sets `pid` and `port`.
launch() {
    local who=$1 log=$dir/$((launched += 1)).$1.log tries
    shift
    : >"$log"
    "$@" 2>"$log" &
    pid=$!
    for ((tries = 0; tries < 200; tries++)); do
        port=$(sed -n 's|.*"Serving http://.*:\([0-9]*\)"$|\1|p' "$log")
        [[ -z $port ]] || return 0
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    fail "The $who did not start: $(cat "$log")"
}

launch_backend() {
    launch backend "$delayed_backend" --listen "127.0.0.1:$backend_port" "$@"
    backend=$pid backend_port=$port
}

# Calls the service, and reads the response in the background.
call() {
    exec 3<>"/dev/tcp/127.0.0.1/$service_port"
    zero=$(now)
    echo "$zero GET /retry" >>"$dir/0.caller.log"
    printf 'GET /retry HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' >&3
    read_response <&3 &
    exec 3>&-
}

# Logs the status and the body; of an error in JSON, only its message.
read_response() {
    local status='' header='' body=''
    IFS= read -r status || true
    while IFS= read -r header && [[ $header != $'\r' ]]; do :; done
    IFS= read -r body || true
    status=${status#HTTP/1.1 } body=${body#\{*\"message\":\"}
    status=${status%$'\r'} body=${body%%\",\"*}
    echo "$(now) $status: $body" >>"$dir/9.caller.log"
}

# --- The timeline: actual and expected events.

# Expects as the next event: $1 seconds after the call (- for any time), from $2, a text that matches $3.
expect() {
    local due=$1
    [[ $due == - ]] || due=$((due * 1000 / speed))
    expected+=("$due|$2|$3")
}

# Prints all events so far as `ms who text`. Events in the same millisecond are in the order of the log files: the call
# comes first, its response last.
events() {
    awk -v start="$start" -v day="$day" '
        FNR == 1 { who = FILENAME; sub(/.*\/[0-9]+\./, "", who); sub(/\.log$/, "", who) }
        who == "caller" { at = $1; sub(/^[0-9]+ /, "") }
        /^time = / {
            split($4, t, /[:,]/)
            at = (((t[1] * 60 + t[2]) * 60 + t[3]) * 1000 + t[4] - start + day) % day
            sub(/.* message = "/, ""); sub(/"$/, "")
        }
        { print at, who, $0 }
    ' "$dir"/*.log | sort -s -n -k 1,1
}

# Prints and checks new events up to $1.
show() {
    local at who what
    while read -r at who what; do
        check "$((at - zero))" "$who" "$what"
    done < <(events | awk -v seen="$seen" -v until="$1" 'NR > seen && $1 <= until')
}

check() {
    local at=$1 who=$2 what=$3 due source pattern predicted='' measured difference color=$bold
    IFS='|' read -r due source pattern <<<"${expected[seen]:--|nobody|nothing more}"
    [[ $due == - ]] || predicted=$(printf '%+.1f' "${due}e-3")
    measured=$(printf '%+.3f' "${at}e-3")
    case $who in backend) color=$cyan ;; service) color=$yellow ;; esac
    printf "%9s  %9s  $color%-7s$plain  %s\n" "$measured" "$predicted" "$who" "${what#GET "$upstream"/hello: }"

    difference="
  expected: $source${predicted:+ at $predicted s, up to $late ms late}: $pattern
  seen:     $who at $measured s: $what"
    # shellcheck disable=SC2053 # The right side is a pattern.
    [[ $who == "$source" && $what == $pattern ]] || fail "$difference"
    if [[ $due != - ]]; then
        # Early only if the clock is being adjusted.
        ((at >= due - 20 && at <= due + late)) || fail "$difference"
        ((at - due <= latest)) || latest=$((at - due))
    fi
    seen=$((seen + 1))
}

# Follows the events until $1 seconds of the sample after the call, or until all expected ones have occurred. Prints
# each after 200 ms, so that earlier events from another log are not missed.
follow() {
    while (($(now) - zero < $1 * 1000 / speed && seen < ${#expected[@]})); do
        show "$(($(now) - 200))"
        sleep 0.05
    done
}

# Follows the events until all have occurred or the last is overdue. There may be no others.
finish() {
    follow 40
    show "$day"
    ((seen == ${#expected[@]})) || fail "
  expected: ${expected[seen]#*|}
  seen:     nothing"
}

scene() { printf '\n%s%s%s\n%s\n\n%9s  %9s  %-7s  %s\n' "$bold" "$1" "$plain" "$2" measured predicted who event; }

# --- The demo.

echo 'Building delayed-backend and retry-service ...'
# One at a time, as the README's commands build them.
build -p delayed-backend || fail 'The build failed'
delayed_backend=$(executable delayed-backend)
build -p retry-service || fail 'The build failed'
retry_service=$(executable retry-service)

# UTC makes the times in the logs comparable to ours. At normal speed, the programs get no settings but the addresses;
# with --fast, variables set the times.
export TZ=UTC0 LC_ALL=C RUST_LOG=info
unset "${!RETRY_SERVICE_@}" "${!DELAYED_BACKEND_@}"
if ((speed > 1)); then
    export DELAYED_BACKEND_DELAY RETRY_SERVICE_INTERVAL RETRY_SERVICE_MAX_WAIT_INTERVAL RETRY_SERVICE_TIMEOUT
    DELAYED_BACKEND_DELAY=$(span 5) RETRY_SERVICE_TIMEOUT=$(span 2)
    RETRY_SERVICE_INTERVAL=$(span 3) RETRY_SERVICE_MAX_WAIT_INTERVAL=$(span 20)
fi

start=$(now) zero=0 seen=0 latest=0 launched=0 expected=()
dir=$(mktemp -d)
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

serving='Serving http://127.0.0.1:*'
stopping='Stopping: requests in flight may finish'
delayed='Request received from the client to delayed service.'
healthy='Request received from the client to healthy service.'
failed() { echo "GET $upstream/hello: attempt $1 of 4 failed: $2; $3"; }
timed_out() { failed "$1" "idle timeout: nothing was read or written for $(span 2)" "next attempt in $(span "$2")"; }
refused() { failed "$1" "cannot connect to ${upstream#http://}: Connection refused*" "${3-next attempt in $(span "$2")}"; }

scene '1. The delayed backend' \
    "Three of four requests take $(span 5), and the service times out after $(span 2): its fourth attempt succeeds."
launch_backend
upstream=http://127.0.0.1:$backend_port
launch service "$retry_service" --listen "127.0.0.1:$service_port" --upstream "$upstream"
service=$pid service_port=$port
expect - backend "$serving"
expect - service "$serving"
expect 0 caller 'GET /retry'
expect 0 backend "$delayed"
expect 2 service "$(timed_out 1 3)"
expect 5 backend "$delayed"
expect 7 service "$(timed_out 2 6)"
expect 13 backend "$delayed"
expect 15 service "$(timed_out 3 12)"
expect 27 backend "$healthy"
expect 27 caller '200 OK: Hello World!!!'
call
finish

scene '2. The outage' 'The backend is stopped: the service responds with 502 after its last attempt.'
stop "$backend" || fail "The backend ended with exit code $?, not 0"
expect - backend "$stopping"
expect 0 caller 'GET /retry'
expect 0 service "$(refused 1 3)"
expect 3 service "$(refused 2 6)"
expect 9 service "$(refused 3 12)"
expect 21 service "$(refused 4 - 'no retries left')"
expect 21 caller '502 Bad Gateway: Something wrong with the connection: Connection refused*'
call
finish

scene '3. The outage ends' \
    'The backend is restarted during a call, healthy from its first request on: the call succeeds.'
expect 0 caller 'GET /retry'
expect 0 service "$(refused 1 3)"
expect 3 service "$(refused 2 6)"
expect 6 backend "$serving"
expect 9 backend "$healthy"
expect 9 caller '200 OK: Hello World!!!'
call
follow 6
launch_backend --healthy-every 1
finish

stop "$service" || fail "The service ended with exit code $?, not 0"
stop "$backend" || fail "The backend ended with exit code $?, not 0"
expect - service "$stopping"
expect - backend "$stopping"
finish
printf '\n%sVerdict: all as predicted: %s events in order, none more than %s ms late.%s\n' \
    "$green" "$seen" "$latest" "$plain"
