"""A gRPC server and a gRPC client for scripts/grpc.sh.

    grpc_calls.py server
    grpc_calls.py unary ADDRESS CALLS once|always
    grpc_calls.py streams ADDRESS

A unary call sends "once 7" or "always 7". Of ten calls, the server fails number 3 after its head, and number 7 without one
(Trailers-Only): the first time, or always. Every response ends with the number of its call in its trailers.
"""

import asyncio
import statistics
import sys
import time

import grpc

CALLERS = 50
# Longer than anything takes.
LIMIT = 60


def details(number):
    # Percent-encoded on the way.
    return f"call {number} was not processed: 100 % \u00fcberlastet"


class Server(grpc.GenericRpcHandler):
    def __init__(self):
        self.failed = set()
        self.released = asyncio.Event()

    def service(self, call):
        name = call.method.rsplit("/", 1)[-1]
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Release": grpc.unary_unary_rpc_method_handler(self.release),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch),
            "Pause": grpc.unary_stream_rpc_method_handler(self.pause),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "Refuse": grpc.stream_stream_rpc_method_handler(self.refuse),
        }.get(name)

    async def unary(self, request, context):
        plan, number = request.decode().split(" ")
        trailers = (("x-call", number),)
        kind = int(number) % 10
        if kind in (3, 7) and (plan == "always" or number not in self.failed):
            self.failed.add(number)
            if kind == 3:
                await context.send_initial_metadata((("x-head", number),))
            await context.abort(grpc.StatusCode.UNAVAILABLE, details(number), trailers)
        context.set_trailing_metadata(trailers)
        return number.encode()

    async def release(self, request, context):
        self.released.set()
        return b""

    async def watch(self, request, context):
        """Sends the first message, and the others once it has arrived."""
        self.released.clear()
        yield b"0"
        await self.released.wait()
        yield b"1"
        yield b"2"
        await context.abort(grpc.StatusCode.UNAVAILABLE, details(0), (("x-call", "0"),))

    async def pause(self, request, context):
        yield b"0"
        await asyncio.sleep(0.05)
        yield b"1"

    async def chat(self, requests, context):
        await context.send_initial_metadata((("x-head", "0"),))
        async for request in requests:
            yield request
        context.set_trailing_metadata((("x-call", "0"),))

    async def refuse(self, requests, context):
        async for request in requests:
            await context.abort(grpc.StatusCode.UNAVAILABLE, details(0), (("x-call", "0"),))


async def serve():
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Server(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f'Serving http://127.0.0.1:{port}"', file=sys.stderr, flush=True)
    await server.wait_for_termination()


async def unary(channel, calls, plan):
    """Makes all calls, and returns those with another outcome than the server's."""
    method = channel.unary_unary("/test.Calls/Unary")
    numbers = iter(range(calls))
    wrong = []

    async def check(number):
        call = method(f"{plan} {number}".encode(), timeout=LIMIT)
        code = await call.code()
        fails = plan == "always" and number % 10 in (3, 7)
        expected = (grpc.StatusCode.UNAVAILABLE, details(number)) if fails else (grpc.StatusCode.OK, "")
        trailers = dict(await call.trailing_metadata())
        got = (code, await call.details() if fails else "")
        if got != expected or trailers.get("x-call") != str(number):
            wrong.append((number, got, trailers))
        elif not fails and await call != str(number).encode():
            wrong.append((number, "another response"))

    async def caller():
        for number in numbers:
            await check(number)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return wrong


async def expect_end(call, code):
    assert await call.code() == code, (await call.code(), await call.details())
    assert dict(await call.trailing_metadata()).get("x-call") == "0", await call.trailing_metadata()


async def streams(channel):
    release = channel.unary_unary("/test.Calls/Release")
    for _ in range(20):
        call = channel.unary_stream("/test.Calls/Watch")(b"", timeout=LIMIT)
        assert await call.read() == b"0"
        await release(b"")
        assert [await call.read(), await call.read()] == [b"1", b"2"]
        await expect_end(call, grpc.StatusCode.UNAVAILABLE)

        call = channel.stream_stream("/test.Calls/Chat")(timeout=LIMIT)
        # The server sends it at once, and the client nothing before.
        assert dict(await call.initial_metadata()).get("x-head") == "0"
        for message in range(20):
            await call.write(str(message).encode())
            assert await call.read() == str(message).encode()
        await call.done_writing()
        assert await call.read() == grpc.aio.EOF
        await expect_end(call, grpc.StatusCode.OK)

        call = channel.stream_stream("/test.Calls/Refuse")(timeout=LIMIT)
        await call.write(b"0")
        # The client has not ended its stream.
        await expect_end(call, grpc.StatusCode.UNAVAILABLE)

    times = []
    for _ in range(50):
        begin = time.perf_counter()
        call = channel.unary_stream("/test.Calls/Pause")(b"", timeout=LIMIT)
        await call.read()
        times.append(time.perf_counter() - begin)
        call.cancel()
    print(f"first message of a stream after {statistics.median(times) * 1000:.1f} ms (median of {len(times)})")


async def main(command, *arguments):
    if command == "server":
        await serve()
        return
    options = (("grpc.enable_retries", 0),)
    async with grpc.aio.insecure_channel(arguments[0], options=options) as channel:
        if command == "streams":
            await streams(channel)
            return
        calls, plan = int(arguments[1]), arguments[2]
        begin = time.perf_counter()
        wrong = await unary(channel, calls, plan)
        rate = calls / (time.perf_counter() - begin)
        print(f"{calls} calls, {len(wrong)} wrong, {rate:.0f} per second")
        for outcome in wrong[:5]:
            print(" ", *outcome)
        sys.exit(bool(wrong))


asyncio.run(main(*sys.argv[1:]))
