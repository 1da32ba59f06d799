"""Measures how long requests take if they arrive at a fixed rate, whatever the proxy does."""

import contextlib
import statistics

import loads
from works import WORKS

CONNECTIONS = 64
# How much longer a round is than those of other measurements. The slowest requests are few.
LONGER = 2
# Without a proxy: what clients and backend alone take.
DIRECT = "no proxy"


def measure_latency(contenders, backends, extent):
    """Returns the medians of p50, p99 and p99.9 in microseconds, by contender."""
    work, samples = WORKS[0], {}
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(backends.start(work))
        ports = {DIRECT: backend.port}
        for one in (contender for contender in contenders if contender.can_do(work)):
            ports[one.name] = stack.enter_context(
                one.start(work, backend.port, backends.folder, backends.certificate)
            ).port
        for port in ports.values():
            loads.fixed_rate(backends.bench, port, extent.rate, 1, CONNECTIONS)
        for _ in range(extent.rounds):
            for name, port in ports.items():
                samples.setdefault(name, []).append(
                    loads.fixed_rate(backends.bench, port, extent.rate, LONGER * extent.seconds, CONNECTIONS)
                )
    return {
        name: [statistics.median(values) for values in zip(*rounds, strict=True)] for name, rounds in samples.items()
    }
