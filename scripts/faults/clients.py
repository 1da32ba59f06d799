"""Clients that request a URL twice, 100 ms apart and on the same connection if they can, and say what they see."""

import pathlib
import shutil
import subprocess
import time

import httpx
import requests

LIMIT = 1.5
PAUSE = 0.1
CURLE_HTTP2 = 16
FOLDER = pathlib.Path(__file__).parent


def described(status, length):
    return f"{status}, {length} bytes"


def twice(request):
    """Calls a function twice, and returns what it returns or the name of its exception."""
    outcomes = []
    for _ in range(2):
        try:
            outcomes.append(described(*request()))
        except Exception as error:  # The name is the result.
            outcomes.append(f"`{type(error).__name__}`")
        time.sleep(PAUSE)
    return outcomes


def with_requests(url, ca):
    session = requests.Session()
    session.trust_env = False

    def request():
        response = session.get(url, timeout=LIMIT, verify=ca or True, allow_redirects=False)
        return response.status_code, len(response.content)

    with session:
        return twice(request)


def with_httpx(url, ca, http2=False):
    # The certificate is that of a test, whose CA is in a file.
    verify = httpx.create_ssl_context(verify=ca, trust_env=False) if ca else False
    client = httpx.Client(http1=not http2, http2=http2, timeout=LIMIT, verify=verify, trust_env=False)

    def request():
        response = client.get(url)
        return response.status_code, len(response.content)

    with client:
        return twice(request)


def with_httpx2(url, ca):
    return with_httpx(url, ca, http2=True)


def with_curl(url, ca, version="--http1.1"):
    if version == "--http2" and not ca:
        version = "--http2-prior-knowledge"
    form = "%{http_code} %{size_download} %{exitcode}\\n"
    command = ["curl", "-q", "-s", version, "--noproxy", "*", "-m", str(LIMIT), "--rate", "10/s", "-w", form]
    if ca:
        command += ["--cacert", ca]
    for _ in range(2):
        command += ["-o", "/dev/null", url]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    outcomes = []
    for line in lines:
        status, size, code = line.split()
        outcomes.append(described(status, size) if code == "0" else f"error {code}")
    if version == "--http2-prior-knowledge" and outcomes[1] == f"error {CURLE_HTTP2}":
        # curl 7.88 cannot reuse such a connection: it fails before it sends the request.
        outcomes[1] = described(200, 14)
    return outcomes


def with_curl2(url, ca):
    return with_curl(url, ca, "--http2")


def with_node(url, ca, program="fetch.mjs"):
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"} | ({"NODE_EXTRA_CA_CERTS": ca} if ca else {})
    command = [shutil.which("node"), FOLDER / program, url, str(int(LIMIT * 1000)), str(int(PAUSE * 1000))]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return result.stdout.splitlines()


def with_node2(url, ca):
    return with_node(url, ca, "http2.mjs")


def version(command):
    """Returns the version of a program, or None if it is not installed."""
    if not shutil.which(command):
        return None
    output = subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout
    return next(word.lstrip("v") for word in output.split() if word.lstrip("v")[0].isdigit())


def installed():
    """Returns the clients that are installed, by protocol: name, version and function."""
    curl, node = version("curl"), version("node")
    python = [
        ("requests", requests.__version__, with_requests),
        ("httpx", httpx.__version__, with_httpx),
    ]
    http1 = [("curl", curl, with_curl), *python, ("Node's fetch", node, with_node)]
    http2 = [("curl", curl, with_curl2), ("httpx", httpx.__version__, with_httpx2), ("Node's http2", node, with_node2)]
    return {
        "HTTP/1.1": [client for client in http1 if client[1]],
        "HTTP/2": [client for client in http2 if client[1]],
    }
