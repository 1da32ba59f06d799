#!/usr/bin/env python3
"""Changes the script of delayed-backend 50 times under 1,000 requests per second.

Checks that every request met one script whole: its status, header field and body are those of one behavior, and the
requests of each script took its behaviors in order, from the start. Checks that no request was lost: each got a
response, and the records are the same as the responses. CHANGES, RATE and SECONDS set other numbers.
"""

import asyncio
import collections
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHANGES = int(os.environ.get("CHANGES", 50))
RATE = int(os.environ.get("RATE", 1000))
SECONDS = float(os.environ.get("SECONDS", 10))
CONNECTIONS = 20
STATUSES = (200, 202, 503)


def script(number):
    """Returns a script whose behaviors all name it: number.0, number.1, number.2."""
    return ",".join(
        f"status={status};header=x-script: {number};body={number}.{position}"
        for position, status in enumerate(STATUSES)
    )


class Connection:
    """An HTTP/1.1 connection that stays open."""

    @classmethod
    async def open(cls, port):
        self = cls()
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        return self

    async def call(self, method, path, body=b""):
        head = f"{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)
        status_line, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines)
        body = await self.reader.readexactly(int(fields.get("content-length", 0)))
        return int(status_line.split()[1]), fields, body


async def load(port, responses, start, index):
    """Sends every CONNECTIONS-th request of the load, each at its time."""
    connection = await Connection.open(port)
    for number in range(index, int(RATE * SECONDS), CONNECTIONS):
        await asyncio.sleep(max(0, start + number / RATE - time.monotonic()))
        responses.append(await connection.call("GET", "/hello"))


async def change(connection, start):
    """Replaces the script at even intervals."""
    for number in range(1, CHANGES + 1):
        await asyncio.sleep(max(0, start + SECONDS * number / (CHANGES + 1) - time.monotonic()))
        status, _, body = await connection.call("PUT", "/script", script(number).encode())
        if status != 204:
            sys.exit(f"script {number}: {status} {body.decode()}")


def check(responses, recorded):
    """Returns how many requests met each script."""
    met = collections.Counter()
    for status, fields, body in responses:
        number, position = body.decode().split(".")
        if (fields["x-script"], status) != (number, STATUSES[int(position)]):
            sys.exit(f"a response of two scripts: {status} {fields} {body.decode()}")
        met[body.decode()] += 1

    positions = collections.defaultdict(list)
    for request in recorded:
        number, position = request["behavior"].split("body=")[1].strip('"').split(".")
        positions[int(number)].append(int(position))
    for number, found in positions.items():
        if found != [index % len(STATUSES) for index in range(len(found))]:
            sys.exit(f"script {number} was not played in order: {found[:20]}")
    if collections.Counter(f"{number}.{position}" for number, found in positions.items() for position in found) != met:
        sys.exit("the records differ from the responses")
    return positions


async def main():
    build = ["cargo", "build", "--quiet", "--locked", "-p", "delayed-backend"]
    subprocess.run(build, cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    program = [target / "debug/delayed-backend", "--listen", "0", "--control", "0", "--print-addresses"]
    backend = subprocess.Popen(
        program + ["--script", script(0)], stdout=subprocess.PIPE, env={**os.environ, "RUST_LOG": "warn"}
    )
    try:
        addresses = json.loads(backend.stdout.readline())
        control = await Connection.open(addresses["control_port"])
        responses, start = [], time.monotonic() + 0.2
        loads = [load(addresses["port"], responses, start, index) for index in range(CONNECTIONS)]
        await asyncio.wait_for(asyncio.gather(change(control, start), *loads), SECONDS * 3 + 30)
        elapsed = time.monotonic() - start
        _, _, report = await control.call("GET", "/requests")
    finally:
        backend.terminate()
        backend.wait(timeout=60)
    report = json.loads(report)
    expected = int(RATE * SECONDS)
    if (len(responses), report["received"], len(report["requests"])) != (expected, expected, expected):
        sys.exit(f"sent {expected}, {len(responses)} responses, {report['received']} received")
    scripts = check(responses, report["requests"])
    print(f"{expected} requests in {elapsed:.1f} s, {CHANGES} changes: {len(scripts)} scripts were met.")
    print("Every request met one script whole, each script was played in order, and no request was lost.")


asyncio.run(main())
