#!/usr/bin/env python3
"""Checks servers against RFC 9113 (HTTP/2) and RFC 7541 (HPACK), frame by frame.

Usage: http2-conformance.py [--timeout SECONDS] [--list] NAME=http://HOST:PORT/PATH ...

Each URL has to respond with 200 and a body of at least 4 bytes to every method. Each case uses its own connection.
Prints a line for each failing case and a summary for each server. Exit code: 0 if only cases in KNOWN failed, 1 if
others did, 2 for bad usage.

Two rules of the RFC apply throughout: a stream error may be treated as a connection error (RFC 9113, section 5.4), and
a malformed request may get an error response instead (section 8.1.1).
"""

import argparse
import dataclasses
import socket
import sys
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

# Failures caused by decisions of the HTTP/2 library, h2, by section and title, and why they are harmless.
KNOWN = {
    ("3.4", "a first frame other than SETTINGS"): "the frame is valid; the defaults apply until SETTINGS arrive",
    ("8.2.1", "a value that begins with a space"): "HTTP/1.1 does not count the space as part of the value either",
    ("8.2.1", "a value that ends with a tab"): "HTTP/1.1 does not count the tab as part of the value either",
    ("8.3", "a pseudo-header field in trailers"): "it is dropped",
    ("8.3.1", "an :authority with a user name"): "only servers that forward requests have to check it",
    ("8.3.1", "Host other than :authority"): "a server should check it, but uses :authority",
}
# The gateway forwards requests, so it has to check these.
NOT_OF_GATEWAY = [("8.3.1", "an :authority with a user name"), ("8.3.1", "Host other than :authority")]
LESS_SPECIFIC = "h2 uses one code for everything it cannot parse; it does close the connection"

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
KINDS = "DATA HEADERS PRIORITY RST_STREAM SETTINGS PUSH_PROMISE PING GOAWAY WINDOW_UPDATE CONTINUATION".split()
UNKNOWN_KIND = 0xBE

ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20
WHOLE = END_HEADERS | END_STREAM

ERRORS = (
    "NO_ERROR PROTOCOL_ERROR INTERNAL_ERROR FLOW_CONTROL_ERROR SETTINGS_TIMEOUT STREAM_CLOSED FRAME_SIZE_ERROR "
    "REFUSED_STREAM CANCEL COMPRESSION_ERROR CONNECT_ERROR ENHANCE_YOUR_CALM INADEQUATE_SECURITY HTTP_1_1_REQUIRED"
).split()

(
    NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR,
    REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY, HTTP_1_1_REQUIRED,
) = range(len(ERRORS))

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 1, 2, 3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 4, 5, 6
DEFAULT_MAX_FRAME_SIZE = 2**14
DEFAULT_WINDOW = 2**16 - 1
MAX_WINDOW = 2**31 - 1


class Failure(Exception):
    """The server did not behave as expected."""


class LessSpecific(Failure):
    """The connection ended with PROTOCOL_ERROR although there is a more specific code."""


def error_name(code):
    return ERRORS[code] if code < len(ERRORS) else f"error {code:#x}"


# --- The part of HPACK that a client needs.


def integer(value, bits, pattern=0):
    """Encodes an integer with a prefix of this many bits (RFC 7541, section 5.1), after a representation's pattern."""
    most = 2**bits - 1
    if value < most:
        return bytes([pattern | value])
    encoded, rest = [pattern | most], value - most
    while rest >= 128:
        encoded.append(rest % 128 + 128)
        rest //= 128
    return bytes([*encoded, rest])


def text(value, huffman=False):
    """Encodes a string (section 5.2). Huffman-coded strings are passed in encoded form."""
    return integer(len(value), 7, 0x80 if huffman else 0) + value


def to_bytes(value):
    return value if isinstance(value, bytes) else value.encode()


def literal(name, value):
    """Encodes a literal field without indexing (section 6.2.2)."""
    return b"\0" + text(to_bytes(name)) + text(to_bytes(value))


def indexed(index):
    return integer(index, 7, 0x80)


def table_size(size):
    return integer(size, 5, 0x20)


# The strings of RFC 7541, appendix C, in Huffman code.
HUFFMAN_AUTHORITY = bytes.fromhex("f1e3c2e5f23a6ba0ab90f4ff")  # www.example.com
HUFFMAN_KEY = bytes.fromhex("25a849e95ba97d7f")  # custom-key
HUFFMAN_VALUE = bytes.fromhex("25a849e95bb8e8b4bf")  # custom-value

STATIC_STATUSES = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}
HUFFMAN_DIGITS = {"00000": "0", "00001": "1", "00010": "2"} | {f"{code:06b}": str(code - 22) for code in range(25, 32)}


def status_of(block):
    """Returns the status of a response. It is the first field, and not in the dynamic table, whose size is 0."""
    while block and block[0] & 0xE0 == 0x20:
        block = block[1:]
    first = block[0] if block else 0
    if first & 0x80 and first & 0x7F in STATIC_STATUSES:
        return STATIC_STATUSES[first & 0x7F]
    # A literal whose name is in the static table: at 8 to 14, in a prefix of four or six bits.
    if first & 0x80 or not 8 <= first & (0x3F if first & 0x40 else 0x0F) <= 14 or len(block) < 2:
        raise Failure(f"a response whose first field is not :status: {block.hex()}")
    value = block[2 : 2 + (block[1] & 0x7F)]
    if not block[1] & 0x80:
        return int(value)
    bits, digits = "".join(f"{byte:08b}" for byte in value), ""
    while len(digits) < 3:
        code = next((code for code in HUFFMAN_DIGITS if bits.startswith(code)), None)
        if code is None:
            raise Failure(f"a :status that is no number: {block.hex()}")
        digits, bits = digits + HUFFMAN_DIGITS[code], bits[len(code) :]
    return int(digits)


# --- Frames.


@dataclasses.dataclass
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes

    def code(self):
        """Returns the error code of GOAWAY or RST_STREAM."""
        return int.from_bytes(self.payload[4:8] if self.kind == GOAWAY else self.payload[:4], "big")

    def __str__(self):
        kind = KINDS[self.kind] if self.kind < len(KINDS) else f"frame of type {self.kind:#x}"
        detail = f" {error_name(self.code())}" if self.kind in (GOAWAY, RST_STREAM) else ""
        if self.kind == HEADERS:
            detail = f" {status_of(self.payload)}"
        return f"{kind}{detail}" + (f" on stream {self.stream}" if self.stream else "")


def frame(kind, flags, stream, payload=b"", reserved=0):
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + (reserved << 31 | stream).to_bytes(4, "big") + payload
    )


def settings(*pairs):
    return b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in pairs)


def number(value):
    return value.to_bytes(4, "big")


def dependency(stream, exclusive=False, weight=15):
    """Returns the payload of a PRIORITY frame."""
    return number(exclusive << 31 | stream) + bytes([weight])


@dataclasses.dataclass
class Target:
    name: str
    host: str
    port: int
    path: str
    timeout: float


class Peer:
    """The client side of a connection."""

    def __init__(self, target, *own_settings, bare=False):
        self.target = target
        self.socket = socket.create_connection((target.host, target.port), target.timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.settings = {}
        self.backlog = []
        self.seen = []
        self.windows = {0: DEFAULT_WINDOW}
        if not bare:
            self.handshake(*own_settings)

    def handshake(self, *own_settings):
        # With a dynamic table of size 0, responses can be decoded without state.
        self.write(PREFACE + frame(SETTINGS, 0, 0, settings((HEADER_TABLE_SIZE, 0), *own_settings)))
        first = self.next()
        if first is None or first.kind != SETTINGS or first.flags & ACK:
            raise Failure(f"the server begins with {first}, not with SETTINGS")
        self.settings_acknowledged()

    def write(self, content):
        try:
            self.socket.sendall(content)
        except (BrokenPipeError, ConnectionResetError):
            pass  # Reading reports the error.

    def send(self, kind, flags=0, stream=0, payload=b"", reserved=0):
        self.write(frame(kind, flags, stream, payload, reserved))

    def block(self, method="GET", more=(), without=(), **pseudo):
        """Encodes the head of a request. `pseudo` replaces the values of pseudo-header fields."""
        values = {"method": method, "scheme": "http", "path": self.target.path, "authority": "shop.example"} | pseudo
        head = b"".join(literal(f":{name}", value) for name, value in values.items() if name not in without)
        return head + b"".join(literal(name, value) for name, value in more)

    def request(self, stream=1, flags=WHOLE, **head):
        self.send(HEADERS, flags, stream, self.block(**head))

    def fill(self, count):
        """Receives until the buffer has this many bytes. Returns False if the server has closed."""
        while len(self.buffer) < count:
            left = self.due - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.socket.settimeout(left)
            try:
                received = self.socket.recv(65536)
            except ConnectionResetError:
                received = b""
            if not received:
                return False
            self.buffer += received
        return True

    def next(self, within=None):
        """Returns the next frame, or `None` if the connection is closed."""
        return self.backlog.pop(0) if self.backlog else self.receive(within)

    def receive(self, within=None):
        self.due = time.monotonic() + (within or self.target.timeout)
        if not self.fill(9):
            return None
        length = int.from_bytes(self.buffer[:3], "big")
        if length > DEFAULT_MAX_FRAME_SIZE:
            raise Failure(f"a frame of {length} bytes, more than allowed")
        if not self.fill(9 + length):
            return None
        head, payload, self.buffer = self.buffer[:9], self.buffer[9 : 9 + length], self.buffer[9 + length :]
        received = Frame(head[3], head[4], int.from_bytes(head[5:9], "big") & MAX_WINDOW, payload)
        if received.kind == SETTINGS and not received.flags & ACK:
            pairs = (payload[at : at + 6] for at in range(0, length, 6))
            self.settings |= {int.from_bytes(pair[:2], "big"): int.from_bytes(pair[2:], "big") for pair in pairs}
            self.send(SETTINGS, ACK)
        elif received.kind == WINDOW_UPDATE:
            self.windows[received.stream] = self.window(received.stream) + int.from_bytes(payload, "big")
        elif received.kind == PUSH_PROMISE:
            raise Failure("PUSH_PROMISE")
        if received.kind not in (SETTINGS, WINDOW_UPDATE):
            self.seen.append(str(received))
        return received

    def until(self, wanted, what):
        """Returns the first wanted frame. No error, and no end of the connection, may come before it."""
        try:
            while (received := self.next()) is not None:
                if wanted(received):
                    return received
                if received.kind == GOAWAY or received.kind == RST_STREAM and received.code() != 0:
                    raise Failure(f"expected {what}, got {received}")
        except TimeoutError:
            raise self.silence(what) from None
        raise Failure(f"expected {what}, but the connection was closed")

    def silence(self, what):
        return Failure(f"expected {what}, got {', '.join(self.seen) or 'nothing'}")

    def window(self, stream):
        return self.windows.get(stream, self.settings.get(INITIAL_WINDOW_SIZE, DEFAULT_WINDOW))

    def beyond_max_frame_size(self):
        """Returns a length beyond the allowed maximum, but at most the largest that can be encoded."""
        return min(self.settings.get(MAX_FRAME_SIZE, DEFAULT_MAX_FRAME_SIZE) + 1, 2**24 - 1)

    def upload(self, stream, length, padding=None, end=True):
        """Sends a body as the windows allow, until it is complete or the server has ended the stream."""
        overhead = 0 if padding is None else 1 + padding
        while length > 0:
            room = min(self.window(0), self.window(stream), DEFAULT_MAX_FRAME_SIZE) - overhead
            if room <= 0:
                received = self.receive()
                if received is None:
                    return
                self.backlog.append(received)
                if received.stream == stream and (received.kind == RST_STREAM or received.flags & END_STREAM):
                    return
                continue
            piece = bytes(min(room, length))
            length -= len(piece)
            for which in (0, stream):
                self.windows[which] = self.window(which) - len(piece) - overhead
            flags = (END_STREAM if end and length == 0 else 0) | (0 if padding is None else PADDED)
            self.send(DATA, flags, stream, piece if padding is None else bytes([padding]) + piece + bytes(padding))

    def widen(self, stream):
        """Opens the windows for a large response."""
        for which in (0, stream):
            self.send(WINDOW_UPDATE, 0, which, number(2**24))

    # --- Expectations.

    def http1(self, *statuses):
        """Expects an HTTP/1.1 response with one of these statuses, and the end of the connection unless it is 200.
        If the request was rejected, the end alone is enough."""
        is_refused = "200" not in statuses
        self.due = time.monotonic() + self.target.timeout
        try:
            while is_refused or len(self.buffer) < 12:
                if not self.fill(len(self.buffer) + 1):
                    break
        except TimeoutError:
            raise Failure(f"expected the end of the connection, got {self.buffer!r}") from None
        status = self.buffer[9:12].decode(errors="replace") if self.buffer.startswith(b"HTTP/1.1 ") else None
        is_goaway = self.buffer[3:4] == bytes([SETTINGS]) or self.buffer[3:4] == bytes([GOAWAY])
        if status not in statuses and not (is_refused and (not self.buffer or is_goaway)):
            raise Failure(f"expected {' or '.join(statuses)} over HTTP/1.1, got {self.buffer[:80]!r}")

    def settings_acknowledged(self):
        self.until(lambda frame: frame.kind == SETTINGS and frame.flags & ACK, "an acknowledgement of SETTINGS")

    def until_error(self):
        """Returns the GOAWAY with an error, or `None` if the connection is closed without one."""
        try:
            while (received := self.next()) is not None:
                if received.kind == GOAWAY and received.code() != NO_ERROR:
                    return received
        except TimeoutError:
            raise self.silence("GOAWAY") from None
        return None

    def until_stream(self, stream):
        """Returns the first frame that ends the stream or begins its response."""
        try:
            while (received := self.next()) is not None:
                if received.stream == stream and received.kind in (HEADERS, RST_STREAM):
                    return received
        except TimeoutError:
            pass
        raise self.silence(f"something on stream {stream}")

    def ended_or_connection_error(self, *codes):
        """Expects the end of the response on stream 1, or one of these errors, or the end of the connection."""
        what = " or ".join(["the end of the response", *map(error_name, codes)])
        try:
            while (received := self.next()) is not None:
                if received.kind in (GOAWAY, RST_STREAM) and received.code() not in (NO_ERROR, *codes):
                    raise Failure(f"expected {what}, got {received}")
                if received.stream == 1 and (received.flags & END_STREAM or received.kind == RST_STREAM):
                    return
        except TimeoutError:
            raise self.silence(what) from None

    def is_alive(self):
        """Expects that the connection works: the server has received, and accepted, everything that was sent."""
        self.send(PING, 0, 0, b"in order")
        self.acknowledged(b"in order")

    def acknowledged(self, payload):
        def wanted(frame):
            return frame.kind == PING and frame.flags & ACK and frame.payload == payload

        self.until(wanted, "an acknowledgement of PING")

    def data(self, stream, length):
        """Expects DATA of exactly this length."""
        received = self.until(lambda frame: frame.kind == DATA and frame.stream == stream, "DATA")
        if len(received.payload) != length:
            raise Failure(f"expected DATA of {length} bytes, got {len(received.payload)}")

    def no_data(self):
        """Expects no DATA before the server acknowledges a PING, nor shortly after."""
        self.is_alive()
        try:
            while (received := self.next(within=0.1)) is not None:
                self.seen.append(str(received))
        except TimeoutError:
            pass
        if any(seen.startswith("DATA") for seen in self.seen):
            raise Failure("DATA beyond the window")

    def response(self, stream=1, status=200):
        """Expects a complete response and returns the length of its body. If `status` is None, any final status is accepted."""
        what, length, is_final = f"the response on stream {stream}", 0, False
        while True:
            received = self.until(lambda frame: frame.stream == stream and frame.kind in (HEADERS, DATA), what)
            if received.kind == DATA:
                length += len(received.payload)
            elif not is_final:
                got = status_of(received.payload)
                is_final = got >= 200
                if is_final and status not in (None, got):
                    raise Failure(f"expected {status}, got {got}")
            if received.flags & END_STREAM:
                return length

    def connection_error(self, *codes):
        """Expects the end of the connection. If there is a GOAWAY, it has to have one of these codes."""
        self.error(None, codes)

    def stream_error(self, *codes, stream=1):
        """Expects the end of the stream or the connection with one of these codes."""
        self.error(stream, codes)

    def malformed(self, stream=1):
        """Expects that the server rejects the request as malformed."""
        self.error(stream, (PROTOCOL_ERROR,), may_refuse=True)

    def ignored_or(self, *codes, stream=1):
        """Expects one of these errors, or a normal response."""
        self.error(stream, codes, may_respond=True)

    def error(self, stream, codes, may_refuse=False, may_respond=False):
        what = ("GOAWAY " if stream is None else "RST_STREAM or GOAWAY ") + " or ".join(map(error_name, codes))
        try:
            while (received := self.next()) is not None:
                if received.kind == GOAWAY and received.code() != 0:
                    if received.code() not in codes:
                        self.closed()
                        kind = LessSpecific if received.code() == PROTOCOL_ERROR else Failure
                        raise kind(f"expected {what}, got {received}")
                    return self.closed()
                if stream is None or received.stream != stream:
                    continue
                if received.kind == RST_STREAM and received.code() != 0:
                    if received.code() not in codes:
                        raise Failure(f"expected {what}, got {received}")
                    return self.is_alive()
                if received.kind == HEADERS:
                    status = status_of(received.payload)
                    if may_respond and status == 200 or may_refuse and status >= 400:
                        return self.is_alive()
        except TimeoutError:
            raise self.silence(what) from None

    def closed(self):
        """Expects the end of the connection (RFC 9113, section 5.4.1)."""
        try:
            while self.next() is not None:
                pass
        except TimeoutError:
            raise Failure("the connection stays open after GOAWAY") from None


CASES = []


def case(section, title, start=Peer):
    """Registers a case, which receives the connection returned by `start`."""

    def register(check):
        CASES.append((section, title, start, check))
        return check

    return register


def bare(target):
    """Returns a connection on which nothing was sent."""
    return Peer(target, bare=True)


def no_window(target):
    """Returns a connection whose window is closed, so that no response ends."""
    return Peer(target, (INITIAL_WINDOW_SIZE, 0))


def opened(target):
    """Returns a connection whose stream 1 is open."""
    peer = no_window(target)
    peer.request(flags=END_HEADERS, method="POST")
    return peer


def half_closed(target):
    """Returns a connection whose stream 1 is half-closed (remote): its response waits for a window."""
    peer = no_window(target)
    peer.request()
    peer.until(lambda frame: frame.kind == HEADERS and frame.stream == 1, "a response")
    return peer


def finished(target):
    """Returns a connection whose stream 1 is closed after a complete response."""
    peer = Peer(target)
    peer.request()
    peer.response()
    return peer


def was_reset(target):
    """Returns a connection whose stream 1 is closed because the client has reset it."""
    peer = opened(target)
    peer.send(RST_STREAM, 0, 1, number(CANCEL))
    return peer


# --- RFC 9113, section 3: starting HTTP/2.


@case("3.1", "a request of HTTP/1.1 to upgrade to h2c is responded to over HTTP/1.1", bare)
def _(peer):
    peer.write(
        f"GET {peer.target.path} HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n".encode()
    )
    peer.http1("200")


@case("3.4", "the preface, SETTINGS and a request in one packet", bare)
def _(peer):
    own = frame(SETTINGS, 0, 0, settings((HEADER_TABLE_SIZE, 0)))
    peer.write(PREFACE + own + frame(HEADERS, WHOLE, 1, peer.block()))
    peer.response()


@case("3.4", "the preface in packets of one byte", bare)
def _(peer):
    for byte in PREFACE + frame(SETTINGS, 0, 0, settings((HEADER_TABLE_SIZE, 0))):
        peer.write(bytes([byte]))
        time.sleep(0.001)
    peer.request()
    peer.response()


@case("3.4", "an invalid preface", bare)
def _(peer):
    peer.write(b"INVALID CONNECTION PREFACE\r\n\r\n")
    peer.http1("400", "505")


@case("3.4", "a preface whose last bytes are wrong", bare)
def _(peer):
    peer.write(PREFACE[:-4] + b"XX\r\n" + frame(SETTINGS, 0, 0))
    peer.http1("400", "505")


@case("3.4", "a first frame other than SETTINGS", bare)
def _(peer):
    peer.write(PREFACE + frame(PING, 0, 0, b"too soon"))
    peer.connection_error(PROTOCOL_ERROR)


# --- Section 4: frames.


@case("4.1", "a frame of an unknown type")
def _(peer):
    peer.send(UNKNOWN_KIND, 0xFF, 0, b"unknown")
    peer.is_alive()


@case("4.1", "undefined flags")
def _(peer):
    peer.send(PING, 0xFE, 0, b"flagged!")
    peer.acknowledged(b"flagged!")


@case("4.1", "the reserved bit is set")
def _(peer):
    peer.send(PING, 0, 0, b"reserved", reserved=1)
    peer.acknowledged(b"reserved")


@case("4.2", "DATA of 2^14 bytes")
def _(peer):
    peer.request(flags=END_HEADERS, method="POST")
    peer.send(DATA, END_STREAM, 1, bytes(DEFAULT_MAX_FRAME_SIZE))
    peer.response()


@case("4.2", "DATA larger than SETTINGS_MAX_FRAME_SIZE", opened)
def _(peer):
    peer.send(DATA, END_STREAM, 1, bytes(peer.beyond_max_frame_size()))
    peer.stream_error(FRAME_SIZE_ERROR)


@case("4.2", "HEADERS larger than SETTINGS_MAX_FRAME_SIZE")
def _(peer):
    block = peer.block()
    peer.send(HEADERS, WHOLE, 1, block + bytes(peer.beyond_max_frame_size() - len(block)))
    peer.connection_error(FRAME_SIZE_ERROR)


@case("4.2", "SETTINGS larger than SETTINGS_MAX_FRAME_SIZE")
def _(peer):
    peer.send(SETTINGS, 0, 0, bytes(peer.beyond_max_frame_size()))
    peer.connection_error(FRAME_SIZE_ERROR)


@case("4.3", "a field block that cannot be decoded")
def _(peer):
    # A literal field whose name is longer than the block.
    peer.send(HEADERS, WHOLE, 1, peer.block() + b"\x40\x7f\x00name")
    peer.connection_error(COMPRESSION_ERROR)


@case("4.3", "a field block that cannot be decoded, on a stream that was reset", was_reset)
def _(peer):
    peer.send(HEADERS, WHOLE, 3, indexed(70))
    peer.connection_error(COMPRESSION_ERROR)


@case("4.3", "PRIORITY within a field block")
def _(peer):
    peer.send(HEADERS, END_STREAM, 1, peer.block())
    peer.send(PRIORITY, 0, 1, dependency(0))
    peer.send(CONTINUATION, END_HEADERS, 1)
    peer.connection_error(PROTOCOL_ERROR)


@case("4.3", "HEADERS of another stream within a field block")
def _(peer):
    peer.send(HEADERS, END_STREAM, 1, peer.block())
    peer.send(HEADERS, WHOLE, 3, peer.block())
    peer.connection_error(PROTOCOL_ERROR)


@case("4.3", "a field block cut within a field")
def _(peer):
    block = peer.block(more=[("x-cut", "somewhere")])
    peer.send(HEADERS, END_STREAM, 1, block[:-5])
    peer.send(CONTINUATION, END_HEADERS, 1, block[-5:])
    peer.response()


# --- Section 5.1: stream states.


@case("5.1", "idle: DATA")
def _(peer):
    peer.send(DATA, END_STREAM, 1, b"idle")
    peer.connection_error(PROTOCOL_ERROR, STREAM_CLOSED)


@case("5.1", "idle: RST_STREAM")
def _(peer):
    peer.send(RST_STREAM, 0, 1, number(CANCEL))
    peer.connection_error(PROTOCOL_ERROR)


@case("5.1", "idle: WINDOW_UPDATE")
def _(peer):
    peer.send(WINDOW_UPDATE, 0, 1, number(100))
    peer.connection_error(PROTOCOL_ERROR)


@case("5.1", "idle: CONTINUATION")
def _(peer):
    peer.send(CONTINUATION, END_HEADERS, 1, peer.block())
    peer.connection_error(PROTOCOL_ERROR)


@case("5.1", "idle: PRIORITY, and then a request with a smaller identifier")
def _(peer):
    peer.send(PRIORITY, 0, 9, dependency(0))
    peer.request(3)
    peer.response(3)


@case("5.1", "half-closed (remote): DATA", half_closed)
def _(peer):
    peer.send(DATA, END_STREAM, 1, b"late")
    peer.stream_error(STREAM_CLOSED)


@case("5.1", "half-closed (remote): HEADERS", half_closed)
def _(peer):
    peer.send(HEADERS, WHOLE, 1, literal("x-trailer", "late"))
    peer.stream_error(STREAM_CLOSED)


@case("5.1", "half-closed (remote): CONTINUATION", half_closed)
def _(peer):
    peer.send(CONTINUATION, END_HEADERS, 1, literal("x-more", "late"))
    peer.connection_error(PROTOCOL_ERROR, STREAM_CLOSED)


@case("5.1", "half-closed (remote): WINDOW_UPDATE", half_closed)
def _(peer):
    peer.send(WINDOW_UPDATE, 0, 1, number(2))
    peer.data(1, 2)


@case("5.1", "half-closed (remote): PRIORITY", half_closed)
def _(peer):
    peer.send(PRIORITY, 0, 1, dependency(0))
    peer.is_alive()


@case("5.1", "half-closed (remote): RST_STREAM", half_closed)
def _(peer):
    peer.send(RST_STREAM, 0, 1, number(CANCEL))
    peer.is_alive()


@case("5.1", "reset by the client: DATA", was_reset)
def _(peer):
    peer.send(DATA, END_STREAM, 1, b"late")
    peer.stream_error(STREAM_CLOSED)


@case("5.1", "reset by the client: HEADERS", was_reset)
def _(peer):
    peer.send(HEADERS, WHOLE, 1, peer.block())
    peer.stream_error(STREAM_CLOSED)


@case("5.1", "reset by the client: CONTINUATION", was_reset)
def _(peer):
    peer.send(CONTINUATION, END_HEADERS, 1, literal("x-more", "late"))
    peer.connection_error(PROTOCOL_ERROR, STREAM_CLOSED)


@case("5.1", "closed: DATA", finished)
def _(peer):
    peer.send(DATA, END_STREAM, 1, b"late")
    peer.stream_error(STREAM_CLOSED)


@case("5.1", "closed: HEADERS", finished)
def _(peer):
    peer.send(HEADERS, WHOLE, 1, peer.block())
    peer.connection_error(STREAM_CLOSED, PROTOCOL_ERROR)


@case("5.1", "closed: CONTINUATION", finished)
def _(peer):
    peer.send(CONTINUATION, END_HEADERS, 1, literal("x-more", "late"))
    peer.connection_error(PROTOCOL_ERROR, STREAM_CLOSED)


@case("5.1", "closed: PRIORITY", finished)
def _(peer):
    peer.send(PRIORITY, 0, 1, dependency(0))
    peer.is_alive()


@case("5.1", "closed: WINDOW_UPDATE", finished)
def _(peer):
    peer.send(WINDOW_UPDATE, 0, 1, number(100))
    peer.is_alive()


@case("5.1", "closed: RST_STREAM", finished)
def _(peer):
    peer.send(RST_STREAM, 0, 1, number(CANCEL))
    peer.is_alive()


@case("5.1.1", "an even stream identifier")
def _(peer):
    peer.request(2)
    peer.connection_error(PROTOCOL_ERROR)


@case("5.1.1", "a stream identifier smaller than one before")
def _(peer):
    peer.request(5)
    peer.response(5)
    peer.request(3)
    peer.connection_error(PROTOCOL_ERROR)


@case("5.1.1", "stream identifiers that are skipped")
def _(peer):
    peer.request(7)
    peer.response(7)
    peer.request(2**31 - 1)
    peer.response(2**31 - 1)


@case("5.1.2", "more streams than SETTINGS_MAX_CONCURRENT_STREAMS", no_window)
def _(peer):
    most = peer.settings.get(MAX_CONCURRENT_STREAMS)
    if most is None or most > 10_000:
        return  # No limit is announced.
    last = 2 * most + 1
    peer.write(b"".join(frame(HEADERS, WHOLE, stream, peer.block()) for stream in range(1, last + 1, 2)))
    peer.stream_error(PROTOCOL_ERROR, REFUSED_STREAM, stream=last)


@case("5.1.2", "streams that end make room for others", no_window)
def _(peer):
    most = min(peer.settings.get(MAX_CONCURRENT_STREAMS, 100), 200)
    last = 2 * most + 1
    peer.write(b"".join(frame(HEADERS, WHOLE, stream, peer.block()) for stream in range(1, last, 2)))
    peer.send(WINDOW_UPDATE, 0, 0, number(2**24))
    peer.send(SETTINGS, 0, 0, settings((INITIAL_WINDOW_SIZE, DEFAULT_WINDOW)))
    peer.response(1)
    peer.request(last)
    peer.response(last)


# --- Sections 5.3 to 5.5: priority, errors, extensions.


@case("5.3", "HEADERS with a dependency on itself")
def _(peer):
    peer.send(HEADERS, WHOLE | PRIORITIZED, 1, dependency(1) + peer.block())
    peer.ignored_or(PROTOCOL_ERROR)


@case("5.3", "PRIORITY with a dependency on itself")
def _(peer):
    peer.send(PRIORITY, 0, 1, dependency(1))
    peer.request()
    peer.ignored_or(PROTOCOL_ERROR)


@case("5.3", "PRIORITY with an exclusive dependency on an idle stream")
def _(peer):
    peer.send(PRIORITY, 0, 1, dependency(7, exclusive=True, weight=255))
    peer.request()
    peer.response()


@case("5.4.1", "a connection error: GOAWAY, and the end of the connection")
def _(peer):
    peer.send(PING, 0, 3, b"in order")
    received = peer.until_error()
    if received is None or received.code() != PROTOCOL_ERROR:
        raise Failure(f"expected GOAWAY PROTOCOL_ERROR, got {received or 'no GOAWAY'}")
    peer.closed()


@case("5.4.1", "GOAWAY names the last stream that was processed", finished)
def _(peer):
    peer.send(PING, 0, 3, b"in order")
    received = peer.until_error()
    if received is None or received.payload[:4] != number(1):
        raise Failure(f"expected GOAWAY with the last stream 1, got {received and received.payload[:4].hex()}")


@case("5.4.2", "no RST_STREAM in response to RST_STREAM", half_closed)
def _(peer):
    peer.send(RST_STREAM, 0, 1, number(PROTOCOL_ERROR))
    peer.is_alive()
    if any(seen.startswith("RST_STREAM") for seen in peer.seen):
        raise Failure("RST_STREAM in response to RST_STREAM")


@case("5.5", "a frame of an unknown type on a stream", opened)
def _(peer):
    peer.send(UNKNOWN_KIND, 0, 1, b"unknown")
    peer.is_alive()


@case("5.5", "a frame of an unknown type within a field block")
def _(peer):
    peer.send(HEADERS, END_STREAM, 1, peer.block())
    peer.send(UNKNOWN_KIND, 0, 1, b"unknown")
    peer.send(CONTINUATION, END_HEADERS, 1)
    peer.connection_error(PROTOCOL_ERROR)


# --- Section 6.1: DATA.


@case("6.1", "several DATA frames, some of them empty")
def _(peer):
    peer.request(flags=END_HEADERS, method="POST")
    for piece in (b"one", b"", b"two", b""):
        peer.send(DATA, 0, 1, piece)
    peer.send(DATA, END_STREAM, 1)
    peer.response()


@case("6.1", "padding")
def _(peer):
    peer.request(flags=END_HEADERS, method="POST")
    peer.send(DATA, PADDED, 1, b"\xffpadded" + bytes(255))
    peer.send(DATA, PADDED | END_STREAM, 1, b"\x00")
    peer.response()


@case("6.1", "stream 0")
def _(peer):
    peer.send(DATA, END_STREAM, 0, b"data")
    peer.connection_error(PROTOCOL_ERROR)


@case("6.1", "padding as long as the payload", opened)
def _(peer):
    peer.send(DATA, PADDED | END_STREAM, 1, b"\x05data")
    peer.connection_error(PROTOCOL_ERROR)


@case("6.1", "padded, without a length of the padding", opened)
def _(peer):
    peer.send(DATA, PADDED | END_STREAM, 1)
    peer.connection_error(PROTOCOL_ERROR, FRAME_SIZE_ERROR)


# --- Section 6.2: HEADERS.


@case("6.2", "padding and priority")
def _(peer):
    flags = WHOLE | PADDED | PRIORITIZED
    peer.send(HEADERS, flags, 1, b"\x08" + dependency(0, exclusive=True, weight=255) + peer.block() + bytes(8))
    peer.response()


@case("6.2", "stream 0")
def _(peer):
    peer.request(0)
    peer.connection_error(PROTOCOL_ERROR)


@case("6.2", "padding longer than the payload")
def _(peer):
    block = peer.block()
    peer.send(HEADERS, WHOLE | PADDED, 1, bytes([len(block) + 1]) + block)
    peer.connection_error(PROTOCOL_ERROR)


@case("6.2", "too short for the priority that its flags announce")
def _(peer):
    peer.send(HEADERS, WHOLE | PRIORITIZED, 1, b"\0\0")
    peer.connection_error(FRAME_SIZE_ERROR, PROTOCOL_ERROR)


# --- Sections 6.3 and 6.4: PRIORITY and RST_STREAM.


@case("6.3", "stream 0")
def _(peer):
    peer.send(PRIORITY, 0, 0, dependency(1))
    peer.connection_error(PROTOCOL_ERROR)


@case("6.3", "a length other than 5", opened)
def _(peer):
    peer.send(PRIORITY, 0, 1, dependency(0)[:4])
    peer.stream_error(FRAME_SIZE_ERROR)


@case("6.4", "ends the stream, and no other")
def _(peer):
    peer.request(1, flags=END_HEADERS, method="POST")
    peer.send(RST_STREAM, 0, 1, number(CANCEL))
    peer.request(3)
    peer.response(3)


@case("6.4", "stream 0")
def _(peer):
    peer.send(RST_STREAM, 0, 0, number(CANCEL))
    peer.connection_error(PROTOCOL_ERROR)


@case("6.4", "an idle stream", finished)
def _(peer):
    peer.send(RST_STREAM, 0, 3, number(CANCEL))
    peer.connection_error(PROTOCOL_ERROR)


@case("6.4", "a length other than 4", opened)
def _(peer):
    peer.send(RST_STREAM, 0, 1, number(CANCEL)[:3])
    peer.connection_error(FRAME_SIZE_ERROR)


# --- Section 6.5: SETTINGS.


@case("6.5", "is acknowledged, once for each frame")
def _(peer):
    for _ in range(3):
        peer.send(SETTINGS, 0, 0, settings((MAX_CONCURRENT_STREAMS, 100)))
    for _ in range(3):
        peer.settings_acknowledged()


@case("6.5", "an acknowledgement with a payload")
def _(peer):
    peer.send(SETTINGS, ACK, 0, settings((ENABLE_PUSH, 0)))
    peer.connection_error(FRAME_SIZE_ERROR)


@case("6.5", "a stream other than 0")
def _(peer):
    peer.send(SETTINGS, 0, 1, settings((ENABLE_PUSH, 0)))
    peer.connection_error(PROTOCOL_ERROR)


@case("6.5", "a length that is no multiple of 6")
def _(peer):
    peer.send(SETTINGS, 0, 0, settings((ENABLE_PUSH, 0))[:5])
    peer.connection_error(FRAME_SIZE_ERROR)


@case("6.5.2", "SETTINGS_ENABLE_PUSH other than 0 and 1")
def _(peer):
    peer.send(SETTINGS, 0, 0, settings((ENABLE_PUSH, 2)))
    peer.connection_error(PROTOCOL_ERROR)


@case("6.5.2", "SETTINGS_INITIAL_WINDOW_SIZE above 2^31-1")
def _(peer):
    peer.send(SETTINGS, 0, 0, settings((INITIAL_WINDOW_SIZE, MAX_WINDOW + 1)))
    peer.connection_error(FLOW_CONTROL_ERROR)


@case("6.5.2", "SETTINGS_MAX_FRAME_SIZE below 2^14")
def _(peer):
    peer.send(SETTINGS, 0, 0, settings((MAX_FRAME_SIZE, DEFAULT_MAX_FRAME_SIZE - 1)))
    peer.connection_error(PROTOCOL_ERROR)


@case("6.5.2", "SETTINGS_MAX_FRAME_SIZE above 2^24-1")
def _(peer):
    peer.send(SETTINGS, 0, 0, settings((MAX_FRAME_SIZE, 2**24)))
    peer.connection_error(PROTOCOL_ERROR)


@case("6.5.2", "an unknown setting")
def _(peer):
    peer.send(SETTINGS, 0, 0, settings((0xFF, 1)))
    peer.settings_acknowledged()
    peer.is_alive()


@case("6.5.3", "of a setting that comes twice the last holds", no_window)
def _(peer):
    peer.send(SETTINGS, 0, 0, settings((INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)))
    peer.request()
    peer.data(1, 1)


# --- Sections 6.6 to 6.8: PUSH_PROMISE, PING, GOAWAY.


@case("6.6", "PUSH_PROMISE from a client")
def _(peer):
    peer.send(PUSH_PROMISE, END_HEADERS, 1, number(2) + peer.block())
    peer.connection_error(PROTOCOL_ERROR)


@case("6.6", "PUSH_PROMISE from a client, on an open stream", opened)
def _(peer):
    peer.send(PUSH_PROMISE, END_HEADERS, 1, number(2) + peer.block())
    peer.connection_error(PROTOCOL_ERROR)


@case("6.7", "PING")
def _(peer):
    peer.send(PING, 0, 0, b"\0\1\2\3\4\5\6\xff")
    peer.acknowledged(b"\0\1\2\3\4\5\6\xff")


@case("6.7", "an acknowledgement is not acknowledged")
def _(peer):
    peer.send(PING, ACK, 0, b"response")
    peer.is_alive()
    if peer.seen.count("PING") != 1:
        raise Failure("an acknowledgement was acknowledged")


@case("6.7", "a stream other than 0")
def _(peer):
    peer.send(PING, 0, 1, b"in order")
    peer.connection_error(PROTOCOL_ERROR)


@case("6.7", "a length other than 8")
def _(peer):
    peer.send(PING, 0, 0, b"short")
    peer.connection_error(FRAME_SIZE_ERROR)


@case("6.8", "a stream other than 0")
def _(peer):
    peer.send(GOAWAY, 0, 1, number(0) + number(NO_ERROR))
    peer.connection_error(PROTOCOL_ERROR)


@case("6.8", "too short")
def _(peer):
    peer.send(GOAWAY, 0, 0, number(0))
    peer.connection_error(FRAME_SIZE_ERROR)


@case("6.8", "what is in flight is finished", half_closed)
def _(peer):
    peer.send(GOAWAY, 0, 0, number(0) + number(NO_ERROR) + b"debug data")
    peer.send(WINDOW_UPDATE, 0, 1, number(DEFAULT_WINDOW))
    peer.until(lambda frame: frame.kind == DATA and frame.flags & END_STREAM, "the end of the response")


# --- Section 6.9: WINDOW_UPDATE and flow control.


@case("6.9", "an increment of 0 on the connection")
def _(peer):
    peer.send(WINDOW_UPDATE, 0, 0, number(0))
    peer.connection_error(PROTOCOL_ERROR)


@case("6.9", "an increment of 0 on a stream", half_closed)
def _(peer):
    peer.send(WINDOW_UPDATE, 0, 1, number(0))
    peer.stream_error(PROTOCOL_ERROR)


@case("6.9", "a length other than 4")
def _(peer):
    peer.send(WINDOW_UPDATE, 0, 0, number(1)[:3])
    peer.connection_error(FRAME_SIZE_ERROR)


@case("6.9", "the reserved bit is set", half_closed)
def _(peer):
    peer.send(WINDOW_UPDATE, 0, 1, number(2**31 | 1))
    peer.data(1, 1)


@case("6.9.1", "no more DATA than the window of the stream", half_closed)
def _(peer):
    peer.no_data()
    for length in (1, 2):
        peer.send(WINDOW_UPDATE, 0, 1, number(length))
        peer.data(1, length)


@case("6.9.1", "a window of the connection above 2^31-1")
def _(peer):
    peer.send(WINDOW_UPDATE, 0, 0, number(MAX_WINDOW))
    peer.connection_error(FLOW_CONTROL_ERROR)


@case("6.9.1", "a window of a stream above 2^31-1", half_closed)
def _(peer):
    # In one write, so that the response does not end between them.
    peer.write(2 * frame(WINDOW_UPDATE, 0, 1, number(MAX_WINDOW)))
    peer.stream_error(FLOW_CONTROL_ERROR)


@case("6.9.1", "an upload larger than the windows, which the server opens")
def _(peer):
    peer.request(flags=END_HEADERS, method="POST")
    peer.widen(1)
    peer.upload(1, 200_000)
    peer.response()


@case("6.9.1", "padding counts, and is given back")
def _(peer):
    peer.request(flags=END_HEADERS, method="POST")
    peer.widen(1)
    peer.upload(1, 200_000, padding=200)
    peer.response()


@case("6.9.1", "DATA of streams that were reset is given back to the connection")
def _(peer):
    for stream in range(1, 41, 2):
        peer.request(stream, flags=END_HEADERS, method="POST")
        peer.upload(stream, 16_000, end=False)
        peer.send(RST_STREAM, 0, stream, number(CANCEL))
    peer.request(41)
    peer.response(41)


@case("6.9.2", "SETTINGS_INITIAL_WINDOW_SIZE changes after a request", half_closed)
def _(peer):
    peer.no_data()
    peer.send(SETTINGS, 0, 0, settings((INITIAL_WINDOW_SIZE, 1)))
    peer.data(1, 1)


@case("6.9.2", "a window below 0", no_window)
def _(peer):
    peer.send(SETTINGS, 0, 0, settings((INITIAL_WINDOW_SIZE, 3)))
    peer.request()
    peer.data(1, 3)
    # To -1, and then to 1.
    peer.send(SETTINGS, 0, 0, settings((INITIAL_WINDOW_SIZE, 2)))
    peer.send(WINDOW_UPDATE, 0, 1, number(1))
    peer.seen.clear()
    peer.no_data()
    peer.send(WINDOW_UPDATE, 0, 1, number(1))
    peer.data(1, 1)


@case("6.9.2", "SETTINGS_INITIAL_WINDOW_SIZE takes a stream's window above 2^31-1", half_closed)
def _(peer):
    change = frame(SETTINGS, 0, 0, settings((INITIAL_WINDOW_SIZE, DEFAULT_WINDOW)))
    peer.write(frame(WINDOW_UPDATE, 0, 1, number(MAX_WINDOW)) + change)
    peer.ended_or_connection_error(FLOW_CONTROL_ERROR)


# --- Section 6.10: CONTINUATION.


@case("6.10", "several, some of them empty")
def _(peer):
    block = peer.block()
    peer.send(HEADERS, END_STREAM, 1, block[:1])
    peer.send(CONTINUATION, 0, 1, block[1:5])
    peer.send(CONTINUATION, 0, 1)
    peer.send(CONTINUATION, 0, 1, block[5:])
    peer.send(CONTINUATION, END_HEADERS, 1)
    peer.response()


@case("6.10", "followed by another frame before the end of the block")
def _(peer):
    peer.send(HEADERS, END_STREAM, 1, peer.block())
    peer.send(CONTINUATION, 0, 1)
    peer.send(DATA, END_STREAM, 1, b"data")
    peer.connection_error(PROTOCOL_ERROR)


@case("6.10", "stream 0")
def _(peer):
    peer.send(HEADERS, END_STREAM, 1, peer.block())
    peer.send(CONTINUATION, END_HEADERS, 0)
    peer.connection_error(PROTOCOL_ERROR)


@case("6.10", "another stream")
def _(peer):
    peer.send(HEADERS, END_STREAM, 1, peer.block())
    peer.send(CONTINUATION, END_HEADERS, 3)
    peer.connection_error(PROTOCOL_ERROR)


@case("6.10", "after HEADERS that end the block")
def _(peer):
    peer.send(HEADERS, END_HEADERS, 1, peer.block(method="POST"))
    peer.send(CONTINUATION, END_HEADERS, 1, literal("x-more", "late"))
    peer.connection_error(PROTOCOL_ERROR)


@case("6.10", "after CONTINUATION that ends the block")
def _(peer):
    peer.send(HEADERS, 0, 1, peer.block(method="POST"))
    peer.send(CONTINUATION, END_HEADERS, 1)
    peer.send(CONTINUATION, END_HEADERS, 1, literal("x-more", "late"))
    peer.connection_error(PROTOCOL_ERROR)


@case("6.10", "after DATA", opened)
def _(peer):
    peer.send(DATA, 0, 1, b"data")
    peer.send(CONTINUATION, END_HEADERS, 1, literal("x-more", "late"))
    peer.connection_error(PROTOCOL_ERROR)


# --- Section 7: error codes.


@case("7", "GOAWAY with an unknown error code", half_closed)
def _(peer):
    peer.send(GOAWAY, 0, 0, number(0) + number(0xFF))
    peer.send(WINDOW_UPDATE, 0, 1, number(DEFAULT_WINDOW))
    peer.ended_or_connection_error()


@case("7", "RST_STREAM with an unknown error code", opened)
def _(peer):
    peer.send(RST_STREAM, 0, 1, number(0xFF))
    peer.is_alive()


# --- Section 8.1: framing of messages.

for method in ("GET", "POST", "PUT", "OPTIONS"):

    @case("8.1", f"{method} without a body")
    def _(peer, method=method):
        peer.request(method=method)
        peer.response()


@case("8.1", "HEAD: the response has no body")
def _(peer):
    peer.request(method="HEAD")
    if (length := peer.response()) > 0:
        raise Failure(f"a body of {length} bytes")


@case("8.1", "HEAD of what is not there: the response has no body")
def _(peer):
    peer.request(method="HEAD", path="/nowhere")
    if (length := peer.response(status=404)) > 0:
        raise Failure(f"a body of {length} bytes")


@case("8.1", "HEAD that is refused: the response has no body")
def _(peer):
    # A server that forwards requests has to reject this with a response of its own; others are free to accept it.
    peer.request(method="HEAD", authority="me@shop.example")
    received = peer.until_stream(1)
    peer.backlog.append(received)
    if received.kind == HEADERS and (length := peer.response(status=None)) > 0:
        raise Failure(f"a body of {length} bytes")


@case("8.1", "a body and trailers")
def _(peer):
    peer.request(flags=END_HEADERS, method="POST", more=[("trailer", "x-trailer")])
    peer.send(DATA, 0, 1, b"body")
    peer.send(HEADERS, WHOLE, 1, literal("x-trailer", "end"))
    peer.response()


@case("8.1", "trailers without a body")
def _(peer):
    peer.request(flags=END_HEADERS, method="POST")
    peer.send(HEADERS, WHOLE, 1, literal("x-trailer", "end"))
    peer.response()


@case("8.1", "Expect: 100-continue")
def _(peer):
    peer.request(flags=END_HEADERS, method="POST", more=[("expect", "100-continue")])
    peer.send(DATA, END_STREAM, 1, b"body")
    peer.response()


@case("8.1", "responses in any order, interleaved")
def _(peer):
    streams = range(1, 20, 2)
    peer.write(b"".join(frame(HEADERS, WHOLE, stream, peer.block()) for stream in streams))
    ended = set()
    while len(ended) < len(streams):
        ended.add(peer.until(lambda frame: frame.stream and frame.flags & END_STREAM, "all responses").stream)


@case("8.1", "a second HEADERS frame that does not end the stream", opened)
def _(peer):
    peer.send(DATA, 0, 1, b"body")
    peer.send(HEADERS, END_HEADERS, 1, literal("x-trailer", "no end"))
    peer.malformed()


# --- Section 8.1.1: malformed messages; the length of the content.


def content(title, more, pieces, trailers=False, fine=False):
    @case("8.1.1", title, Peer if fine else no_window)
    def _(peer):
        flags = END_HEADERS if pieces else WHOLE
        sent = frame(HEADERS, flags, 1, peer.block(method="POST", more=more))
        for at, piece in enumerate(pieces, 1):
            is_last = at == len(pieces) and not trailers
            sent += frame(DATA, END_STREAM if is_last else 0, 1, piece)
        if trailers:
            sent += frame(HEADERS, WHOLE, 1, literal("x-trailer", "end"))
        # In one write, so that no response arrives before it.
        peer.write(sent)
        if fine:
            peer.response()
        else:
            peer.malformed()


content("Content-Length that is true", [("content-length", "6")], [b"abc", b"def"], fine=True)
content("Content-Length of 0, without a body", [("content-length", "0")], [], fine=True)
content("Content-Length larger than the body", [("content-length", "5")], [b"body"])
content("Content-Length smaller than the body", [("content-length", "1")], [b"body"])
content("Content-Length smaller than several pieces", [("content-length", "4")], [b"body", b"body"])
content("Content-Length larger than a body with trailers", [("content-length", "9")], [b"body"], trailers=True)
content("Content-Length, and no body", [("content-length", "4")], [])
content("Content-Length that is no number", [("content-length", "4x")], [b"body"])
content("Content-Length with a sign", [("content-length", "+4")], [b"body"])
content("two different Content-Lengths", [("content-length", "4"), ("content-length", "5")], [b"body"])


# --- Sections 8.2 and 8.3: fields.


def refused(section, title, **head):
    @case(section, title)
    def _(peer):
        peer.request(**head)
        peer.malformed()


def accepted(section, title, status=200, **head):
    @case(section, title)
    def _(peer):
        peer.request(**head)
        peer.response(status=status)


refused("8.2", "a name in upper case", more=[("X-Upper", "case")])
refused("8.2.1", "an empty name", more=[("", "value")])
refused("8.2.1", "a name with a space", more=[("x y", "value")])
refused("8.2.1", "a name with a colon", more=[("x:y", "value")])
refused("8.2.1", "a name with a line break", more=[("x\r\ny", "value")])
refused("8.2.1", "a name with NUL", more=[("x\0y", "value")])
refused("8.2.1", "a name beyond ASCII", more=[(b"x\xff", "value")])
refused("8.2.1", "a value with NUL", more=[("x-value", "a\0b")])
refused("8.2.1", "a value with a line feed", more=[("x-value", "a\nx-more: b")])
refused("8.2.1", "a value with a carriage return", more=[("x-value", "a\rb")])
refused("8.2.1", "a value that begins with a space", more=[("x-value", " value")])
refused("8.2.1", "a value that ends with a tab", more=[("x-value", "value\t")])
accepted("8.2.1", "a value beyond ASCII, and an empty one", more=[("x-value", b"\xe4\xff"), ("x-empty", "")])
refused("8.2.2", "Connection", more=[("connection", "keep-alive")])
refused("8.2.2", "Keep-Alive", more=[("keep-alive", "timeout=5")])
refused("8.2.2", "Proxy-Connection", more=[("proxy-connection", "keep-alive")])
refused("8.2.2", "Transfer-Encoding", method="POST", more=[("transfer-encoding", "chunked")])
refused("8.2.2", "TE other than trailers", more=[("te", "trailers, deflate")])
accepted("8.2.2", "TE: trailers", more=[("te", "trailers")])
accepted("8.2.3", "several Cookie fields", more=[("cookie", "a=b"), ("cookie", "c=d")])
refused("8.3", "an unknown pseudo-header field", more=[(":unknown", "value")])
refused("8.3", "a pseudo-header field of responses", more=[(":status", "200")])
refused("8.3", "a pseudo-header field after others", without=["path"], more=[("x-other", "first"), (":path", "/")])
refused("8.3", "a pseudo-header field in upper case", without=["path"], more=[(":Path", "/")])


@case("8.3", "a pseudo-header field in trailers", no_window)
def _(peer):
    trailers = literal(":method", "GET") + literal("x-trailer", "end")
    head = frame(HEADERS, END_HEADERS, 1, peer.block(method="POST"))
    peer.write(head + frame(DATA, 0, 1, b"body") + frame(HEADERS, WHOLE, 1, trailers))
    peer.malformed()


@case("8.2", "a name in upper case in trailers", no_window)
def _(peer):
    head = frame(HEADERS, END_HEADERS, 1, peer.block(method="POST"))
    peer.write(head + frame(DATA, 0, 1, b"body") + frame(HEADERS, WHOLE, 1, literal("X-Upper", "case")))
    peer.malformed()


for name in ("method", "scheme", "path"):
    refused("8.3.1", f"without :{name}", without=[name])
    value = {"method": "GET", "scheme": "http", "path": "/"}[name]
    # One after the other in the same block.
    refused("8.3.1", f"two of :{name}", without=[name], more=[(f":{name}", value), (f":{name}", value)])
refused("8.3.1", "two of :authority", more=[(":authority", "shop.example")])
refused("8.3.1", "an empty :path", path="")
refused("8.3.1", "a :path without a slash", path="hello")
refused("8.3.1", "a :path with a space", path="/hello world")
refused("8.3.1", "a :path with a line break", path="/hello\r\nx-more: b")
refused("8.3.1", "an empty :method", method="")
refused("8.3.1", "a :method with a space", method="GET /")
refused("8.3.1", "a :scheme with a space", scheme="ht tp")
refused("8.3.1", "an :authority with a user name", authority="me@shop.example")
refused("8.3.1", "an :authority with a space", authority="shop example")
refused("8.3.1", "an :authority with a path", authority="shop.example/path")
refused("8.3.1", "Host other than :authority", more=[("host", "other.example")])
accepted("8.3.1", "Host that is the same as :authority", more=[("host", "shop.example")])
accepted("8.3.1", "Host in place of :authority", without=["authority"], more=[("host", "shop.example")])
accepted("8.3.1", "a scheme of https", scheme="https")
accepted("8.3.1", "OPTIONS for *", status=None, method="OPTIONS", path="*")
refused("8.3.1", "GET for *", path="*")


# --- Sections 8.4 to 8.6: push, CONNECT, Upgrade. Push is in section 6.6.


@case("8.5", "CONNECT is refused")
def _(peer):
    peer.request(flags=END_HEADERS, method="CONNECT", without=["scheme", "path"], authority="shop.example:443")
    received = peer.until_stream(1)
    if received.kind == HEADERS and status_of(received.payload) < 400:
        raise Failure(f"expected a refusal, got {received}")
    peer.is_alive()


refused("8.5", "CONNECT with :scheme and :path", method="CONNECT", authority="shop.example:443")
refused("8.5", "CONNECT without :authority", method="CONNECT", without=["scheme", "path", "authority"])
refused("8.5", "extended CONNECT that was not offered", method="CONNECT", more=[], protocol="websocket")
refused("8.5", ":protocol with another method", protocol="websocket")
refused("8.6", "Upgrade", more=[("upgrade", "websocket")])


# --- Section 10.5: limits.


@case("10.5.1", "a head larger than SETTINGS_MAX_HEADER_LIST_SIZE")
def _(peer):
    most = peer.settings.get(MAX_HEADER_LIST_SIZE, DEFAULT_MAX_FRAME_SIZE)
    block = peer.block(more=[(f"x-{number}", "x" * 1000) for number in range(most // 1000 + 1)])
    pieces = [block[at : at + DEFAULT_MAX_FRAME_SIZE] for at in range(0, len(block), DEFAULT_MAX_FRAME_SIZE)]
    last = len(pieces) - 1
    for at, piece in enumerate(pieces):
        flags = (END_HEADERS if at == last else 0) | (0 if at else END_STREAM)
        peer.send(CONTINUATION if at else HEADERS, flags, 1, piece)
    peer.error(1, (PROTOCOL_ERROR, ENHANCE_YOUR_CALM, REFUSED_STREAM, CANCEL), may_refuse=True)


@case("10.5", "CONTINUATION without end")
def _(peer):
    peer.send(HEADERS, END_STREAM, 1, peer.block())
    for _ in range(20):
        peer.write(frame(CONTINUATION, 0, 1, literal("x-more", "x" * 100)) * 500)
    peer.connection_error(ENHANCE_YOUR_CALM, PROTOCOL_ERROR, COMPRESSION_ERROR)


# --- RFC 7541: HPACK.


def fields(section, title, block, expect=None):
    """Registers a case whose request has these additional fields."""

    @case(section, title)
    def _(peer):
        peer.send(HEADERS, WHOLE, 1, peer.block() + block)
        if expect is None:
            peer.response()
        else:
            peer.connection_error(expect)


ACCEPT_ENCODING = 16  # Its index in the static table.
LAST_STATIC = 61

fields("HPACK 2.3.3", "a field beyond both tables", indexed(70), COMPRESSION_ERROR)
fields("HPACK 2.3.3", "a name beyond both tables", integer(70, 6, 0x40) + text(b"value"), COMPRESSION_ERROR)
fields(
    "HPACK 2.3.3", "a name beyond both tables, without indexing",
    integer(70, 4) + text(b"value"), COMPRESSION_ERROR,
)
fields("HPACK 4.2", "a size update at the end of a block", table_size(1), COMPRESSION_ERROR)
fields("HPACK 5.1", "an integer that is too large", b"\xff" + b"\xff" * 12 + b"\x01", COMPRESSION_ERROR)
fields("HPACK 5.1", "an integer without an end", b"\xff\x80\x80", COMPRESSION_ERROR)
fields("HPACK 5.2", "a string longer than the block", b"\0\x06x-name\x20short", COMPRESSION_ERROR)
fields("HPACK 5.2", "Huffman code", b"\0" + text(HUFFMAN_KEY, True) + text(HUFFMAN_VALUE, True))
fields(
    "HPACK 5.2", "Huffman code with more than 7 bits of padding",
    b"\0" + text(b"x-padded") + text(HUFFMAN_AUTHORITY + b"\xff", True), COMPRESSION_ERROR,
)
fields(
    "HPACK 5.2", "Huffman code padded with zeros",
    b"\0" + text(b"x-padded") + text(HUFFMAN_AUTHORITY[:-1] + b"\x80", True), COMPRESSION_ERROR,
)
fields(
    "HPACK 5.2", "Huffman code with EOS",
    b"\0" + text(b"x-padded") + text(HUFFMAN_AUTHORITY[:-1] + b"\xff\xff\xff\xff", True), COMPRESSION_ERROR,
)
fields("HPACK 6.1", "an index of 0", indexed(0), COMPRESSION_ERROR)
fields("HPACK 6.1", "a field of the static table", indexed(ACCEPT_ENCODING))
for kind, bits, pattern in (
    ("with incremental indexing", 6, 0x40), ("without indexing", 4, 0x00), ("never indexed", 4, 0x10),
):
    by_index, by_name = integer(ACCEPT_ENCODING, bits, pattern), bytes([pattern]) + text(b"x-name")
    fields("HPACK 6.2", f"a literal {kind}, an indexed name", by_index + text(b"gzip"))
    fields("HPACK 6.2", f"a literal {kind}, a new name", by_name + text(b"value"))
    fields("HPACK 6.2", f"a literal {kind}, in Huffman code", by_name + text(HUFFMAN_VALUE, True))


def start_with(section, title, update, expect=None):
    """Registers a case whose request begins with one or more of these size updates."""

    @case(section, title)
    def _(peer):
        peer.send(HEADERS, WHOLE, 1, update + peer.block())
        if expect is None:
            peer.response()
        else:
            peer.connection_error(expect)


start_with("HPACK 6.3", "a size update", table_size(128))
start_with("HPACK 6.3", "several size updates", table_size(0) + table_size(4096))
start_with("HPACK 6.3", "a size above SETTINGS_HEADER_TABLE_SIZE", table_size(2**20), COMPRESSION_ERROR)


@case("HPACK 2.3.2", "the dynamic table is kept from request to request")
def _(peer):
    own = b"\x44" + text(peer.target.path.encode())
    peer.send(HEADERS, WHOLE, 1, peer.block(without=["path"]) + own)
    peer.response(1)
    peer.send(HEADERS, WHOLE, 3, peer.block(without=["path"]) + indexed(LAST_STATIC + 1))
    peer.response(3)


@case("HPACK 2.3.2", "a malformed request leaves the dynamic table intact", no_window)
def _(peer):
    entry = b"\x40" + text(b"x-name") + text(b"value")
    peer.send(HEADERS, WHOLE, 1, peer.block(more=[("connection", "close")]) + entry)
    peer.malformed()
    peer.send(HEADERS, WHOLE, 3, peer.block() + indexed(LAST_STATIC + 1))
    peer.until(lambda frame: frame.stream == 3 and frame.kind == HEADERS, "a response")


@case("HPACK 4.3", "a size of 0 empties the dynamic table")
def _(peer):
    peer.send(HEADERS, WHOLE, 1, peer.block() + b"\x40" + text(b"x-name") + text(b"value"))
    peer.response()
    peer.send(HEADERS, WHOLE, 3, table_size(0) + table_size(4096) + peer.block() + indexed(LAST_STATIC + 1))
    peer.connection_error(COMPRESSION_ERROR)


@case("HPACK 4.4", "a field larger than the dynamic table empties it")
def _(peer):
    peer.send(HEADERS, WHOLE, 1, peer.block() + b"\x40" + text(b"x-name") + text(b"value"))
    peer.response()
    peer.send(HEADERS, WHOLE, 3, peer.block() + b"\x40" + text(b"x-large") + text(b"x" * 5000))
    peer.response(3)
    peer.send(HEADERS, WHOLE, 5, peer.block() + indexed(LAST_STATIC + 1))
    peer.connection_error(COMPRESSION_ERROR)


# --- The run.


def run(target):
    """Returns the lines to print, and whether only known cases failed."""
    lines, passed, known = [], 0, 0
    for section, title, start, check in CASES:
        peer, why = None, None
        try:
            peer = start(target)
            check(peer)
            passed += 1
        except (Failure, TimeoutError, OSError) as failure:
            why = LESS_SPECIFIC if isinstance(failure, LessSpecific) else KNOWN.get((section, title))
            if target.name == "gateway" and (section, title) in NOT_OF_GATEWAY:
                why = None
            known += why is not None
            what = str(failure) or "no reply in time"
            lines.append(f"FAILED {target.name}: {section}, {title}: {what}" + (f" (known: {why})" if why else ""))
        finally:
            if peer:
                peer.socket.close()
    failed = len(CASES) - passed
    lines.append(f"{target.name}: {passed} passed, {failed} failed" + (f" ({known} of them known)" if known else ""))
    return lines, failed == known


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n")[2].removeprefix("Usage: "))
    parser.add_argument("--timeout", type=float, default=5, help="how long to wait for a frame, in seconds")
    parser.add_argument("--list", action="store_true", help="print the cases, and end")
    parser.add_argument("targets", metavar="NAME=URL", nargs="*")
    arguments = parser.parse_args()
    if arguments.list:
        for section, title, *_ in CASES:
            print(f"{section}, {title}")
        return 0
    targets = []
    for target in arguments.targets:
        name, _, url = target.partition("=")
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or not parts.port:
            parser.error(f"a target is NAME=http://HOST:PORT/PATH, not {target}")
        targets.append(Target(name, parts.hostname, parts.port, parts.path or "/", arguments.timeout))
    if not targets:
        parser.error("no target")
    for target in targets:
        try:
            peer = Peer(target)
            peer.request()
            peer.response()
        except (Failure, OSError) as failure:
            print(f"{target.name} does not serve {target.path} over HTTP/2: {failure}", file=sys.stderr)
            return 1
    with ThreadPoolExecutor(len(targets)) as pool:
        results = list(pool.map(run, targets))
    for lines, _ in results:
        print("\n".join(lines))
    return 0 if all(is_fine for _, is_fine in results) else 1


if __name__ == "__main__":
    sys.exit(main())
