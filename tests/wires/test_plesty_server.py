"""The PLESTY server without sockets: names, values, deadlines, hostile bodies."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import DeviceFault, Holder, Locked, NotConnected, OutOfRange
from labnet.transports.zmq import Peer
from labnet.wires.plesty.codec import Request
from labnet.wires.plesty.protocol import MAX_OUTSTANDING
from labnet.wires.plesty.server import Options, explain
from tests.wires.plesty_case import Gauge, GaugeCase, ServerCase
from tests.wires.plesty_toy import ToyServer
from tests.wires.test_plesty_vectors import octets
from tests.wires.vectors import records


class Names(ServerCase):
    """Parameters and operations by name."""

    def test_case_does_not_count_where_only_one_fits(self) -> None:
        for key in ("MOTOR.position", "motor.position", "Motor.Position"):
            self.assertEqual(self.result(self.client(), "query", param=key), 1.0)

    def test_other_devices_of_the_lab_are_out_of_reach(self) -> None:
        self.server.lab.attach("secret", Gauge())
        kind, _ = self.refused(self.client(), "query", param="secret.level")
        self.assertEqual(kind, "KeyError")
        kind, _ = self.refused(self.client(), "call", func="secret.zero")
        self.assertEqual(kind, "AttributeError")
        reply = self.ask(self.client("a"), "connect", resources=["secret"])
        self.assertEqual(reply["result"]["unknown"], ["secret"])

    def test_operations_of_sub_devices(self) -> None:
        self.server.toy.add_device("head", Gauge())
        self.assertEqual(self.result(self.client(), "call", func="head.zero"), "zeroed")
        self.assertIn("head.zero", self.result(self.client(), "describe")["methods"])

    def test_a_command_is_no_parameter(self) -> None:
        self.assertEqual(
            self.refused(self.client(), "query", param="add"),
            ("KeyError", "\"Config parameter 'add' is not registered.\""),
        )

    def test_stock_operations(self) -> None:
        peer = self.client()

        def call(func: str, *args: Any) -> Any:
            return self.result(peer, "call", func=func, args=args)

        self.assertEqual(call("query", "averaging"), 10)
        self.assertIs(call("write", "averaging", 7), True)
        self.assertEqual(call("query", "averaging"), 7)
        self.assertEqual(call("get_group_list"), ["default", "motor"])
        self.assertIn("[motor]\nMOTOR.position (float, mm, -50 to 50)\n", call("summary"))
        self.assertEqual(call("doc_model"), self.result(peer, "describe")["doc"])
        self.assertEqual(self.refused(peer, "call", func="query")[0], "TypeError")
        self.assertEqual(self.refused(peer, "call", func="query", args=[5])[0], "TypeError")
        self.assertEqual(self.refused(peer, "call", func="summary", args=[5])[0], "TypeError")

    def test_many_spellings_are_not_kept(self) -> None:
        peer = self.client()
        letters = "wavelength"
        for number in range(1 << len(letters)):
            flips = [number >> place & 1 for place in range(len(letters))]
            key = "".join(c.upper() if f else c for c, f in zip(letters, flips, strict=True))
            self.assertEqual(self.result(peer, "query", param=key), 532.0)
        served = self.server.factory.single
        assert served is not None
        self.assertLessEqual(len(served.paths), 4096)


class Values(GaugeCase):
    """What JSON has no form for."""

    def test_complex_bytes_and_arrays(self) -> None:
        peer = self.client()
        for name, sent, back in (
            ("phase", [1, -2.5], [1.0, -2.5]),
            ("phase", 3, [3.0, 0.0]),
            ("raw", "\x00\u00e9", "\x00\u00e9"),
            ("trace", [[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        ):
            self.assertIs(self.result(peer, "write", param=name, value=sent), True)
            self.assertEqual(self.result(peer, "query", param=name), back)

    def test_arguments(self) -> None:
        peer = self.client()
        reply = self.result(peer, "call", func="turn", args=[[1, 2]], kwargs={"label": "\xff"})
        self.assertEqual(reply, "(1+2j) b'\\xff'")
        kind, _ = self.refused(peer, "call", func="turn", args=["x"])
        self.assertEqual(kind, "TypeError")
        self.assertEqual(self.refused(peer, "write", param="raw", value="\u5149")[0], "ValueError")

    def test_descriptions_leave_out_what_has_no_form(self) -> None:
        self.gauge.trace = np.zeros(100_000)
        group = self.result(self.client(), "describe")["doc"]["parameters"]["default"]
        values = {entry["name"]: entry["value"] for entry in group}
        shown = {"level": 0.0, "phase": [0.0, 1.0], "raw": "\xff", "trace": None, "broken": None}
        self.assertEqual(values, shown)
        self.assertEqual(
            self.refused(self.client(), "query", param="broken")[0], "SerializationError"
        )

    def test_an_argument_called_timeout_reaches_the_command(self) -> None:
        reply = self.result(self.client(), "call", func="late", kwargs={"timeout": 4})
        self.assertEqual(reply, 4.0)

    def test_replies_are_bounded(self) -> None:
        self.server = ToyServer(self.clock, Options(max_reply=2000))
        kind, text = self.refused(self.client(), "call", func="big", args=[3000])
        self.assertEqual(kind, "ValueError")
        self.assertIn("longer than 2000 bytes", text)


class Envelopes(GaugeCase):
    """REQ sockets that ask again before the answer is there (ZMQ_REQ_RELAXED, _CORRELATE)."""

    def envelopes(self, peer: Peer) -> list[tuple[bytes, Any]]:
        sent = self.server.port.sent.pop(peer, [])
        return [(frames[0], json.loads(frames[-1])) for frames in sent]

    def ask_in(self, peer: Peer, envelope: bytes, **request: Any) -> None:
        body = json.dumps(request).encode()
        self.server.factory.messageReceived(peer, [envelope, b"", body])

    def test_each_answer_has_that_of_its_own_request(self) -> None:
        peer = self.client()
        self.ask_in(peer, b"1", type="call", func="hang")
        self.ask_in(peer, b"2", type="call", func="hang", timeout=1)
        self.ask_in(peer, b"3", type="describe")
        self.assertEqual([number for number, _ in self.envelopes(peer)], [b"3"])
        self.gauge.answers[0].callback("first")
        self.assertEqual(self.envelopes(peer), [(b"1", {"status": "ok", "result": "first"})])
        self.clock.advance(1)
        [(number, reply)] = self.envelopes(peer)
        self.assertEqual((number, reply["type"]), (b"2", "TimeoutError"))

    def test_an_answer_that_another_request_brings_about(self) -> None:
        peer = self.client()
        self.ask_in(peer, b"1", type="call", func="hang")
        self.ask_in(peer, b"2", type="call", func="release")
        told = [(number, reply["result"]) for number, reply in self.envelopes(peer)]
        self.assertEqual(told, [(b"1", "released"), (b"2", "done")])


class Deadlines(GaugeCase):
    """Time limits, and answers to those who have gone."""

    def call_hang(self, peer: Peer, **fields: Any) -> None:
        body = json.dumps({"type": "call", "func": "hang", **fields}).encode()
        self.assertEqual(self.server.tell(peer, body), [])

    def test_the_sections_time_limit(self) -> None:
        peer = self.client()
        self.call_hang(peer)
        self.clock.advance(9.9)
        self.assertEqual(self.server.port.taken(peer), [])
        self.clock.advance(0.2)
        reply = b'{"status": "error", "error": "Operation timed out", "type": "TimeoutError"}'
        self.assertEqual(self.server.port.taken(peer), [reply])

    def test_the_shorter_of_two_limits(self) -> None:
        for limits in (
            {"timeout": 0.5},
            {"timeout": 0.5, "kwargs": {"timeout": 3}},
            {"timeout": 3, "kwargs": {"timeout": 0.5}},
        ):
            peer = self.client()
            self.call_hang(peer, **limits)
            self.clock.advance(0.6)
            self.assertEqual(len(self.server.port.taken(peer)), 1)
            self.gauge.answers.pop().callback("at last")

    def test_no_time_at_all_does_not_reach_the_device(self) -> None:
        for timeout in (0, -1, -1e400):
            kind, _ = self.refused(self.client(), "call", func="hang", timeout=timeout)
            self.assertEqual(kind, "TimeoutError")
        self.assertEqual(self.gauge.answers, [])

    def test_an_answer_never_reaches_the_next_connection(self) -> None:
        peer = self.client("exp")
        self.call_hang(peer)
        self.server.lose(peer)
        again = self.client("exp")
        self.assertEqual(self.result(again, "connect")["resources"], [])
        self.gauge.answers.pop().callback("old")
        self.assertEqual(self.server.port.sent, {})

    def test_one_client_cannot_pile_up_requests(self) -> None:
        peer = self.client()
        for _ in range(MAX_OUTSTANDING):
            self.call_hang(peer)
        kind, text = self.refused(peer, "call", func="hang")
        self.assertEqual((kind, text[:4]), ("ValueError", "1000"))
        self.assertEqual(self.result(peer, "describe")["budgets"], {})

    def test_descriptions_overtake(self) -> None:
        peer = self.client()
        self.call_hang(peer)
        self.assertIn("hang", self.result(peer, "describe")["methods"])
        self.assertEqual(self.result(peer, "connect")["resources"], [])
        self.gauge.answers.pop().callback("done")
        self.assertEqual(self.server.port.taken(peer), [b'{"status": "ok", "result": "done"}'])


class Hostile(ServerCase):
    """Whatever comes, one reply goes, and the next client is served."""

    def test_a_device_that_has_left(self) -> None:
        peer = self.client()
        self.successResultOf(self.server.lab.detach("toy"))
        self.assertEqual(self.refused(peer, "query", param="serial")[0], "ConnectionError")
        self.assertEqual(self.refused(peer, "connect", resources="laser")[0], "ConnectionError")

    def test_envelopes(self) -> None:
        peer = self.client()
        describe = b'{"type": "help"}'
        for envelope in ([b""], [b"1234", b""]):
            self.server.factory.messageReceived(peer, [*envelope, describe])
            sent = self.server.port.sent.pop(peer)
            self.assertEqual(sent[0][:-1], envelope)
            self.assertIn(b'"ok"', sent[0][-1])
        for frames in ([describe, b"x"], [b"", describe, b"x"], [b"a", b"b", b"", describe]):
            self.server.factory.messageReceived(peer, frames)
            self.assertIn(b"ValueError", self.server.port.sent.pop(peer)[0][-1])

    def test_ten_thousand_mutated_bodies(self) -> None:
        seeds = [
            octets(part)
            for record in records("plesty")
            if record["direction"] == "c2s" and "kind" not in record
            for part in record["frames"]
        ]
        chance = random.Random(5)
        peer = self.client("fuzz")
        for _ in range(10_000):
            body = bytearray(chance.choice(seeds))
            for _ in range(chance.randint(1, 4)):
                place = chance.randrange(len(body) + 1)
                odd = (b"", b"[", b"{", b'"', b"\xff", b"9" * 30, b"null")
                piece = chance.choice((*odd, bytes([chance.randrange(256)])))
                body[place : place + chance.randint(0, 3)] = piece
            self.server.factory.messageReceived(peer, [bytes(body)])
            self.clock.advance(0.01)
        self.clock.advance(1000)
        self.assertEqual(len(self.server.port.taken(peer)), 10_000)
        self.assertEqual(self.result(self.client(), "query", param="serial"), "TOY-0001")


class Errors(SynchronousTestCase):
    """The table of errors, row by row where no other test comes by."""

    def words(self, error: Any, type: str = "call") -> tuple[str, str]:
        return explain(error, Request(type), None)

    def test_rows(self) -> None:
        self.assertEqual(self.words(DeviceFault("x", "KeyError")), ("KeyError", "'x'"))
        self.assertEqual(self.words(NotConnected("no")), ("ConnectionError", "no"))
        holder = Holder("stage", "ann", "tsv", "10.0.0.1", 2.0)
        kind, text = self.words(Locked(holder))
        self.assertEqual(kind, "ResourceLockedError")
        self.assertIn("ann", text)

    def test_limits(self) -> None:
        array = np.array([1.0, 9.0])
        kind, text = self.words(OutOfRange("x", array, 2.0, 5.0), "write")
        self.assertEqual((kind, text[:14]), ("ValueError", "x takes 2 to 5"))
        _, text = self.words(OutOfRange("x", 3, choices=("a", "b")))
        self.assertEqual(text, "Value 3 is not in allowed options: ['a', 'b']")

    def test_a_child_of_a_known_error(self) -> None:
        class Odd(NotConnected):
            pass

        self.assertEqual(self.words(Odd("gone"))[0], "ConnectionError")
