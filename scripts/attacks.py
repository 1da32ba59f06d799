#!/usr/bin/env python3
"""The upstream, the attacks and the well-behaved clients of scripts/attacks.sh. Needs only the standard library.

    attacks.py upstream PORT                  serve the paths that the attacks request, until killed
    attacks.py list                           print the names of the attacks
    attacks.py title ATTACK                   print the description of an attack
    attacks.py columns                        print the header of the table
    attacks.py run ATTACK PID H1PORT H2PORT   attack one proxy and print the measurements, separated by tabs
    attacks.py table FILE                     print the rows of one attack, each `name<TAB>output of run`

SECONDS_EACH sets how long an attack lasts, SECONDS_AFTER how long after it the memory is read again.
"""

import asyncio
import base64
import hashlib
import multiprocessing
import os
import selectors
import socket
import struct
import sys
import time

SECONDS_EACH = float(os.environ.get("SECONDS_EACH", "4"))
SECONDS_AFTER = float(os.environ.get("SECONDS_AFTER", "2"))
GETS_PER_SECOND = 20
# A well-behaved client gives up after this.
GET_TIMEOUT_S = 4
BIG = 4 << 20

# --- The upstream -----------------------------------------------------------------------------------------------------


async def discard(reader, length):
    while length > 0:
        piece = await reader.read(min(length, 65536))
        if not piece:
            raise ConnectionError
        length -= len(piece)


async def hang(reader):
    """Reads and discards until the peer closes."""
    while await reader.read(65536):
        pass


async def respond(reader, writer):
    """Handles one request. Returns whether the connection can be reused."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    path = head.split(" ", 2)[1]
    headers = {}
    for line in head.split("\r\n")[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    length = int(headers.get("content-length", "0"))

    if path == "/stall":
        # Does not read the body. The StreamReader pauses the transport when its buffer is full.
        await asyncio.sleep(3600)
    elif path == "/silent":
        await hang(reader)
        return False
    elif path == "/tunnel":
        key = headers.get("sec-websocket-key", "") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n"
        )
        await hang(reader)
        return False
    elif path == "/processing":
        while True:
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.005)
    elif path == "/big":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % BIG)
        piece = bytes(65536)
        for _ in range(BIG // len(piece)):
            writer.write(piece)
            await writer.drain()
    else:
        await discard(reader, length)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello World!!!")
        await writer.drain()
    return True


async def connection(reader, writer):
    try:
        while await respond(reader, writer):
            pass
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.transport.abort()


async def upstream(port):
    server = await asyncio.start_server(connection, "127.0.0.1", port, backlog=4096)
    async with server:
        await server.serve_forever()


# --- Attacking clients ------------------------------------------------------------------------------------------------
# Each function runs in its own process until it is killed, which closes its sockets.


def connect(port, receive_buffer=None):
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.settimeout(5)
    client.connect(("127.0.0.1", port))
    client.setblocking(False)
    return client


def offer(client, data):
    """Sends what the kernel accepts now. Returns how much, or None if the connection has ended."""
    try:
        return client.send(data)
    except BlockingIOError:
        return 0
    except OSError:
        return None


def take(client):
    """Returns the bytes received so far, b"" if there are none, or None if the connection has ended."""
    try:
        return client.recv(65536) or None
    except BlockingIOError:
        return b""
    except OSError:
        return None


def read_all(clients, when_read=None):
    """Reads from all of them until killed, and closes those that the proxy closes."""
    selector = selectors.DefaultSelector()
    for client in clients:
        selector.register(client, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select(0.5):
            data = take(key.fileobj)
            if data is None:
                selector.unregister(key.fileobj)
                key.fileobj.close()
            elif when_read:
                when_read(key.fileobj, data)


# HTTP/2 frames (RFC 9113): nine bytes, then the payload.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, SETTINGS, PING, WINDOW_UPDATE = 1, 4, 6, 8
ACK = 1
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4
LARGEST_WINDOW = (1 << 31) - 1


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(window=None):
    return frame(SETTINGS, 0, 0, b"" if window is None else struct.pack(">HI", INITIAL_WINDOW_SIZE, window))


def get(stream, path):
    block = b""
    for name, value in ((b":method", b"GET"), (b":scheme", b"http"), (b":path", path), (b":authority", b"localhost")):
        # A literal field without indexing, with a literal name (RFC 7541, 6.2.2).
        block += b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
    return frame(HEADERS, END_STREAM | END_HEADERS, stream, block)


def obliging():
    """A reader that acknowledges each SETTINGS and each PING."""
    unread = {}

    def when_read(client, data):
        data = unread.get(client, b"") + data
        while len(data) >= 9:
            length = int.from_bytes(data[:3], "big")
            if len(data) < 9 + length:
                break
            kind, flags, payload, data = data[3], data[4], data[9 : 9 + length], data[9 + length :]
            if kind == SETTINGS and not flags & ACK:
                offer(client, frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                offer(client, frame(PING, ACK, 0, payload))
        unread[client] = data

    return when_read


def send_and_wait(port, count, data):
    clients = []
    for _ in range(count):
        clients.append(connect(port))
        offer(clients[-1], data)
    read_all(clients)


def partial_preface(_, h2):
    send_and_wait(h2, 500, b"PRI")


def first_letter(_, h2):
    send_and_wait(h2, 500, b"P")


def idle_http2(_, h2):
    clients = []
    for _ in range(300):
        clients.append(connect(h2))
        offer(clients[-1], PREFACE + settings())
    read_all(clients, obliging())


def zero_window(_, h2):
    clients = []
    for _ in range(6):
        clients.append(connect(h2))
        offer(clients[-1], PREFACE + settings(0) + b"".join(get(1 + 2 * i, b"/hello") for i in range(100)))
    read_all(clients, obliging())


def unread_responses(_, h2):
    clients = []
    for _ in range(5):
        client = connect(h2, receive_buffer=4096)
        window = frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", LARGEST_WINDOW - 65535))
        requests = b"".join(get(1 + 2 * i, b"/big") for i in range(100))
        offer(client, PREFACE + settings(LARGEST_WINDOW) + window + requests)
        clients.append(client)
    time.sleep(3600)


def post(path, length):
    return b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (path, length)


def one_byte_segments(h1, _):
    clients = [connect(h1) for _ in range(20)]
    for client in clients:
        offer(client, post(b"/silent", 60000))
    left = {client: 60000 for client in clients}
    while left:
        for client in list(left):
            sent = offer(client, b"x")
            left[client] -= sent or 0
            if sent is None or left[client] == 0:
                del left[client]
    read_all(clients)


def unread_uploads(h1, _):
    body = bytes(1 << 20)
    left = {}
    for _ in range(10):
        client = connect(h1)
        offer(client, post(b"/stall", 16 << 20))
        left[client] = 16 << 20
    while left:
        for client in list(left):
            sent = offer(client, body[: min(left[client], len(body))])
            if sent is None:
                # The proxy has closed it.
                client.close()
                del left[client]
            else:
                left[client] -= sent
        time.sleep(0.01)
    time.sleep(3600)


def slow_uploads(h1, _):
    clients = []
    for _ in range(300):
        clients.append(connect(h1))
        offer(clients[-1], post(b"/echo", 1000))
    while True:
        for client in clients[:]:
            if offer(client, b"x") is None:
                client.close()
                clients.remove(client)
        time.sleep(1)


def idle_tunnels(h1, _):
    handshake = (
        b"GET /tunnel HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    send_and_wait(h1, 200, handshake)


def one_more_byte(h1, _):
    clients = []
    for _ in range(300):
        clients.append(connect(h1))
        offer(clients[-1], b"GET /silent HTTP/1.1\r\nHost: localhost\r\n\r\n")
    time.sleep(0.3)
    for number, client in enumerate(clients):
        offer(client, b"x")
        if number % 2:
            # A reset instead of a FIN.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    time.sleep(3600)


def endless_102(h1, _):
    send_and_wait(h1, 50, b"GET /processing HTTP/1.1\r\nHost: localhost\r\n\r\n")


ATTACKS = {
    "partial-preface": (partial_preface, "`PRI` and silence, 500 connections"),
    "first-letter": (first_letter, "`P` and silence, 500 connections"),
    "idle-http2": (idle_http2, "HTTP/2 connections without a request that acknowledge each PING, 300"),
    "zero-window": (zero_window, "HTTP/2, INITIAL_WINDOW_SIZE=0, 6 connections x 100 GETs"),
    "unread-responses": (unread_responses, "HTTP/2, unread responses of 4 MiB, 5 connections x 100 GETs"),
    "one-byte-segments": (one_byte_segments, "POSTs of 60 KB in segments of one byte, 20"),
    "unread-uploads": (unread_uploads, "POSTs of 16 MiB to an upstream that reads only the head, 10"),
    "slow-uploads": (slow_uploads, "POSTs at 1 byte/s, 300"),
    "idle-tunnels": (idle_tunnels, "idle WebSockets, 200"),
    "one-more-byte": (one_more_byte, "GETs without a response from the upstream; the client sends one more byte and closes, 300"),
    "endless-102": (endless_102, "GETs for which the upstream sends 102 every 5 ms for ever, 50"),
}

# --- Measuring --------------------------------------------------------------------------------------------------------


def read(path):
    with open(path, encoding="latin-1") as file:
        return file.read()


def process_tree(root):
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parent = read(f"/proc/{name}/stat").rpartition(")")[2].split()[1]
            except OSError:
                continue
            children.setdefault(int(parent), []).append(int(name))
    tree = [root]
    for process in tree:
        tree.extend(children.get(process, []))
    return tree


def memory_kib(tree, what):
    lines = (line.split() for process in tree for line in read(f"/proc/{process}/status").splitlines())
    return sum(int(words[1]) for words in lines if words[0] == what + ":")


def processor_s(tree):
    ticks = 0
    for process in tree:
        fields = read(f"/proc/{process}/stat").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def sockets(tree):
    count = 0
    for process in tree:
        for descriptor in os.listdir(f"/proc/{process}/fd"):
            try:
                count += os.readlink(f"/proc/{process}/fd/{descriptor}").startswith("socket:")
            except OSError:
                pass
    return count


async def get_hello(port):
    """Returns how long a GET on its own connection took, or None if its response was not 200."""
    began = time.monotonic()

    async def exchange():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return await reader.read()
        finally:
            writer.close()

    try:
        response = await asyncio.wait_for(exchange(), GET_TIMEOUT_S)
    except (OSError, asyncio.TimeoutError):
        return None
    if response.startswith(b"HTTP/1.1 200 ") and response.endswith(b"Hello World!!!"):
        return time.monotonic() - began
    return None


async def well_behaved(port, seconds):
    """Starts the GETs at a fixed rate, however long each takes. Returns all after `seconds`, done or not."""
    began = time.monotonic()
    tasks = []
    for number in range(round(seconds * GETS_PER_SECOND)):
        await asyncio.sleep(max(0.0, began + number / GETS_PER_SECOND - time.monotonic()))
        tasks.append(asyncio.create_task(get_hello(port)))
    await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
    return tasks


async def measure(attack, process, h1, h2):
    for _ in range(20):
        await get_hello(h1)
    tree = process_tree(process)
    for each in tree:
        try:
            # Resets VmHWM to the current memory (proc(5)).
            with open(f"/proc/{each}/clear_refs", "w", encoding="ascii") as file:
                file.write("5")
        except OSError:
            pass
    idle_kib, idle_sockets, idle_s = memory_kib(tree, "VmRSS"), sockets(tree), processor_s(tree)

    attacker = multiprocessing.Process(target=ATTACKS[attack][0], args=(h1, h2), daemon=True)
    attacker.start()
    gets = await well_behaved(h1, SECONDS_EACH)
    failed = not attacker.is_alive()
    spent_s, peak_kib, held = processor_s(tree) - idle_s, memory_kib(tree, "VmHWM") - idle_kib, sockets(tree) - idle_sockets
    attacker.kill()
    attacker.join()
    if failed:
        sys.exit(f"attacks: {attack} ended early")

    await asyncio.sleep(SECONDS_AFTER)
    after_kib, after_sockets = memory_kib(tree, "VmRSS") - idle_kib, sockets(tree) - idle_sockets
    times = sorted(took for took in await asyncio.gather(*gets) if took is not None)
    p99_ms = times[len(times) * 99 // 100] * 1000 if times else float("nan")
    numbers = (idle_kib / 1024, peak_kib / 1024, spent_s, len(times), len(gets), p99_ms, max(0, held), after_kib / 1024, max(0, after_sockets))
    print("\t".join(f"{number:.2f}" for number in numbers))


# --- The table --------------------------------------------------------------------------------------------------------

COLUMNS = ("idle MiB", "peak MiB", "CPU s", "200s", "p99 ms", "sockets", "MiB after", "sockets after")
WIDTHS = (10, 10, 8, 8, 9, 9, 11, 15)
# The columns that are compared. Smaller values are noise and count as these.
FLOORS = {"peak MiB": 1, "CPU s": 0.1, "p99 ms": 20, "sockets": 20, "MiB after": 1}


def table(file):
    rows = {}
    for line in read(file).splitlines():
        name, *numbers = line.split("\t")
        idle, peak, cpu, ok, sent, p99, held, after, held_after = map(float, numbers)
        rows[name] = {
            "idle MiB": idle,
            "peak MiB": peak,
            "CPU s": cpu,
            "200s": (ok, sent),
            "p99 ms": p99,
            "sockets": held,
            "MiB after": after,
            "sockets after": held_after,
        }
    peers = [row for name, row in rows.items() if name != "gateway"]

    def worse(name, column, value):
        """Returns whether the gateway's number is worse than twice the best of its peers'."""
        if name != "gateway" or not peers:
            return False
        if column == "200s":
            return 2 * value[0] < max(peer[column][0] for peer in peers)
        if column not in FLOORS:
            return False
        # Peers that failed more well-behaved clients are not compared by the latency of the rest.
        served = [peer for peer in peers if column != "p99 ms" or peer["200s"][0] >= rows[name]["200s"][0]]
        best = min((peer[column] for peer in served), default=float("inf"))
        return value > 2 * max(best, FLOORS[column])

    for name, row in rows.items():
        cells = []
        for column, width in zip(COLUMNS, WIDTHS):
            value = row[column]
            if column == "200s":
                text = f"{value[0]:.0f}/{value[1]:.0f}"
            elif value != value:
                text = "-"
            else:
                text = f"{value:.{2 if column == 'CPU s' else 0 if 'sockets' in column else 1}f}"
            cells.append((text + ("*" if worse(name, column, value) else " ")).rjust(width))
        print(f"  {name:9}" + "".join(cells).rstrip())


def main():
    command, arguments = sys.argv[1], sys.argv[2:]
    if command == "upstream":
        asyncio.run(upstream(int(arguments[0])))
    elif command == "list":
        print("\n".join(ATTACKS))
    elif command == "title":
        print(ATTACKS[arguments[0]][1])
    elif command == "columns":
        print(" " * 11 + "".join((column + " ").rjust(width) for column, width in zip(COLUMNS, WIDTHS)).rstrip())
    elif command == "run":
        attack, *numbers = arguments
        asyncio.run(measure(attack, *map(int, numbers)))
    elif command == "table":
        table(arguments[0])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
