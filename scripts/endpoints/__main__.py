"""Compares the gateway with nginx, HAProxy and Envoy in front of several endpoints, one of which fails.

    scripts/compare-endpoints.sh                        everything, in about 25 minutes
    scripts/compare-endpoints.sh --only gateway hang    one proxy and one fault
    scripts/compare-endpoints.sh restarts               the rolling restart alone
    scripts/compare-endpoints.sh --write                everything, into docs/comparison.md

A steady rate of GETs meets three endpoints, or one name with two addresses, and after a while one endpoint begins to
fail. In the rolling restart, three endpoints are restarted in turn under a steady rate of GET, PUT and POST with and
without `Idempotency-Key`. scripts/endpoints/proxies.py has every configuration.

Needs Linux and root, for a network of its own, in which packets can be lost and a name can have two addresses. Nothing
outside of it is changed. Envoy takes part if it is on the path, if $ENVOY names it, or if scripts/compare-faults.py has
downloaded it.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../bench"))

import documents
import environment
import programs
from faults import FAULTS, Faults
from network import Network
from processes import OtherPrograms
from proxies import HEDGING, TITLES, Programs
from restarts import RESTARTS, Restarts


def parse_arguments():
    names = [fault.name for fault in FAULTS] + [RESTARTS]
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="scripts/compare-endpoints.sh", description=__doc__, formatter_class=form)
    parser.add_argument("what", nargs="*", choices=[[], *names], metavar="FAULT", help=", ".join(names))
    parser.add_argument("--only", action="append", choices=TITLES, help="a proxy; all unless some are named")
    parser.add_argument("--name", action="store_true", help="only where a name has two addresses")
    parser.add_argument("--requests", type=int, default=100_000, help="in the rolling restart")
    parser.add_argument("--gateway", metavar="PATH", help="another build of the gateway")
    parser.add_argument("--write", action="store_true", help="write the results into the document")
    arguments = parser.parse_args()
    if arguments.write and (arguments.what or arguments.only or arguments.name or arguments.gateway):
        parser.error("--write takes no names and no other options: the document shows a complete run")
    arguments.what = arguments.what or names
    return arguments


def main():
    # Ends the programs that it has started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = parse_arguments()
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        raise SystemExit("compare-endpoints: skipped, as it needs Linux and root for a network of its own")
    envoy = programs.find_envoy()
    described = environment.describe(envoy)
    backend = programs.build("delayed-backend", "", "-p", "delayed-backend", "--bin", "delayed-backend")
    load = programs.build_bench("")
    gateway = arguments.gateway or programs.build_gateway(programs.allocator())
    found = {"gateway": gateway, HEDGING: gateway, "envoy": envoy}
    found |= {name: shutil.which(name) for name in ("nginx", "haproxy")}
    names = [name for name in arguments.only or TITLES if found[name]]
    with tempfile.TemporaryDirectory(prefix="endpoints.") as folder:
        # If nginx starts as root, its workers run as another user.
        os.chmod(folder, 0o711)
        # The builds above may have needed the network that is no longer reachable from here on.
        network = Network(folder)
        started = Programs(found, backend, load, folder)
        results, others = {}, OtherPrograms()
        faults = [fault for fault in FAULTS if fault.name in arguments.what]
        for is_name in (False, True):
            if faults and is_name >= arguments.name:
                results |= Faults(started, network, is_name).tables(names, faults)
        if RESTARTS in arguments.what:
            # It makes no difference whether slow requests are sent twice.
            names = [name for name in names if name != HEDGING]
            results |= Restarts(started, network, arguments.requests).tables(names)
    results = {"machine": f"{described} Other programs used {others.share():.0%} of the machine."} | results
    for name, table in results.items():
        print(f"\n{name.capitalize()}:\n\n{table}")
    if arguments.write:
        documents.write(results, "endpoints", ["docs/comparison.md"])


if __name__ == "__main__":
    main()
