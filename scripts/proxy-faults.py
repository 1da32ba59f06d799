#!/usr/bin/env python3
"""Compares the responses of httpbin with those that pass through `delayed-backend --upstream`.

Without faults, each response must equal the direct one: status, reason, header fields except Date, and body. With faults,
exactly the requests that the script names must differ, and httpbin must get each request at most once. Run by
scripts/proxy-faults.sh: proxy-faults.py HTTPBIN-PORT PROXY-PORT CONTROL-PORT.
"""

import gzip
import http.client
import json
import sys
import urllib.request

UPSTREAM, PROXY, CONTROL = map(int, sys.argv[1:4])

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
REQUESTS = [
    ("GET", "/get?a=b&c=%20d", {}, None),
    ("GET", "/headers", {"X-Own": "1", "Accept": "text/html"}, None),
    ("GET", "/ip", {}, None),
    ("GET", "/user-agent", {"User-Agent": "test"}, None),
    ("POST", "/post", JSON, b'{"a": [1, 2]}'),
    ("POST", "/post", FORM, b"a=b&c=d"),
    ("POST", "/post", {}, b""),
    ("PUT", "/put", {}, b"x" * 200_000),
    ("PATCH", "/patch", JSON, b"{}"),
    ("DELETE", "/delete?a=b", {}, None),
    ("POST", "/anything/a/b?c=d", {}, bytes(range(256))),
    ("GET", "/status/200", {}, None),
    ("GET", "/status/204", {}, None),
    ("GET", "/status/304", {}, None),
    ("GET", "/status/404", {}, None),
    ("GET", "/status/418", {}, None),
    ("POST", "/status/503", {}, b"a"),
    ("HEAD", "/get", {}, None),
    ("HEAD", "/status/404", {}, None),
    ("OPTIONS", "/get", {}, None),
    ("GET", "/redirect-to?url=/get", {}, None),
    ("GET", "/relative-redirect/2", {}, None),
    ("GET", "/absolute-redirect/1", {}, None),
    ("GET", "/response-headers?x-a=1&x-a=2&x-b=3", {}, None),
    ("GET", "/cookies/set?a=b", {}, None),
    ("GET", "/cookies", {"Cookie": "a=b; c=d"}, None),
    ("GET", "/basic-auth/user/secret", {"Authorization": "Basic dXNlcjpzZWNyZXQ="}, None),
    ("GET", "/basic-auth/user/secret", {}, None),
    ("GET", "/bearer", {"Authorization": "Bearer token"}, None),
    ("GET", "/bytes/5000?seed=7", {}, None),
    ("GET", "/stream-bytes/5000?seed=7&chunk_size=1000", {}, None),
    ("GET", "/stream/3", {}, None),
    ("GET", "/range/1000", {"Range": "bytes=10-99"}, None),
    ("GET", "/drip?duration=0&numbytes=10", {}, None),
    ("GET", "/etag/a", {"If-None-Match": "a"}, None),
    ("GET", "/cache", {"If-Modified-Since": "Thu, 01 Jan 2026 00:00:00 GMT"}, None),
    ("GET", "/gzip", {}, None),
    ("GET", "/deflate", {}, None),
    ("GET", "/html", {}, None),
    ("GET", "/json", {}, None),
    ("GET", "/xml", {}, None),
    ("GET", "/encoding/utf8", {}, None),
    ("GET", "/image/png", {}, None),
    ("GET", "/links/5/1", {}, None),
    ("GET", "/base64/aGVsbG8=", {}, None),
    ("GET", "/delay/0", {}, None),
    ("GET", "/unknown", {}, None),
]

# Fields of a connection, and the time.
IGNORED = {"date", "connection", "keep-alive", "transfer-encoding"}

# With faults, every third request has the next one of these.
FAULTS = ["status=503;retry-after=1", "reset", "close", "truncate=0", "stall-after=1", "garbage", "close-after=20"]
# Of those, the ones whose request httpbin gets.
REACHES_UPSTREAM = {"truncate=0", "stall-after=1", "close-after=20"}


def send(port, request):
    """Returns the response to a request, or the name of the exception."""
    method, target, headers, body = request
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
    try:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in ({"Host": f"127.0.0.1:{port}"} | headers).items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        content = response.read()
        if response.getheader("Content-Encoding") == "gzip":
            # The compressed form contains the time.
            content = gzip.decompress(content)
    except (OSError, EOFError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()
    fields = sorted((name.lower(), value) for name, value in response.getheaders() if name.lower() not in IGNORED)
    return response.status, response.reason, fields, content


def control(method, path, body=None):
    request = urllib.request.Request(f"http://127.0.0.1:{CONTROL}{path}", body, method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.read()


def is_random(request):
    """Whether httpbin's response to the same request differs from time to time."""
    return send(UPSTREAM, request) != send(UPSTREAM, request)


def main():
    skipped = [request for request in REQUESTS if is_random(request)]
    requests = [request for request in REQUESTS if request not in skipped]
    direct = [send(UPSTREAM, request) for request in requests]

    failed = 0
    for request, expected in zip(requests, direct):
        if (actual := send(PROXY, request)) != expected:
            failed += 1
            print(f"FAILED {request[0]} {request[1]}:\n  direct {expected}\n  proxy  {actual}")
    print(f"without faults: {len(requests) - failed} of {len(requests)} responses equal the direct ones")

    behaviors = [
        FAULTS[position // 3 % len(FAULTS)] if position % 3 == 2 else "ok" for position in range(len(requests))
    ]
    control("PUT", "/script", ",".join(behaviors).encode())
    control("POST", "/reset")
    wrong = 0
    for request, behavior, expected in zip(requests, behaviors, direct):
        # Without content, nothing is left to truncate.
        has_content = isinstance(expected, tuple) and expected[3] != b""
        is_changed = send(PROXY, request) != expected
        should_change = behavior != "ok" and (has_content or behavior != "truncate=0")
        if is_changed != should_change:
            wrong += 1
            print(f"FAILED {request[0]} {request[1]} with {behavior}: {'changed' if is_changed else 'the same'}")
    scripted = sum(behavior != "ok" for behavior in behaviors)
    recorded = [one["behavior"] for one in json.loads(control("GET", "/requests"))["requests"]]
    if recorded != behaviors:
        wrong += 1
        print(f"FAILED recorded {recorded}, expected {behaviors}")
    print(f"with {scripted} faults: {len(requests) - wrong} of {len(requests)} requests are as scripted")

    expected = sum(behavior == "ok" or behavior in REACHES_UPSTREAM for behavior in behaviors)
    # Each request twice to see whether it is random, and once each directly and without faults.
    print(f"expected at httpbin: {2 * len(REQUESTS) + 2 * len(requests) + expected}")
    for request in skipped:
        print(f"skipped, as httpbin's responses vary: {request[0]} {request[1]}")
    sys.exit(bool(failed or wrong or not requests))


main()
