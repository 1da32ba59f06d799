#!/usr/bin/env python3
"""Counts the instructions of the hot paths: user space, per request or call, under callgrind.

    scripts/check-instructions.py            fails if a path takes over 3 % more than scripts/instructions.toml says
    scripts/check-instructions.py --write    updates that file

Each path runs twice, with a different number of requests, and the difference is divided by theirs: so the start does not
count. The program under callgrind has a single thread. This script is both its client and its server, and waits until the
program sleeps before it sends anything: so the program takes the same steps whatever else runs on the machine.

Without valgrind, nothing is counted. With other versions of the compiler, the C library or valgrind than those in the file,
the counts are printed but not checked, as they would differ anyway.
"""

import concurrent.futures
import json
import os
import pathlib
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXPECTED = ROOT / "scripts/instructions.toml"
LIMIT_PERCENT = 3
# Requests of the two runs. The first ones fill pools and caches, and are part of both.
FEW, MANY = 100, 1100
TIMEOUT_S = 60

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello World!!!"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
GET = b"GET /hello HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: check/1\r\nAccept: */*\r\n\r\n"
PUT = b"PUT /hello HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 65536\r\n\r\n" + bytes(65536)


class Callgrind:
    """A program under callgrind."""

    def __init__(self, program, *arguments):
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.stat = pathlib.Path(f"/proc/{self.process.pid}/stat")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def wait_until_asleep(self):
        """Waits until the program waits for something."""
        while self.stat.read_text().rpartition(")")[2].split()[0] != "S":
            time.sleep(0.00005)

    def count(self):
        """Returns the number of instructions, once the program has ended."""
        _, errors = self.process.communicate(timeout=TIMEOUT_S)
        found = re.search(r"Collected : (\d+)", errors)
        if found is None:
            sys.exit(f"check-instructions: {' '.join(self.process.args)} failed:\n{errors}")
        return int(found[1])


def receive(stream):
    """Reads a message."""
    message = b""
    while b"\r\n\r\n" not in message:
        message += read(stream)
    head, _, body = message.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    while length is not None and len(body) < int(length[1]):
        body += read(stream)


def read(stream):
    piece = stream.recv(1 << 20)
    if not piece:
        raise EOFError("the connection was closed")
    return piece


def listen():
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(TIMEOUT_S)
    return listener


def url(listener):
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def accept(listener):
    stream = listener.accept()[0]
    stream.settimeout(TIMEOUT_S)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def gateway(program, requests, request, responses):
    """Sends requests through the gateway, whose upstream gives these responses to each."""
    with listen() as listener, Callgrind(program, "gateway", url(listener)) as gateway:
        host, port = gateway.process.stdout.readline().strip().split(":")
        upstream = None
        with socket.create_connection((host, int(port)), TIMEOUT_S) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(requests):
                gateway.wait_until_asleep()
                client.sendall(request)
                for response in responses:
                    upstream = upstream or accept(listener)
                    receive(upstream)
                    gateway.wait_until_asleep()
                    upstream.sendall(response)
                receive(client)
            gateway.wait_until_asleep()
            gateway.process.terminate()
            return gateway.count()


def client(program, requests):
    """Makes the client send requests."""
    with listen() as listener, Callgrind(program, "client", url(listener), requests) as client:
        with accept(listener) as server:
            for _ in range(requests):
                receive(server)
                client.wait_until_asleep()
                server.sendall(OK)
            return client.count()


def call(program, calls, retries):
    """Makes the executor run calls."""
    with Callgrind(program, "call", retries, calls) as executor:
        return executor.count()


PATHS = {
    "gateway-get": lambda program, count: gateway(program, count, GET, [OK]),
    "gateway-get-retried": lambda program, count: gateway(program, count, GET, [BUSY, OK]),
    "gateway-put-64k": lambda program, count: gateway(program, count, PUT, [OK]),
    "client-get": client,
    "core-call": lambda program, count: call(program, count, 0),
    "core-call-retried": lambda program, count: call(program, count, 3),
}


def build():
    """Builds the program, and returns its path."""
    command = ["cargo", "build", "--locked", "--quiet", "--profile", "instructions", "-p", "retry-service"]
    command += ["--example", "instructions", "--message-format", "json-render-diagnostics"]
    lines = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout.splitlines()
    return next(path for path in (json.loads(line).get("executable") for line in lines) if path)


def measure(program):
    """Returns the instructions per request of each path."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = {name: [pool.submit(path, program, count) for count in (FEW, MANY)] for name, path in PATHS.items()}
        totals = {name: [run.result() for run in pair] for name, pair in runs.items()}
    return {name: round((many - few) / (MANY - FEW)) for name, (few, many) in totals.items()}


def tools():
    """Returns the versions of what the counts depend on."""
    def first_line(*command):
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[0]

    rustc, libc = first_line("rustc", "--version"), " ".join(platform.libc_ver())
    return f"{rustc}, {libc}, {first_line('valgrind', '--version')}, {platform.machine()}"


def write(counts):
    lines = [
        "# Instructions per request or call of the hot paths. Written by scripts/check-instructions.py --write.",
        f"tools = {json.dumps(tools())}",
        "",
        "[instructions]",
        *(f"{name} = {count}" for name, count in counts.items()),
    ]
    EXPECTED.write_text("\n".join(lines) + "\n")


def check(counts):
    """Compares the counts with the expected ones. Returns whether all are within the limit."""
    file = tomllib.loads(EXPECTED.read_text())
    expected, now = file["instructions"], tools()
    changes = {name: 100 * (count / expected[name] - 1) for name, count in counts.items() if name in expected}
    print(f"{'':<22}{'now':>10}{'expected':>10}")
    for name, count in counts.items():
        print(f"{name:<22}{count:>10}{expected.get(name, '-'):>10}{changes.get(name, 0):>+8.1f} %")
    if file["tools"] != now:
        print(f"Not checked. Expected are the counts with {file['tools']}; this is {now}.")
    elif changes.keys() != counts.keys() or max(changes.values()) > LIMIT_PERCENT:
        print(f"A path takes over {LIMIT_PERCENT} % more than expected. Find out why, or accept it with --write.")
        return False
    elif min(changes.values()) < -LIMIT_PERCENT:
        print("A path takes less than expected. Keep it so with --write.")
    return True


def main():
    if sys.argv[1:] not in ([], ["--write"]):
        sys.exit(__doc__)
    if shutil.which("valgrind") is None:
        print("NOT CHECKED: instructions, as valgrind is not installed")
        return
    counts = measure(build())
    if sys.argv[1:]:
        write(counts)
    elif not check(counts):
        sys.exit(1)


if __name__ == "__main__":
    main()
