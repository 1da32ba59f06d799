#!/usr/bin/env bash
# Kills the backend and starts it again, at random, while many callers GET their own numbers from it.
# The client's report goes to standard output and nowhere else. Needs Linux: it reads /proc.
set -euo pipefail

usage='Usage: scripts/soak.sh [--minutes N | --seconds N] [--concurrency N] [--http2] [--seed N]

Shows that no caller loses its answer to a server that comes and goes, and that the client keeps nothing.
Exit code: 0 so it was, 1 not so, 2 bad usage.

  --minutes N      how long (2)
  --seconds N      the same in seconds; 20 is enough for a first look
  --concurrency N  how many callers at a time (32)
  --http2          HTTP/2 with prior knowledge instead of HTTP/1.1
  --seed N         for the times of kills and starts (a new one each time, and printed)
  --help           this text'

refuse() { echo "soak.sh: $1; see --help" >&2 && exit 2; }

whole() {
    [[ $2 =~ ^[0-9]{1,5}$ && $((10#$2)) -gt 0 ]] || refuse "$1 takes a whole number from 1 to 99999, not '$2'"
    echo "$((10#$2))"
}

seconds=120 concurrency=32 protocol='' seed=$RANDOM
while (($#)); do
    case $1 in
        --minutes) seconds=$(whole "$1" "${2-}"); seconds=$((seconds * 60)); shift ;;
        --seconds) seconds=$(whole "$1" "${2-}"); shift ;;
        --concurrency) concurrency=$(whole "$1" "${2-}"); shift ;;
        --http2) protocol=http2 ;;
        --seed) seed=$(whole "$1" "${2-}"); shift ;;
        --help) echo "$usage"; exit ;;
        *) refuse "unknown option '$1'" ;;
    esac
    shift
done

backend='' load='' # The two processes of this script; it ends no other.

clean_up() {
    trap '' HUP INT TERM
    local pid
    for pid in $backend $load; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Sets `drawn` to a number from $1 to $2. No subshell, which would draw the same ones again.
draw() { drawn=$(($1 + RANDOM % ($2 - $1 + 1))); }

# Sleeps for a time from $1 to $2 milliseconds.
pause() {
    draw "$1" "$2"
    sleep "$((drawn / 1000)).$(printf '%03d' $((drawn % 1000)))"
}

# Whether something accepts connections at the port.
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

# A quarter of the answers take a moment, so that a kill meets requests in flight.
start_backend() {
    local tries
    RUST_LOG=error "$delayed_backend" --listen "127.0.0.1:$port" --script 'ok*3,delay=20ms' &
    backend=$!
    for ((tries = 0; tries < 200; tries++)); do
        kill -0 "$backend" 2>/dev/null || break
        ! listens || return 0
        sleep 0.02
    done
    wait "$backend" 2>/dev/null || true
    backend=''
    return 1
}

# By surprise, or on request with its requests in flight finished.
stop_backend() {
    local signal=KILL
    draw 1 2
    ((drawn == 1)) || signal=TERM
    kill "-$signal" "$backend"
    wait "$backend" 2>/dev/null || true
    backend='' outages=$((outages + 1))
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
echo 'Building the backend and the callers ...' >&2
# A run's own time is none to compile in, and a debug build would measure itself.
built=$(cargo build --locked --quiet --release --message-format=json-render-diagnostics \
    -p delayed-backend -p retry-client --bin delayed-backend --example soak)
executable() { sed -n 's|.*"executable":"\([^"]*/'"$1"'\)".*|\1|p' <<<"$built"; }
delayed_backend=$(executable delayed-backend) soak=$(executable soak)

unset "${!DELAYED_BACKEND_@}"
RANDOM=$seed outages=0
# Below the ports that connections get as their own: a caller that knocks while nobody listens could
# otherwise be given this very port, and be connected to itself.
for ((tries = 0; tries < 20; tries++)); do
    draw 20000 30000
    port=$drawn
    if ! listens && start_backend; then break; fi
done
[[ -n $backend ]] || { echo 'soak.sh: the backend does not start' >&2 && exit 1; }

"$soak" "http://127.0.0.1:$port" "$seconds" "$concurrency" ${protocol:+"$protocol"} &
load=$!
while kill -0 "$load" 2>/dev/null; do
    pause 300 3000
    stop_backend
    pause 50 2000
    start_backend || { echo 'soak.sh: the backend does not start again' >&2 && exit 1; }
done
status=0
wait "$load" || status=$?
load=''
echo "outages    $outages (seed $seed)"
exit "$status"
