"""A listener gives its clients what its section names, and nothing else of the lab."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import DeviceFault, LabError, UnknownName
from labnet.testing import FakeDevice, MemoryLab


class SessionTests(SynchronousTestCase):
    """The kernel's part: a session and its reach."""

    def setUp(self) -> None:
        self.lab = MemoryLab({"stage": FakeDevice(position=1.0), "dmm": FakeDevice(volts=2.0)})
        self.addCleanup(self.lab.close)

    def test_one_device(self) -> None:
        session = self.lab.open_session("test", "memory", device="stage", reach=("stage",))
        for path in ("position", "stage.position"):
            self.assertEqual(self.successResultOf(session.get(path)).value, 1.0)
        for path in ("dmm.volts", "dmm"):
            self.failureResultOf(session.get(path), UnknownName)
            self.failureResultOf(session.lock([path]), UnknownName)

    def test_a_part_of_a_device(self) -> None:
        session = self.lab.open_session("test", "memory", reach=("stage.position",))
        self.assertEqual(self.successResultOf(session.get("stage.position")).value, 1.0)
        self.failureResultOf(session.lock(["stage"]), UnknownName)

    def test_others_are_not_bound_by_it(self) -> None:
        self.lab.open_session("test", "memory", device="stage", reach=("stage",))
        whole = self.lab.open_session("test", "memory", device="stage")
        self.assertEqual(self.successResultOf(whole.get("dmm.volts")).value, 2.0)
        bound = self.lab.open_session("test", "memory", device="stage", reach=("stage",))
        self.failureResultOf(bound.get("dmm.volts"), UnknownName)


class TsvTests(SynchronousTestCase):
    """The same through a wire."""

    def serve(self, **options: Any) -> Any:
        lab = MemoryLab({"stage": FakeDevice(position=1.0), "dmm": FakeDevice(volts=2.0)})
        self.addCleanup(lab.close)
        served = lab.serve("tsv", **options)
        client = served.client(timeout=5.0)
        return lambda *words: lab.wait(client.send(*words))

    def test_one_device(self) -> None:
        send = self.serve(device="stage")
        self.assertEqual(send("get", "position").text, "1.0")
        self.assertEqual(send("stage.position").text, "1.0")
        self.assertRaises(UnknownName, send, "dmm.volts")
        for words in (("get", "dmm.volts"), ("set", "dmm.volts", "3"), ("lock", "dmm", "me", "9")):
            self.assertRaises(DeviceFault, send, *words)

    def test_several(self) -> None:
        send = self.serve(devices={"motor": "stage"})
        self.assertEqual(send("get", "motor.position").text, "1.0")
        self.assertRaises(LabError, send, "get", "dmm.volts")
