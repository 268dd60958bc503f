"""The TSV client against a scripted peer: what it sends, what it makes of the answers."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import (
    BadArguments,
    DeviceFault,
    LabError,
    NotConnected,
    TimedOut,
    TooLarge,
    UnknownName,
)
from labnet.framing.lines import LineSplitter
from labnet.wires.tsv.client import TsvClient
from labnet.wires.tsv.codec import decode_reply
from tests.wires.scripted import ScriptedEndpoint
from tests.wires.vectors import exchanges


class ClientTestCase(SynchronousTestCase):
    persistent = False

    def setUp(self) -> None:
        self.clock = Clock()
        self.peer = ScriptedEndpoint()
        self.client = TsvClient(
            self.peer, persistent=self.persistent, max_reply=10_000, reactor=self.clock
        )


class RecordedTests(ClientTestCase):
    """Every answer that was recorded, as the answer to one request."""

    def test_every_answer_is_understood(self) -> None:
        seen = 0
        for exchange in exchanges("tsv"):
            if not exchange.received:
                continue
            for step in (1, len(exchange.received)):
                done = self.client.send("x")
                for start in range(0, len(exchange.received), step):
                    if self.peer.connected:
                        self.peer.answer(exchange.received[start : start + step])
                self.check(done, exchange.received, exchange.case)
            seen += 1
        self.assertGreater(seen, 110)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def check(self, done: Deferred[Any], received: bytes, case: str) -> None:
        first = LineSplitter().feed(received)[0]
        assert isinstance(first, bytes)
        expected = decode_reply(first)
        assert expected is not None
        if expected.ok:
            self.assertEqual(self.successResultOf(done), expected, case)
        else:
            error = self.failureResultOf(done, LabError).value
            self.assertFalse(isinstance(error, NotConnected), case)

    def test_silent_commands_take_no_timeout(self) -> None:
        done = self.client.connect_hardware()
        self.assertEqual(self.peer.sent, b"connect_hardware\nping\n")
        self.peer.answer(b"1\t\n")
        self.assertEqual(self.successResultOf(done), "")

    def test_commands_with_a_text_then_the_ping(self) -> None:
        done = self.client.connect_hardware()
        self.peer.answer(b"1\tHardware connected successfully\n")
        self.assertNoResult(done)
        self.peer.answer(b"1\t\n")
        self.assertEqual(self.successResultOf(done), "Hardware connected successfully")

    def test_an_error_then_the_ping(self) -> None:
        done = self.client.disconnect_hardware()
        self.peer.answer(b"0\tAttempted to disconnect\n1\t\n")
        self.assertIn("Attempted", str(self.failureResultOf(done, DeviceFault).value))


class OneShotTests(ClientTestCase):
    def test_a_connection_for_each_request(self) -> None:
        for number in (1, 2):
            done = self.client.send("move_abs", 1.5, "fast")
            self.assertEqual(self.peer.sent, b"move_abs\t1.5\tfast\n")
            self.assertTrue(self.peer.connected)
            self.peer.answer(b"1\tMoved\tto 1.5\n")
            self.assertEqual(self.successResultOf(done).fields, ("Moved", "to 1.5"))
            self.assertFalse(self.peer.connected)
            self.assertEqual(len(self.peer.protocols), number)

    def test_requests_at_the_same_time(self) -> None:
        first, second = self.client.send("a"), self.client.send("b")
        self.peer.protocols[1].dataReceived(b"1\tb\n")
        self.peer.protocols[0].dataReceived(b"1\ta\n")
        self.assertEqual(self.successResultOf(first).text, "a")
        self.assertEqual(self.successResultOf(second).text, "b")

    def test_named_requests(self) -> None:
        for started, line, answer, result in (
            (self.client.ping, b"ping\n", b"1\t\n", None),
            (self.client.command_list, b"command_list\n", b"1\tping\tget\n", ("ping", "get")),
            (self.client.help, b"help\n", b"1\twords\n", "words"),
            (self.client.lock_info, b"lock_info\n", b"1\t\n", ()),
        ):
            done: Deferred[Any] = started()
            self.assertEqual(self.peer.sent, line)
            self.peer.answer(answer)
            self.assertEqual(self.successResultOf(done), result)

    def test_requests_with_arguments(self) -> None:
        client = self.client
        started: tuple[Deferred[Any], ...] = (
            client.get("stage.position"),
            client.set("stage.position", 2),
            client.lock("stage", "alice", 30.0),
            client.lock("stage", lease=0.5),
            client.unlock("t0ken"),
            client.with_token("t0ken", "move_abs", 2.5),
            client.lock_info("stage"),
            client.help("lock"),
        )
        sent = [bytes(protocol.transport.value()) for protocol in self.peer.protocols]
        expected = (
            b"get\tstage.position\n",
            b"set\tstage.position\t2\n",
            b"lock\tstage\talice\t30\n",
            b"lock\tstage\tclient\t0.5\n",
            b"unlock\tt0ken\n",
            b"with\tt0ken\tmove_abs\t2.5\n",
            b"lock_info\tstage\n",
            b"help\tlock\n",
        )
        self.assertEqual(sent, list(expected))
        for protocol, done in zip(self.peer.protocols, started, strict=True):
            protocol.dataReceived(b"1\tfine\n")
            self.successResultOf(done)

    def test_a_lock_that_would_not_last_is_refused(self) -> None:
        error = self.failureResultOf(self.client.lock("stage"), BadArguments)
        self.assertIn("lease", str(error.value))
        self.assertEqual(self.peer.protocols, [])

    def test_what_cannot_be_sent_is_not(self) -> None:
        self.failureResultOf(self.client.send("echo", "a\tb"), BadArguments)
        self.assertEqual(self.peer.protocols, [])

    def test_shutdown_ends_without_a_reply(self) -> None:
        done = self.client.shutdown()
        self.assertNoResult(done)
        self.peer.hang_up()
        self.assertIsNone(self.successResultOf(done))

    def test_shutdown_refused(self) -> None:
        done = self.client.shutdown()
        self.peer.answer(b"0\tnot from here\n")
        self.assertEqual(str(self.failureResultOf(done, DeviceFault).value), "not from here")

    def test_unknown_command(self) -> None:
        done = self.client.send("mvoe")
        self.peer.answer(b"0\tReceived unknown command: 'mvoe': Unknown command\n")
        self.assertEqual(self.failureResultOf(done, UnknownName).value.name, "mvoe")

    def test_timeout_names_the_request_and_closes(self) -> None:
        done = self.client.send("slow", timeout=0.5)
        self.clock.advance(0.4)
        self.assertNoResult(done)
        self.clock.advance(0.2)
        error = self.failureResultOf(done, TimedOut).value
        self.assertIn("'slow'", str(error))
        self.assertEqual(error.seconds, 0.5)
        self.assertFalse(self.peer.connected)

    def test_timeout_while_connecting(self) -> None:
        self.peer.hanging = True
        done = self.client.send("x")
        self.clock.advance(10)
        self.failureResultOf(done, TimedOut)

    def test_cancel_closes(self) -> None:
        done = self.client.send("slow")
        done.cancel()
        self.failureResultOf(done)
        self.assertFalse(self.peer.connected)

    def test_refused_connection(self) -> None:
        self.peer.refusing = 1
        error = self.failureResultOf(self.client.ping(), NotConnected).value
        self.assertIn("no connection to", str(error))

    def test_no_answer(self) -> None:
        done = self.client.send("x")
        self.peer.answer(b"1\thalf a li")
        self.peer.hang_up()
        self.assertIn("without an answer", str(self.failureResultOf(done, NotConnected).value))

    def test_answer_without_a_status(self) -> None:
        done = self.client.send("x")
        self.peer.answer(b"HTTP/1.1 400 Bad Request\r\n")
        self.assertIn("without a status", str(self.failureResultOf(done, DeviceFault).value))
        self.assertFalse(self.peer.connected)

    def test_answer_beyond_the_limit(self) -> None:
        done = self.client.send("x")
        self.peer.answer(b"1\t" + b"x" * 10_000)
        self.failureResultOf(done, TooLarge)
        self.assertFalse(self.peer.connected)

    def test_close_waits_for_connections(self) -> None:
        done = self.client.send("x")
        closed = self.client.close()
        self.failureResultOf(done, NotConnected)
        self.successResultOf(closed)
        self.assertFalse(self.peer.connected)


class PersistentTests(ClientTestCase):
    persistent = True

    def test_one_connection_one_request_at_a_time(self) -> None:
        first, second = self.client.send("a"), self.client.send("b")
        self.assertEqual(self.peer.sent, b"a\n")
        self.peer.answer(b"1\tA\n")
        self.assertEqual(self.successResultOf(first).text, "A")
        self.assertEqual(self.peer.sent, b"a\nb\n")
        self.peer.answer(b"1\tB\n")
        self.assertEqual(self.successResultOf(second).text, "B")
        self.assertEqual(len(self.peer.protocols), 1)
        self.successResultOf(self.client.close())
        self.assertFalse(self.peer.connected)

    def test_the_rest_of_a_broken_reply_is_dropped(self) -> None:
        first = self.client.send("nl")
        self.peer.answer(b"1\tline one\n")
        self.successResultOf(first)
        second = self.client.send("b")
        self.peer.answer(b"line two\n1\tB\n")
        self.assertEqual(self.successResultOf(second).text, "B")

    def test_a_late_line_between_requests_is_dropped(self) -> None:
        first = self.client.send("nl")
        self.peer.answer(b"1\tline one\nline two\n")
        self.successResultOf(first)
        self.peer.answer(b"1\tunasked\n1\tpart")
        second = self.client.send("b")
        self.peer.answer(b"1\tB\n")
        self.assertEqual(self.successResultOf(second).text, "B")

    def test_a_second_reply_is_not_taken_for_the_next(self) -> None:
        first, second = self.client.send("twice"), self.client.send("b")
        self.peer.answer(b"1\tone\n1\ttwo\n")
        self.successResultOf(first)
        self.assertNoResult(second)
        self.peer.answer(b"1\tB\n")
        self.assertEqual(self.successResultOf(second).text, "B")

    def test_after_a_timeout_a_new_connection(self) -> None:
        first, second = self.client.send("slow", timeout=1), self.client.send("b", timeout=5)
        self.clock.advance(1)
        self.failureResultOf(first, TimedOut)
        self.assertFalse(self.peer.connected)
        self.clock.pump([0.1] * 5)
        self.assertEqual(len(self.peer.protocols), 2)
        self.peer.answer(b"1\tB\n")
        self.assertEqual(self.successResultOf(second).text, "B")
        self.successResultOf(self.client.close())

    def test_a_request_that_timed_out_in_the_queue_was_never_sent(self) -> None:
        first, second = self.client.send("a", timeout=9), self.client.send("b", timeout=1)
        self.clock.advance(1)
        self.failureResultOf(second, TimedOut)
        self.assertTrue(self.peer.connected)
        self.peer.answer(b"1\tA\n")
        self.successResultOf(first)
        self.assertEqual(self.peer.sent, b"a\n")

    def test_the_connection_is_made_again(self) -> None:
        first = self.client.ping()
        self.peer.answer(b"1\t\n")
        self.successResultOf(first)
        self.peer.hang_up()
        self.peer.refusing = 1
        self.clock.advance(0.2)
        error = self.failureResultOf(self.client_pings_until_refused(), NotConnected)
        self.assertIn("no connection", str(error.value))
        self.clock.pump([0.2] * 5)
        again = self.client.ping()
        self.peer.answer(b"1\t\n")
        self.successResultOf(again)
        self.successResultOf(self.client.close())

    def client_pings_until_refused(self) -> Deferred[None]:
        self.peer.refusing = 1
        done = self.client.ping()
        self.clock.advance(0.5)
        return done

    def test_an_acknowledged_silent_command_leaves_nothing_behind(self) -> None:
        done = self.client.connect_hardware()
        self.peer.answer(b"1\t\n")
        self.assertEqual(self.successResultOf(done), "")
        self.assertFalse(self.peer.connected)
        again = self.client.send("b")
        self.clock.pump([0.1] * 5)
        self.peer.answer(b"1\tB\n")
        self.assertEqual(self.successResultOf(again).text, "B")
        self.successResultOf(self.client.close())

    def test_a_lock_may_last_as_long_as_the_connection(self) -> None:
        done = self.client.lock("stage")
        self.assertEqual(self.peer.sent, b"lock\tstage\n")
        self.peer.answer(b"1\tt0ken\n")
        self.assertEqual(self.successResultOf(done), "t0ken")
