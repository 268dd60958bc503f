"""The same questions to every row of the table of wires."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device, Identity, parameter
from labnet.lab import Lab
from labnet.wires.table import ROWS, WIRES, find_wire
from tests.wires.adapters import ADAPTERS, DIALLING, Adapter, Client, Pymodaq


class Bench(Device):
    """A device with one parameter that every wire can write."""

    identity = Identity("labnet", "BENCH", "1", "1.0")
    level = parameter(float, initial=1.0)


class WireTests(SynchronousTestCase):
    """What every wire does."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.lab = self.new_lab(Bench())

    def new_lab(self, device: Device) -> Lab:
        lab = Lab(self.reactor, self.reactor)
        lab.attach("bench", device)
        self.addCleanup(lab.stop)
        return lab

    def served(self, wire: Adapter, **options: Any) -> Callable[[], Client]:
        return wire.serve(self.lab, "bench", **options)

    def check_writes(self, wire: Adapter, client: Client, value: float) -> None:
        reply = client.tell(wire.write(value))
        self.assertTrue(wire.succeeded(reply), (wire.name, reply))
        self.assertEqual(self.level(), value)

    def check_refused(self, wire: Adapter, client: Client) -> bytes:
        before = self.level()
        reply = client.tell(wire.write(before + 1))
        if wire.waits:
            self.assertEqual(reply, b"", wire.name)
        else:
            self.assertFalse(wire.succeeded(reply), (wire.name, reply))
        self.assertEqual(self.level(), before)
        return reply

    def level(self) -> float:
        device: Any = self.lab.devices()["bench"].device
        level: float = device.level
        return level

    def test_every_row_is_asked(self) -> None:
        self.assertEqual({*ADAPTERS, *DIALLING}, set(WIRES))
        self.assertEqual(set(DIALLING), {row.name for row in ROWS if row.brings})

    def test_rows(self) -> None:
        for row in ROWS:
            self.assertIs(find_wire(row.name), row)
            module = row.load_server()
            self.assertTrue(callable(module.listen), row)
            module.Options()
            self.assertTrue(row.load_client().__name__.endswith("Client") or row.brings)
            self.assertIn(str(row.port), row.listen)

    def test_reads_and_writes(self) -> None:
        for wire in ADAPTERS.values():
            client = self.served(wire)()
            self.check_writes(wire, client, 2.5)
            reply = client.tell(wire.read())
            self.assertTrue(wire.succeeded(reply))
            self.assertIn(b"2.5", reply)
            client.vanish()

    def outcomes(self, wire: Adapter | Pymodaq, split: str) -> list[tuple[bytes, bool]]:
        """What every recorded connection brings when its bytes come cut in that way."""
        outcomes = []
        for pieces in wire.cases():
            lab = self.new_lab(Bench() if wire.name in DIALLING else wire.device(self.reactor))
            client = wire.serve(lab, "bench")()
            joined = b"".join(pieces)
            if split == "bytewise":
                pieces = [joined[at : at + 1] for at in range(len(joined))]
            elif split == "joined":
                pieces = [joined]
            outcomes.append((client.tell(*pieces), client.ended))
            client.vanish()
        return outcomes

    def test_any_split_of_the_recorded_bytes_does_the_same(self) -> None:
        for wire in (*ADAPTERS.values(), *DIALLING.values()):
            whole = self.outcomes(wire, "whole")
            self.assertGreater(len(whole), 50, wire.name)
            self.assertTrue(any(answer for answer, _ in whole))
            for split in wire.splits:
                for case, one, other in zip(
                    wire.cases(), whole, self.outcomes(wire, split), strict=True
                ):
                    self.assertEqual(one, other, (wire.name, split, case))

    def test_a_message_over_the_bound(self) -> None:
        for wire in ADAPTERS.values():
            new_client = self.served(wire, **wire.options)
            client, other = new_client(), new_client()
            reply = client.tell(wire.too_long)
            self.assertTrue(client.ended or (reply and not wire.succeeded(reply)), wire.name)
            self.check_writes(wire, other, 7.0)
            client.vanish()
            self.check_writes(wire, new_client(), 8.0)

    def test_a_peer_gone_inside_a_message(self) -> None:
        for wire in ADAPTERS.values():
            new_client = self.served(wire)
            client, other = new_client(), new_client()
            client.tell(wire.half)
            self.check_writes(wire, other, 3.0)
            client.vanish()
            self.check_writes(wire, other, 4.0)
            self.check_writes(wire, new_client(), 5.0)

    def test_devices_that_dial_in_and_misbehave(self) -> None:
        for wire in DIALLING.values():
            new_client = wire.serve(self.lab, "bench", **wire.options)
            client, other = new_client(), new_client()
            client.tell(wire.too_long)
            self.assertTrue(client.ended, wire.name)
            other.tell(wire.half)
            self.assertFalse(other.ended, wire.name)
            self.reactor.advance(30)
            self.assertTrue(other.ended, wire.name)
            client.vanish()
            other.vanish()

    def test_a_peer_gone_while_it_holds_a_lock(self) -> None:
        for wire in ADAPTERS.values():
            new_client = self.served(wire)
            holder, other = new_client(), new_client()
            self.assertTrue(wire.succeeded(holder.tell(wire.lock("me"))), wire.name)
            self.check_writes(wire, holder, 1.0)
            self.check_refused(wire, other)
            holder.vanish()
            self.check_writes(wire, other, 2.0)
            other.vanish()
            self.assertEqual(self.lab.locks.count, 0)

    def test_two_wires_want_one_device(self) -> None:
        for one, two in permutations(ADAPTERS.values(), 2):
            first, second = self.served(one)(), self.served(two)()
            self.check_writes(two, second, 1.0)
            self.assertTrue(one.succeeded(first.tell(one.lock("me"))), one.name)
            self.check_writes(one, first, 2.0)
            refusal = self.check_refused(two, second)
            if not two.waits:
                self.assertIn(b"locked", refusal.lower(), (one.name, two.name))
            first.vanish()
            self.check_writes(two, second, 3.0)
            second.vanish()

    def test_no_timer_is_left(self) -> None:
        for wire in ADAPTERS.values():
            client = self.served(wire)()
            client.tell(wire.lock("me"))
            client.tell(wire.half)
            client.vanish()
        for dialling in DIALLING.values():
            client = dialling.serve(self.lab, "bench")()
            client.tell(dialling.half)
            client.vanish()
        self.reactor.advance(3600)
        self.lab.stop()
        self.reactor.advance(60)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
