"""The backends: nginx, or the bench's own for what nginx does not do well."""

import os
import subprocess

from peers import backend_nginx
from processes import Server, free_port, load_processors


class Backends:
    """Starts backends. Their files and the certificate of those with TLS are in `folder`."""

    def __init__(self, bench, folder):
        self.bench, self.folder = bench, folder
        self.certificate, self.key = os.path.join(folder, "certificate.pem"), os.path.join(folder, "key.pem")
        make_certificate(self.certificate, self.key, folder)

    def start(self, work):
        """Returns the backend of a kind of work."""
        if work.retries:
            return self.start_own("retry")
        if work.put:
            # nginx discards bodies in pieces of 4 KiB, which would slow the proxies down.
            return self.start_own("ok")
        if work.path != "/hello":
            with open(self.folder + work.path, "wb") as file:
                file.write(b"x" * int(work.path[1:]))
        port, config = free_port(), os.path.join(self.folder, "backend.conf")
        processors = load_processors(work.all_processors)
        with open(config, "w", encoding="utf-8") as file:
            file.write(backend_nginx(work, port, max(1, len(processors) // 2), self.folder, self.certificate, self.key))
        command = ["nginx", "-c", config, "-e", "/dev/null"]
        return Server("backend", command, port, processors, os.path.join(self.folder, "backend.log"))

    def start_own(self, behavior):
        """Returns a backend that behaves as `bench backend` describes."""
        port = free_port()
        command = [self.bench, "backend", f"127.0.0.1:{port}", behavior]
        return Server(behavior, command, port, load_processors(False), os.path.join(self.folder, f"{behavior}.log"))


def make_certificate(certificate, key, folder):
    """Makes a certificate for localhost that is its own authority."""
    config = os.path.join(folder, "certificate.conf")
    with open(config, "w", encoding="ascii") as file:
        file.write(
            "[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = extensions\n[name]\nCN = localhost\n"
            "[extensions]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = DNS:localhost, IP:127.0.0.1\n"
        )
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split()
    command += ["-config", config, "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
