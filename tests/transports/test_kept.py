"""Connections of a client: kept, made again, closed."""

from __future__ import annotations

import socket
from types import SimpleNamespace

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import NotConnected
from labnet.transports.dialing import client_endpoint
from labnet.transports.kept import ClientProtocol, Connections, keep_alive, no_answer
from tests.wires.scripted import ScriptedEndpoint


class ConnectionsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.peer = ScriptedEndpoint()
        self.connections = Connections(
            self.peer, lambda: ClientProtocol("bench:1"), "bench:1", self.clock
        )

    def kept(self) -> Deferred[ClientProtocol]:
        return Deferred.fromCoroutine(self.connections.kept())

    def new(self) -> Deferred[ClientProtocol]:
        return Deferred.fromCoroutine(self.connections.new())

    def test_new_ones_are_new(self) -> None:
        first, second = (self.successResultOf(self.new()) for _ in range(2))
        self.assertIsNot(first, second)

    def test_the_kept_one_is_the_same(self) -> None:
        first, second = (self.successResultOf(self.kept()) for _ in range(2))
        self.assertIs(first, second)

    def test_a_spent_one_is_replaced(self) -> None:
        first = self.successResultOf(self.kept())
        first.abort()
        again = self.kept()
        self.assertNoResult(again)
        self.clock.pump([0.1] * 4)
        self.assertIsNot(self.successResultOf(again), first)

    def test_pauses_grow_while_it_is_refused(self) -> None:
        self.peer.refusing = 100
        refused = self.kept()
        self.clock.pump([0.1] * 600)
        self.failureResultOf(refused, NotConnected)
        self.assertGreater(100 - self.peer.refusing, 5)
        self.assertLess(100 - self.peer.refusing, 20)
        self.successResultOf(self.connections.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_attempt_that_is_cancelled(self) -> None:
        endpoint = client_endpoint("10.0.0.7", 1, MemoryReactorClock())
        connections = Connections(
            endpoint, lambda: ClientProtocol("bench:1"), "bench:1", self.clock
        )
        new = Deferred.fromCoroutine(connections.new())
        new.cancel()
        self.failureResultOf(new, CancelledError)

    def test_refused(self) -> None:
        self.peer.refusing = 1
        error = self.failureResultOf(self.new(), NotConnected).value
        self.assertIn("no connection to bench:1", str(error))

    def test_close_ends_all(self) -> None:
        protocols = [self.successResultOf(self.kept()), self.successResultOf(self.new())]
        self.successResultOf(self.connections.close())
        self.assertEqual([protocol.spent for protocol in protocols], [True, True])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_while_connecting(self) -> None:
        self.peer.hanging = True
        waiting = self.kept()
        self.successResultOf(self.connections.close())
        self.failureResultOf(waiting, NotConnected)

    def test_close_from_the_callback_of_a_failure(self) -> None:
        self.peer.refusing = 1
        refused = self.kept()
        closed: list[Deferred[None]] = []
        refused.addErrback(lambda _: closed.append(self.connections.close()))
        self.clock.pump([0.1] * 4)
        self.successResultOf(closed[0])

    def test_no_answer(self) -> None:
        self.assertIn("bench:1", str(no_answer("bench:1")))

    def test_keepalive(self) -> None:
        """A dead peer is found after so many seconds: silence, and probes as far apart."""
        with socket.socket() as handle:
            transport = SimpleNamespace(getHandle=lambda: handle)
            for seconds, on, apart in ((60.0, 1, 15), (2.0, 1, 1), (0.0, 0, 1)):
                keep_alive(transport, seconds)
                found = handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                self.assertEqual(bool(found), bool(on))
                for name, value in (
                    ("TCP_KEEPIDLE", apart),
                    ("TCP_KEEPINTVL", apart),
                    ("TCP_KEEPCNT", 3),
                ):
                    option = getattr(socket, name, None)
                    if option is not None:
                        self.assertEqual(handle.getsockopt(socket.IPPROTO_TCP, option), value)
        keep_alive(SimpleNamespace(), 60.0)  # a transport without a socket
