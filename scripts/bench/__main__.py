"""Compares the gateway with a bare proxy on hyper, nginx, HAProxy and Envoy, on the same work and in the same run.

    scripts/bench.sh                          everything, in about 25 minutes
    scripts/bench.sh --quick                  some kinds of work, one short round each, in about a minute
    scripts/bench.sh get-14 put-16k           some kinds of work
    scripts/bench.sh --gateway old=PATH       another build of the gateway as well
    scripts/bench.sh --write                  everything, into docs/performance.md and README.md

One processor is the proxy's, the others are for clients and backend. All proxies take turns in each round. Ratios are
medians of the ratios within rounds; all other numbers are medians of rounds. The absolute numbers depend on the
machine. Everything listens on loopback. Envoy takes part if it is on the path, if $ENVOY names it, or if
scripts/compare-faults.py has downloaded it.
"""

import argparse
import os
import resource
import shutil
import signal
import sys
import tempfile

import documents
import environment
import programs
from backends import Backends
from contenders import Contender
from heads import check_heads
from latency import measure_latency
from measure import Extent, measure
from memory import measure_memory
from processes import PROCESSORS, OtherPrograms
from report import SUMMARY, Results
from works import OTHERS, WORKS


def parse_arguments():
    names = [work.name for work in WORKS] + OTHERS
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="scripts/bench.sh", description=__doc__, formatter_class=form)
    several = {"action": "append", "default": []}
    parser.add_argument("work", nargs="*", help=", ".join(names))
    parser.add_argument("--quick", action="store_true", help="one round of one second; few works unless named")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="length of a round for each proxy")
    parser.add_argument("--rate", type=int, default=4000, help="requests per second where the rate is fixed")
    parser.add_argument("--held", type=int, default=9000, help="requests that wait; each needs two open files")
    parser.add_argument("--gateway", **several, metavar="NAME=PATH", help="one more build of the gateway")
    parser.add_argument("--only", **several, metavar="NAME", help="a contender; all unless some are named")
    parser.add_argument("--write", action="store_true", help="write the results into the documents")
    arguments = parser.parse_args()
    if unknown := set(arguments.work) - set(names):
        parser.error(f"{', '.join(sorted(unknown))}: expected {', '.join(names)}")
    if arguments.write and (arguments.work or arguments.quick or arguments.only or arguments.gateway):
        parser.error("--write takes neither names nor --quick, --only and --gateway: the documents show a complete run")
    if malformed := [given for given in arguments.gateway if "=" not in given]:
        parser.error(f"{malformed[0]}: expected NAME=PATH")
    arguments.work = arguments.work or (SUMMARY if arguments.quick else names)
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 1
    arguments.held = min(arguments.held, (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 1000) // 2)
    return arguments


def find_contenders(arguments, bench, envoy):
    """Builds the gateway. Returns all contenders that are installed and wanted."""
    allocator = programs.allocator()
    found = [Contender("bare hyper", "bare", bench), Contender("gateway", "gateway", programs.build_gateway(allocator))]
    if allocator and "memory" in arguments.work:
        found.append(Contender("gateway, default build", "gateway", programs.build_gateway(""), memory_only=True))
    for name, path in (given.split("=", 1) for given in arguments.gateway):
        found.append(Contender(name, "gateway", os.path.abspath(path)))
    found.append(Contender("nginx", "nginx", "nginx"))
    found.append(Contender("nginx, large buffers", "nginx", "nginx", large_buffers=True))
    if shutil.which("haproxy"):
        found.append(Contender("HAProxy", "haproxy", "haproxy"))
    if envoy:
        found.append(Contender("Envoy", "envoy", envoy))
    names = [one.name for one in found]
    if missing := set(arguments.only) - set(names):
        raise SystemExit(f"bench: there is no {', '.join(missing)}, only {'; '.join(names)}")
    return [one for one in found if not arguments.only or one.name in arguments.only]


def run(arguments, contenders, backends):
    """Measures everything that is wanted."""
    extent = Extent(arguments.rounds, arguments.seconds, arguments.rate, arguments.held)
    results = Results([one.name for one in contenders], extent)
    print("Processor time in µs per request:", flush=True)
    for work in (work for work in WORKS if work.name in arguments.work):
        results.works[work.name] = measure(work, contenders, backends, extent)
        print(results.line(work.name), flush=True)
    if "latency" in arguments.work:
        print("Measuring latency ...", flush=True)
        results.latency.update(measure_latency(contenders, backends, extent))
    if "memory" in arguments.work:
        print("Measuring memory ...", flush=True)
        results.memory.update(measure_memory(contenders, backends, extent.held))
    return results


def main():
    # Ends the programs that it has started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = parse_arguments()
    if len(PROCESSORS) < 2:
        raise SystemExit("bench: needs two processors")
    envoy, bench = programs.find_envoy(), programs.build_bench(programs.allocator())
    # Before it may change.
    described = environment.describe(envoy)
    contenders = find_contenders(arguments, bench, envoy)
    with tempfile.TemporaryDirectory(prefix="bench.") as folder:
        # If nginx starts as root, its workers run as another user and need access to their files.
        os.chmod(folder, 0o711)
        backends = Backends(bench, folder)
        check_heads(contenders, backends)
        others = OtherPrograms()
        results = run(arguments, contenders, backends)
    machine = [
        described,
        f"Medians of {arguments.rounds} rounds of {arguments.seconds} s for each proxy.",
        f"Other programs used {others.share():.0%} of the machine;",
        f"the processor time of a proxy differed by {results.spread():.0%} between rounds.",
        *(f"Failed requests: {failures}." for failures in [", ".join(results.failures())] if failures),
    ]
    tables = {"machine": " ".join(machine)} | results.tables()
    for name, table in tables.items():
        print(f"\n{name.capitalize()}:\n\n{table}")
    if arguments.write:
        documents.write(tables)
        print(f"\nWritten to {documents.PAGE} and {documents.README}.")


if __name__ == "__main__":
    main()
