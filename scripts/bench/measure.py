"""Measures a kind of work: all contenders in turn, again and again, so that changes of the machine affect all alike."""

import contextlib
import statistics
from dataclasses import dataclass

import loads


@dataclass(frozen=True)
class Extent:
    rounds: int
    seconds: int
    rate: int  # Requests per second, where it is fixed.
    held: int  # Requests that wait.


@dataclass(frozen=True)
class Sample:
    """One round of one contender."""

    processor_us: float  # Of the proxy, per request.
    per_second: float
    load_us: float  # Processor time of clients and backend, per request.
    failed: int  # Requests.


class Samples:
    """The rounds of all contenders, by name."""

    def __init__(self, samples):
        self.samples = samples

    def __iter__(self):
        return iter(self.samples)

    def median(self, name, what):
        """Returns the median of a contender's rounds."""
        return statistics.median(getattr(sample, what) for sample in self.samples[name])

    def failed(self, name):
        return sum(sample.failed for sample in self.samples[name])

    def ratio(self, name, other, what):
        """Returns the median of the ratios of two contenders in the same round."""
        pairs = zip(self.samples[name], self.samples[other], strict=True)
        return statistics.median(getattr(one, what) / getattr(two, what) for one, two in pairs)

    def spread(self, name):
        """Returns by how much a contender's processor time differs between rounds, relative to its median."""
        times = [sample.processor_us for sample in self.samples[name]]
        return (max(times) - min(times)) / statistics.median(times)


def measure(work, contenders, backends, extent):
    contenders = [contender for contender in contenders if contender.can_do(work)]
    samples = {contender.name: [] for contender in contenders}
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(backends.start(work))
        proxies = [
            stack.enter_context(one.start(work, backend.port, backends.folder, backends.certificate))
            for one in contenders
        ]
        for proxy in proxies:
            loads.load(work, proxy.port, 1, backends.folder)
        for number in range(extent.rounds):
            for proxy in proxies if number % 2 == 0 else reversed(proxies):
                samples[proxy.name].append(one_round(work, proxy, backend, extent.seconds, backends.folder))
    return Samples(samples)


def one_round(work, proxy, backend, seconds, folder):
    before = proxy.seconds(), backend.seconds()
    load = loads.load(work, proxy.port, seconds, folder)
    used, by_backend = proxy.seconds() - before[0], backend.seconds() - before[1]
    if load.failed >= load.succeeded:
        raise SystemExit(
            f"bench: {work.title}: {proxy.name}: {load.succeeded} requests succeeded, {load.failed} failed"
        )
    us, by_load = 1e6 / load.succeeded, load.processor_seconds + by_backend
    return Sample(used * us, load.succeeded / load.seconds, by_load * us, load.failed)
