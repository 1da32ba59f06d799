"""Measures the memory of requests that wait."""

import subprocess
import time

from processes import free_port, load_processors, on
from works import WORKS

# How long requests and buffers in flight take to settle.
SETTLE_S = 2

HANGS = "the upstream does not respond"
BACKOFF = "in backoff"
FLAGS = {HANGS: ["--timeout", "off", "--upstream-max-connections", "off"], BACKOFF: []}


def measure_memory(contenders, backends, requests):
    """Returns the memory of one waiting request in KiB, by what it waits for and by contender."""
    found = {}
    with backends.start_own("hang") as hanging, backends.start_own("busy") as busy:
        for state, backend in ((HANGS, hanging), (BACKOFF, busy)):
            for contender in contenders:
                if contender.large_buffers or state == BACKOFF and contender.kind in ("bare", "nginx"):
                    continue  # These have no backoff.
                # HAProxy waits only after connections that failed.
                upstream = free_port() if state == BACKOFF and contender.kind == "haproxy" else backend.port
                arguments = WORKS[0], upstream, backends.folder, backends.certificate, FLAGS[state], state == BACKOFF
                with contender.start(*arguments) as proxy:
                    found.setdefault(state, {})[contender.name] = memory_of_one(proxy, backends.bench, requests)
    return found


def memory_of_one(proxy, bench, requests):
    before = proxy.resident_kib()
    command = [bench, "hold", proxy.address, str(requests)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **on(load_processors(False))
    ) as clients:
        sent = clients.stdout.readline()
        time.sleep(SETTLE_S)
        after = proxy.resident_kib()
        waiting = int(clients.communicate()[0] or 0)
    if not sent or waiting < requests:
        raise SystemExit(f"bench: only {waiting} of {requests} requests through {proxy.name} are waiting")
    return (after - before) / requests
