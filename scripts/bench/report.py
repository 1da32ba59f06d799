"""The results as tables in Markdown."""

import statistics
from dataclasses import dataclass, field

from measure import Extent, Samples
from processes import LOAD_IS_APART, load_processors, proxy_processors
from works import WORKS

TITLES = {work.name: work.title for work in WORKS}
# The kinds of work that the README shows.
SUMMARY = ["get-14", "get-1m", "put-16k", "retries"]

# What something costs: the difference between two kinds of work, divided by a number.
COSTS = [
    ("a GET of 14 bytes on one of 64 connections", "get-14", None, 1),
    ("64 KiB more of a response", "get-1m", "get-64k", 15),
    ("64 KiB more of an upload", "put-1m", "put-16k", 15.75),
    ("a retry", "retries", "get-14", 3),
    ("TLS to the upstream", "tls", "get-14", 1),
    ("HTTP/2 from clients instead of HTTP/1.1", "http2-clients", "get-14", 1),
    ("HTTP/2 to the upstream instead of HTTP/1.1", "http2-both", "http2-clients", 1),
    ("a connection that is the only one", "connections-1", "get-14", 1),
    ("all processors instead of one", "all-processors", "get-14", 1),
]


@dataclass
class Results:
    """What a run has measured. What was not wanted is empty."""

    names: list[str]  # Of the contenders.
    extent: Extent
    works: dict[str, Samples] = field(default_factory=dict)
    latency: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, dict[str, float]] = field(default_factory=dict)

    def tables(self):
        """Returns the tables with their names, which are also those of their places in the documents."""
        found = {}
        if self.works:
            found["processor time"] = self.comparison("processor_us")
            found["requests per second"] = self.comparison("per_second")
            found["costs"] = self.costs()
        if {"get-14", "all-processors"} <= self.works.keys():
            found["all processors"] = self.scaling()
        if self.latency:
            found["latency"] = self.latencies()
        if self.memory:
            found["memory"] = self.memories()
        if set(SUMMARY) <= self.works.keys():
            found["summary"] = self.summary()
        return found

    def comparison(self, what):
        """Returns a table with all contenders, each followed by the gateway's ratio to it."""
        names = self.workers()
        rows = [[title(work), *(self.cell(work, name, what) for name in names)] for work in self.works]
        return table("", names, rows)

    def workers(self):
        """Returns the contenders that have worked."""
        return [name for name in self.names if any(name in samples for samples in self.works.values())]

    def cell(self, work, name, what):
        samples = self.works[work]
        if name not in samples:
            return "–"
        median = rounded(samples.median(name, what))
        is_compared = name != "gateway" and "gateway" in samples
        return f"{median} ({samples.ratio('gateway', name, what):.2f})" if is_compared else median

    def costs(self):
        """Returns a table of what each part of a request costs."""
        names, rows = self.workers(), []
        for what, more, less, parts in COSTS:
            works = [self.works.get(work) for work in (more, less) if work]
            if all(works):
                rows.append([what, *(cost(name, works, parts) for name in names)])
        return table("", names, rows)

    def scaling(self):
        """Returns a table of how much more a proxy does on all processors than on one."""
        one, every, rows = self.works["get-14"], self.works["all-processors"], []
        processors = len(proxy_processors(True))
        for name in (name for name in self.names if name in every):
            rates = [samples.median(name, "per_second") for samples in (one, every)]
            used, by_load = one.median(name, "processor_us"), one.median(name, "load_us")
            # If clients and backend use the same processors, a request takes their time and the proxy's.
            slowest = max(used, by_load / len(load_processors(False)))
            most = processors if LOAD_IS_APART else processors * slowest / (used + by_load)
            by_time = processors * used / every.median(name, "processor_us")
            ratios = [f"{ratio:.2f}" for ratio in (rates[1] / rates[0], most, by_time)]
            rows.append([name, *(f"{rate:,.0f}" for rate in rates), *ratios])
        columns = ["1 processor", f"{processors} processors", "ratio", "the machine allows", "by processor time"]
        return table("", columns, rows)

    def latencies(self):
        rows = [[name, *(f"{value / 1000:.2f}" for value in values)] for name, values in self.latency.items()]
        return table(f"ms, at {self.extent.rate:,} requests per second", ["p50", "p99", "p99.9"], rows)

    def memories(self):
        names = [name for name in self.names if any(name in by_name for by_name in self.memory.values())]
        rows = []
        for state, by_name in self.memory.items():
            rows.append([state, *(f"{by_name[name]:.1f}" if name in by_name else "–" for name in names)])
        return table(f"KiB for each of {self.extent.held:,} requests", names, rows)

    def summary(self):
        """Returns the README's table: processor time in multiples of the first contender's."""
        names, rows = [name for name in self.names if name in self.works["get-14"]], []
        for work in SUMMARY:
            samples = self.works[work]
            rows.append([title(work), *(f"{samples.ratio(name, names[0], 'processor_us'):.2f}" for name in names)])
        return table("", names, rows)

    def failures(self):
        """Returns what failed."""
        for work, samples in self.works.items():
            yield from (f"{samples.failed(name)} ({title(work)}, {name})" for name in samples if samples.failed(name))

    def line(self, work):
        """Returns the processor times of a kind of work."""
        samples = self.works[work]
        times = (f"{name} {rounded(samples.median(name, 'processor_us'))}" for name in samples)
        return f"{title(work)}: {', '.join(times)}"

    def spread(self):
        """Returns by how much the processor time of a contender differs between rounds: the median of all."""
        spreads = [samples.spread(name) for samples in self.works.values() for name in samples]
        return statistics.median(spreads) if spreads else 0


def table(first, columns, rows):
    """Returns a table. The first cell of each row is its title."""
    lines = [f"| {first} | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def rounded(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def title(work):
    processors = f"{len(proxy_processors(True))} processors{'' if LOAD_IS_APART else ' shared with the load'}"
    return TITLES[work].replace("all processors", processors)


def cost(name, works, parts):
    if any(name not in samples for samples in works):
        return "–"
    more, *less = (samples.median(name, "processor_us") for samples in works)
    return f"{(more - sum(less)) / parts:.1f}"
