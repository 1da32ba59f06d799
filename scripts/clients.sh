#!/usr/bin/env bash
# Tests common clients with the gateway: curl over HTTP/1.1 and HTTP/2, Python's standard library, h2load, and headless
# Chromium. The backend fails two requests of three, and no client may notice. Installs missing clients with apt-get if
# it may, and reports those that it skips.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/common.sh
. scripts/common.sh
with_work_folder

failed=0
print_row() { printf '%-8s %-34s %s\n' "$1" "$2" "$3"; }
# check <client> <what> <expected> <got>
check() {
    if [ "$3" = "$4" ]; then print_row ok "$1" "$2"; else print_row FAILED "$1" "$2: expected '$3', got '$4'"; failed=1; fi
}

# has <command> <package>: installs the command if necessary, and reports it as skipped if that fails.
has() {
    install_missing "$1:$2"
    command -v "$1" >/dev/null || { print_row skipped "$1" 'not installed'; return 1; }
}

build --release -p delayed-backend -p retry-service --bins
serve backend "$(executable delayed-backend)" --listen 127.0.0.1:0 --script 'status=503,truncate=5,ok'
serve gateway "$(executable retry-service)" --forward --listen 127.0.0.1:0 --upstream "http://$address" --interval 1ms --count 30 --budget-ratio off
gateway=http://$address

if has curl curl; then
    check curl 'GET' 'Hello World!!!' "$(curl -sS "$gateway/hello")"
    check curl 'HTTP/2, prior knowledge' '200 2' "$(curl -sS -o /dev/null -w '%{http_code} %{http_version}' --http2-prior-knowledge "$gateway/hello")"
    check curl 'asks for HTTP/2, gets HTTP/1.1' '200 1.1' "$(curl -sS -o /dev/null -w '%{http_code} %{http_version}' --http2 "$gateway/hello")"
    head -c 50000 /dev/zero | tr '\0' x >"$work/body"
    check curl 'PUT of 50,000 bytes, 100-continue' 50000 "$(curl -sS -T "$work/body" -H 'Expect: 100-continue' "$gateway/echo" | tr -cd x | tail -c 50000 | wc -c | tr -d ' ')"
    check curl 'chunked PUT' 50000 "$(curl -sS -X PUT -T - "$gateway/echo" <"$work/body" | tr -cd x | tail -c 50000 | wc -c | tr -d ' ')"
    check curl 'HEAD' 200 "$(curl -sS -I -o /dev/null -w '%{http_code}' "$gateway/bytes/10")"
    check curl 'range' 11 "$(curl -sS -r 100-110 "$gateway/bytes/100000" | wc -c | tr -d ' ')"
fi

if has python3 python3; then
    check python3 'http.client: 30 on one connection' '30 True' "$(python3 - "$address" <<'PYTHON'
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], timeout=20)
good = 0
for number in range(30):
    connection.request("GET", f"/bytes/{1000 * number}")
    response = connection.getresponse()
    good += response.status == 200 and len(response.read()) == 1000 * number
connection.request("PUT", "/echo", body=iter([b"in ", b"parts"]), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
print(good, connection.getresponse().read().endswith(b"in parts"))
PYTHON
)"
    check python3 'urllib' 'Hello World!!!' "$(python3 -c "import urllib.request; print(urllib.request.urlopen('$gateway/hello').read().decode())")"
fi

if has h2load nghttp2-client; then
    check h2load '2000 requests, 40 streams at a time' '2000 2000' "$(h2load -n 2000 -c 4 -m 10 "$gateway/hello" | sed -n 's/^requests: .* \([0-9]*\) done, \([0-9]*\) succeeded.*/\1 \2/p')"
    check h2load 'the same over HTTP/1.1' '2000 2000' "$(h2load --h1 -n 2000 -c 20 "$gateway/hello" | sed -n 's/^requests: .* \([0-9]*\) done, \([0-9]*\) succeeded.*/\1 \2/p')"
fi

browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
[ -n "$browser" ] || { has chromium chromium && browser=$(command -v chromium); }
if [ -n "$browser" ]; then
    page=$(timeout 60 "$browser" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
        --disable-component-update --disable-sync --user-data-dir="$work/browser" --dump-dom "$gateway/hello" 2>/dev/null || true)
    check "$(basename "$browser")" 'shows the page' 'Hello World!!!' "$(sed -n 's/.*\(Hello World!!!\).*/\1/p' <<<"$page")"
fi

# The log has a line for each request that was retried.
print_row '' 'retried requests' "$(grep -c 'attempt 1 ' "$work/gateway.log")"
exit "$failed"
