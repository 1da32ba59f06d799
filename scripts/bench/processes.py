"""Processes on processors of their own, and what they use."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PROCESSORS = sorted(os.sched_getaffinity(0))
# Whether the proxy can have several processors that clients and backend do not use.
LOAD_IS_APART = len(PROCESSORS) >= 4
START_LIMIT_S = 20


def proxy_processors(all_processors):
    """Returns where proxies run."""
    if not all_processors:
        return PROCESSORS[:1]
    return PROCESSORS[: len(PROCESSORS) // 2] if LOAD_IS_APART else PROCESSORS


def load_processors(all_processors):
    """Returns where clients and backend run."""
    if not all_processors:
        return PROCESSORS[1:]
    return PROCESSORS[len(PROCESSORS) // 2 :] if LOAD_IS_APART else PROCESSORS


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def on(processors):
    """Returns arguments of Popen that start a process on these processors."""
    return {"preexec_fn": lambda: os.sched_setaffinity(0, processors)}


class Server:
    """A program that listens on a port, by default of 127.0.0.1, until the end of a `with` block."""

    def __init__(self, name, command, port, processors, log, host="127.0.0.1", log_level="error"):
        self.name, self.command, self.port, self.processors, self.log = name, command, port, processors, log
        self.host, self.log_level = host, log_level

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        ours = ("RETRY_SERVICE_", "DELAYED_BACKEND_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        with open(self.log, "wb") as log:
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            variables = kept | {"RUST_LOG": self.log_level}
            self.process = subprocess.Popen(self.command, env=variables, **streams, **on(self.processors))
        limit = time.monotonic() + START_LIMIT_S
        while time.monotonic() < limit and self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex((self.host, self.port)) == 0:
                    return
            time.sleep(0.02)
        self.stop()
        with open(self.log, encoding="utf-8", errors="replace") as log:
            raise SystemExit(f"bench: {self.name} does not start: {log.read()[-1000:]}")

    def stop(self):
        processes = self.tree()
        self.process.terminate()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            self.process.wait()

    def tree(self):
        """Returns the ids of the process and its descendants."""
        found, left = [], [self.process.pid]
        while left:
            process = left.pop()
            found.append(process)
            # Threads may end meanwhile.
            with contextlib.suppress(FileNotFoundError):
                for thread in os.listdir(f"/proc/{process}/task"):
                    with open(f"/proc/{process}/task/{thread}/children", encoding="ascii") as file:
                        left += [int(child) for child in file.read().split()]
        return found

    def seconds(self):
        """Returns the processor time that the tree has used."""
        ticks = 0
        for process in self.tree():
            with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS_PER_SECOND

    def resident_kib(self):
        """Returns the memory of the tree."""
        total = 0
        for process in self.tree():
            with open(f"/proc/{process}/status", encoding="ascii", errors="replace") as file:
                total += int(re.search(r"VmRSS:\s+(\d+)", file.read())[1])
        return total


class OtherPrograms:
    """How much of the machine programs other than this one and its children use."""

    def __init__(self):
        self.start = self._others(), time.monotonic()

    def share(self):
        others, now = self._others(), time.monotonic()
        return max(0, others - self.start[0]) / (now - self.start[1]) / (os.cpu_count() or 1)

    @staticmethod
    def _others():
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, _, _, irq, softirq, steal = (int(field) for field in file.readline().split()[1:9])
        return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND - sum(os.times()[:4])
