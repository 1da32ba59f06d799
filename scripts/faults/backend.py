"""The backend as a process."""

import contextlib
import re
import subprocess


@contextlib.contextmanager
def serve(program, script, ca=None):
    """Runs a backend that plays the script, with TLS if there is a file for the certificate of its CA. Yields its URL."""
    if script == "delay":
        script = "delay=10ms"
    command = [program, "--listen", "127.0.0.1:0", "--script", f"{script},ok"]
    if ca:
        command += ["--tls", "--tls-cert-out", ca]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield re.search(r"https?://[0-9.:]+", process.stderr.readline()).group() + "/hello"
    finally:
        process.kill()
        process.communicate()


def scripts(table):
    """Returns a script for each form of a behavior in the table of the crate's documentation."""
    for row in table.splitlines()[2:]:
        forms = re.findall(r"`([^`]*)`", row.split("|")[1])
        # A default is shown without a value.
        form = forms[0]
        if form == "delay=1s":
            yield "delay=10ms..50ms"
        elif form.startswith("retry-after"):
            yield f"status=503;{form}"
        elif form in ("down", "blackhole"):
            yield f"{form}=700ms"
        elif form in ("drip", "drip-head"):
            yield f"{form}=1ms"
        elif form == "tls=expired":
            yield from ("tls=expired", "tls=wrong-name", "tls=untrusted", "tls=stall")
        else:
            yield form.replace("after=100", "after=20").replace("goaway=3", "goaway=1")
            if form == "chunked":
                yield "chunked;truncate"
