"""The PLESTY server without sockets: locks, leases, tokens, benches, deadlines, hostile bodies."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device, command, parameter
from labnet.errors import DeviceFault, Holder, Locked, NotConnected, OutOfRange
from labnet.lab import ServeOptions
from labnet.transports.zmq import Peer
from labnet.wires.plesty.codec import Request
from labnet.wires.plesty.protocol import MAX_OUTSTANDING
from labnet.wires.plesty.server import Options, explain
from tests.wires.plesty_toy import ToyServer
from tests.wires.test_plesty_vectors import octets
from tests.wires.vectors import records

TAKEN = "ResourceAllocationError"


class ServerCase(SynchronousTestCase):
    """A toy server; `ask` sends one request and gives the reply, if it comes at once."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.server = ToyServer(self.clock)

    def client(self, name: str | bytes = b"") -> Peer:
        return self.server.peer(name)

    def ask(self, peer: Peer, type: str, **fields: Any) -> dict[str, Any]:
        body = json.dumps({"type": type, **fields}).encode()
        replies = [json.loads(reply) for reply in self.server.tell(peer, body)]
        self.assertEqual(len(replies), 1, "one reply at once")
        return replies[0]

    def result(self, peer: Peer, type: str, **fields: Any) -> Any:
        reply = self.ask(peer, type, **fields)
        self.assertEqual(reply["status"], "ok", reply)
        return reply["result"]

    def refused(self, peer: Peer, type: str, **fields: Any) -> tuple[str, str]:
        reply = self.ask(peer, type, **fields)
        self.assertEqual(reply["status"], "error", reply)
        return reply["type"], reply["error"]

    def lock(self, peer: Peer, *names: str, **metadata: Any) -> list[str]:
        granted: list[str] = self.result(peer, "connect", resources=names, **metadata)["resources"]
        return granted


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


class Gauge(Device):
    """Kinds that JSON has no form for, and a call that never ends by itself."""

    level = parameter(float, initial=0.0)
    phase = parameter(complex, initial=1j)
    raw = parameter(bytes, initial=b"\xff")
    trace = parameter(np.ndarray, initial=np.zeros(3))
    broken: Any = parameter(initial=object())

    def __init__(self) -> None:
        self.answers: list[Deferred[str]] = []

    @command
    def zero(self) -> str:
        return "zeroed"

    @command
    def turn(self, by: complex, label: bytes = b"") -> str:
        return f"{by} {label!r}"

    @command
    def hang(self) -> Deferred[str]:
        self.answers.append(Deferred())
        return self.answers[-1]

    @command
    def late(self, timeout: float) -> float:
        return timeout


class GaugeCase(ServerCase):
    """The same with a gauge."""

    def setUp(self) -> None:
        super().setUp()
        self.gauge = Gauge()
        self.server = ToyServer(self.clock, others={"gauge": self.gauge}, device="gauge")


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


class Locks(ServerCase):
    """Locks: as the peer has them, and as it does not."""

    def test_the_whole_device(self) -> None:
        one, two = self.client("one"), self.client("two")
        for name in ("", "toy"):
            self.assertEqual(self.lock(one, name), ["toy"])
        reply = self.ask(two, "connect", resources=["laser"])
        self.assertEqual(reply["type"], TAKEN)
        self.assertEqual(reply["result"]["holder"]["resource"], "toy")
        self.assertEqual(reply["result"]["holder"]["name"], "one")

    def test_a_branch_is_its_leaves(self) -> None:
        self.assertEqual(self.lock(self.client("one"), "axis", "axis/x"), ["axis/x", "axis/y"])
        self.assertEqual(self.lock(self.client("two"), "MOTOR/position"), ["MOTOR/position"])

    def test_others_are_kept_from_writing(self) -> None:
        one, two = self.client("one"), self.client("two")
        self.lock(one, "toy", user="ann")
        kind, text = self.refused(two, "write", param="averaging", value=3)
        self.assertEqual(kind, "ResourceLockedError")
        self.assertIn("locked", text)
        self.assertIn("one", text)
        self.assertEqual(self.refused(two, "call", func="reset")[0], "ResourceLockedError")
        self.assertEqual(self.result(two, "query", param="averaging"), 10)
        self.assertEqual(self.result(two, "call", func="add", args=[1]), 2)
        self.assertIs(self.result(one, "write", param="averaging", value=3), True)

    def test_a_locked_call_names_the_holder(self) -> None:
        self.lock(self.client("one"), "toy")
        reply = self.ask(self.client("two"), "write", param="averaging", value=3)
        self.assertEqual(reply["result"]["holder"]["name"], "one")

    def test_replaced_as_a_set_or_left_alone(self) -> None:
        one, two = self.client("one"), self.client("two")
        self.lock(one, "laser")
        self.lock(two, "axis/x")
        reply = self.ask(one, "connect", resources=["axis"])
        self.assertEqual(reply["type"], TAKEN)
        self.assertEqual(self.ask(two, "connect", resources=["laser"])["type"], TAKEN)
        self.assertEqual(self.lock(one, "axis/y"), ["axis/y"])
        self.assertEqual(self.lock(two, "laser"), ["laser"])
        self.assertEqual(self.lock(one, "axis"), ["axis/x", "axis/y"])

    def test_two_ports_of_one_lab(self) -> None:
        """A client_id is the same name on both, and each port's locks are its own."""
        self.server.lab.attach("gauge", Gauge())
        factory = self.server.listen(ServeOptions(name="second", device="gauge"), Options())
        here, there = self.client("exp"), self.client("exp")
        self.lock(here, "toy")
        factory.messageReceived(there, [b'{"type": "connect", "resources": ["gauge"]}'])
        self.assertIn(b'"resources": ["gauge"]', self.server.port.taken(there)[0])
        factory.messageReceived(there, [b'{"type": "connect", "resources": []}'])
        self.server.port.taken(there)
        self.assertEqual(self.ask(self.client("two"), "connect", resources="toy")["type"], TAKEN)

    def test_named_resources_must_be_held(self) -> None:
        one = self.client("one")
        self.lock(one, "axis")
        self.assertEqual(self.result(one, "query", param="serial", resources="axis"), "TOY-0001")
        _, text = self.refused(one, "query", param="serial", resources=["laser", "nope", "axis"])
        self.assertEqual(text, "Client 'one' requested unallocated resources: ['nope', 'laser']")

    def test_resources_reach_only_what_takes_them(self) -> None:
        one = self.client("one")
        self.lock(one, "laser")
        echo = self.result(one, "call", func="echo")
        self.assertEqual(echo["kwargs"], {"resources": ["laser"]})
        self.result(one, "disconnect")
        self.assertEqual(self.result(one, "call", func="echo")["kwargs"], {})

    def test_a_client_without_a_name_frees_at_once(self) -> None:
        for name in (b"", b"client-" + b"0af9" * 8):
            peer = self.client(name)
            self.lock(peer, "laser")
            self.server.lose(peer)
            two = self.client("two")
            self.assertEqual(self.lock(two, "laser"), ["laser"])
            self.result(two, "disconnect")
            self.assertEqual(self.server.lab.locks.count, 0)

    def test_a_client_with_a_name_may_come_back(self) -> None:
        peer = self.client("one")
        self.lock(peer, "laser")
        self.server.lose(peer)
        self.clock.advance(9)
        self.assertEqual(self.ask(self.client("two"), "connect", resources="laser")["type"], TAKEN)
        again = self.client("one")
        self.assertEqual(self.result(again, "query", param="serial", resources="laser"), "TOY-0001")
        self.clock.advance(100)
        self.assertEqual(self.ask(self.client("two"), "connect", resources="laser")["type"], TAKEN)

    def test_a_silent_connection_may_be_the_clients(self) -> None:
        peer = self.client("one")
        self.lock(peer, "laser")
        self.server.lose(peer)
        self.server.port.unclaimed = 1
        self.clock.pump([5.0] * 20)
        self.assertEqual(self.ask(self.client("two"), "connect", resources="laser")["type"], TAKEN)
        self.clock.pump([5.0] * 200)
        self.assertEqual(self.lock(self.client("three"), "laser"), ["laser"])

    def test_but_not_too_late(self) -> None:
        peer = self.client("one")
        self.lock(peer, "laser")
        self.server.lose(peer)
        self.clock.advance(10.1)
        self.assertEqual(self.lock(self.client("two"), "laser"), ["laser"])
        self.assertEqual(self.lock(self.client("one"), "axis/x"), ["axis/x"])

    def test_nothing_is_left_of_those_who_stay_away(self) -> None:
        for number in range(20):
            peer = self.client(f"exp-{number}")
            self.lock(peer, "laser")
            self.server.lose(peer)
            self.clock.pump([5, 5, 5, 5])
        self.assertEqual(self.server.factory._clients, {})
        self.assertEqual(self.server.lab.locks.count, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_connection_that_moves(self) -> None:
        """The same name from a new connection before the old one is known to be dead."""
        old, new = self.client("one"), self.client("one")
        self.lock(old, "laser")
        self.assertEqual(self.lock(new, "laser", "axis/x"), ["laser", "axis/x"])
        self.server.lose(old)
        self.clock.advance(100)
        self.assertEqual(self.result(new, "query", param="serial", resources="laser"), "TOY-0001")

    def test_leases(self) -> None:
        one, two = self.client("one"), self.client("two")
        self.lock(one, "laser", lease=30)
        self.clock.advance(20)
        self.lock(one, "laser", lease=30)
        self.clock.advance(20)
        self.assertEqual(self.ask(two, "connect", resources="laser")["type"], TAKEN)
        self.clock.advance(10.1)
        self.assertEqual(self.lock(two, "laser"), ["laser"])
        for bad in (-1, "x", True, float("nan"), float("inf")):
            reply = self.ask(two, "connect", lease=bad)
            self.assertIn(reply["type"], ("TypeError", "ValueError"))

    def test_tokens(self) -> None:
        other = self.server.lab.open_session("scpi", "10.0.0.1:5025")
        self.successResultOf(other.lock(["toy.laser"]))
        one = self.client("one")
        self.assertEqual(self.ask(one, "connect", resources="laser")["type"], TAKEN)
        self.assertEqual(self.refused(one, "connect", token="wrong")[0], "PermissionError")
        self.assertEqual(self.refused(one, "connect", token=5)[0], "TypeError")
        self.lock(one, "laser", token=other.token)
        self.lock(one, token=other.token)
        self.result(one, "disconnect")
        self.assertEqual([hold.path for hold in other.holdings()], ["toy.laser"])
        self.assertEqual(self.ask(one, "connect", resources="laser")["type"], TAKEN)

    def test_a_token_on_request(self) -> None:
        one = self.client("one")
        token = self.result(one, "connect", resources="laser", token=True)["token"]
        other = self.server.lab.open_session("scpi", "10.0.0.1:5025")
        other.show_token(token)
        self.assertEqual([hold.path for hold in other.holdings()], ["toy.laser"])


class Benches(ServerCase):
    """Several devices on one port."""

    def setUp(self) -> None:
        super().setUp()
        self.server = ToyServer(self.clock, Options(token="sesame"), device=None)
        self.server.lab.attach("gauge", Gauge())

    def inner(self, name: str, type: str, **fields: Any) -> dict[str, Any]:
        return {"name": name, "request": {"type": type, **fields}, "token": "sesame"}

    def test_describe_needs_no_token(self) -> None:
        bench = self.result(self.client(), "describe")
        self.assertEqual(bench["kind"], "plesty-server-agent")
        self.assertEqual(bench["fleet"], ["gauge", "toy"])

    def test_device_requests(self) -> None:
        peer = self.client()
        request = self.inner("toy", "query", param="wavelength")
        self.assertEqual(self.result(peer, "device", **request), 532.0)
        request = self.inner("gauge", "call", func="zero")
        self.assertEqual(self.result(peer, "device", **request), "zeroed")
        request = self.inner("gauge", "describe")
        self.assertIn("zero", self.result(peer, "device", **request)["methods"])

    def test_the_token(self) -> None:
        peer = self.client()
        request = self.inner("toy", "query", param="wavelength")
        for token in ("", "Sesame", None, 5, "\ud800"):
            kind, text = self.refused(peer, "device", **request | {"token": token})
            self.assertEqual((kind, text), ("PermissionError", "bad or missing token"))
        self.assertEqual(self.refused(peer, "connect")[0], "PermissionError")
        self.assertEqual(self.refused(peer, "help")[0], "PermissionError")
        self.assertEqual(self.result(peer, "connect", token="sesame")["resources"], [])

    def test_refused(self) -> None:
        peer = self.client()
        for type in ("exec", "fetch", "query", "write", "call"):
            fields = {"param": "wavelength", "value": 1, "func": "add", "token": "sesame"}
            kind, _ = self.refused(peer, type, **fields)
            self.assertIn(kind, ("ValueError", "PermissionError"), type)
        self.assertEqual(
            self.refused(peer, "device", **self.inner("tog", "describe")),
            ("KeyError", "unknown device 'tog'; did you mean toy?"),
        )
        for inner in ([], {"type": "device", "name": "toy", "request": {}}, {"type": "exec"}):
            request = {"name": "toy", "request": inner, "token": "sesame"}
            kind, _ = self.refused(peer, "device", **request)
            self.assertIn(kind, ("AttributeError", "ValueError"))

    def test_identifiers(self) -> None:
        request = self.inner("toy", "query", param="wavelength")
        self.assertEqual(self.ask(self.client(), "device", id=4, **request)["id"], 4)
        request["request"]["id"] = "x"
        self.assertEqual(self.ask(self.client(), "device", **request)["id"], "x")

    def test_locks_over_devices(self) -> None:
        one = self.client("one")
        held = self.lock(one, "toy/laser", "gauge", token="sesame")
        self.assertEqual(held, ["toy/laser", "gauge"])
        request = self.inner("gauge", "write", param="level", value=1.0)
        kind, _ = self.refused(self.client("two"), "device", **request)
        self.assertEqual(kind, "ResourceLockedError")
        self.assertIs(self.result(one, "device", **request), True)
        reply = self.ask(one, "connect", resources=["toy/nope", "nope", ""], token="sesame")
        self.assertEqual(reply["result"]["unknown"], ["toy/nope", "nope", ""])

    def test_devices_come_and_go(self) -> None:
        peer = self.client()
        request = self.inner("gauge", "query", param="level")
        self.result(peer, "device", **request)
        self.successResultOf(self.server.lab.detach("gauge"))
        self.assertEqual(self.refused(peer, "device", **request)[0], "KeyError")
        gauge = Gauge()
        gauge.level = 5.0
        self.server.lab.attach("gauge", gauge)
        self.assertEqual(self.result(peer, "device", **request), 5.0)

    def test_names_of_the_section(self) -> None:
        self.server = ToyServer(
            self.clock, device=None, devices={"meter": "gauge", "mot": "toy.MOTOR"}
        )
        self.server.lab.attach("gauge", Gauge())
        peer = self.client()
        request = self.inner("mot", "query", param="position")
        self.assertEqual(self.result(peer, "device", **request), 1.0)
        self.assertEqual(self.refused(peer, "device", **self.inner("toy", "help"))[0], "KeyError")
        self.assertIn("meter", self.result(peer, "help")["help"])


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
        self.assertEqual(self.words(DeviceFault("'x'", "KeyError")), ("KeyError", "'x'"))
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
