"""Clients: wrk for HTTP/1.1, h2load for HTTP/2, and the bench's own for a fixed rate."""

import os
import re
import resource
import subprocess
from dataclasses import dataclass

from processes import load_processors, on


@dataclass(frozen=True)
class Load:
    succeeded: int
    failed: int
    seconds: float
    processor_seconds: float


def load(work, port, seconds, folder):
    """Sends requests for some seconds, each connection or stream as soon as the one before has ended."""
    url = f"http://127.0.0.1:{port}{work.path}"
    processors = load_processors(work.all_processors)
    threads = str(max(1, min(len(processors) // 2, work.connections)))
    if work.http2_clients:
        command = [
            "h2load",
            "-t",
            threads,
            "-c",
            str(work.connections),
            "-m",
            str(work.streams),
            "-D",
            str(seconds),
            url,
        ]
        parse = parse_h2load
    else:
        command = ["wrk", "-t", threads, "-c", str(work.connections), "-d", f"{seconds}s", "--timeout", "20s"]
        command += (["-s", put_script(work.put, folder)] if work.put else []) + [url]
        parse = parse_wrk
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **on(processors)
    ).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Load(*parse(output), used)


def put_script(length, folder):
    """Returns the path of a script that makes wrk send PUTs."""
    path = os.path.join(folder, f"put-{length}.lua")
    with open(path, "w", encoding="ascii") as file:
        file.write(f'wrk.method = "PUT"\nwrk.body = string.rep("x", {length})\n')
    return path


def number_after(pattern, output):
    found = re.search(pattern, output)
    return int(found[1]) if found else 0


def parse_wrk(output):
    total, seconds = re.search(r"(\d+) requests in ([\d.]+)s", output).groups()
    failed = number_after(r"Non-2xx or 3xx responses: (\d+)", output)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    return (
        int(total) - failed,
        failed + sum(int(count) for count in (errors.groups() if errors else ())),
        float(seconds),
    )


def parse_h2load(output):
    seconds, unit = re.search(r"finished in ([\d.]+)(ms|s)", output).groups()
    failed, errored, timed_out = (number_after(rf"(\d+) {word}", output) for word in ("failed", "errored", "timeout"))
    succeeded = number_after(r"status codes: (\d+) 2xx", output)
    return succeeded, failed + errored + timed_out, float(seconds) / (1000 if unit == "ms" else 1)


def fixed_rate(bench, port, rate, seconds, connections):
    """Sends requests at a fixed rate. Returns p50, p99 and p99.9 in microseconds."""
    command = [bench, "fixed-rate", f"127.0.0.1:{port}", str(rate), str(seconds), str(connections)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **on(load_processors(False))).stdout
    *percentiles, succeeded, failed = (int(number) for number in output.split())
    if failed or succeeded < rate * seconds:
        raise SystemExit(f"bench: {failed} of {rate * seconds} requests failed at a fixed rate, {succeeded} succeeded")
    return percentiles
