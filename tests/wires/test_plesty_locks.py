"""The locks of the PLESTY server, and several devices on one port."""

from __future__ import annotations

from typing import Any

from labnet.lab import ServeOptions
from labnet.wires.plesty.server import Options
from tests.wires.plesty_case import Gauge, ServerCase
from tests.wires.plesty_toy import ToyServer

TAKEN = "ResourceAllocationError"


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

    def test_names_from_the_root(self) -> None:
        one = self.client("one")
        self.assertEqual(self.lock(one, "toy/MOTOR/position"), ["MOTOR/position"])
        self.assertEqual(self.lock(one, "Toy/axis"), ["axis/x", "axis/y"])
        self.assertEqual(self.result(one, "query", param="toy.averaging"), 10)
        self.assertEqual(self.result(one, "call", func="toy.add", args=[1]), 2)
        self.assertEqual(self.refused(one, "query", param="tog.averaging")[0], "KeyError")

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
        self.server.port.silent = 1
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
