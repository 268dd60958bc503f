"""What is wrong with a device, as the views of the wires show it."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import DeviceFault, TimedOut
from labnet.testing import FakeDevice, MemoryLab
from labnet.wires.plesty import describe
from labnet.wires.plesty.codec import parse_reply
from labnet.wires.plesty.faults import lab_error
from labnet.wires.plesty.server import explain


class ConditionTests(SynchronousTestCase):
    """A device that hangs in a call, or is not connected."""

    def setUp(self) -> None:
        self.device = FakeDevice(power=1.0)
        self.never: Deferred[None] = Deferred()
        self.device.answer("sweep", self.sweep)
        self.lab = MemoryLab({"meter": self.device})
        self.addCleanup(self.lab.close)
        self.node = self.lab.devices()["meter"]
        self.client = self.lab.serve("tsv", device="meter", timeout=2.0).client(timeout=30.0)
        self.addCleanup(lambda: self.lab.wait(self.client.close()))

    def sweep(self) -> Deferred[None]:
        """Does not end, whatever its caller does."""
        outer: Deferred[None] = Deferred(lambda _: outer.callback(None))
        return outer.addCallback(lambda _: self.never)

    def stick(self) -> None:
        self.assertRaises(TimedOut, self.lab.wait, self.client.send("sweep"))
        self.addCleanup(self.never.callback, None)

    def ask(self, command: str, *arguments: Any) -> Any:
        return self.lab.wait(self.client.send(command, *arguments))

    def test_nothing_is_shown_of_one_that_is_well(self) -> None:
        self.assertEqual(self.ask("lock_info").fields, ())
        self.assertNotIn("(meter", self.ask("help").text)
        self.assertNotIn("condition", describe.describe(self.node))
        self.assertEqual(json.loads(self.ask("describe").data)["condition"], "")

    def test_tsv_shows_what_it_is_stuck_in(self) -> None:
        self.stick()
        told = self.ask("lock_info").fields[-1]
        self.assertRegex(told, r"^meter is stuck in meter\.sweep for \d")
        self.assertIn("(meter is stuck in meter.sweep for", self.ask("help").text)
        self.assertIn("stuck in", json.loads(self.ask("describe").data)["condition"])

    def test_tsv_tells_the_next_caller(self) -> None:
        self.stick()
        error = self.assertRaises(TimedOut, self.lab.wait, self.client.get("power"))
        self.assertEqual(error.seconds, 2.0)

    def test_tsv_reconnects_the_hardware(self) -> None:
        self.stick()
        self.lab.wait(self.client.disconnect_hardware())
        error = self.assertRaises(DeviceFault, self.lab.wait, self.client.get("power"))
        self.assertIn("not connected", str(error))
        self.assertIn("not connected: disconnected by", self.ask("lock_info").fields[-1])
        self.lab.wait(self.client.connect_hardware())
        self.assertEqual(self.ask("power").text, "1.0")

    def test_plesty(self) -> None:
        self.stick()
        self.assertIn("stuck in meter.sweep", describe.describe(self.node)["condition"])
        self.assertIn("This device is stuck in meter.sweep", describe.help_text(self.node))

    def test_plesty_tells_the_next_caller(self) -> None:
        error = TimedOut("meter.power", 2.0, "meter is stuck in meter.sweep for 9 s")
        kind, text = explain(error, None, None)  # type: ignore[arg-type]
        self.assertEqual(
            (kind, text),
            ("TimeoutError", "Operation timed out: meter is stuck in meter.sweep for 9 s"),
        )
        reply = json.dumps({"status": "error", "error": text, "type": kind}).encode()
        self.assertIsInstance(lab_error(parse_reply(reply), "power", 2.0), TimedOut)

    def test_only_a_device_is_described(self) -> None:
        error = self.assertRaises(DeviceFault, self.ask, "describe", "power")
        self.assertIn("meter.power is no device", str(error))
