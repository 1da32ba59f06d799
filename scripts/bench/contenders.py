"""The proxies that are compared, and how each is started."""

import os
from dataclasses import dataclass

import peers
from peers import Setup
from processes import Server, free_port, proxy_processors


@dataclass(frozen=True)
class Contender:
    name: str  # In tables.
    kind: str
    program: str
    large_buffers: bool = False
    memory_only: bool = False

    def can_do(self, work):
        """Returns whether this proxy takes part in a kind of work."""
        if self.memory_only:
            return False
        if self.kind == "nginx" and work.http2_upstream:
            return False
        return work.has_large_bodies or not self.large_buffers

    def start(self, work, upstream, folder, certificate, flags=(), long_wait=False):
        """Returns the proxy as a server, in front of a port of 127.0.0.1. `flags` are the gateway's."""
        processors = proxy_processors(work.all_processors)
        own_folder = os.path.join(folder, f"{self.name} {work.name}".replace(" ", "-").replace(",", ""))
        os.makedirs(own_folder, exist_ok=True)
        options = {"large_buffers": self.large_buffers, "long_wait": long_wait}
        setup = Setup(work, free_port(), upstream, len(processors), own_folder, certificate, **options)
        command = COMMANDS[self.kind](self.program, setup)
        if self.kind == "gateway":
            command += flags
        return Server(self.name, command, setup.port, processors, os.path.join(own_folder, "log"))


def gateway(program, setup):
    work = setup.work
    command = [program, "--forward", "--listen", f"127.0.0.1:{setup.port}", "--upstream", upstream_url(setup)]
    command += ["--upstream-ca", setup.certificate] if work.tls else []
    command += ["--upstream-http2"] if work.http2_upstream else []
    wait = "1h" if setup.long_wait else "0" if work.retries else None
    if wait:
        command += ["--interval", wait, "--max-wait-interval", "1h", "--jitter", "none", "--budget-ratio", "off"]
    return command


def bare(program, setup):
    work = setup.work
    options = [f"threads={setup.processors}"]
    options += [f"ca={setup.certificate}"] if work.tls else []
    options += ["http2-clients"] if work.http2_clients else []
    options += ["http2-upstream"] if work.http2_upstream else []
    options += ["retry"] if work.retries else []
    return [program, "bare-proxy", f"127.0.0.1:{setup.port}", upstream_url(setup), *options]


def nginx(program, setup):
    return [program, "-c", write(setup, "nginx.conf", peers.nginx(setup)), "-e", "/dev/null"]


def haproxy(program, setup):
    return [program, "-db", "-f", write(setup, "haproxy.cfg", peers.haproxy(setup))]


def envoy(program, setup):
    config = write(setup, "envoy.json", peers.envoy(setup))
    flags = "--disable-hot-restart --use-dynamic-base-id --log-level off".split()
    return [program, *flags, "--concurrency", str(setup.processors), "-c", config]


COMMANDS = {"gateway": gateway, "bare": bare, "nginx": nginx, "haproxy": haproxy, "envoy": envoy}


def upstream_url(setup):
    return f"{'https' if setup.work.tls else 'http'}://127.0.0.1:{setup.upstream}"


def write(setup, name, text):
    path = os.path.join(setup.folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path
