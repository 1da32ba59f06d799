"""What clients see of a rolling restart of three endpoints."""

import collections
import itertools
import math
import re
import time
from contextlib import ExitStack

from load import Load
from proxies import TITLES
from report import table

RESTARTS = "restarts"
RATE = 1500
KINDS = ["GET", "PUT", "POST+key", "POST"]
AWAY_S, BACK_S = 1, 1


class Restarts:
    def __init__(self, programs, network, requests):
        self.programs, self.network, self.seconds = programs, network, math.ceil(requests / RATE)

    def tables(self, names):
        """Measures these proxies. Returns tables with their names."""
        results = {}
        for name in names:
            results[name] = self.measure(name)
            print(f"rolling restart, {name}: {results[name]}", flush=True)
        rows = [[what, *(f"{results[name][what]:,}" for name in names)] for what in next(iter(results.values()))]
        return {"rolling restart": table("", [TITLES[name] for name in names], rows)}

    def measure(self, name):
        """Returns counts by what they count."""
        addresses, processed, restarts = self.network.add_endpoints(3), [], 0
        with ExitStack() as stack:
            endpoints = [self.programs.endpoint(address, "delay=20ms", "delayed_backend=debug") for address in addresses]
            for endpoint in endpoints:
                stack.enter_context(endpoint)
            proxy = stack.enter_context(self.programs.proxy(name, addresses, False))
            load = Load(self.programs.load, proxy.port, KINDS, RATE, self.seconds)
            for endpoint in itertools.cycle(endpoints):
                time.sleep(BACK_S)
                if not load.is_running():
                    break
                endpoint.stop()
                processed += posts(endpoint)
                time.sleep(AWAY_S)
                endpoint.start()
                restarts += 1
            outcomes = load.outcomes()
        for endpoint in endpoints:
            processed += posts(endpoint)
        failed = collections.Counter(outcome.kind for outcome in outcomes if outcome.status != 200)
        return {
            "requests": len(outcomes),
            "restarts": restarts,
            **{f"{kind} failed": failed[kind] for kind in KINDS},
            "POST processed more than once": sum(count > 1 for count in collections.Counter(processed).values()),
        }


def posts(endpoint):
    """Returns the numbers of the POSTs without a key that an endpoint has processed since it started."""
    with open(endpoint.log, encoding="utf-8") as file:
        numbers = [int(number) for number in re.findall(r": POST /echo\?(\d+)", file.read())]
    return [number for number in numbers if KINDS[number % len(KINDS)] == "POST"]
