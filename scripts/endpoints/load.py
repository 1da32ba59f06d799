"""Clients that send requests at a steady rate, and what they see."""

import math
import subprocess
import tempfile
from dataclasses import dataclass

from processes import load_processors, on


@dataclass(frozen=True)
class Outcome:
    """What became of a request."""

    number: int
    kind: str
    due_s: float  # Since the first request.
    ms: float  # From when it was due until it ended.
    status: int  # 0 if no complete response arrived.


class Load:
    """Requests that are sent from now on."""

    def __init__(self, program, port, kinds, rate, seconds):
        self.kinds, self.rate = kinds, rate
        command = [program, "steady", f"127.0.0.1:{port}", ",".join(kinds), str(rate), str(seconds)]
        # A pipe that is not read would stop the program at its end.
        self.output = tempfile.TemporaryFile("w+", encoding="ascii")
        self.process = subprocess.Popen(command, stdout=self.output, **on(load_processors(False)))

    def is_running(self):
        return self.process.poll() is None

    def outcomes(self):
        """Returns what became of all requests."""
        if self.process.wait() != 0:
            raise SystemExit("compare-endpoints: the load failed")
        self.output.seek(0)
        found = []
        for line in self.output:
            number, us, status = map(int, line.split())
            kind = self.kinds[number % len(self.kinds)]
            found.append(Outcome(number, kind, number / self.rate, us / 1000, status))
        return found


def percentile(outcomes, part):
    """Returns within how many milliseconds this part of the requests ended."""
    times = sorted(outcome.ms for outcome in outcomes)
    return times[math.ceil(part * len(times)) - 1]
