"""Another labnet behind TSV, in memory: values, updates, locks, losses."""

from __future__ import annotations

from typing import Any

from labnet.errors import Locked, NotConnected, OutOfRange
from labnet.testing import FakeDevice
from labnet.updates import Update
from tests.devices.remote.test_instrument import Far


class TsvTests(Far):
    """Over TSV."""

    wire = "tsv"
    keys = "address = 127.0.0.1:{port}\npoll = 1\nprobe = 0"

    def setUp(self) -> None:
        super().setUp()
        self.meter = FakeDevice(
            "zero",
            power={"initial": 1.0, "access": "r", "unit": "W"},
            text="one two",
            level={"initial": 5.0, "limits": (0, 9)},
            trace={"initial": [1, 2.5, 3]},
        )
        self.meter.answer("add", self.add)
        self.far.attach("meter", self.meter)
        self.served = self.far.serve("tsv", device="meter")
        self.port = self.served.port

    @staticmethod
    def add(a: float, b: float = 1.0, c: float = 10.0) -> float:
        return a + b + 100 * c

    def test_values_and_commands(self) -> None:
        session = self.attach()
        wait = self.far.wait
        self.assertEqual(wait(session.get("power")).value, 1.0)
        self.assertEqual(wait(session.get("text")).value, "one two")
        self.assertEqual(wait(session.set("level", 7.0)).value, 7.0)
        self.assertEqual(wait(session.get("trace")).value, [1, 2.5, 3])
        self.assertEqual(wait(session.call("add", 2.0)), 1003.0)
        self.assertEqual(wait(session.call("add", 2.0, b=5.0)), 1007.0)
        self.assertEqual(wait(session.call("add", c=0.0, a=2.0)), 3.0)
        self.assertIsNone(wait(session.call("zero")))
        self.assertRaises(OutOfRange, wait, session.set("level", 10.0))
        self.assertEqual(self.meter.values["level"], 7.0)

    def test_updates_while_somebody_listens(self) -> None:
        session = self.attach()
        self.far.advance(5)
        self.assertEqual(self.meter.asked("get"), [])
        heard: list[Update] = []
        subscription = session.subscribe(["power"], heard.extend)
        self.far.advance(1.1)
        self.meter.values["power"] = 2.0
        self.far.advance(1.1)
        self.assertEqual([update.reading.value for update in heard if update.reading], [1.0, 2.0])
        self.assertEqual(self.meter.asked("get", "level"), [])
        subscription.end()
        before = len(self.meter.calls)
        self.far.advance(5)
        self.assertEqual(len(self.meter.calls), before)

    def test_locks_there_for_parts_of_it(self) -> None:
        session = self.attach()
        self.far.wait(session.lock(["level"]))
        self.far.wait(session.lock(["power"]))
        eve = self.far.session("eve", device="meter")
        self.assertRaises(Locked, self.far.wait, eve.set("level", 1.0))
        session.unlock(["power"])
        self.far.advance(0.1)
        self.assertRaises(Locked, self.far.wait, eve.set("level", 1.0))
        self.far.wait(session.set("level", 2.0))
        session.unlock()
        self.far.advance(0.1)
        self.far.wait(eve.set("level", 1.0))

    def test_a_lock_that_another_took_meanwhile_keeps_it_away(self) -> None:
        session = self.attach()
        self.far.wait(session.lock(["level"]))
        self.served.faults.disconnect()
        eve = self.far.session("eve", device="meter")
        self.far.advance(0.1)
        self.far.wait(eve.lock(["meter"]))
        self.far.advance(3)
        error = self.failureResultOf(session.get("level"), NotConnected).value
        self.assertIn("is locked", str(error))
        self.assertIn("eve", str(error))
        eve.close()
        self.far.advance(5)
        self.assertEqual(self.far.wait(session.set("level", 3.0)).value, 3.0)
        other: Any = self.far.session("other", device="meter")
        self.assertRaises(Locked, self.far.wait, other.set("level", 1.0))

    def test_a_signs_of_life_that_stay_away(self) -> None:
        self.keys = "address = 127.0.0.1:{port}\nprobe = 2"
        session = self.attach()
        self.served.faults.hang("to_client")
        self.far.advance(10)
        self.assertIsNotNone(self.node.queue.unavailable)
        self.served.faults.clear()
        self.far.advance(10)
        self.assertEqual(self.far.wait(session.get("power")).value, 1.0)
