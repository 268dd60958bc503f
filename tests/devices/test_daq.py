"""The data acquisition device: digital lines and ports, analog inputs, the name Dev1."""

from __future__ import annotations

from labnet.devices.simulated.daq import SPAN, STEP, Daq
from labnet.errors import Locked, NotWritable, OutOfRange, WrongType
from labnet.registry import DeviceNode
from tests.devices.bench import BenchCase


class DaqTests(BenchCase):
    def setUp(self) -> None:
        super().setUp()
        self.session = self.attach("daq", Daq(clock=self.clock))

    def test_all_lines(self) -> None:
        for port in ("port0", "port1"):
            node = self.session.resolve(port)
            assert isinstance(node, DeviceNode)
            names = [name for name in node.children if name.startswith("line")]
            self.assertEqual(names, [f"line{number}" for number in range(8)])

    def test_lines_make_the_port(self) -> None:
        self.assertEqual(self.get(self.session, "port0.value"), 0)
        self.set(self.session, "port0.line0", True)
        self.set(self.session, "port0.line7", True)
        self.assertEqual(self.get(self.session, "port0.value"), 0x81)
        self.assertEqual(self.get(self.session, "port1.value"), 0)
        self.set(self.session, "port0.line0", False)
        self.assertEqual(self.get(self.session, "port0.value"), 0x80)

    def test_the_port_sets_the_lines(self) -> None:
        heard = self.told(self.session, "port1")
        self.set(self.session, "port1.value", 0b101)
        self.clock.advance(0)
        levels = {u.path: u.reading.value for u in heard if u.reading is not None}
        self.assertEqual(
            levels, {"daq.port1.line0": True, "daq.port1.line2": True, "daq.port1.value": 5}
        )
        self.assertIs(self.get(self.session, "port1.line2"), True)
        self.assertIs(self.get(self.session, "port1.line1"), False)

    def test_a_line_tells_of_its_port(self) -> None:
        heard = self.told(self.session, "port0.value")
        self.set(self.session, "port0.line3", True)
        self.clock.advance(0)
        self.assertEqual([u.reading.value for u in heard if u.reading is not None], [8])

    def test_wrong_levels(self) -> None:
        self.failureResultOf(self.session.set("port0.line0", "high"), WrongType)
        self.failureResultOf(self.session.set("port0.value", 256), OutOfRange)

    def test_inputs(self) -> None:
        self.set(self.session, "port1.outputs", 0xF0)
        self.set(self.session, "port1.value", 0xF0)
        refused = self.failureResultOf(self.session.set("port1.line0", True), NotWritable)
        self.assertIn("line0 is an input", str(refused.value))
        levels = []
        for _ in range(4):
            levels.append(self.get(self.session, "port1.line0"))
            self.assertEqual(self.get(self.session, "port1.value") & 0xF0, 0xF0)
            self.clock.advance(1.0)
        self.assertEqual(levels, [False, True, False, True])

    def test_analog_inputs(self) -> None:
        volts: dict[str, list[float]] = {f"ai{number}": [] for number in range(4)}
        for _ in range(200):
            for name, values in volts.items():
                values.append(self.get(self.session, name))
            self.clock.advance(0.5)
        self.assertApproximates(max(volts["ai0"]), 1.0, 0.02)
        self.assertApproximates(min(volts["ai1"]), -1.5, 0.03)
        self.assertApproximates(min(volts["ai2"]), -7.0, 0.03)
        self.assertEqual((min(volts["ai3"]), max(volts["ai3"])), (-SPAN, SPAN - STEP))
        for values in volts.values():
            steps = [value / STEP for value in values]
            self.assertEqual(steps, [round(step) for step in steps])

    def test_analog_inputs_are_noisy(self) -> None:
        self.assertGreater(len({self.get(self.session, "ai0") for _ in range(50)}), 5)
        self.assertEqual(self.spec(self.session, "ai0").unit, "V")
        self.failureResultOf(self.session.set("ai0", 1.0), NotWritable)

    def test_a_foreign_name(self) -> None:
        foreign = self.lab.open_session("test", "there")
        self.set(foreign, ("Dev1", "port0", "line0"), True)
        self.assertIs(self.get(self.session, "port0.line0"), True)

    def test_a_locked_line_is_not_set_with_its_port(self) -> None:
        self.successResultOf(self.session.lock(["port0.line3"]))
        other = self.client("daq")
        for name in ("port0.value", "port0.outputs", "port0.line3"):
            refused = self.failureResultOf(other.set(name, 1), Locked)
            self.assertEqual(refused.value.holder.resource, "daq.port0.line3")
        self.set(other, "port0.line2", True)
        self.set(self.session, "port0.value", 1)

    def test_every_member_has_help(self) -> None:
        self.assert_helpful("daq")
