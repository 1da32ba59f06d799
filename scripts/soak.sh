#!/usr/bin/env bash
# Kills and restarts the backend at random while many callers send requests to it, and prints the client's report. Needs
# Linux: it reads /proc.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/common.sh
. scripts/common.sh

usage='Usage: scripts/soak.sh [--minutes N | --seconds N] [--concurrency N] [--http2] [--seed N]

Checks that no request fails while the server is killed and restarted, and that the client leaks no memory or sockets.
Exit code: 0 success, 1 failure, 2 bad usage.

  --minutes N      duration (2)
  --seconds N      duration in seconds; 20 is enough for a first look
  --concurrency N  number of concurrent callers (32)
  --http2          HTTP/2 with prior knowledge instead of HTTP/1.1
  --seed N         seed for the times of kills and restarts (random, and printed)
  --help           print this text'

refuse() { echo "soak.sh: $1; see --help" >&2 && exit 2; }

positive() {
    [[ $2 =~ ^[0-9]{1,5}$ && $((10#$2)) -gt 0 ]] || refuse "$1 takes a number from 1 to 99999, not '$2'"
    echo "$((10#$2))"
}

seconds=120 concurrency=32 protocol='' seed=$RANDOM
while (($#)); do
    case $1 in
        --minutes) seconds=$(positive "$1" "${2-}"); seconds=$((seconds * 60)); shift ;;
        --seconds) seconds=$(positive "$1" "${2-}"); shift ;;
        --concurrency) concurrency=$(positive "$1" "${2-}"); shift ;;
        --http2) protocol=http2 ;;
        --seed) seed=$(positive "$1" "${2-}"); shift ;;
        --help) echo "$usage"; exit ;;
        *) refuse "unknown option '$1'" ;;
    esac
    shift
done

backend='' load='' # The two processes that this script starts.

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

# Sets `drawn` to a random number from $1 to $2. Not printed, because a subshell would repeat the same numbers.
draw() { drawn=$(($1 + RANDOM % ($2 - $1 + 1))); }

# Sleeps for $1 to $2 milliseconds.
pause() {
    draw "$1" "$2"
    sleep "$((drawn / 1000)).$(printf '%03d' $((drawn % 1000)))"
}

# Succeeds if something accepts connections on the port.
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

# One response in four is delayed, so that there are requests in flight when the backend is killed.
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

# Kills the backend, or stops it after its requests in flight.
stop_backend() {
    local signal=KILL
    draw 1 2
    ((drawn == 1)) || signal=TERM
    kill "-$signal" "$backend"
    wait "$backend" 2>/dev/null || true
    backend='' outages=$((outages + 1))
}

echo 'Building the backend and the callers ...' >&2
# Built first, so that compiling does not count as run time; a debug build would be too slow.
build --release -p delayed-backend -p retry-client --bin delayed-backend --example soak
delayed_backend=$(executable delayed-backend) soak=$(executable soak)

unset "${!DELAYED_BACKEND_@}"
RANDOM=$seed outages=0
# Below the range of ephemeral ports. Otherwise a caller could get this port while nobody listens, and connect to
# itself.
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
