"""What clients see when one of several endpoints begins to fail."""

import datetime
import json
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass

from load import Load, percentile
from proxies import TITLES
from report import table

RATE = 200
HEALTHY_S = 4  # Before the endpoint fails.
FAILING_S = 8
LAST_S = 4  # When proxies have had time to notice.


@dataclass(frozen=True)
class Fault:
    name: str
    title: str
    behavior: str | None = None  # Of the endpoint, unless it is killed or its packets are lost.


REFUSE = "refuse"
FAULTS = [
    Fault(REFUSE, "refuses connections"),
    Fault("lose", "all packets to it are lost"),
    Fault("reset", "resets connections before it responds", "reset"),
    Fault("hang", "does not respond", "hang"),
    Fault("503", "responds with 503", "status=503"),
    Fault("slow", "takes 500 ms to respond", "delay=500ms"),
    Fault("truncate", "ends each response early", "truncate"),
]


@dataclass(frozen=True)
class Result:
    failed: int
    p50: float  # Of the last seconds.
    p99: float
    healthy_p99: float  # Before the endpoint failed.
    attempts: int  # At the endpoint since it failed: requests, and connections that were not accepted.

    def __str__(self):
        times = f"p50 {self.p50:.1f} ms, p99 {self.p99:.1f} ms (before: {self.healthy_p99:.1f} ms)"
        return f"{self.failed} failed, {times}, {self.attempts} attempts at the endpoint"


class Faults:
    """The last of three endpoints fails, or the last of the two addresses of a name."""

    def __init__(self, programs, network, is_name):
        self.programs, self.network, self.is_name = programs, network, is_name
        self.count = 2 if is_name else 3

    def tables(self, names, faults):
        """Measures these proxies with these faults. Returns tables with their names."""
        what = "one name" if self.is_name else "three endpoints"
        results = {}
        for fault in faults:
            for name in names:
                results[fault, name] = self.measure(name, fault)
                print(f"{what}, {fault.name}, {name}: {results[fault, name]}", flush=True)

        def rows(cell):
            return [[fault.title, *(cell(results[fault, name]) for name in names)] for fault in faults]

        def times(one):
            return f"{one.p50:.1f} / {one.p99:.1f} ({one.healthy_p99:.1f})"

        columns = [TITLES[name] for name in names]
        total = RATE * (HEALTHY_S + FAILING_S)
        return {
            f"failures with {what}": table(f"failed, of {total:,}", columns, rows(lambda one: f"{one.failed:,}")),
            f"times with {what}": table("p50 / p99 (p99 before) in ms", columns, rows(times)),
            f"attempts with {what}": table("attempts at it", columns, rows(lambda one: f"{one.attempts:,}")),
        }

    def measure(self, name, fault):
        addresses = self.network.add_endpoints(self.count)
        healthy = f"ok*{RATE * HEALTHY_S // self.count}"
        script = f"{healthy},{fault.behavior}*1000000" if fault.behavior else "ok"
        scripts = ["ok"] * (self.count - 1) + [script]
        with ExitStack() as stack:
            endpoints = map(self.programs.endpoint, addresses, scripts)
            *_, bad = [stack.enter_context(endpoint) for endpoint in endpoints]
            proxy = stack.enter_context(self.programs.proxy(name, addresses, self.is_name))
            began, failed_connects = time.time(), self.network.failed_connects()
            load = Load(self.programs.load, proxy.port, ["GET"], RATE, HEALTHY_S + FAILING_S)
            if fault.behavior:
                outcomes = load.outcomes()
                failures = [second for second in failures_of(bad) if second > began]
                attempts, start_s = len(failures), min(failures, default=began) - began
            else:
                time.sleep(HEALTHY_S)
                attempts, start_s = 0, HEALTHY_S
                if fault.name == REFUSE:
                    bad.process.kill()
                else:
                    self.network.lose(bad.host)
                outcomes = load.outcomes()
            attempts += self.network.failed_connects() - failed_connects
        if not HEALTHY_S * 0.6 < start_s < HEALTHY_S * 1.4:
            raise SystemExit(f"compare-endpoints: {name}: the endpoint began to fail after {start_s:.1f} s")
        before = [outcome for outcome in outcomes if 1 <= outcome.due_s < start_s - 0.5]
        last = [outcome for outcome in outcomes if outcome.due_s >= HEALTHY_S + FAILING_S - LAST_S]
        failed = sum(outcome.status != 200 for outcome in outcomes)
        return Result(failed, percentile(last, 0.5), percentile(last, 0.99), percentile(before, 0.99), attempts)


def failures_of(endpoint):
    """Returns when an endpoint received each request that it failed."""
    with urllib.request.urlopen(f"http://{endpoint.address}/requests") as response:
        requests = json.load(response)["requests"]
    times = [request["time"] for request in requests if request["behavior"] != "ok"]
    return [datetime.datetime.fromisoformat(one).timestamp() for one in times]
