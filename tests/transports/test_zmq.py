"""ZMQ sockets on loopback."""

from __future__ import annotations

import os
import resource
import socket
import sys
import threading
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import zmq
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from labnet.errors import LabError, TooLarge
from labnet.transports.listening import CannotListen
from labnet.transports.zmq import (
    REPLIES_A_TURN,
    DealerConnection,
    Parts,
    Peer,
    PubPort,
    RouterPort,
    SubConnection,
    ZmqFactory,
    ZmqServerProtocol,
    split_envelope,
)
from labnet.transports.zmq_socket import MAX_PARTS, MESSAGES_A_TURN

ANY = "tcp://127.0.0.1:*"


class Echo(ZmqServerProtocol):
    """Echoes; raises at ``fail``, keeps silent at ``hello`` and ``hold``."""

    def __init__(self) -> None:
        self.messages: list[tuple[Peer, Parts]] = []
        self.lost: list[Peer] = []
        self.slow: list[Peer] = []
        self.closed = False
        self.events: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def when(self, ready: Callable[[], bool]) -> Deferred[None]:
        """Fires after the first event that makes `ready` true."""
        event: Deferred[None] = Deferred()
        self.events.append((ready, event))
        self.look()
        return event

    def look(self) -> None:
        for ready, event in self.events[:]:
            if ready() and not event.called:
                self.events.remove((ready, event))
                event.callback(None)

    def messageReceived(self, peer: Peer, parts: Parts) -> None:
        self.messages.append((peer, parts))
        if parts[-1] == b"fail":
            raise ZeroDivisionError("as asked")
        if parts[-1] not in (b"hello", b"hold"):
            self.port.reply(peer, parts)
        self.look()

    def messageFailed(self, peer: Peer, parts: Parts, failure: Failure) -> None:
        self.port.reply(peer, [b"failed", type(failure.value).__name__.encode()])

    def peerLost(self, peer: Peer) -> None:
        self.lost.append(peer)
        self.look()

    def peerSlow(self, peer: Peer) -> None:
        self.slow.append(peer)

    def connectionLost(self, reason: Failure) -> None:
        self.closed = True


class Client:
    """A DEALER whose messages can be awaited one by one."""

    def __init__(self, address: str, **options: Any) -> None:
        self.got: list[Parts] = []
        self.waiting: list[Deferred[Parts]] = []
        self.link = DealerConnection(address, self.received, **options)

    def received(self, parts: Parts) -> None:
        if self.waiting:
            self.waiting.pop(0).callback(parts)
        else:
            self.got.append(parts)

    def next(self) -> Deferred[Parts]:
        answer: Deferred[Parts] = Deferred()
        if self.got:
            answer.callback(self.got.pop(0))
        else:
            self.waiting.append(answer)
        return answer

    def ask(self, *parts: bytes) -> Deferred[Parts]:
        self.link.send(parts)
        return self.next()


class Child(ProcessProtocol):
    """The client in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        from twisted.internet import reactor

        self.sent: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()
        script = str(Path(__file__).with_name("zmq_client.py"))
        self.process = reactor.spawnProcess(  # type: ignore[attr-defined]
            self, sys.executable, [sys.executable, script, *arguments], env=os.environ
        )

    def outReceived(self, data: bytes) -> None:
        if not self.sent.called:
            self.sent.callback(None)

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(None)

    def kill(self) -> Deferred[None]:
        if not self.ended.called:
            self.process.signalProcess("KILL")
        return self.ended


class ZmqTestCase(TestCase):
    timeout = 60

    def router(self, **options: Any) -> tuple[RouterPort, Echo]:
        protocol = Echo()
        port = RouterPort(protocol, options.pop("address", ANY), **options)
        self.addCleanup(lambda: Deferred.fromCoroutine(port.stop()))
        return port, protocol

    def client(self, port: RouterPort, **options: Any) -> Client:
        client = Client(port.address, **options)
        self.addCleanup(client.link.close)
        return client

    def child(self, *arguments: str) -> Child:
        child = Child(*arguments)
        self.addCleanup(child.kill)
        return child

    def plain(self, kind: int, address: str, **options: int | bytes) -> zmq.Socket[bytes]:
        """A blocking socket without Twisted."""
        context = zmq.Context(1)
        plain = context.socket(kind)
        for name, value in {"LINGER": 0, **options}.items():
            plain.set(getattr(zmq, name), value)
        plain.connect(address)
        self.addCleanup(context.term)
        self.addCleanup(plain.close)
        return plain


class RouterTests(ZmqTestCase):
    async def test_echo(self) -> None:
        port, protocol = self.router()
        client = self.client(port, identity=b"me")
        self.assertEqual(await client.ask(b"one"), [b"one"])
        self.assertEqual(await client.ask(b"one", b"", b"three"), [b"one", b"", b"three"])
        peer = protocol.messages[0][0]
        self.assertEqual((peer.identity, peer.alive, peer.named), (b"me", True, True))
        self.assertTrue(peer.address.startswith("127.0.0.1:"), peer.address)
        self.assertEqual((port.connections, port.unclaimed), (1, 0))

    async def test_clients_without_names_are_told_apart(self) -> None:
        port, protocol = self.router()
        for _ in range(2):
            await self.client(port).ask(b"x")
        first, second = (peer for peer, _ in protocol.messages)
        self.assertNotEqual(first.identity, second.identity)
        self.assertFalse(first.named)

    async def test_reply_later(self) -> None:
        """A reply outside the turn does not lose the news of the next request."""
        from twisted.internet import reactor

        port, protocol = self.router()
        client = self.client(port)
        for number in range(200):
            client.link.send([b"hold"])
            await protocol.when(lambda n=number: len(protocol.messages) == n + 1)
            peer = protocol.messages[-1][0]
            reactor.callLater(0, port.reply, peer, [b"%d" % number])  # type: ignore[attr-defined]
            self.assertEqual(await client.next(), [b"%d" % number])

    async def test_failure_becomes_a_reply(self) -> None:
        port, _ = self.router()
        client = self.client(port)
        self.assertEqual(await client.ask(b"fail"), [b"failed", b"ZeroDivisionError"])
        self.assertEqual(await client.ask(b"next"), [b"next"])

    async def test_failure_without_a_hook_is_logged_once(self) -> None:
        port, protocol = self.router()

        def hook(peer: Peer, parts: Parts, failure: Failure) -> None:
            ZmqServerProtocol.messageFailed(protocol, peer, parts, failure)

        protocol.messageFailed = hook  # type: ignore[method-assign]
        client = self.client(port)
        client.link.send([b"fail"])
        await client.ask(b"next")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_too_many_parts(self) -> None:
        port, _ = self.router()
        client = self.client(port)
        reply = await client.ask(*[b"x"] * (MAX_PARTS * 3))
        self.assertEqual(reply, [b"failed", TooLarge.__name__.encode()])
        self.assertEqual(await client.ask(*[b"x"] * MAX_PARTS), [b"x"] * MAX_PARTS)

    async def test_message_over_the_bound_ends_that_connection_only(self) -> None:
        port, protocol = self.router(max_message=1000)
        good, bad = self.client(port), self.client(port)
        await good.ask(b"a")
        await bad.ask(b"b")
        bad.link.send([bytes(1001)])
        await protocol.when(lambda: len(protocol.lost) == 1)
        self.assertEqual(await good.ask(bytes(1000)), [bytes(1000)])

    async def test_rep_clients(self) -> None:
        """REQ with and without a correlation counter, answered through the envelope."""
        port, protocol = self.router()
        for options in ({}, {"REQ_CORRELATE": 1, "REQ_RELAXED": 1}):
            client = self.plain(zmq.REQ, port.address, **options)
            before = len(protocol.messages)
            client.send(b"hold")
            await protocol.when(lambda n=before: len(protocol.messages) > n)
            peer, parts = protocol.messages[-1]
            envelope, body = split_envelope(parts)
            self.assertEqual((envelope[-1], body), (b"", [b"hold"]))
            port.reply(peer, [*envelope, b"answer"])
            client.set(zmq.RCVTIMEO, 10000)
            self.assertEqual(client.recv(), b"answer")

    def test_envelope(self) -> None:
        self.assertEqual(split_envelope([b"", b"x"]), ([b""], [b"x"]))
        self.assertEqual(split_envelope([b"1", b"", b"x", b""]), ([b"1", b""], [b"x", b""]))
        self.assertEqual(split_envelope([b"x"]), ([], [b"x"]))
        self.assertEqual(split_envelope([b""]), ([], [b""]))
        self.assertEqual(split_envelope([b"x", b"y"]), ([], [b"x", b"y"]))


class AddressTests(ZmqTestCase):
    async def test_taken_port(self) -> None:
        before = threads()
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
            error = self.assertRaises(CannotListen, RouterPort, Echo(), address)
        self.assertEqual(
            str(error), f"cannot listen at {address}: the port is in use by another program"
        )
        while threads() > before:
            await tick()

    async def test_no_address(self) -> None:
        for address in ("5555", "tcp:5555", "inproc://x", "tcp://nowhere", "tcp://1.2.3.4.5:1"):
            error = self.assertRaises(CannotListen, RouterPort, Echo(), address)
            self.assertIn(address, str(error))

    async def test_all_interfaces(self) -> None:
        port, _ = self.router(address="tcp://*:*")
        self.assertTrue(port.address.startswith("tcp://0.0.0.0:"))
        number = port.address.rpartition(":")[2]
        client = Client(f"tcp://127.0.0.1:{number}")
        self.addCleanup(client.link.close)
        self.assertEqual(await client.ask(b"x"), [b"x"])

    async def test_bad_identity_or_address_of_a_client(self) -> None:
        for identity in (b"\0x", b"x" * 256):
            self.assertRaises(LabError, Client, "tcp://127.0.0.1:1", identity=identity)
        self.assertRaises(LabError, Client, "nowhere")

    async def test_allowed_networks(self) -> None:
        port, protocol = self.router(allow=[ip_network("10.0.0.0/8")])
        client = self.plain(zmq.DEALER, port.address)
        monitor = client.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        self.addCleanup(client.disable_monitor)
        client.send(b"x")
        await readable(monitor)
        self.assertEqual(protocol.messages, [])
        self.assertEqual(port.connections, 0)

    async def test_allowed_network_gets_in(self) -> None:
        port, _ = self.router(allow=[ip_network("127.0.0.0/8")])
        self.assertEqual(await self.client(port).ask(b"x"), [b"x"])

    async def test_no_room(self) -> None:
        """The one too many waits, and is let in when there is room."""
        port, protocol = self.router(max_connections=1)
        first = self.client(port)
        await first.ask(b"a")
        answer = self.client(port).ask(b"b")
        while port.connections < 2:
            await tick()
        self.assertEqual(await first.ask(b"c"), [b"c"])
        self.assertFalse(answer.called)
        first.link.close()
        self.assertEqual(await answer, [b"b"])
        self.assertEqual(len(protocol.lost), 1)


class LifeTests(ZmqTestCase):
    """Which clients are alive."""

    async def test_closed_client(self) -> None:
        port, protocol = self.router()
        client = self.client(port, identity=b"me")
        await client.ask(b"x")
        client.link.close()
        await protocol.when(lambda: bool(protocol.lost))
        peer = protocol.messages[0][0]
        self.assertEqual((protocol.lost, peer.alive), ([peer], False))
        self.assertFalse(port.reply(peer, [b"late"]))

    async def test_killed_client(self) -> None:
        port, protocol = self.router()
        child = self.child(port.address, "victim")
        await child.sent
        await protocol.when(lambda: bool(protocol.messages))
        self.assertEqual(protocol.lost, [])
        child.process.signalProcess("KILL")
        await protocol.when(lambda: bool(protocol.lost))
        self.assertEqual(protocol.lost[0].identity, b"victim")

    async def test_tcp_finds_dead_peers_and_heartbeats_do_not(self) -> None:
        """ZMTP's heartbeats end the process when a client goes that has sent too much."""
        port, _ = self.router(patience=4.0)
        for each in (port.socket, self.client(port).link.socket):
            self.assertEqual(each.get(zmq.HEARTBEAT_IVL), 0)
            self.assertEqual(each.get(zmq.TCP_KEEPALIVE), 1)
            self.assertEqual(each.get(zmq.TCP_KEEPALIVE_IDLE), 2)
        self.assertEqual(port.socket.get(zmq.TCP_KEEPALIVE_CNT), 2)
        self.assertEqual(port.socket.get(zmq.TCP_MAXRT), 4000)

    async def test_client_that_comes_back_under_its_name(self) -> None:
        port, protocol = self.router()
        old = self.client(port, identity=b"me")
        await old.ask(b"x")
        old.link.close()
        await protocol.when(lambda: bool(protocol.lost))
        new = self.client(port, identity=b"me")
        self.assertEqual(await new.ask(b"y"), [b"y"])
        first, second = (peer for peer, _ in protocol.messages)
        self.assertIsNot(first, second)
        self.assertEqual((first.alive, second.alive), (False, True))

    async def test_silent_connection_is_unclaimed(self) -> None:
        port, _ = self.router()
        client = self.client(port)
        while not port.connections:
            await tick()
        self.assertEqual(port.unclaimed, 1)
        await client.ask(b"x")
        self.assertEqual(port.unclaimed, 0)

    async def test_twin_never_takes_the_place_and_is_served_after_the_end(self) -> None:
        port, protocol = self.router()
        first, twin = self.client(port, identity=b"me"), None
        await first.ask(b"1")
        twin = self.client(port, identity=b"me")
        twin.link.send([b"from twin"])
        while port.connections < 2:
            await tick()
        for number in range(50):
            self.assertEqual(await first.ask(b"%d" % number), [b"%d" % number])
        self.assertNotIn([b"from twin"], [parts for _, parts in protocol.messages])
        first.link.close()
        await protocol.when(lambda: bool(protocol.lost))
        descriptors = set(port.peers.unclaimed)
        while set(port.peers.unclaimed) == descriptors or not port.peers.unclaimed:
            await tick()  # its connection is ended, and it connects again by itself
        self.assertEqual(await twin.ask(b"now"), [b"now"])

    async def test_storm(self) -> None:
        """Clients that send one message and go: every one is found dead, the living are not."""
        port, protocol = self.router()
        steady = self.client(port, identity=b"steady")
        await steady.ask(b"x")
        child = self.child(port.address, "storm", "300")
        while not child.sent.called:
            await steady.ask(b"x")
        hellos = [parts for _, parts in protocol.messages if parts == [b"hello"]]
        self.assertEqual(len(hellos), 300)
        while port.connections > 1:
            await tick()
        self.assertNotIn(b"steady", [peer.identity for peer in protocol.lost])
        self.assertEqual(await steady.ask(b"y"), [b"y"])
        self.assertEqual(len(protocol.lost), len(set(map(id, protocol.lost))))
        self.assertEqual(list(port.peers.claims.values()), [protocol.messages[0][0]])

    async def test_client_that_does_not_take_replies(self) -> None:
        port, protocol = self.router(high_water_mark=10)
        client = self.plain(zmq.DEALER, port.address, RCVHWM=1, RCVBUF=4096)
        client.send(b"hold")
        await protocol.when(lambda: bool(protocol.messages))
        peer = protocol.messages[0][0]
        answers = [port.reply(peer, [bytes(1 << 20)]) for _ in range(50)]
        self.assertIn(True, answers)
        self.assertFalse(answers[-1])
        self.assertEqual(protocol.slow, [peer])
        self.assertEqual(peer.dropped, answers.count(False))
        self.assertTrue(peer.alive)


    async def test_bytes_that_are_not_taken_are_bounded(self) -> None:
        """However many messages may wait: long ones count by their bytes."""
        port, protocol = self.router()
        client = self.plain(zmq.DEALER, port.address, RCVHWM=1, RCVBUF=4096)
        client.send(b"hold")
        await protocol.when(lambda: bool(protocol.messages))
        peer = protocol.messages[0][0]
        answers = [port.reply(peer, [bytes(16 << 20)]) for _ in range(20)]
        self.assertEqual(answers, [True] * 4 + [False] * 16)
        self.assertEqual(protocol.slow, [peer])
        self.assertTrue(port.reply(peer, [b"short"]))
        for size in (*[16 << 20] * 4, len(b"short")):
            await readable(client)
            self.assertEqual(len(client.recv()), size)
        while not port.reply(peer, [bytes(16 << 20)]):
            await tick()


class LoadTests(ZmqTestCase):
    async def test_flood_delays_nobody_and_takes_no_memory(self) -> None:
        """200,000 messages: a timer runs between turns, and they do not pile up here."""
        from twisted.internet import reactor

        port, protocol = self.router()
        count = 200_000
        calls: list[Any] = []
        handled = 0
        done: Deferred[None] = Deferred()

        def received(peer: Peer, parts: Parts) -> None:
            nonlocal handled
            handled += 1
            if handled == 1:
                timer()
            if handled == count:
                done.callback(None)

        def timer() -> None:
            call = reactor.callLater(0.01, due, reactor.seconds() + 0.01)  # type: ignore
            calls.append(call)

        late: list[float] = []

        def due(when: float) -> None:
            late.append(reactor.seconds() - when)  # type: ignore[attr-defined]
            timer()

        protocol.messageReceived = received  # type: ignore[method-assign]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        batches: list[int] = []
        read = port.readMessages

        def counted(want: int) -> int:
            batches.append(read(want))
            return batches[-1]

        port.readMessages = counted  # type: ignore[method-assign]
        self.child(port.address, "flood", str(count))
        await done
        calls[-1].cancel()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        self.assertLess(grown, 20_000)  # kB
        self.assertLessEqual(max(batches), MESSAGES_A_TURN)
        self.assertGreater(len(late), 10)
        self.assertLess(sorted(late)[len(late) // 2], 0.01)

    async def test_budget_of_a_turn(self) -> None:
        """What waits beyond a turn's share is read in later turns, others in between."""
        port, protocol = self.router()
        client = self.client(port)
        client.link.send([b"hold"])
        await protocol.when(lambda: len(protocol.messages) == 1)
        share: list[int] = []
        turn = port._turn

        def counted() -> None:
            before = len(protocol.messages)
            turn()
            share.append(len(protocol.messages) - before)

        port._turn = counted  # type: ignore[method-assign]
        for _ in range(900):
            client.link.send([b"hold"])
        await protocol.when(lambda: len(protocol.messages) == 901)
        self.assertLessEqual(max(share), MESSAGES_A_TURN)
        self.assertGreaterEqual(len(share) + 1, 900 // MESSAGES_A_TURN)  # the last is under way

    async def test_long_replies_share_out_a_turn(self) -> None:
        """Messages read with one that has a long reply wait for a turn of their own; none is lost.
        """
        port, protocol = self.router()
        client = self.plain(zmq.DEALER, port.address)
        client.send(b"hold")
        await protocol.when(lambda: len(protocol.messages) == 1)
        long = b"x" * (REPLIES_A_TURN + 1)
        received, most = protocol.messageReceived, [0]
        turn = port._turn

        def answer(peer: Peer, parts: Parts) -> None:
            self.assertEqual(protocol.lost, [])
            received(peer, [b"hold"])
            port.reply(peer, [long])

        def counted() -> None:
            before = len(protocol.messages)
            turn()
            most.append(len(protocol.messages) - before)

        protocol.messageReceived = answer  # type: ignore[method-assign]
        port._turn = counted  # type: ignore[method-assign]
        for _ in range(20):
            client.send(b"ask")
        await protocol.when(lambda: len(protocol.messages) == 21)
        self.assertEqual(max(most), 1)
        client.close()
        await protocol.when(lambda: bool(protocol.lost))

    async def test_two_ports_share_the_reactor(self) -> None:
        flooded, busy = self.router()
        calm, _ = self.router()
        self.child(flooded.address, "flood", "50000")
        await busy.when(lambda: len(busy.messages) > 0)
        client = self.client(calm)
        for _ in range(20):
            before = len(busy.messages)
            await client.ask(b"x")
            self.assertLess(len(busy.messages) - before, 20_000)


class EndTests(ZmqTestCase):
    async def test_nothing_is_left(self) -> None:
        from twisted.internet import reactor

        reactor.getThreadPool()  # type: ignore[attr-defined]
        await self.once()
        readers, descriptors = set(reactor.getReaders()), files()  # type: ignore[attr-defined]
        before = threads()
        for _ in range(3):
            await self.once()
        self.assertEqual(set(reactor.getReaders()), readers)  # type: ignore[attr-defined]
        self.assertEqual(files(), descriptors)
        while threads() > before:
            await tick()

    async def once(self) -> None:
        protocol = Echo()
        port = RouterPort(protocol, ANY)
        client = Client(port.address)
        await client.ask(b"x")
        await port.stop()
        await port.stop()
        self.assertTrue(protocol.closed)
        self.assertEqual(len(protocol.lost), 1)
        await client.link.close()
        await client.link.close()

    async def test_last_replies_are_sent(self) -> None:
        port, protocol = self.router()
        client = self.client(port)
        client.link.send([b"hold"])
        await protocol.when(lambda: bool(protocol.messages))
        port.reply(protocol.messages[0][0], [b"bye"])
        await port.stop()
        self.assertEqual(await client.next(), [b"bye"])

    async def test_stop_inside_a_message(self) -> None:
        port, protocol = self.router()
        stopped: Deferred[None] = Deferred()

        def received(peer: Peer, parts: Parts) -> None:
            Deferred.fromCoroutine(port.stop()).chainDeferred(stopped)

        protocol.messageReceived = received  # type: ignore[method-assign]
        client = self.client(port)
        for _ in range(5):
            client.link.send([b"x"])
        await stopped

    async def test_several_ports_of_one_factory(self) -> None:
        from twisted.internet import reactor

        factory = ZmqFactory(reactor)
        self.addCleanup(factory.stop)
        first, _ = self.router(factory=factory)
        second, _ = self.router(factory=factory)
        client = self.client(second)
        self.assertEqual(await client.ask(b"x"), [b"x"])
        await first.stop()
        self.assertEqual(await client.ask(b"y"), [b"y"])


class PublishTests(ZmqTestCase):
    async def test_publish(self) -> None:
        port = PubPort(ANY)
        self.addCleanup(lambda: Deferred.fromCoroutine(port.stop()))
        got: list[Parts] = []
        ready: Deferred[None] = Deferred()
        last: Deferred[None] = Deferred()

        def received(parts: Parts) -> None:
            if not ready.called:
                ready.callback(None)
            got.append(parts)
            if parts[0] == b"a.last" and not last.called:
                last.callback(None)

        subscriber = SubConnection(port.address, received, topics=[b"a."])
        self.addCleanup(subscriber.close)
        while not ready.called:
            port.publish([b"a.first", b"1"])
            await tick()
        port.publish([b"b.other", b"2"])
        port.publish([b"a.last", b"3"])
        await last
        self.assertEqual({parts[0] for parts in got}, {b"a.first", b"a.last"})
        self.assertEqual(got[-1], [b"a.last", b"3"])
        self.assertEqual(port.connections, 1)

    async def test_slow_subscriber_misses_messages_and_stops_nobody(self) -> None:
        port = PubPort(ANY, high_water_mark=10)
        self.addCleanup(lambda: Deferred.fromCoroutine(port.stop()))
        slow = self.plain(zmq.SUB, port.address, RCVHWM=1, RCVBUF=4096, SUBSCRIBE=b"")
        while not slow.poll(0):
            port.publish([b"first"])
            await tick()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(300):
            port.publish([bytes(1 << 20)])
        self.assertLess(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, 100_000)


def files() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def threads() -> int:
    """The threads of libzmq, or rather all that are not Python's."""
    if not os.path.isdir("/proc/self/task"):
        return 0
    return len(os.listdir("/proc/self/task")) - threading.active_count()


def tick() -> Deferred[None]:
    """A later turn of the reactor."""
    from twisted.internet import reactor

    turn: Deferred[None] = Deferred()
    reactor.callLater(0.001, turn.callback, None)  # type: ignore[attr-defined]
    return turn


async def readable(plain: zmq.Socket[bytes]) -> None:
    while not plain.poll(0):
        await tick()
