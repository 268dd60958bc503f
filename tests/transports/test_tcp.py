"""Stream listeners: addresses, who may connect, socket options, and the end."""

from __future__ import annotations

import socket
from ipaddress import ip_network
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver, MemoryReactorClock, StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from labnet.transports.admission import REMEMBERED, Admission
from labnet.transports.listening import CannotListen, why_not
from labnet.transports.tcp import listen_tcp


def listened(endpoint: str, factory: Any = None, **options: Any) -> tuple[Any, MemoryReactorClock]:
    """A listener on a memory reactor."""
    reactor = MemoryReactorClock()
    result: list[Any] = []
    made = Deferred.fromCoroutine(
        listen_tcp(factory or Factory.forProtocol(Protocol), endpoint, reactor=reactor, **options)
    )
    made.addBoth(result.append)
    if isinstance(result[0], Failure):
        result[0].raiseException()
    return result[0], reactor


class AddressTests(SynchronousTestCase):
    def test_loopback_and_backlog_by_default(self) -> None:
        _, reactor = listened("tcp:7891")
        port, _, backlog, interface = reactor.tcpServers[0]
        self.assertEqual((port, backlog, interface), (7891, 128, "127.0.0.1"))

    def test_what_is_written_stays(self) -> None:
        _, reactor = listened("tcp:7891:interface=10.1.2.3:backlog=5")
        port, _, backlog, interface = reactor.tcpServers[0]
        self.assertEqual((port, backlog, interface), (7891, 5, "10.1.2.3"))

    def test_unix_passes_through(self) -> None:
        listener, reactor = listened("unix:/somewhere/lab.sock")
        self.assertEqual(reactor.unixServers[0][0], "/somewhere/lab.sock")
        self.assertEqual(listener.address, "unix:/somewhere/lab.sock")

    def test_no_endpoint(self) -> None:
        for text in ["7891", "tcp:seven", "nonsense:1", ""]:
            error = self.assertRaises(CannotListen, listened, text)
            self.assertEqual(
                str(error), f"cannot listen at {text}: it is no endpoint such as tcp:7891"
            )


class AdmissionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.log = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)

    def test_allowed_networks(self) -> None:
        gate = Admission("here", [ip_network("192.168.1.0/24"), ip_network("fe80::/10")])
        for host, allowed in [
            ("192.168.1.7", True),
            ("192.168.2.7", False),
            ("::ffff:192.168.1.7", True),
            ("fe80::1%eth0", True),
            ("::1", False),
            ("no address", False),
            (None, True),
        ]:
            self.assertEqual(gate.allows(host), allowed, host)

    def test_refusals_are_logged_once_for_each_host_and_bounded(self) -> None:
        gate = Admission("here", [ip_network("10.0.0.0/8")])
        for number in range(REMEMBERED * 2):
            for _ in range(2):
                gate.allows(f"192.168.{number // 250}.{number % 250}")
        self.assertEqual(len(self.log), REMEMBERED)

    def test_full_is_logged_once_a_time(self) -> None:
        gate = Admission("here", max_connections=2)
        answers = [gate.has_room(n) for n in (1, 2, 2, 2, 1, 2)]
        self.assertEqual(answers, [True, False, False, False, True, False])
        self.assertEqual(len(self.log), 2)

    def test_no_limit(self) -> None:
        self.assertTrue(Admission("here").admits("1.2.3.4", 100000))


class GateTests(SynchronousTestCase):
    """The factory that a port sees."""

    def connect(self, reactor: MemoryReactorClock, host: str = "127.0.0.1") -> Any:
        protocol = reactor.tcpServers[0][1].buildProtocol(IPv4Address("TCP", host, 1))
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def test_refused_peer_is_closed_at_once(self) -> None:
        listener, reactor = listened("tcp:1", allow=[ip_network("10.0.0.0/8")])
        _, refused = self.connect(reactor, "192.168.1.1")
        self.assertTrue(refused.disconnected)
        _, let_in = self.connect(reactor, "10.2.3.4")
        self.assertFalse(let_in.disconnecting)
        self.assertEqual(listener.connections, 1)

    def test_one_too_many(self) -> None:
        listener, reactor = listened("tcp:1", max_connections=1)
        first, _ = self.connect(reactor)
        self.assertTrue(self.connect(reactor)[1].disconnected)
        first.connectionLost(Failure(connectionDone.value))
        self.assertFalse(self.connect(reactor)[1].disconnected)
        self.assertEqual(listener.connections, 1)

    def test_data_goes_straight_to_the_protocol(self) -> None:
        class Own(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.got = data

        own = Own()
        _, reactor = listened("tcp:1", Factory.forProtocol(lambda: own))  # type: ignore[arg-type]
        protocol, transport = self.connect(reactor)
        protocol.dataReceived(b"x")
        self.assertEqual(own.got, b"x")
        self.assertIs(own.transport, transport)
        self.assertEqual(protocol.dataReceived, own.dataReceived)

    def test_interfaces_of_the_protocol_are_kept(self) -> None:
        closed: list[str] = []

        @implementer(IHalfCloseableProtocol)
        class Own(Protocol):
            def readConnectionLost(self) -> None:
                closed.append("read")

            def writeConnectionLost(self) -> None:
                closed.append("write")

        _, reactor = listened("tcp:1", Factory.forProtocol(Own))
        protocol, _ = self.connect(reactor)
        IHalfCloseableProtocol(protocol).readConnectionLost()
        self.assertEqual(closed, ["read"])

    def test_stop_lets_flush_then_aborts(self) -> None:
        clock = Clock()
        listener, reactor = listened("tcp:1", drain=2.0, clock=clock)
        protocol, transport = self.connect(reactor)
        done = Deferred.fromCoroutine(listener.stop())
        self.assertTrue(transport.disconnecting)
        self.assertFalse(transport.disconnected)
        clock.advance(2.0)
        self.assertTrue(transport.disconnected)
        self.assertNoResult(done)
        protocol.connectionLost(Failure(connectionDone.value))
        self.successResultOf(done)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_stop_lets_a_protocol_end_by_itself(self) -> None:
        class Busy(Protocol):
            wound_up = False

            def wind_up(self) -> None:
                self.wound_up = True

        clock = Clock()
        listener, reactor = listened("tcp:1", Factory.forProtocol(Busy), drain=2.0, clock=clock)
        protocol, transport = self.connect(reactor)
        done = Deferred.fromCoroutine(listener.stop())
        self.assertTrue(protocol.wound_up)
        self.assertFalse(transport.disconnecting)
        done.addErrback(lambda failure: failure.trap(CancelledError))
        done.cancel()
        self.assertTrue(transport.disconnected)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_stop_without_connections(self) -> None:
        clock = Clock()
        listener, _ = listened("tcp:1", clock=clock)
        self.successResultOf(Deferred.fromCoroutine(listener.stop()))
        self.assertEqual(clock.getDelayedCalls(), [])


class Greeter(Protocol):
    """Says how its socket is set, then a line."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        handle = transport.getHandle()
        self.options = [
            handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0,
            handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0,
            handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        ]
        transport.write(b"hello")


class Reader(Protocol):
    def __init__(self) -> None:
        self.data = b""
        self.lost: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(self.data)


class SocketTests(TestCase):
    timeout = 20

    async def test_options_address_and_stop(self) -> None:
        from twisted.internet import reactor

        greeter = Greeter()
        listener = await listen_tcp(
            Factory.forProtocol(lambda: greeter),  # type: ignore[arg-type]
            "tcp:0",
            reactor=reactor,
        )
        number = listener.port.getHost().port
        self.assertEqual(listener.address, f"tcp:{number}:interface=127.0.0.1")
        client = await connectProtocol(
            clientFromString(reactor, f"tcp:127.0.0.1:{number}"), Reader()
        )
        while not listener.connections:
            await tick(reactor)
        self.assertEqual(greeter.options, [True, True, 30])
        await listener.stop()
        self.assertEqual(listener.connections, 0)
        self.assertEqual(await client.lost, b"hello")

    async def test_port_in_use(self) -> None:
        from twisted.internet import reactor

        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            endpoint = f"tcp:{other.getsockname()[1]}"
            with self.assertRaises(CannotListen) as caught:
                await listen_tcp(Factory.forProtocol(Protocol), endpoint, reactor=reactor)
        self.assertEqual(
            str(caught.exception),
            f"cannot listen at {endpoint}: the port is in use by another program",
        )

    def test_no_such_host(self) -> None:
        """The numbers of getaddrinfo are below 0, and none of the system's."""
        for number in (socket.EAI_NONAME, socket.EAI_AGAIN):
            error = CannotListen("tcp:0:interface=nosuchhost", why_not(number))
            self.assertIn("interface=nosuchhost: no host of that name is known", str(error))

    async def test_no_such_address(self) -> None:
        from twisted.internet import reactor

        with self.assertRaises(CannotListen) as caught:
            await listen_tcp(
                Factory.forProtocol(Protocol), "tcp:0:interface=192.0.2.1", reactor=reactor
            )
        self.assertIn("this machine has no such address", str(caught.exception))

    async def test_unix_socket(self) -> None:
        from twisted.internet import reactor

        path = self.mktemp()
        listener = await listen_tcp(
            Factory.forProtocol(Protocol), f"unix:{path}", reactor=reactor, max_connections=1
        )
        client = await connectProtocol(clientFromString(reactor, f"unix:{path}"), Reader())
        while not listener.connections:
            await tick(reactor)
        await listener.stop()
        self.assertEqual(await client.lost, b"")


def tick(reactor: Any) -> Deferred[None]:
    """The next turn of the reactor."""
    turn: Deferred[None] = Deferred()
    reactor.callLater(0, turn.callback, None)
    return turn
