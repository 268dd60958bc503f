"""The Rogue client without sockets: a real server's recorded answers, and what goes wrong."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import (
    BadArguments,
    DeviceFault,
    LabError,
    Locked,
    NotAllowed,
    NotConnected,
    NotReadable,
    NotWritable,
    OutOfRange,
    TimedOut,
    TooLarge,
    UnknownName,
    WrongType,
)
from labnet.wires.rogue import conversation
from labnet.wires.rogue.client import addresses
from labnet.wires.rogue.faults import lab_error
from labnet.wires.rogue.model import RemoteException
from tests.wires.rogue_fakes import Client, RogueCase

VOLTS = "Toy.Psu.Volts"


class Addresses(SynchronousTestCase):
    """How users write where the server is."""

    def test_forms(self) -> None:
        for text in ("lab", "lab:9099", "tcp://lab:9099"):
            self.assertEqual(addresses(text), ("tcp://lab:9099", "tcp://lab:9100", "tcp://lab:9101"))
        self.assertEqual(addresses("[::1]:9103")[2], "tcp://[::1]:9105")

    def test_none(self) -> None:
        for text in ("", "lab:0", "lab:65534", "lab:x", "ipc://x", "a:b:c", "http://lab:1"):
            self.assertRaises(ValueError, addresses, text)


class Recorded(RogueCase):
    """Requests to the byte as the real clients sent them, and what the real server answered."""

    def ready(self, **options: Any) -> Client:
        client = Client(**options)
        client._known.update({VOLTS, "Toy.Psu.Add", "Toy.Psu.Clear", "Toy.Psu.Fail", "Toy.Ramp"})
        self.addCleanup(client.close)
        return client

    def test_reading(self) -> None:
        client = self.ready()
        for case, asked, expected in (
            ("simple.get.Volts", lambda: client.get(VOLTS), 7.5),
            ("simple.getDisp.Volts", lambda: client.disp(VOLTS), "7.500"),
            ("simple.value", lambda: client.value(VOLTS), 7.5),
            ("simple.get.Label", lambda: client.get("Toy.Psu.Label"), "plain"),
            ("simple.get.Blob", lambda: client.get("Toy.Psu.Blob"), b"\x00\x01"),
            ("simple.get.Cplx", lambda: client.get("Toy.Psu.Cplx"), 1 + 2j),
            ("simple.get.Steps", lambda: client.get("Toy.Psu.Steps"), [7, 8, 9]),
            ("simple.get.Meta", lambda: client.get("Toy.Psu.Meta"), {"a": 1}),
            ("simple.get.Regs.Txt", lambda: client.get("Toy.Regs.Txt"), ""),
            ("virtual.prop.units", lambda: client.request(VOLTS, "units"), "V"),
        ):
            result = asked()
            self.play(client, case)
            self.assertEqual(self.successResultOf(result), expected)

    def test_arrays(self) -> None:
        client = self.ready()
        result = client.get("Toy.Psu.Wave")
        self.play(client, "simple.get.Wave")
        self.assertEqual(self.successResultOf(result).tolist(), [1.0, 5.5, 9.0, 4.0])

    def test_writing(self) -> None:
        client = self.ready()
        for case, asked in (
            ("simple.set.float", lambda: client.set(VOLTS, 2.5)),
            ("simple.setDisp.float", lambda: client.set_disp(VOLTS, "3.25")),
            ("simple.set.npfloat", lambda: client.set(VOLTS, np.float64(2.0))),
        ):
            done = asked()
            self.play(client, case)
            self.assertIsNone(self.successResultOf(done))

    def test_commands(self) -> None:
        client = self.ready()
        for case, asked, expected in (
            ("simple.exec.arg", lambda: client.exec("Toy.Psu.Add", 41), 42),
            ("simple.exec.noarg", lambda: client.exec("Toy.Psu.Clear", None), "cleared"),
            ("virtual.call.noarg", lambda: client.exec("Toy.Psu.Clear"), "cleared"),
            ("virtual.process", lambda: client.exec("Toy.Ramp"), None),
        ):
            result = asked()
            self.play(client, case)
            self.assertEqual(self.successResultOf(result), expected)

    def test_the_tree(self) -> None:
        client = self.ready()
        root = client.root()
        self.play(client, "virtual.connect", place=0)
        self.assertEqual(self.successResultOf(root).name, "Toy")
        nodes = client.nodes("Toy")
        self.play(client, "virtual.connect", place=1)
        self.assertIn("Psu", self.successResultOf(nodes))

    def test_errors(self) -> None:
        client = self.ready()
        for case, asked, kind, text in (
            ("simple.out-of-range", lambda: client.set(VOLTS, 99.0), OutOfRange, "0 to 30"),
            ("simple.set.int-to-float", lambda: client.set(VOLTS, 3), WrongType, "takes float"),
            ("simple.bad-disp", lambda: client.set_disp(VOLTS, "abc"), WrongType, "'abc'"),
            ("simple.unknown-attr", lambda: client.request(VOLTS, "nope"), UnknownName, "nope"),
            ("virtual.call.fail", lambda: client.exec("Toy.Psu.Fail"), DeviceFault, "no such luck"),
            (
                "simple.bad-kwarg",
                lambda: client.request(VOLTS, "get", (), {"bogus": 1}),
                BadArguments,
                "bogus",
            ),
        ):
            result = asked()
            self.play(client, case)
            error = self.failed(result, kind)
            self.assertIn(text, str(error), case)
            self.assertNotIn("<class", str(error))

    def test_the_kind_of_an_error(self) -> None:
        client = self.ready()
        result = client.exec("Toy.Psu.Fail")
        self.play(client, "virtual.call.fail")
        self.assertEqual(self.failed(result, DeviceFault).kind, "ToyError")

    def test_classes_of_other_programs(self) -> None:
        client = self.ready()
        result = client.request("Toy.Regs.U32", "base")
        self.play(client, "simple.attr.base")
        self.assertIn("pyrogue._Model.UInt", str(self.failed(result, DeviceFault)))


class TextPort(RogueCase):
    """The text port: everything is text."""

    def ready(self) -> Client:
        client = Client(text=True)
        client._known.update({VOLTS, "Toy.Psu.Fail"})
        self.addCleanup(client.close)
        return client

    def test_recorded(self) -> None:
        client = self.ready()
        for case, asked, expected in (
            ("str.getDisp", lambda: client.disp(VOLTS), "8.500"),
            ("str.get.array", lambda: client.get("Toy.Psu.Wave"), "[1. 2.]"),
            ("str.set.number", lambda: client.set(VOLTS, 2.5), "None"),
            ("str.value.empty-string", lambda: client.value("Toy.Psu.Label"), ""),
            (
                "str.set.kwargs",
                lambda: client.request(VOLTS, "set", (2.5,), {"write": False}),
                "None",
            ),
        ):
            result = asked()
            self.play(client, case, "str")
            self.assertEqual(self.successResultOf(result), expected)

    def test_errors(self) -> None:
        client = self.ready()
        result = client.set(VOLTS, 99.0)
        client.link.reply(self.recording.exchange("str.out-of-range", "str")[1])
        self.assertEqual(self.failed(result, OutOfRange).high, 30.0)

    def test_quotes_and_empty_texts_arrive(self) -> None:
        client = self.ready()
        self.unheeded(client.set_disp(VOLTS, 'a"b\\'))
        self.assertTrue(client.link.bodies[-1].endswith(b'"args": ["a\\"b\\\\"]}'))
        self.unheeded(client.set_disp(VOLTS, ""))
        self.assertTrue(client.link.bodies[-1].endswith(b'"args": [""]}'))

    def test_numpy_and_what_cannot_be_sent(self) -> None:
        client = self.ready()
        self.unheeded(client.set(VOLTS, np.arange(3)))
        self.assertTrue(client.link.bodies[-1].endswith(b'"args": [[0, 1, 2]]}'))
        for value in (b"x", 1j, {1, 2}, object()):
            self.failed(client.set(VOLTS, value), BadArguments)

    def test_unknown_nodes(self) -> None:
        client = self.ready()
        result = client.get("Toy.Nope")
        client.link.reply(b"None")
        self.assertIn(b'"attr": "name"', client.link.bodies[-1])
        client.link.reply(b"None")
        self.failed(result, UnknownName)

    def test_no_tree(self) -> None:
        client = self.ready()
        result = client.nodes("Toy")
        client.link.reply(b"OrderedDict()")
        self.failed(result, BadArguments)

    def test_not_utf8(self) -> None:
        client = self.ready()
        result = client.disp(VOLTS)
        client.link.reply(b"\xff")
        self.assertEqual(self.failed(result, DeviceFault).kind, "ProtocolError")


class WhatExists(RogueCase):
    """None is a real server's answer for what is not there."""

    def setUp(self) -> None:
        super().setUp()
        self.client = Client()
        self.addCleanup(self.client.close)

    def test_get_of_an_unknown_node(self) -> None:
        result = self.client.get("Toy.Psu.Vots")
        self.client.link.reply(b"\x80\x04N.")
        self.client.link.reply(b"\x80\x04N.")
        self.client.link.reply(self.recording.exchange("virtual.children.Psu")[1])
        error = self.failed(result, UnknownName)
        self.assertEqual(error.near[0], "Toy.Psu.Volts")

    def test_get_of_nothing(self) -> None:
        for _ in range(2):
            result = self.client.get("Toy.Psu.Nothing")
            self.client.link.reply(b"\x80\x04N.")
            if self.client.link.waiting:
                self.client.link.reply(pickle.dumps("Nothing", 4))
            self.assertIsNone(self.successResultOf(result))
        self.assertEqual(len(self.client.link.bodies), 3)

    def test_set_asks_first_and_only_once(self) -> None:
        done = self.client.set(VOLTS, 2.5)
        self.assertIn(b"\x04name", self.client.link.bodies[-1])
        self.client.link.reply(pickle.dumps("Volts", 4))
        self.play(self.client, "simple.set.float")
        self.successResultOf(done)
        self.unheeded(self.client.set(VOLTS, 2.5))
        self.assertEqual(len(self.client.link.bodies), 3)

    def test_set_of_an_unknown_node_is_never_sent(self) -> None:
        done = self.client.set("Nope", 1)
        self.client.link.reply(b"\x80\x04N.")
        self.failed(done, UnknownName)
        self.assertEqual(len(self.client.link.bodies), 1)

    def test_the_root_by_its_other_name(self) -> None:
        done = self.client.exec("root")
        self.client.link.reply(pickle.dumps("Toy", 4))
        self.client.link.reply(b"\x80\x04N.")
        self.assertIsNone(self.successResultOf(done))

    def test_forget(self) -> None:
        self.client._known.add(VOLTS)
        self.client.forget()
        self.unheeded(self.client.set(VOLTS, 2.5))
        self.assertIn(b"\x04name", self.client.link.bodies[-1])


class BadDays(RogueCase):
    """Late, empty, unreadable and missing answers."""

    def setUp(self) -> None:
        super().setUp()
        self.client = Client(timeout=5.0)
        self.addCleanup(self.client.close)

    def test_nobody_there(self) -> None:
        result = self.client.get(VOLTS)
        self.client.clock.advance(5.0)
        self.assertIn("fake:9099", str(self.failed(result, NotConnected)))

    def test_too_late(self) -> None:
        self.successResultOf(self.asked(b"\x80\x04K\x01."))
        late = self.client.get(VOLTS)
        first = self.client.link
        self.client.clock.advance(5.0)
        self.failed(late, TimedOut)
        self.assertTrue(first.closed)
        result = self.client.get(VOLTS)
        first.reply(b"\x80\x04K\x01.")
        self.assertNoResult(result)
        self.client.link.reply(b"\x80\x04K\x02.")
        self.assertEqual(self.successResultOf(result), 2)

    def asked(self, answer: bytes) -> Deferred[Any]:
        result = self.client.get(VOLTS)
        self.client.link.reply(answer)
        return result

    def test_late_answers_over_the_same_socket(self) -> None:
        slow = self.client.get("Toy.Psu.Slow", timeout=1.0)
        other = self.client.get(VOLTS)
        self.client.link.reply(b"\x80\x04K\x02.", place=1)
        self.client.clock.advance(1.0)
        self.failed(slow, TimedOut)
        self.assertEqual(self.successResultOf(other), 2)
        self.assertFalse(self.client.link.closed)  # the server lives: it has answered meanwhile
        result = self.client.get(VOLTS)
        self.client.link.reply(b"\x80\x04K\x01.")
        self.assertNoResult(result)
        self.client.link.reply(b"\x80\x04K\x03.")
        self.assertEqual(self.successResultOf(result), 3)

    def test_a_long_command_keeps_its_own_time(self) -> None:
        self.client._known.add("Toy.Scan")
        scan = self.client.exec("Toy.Scan", timeout=60.0)
        old = self.client.link
        quick = self.client.get(VOLTS)
        self.client.clock.advance(5.0)
        self.failed(quick, NotConnected)
        again = self.client.get(VOLTS)
        self.assertIsNot(self.client.link, old)
        self.assertFalse(old.closed)
        self.client.link.reply(b"\x80\x04K\x01.")
        self.assertEqual(self.successResultOf(again), 1)
        old.reply(b"\x80\x04\x88.")
        self.assertIs(self.successResultOf(scan), True)
        self.assertTrue(old.closed)

    def test_old_sockets_are_few(self) -> None:
        results = []
        for _ in range(conversation.MAX_OLD_LINES + 2):
            results.append(self.client.get(VOLTS, timeout=1000.0))
            quick = self.client.get(VOLTS)
            self.client.clock.advance(5.0)
            self.failed(quick, NotConnected)
        open_links = [link for link in self.client.links if not link.closed]
        self.assertEqual(len(open_links), conversation.MAX_OLD_LINES)
        self.assertIn("given up", str(self.failed(results[0], NotConnected)))
        self.assertNoResult(results[-1])
        for result in results[1:]:
            self.unheeded(result)

    def test_a_connection_that_ends(self) -> None:
        flying = [self.client.get(VOLTS) for _ in range(conversation.MAX_IN_FLIGHT)]
        waiting = self.client.get(VOLTS)
        first = self.client.link
        first.lose()
        for result in flying:
            self.assertIn("ended under get of", str(self.failed(result, NotConnected)))
        self.assertTrue(first.closed)
        self.client.link.reply(b"\x80\x04K\x05.")
        self.assertEqual(self.successResultOf(waiting), 5)

    def test_an_old_connection_that_ends(self) -> None:
        slow = self.client.get(VOLTS, timeout=60.0)
        quick = self.client.get(VOLTS)
        self.client.clock.advance(5.0)
        self.failed(quick, NotConnected)
        old = self.client.link
        result = self.client.get(VOLTS)
        old.lose()
        self.failed(slow, NotConnected)
        self.assertTrue(old.closed)
        self.client.link.reply(b"\x80\x04K\x05.")
        self.assertEqual(self.successResultOf(result), 5)

    def test_cancelled(self) -> None:
        result = self.client.get(VOLTS)
        result.cancel()
        self.failureResultOf(result, CancelledError)
        self.client.link.reply(b"\x80\x04K\x01.")
        self.assertEqual(self.client.clock.getDelayedCalls(), [])

    def test_not_sent_when_cancelled_while_waiting(self) -> None:
        results = [self.client.get(VOLTS) for _ in range(conversation.MAX_IN_FLIGHT + 2)]
        self.assertEqual(len(self.client.link.bodies), conversation.MAX_IN_FLIGHT)
        results[-2].cancel()
        self.failureResultOf(results[-2], CancelledError)
        for _ in range(conversation.MAX_IN_FLIGHT + 1):
            self.client.link.reply(b"\x80\x04K\x01.")
        self.assertEqual(len(self.client.link.bodies), conversation.MAX_IN_FLIGHT + 1)
        self.assertEqual(self.successResultOf(results[-1]), 1)

    def test_bodies_that_are_no_answers(self) -> None:
        for body, text in (
            (b"", "empty"),
            (b"garbage", "cannot be read"),
            (b"\x80\x04\x95" + b"\xff" * 8 + b".", "truncated"),
            (b"cos\ngetpid\n(tR.", "os.getpid"),
        ):
            error = self.failed(self.asked(body), DeviceFault)
            self.assertIn(text, str(error))

    def test_envelopes_that_are_not_ours(self) -> None:
        result = self.client.get(VOLTS)
        number = self.client.link.sent[-1][0]
        for parts in ([], [b""], [number], [b"", b"x"], [number, b"x", b"y"], [number] * 9):
            self.client.link.received(parts or [b""])
        self.client.link.received([bytes(4), b"", b"\x80\x04K\x01."])
        self.assertNoResult(result)
        self.client.link.received([number, b"", b"\x80\x04K\x05."])
        self.assertEqual(self.successResultOf(result), 5)

    def test_nodes_that_are_none(self) -> None:
        for ask in (self.client.root, lambda: self.client.nodes("Toy")):
            result = ask()
            self.client.link.reply(b"\x80\x04K\x05.")
            self.assertEqual(self.failed(result, DeviceFault).kind, "ProtocolError")

    def test_many_wait(self) -> None:
        self.patch(conversation, "MAX_WAITING", 2)
        for _ in range(conversation.MAX_IN_FLIGHT + 2):
            self.unheeded(self.client.get(VOLTS))
        self.failed(self.client.get(VOLTS), TooLarge)

    def test_values_that_cannot_be_sent(self) -> None:
        self.client._known.add(VOLTS)
        for value in (object(), [object()], print):
            self.failed(self.client.set(VOLTS, value), BadArguments)
        self.failed(self.client.set(VOLTS, bytes(17 << 20)), TooLarge)
        self.failed(self.client.get(VOLTS, timeout=0), OutOfRange)
        self.assertEqual(self.client.links, [])

    def test_closed(self) -> None:
        result = self.client.get(VOLTS)
        self.successResultOf(self.client.close())
        self.failed(result, NotConnected)
        self.assertTrue(self.client.link.closed)
        self.failed(self.client.get(VOLTS), NotConnected)
        self.assertEqual(self.client.clock.getDelayedCalls(), [])

    def test_numbers_are_new(self) -> None:
        for _ in range(10):
            self.unheeded(self.client.get(VOLTS))
        numbers = {parts[0] for parts in self.client.link.sent}
        self.assertEqual(len(numbers), 10)
        self.assertTrue(all(parts[1] == b"" for parts in self.client.link.sent))


class Damaged(RogueCase):
    """Damaged answers and updates: an error of the lab's or a value, and the next one is right."""

    def damaged(self, bodies: list[bytes], count: int) -> Iterator[bytes]:
        random = Random(20261121)
        for _ in range(count):
            body = bytearray(random.choice(bodies))
            for _ in range(random.randint(1, 4)):
                place = random.randrange(len(body) + 1)
                size = random.choice((0, 1, 1, 1, 4))
                body[place : place + size] = random.randbytes(random.choice((0, 1, 1, 3)))
            yield bytes(body)

    def recorded(self, socket: str) -> list[bytes]:
        bodies = {body for (kind, _), all in self.recording.answers.items() for body in all
                  if kind == socket}  # fmt: skip
        return sorted(body for body in bodies if 0 < len(body) < 3000)

    def check(self, client: Client, bodies: Iterator[bytes], good: bytes, value: Any) -> None:
        outcomes: set[Any] = set()
        for place, body in enumerate(bodies):
            result = client.request(VOLTS, "get")
            client.link.reply(body)
            result.addCallbacks(
                lambda _: "value", lambda failure: failure.trap(LabError).__name__
            ).addCallback(outcomes.add)
            self.assertTrue(result.called)
            if place % 100 == 0:
                result = client.request(VOLTS, "get")
                client.link.reply(good)
                self.assertEqual(self.successResultOf(result), value)
        self.assertEqual(outcomes, {"value", "LabError"})
        self.assertEqual(client.clock.getDelayedCalls(), [])

    def test_ten_thousand_answers(self) -> None:
        client = Client()
        bodies = self.damaged(self.recorded("bin"), 10_000)
        self.check(client, bodies, b"\x80\x04K\x05.", 5)

    def test_ten_thousand_texts(self) -> None:
        client = Client(text=True)
        self.check(client, self.damaged(self.recorded("str"), 10_000), b"5", "5")

    def test_ten_thousand_updates(self) -> None:
        mirror = self.connected()
        bodies = [body for some in self.recording.published.values() for body in some]
        good = self.recording.published["pub.bool"][0]
        for place, body in enumerate(self.damaged(bodies, 10_000)):
            mirror.publish(body)
            if place % 100 == 0:
                mirror.publish(good)
                self.assertIs(mirror.node("Toy.Psu.On").value, True)
        self.assertGreater(mirror.counts["unreadable"], 1000)
        self.assertGreater(mirror.counts["heard"], 100)

    @given(st.lists(st.binary(max_size=8), max_size=5))
    @settings(deadline=None, max_examples=300)
    def test_envelopes(self, parts: list[bytes]) -> None:
        client = Client()
        result = client.request(VOLTS, "get")
        client.link.received([b"", *parts])
        self.assertNoResult(result)
        client.link.reply(b"\x80\x04K\x05.")
        self.assertEqual(self.successResultOf(result), 5)

    @given(st.text(max_size=200))
    @settings(deadline=None, max_examples=500)
    def test_errors(self, text: str) -> None:
        for kind in ("builtins.Exception", "a.BError"):
            error = lab_error(RemoteException(text, kind), "x")
            self.assertIsInstance(error, LabError)
            self.assertTrue(str(error))


class Words(SynchronousTestCase):
    """Errors of servers as the lab's own."""

    def error(self, text: str, kind: str = "builtins.Exception") -> LabError:
        return lab_error(RemoteException(text, kind), "set of a.b")

    def test_labnets(self) -> None:
        error: Any = self.error(
            "labnet.Locked: stage is locked by ann (plesty 10.0.0.2:99, for 4 s, 26 s left)"
        )
        self.assertIsInstance(error, Locked)
        self.assertEqual((error.holder.name, error.holder.left), ("ann", 26.0))
        for text, kind in (
            ("pyrogue._Variable.VariableError: power can only be read", NotWritable),
            ("pyrogue._Variable.VariableError: key can only be written", NotReadable),
            ("pyrogue._Variable.VariableError: unit takes one of W, DBM, not 'x'", OutOfRange),
            ("pyrogue._Variable.VariableError: power takes float, not 'x'", WrongType),
            ("builtins.KeyError: unknown name 'powr'; did you mean power?", UnknownName),
            ("builtins.PermissionError: not from here", NotAllowed),
            ("builtins.TimeoutError: move did not finish within 5 s", TimedOut),
        ):
            error = self.error(text)
            self.assertIs(type(error), kind)
            self.assertEqual(str(error), text.partition(": ")[2])

    def test_registers(self) -> None:
        error: Any = self.error(
            "rogue.GeneralError: Block::setInt: General Error: Value range error for I16. "
            "Value=70000, Min=-32768.000000, Max=32767.000000"
        )
        self.assertEqual((error.what, error.low, error.high), ("I16", -32768.0, 32767.0))

    def test_old_servers(self) -> None:
        error: Any = self.error("missing", "builtins.KeyError")
        self.assertEqual((error.kind, str(error)), ("KeyError", "missing"))

    def test_without_a_class_or_a_text(self) -> None:
        for text, kind in (("just words", "Exception"), ("", "Exception"), ("x.y: ", "y")):
            error: Any = self.error(text)
            self.assertEqual(error.kind, kind)
            self.assertTrue(str(error))

    def test_long_ones_are_cut(self) -> None:
        self.assertLess(len(str(self.error("a.B: " + "x" * 100_000))), 2100)
        self.error("Value range error for " + "x. Value=, Min=, Max=" * 10_000)
        self.error("a is locked by " + "x (y z, for 1 s" * 10_000)
