#!/usr/bin/env python3
"""Records an outage at a gateway, replays it under the same load, and compares what the gateway met.

Run by scripts/record-replay.sh: record-replay.py GATEWAY BACKEND FOLDER [--fast].
"""

import asyncio
import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import urllib.request

GATEWAY, BACKEND, FOLDER = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
FAST = "--fast" in sys.argv[4:]

# Each client sends a request, reads the response, and pauses.
CLIENTS, REQUESTS, PAUSE = (5, 50, 0.05) if FAST else (20, 180, 0.18)

# Long enough to be streamed, so that a response that breaks off is resumed.
PATH = "/bytes/100000"
OUTAGE, ATTEMPT_TIMEOUT = ("1s", "200ms") if FAST else ("15s", "1s")
TOLERANCE = 0.05

SETTINGS = ["--forward", "--listen=0", "--admin=0", f"--attempt-timeout={ATTEMPT_TIMEOUT}", "--outage-wait=30s", "--count=5"]


def incident():
    """Returns the script of an outage: a list of behaviors, each with the number of requests that meet it."""
    if FAST:
        faults = ["status=503;retry-after=0", "reset", "truncate=1000", "delay=2s", "close"]
        steps = [(item, count) for fault in faults for item, count in (("ok", 15), (fault, 1))]
        return [*steps, ("ok", 50), (f"down={OUTAGE}", 1)]
    steps = [("ok", 300)]
    for behaviors, healthy, times in [
        (["delay=800ms"], 4, 150),
        (["status=503;retry-after=1"], 14, 20),
        (["reset", "status=502", "close"], 12, 16),
        (["truncate=1000"], 9, 15),
        (["delay=3s"], 19, 15),
        (["bandwidth=200KiB/s"], 9, 15),
    ]:
        steps += [step for _ in range(times) for behavior in behaviors for step in ((behavior, 1), ("ok", healthy))]
    return [*steps, ("ok", 150), (f"delay=20ms;down={OUTAGE}", 1), ("ok", 300), ("delay=150ms;status=503", 10)]


def outcome(item, note=""):
    """Returns what a request met, without times."""
    names = [part for part in item.split(";") if not part.startswith(("delay=", "bandwidth=")) and part != "ok"]
    if "canceled" in note or item == incident_timeout():
        return "timeout"
    if "closed by the outage" in note:
        return "cut off"
    return re.sub("^down=.*", "down", ";".join(names)) or "ok"


def incident_timeout():
    """Returns the behavior that takes longer than an attempt may."""
    return "delay=2s" if FAST else "delay=3s"


def outcomes(recording):
    """Returns the outcome of each request in a recording."""
    found = []
    for line in recording.splitlines():
        item, _, comment = line.partition("# ")
        item, _, count = item.strip().rstrip(",").partition("*")
        found += [outcome(item, comment)] * int(count or 1) if item else []
    return found


async def client(port, statuses, number):
    """Sends requests one after the other. A status of 0 is an incomplete response."""
    connection = None
    await asyncio.sleep(number * PAUSE / CLIENTS)
    for _ in range(REQUESTS):
        try:
            connection = connection or await asyncio.open_connection("127.0.0.1", port)
            reader, writer = connection
            writer.write(f"GET {PATH} HTTP/1.1\r\nhost: test\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            await reader.readexactly(int(re.search("content-length: (.*)\r", head)[1]))
            statuses[head.split()[1]] += 1
        except (OSError, asyncio.IncompleteReadError):
            statuses["0"] += 1
            connection = None
        await asyncio.sleep(PAUSE)


def wait_for(find, what):
    """Waits until `find` returns something, and returns it."""
    for _ in range(400):
        if found := find():
            return found
        time.sleep(0.05)
    sys.exit(f"{what} does not start")


def logged(file, pattern):
    found = re.search(pattern, file.read_text()) if file.exists() else None
    return found and int(found[1])


class Run:
    """What a gateway met while clients sent their requests."""

    def __init__(self, name, arguments):
        recording, log = FOLDER / f"{name}.txt", FOLDER / f"{name}.log"
        environment = {**os.environ, "RUST_LOG": "warn"}
        backend = subprocess.Popen(
            [BACKEND, "--listen=0", "--print-addresses", *arguments], stdout=subprocess.PIPE, env=environment
        )
        url = json.loads(backend.stdout.readline())["url"]
        with log.open("w") as stderr:
            command = [GATEWAY, *SETTINGS, f"--upstream={url}", f"--record-faults={recording}"]
            gateway = subprocess.Popen(command, stderr=stderr, env={**os.environ, "RUST_LOG": "info,retries=off"})
        try:
            port = wait_for(lambda: logged(log, r"Serving http://127\.0\.0\.1:(\d+)"), "the gateway")
            admin = wait_for(lambda: logged(log, r"Admin on http://127\.0\.0\.1:(\d+)"), "the gateway")
            self.statuses, start = collections.Counter(), time.monotonic()
            asyncio.run(self.load(port))
            self.seconds = time.monotonic() - start
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics") as response:
                self.metrics = parse_metrics(response.read().decode())
        finally:
            for process in (gateway, backend):
                process.terminate()
                process.wait(timeout=60)
        self.recording = recording.read_text()
        self.outcomes = outcomes(self.recording)

    async def load(self, port):
        await asyncio.gather(*(client(port, self.statuses, number) for number in range(CLIENTS)))


def parse_metrics(text):
    """Returns the counters, and the counts and sums of the histograms; not those of single endpoints."""
    samples = {}
    for name, value in re.findall(r"^retry_service_(\S+) (\S+)$", text, re.MULTILINE):
        family = name.partition("{")[0]
        if family.endswith(("_total", "_count", "_sum")) and "endpoint" not in name:
            samples[name] = float(value)
    return samples


def compare(name, recorded, replayed):
    """Prints two values side by side. Returns whether they agree."""
    # More or fewer requests may be in flight when the outage starts.
    agrees = abs(recorded - replayed) <= max(TOLERANCE * max(recorded, replayed), 3 if FAST else 1)
    difference = 100 * (replayed - recorded) / recorded if recorded else 100 * bool(replayed)
    verdict = "" if agrees else "  differs"
    print(f"{name:44}{recorded:>12,.10g}{replayed:>12,.10g}{difference:>+8.1f} %{verdict}")
    return agrees


def check_sequence(what, one, other):
    """Compares two sequences. Attempts in flight at the same time may have changed places, as they reach the server by two
    connections. How many are in flight when the outage starts, and are cut off, is left to chance. Returns whether there is no
    other difference."""
    one, other = ([found for found in sequence if found != "cut off"] for sequence in (one, other))
    moved = 0
    for kind in {*one, *other} - {"ok"}:
        places = [[index for index, found in enumerate(sequence) if found == kind] for sequence in (one, other)]
        distance = max((abs(a - b) for a, b in zip(*places)), default=0)
        if len(places[0]) != len(places[1]) or distance >= CLIENTS:
            print(f"{what}: '{kind}' at different places: {places[0]} {places[1]}")
            return False
        moved += sum(a != b for a, b in zip(*places))
    print(f"{what}: the same {len(one)} outcomes in the same order; {moved} changed places with one in flight beside them")
    return len(one) == len(other)


def check_script(script, met):
    """Checks that a recording is what the script did. An outage cuts off what is in flight, and one of these requests starts it
    in the replay."""
    played = [outcome(item) for item, count in script for _ in range(count)]
    played += ["ok"] * (len(met) - len(played))
    played = [b if b == "cut off" else a for a, b in zip(played, met)]
    if "down" not in played and "down" in met:
        played[met.index("down")] = "down"
    return check_sequence("script and recording", played, met)


def main():
    script = incident()
    text = ",".join(f"{item}*{count}" for item, count in script)
    recorded = Run("recorded", ["--script", f"{text},ok*1000000"])
    replayed = Run("replayed", ["--replay", FOLDER / "recorded.txt"])
    lines = recorded.recording.splitlines()
    print(f"{sum(recorded.statuses.values())} requests, {len(recorded.outcomes)} attempts, {len(lines)} lines, such as:")
    unusual = {outcome(line.partition(",")[0], line): line for line in lines[1:] if not line.startswith("ok")}
    print("\n".join(f"    {line}" for line in unusual.values()))

    results = [check_script(script, recorded.outcomes)]
    results.append(check_sequence("recording and replay", recorded.outcomes, replayed.outcomes))
    print(f"\n{'':44}{'recorded':>12}{'replayed':>12}")
    for kind in sorted({*recorded.outcomes, *replayed.outcomes}):
        results.append(compare(f"outcome {kind}", recorded.outcomes.count(kind), replayed.outcomes.count(kind)))
    for status in sorted({*recorded.statuses, *replayed.statuses}):
        results.append(compare(f"clients: {status}", recorded.statuses[status], replayed.statuses[status]))
    for name in sorted({*recorded.metrics, *replayed.metrics}):
        values = recorded.metrics.get(name, 0.0), replayed.metrics.get(name, 0.0)
        agrees = not any(values) or compare(name, *values)
        results.append(agrees or FAST and "_duration_" in name)
    agrees = compare("seconds", recorded.seconds, replayed.seconds)
    results.append(agrees or FAST)
    sys.exit(0 if all(results) else "recording and replay differ")


main()
