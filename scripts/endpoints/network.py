"""A network of this process and its children alone, in which packets can be lost and a name can have several addresses."""

import ctypes
import os
import socket
import subprocess
import threading

NEW_MOUNTS, NEW_NETWORK = 0x20000, 0x40000000
# The endpoints have addresses in it, and clients the last one.
PREFIX = "10.9.0."
CLIENT = PREFIX + "254"
NAME = "endpoints.test"


class Network:
    """Moves this process into namespaces of its own, with loopback as the only interface."""

    def __init__(self, folder):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(NEW_NETWORK | NEW_MOUNTS) != 0:
            raise SystemExit(f"compare-endpoints: skipped: no namespaces here: {os.strerror(ctypes.get_errno())}")
        run("mount --make-rprivate /")
        run("ip link set lo up")
        run(f"ip address add {CLIENT}/32 dev lo")
        # What is sent to an address that is not local returns from loopback and is dropped without a word.
        run(f"ip route add {PREFIX}0/24 dev lo src {CLIENT}")
        self.resolver = Resolver(folder)

    def add_endpoints(self, count):
        """Returns this many addresses, which are also those of the name."""
        addresses = [f"{PREFIX}{number}" for number in range(1, count + 1)]
        for address in addresses:
            self.restore(address)
        self.resolver.addresses = addresses
        return addresses

    def restore(self, address):
        run(f"ip route replace local {address} dev lo src {CLIENT}")

    def lose(self, address):
        """From now on, all packets to this address are lost."""
        run(f"ip route delete local {address} dev lo")

    def failed_connects(self):
        """Returns how many connections were tried and not accepted, so far."""
        with open("/proc/net/snmp", encoding="ascii") as file:
            names, values = (line.split()[1:] for line in file if line.startswith("Tcp:"))
        counts = dict(zip(names, map(int, values), strict=True))
        return counts["ActiveOpens"] - counts["PassiveOpens"]


class Resolver:
    """Resolves every name to the same addresses."""

    def __init__(self, folder):
        self.addresses = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))
        config = os.path.join(folder, "resolv.conf")
        with open(config, "w", encoding="ascii") as file:
            file.write("nameserver 127.0.0.1\n")
        run(f"mount --bind {config} /etc/resolv.conf")
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            query, client = self.socket.recvfrom(512)
            question = query[12 : query.index(0, 12) + 5]
            is_a = question.endswith(b"\0\1\0\1")
            record = b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4"  # An A record of the name in the question, for five seconds.
            records = [record + socket.inet_aton(address) for address in self.addresses if is_a]
            head = query[:2] + b"\x81\x80\0\1" + len(records).to_bytes(2, "big") + b"\0\0\0\0"
            self.socket.sendto(head + question + b"".join(records), client)


def run(command):
    subprocess.run(command.split(), check=True)
