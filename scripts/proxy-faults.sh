#!/usr/bin/env bash
# Puts `delayed-backend --upstream` in front of httpbin under gunicorn. Without faults, every response has to equal the direct
# one; with faults, exactly the scripted requests differ, and httpbin gets each request at most once. Installs httpbin and
# gunicorn into target/httpbin.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/common.sh
. scripts/common.sh

with_work_folder
packages=(httpbin==0.10.4 gunicorn==27.0.1)
if [ "$(cat target/httpbin/installed.txt 2>/dev/null)" != "${packages[*]}" ]; then
    rm -rf target/httpbin
    python3 -m venv target/httpbin
    target/httpbin/bin/pip install --quiet --disable-pip-version-check "${packages[@]}"
    printf '%s' "${packages[*]}" >target/httpbin/installed.txt
fi

backend=${BACKEND-}
if [ -z "$backend" ]; then
    build --release -p delayed-backend --bin delayed-backend
    backend=$(executable delayed-backend)
fi

# gunicorn's access log lacks requests whose response breaks off.
cat >"$work/gunicorn.py" <<END
def pre_request(worker, request):
    with open("$work/requests", "a") as log:
        log.write(f"{request.method} {request.uri}\\n")
END
target/httpbin/bin/gunicorn --no-control-socket --config "$work/gunicorn.py" --bind 127.0.0.1:0 --workers 1 --threads 4 httpbin:app \
    2>"$work/httpbin.log" &
pids+=($!)
upstream=
for ((tries = 0; tries < 200; tries++)); do
    upstream=$(sed -n 's|.*Listening at: http://127\.0\.0\.1:\([0-9]*\).*|\1|p' "$work/httpbin.log")
    [ -z "$upstream" ] || break
    sleep 0.1
done
[ -n "$upstream" ] || { cat "$work/httpbin.log" >&2; exit 1; }

"$backend" --listen 127.0.0.1:0 --upstream "http://127.0.0.1:$upstream" --control 127.0.0.1:0 \
    --port-file "$work/port" --control-port-file "$work/control" 2>"$work/backend.log" &
pids+=($!)
for ((tries = 0; tries < 200; tries++)); do
    [ ! -s "$work/port" ] || [ ! -s "$work/control" ] || break
    sleep 0.05
done

python3 scripts/proxy-faults.py "$upstream" "$(cat "$work/port")" "$(cat "$work/control")" | tee "$work/result"
expected=$(sed -n 's/^expected at httpbin: //p' "$work/result")
received=$(wc -l <"$work/requests")
say "httpbin got $received requests, expected $expected"
[ "$received" = "$expected" ]
