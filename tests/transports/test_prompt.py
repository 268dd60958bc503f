"""Answers that leave at once, turns, and output that is bounded."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace

from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from labnet.transports import prompt
from labnet.transports.prompt import (
    INPUT_LIMIT,
    STREAMED_A_TURN,
    Pace,
    write_now,
    write_parts_now,
)


class Sock:
    """A socket whose `send` takes what it is told to, in turn."""

    def __init__(self, takes: list[int | OSError]) -> None:
        self.takes = takes
        self.sent: list[bytes] = []

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def fileno(self) -> int:
        return 99

    def send(self, data: memoryview) -> int:
        take = self.takes.pop(0)
        if isinstance(take, OSError):
            raise take
        self.sent.append(bytes(data[:take]))
        return min(take, len(data))

    def sendmsg(self, parts: Iterable[memoryview]) -> int:
        return self.send(memoryview(b"".join(parts)))


class Writers:
    """The part of a reactor that a transport tells what it waits for."""

    def __init__(self) -> None:
        self.writers: set[object] = set()
        self.readers: set[object] = set()
        self.addWriter = self.writers.add
        self.removeWriter = self.writers.discard
        self.addReader = self.readers.add
        self.removeReader = self.readers.discard


class Lost(Protocol):
    reason: Failure | None = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason


def connection(takes: list[int | OSError]) -> tuple[tcp.Connection, Sock, Writers]:
    sock, reactor = Sock(takes), Writers()
    transport = tcp.Connection(sock, Lost(), reactor)  # type: ignore[arg-type]
    transport.connected = 1
    return transport, sock, reactor


class WriteNowTests(SynchronousTestCase):
    def test_at_once(self) -> None:
        transport, sock, reactor = connection([5])
        write_now(transport, b"hello")
        self.assertEqual(sock.sent, [b"hello"])
        self.assertEqual(reactor.writers, set())

    def test_rest_is_queued_and_order_kept(self) -> None:
        transport, sock, reactor = connection([2, 100])
        write_now(transport, b"hello")
        write_now(transport, b" you")
        self.assertEqual(sock.sent, [b"he"])
        self.assertEqual(reactor.writers, {transport})
        self.assertIsNone(transport.doWrite())
        self.assertEqual(sock.sent, [b"he", b"llo you"])

    def test_socket_full(self) -> None:
        transport, sock, reactor = connection([BlockingIOError(11, "full"), 100])
        write_now(transport, b"hello")
        self.assertEqual(reactor.writers, {transport})
        transport.doWrite()
        self.assertEqual(sock.sent, [b"hello"])

    def test_broken_connection_is_reported_by_the_reactor_only(self) -> None:
        broken = BrokenPipeError(32, "gone")
        transport, _, reactor = connection([broken, broken])
        write_now(transport, b"hello")
        self.assertIsNone(transport.protocol.reason)  # type: ignore[attr-defined]
        self.assertEqual(reactor.writers, {transport})
        self.assertIsInstance(transport.doWrite(), Exception)

    def test_large_data_is_not_copied(self) -> None:
        transport, sock, reactor = connection([])
        write_now(transport, bytes(prompt.LARGE))
        self.assertEqual(sock.sent, [])
        self.assertEqual(reactor.writers, {transport})

    def test_plain_write_where_something_is_special(self) -> None:
        for name, value in [
            ("disconnecting", True),
            ("_writeDisconnecting", True),
            ("_aborting", True),
            ("dataBuffer", b"x"),
            ("_tempDataBuffer", [b"x"]),
        ]:
            transport, sock, _ = connection([])
            self.assertTrue(hasattr(transport, name))
            setattr(transport, name, value)
            write_now(transport, b"hello")
            self.assertEqual(sock.sent, [], name)
            self.assertIn(b"hello", transport._tempDataBuffer)

    def test_pull_producer_is_asked_again(self) -> None:
        transport, sock, reactor = connection([])
        asked: list[int] = []
        producer = SimpleNamespace(resumeProducing=lambda: asked.append(1))
        transport.registerProducer(producer, False)
        write_now(transport, b"hello")
        self.assertEqual(sock.sent, [])
        self.assertEqual(reactor.writers, {transport})

    def test_push_producer_does_not_slow_it(self) -> None:
        transport, sock, _ = connection([5])
        transport.registerProducer(SimpleNamespace(), True)
        write_now(transport, b"hello")
        self.assertEqual(sock.sent, [b"hello"])

    def test_after_the_end_nothing_is_written(self) -> None:
        transport, sock, reactor = connection([])
        transport.connected = 0
        write_now(transport, b"hello")
        self.assertEqual((sock.sent, reactor.writers), ([], set()))

    def test_transport_of_another_kind(self) -> None:
        transport = StringTransport()
        write_now(transport, b"hello")
        self.assertEqual(transport.value(), b"hello")

    def test_subclass_that_sends_in_its_own_way(self) -> None:
        class Own(tcp.Connection):
            def writeSomeData(self, data: bytes) -> int:
                raise AssertionError("not to be called outside doWrite")

        own = Own(Sock([]), Lost(), Writers())  # type: ignore[arg-type]
        own.connected = 1
        write_now(own, b"hello")
        self.assertEqual(own._tempDataBuffer, [b"hello"])


class WritePartsTests(SynchronousTestCase):
    """A long message in parts that are not joined."""

    body = bytes(range(256)) * (prompt.LARGE // 256)

    def sent(self, takes: list[int | OSError], *parts: bytes) -> tuple[bytes, bytes]:
        """What the socket has taken at once, and what is left to the reactor."""
        transport, sock, _ = connection(takes)
        write_parts_now(transport, parts)
        return b"".join(sock.sent), b"".join(transport._tempDataBuffer)

    def test_all_at_once(self) -> None:
        whole = b"head" + self.body + b"end"
        self.assertEqual(self.sent([1 << 20], b"head", self.body, b"end"), (whole, b""))

    def test_the_rest_is_queued(self) -> None:
        whole = b"head" + self.body + b"\0"
        full = BlockingIOError(11, "full")
        for first in (1, 4, 5, 1000, len(whole) - 1):
            sent, queued = self.sent([first, 2, full, full], b"head", self.body, b"", b"\0")
            self.assertEqual(sent + queued, whole)
            self.assertEqual(len(sent), min(first + 2, len(whole)))

    def test_a_broken_connection_is_left_to_the_reactor(self) -> None:
        broken = BrokenPipeError(32, "gone")
        self.assertEqual(self.sent([broken], b"head", self.body), (b"", b"head" + self.body))

    def test_short_messages_are_joined(self) -> None:
        self.assertEqual(self.sent([100], b"one", b"two"), (b"onetwo", b""))

    def test_other_transports(self) -> None:
        transport = StringTransport()
        write_parts_now(transport, [b"head", self.body])
        self.assertEqual(transport.value(), b"head" + self.body)


class Turns(Clock):
    """A clock that can take one turn of a reactor: what is due now, and not what that adds."""

    def turn(self) -> None:
        for call in list(self.getDelayedCalls()):
            if call.active() and call.getTime() <= self.seconds():
                self.calls.remove(call)  # type: ignore[arg-type]
                call.called = 1  # type: ignore[attr-defined]
                call.func(*call.args, **call.kw)  # type: ignore[attr-defined]


class Lines:
    """A connection that handles lines at a `Pace`, on a clock and a string transport."""

    def __init__(self, step: Callable[[Lines, bytes], None] | None = None, **kw: int) -> None:
        self.transport = StringTransport()
        self.clock = Turns()
        self.handled: list[bytes] = []
        self.waiting: list[bytes] = []
        self.step = step
        self.pace = Pace(self.transport, self.handle, self.clock, **kw)

    def handle(self, budget: int) -> bool:
        while self.waiting and budget and not self.pace.held:
            line = self.waiting.pop(0)
            self.handled.append(line)
            if self.step:
                self.step(self, line)
            budget -= 1
        return bool(self.waiting)

    def receive(self, *lines: bytes, size: int = 0) -> None:
        self.waiting += lines
        self.pace.received(size)

    @property
    def reading(self) -> bool:
        return self.transport.producerState == "producing"


class PaceTests(SynchronousTestCase):
    def test_few_messages_are_handled_at_once(self) -> None:
        c = Lines()
        c.receive(b"a", b"b")
        self.assertEqual(c.handled, [b"a", b"b"])
        self.assertTrue(c.reading)
        self.assertEqual(c.clock.getDelayedCalls(), [])

    def test_budget_a_turn(self) -> None:
        c = Lines(budget=64)
        c.receive(*[b"x"] * 150)
        self.assertEqual(len(c.handled), 64)
        self.assertFalse(c.reading)
        c.clock.turn()
        self.assertEqual(len(c.handled), 128)
        c.clock.turn()
        self.assertEqual(len(c.handled), 150)
        self.assertTrue(c.reading)

    def test_connections_take_turns(self) -> None:
        order: list[str] = []
        flood = Lines(lambda c, line: order.append("flood"), budget=2)
        good = Lines(lambda c, line: order.append("good"), budget=2)
        good.pace._clock = flood.clock
        flood.receive(*[b"x"] * 6)
        good.receive(*[b"y"] * 3)
        for _ in range(3):
            flood.clock.turn()
        self.assertEqual("".join(name[0] for name in order), "ffggffgff")

    def test_more_input_while_messages_wait(self) -> None:
        c = Lines(budget=1)
        c.receive(b"a", b"b")
        c.receive(b"c", size=5)
        self.assertEqual(c.handled, [b"a"])
        c.clock.turn()
        self.assertEqual(c.handled, [b"a", b"b"])
        c.clock.turn()
        self.assertEqual(c.handled, [b"a", b"b", b"c"])

    def test_hold_and_release(self) -> None:
        c = Lines(lambda c, line: c.pace.hold() if line == b"slow" else None)
        c.receive(b"slow", b"b")
        self.assertEqual(c.handled, [b"slow"])
        self.assertTrue(c.reading)  # the end of the connection would be seen
        c.receive(size=INPUT_LIMIT)
        self.assertTrue(c.reading)
        c.receive(size=1)
        self.assertFalse(c.reading)
        c.pace.release()
        self.assertEqual(c.handled, [b"slow", b"b"])
        self.assertTrue(c.reading)

    def test_release_inside_handle_goes_on_without_recursion(self) -> None:
        def step(c: Lines, line: bytes) -> None:
            c.pace.hold()
            c.pace.release()

        c = Lines(step, budget=5000)
        c.receive(*[b"x"] * 3000)
        self.assertEqual(len(c.handled), 3000)

    def test_nothing_is_handled_while_output_is_not_taken(self) -> None:
        c = Lines(lambda c, line: c.pace.pauseProducing() if line == b"big" else None)
        c.receive(b"big", b"b")
        self.assertEqual(c.handled, [b"big"])
        self.assertFalse(c.reading)
        c.pace.resumeProducing()
        self.assertEqual(c.handled, [b"big", b"b"])
        self.assertTrue(c.reading)

    def test_output_limit(self) -> None:
        c = Lines(output_limit=100)
        c.pace.write(bytes(1000))  # taken by the transport: not counted
        c.pace.pauseProducing()
        c.pace.write(bytes(100))
        self.assertFalse(c.transport.disconnecting)
        c.pace.write(b"x")
        self.assertTrue(c.transport.disconnected)
        c.receive(b"late")
        self.assertEqual(c.handled, [])

    def test_failure_drops_the_connection_and_is_logged(self) -> None:
        def step(c: Lines, line: bytes) -> None:
            raise ZeroDivisionError(line)

        c = Lines(step)
        c.receive(b"a")
        self.assertTrue(c.transport.disconnected)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stop_leaves_no_call(self) -> None:
        c = Lines(budget=1)
        c.receive(b"a", b"b")
        c.pace.stop()
        self.assertEqual(c.clock.getDelayedCalls(), [])
        c.pace.release()
        self.assertEqual(c.handled, [b"a"])

    def test_close_lets_the_transport_flush(self) -> None:
        c = Lines()
        c.pace.close()
        self.assertTrue(c.transport.disconnecting)
        self.assertIsNone(c.transport.producer)
        c.receive(b"late")
        self.assertEqual(c.handled, [])

    def test_closing_transport_does_not_wait_for_us(self) -> None:
        c = Lines()
        c.pace.pauseProducing()
        c.transport.loseConnection()
        c.pace.resumeProducing()
        self.assertIsNone(c.transport.producer)

    def test_stream_as_the_peer_takes_it(self) -> None:
        c = Lines()
        asked: list[int] = []

        def pieces() -> Iterator[bytes]:
            for i in range(4):
                asked.append(i)
                if i == 1:
                    c.pace.pauseProducing()
                yield b"%d" % i

        c.pace.stream(pieces())
        c.receive(b"next")
        self.assertEqual((asked, c.handled), ([0, 1], []))
        c.pace.resumeProducing()
        self.assertEqual(c.transport.value(), b"0123")
        self.assertEqual(c.handled, [b"next"])

    def test_what_the_socket_does_not_take_is_not_copied(self) -> None:
        """Only so much of a long piece is queued that the transport asks for more."""
        full = BlockingIOError(11, "full")
        transport, sock, _ = connection([1000, full])
        pace = Pace(transport, lambda budget: False, Turns())
        piece = bytes(range(256)) * 4000
        pace.stream(iter([memoryview(piece), b"end"]))
        self.assertEqual(len(transport._tempDataBuffer[0]), prompt.QUEUED)
        taken = prompt.QUEUED
        sock.takes += [taken, len(piece), 3]
        while not sock.sent[-1].endswith(b"end"):
            transport.doWrite()
        self.assertEqual(b"".join(sock.sent), piece + b"end")

    def test_stream_yields_to_others(self) -> None:
        c = Lines()
        c.pace.stream(iter([bytes(STREAMED_A_TURN)] * 3))
        self.assertEqual(len(c.transport.value()), STREAMED_A_TURN)
        c.clock.turn()
        self.assertEqual(len(c.transport.value()), 2 * STREAMED_A_TURN)

    def test_stream_is_closed_with_the_connection(self) -> None:
        c = Lines()
        closed: list[bool] = []

        def pieces() -> Iterator[bytes]:
            try:
                c.pace.pauseProducing()
                yield b"0"
                yield b"1"
            finally:
                closed.append(True)

        c.pace.stream(pieces())
        self.assertRaises(RuntimeError, c.pace.stream, iter([b""]))
        c.pace.stop()
        self.assertEqual(closed, [True])

    def test_failing_stream_drops_the_connection(self) -> None:
        def pieces() -> Iterator[bytes]:
            yield b"0"
            raise ZeroDivisionError

        c = Lines()
        c.pace.stream(pieces())
        self.assertTrue(c.transport.disconnected)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class Echo(Protocol):
    log = Logger()

    def __init__(self) -> None:
        self.lost: Deferred[Failure] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        write_now(self.transport, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)  # type: ignore[arg-type]


class Collect(Protocol):
    def __init__(self, size: int) -> None:
        self.size, self.data = size, b""
        self.all: Deferred[bytes] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        if len(self.data) >= self.size and not self.all.called:
            self.all.callback(self.data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class SocketTests(TestCase):
    timeout = 20

    async def echo(self) -> tuple[Echo, str]:
        from twisted.internet import reactor

        server = Echo()
        port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(
            Factory.forProtocol(lambda: server)
        )
        self.addCleanup(port.stopListening)
        return server, f"tcp:127.0.0.1:{port.getHost().port}"

    async def test_bytes_arrive_in_order_whatever_the_socket_takes(self) -> None:
        from twisted.internet import reactor

        server, address = await self.echo()
        payload = bytes(range(256)) * 20000
        client = await connectProtocol(clientFromString(reactor, address), Collect(len(payload)))
        assert client.transport is not None
        for start in range(0, len(payload), 50000):
            write_now(client.transport, payload[start : start + 50000])
        self.assertEqual(await client.all, payload)
        client.transport.loseConnection()
        await client.lost
        await server.lost

    async def test_parts_arrive_in_order_too(self) -> None:
        from twisted.internet import reactor

        server, address = await self.echo()
        payload = bytes(range(256)) * 40000
        client = await connectProtocol(clientFromString(reactor, address), Collect(len(payload)))
        assert client.transport is not None
        view = memoryview(payload)
        for start in range(0, len(payload), 3_000_000):
            piece = view[start : start + 3_000_000]
            write_parts_now(client.transport, [bytes(piece[:10]), piece[10:]])
        self.assertEqual(await client.all, payload)
        client.transport.loseConnection()
        await client.lost
        await server.lost

    async def test_peer_gone_while_writing(self) -> None:
        """The end is told once, by the reactor, after the write that met it."""
        from twisted.internet import reactor

        server, address = await self.echo()
        client = await connectProtocol(clientFromString(reactor, address), Collect(1))
        assert client.transport is not None and server.transport is not None
        handle = client.transport.getHandle()
        handle.shutdown(socket.SHUT_WR)
        write_now(client.transport, b"hello")  # EPIPE
        self.assertFalse(client.lost.called)
        await client.lost
        await server.lost

    async def test_closes_after_a_full_buffer(self) -> None:
        """`loseConnection` on a paused transport with a `Pace` still ends."""
        from twisted.internet import reactor

        server, address = await self.echo()
        client = await connectProtocol(clientFromString(reactor, address), Collect(4 << 20))
        assert client.transport is not None and server.transport is not None
        pace = Pace(server.transport, lambda budget: False, reactor)
        server.dataReceived = lambda data: pace.write(bytes(4 << 20))  # type: ignore
        client.transport.write(b"go")
        peer: IPushProducer = client.transport
        peer.resumeProducing()
        await client.all
        server.transport.loseConnection()
        await client.lost
        await server.lost
