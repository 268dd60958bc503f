"""The VICP client against a scripted instrument, and against labnet's own server in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import (
    BadArguments,
    Cancelled,
    DeviceFault,
    NotAllowed,
    NotConnected,
    TimedOut,
    TooLarge,
)
from labnet.testing import connected_pair
from labnet.wires.vicp.client import LONGEST_BLOCK, MAX_UNREAD, VicpClient
from labnet.wires.vicp.codec import Block, encode_block
from tests.wires.scripted import ScriptedEndpoint
from tests.wires.test_vicp_server import IDENTITY, ServerTestCase
from tests.wires.vicp_toy import blocks


class ClientTestCase(SynchronousTestCase):
    options: dict[str, Any] = {}

    def setUp(self) -> None:
        self.clock = Clock()
        self.peer = ScriptedEndpoint()
        self.client = VicpClient(self.peer, reactor=self.clock, **self.options)

    def taken(self) -> list[Block]:
        """The blocks sent since the last time."""
        sent = blocks(self.peer.sent)
        self.peer.protocols[-1].transport.clear()
        return sent

    def answer(self, number: int, data: bytes, operation: int = 0x81) -> None:
        self.peer.answer(encode_block(operation, number, data))

    def asked(self, text: str = "*IDN?") -> int:
        """The number of the one message sent since the last time."""
        (block,) = self.taken()
        self.assertEqual((block.operation, block.data), (0x81, text.encode()))
        return block.sequence

    def reconnected(self) -> None:
        self.clock.pump([0.1] * 5)

    def tearDown(self) -> None:
        self.client.close()
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.active()], [])


class MessageTests(ClientTestCase):
    def test_query(self) -> None:
        done = self.client.query("*IDN?")
        self.assertEqual(self.asked(), 1)
        self.answer(1, b"LECROY,", 0x80)
        self.assertNoResult(done)
        self.answer(1, b"SIM\n")
        self.assertEqual(self.successResultOf(done), "LECROY,SIM")

    def test_an_end_of_its_own(self) -> None:
        done = self.client.query_bytes(b"CURVE?")
        self.answer(1, b"\0\n\xff", 0x80)
        self.answer(1, b"")
        self.assertEqual(self.successResultOf(done), b"\0\n\xff")

    def test_numbers_go_up_to_255(self) -> None:
        for expected in [*range(1, 256), 1, 2]:
            done = self.client.query("*IDN?")
            self.assertEqual(self.asked(), expected)
            self.answer(expected, b"x")
            self.assertEqual(self.successResultOf(done), "x")

    def test_one_query_at_a_time(self) -> None:
        first, second = self.client.query("A?"), self.client.query("B?")
        self.assertEqual(self.asked("A?"), 1)
        self.answer(1, b"1\n")
        self.assertEqual(self.successResultOf(first), "1")
        self.assertEqual(self.asked("B?"), 2)
        self.answer(2, b"2\n")
        self.assertEqual(self.successResultOf(second), "2")

    def test_write_and_read(self) -> None:
        self.successResultOf(self.client.write("A?"))
        self.answer(1, b"1\n")
        self.assertEqual(self.successResultOf(self.client.read()), b"1\n")
        later = self.client.read()
        self.answer(1, b"more")
        self.assertEqual(self.successResultOf(later), b"more")

    def test_an_answer_that_nobody_read_is_dropped(self) -> None:
        self.successResultOf(self.client.write("A?"))
        self.answer(1, b"old", 0x80)
        done = self.client.query("B?")
        self.answer(1, b"older still")
        self.answer(2, b"new")
        self.assertEqual(self.successResultOf(done), "new")

    def test_block(self) -> None:
        told: list[tuple[int, int]] = []
        done = self.client.query_block("C1:WF?", lambda got, of: told.append((got, of)))
        for piece in (b"C1:WF ALL,#", b"15ab", b"\ncd"):
            self.answer(1, piece, 0x80)
        self.answer(1, b"\n")
        self.assertEqual(self.successResultOf(done), b"ab\ncd")
        self.assertEqual(told, [(2, 5), (5, 5), (5, 5)])

    def test_no_block(self) -> None:
        done = self.client.query_block("C1:WF?")
        self.answer(1, b"1.5\n")
        self.assertIn("1.5", str(self.failureResultOf(done, DeviceFault).value))
        again = self.client.query("*IDN?")
        self.answer(2, b"still there")
        self.assertEqual(self.successResultOf(again), "still there")

    def test_progress_that_fails(self) -> None:
        """It ends the request, not the connection."""
        for text, number, kind in (("#15ab", 1, ZeroDivisionError), ("x" * 200, 3, DeviceFault)):
            done = self.client.query_block("C1:WF?", lambda got, of: 1 // 0)
            self.answer(number, text.encode(), 0x80)
            self.failureResultOf(done, kind)
            again = self.client.query("*IDN?")
            self.answer(number, b"cde\n")  # the rest, which is late
            self.answer(number + 1, b"still there")
            self.assertEqual(self.successResultOf(again), "still there")
        self.assertEqual(len(self.peer.protocols), 1)

    def test_write_block(self) -> None:
        self.successResultOf(self.client.write_block("C1:WF", b"a\nb"))
        self.assertEqual([block.data for block in self.taken()], [b"C1:WF #13a\nb"])

    def turn(self) -> None:
        """The transport has nothing queued any more."""
        self.peer.protocols[-1].transport.producer.resumeProducing()

    def test_a_long_message_in_blocks(self) -> None:
        """Under one number; what is said meanwhile goes between them."""
        data = bytes(range(256)) * (LONGEST_BLOCK // 100)
        told: list[tuple[int, int]] = []
        done = self.client.write_block("C1:WF", data, lambda *it: told.append(it))
        message = b"C1:WF #7%d%b" % (len(data), data)
        self.turn()
        polled = self.client.status_byte()
        for _ in range(9):
            if not done.called:
                self.turn()
        self.successResultOf(done)
        sent = self.taken()
        self.assertEqual(told[-1], (len(message), len(message)))
        poll = sent.pop(1)
        self.assertEqual((poll.operation, poll.sequence), (0x84, 2))
        self.answer(2, b"\x10")
        self.assertEqual(self.successResultOf(polled), 16)
        self.assertEqual(b"".join(block.data for block in sent), message)
        self.assertEqual({(block.operation, block.sequence) for block in sent[:-1]}, {(0x80, 1)})
        self.assertEqual((sent[-1].operation, sent[-1].sequence), (0x81, 1))
        self.assertEqual([len(block.data) for block in sent[:2]], [LONGEST_BLOCK] * 2)

    def test_a_long_message_that_is_given_up(self) -> None:
        """The next one says that what came of it is to be forgotten."""
        self.client.query("*IDN?")
        self.answer(1, b"x")  # it numbers its answers
        self.taken()
        for clears in (False, True):
            done = self.client.write_block("C1:WF", bytes(3 * LONGEST_BLOCK))
            self.turn()
            done.cancel()
            self.failureResultOf(done)
            self.assertEqual([block.operation & 1 for block in self.taken()], [0])
            if clears:
                self.successResultOf(self.client.clear())
                self.assertEqual(self.taken()[0].operation, 0x90)
            self.client.write("*RST")
            (block,) = self.taken()
            self.assertEqual(block.operation, 0x81 if clears else 0x91)

    def test_trigger_and_remote(self) -> None:
        self.successResultOf(self.client.trigger())
        self.successResultOf(self.client.remote())
        self.successResultOf(self.client.remote(lockout=True))
        self.assertEqual(
            self.taken(), [Block(0x81, 1, b"*TRG"), Block(0x40, 0, b""), Block(0x60, 0, b"")]
        )

    def test_what_cannot_be_sent(self) -> None:
        self.failureResultOf(self.client.write("VOLT 1 Ω"), BadArguments)
        self.failureResultOf(self.client.query("Ω?"), BadArguments)
        self.failureResultOf(self.client.write_block("Ω", b""), BadArguments)
        self.assertEqual(self.taken(), [])


class TimeTests(ClientTestCase):
    options = {"timeout": 2.0}

    def numbered(self) -> None:
        """The instrument is known to number its answers."""
        done = self.client.query("*IDN?")
        self.answer(1, b"x")
        self.successResultOf(done)
        self.taken()

    def test_a_late_answer_is_dropped(self) -> None:
        self.numbered()
        done = self.client.query("A?")
        self.clock.advance(2)
        error = self.failureResultOf(done, TimedOut).value
        self.assertIn("'A?'", str(error))
        self.assertIn("2 s", str(error))
        again = self.client.query("B?")
        self.answer(2, b"late")
        self.assertNoResult(again)
        self.answer(3, b"in time")
        self.assertEqual(self.successResultOf(again), "in time")
        self.assertEqual(len(self.peer.protocols), 1)

    def test_a_late_answer_can_be_read(self) -> None:
        self.numbered()
        done = self.client.query("A?", timeout=1)
        self.answer(2, b"half ", 0x80)
        self.clock.advance(1)
        self.failureResultOf(done, TimedOut)
        again = self.client.read()
        self.answer(2, b"an answer")
        self.assertEqual(self.successResultOf(again), b"half an answer")

    def test_an_instrument_that_does_not_number(self) -> None:
        done = self.client.query("A?")
        self.answer(0, b"1")
        self.assertEqual(self.successResultOf(done), "1")
        done = self.client.query("A?")
        self.clock.advance(2)
        self.failureResultOf(done, TimedOut)
        again = self.client.query("B?")
        self.reconnected()
        self.assertEqual(len(self.peer.protocols), 2)
        self.answer(0, b"2")
        self.assertEqual(self.successResultOf(again), "2")

    def test_cancelled(self) -> None:
        self.numbered()
        done = self.client.query("A?")
        done.cancel()
        self.failureResultOf(done)
        again = self.client.query("B?")
        self.answer(3, b"2")
        self.assertEqual(self.successResultOf(again), "2")

    def test_nobody_there(self) -> None:
        self.peer.hanging = True
        done = self.client.query("A?")
        self.clock.advance(2)
        self.failureResultOf(done, TimedOut)


class ClearAndPollTests(ClientTestCase):
    def test_poll(self) -> None:
        done = self.client.status_byte()
        self.assertEqual(self.taken(), [Block(0x84, 1, b"")])
        self.answer(1, b"\x44")
        self.assertEqual(self.successResultOf(done), 0x44)

    def test_poll_while_a_query_waits(self) -> None:
        query, status = self.client.query("*IDN?"), self.client.status_byte()
        self.assertEqual([block.sequence for block in self.taken()], [1, 2])
        self.answer(2, b"\x10")
        self.assertEqual(self.successResultOf(status), 0x10)
        self.answer(1, b"x")
        self.assertEqual(self.successResultOf(query), "x")

    def test_poll_of_an_instrument_that_does_not_number(self) -> None:
        status = self.client.status_byte()
        self.answer(0, b"\x01")
        self.assertEqual(self.successResultOf(status), 1)

    def test_a_late_status_byte_is_no_answer(self) -> None:
        status = self.client.status_byte(timeout=1)
        self.clock.advance(1)
        self.failureResultOf(status, TimedOut)
        query = self.client.query("*IDN?")
        self.answer(1, b"\x01")
        self.answer(2, b"x")
        self.assertEqual(self.successResultOf(query), "x")

    def test_clear(self) -> None:
        query = self.client.query("*IDN?")
        self.successResultOf(self.client.clear())
        self.failureResultOf(query, Cancelled)
        self.assertEqual([block.operation for block in self.taken()], [0x81, 0x90])

    def test_clear_drops_what_is_under_way(self) -> None:
        first = self.client.query("*IDN?")
        self.answer(1, b"x")
        self.successResultOf(first)
        self.successResultOf(self.client.write("A?"))
        self.successResultOf(self.client.clear())
        self.taken()
        query = self.client.query("*IDN?")
        self.answer(2, b"old")
        self.answer(self.asked(), b"new")
        self.assertEqual(self.successResultOf(query), "new")

    def test_service_requests(self) -> None:
        told: list[bool] = []
        self.client.on_service_request(told.append)
        query = self.client.query("*IDN?")
        self.answer(1, b"half ", 0x80)
        self.answer(1, b"1", 0x89)
        self.answer(0, b"0", 0x89)
        self.answer(1, b"x")
        self.assertEqual(told, [True, False])
        self.assertEqual(self.successResultOf(query), "half x")
        self.client.on_service_request(None)
        self.answer(1, b"1", 0x89)
        self.assertEqual(told, [True, False])

    def test_a_callback_that_fails(self) -> None:
        self.client.on_service_request(lambda asserted: 1 // 0)
        query = self.client.query("*IDN?")
        self.answer(1, b"1", 0x89)
        self.answer(1, b"x")
        self.assertEqual(self.successResultOf(query), "x")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class FailureTests(ClientTestCase):
    options = {"max_response": 100}

    def test_no_vicp(self) -> None:
        done = self.client.query("*IDN?")
        self.peer.answer(b"HTTP/1.1 400 Bad Request\r\n")
        error = self.failureResultOf(done, NotConnected).value
        self.assertIn("does not speak VICP", str(error))
        self.reconnected()

    def test_the_connection_ends(self) -> None:
        query, status = self.client.query("*IDN?"), self.client.status_byte()
        self.peer.hang_up()
        self.failureResultOf(query, NotConnected)
        self.failureResultOf(status, NotConnected)
        again = self.client.query("*IDN?")
        self.reconnected()
        self.answer(1, b"x")
        self.assertEqual(self.successResultOf(again), "x")

    def test_too_much(self) -> None:
        done = self.client.query("*IDN?")
        self.answer(1, bytes(60), 0x80)
        self.answer(1, bytes(60), 0x80)
        self.failureResultOf(done, TooLarge)
        self.reconnected()

    def test_nobody_listens(self) -> None:
        self.peer.refusing = 1
        self.failureResultOf(self.client.query("*IDN?"), NotConnected)

    def test_other_answers_are_nothing(self) -> None:
        done = self.client.query("*IDN?")
        self.answer(1, b"", 0x60)
        self.answer(200, b"old")
        self.answer(1, b"x")
        self.assertEqual(self.successResultOf(done), "x")

    def test_close(self) -> None:
        done = self.client.query("*IDN?")
        self.client.close()
        self.failureResultOf(done, NotConnected)


class BackpressureTests(ClientTestCase):
    def test_what_nobody_reads_is_held_back(self) -> None:
        self.successResultOf(self.client.write("CURVE?"))
        transport = self.peer.protocols[-1].transport
        self.answer(1, bytes(MAX_UNREAD), 0x80)
        self.assertEqual(transport.producerState, "producing")
        self.answer(1, b"x", 0x80)
        self.assertEqual(transport.producerState, "paused")
        done = self.client.read()
        self.assertEqual(transport.producerState, "producing")
        self.answer(1, b"")
        self.assertEqual(len(self.successResultOf(done)), MAX_UNREAD + 1)


class BothTests(ServerTestCase):
    """labnet's client and server, joined in memory."""

    def setUp(self) -> None:
        super().setUp()
        self.pair = connected_pair(self.factory, VicpClient, timeout=3.0)
        self.client: VicpClient = self.pair.client
        self.addCleanup(self.pair.close)
        self.addCleanup(self.client.close)

    def test_everything(self) -> None:
        self.assertEqual(self.pair.wait(self.client.query("*IDN?")), IDENTITY.decode().strip())
        for size in (0, 1, 4096 - 7, 20480 - 8, 1_000_000):
            block = self.pair.wait(self.client.query_block(f"TEST:BLOCK? {size}"))
            self.assertEqual(block, self.device.block(size))
        told: list[bool] = []
        self.client.on_service_request(told.append)
        self.pair.wait(self.client.write("*SRE 32;*ESE 32;NO:SUCH"))
        self.assertEqual(self.pair.wait(self.client.status_byte()), 0x64)
        self.assertEqual(told, [True, False])
        self.assertEqual(self.pair.wait(self.client.query("*OPC?")), "1")

    def test_bytes_one_at_a_time(self) -> None:
        self.pair.faults.in_pieces(1)
        self.assertEqual(self.pair.wait(self.client.query("*OPC?")), "1")
        self.pair.wait(self.client.clear())
        self.assertEqual(self.pair.wait(self.client.query("*OPC?")), "1")

    def test_after_a_timeout(self) -> None:
        self.pair.wait(self.client.query("*OPC?"))
        slow = self.client.query("SLOW?")
        self.assertRaises(TimedOut, self.pair.wait, slow)
        self.pair.wait(self.client.clear())
        self.assertEqual(self.pair.wait(self.client.query("*OPC?")), "1")
        slow = self.client.query("SLOW?")
        self.assertRaises(TimedOut, self.pair.wait, slow)
        self.device.waits[-1].callback("late")
        self.assertEqual(self.pair.wait(self.client.query("*OPC?")), "1")

    def test_polls_and_clears_do_not_wait(self) -> None:
        slow = self.client.query("SLOW?")
        self.assertEqual(self.pair.wait(self.client.status_byte()), 0)
        self.pair.wait(self.client.clear())
        self.assertRaises(Cancelled, self.pair.wait, slow)
        self.assertEqual(self.pair.wait(self.client.query("*OPC?")), "1")

    def test_locks(self) -> None:
        pair = connected_pair(self.factory, VicpClient, reactor=self.pair.reactor, timeout=3.0)
        other: VicpClient = pair.client
        self.addCleanup(pair.close)
        self.addCleanup(other.close)
        self.pair.wait(self.client.lock())
        held = other.query("*OPC?")
        self.assertRaises(TimedOut, self.pair.wait, held)
        self.pair.wait(other.clear())
        self.pair.wait(self.client.unlock())
        self.pair.wait(other.lock())
        self.assertRaises(NotAllowed, self.pair.wait, self.client.lock(timeout=1.0))
        self.assertEqual(self.lab.locks.count, 1)
        given_up = self.client.lock(wait=10.0)
        self.pair.advance(0.01)
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        self.pair.wait(other.unlock())
        self.assertEqual(self.pair.wait(self.client.query("*OPC?")), "1")
        self.assertEqual(self.lab.locks.count, 0)  # what was given up is not taken later

    def test_a_lock_that_is_lost(self) -> None:
        self.pair.wait(self.client.lock())
        self.pair.faults.disconnect()
        self.pair.advance(0.01)
        self.assertEqual(self.lab.locks.count, 0)
        lost = self.client.query("*OPC?")
        with self.assertRaises(NotConnected) as caught:
            self.pair.wait(lost)
        self.assertIn("lock", str(caught.exception))
        self.assertEqual(self.pair.wait(self.client.query("*OPC?")), "1")

    def test_a_long_message(self) -> None:
        text = f'NO:SUCH "{"x" * 700_000}"'
        self.pair.wait(self.client.write(text))
        self.assertRegex(self.pair.wait(self.client.query("SYST:ERR?")), "^-113,")

    def test_over_the_bound(self) -> None:
        self.pair.wait(self.client.connect())
        first = self.pair.server
        self.pair.wait(self.client.write(b"x" * ((1 << 20) + 1)))
        self.assertEqual(self.pair.wait(self.client.query("*OPC?")), "1")
        self.assertIsNot(first, self.pair.server)
