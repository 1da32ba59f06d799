"""Checks that all proxies do the same work on the heads of requests and responses."""

import http.client

from works import WORKS

# What each adds for the upstream and for the client, at least.
REQUEST = {"x-request-id", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "via"}
RESPONSE = {"x-request-id", "via"}


def check_heads(contenders, backends):
    """Stops the bench if a contender adds less than the others."""
    with backends.start_own("echo") as backend:
        for contender in contenders:
            with contender.start(WORKS[0], backend.port, backends.folder, backends.certificate) as proxy:
                received, response = exchange(proxy.port)
            if missing := (REQUEST - received.keys()) | (RESPONSE - response.keys()):
                raise SystemExit(f"bench: {contender.name} does not add {', '.join(missing)}")


def exchange(port):
    """Returns the headers that the backend and the client receive."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest("GET", "/hello", skip_accept_encoding=True)
    connection.endheaders()
    response = connection.getresponse()
    received = dict(line.split(": ", 1) for line in response.read().decode().splitlines())
    return received, {name.lower(): value for name, value in response.getheaders()}
