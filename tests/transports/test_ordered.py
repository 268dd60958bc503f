"""Answers in order on one connection: a protocol whose messages are single bytes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.trial.unittest import SynchronousTestCase

from labnet.transports.ordered import (
    LAST_WORDS,
    PIECE,
    SHORT,
    STREAM_FROM,
    OrderedProtocol,
    first_time,
)


class Letters(OrderedProtocol[int]):
    """Answers a letter by itself; ``W`` waits, ``L`` is long, ``Q`` ends, ``X`` breaks."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, None)
        self.waits: list[Deferred[bytes]] = []
        self.begun = b""
        self.over = False

    def split(self, data: bytes) -> Iterable[int]:
        return data

    def begin(self, message: int) -> bytes | Deferred[bytes]:
        letter = bytes([message])
        self.begun += letter
        if letter == b"W":
            self.waits.append(Deferred())
            return self.waits[-1]
        if letter == b"X":
            return fail(RuntimeError("broken"))
        if letter == b"Q":
            self.finish()
            return b"bye"
        return b"L" * (STREAM_FROM + 1) if letter == b"L" else letter

    def ended(self) -> None:
        self.over = True


class OrderedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.letters = Letters(self.clock)
        self.transport = StringTransportWithDisconnection()
        self.transport.protocol = self.letters
        self.letters.makeConnection(self.transport)

    def taken(self) -> bytes:
        data = bytes(self.transport.value())
        self.transport.clear()
        return data

    def test_waiting(self) -> None:
        self.letters.dataReceived(b"aWbWc")
        self.assertEqual(self.taken(), b"a")
        self.letters.waits[0].callback(b"1")
        self.assertEqual(self.taken(), b"1b")
        self.letters.waits[1].callback(b"")
        self.assertEqual(self.taken(), b"c")

    @given(st.text("aWLb", max_size=20), st.lists(st.integers(0, 20), max_size=4))
    def test_order(self, text: str, cuts: list[int]) -> None:
        self.setUp()
        data = text.encode()
        edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        for start, end in itertools.pairwise(edges):
            self.letters.dataReceived(data[start:end])
        self.clock.pump([0] * 30)
        for number in range(data.count(b"W")):
            self.letters.waits[number].callback(b"w")
            self.clock.pump([0] * 30)
        expected = data.replace(b"W", b"w").replace(b"L", b"L" * (STREAM_FROM + 1))
        self.assertEqual(self.taken(), expected)

    def test_finish_sends_what_is_ready(self) -> None:
        self.letters.dataReceived(b"aLQb")
        self.clock.pump([0] * 5)
        self.assertTrue(self.taken().endswith(b"Lbye"))
        self.assertFalse(self.transport.connected)
        self.assertEqual(self.letters.begun, b"aLQ")
        self.assertTrue(self.letters.over)

    def test_nothing_is_taken_after_the_end(self) -> None:
        self.letters.dataReceived(b"W")
        self.letters.finish()
        self.letters.dataReceived(b"a")
        self.letters.waits[0].callback(b"w")
        self.assertEqual(self.taken(), b"w")
        self.assertFalse(self.transport.connected)

    def test_a_mistake_closes(self) -> None:
        self.letters.dataReceived(b"aXb")
        self.assertEqual(self.taken(), b"a")
        self.assertFalse(self.transport.connected)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_an_answer_in_parts(self) -> None:
        """Nothing is lost between what is short, what is long, and what comes meanwhile."""
        long = bytes(range(256)) * (PIECE // 200)
        for sizes in ((3, len(long), 2), (0, SHORT, SHORT + 1, 0), (len(long),), (5,)):
            parts: list[bytes | memoryview] = [memoryview(long)[:size] for size in sizes]
            self.letters.dataReceived(b"aWb")
            self.letters.waits.pop().callback(parts)  # type: ignore[arg-type]
            while self.clock.getDelayedCalls():
                self.clock.advance(0)
            self.assertEqual(self.taken(), b"a" + b"".join(parts) + b"b")

    def test_forget(self) -> None:
        self.letters.dataReceived(b"Wab")
        self.letters.forget()
        self.letters.waits[0].callback(b"w")
        self.assertEqual(self.taken(), b"w")
        self.assertEqual(self.letters.begun, b"W")

    def test_an_answer_after_the_end_is_nobody_s(self) -> None:
        self.letters.dataReceived(b"Wa")
        self.transport.loseConnection()
        self.letters.waits[0].callback(b"w")
        self.assertEqual(self.taken(), b"")
        self.assertEqual(self.letters.begun, b"W")

    def test_what_is_under_way_is_answered_at_the_end(self) -> None:
        self.letters.dataReceived(b"aWb")
        self.letters.wind_up()
        self.assertTrue(self.transport.connected)
        self.letters.dataReceived(b"c")
        self.letters.waits[0].callback(b"w")
        self.assertEqual(self.taken(), b"aw")
        self.assertFalse(self.transport.connected)
        self.assertEqual(self.letters.begun, b"aW")

    def test_an_idle_connection_ends_at_once(self) -> None:
        self.letters.dataReceived(b"a")
        self.letters.wind_up()
        self.assertFalse(self.transport.connected)

    def test_after_the_stream_all_is_answered(self) -> None:
        self.letters.dataReceived(b"WaWb")
        self.letters.readConnectionLost()
        self.clock.advance(LAST_WORDS - 0.1)
        self.letters.waits[0].callback(b"1")
        self.letters.waits[1].callback(b"2")
        self.assertEqual(self.taken(), b"1a2b")
        self.assertFalse(self.transport.connected)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_does_not_begin_in_time_is_forgotten(self) -> None:
        self.letters.dataReceived(b"WWW")
        self.letters.readConnectionLost()
        self.letters.waits[0].callback(b"1")
        self.clock.advance(LAST_WORDS + 0.1)
        self.assertTrue(self.transport.connected)
        self.letters.waits[1].callback(b"2")
        self.assertEqual(self.taken(), b"12")
        self.assertFalse(self.transport.connected)
        self.assertEqual(self.letters.begun, b"WW")

    def test_first_time(self) -> None:
        seen: set[str] = set()
        self.assertTrue(first_time(seen, "a", 1))
        self.assertFalse(first_time(seen, "a", 1))
        self.assertTrue(first_time(seen, "b", 1))
        self.assertEqual(seen, {"a"})
