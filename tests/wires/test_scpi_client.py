"""The SCPI client against a scripted instrument."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import BadArguments, Cancelled, DeviceFault, NotConnected, TimedOut, TooLarge
from labnet.wires.scpi.client import ScpiClient
from labnet.wires.scpi.stream import MAX_UNREAD
from tests.wires.scripted import ScriptedEndpoint


class ClientTestCase(SynchronousTestCase):
    options: dict[str, Any] = {}

    def setUp(self) -> None:
        self.clock = Clock()
        self.peer = ScriptedEndpoint()
        self.client = ScpiClient(self.peer, reactor=self.clock, **self.options)

    def reconnected(self) -> None:
        self.clock.pump([0.1] * 5)

    def taken(self) -> bytes:
        """What has been sent since the last time."""
        sent = self.peer.sent
        self.peer.protocols[-1].transport.clear()
        return sent

    def tearDown(self) -> None:
        self.client.close()
        left = [call for call in self.clock.getDelayedCalls() if call.active()]
        self.assertEqual(left, [])


class QueryTests(ClientTestCase):
    def test_query(self) -> None:
        done = self.client.query("*IDN?")
        self.assertEqual(self.taken(), b"*IDN?\n")
        self.peer.answer(b"ACME,PSU2,")
        self.assertNoResult(done)
        self.peer.answer(b"0,1.0\r\n")
        self.assertEqual(self.successResultOf(done), "ACME,PSU2,0,1.0")

    def test_one_connection_one_query_at_a_time(self) -> None:
        first, second = self.client.query("A?"), self.client.query("B?\n")
        self.assertEqual(self.taken(), b"A?\n")
        self.peer.answer(b"1\n")
        self.assertEqual(self.successResultOf(first), "1")
        self.assertEqual(self.taken(), b"B?\n")
        self.peer.answer(b"2\n")
        self.assertEqual(self.successResultOf(second), "2")
        self.assertEqual(len(self.peer.protocols), 1)

    def test_a_response_with_a_block(self) -> None:
        done = self.client.query_bytes("DATA?;*OPC?")
        self.peer.answer(b"#14a\n")
        self.peer.answer(b"b\n;1\n")
        self.assertEqual(self.successResultOf(done), b"#14a\nb\n;1")

    def test_block_with_progress(self) -> None:
        told: list[tuple[int, int]] = []
        done = self.client.query_block("CURVE?", lambda got, of: told.append((got, of)))
        for piece in (b"#1", b"5ab", b"\ncd", b"\n"):
            self.peer.answer(piece)
        self.assertEqual(self.successResultOf(done), b"ab\ncd")
        self.assertEqual(told, [(2, 5), (5, 5)])

    def test_no_block(self) -> None:
        done = self.client.query_block("CURVE?")
        self.peer.answer(b"1.5\n")
        self.assertIn("'1.5'", str(self.failureResultOf(done, DeviceFault).value))
        self.assertFalse(self.peer.connected)

    def test_writes(self) -> None:
        self.successResultOf(self.client.write("VOLT 1"))
        self.assertEqual(self.taken(), b"VOLT 1\n")
        self.successResultOf(self.client.write_block("DATA", b"a\nb"))
        self.assertEqual(self.taken(), b"DATA #13a\nb\n")
        self.successResultOf(self.client.write_raw(b"\x00\xff"))
        self.assertEqual(self.taken(), b"\x00\xff")

    def test_a_long_block(self) -> None:
        """It leaves part by part, and `progress` is told."""
        told: list[tuple[int, int]] = []
        data = bytes(range(256)) * 10_000
        done = self.client.write_block("DATA", data, lambda gone, of: told.append((gone, of)))
        transport = self.peer.protocols[-1].transport
        while transport.producer is not None:
            transport.producer.resumeProducing()
        self.successResultOf(done)
        self.assertEqual(self.taken(), b"DATA #72560000" + data + b"\n")
        self.assertEqual(told, [(1 << 20, 2_560_000), (2 << 20, 2_560_000), (2_560_000,) * 2])
        answer = self.client.query("*OPC?")
        self.peer.answer(b"1\n")
        self.assertEqual(self.successResultOf(answer), "1")

    def test_a_progress_that_fails(self) -> None:
        def mistaken(got: int, of: int) -> None:
            raise KeyError(got)

        done = self.client.query_block("CURVE?", mistaken)
        self.peer.answer(b"#15ab")
        self.failureResultOf(done, KeyError)
        self.assertFalse(self.peer.connected)
        done = self.client.write_block("DATA", b"abc", mistaken)
        self.reconnected()
        transport = self.peer.protocols[-1].transport
        while transport.producer is not None:
            transport.producer.resumeProducing()
        self.failureResultOf(done, KeyError)
        self.assertFalse(self.peer.connected)

    def test_what_is_not_one_message_is_not_sent(self) -> None:
        for message in ("A\nB", 'T "a', "DATA #19x", "Ω"):
            self.failureResultOf(self.client.write(message), BadArguments)
            self.failureResultOf(self.client.query(message), BadArguments)
        self.failureResultOf(self.client.write_block('T "a', b""), BadArguments)
        self.assertEqual(self.taken(), b"")

    def test_reads(self) -> None:
        self.successResultOf(self.client.write("*IDN?;CURVE?"))
        self.peer.answer(b"ACME\n;ab")
        self.assertEqual(self.successResultOf(self.client.read()), b"ACME")
        self.assertEqual(self.successResultOf(self.client.read_raw(2)), b";a")
        done = self.client.read_until(b"$$")
        self.peer.answer(b"c$")
        self.peer.answer(b"$rest")
        self.assertEqual(self.successResultOf(done), b"bc")
        self.assertEqual(self.successResultOf(self.client.read_raw(4)), b"rest")
        self.failureResultOf(self.client.read_raw(0), BadArguments)
        self.failureResultOf(self.client.read_until(b""), BadArguments)

    def test_what_nobody_read_does_not_answer_a_query(self) -> None:
        self.successResultOf(self.client.write("A?"))
        self.peer.answer(b"late\n")
        done = self.client.query("B?")
        self.peer.answer(b"2\n")
        self.assertEqual(self.successResultOf(done), "2")

    def test_unread_bytes_are_bounded(self) -> None:
        self.successResultOf(self.client.connect())
        transport = self.peer.protocols[-1].transport
        self.peer.answer(b"x" * MAX_UNREAD)
        self.assertEqual(transport.producerState, "producing")
        self.peer.answer(b"x")
        self.assertEqual(transport.producerState, "paused")
        done = self.client.query("A?")
        self.assertEqual(transport.producerState, "producing")
        self.peer.answer(b"1\n")
        self.successResultOf(done)

    def test_identity(self) -> None:
        for answer, identity in (
            (b"ACME, PSU2 ,0,1.0\n", ("ACME", "PSU2", "0", "1.0")),
            (b"ACME,PSU2\r\n", ("ACME", "PSU2", "", "")),
            (b"A,B,C,1,2\n", ("A", "B", "C", "1,2")),
            (b"\n", ("", "", "", "")),
        ):
            done = self.client.identity()
            self.peer.answer(answer)
            self.assertEqual(self.successResultOf(done), identity)

    def test_errors(self) -> None:
        done = self.client.errors()
        for answer in (b'-113,"Undefined header"\n', b'-222,"Data out of range"\n', b'+0,"No"\n'):
            self.assertEqual(self.taken(), b"SYST:ERR?\n")
            self.peer.answer(answer)
        self.assertEqual(
            self.successResultOf(done), [(-113, "Undefined header"), (-222, "Data out of range")]
        )

    def test_an_endless_error_queue(self) -> None:
        done = self.client.errors()
        for _ in range(100):
            self.peer.answer(b'-1,"again"\n')
        self.assertEqual(len(self.successResultOf(done)), 100)

    def test_clear_begins_anew(self) -> None:
        self.successResultOf(self.client.connect())
        self.successResultOf(self.client.clear())
        self.assertFalse(self.peer.connected)
        done = self.client.query("A?")
        self.reconnected()
        self.peer.answer(b"1\n")
        self.assertEqual(self.successResultOf(done), "1")
        self.assertEqual(len(self.peer.protocols), 2)

    def test_a_lock_that_is_lost(self) -> None:
        for lose in (self.peer.hang_up, self.client.clear):
            locked = self.client.lock()
            self.reconnected()
            self.peer.answer(b"1\n")
            self.successResultOf(locked)
            lose()
            lost = self.client.query("A?")
            self.reconnected()
            self.assertIn("lock", str(self.failureResultOf(lost, NotConnected).value))
            done = self.client.query("A?")
            self.peer.answer(b"1\n")
            self.assertEqual(self.successResultOf(done), "1")

    def test_clear_ends_a_query(self) -> None:
        self.successResultOf(self.client.clear())  # nothing to clear, not even a connection
        self.assertEqual(self.peer.protocols, [])
        asked, waiting = self.client.query("SLOW?"), self.client.query("B?")
        self.successResultOf(self.client.clear())
        self.failureResultOf(asked, Cancelled)
        self.reconnected()
        self.peer.answer(b"2\n")
        self.assertEqual(self.successResultOf(waiting), "2")


class TroubleTests(ClientTestCase):
    def test_timeout_names_query_and_instrument(self) -> None:
        done = self.client.query("READ?", timeout=2.5)
        self.clock.advance(2.5)
        error = self.failureResultOf(done, TimedOut).value
        self.assertEqual(str(error), "'READ?' to the server did not finish within 2.5 s")

    def test_timeouts_of_requests_that_need_not_wait(self) -> None:
        self.successResultOf(self.client.connect())
        done = self.client.query("READ?", timeout=2.5)
        self.clock.advance(2.4)
        self.assertNoResult(done)
        self.clock.advance(0.1)
        error = self.failureResultOf(done, TimedOut).value
        self.assertEqual(str(error), "'READ?' to the server did not finish within 2.5 s")
        again = self.client.query("READ?")
        self.reconnected()
        self.peer.answer(b"1\n")
        self.assertEqual(self.successResultOf(again), "1")
        self.assertEqual(len(self.peer.protocols), 2)

    def test_a_long_block_that_is_not_taken(self) -> None:
        """It ends the connection: the instrument has half a message."""
        done = self.client.write_block("DATA", bytes(3 << 20), timeout=1)
        self.peer.protocols[-1].transport.producer.resumeProducing()
        waiting = self.client.query("A?")
        self.clock.advance(1)
        self.failureResultOf(done, TimedOut)
        self.assertFalse(self.peer.protocols[0].transport.connected)
        self.reconnected()
        self.peer.answer(b"1\n")
        self.assertEqual(self.successResultOf(waiting), "1")
        lost = self.client.write_block("DATA", bytes(3 << 20))
        self.peer.hang_up()
        self.failureResultOf(lost, NotConnected)

    def test_a_late_answer_is_not_taken_for_the_next(self) -> None:
        first = self.client.query("READ?", timeout=1)
        self.clock.advance(1)
        self.failureResultOf(first, TimedOut)
        old = self.peer.protocols[-1]
        old.dataReceived(b"late\n")
        second = self.client.query("B?")
        self.assertFalse(old.transport.connected)
        self.reconnected()
        self.assertEqual(self.peer.sent, b"B?\n")
        self.peer.answer(b"2\n")
        self.assertEqual(self.successResultOf(second), "2")

    def test_a_timeout_in_the_queue_sends_nothing(self) -> None:
        first, second = self.client.query("A?", timeout=9), self.client.write("B", timeout=1)
        self.clock.advance(1)
        self.failureResultOf(second, TimedOut)
        self.peer.answer(b"1\n")
        self.assertEqual(self.successResultOf(first), "1")
        self.assertEqual(self.peer.sent, b"A?\n")

    def test_the_connection_ends(self) -> None:
        done = self.client.query("A?")
        self.peer.answer(b"12")
        self.peer.hang_up()
        self.failureResultOf(done, NotConnected)
        again = self.client.query("A?")
        self.reconnected()
        self.peer.answer(b"1\n")
        self.assertEqual(self.successResultOf(again), "1")

    def test_refused(self) -> None:
        self.peer.refusing = 1
        done = self.client.query("A?")
        self.clock.advance(0)
        self.failureResultOf(done, NotConnected)

    def test_cancel(self) -> None:
        done = self.client.query("A?")
        done.cancel()
        self.failureResultOf(done)
        self.successResultOf(self.client.close())

    def test_close_fails_what_waits(self) -> None:
        done = self.client.query("A?")
        self.successResultOf(self.client.close())
        self.failureResultOf(done, NotConnected)


class BoundedTests(ClientTestCase):
    options = {"max_response": 10}

    def test_too_long(self) -> None:
        for answer in (b"x" * 12, b"#211"):
            done = self.client.query("A?")
            self.reconnected()
            self.peer.answer(answer)
            self.failureResultOf(done, TooLarge)
            self.assertFalse(self.peer.connected)


class CheckedTests(ClientTestCase):
    options = {"check_errors": True}

    def test_fine(self) -> None:
        done = self.client.query("A?")
        self.peer.answer(b"1\n")
        self.assertNoResult(done)
        self.peer.answer(b'0,"No error"\n')
        self.assertEqual(self.successResultOf(done), "1")

    def test_error(self) -> None:
        done = self.client.write("VOLT 99")
        self.assertEqual(self.peer.sent, b"VOLT 99\nSYST:ERR?\n")
        self.peer.answer(b'-222,"Data out of range"\n')
        self.peer.answer(b'0,"No error"\n')
        error = self.failureResultOf(done, DeviceFault).value
        self.assertEqual(error.number, -222)
        self.assertIn("Data out of range", str(error))


class MarkerTests(ClientTestCase):
    options = {"marker": "*IDN?"}

    def begin(self) -> None:
        done = self.client.connect()
        self.assertEqual(self.taken(), b"*IDN?\n")
        self.peer.answer(b"ACME\n")
        self.successResultOf(done)

    def test_the_marker_is_learned_once(self) -> None:
        self.begin()
        done = self.client.query("A?")
        self.assertEqual(self.taken(), b"A?\n")
        self.peer.answer(b"1\n")
        self.assertEqual(self.successResultOf(done), "1")

    def test_late_answers_are_dropped(self) -> None:
        self.begin()
        first = self.client.query("READ?", timeout=1)
        self.clock.advance(1)
        self.failureResultOf(first, TimedOut)
        self.taken()
        second = self.client.query("B?")
        self.assertEqual(self.taken(), b"*IDN?\n")
        self.peer.answer(b"late\nAC")
        self.peer.answer(b"ME\n")
        self.assertEqual(self.taken(), b"B?\n")
        self.peer.answer(b"2\n")
        self.assertEqual(self.successResultOf(second), "2")
        self.assertEqual(len(self.peer.protocols), 1)

    def test_no_answer_to_the_marker(self) -> None:
        self.begin()
        for _ in range(2):
            done = self.client.query("READ?", timeout=1)
            self.clock.advance(1)
            self.failureResultOf(done, TimedOut)
        self.assertFalse(self.peer.connected)


class OtherEndingTests(ClientTestCase):
    options = {"terminator": "CR"}

    def test_carriage_return(self) -> None:
        done = self.client.query("POS?")
        self.assertEqual(self.taken(), b"POS?\r")
        self.peer.answer(b"1\n2\r")
        self.assertEqual(self.successResultOf(done), "1\n2")


class SilenceTests(ClientTestCase):
    options = {"answers": "silence:0.1"}

    def test_silence_ends_an_answer(self) -> None:
        done = self.client.query_bytes("A?")
        self.assertEqual(self.taken(), b"A?\n")
        self.clock.advance(1)
        self.peer.answer(b"one")
        self.clock.advance(0.09)
        self.peer.answer(b"\ntwo")
        self.clock.advance(0.09)
        self.assertNoResult(done)
        self.clock.advance(0.02)
        self.assertEqual(self.successResultOf(done), b"one\ntwo")

    def test_timeout_before_the_first_byte(self) -> None:
        done: Deferred[bytes] = self.client.query_bytes("A?", timeout=1)
        self.clock.advance(1)
        self.failureResultOf(done, TimedOut)


class CountTests(ClientTestCase):
    options = {"answers": "count:4"}

    def test_count(self) -> None:
        done = self.client.query_bytes("A?")
        self.peer.answer(b"\n\n")
        self.peer.answer(b"\n\nxx")
        self.assertEqual(self.successResultOf(done), b"\n\n\n\n")
