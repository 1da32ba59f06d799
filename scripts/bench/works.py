"""The kinds of work that are measured."""

from dataclasses import dataclass

KIB = 1024


@dataclass(frozen=True)
class Work:
    name: str
    title: str
    path: str = "/hello"
    put: int = 0  # The length of a request's body. Without one, requests are GETs.
    retries: bool = False  # The first three attempts of each request get a 503.
    tls: bool = False  # To the upstream.
    http2_clients: bool = False
    http2_upstream: bool = False
    connections: int = 64
    streams: int = 1  # At a time on each HTTP/2 connection.
    all_processors: bool = False

    @property
    def has_large_bodies(self):
        return self.put > 0 or self.path != "/hello"


HTTP2_CLIENTS = {"http2_clients": True, "connections": 8, "streams": 16}

WORKS = [
    Work("get-14", "GET, 14 bytes"),
    Work("get-64k", "GET, 64 KiB", path=f"/{64 * KIB}"),
    Work("get-1m", "GET, 1 MiB, 16 connections", path=f"/{KIB * KIB}", connections=16),
    Work("put-16k", "PUT, 16 KiB", put=16 * KIB),
    Work("put-1m", "PUT, 1 MiB, 16 connections", put=KIB * KIB, connections=16),
    Work("retries", "GET, 503 three times, then 200, no waits", retries=True),
    Work("tls", "GET, TLS to the upstream", tls=True),
    Work("http2-clients", "GET, HTTP/2 from 8 clients, 16 at a time each", **HTTP2_CLIENTS),
    Work("http2-both", "the same, and HTTP/2 to the upstream", **HTTP2_CLIENTS, http2_upstream=True),
    Work("connections-1", "GET, 1 connection instead of 64", connections=1),
    Work("connections-8", "GET, 8 connections", connections=8),
    Work("connections-512", "GET, 512 connections", connections=512),
    Work("all-processors", "GET, all processors", all_processors=True),
    Work("all-processors-8", "the same, 8 connections", all_processors=True, connections=8),
]

# Measured in ways of their own, by `latency.py` and `memory.py`.
OTHERS = ["latency", "memory"]
