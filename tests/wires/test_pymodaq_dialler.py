"""Devices of a lab offered to PyMoDAQ: what they are offered as, moves, locks, settings, frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device, command, parameter
from labnet.devices.simulated.camera import Camera
from labnet.devices.simulated.powermeter import PowerMeter
from labnet.devices.simulated.spectrometer import Spectrometer
from labnet.devices.simulated.stage import Stage
from labnet.errors import LabError
from labnet.lab import Lab, ServeOptions
from labnet.wires.pymodaq.codec import (
    Done,
    Generation,
    GetActuatorValue,
    Identify,
    Infos,
    InfoXml,
    Kind,
    MoveAbs,
    MoveHome,
    MoveRel,
    PositionIs,
    SendData,
    SetInfo,
    Setting,
    StopMotion,
    position,
    read_settings,
    write_settings,
)
from labnet.wires.pymodaq.dialler import SETTLING, Options, kind_of, module_maker
from tests.wires.pymodaq_toy import Program, shown


class Bench(Device):
    """Parameters of all kinds, and sub-devices."""

    count = parameter(int, initial=3, limits=(0, 10))
    on = parameter(bool, initial=True)
    mode = parameter(choices=("slow", "fast"), initial="fast")
    label = parameter(str, initial="µ & <b>")
    gain = parameter(float, unit="dB", initial=1.5, limits=(0.0, None))
    serial = parameter(str, initial="S1", access="r")
    reading = parameter(float, initial=0.25, access="r", unit="V")
    level = parameter(float, initial=0.5, access="r", unit="V")
    phase = parameter(complex, initial=1 + 2j, access="r")
    units = parameter(str, initial="own")
    trace = parameter(list, initial=[1])

    def __init__(self) -> None:
        self.ch = {1: Channel(), 2: Channel()}

    @command
    def broken(self) -> float:
        """Fails."""
        raise ValueError("internal")


class Channel(Device):
    """A part."""

    volts = parameter(float, initial=2.0, unit="V")


class LabCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.lab = Lab(self.clock)
        self.addCleanup(self.lab.stop)
        stage = Stage(10.0, clock=self.clock)
        for name, device in (
            ("stage", stage),
            ("camera", Camera(stage, clock=self.clock)),
            ("spectrometer", Spectrometer(clock=self.clock)),
            ("powermeter", PowerMeter(clock=self.clock)),
            ("bench", Bench()),
        ):
            self.lab.attach(name, device)

    def program(self, device: str, generation: Generation = Generation.C4, **keys: Any) -> Program:
        common = ServeOptions("offer", device)
        make = module_maker(self.lab, "127.0.0.1:6341", common, Options(**keys))
        self.module = make()
        return Program(self.module, generation, self.clock)

    def tree(self, program: Program, kind: Kind) -> Setting:
        first, infos = program.heard()
        self.assertEqual(first, Identify(kind))
        assert isinstance(infos, Infos)
        return read_settings(infos.xml)


class KindTests(LabCase):
    def kind(self, path: str, **keys: Any) -> Kind:
        return kind_of(self.lab.registry.find(path), Options(**keys))

    def test_what_each_is(self) -> None:
        self.assertEqual(self.kind("stage"), "ACTUATOR")
        self.assertEqual(self.kind("camera"), "GRABBER")
        self.assertEqual(self.kind("powermeter"), "GRABBER")
        self.assertEqual(self.kind("powermeter.wavelength"), "ACTUATOR")
        self.assertEqual(self.kind("bench.reading"), "GRABBER")
        self.assertEqual(self.kind("stage", as_="GRABBER"), "GRABBER")
        self.assertEqual(self.kind("stage", channels=("position",)), "GRABBER")

    def test_what_cannot_be(self) -> None:
        for device, keys, why in (
            ("bench", {"as_": "ACTUATOR"}, "bench has no parameter position; name the parameter"),
            ("bench.label", {"as_": "ACTUATOR"}, "bench.label is no number that can be moved"),
            ("bench.ch[1]", {"as_": "GRABBER"}, "ch[1] has no command grab, and no numbers"),
            ("bench", {"channels": ("nothing",)}, "unknown name in bench: 'nothing'"),
        ):
            with self.assertRaises(LabError) as caught:
                self.program(device, **keys)
            self.assertIn(why, str(caught.exception))


class StageTests(LabCase):
    def test_settings(self) -> None:
        tree = self.tree(self.program("stage"), "ACTUATOR")
        self.assertEqual(tree.name, "move_settings")
        values = {child.name: child.value for child in tree.children}
        self.assertEqual(values["units"], "mm")
        self.assertEqual(values["velocity"], 100.0)
        self.assertNotIn("position", values)
        self.assertNotIn("moving", values)
        self.assertNotIn("target", values)
        velocity = tree.child("velocity")
        assert velocity is not None
        self.assertEqual((velocity.limits, velocity.readonly), ([0.1, 100.0], False))
        self.assertEqual(velocity.title, "Velocity (mm/s):")

    def test_a_move(self) -> None:
        for generation in Generation:
            program = self.program("stage", generation)
            program.heard()
            self.assertEqual(program.orders(MoveAbs(position(30.0))), [])
            answers = shown(program.heard(1.0))
            self.assertEqual(answers[-1], ("move_done", 30.0))
            self.assertEqual({word for word, _ in answers[:-1]}, {"position_is"})
            program.orders(MoveRel(position(-20.0)))
            self.assertEqual(shown(program.heard(1.0))[-1], ("move_done", 10.0))
            program.protocol.quit()

    def test_home_and_stop(self) -> None:
        program = self.program("stage")
        program.heard()
        program.orders(MoveHome())
        self.assertEqual(shown(program.heard(1.0))[-1], ("move_done", 0.0))
        program.orders(MoveAbs(position(100.0)))
        program.heard(0.25)
        program.orders(StopMotion())
        *_, where, why = shown(program.heard(1.0))
        self.assertEqual(where[0], "position_is")
        self.assertIn("stopped at", why[1])
        self.assertLess(where[1], 90.0)

    def test_out_of_range(self) -> None:
        program = self.program("stage")
        program.heard()
        answers = program.orders(MoveAbs(position(300.0)))
        self.assertEqual(
            shown(answers),
            [("position_is", 10.0), ("Info", "position takes 0 to 100, not 300.0")],
        )

    def test_under_the_lock_of_another(self) -> None:
        """The unmoved position and who holds it; never ``move_done``; free again, it moves."""
        program = self.program("stage")
        program.heard()
        other = self.lab.open_session("plesty", "127.0.0.1:9", name="alice")
        self.successResultOf(other.lock(["stage"]))
        where, why = shown(program.orders(MoveAbs(position(30.0))))
        self.assertEqual(where, ("position_is", 10.0))
        self.assertIn("stage is locked by alice (plesty", why[1])
        self.assertEqual(program.heard(2.0), [])
        setting = Setting("velocity", "float", 5.0)
        why, old = program.orders(SetInfo(("velocity",), write_settings(setting)))
        self.assertIn("by alice (plesty", shown([why])[0][1])
        assert isinstance(old, InfoXml)
        self.assertEqual(read_settings(old.xml).value, 100.0)
        other.close()
        program.orders(MoveAbs(position(30.0)))
        self.assertEqual(shown(program.heard(1.0))[-1], ("move_done", 30.0))

    def test_settings_from_both_sides(self) -> None:
        program = self.program("stage")
        program.heard()
        setting = Setting("velocity", "float", 50.0)
        order = SetInfo(("move_settings", "velocity"), write_settings(setting))
        self.assertEqual(shown(program.orders(order)), ["Info_xml"])
        stage: Any = self.lab.devices()["stage"].device
        self.assertEqual(stage.velocity, 50.0)
        self.assertEqual(program.heard(SETTLING * 2), [])
        other = self.lab.open_session("scpi", "127.0.0.1:9")
        for value in (10.0, 20.0, 30.0):
            other.set("stage.velocity", value)
        (told,) = program.heard(SETTLING * 2)
        assert isinstance(told, InfoXml)
        self.assertEqual(told.path, ("move_settings", "velocity"))
        self.assertEqual(read_settings(told.xml).value, 30.0)

    def test_limits_that_move(self) -> None:
        program = self.program("stage")
        program.heard()
        stage: Any = self.lab.devices()["stage"].device
        stage.change("velocity", limits=(1.0, 50.0))
        (told,) = program.heard(SETTLING * 2)
        assert isinstance(told, InfoXml)
        self.assertEqual(read_settings(told.xml).limits, [1.0, 50.0])

    def test_a_device_that_is_lost(self) -> None:
        program = self.program("stage")
        program.heard()
        self.lab.lose(self.lab.devices()["stage"], "unplugged")
        lost = "stage is not connected: unplugged"
        self.assertEqual(shown(program.orders(GetActuatorValue())), [("Info", lost)])
        answers = shown(program.orders(MoveAbs(position(20.0))))
        self.assertEqual(answers, [("Info", lost)] * 2)

    def test_a_device_that_comes_later(self) -> None:
        """Its settings are told when it is there; changes reach it, and are told, from then on."""
        node = self.lab.devices()["stage"]
        self.lab.lose(node, "switched off")
        program = self.program("stage")
        tree = self.tree(program, "ACTUATOR")
        self.assertEqual([child.name for child in tree.children], ["units"])
        stage: Any = node.device
        for _ in range(2):
            stage.back()
            (infos,) = program.heard(SETTLING * 2)
            assert isinstance(infos, Infos)
            velocity = read_settings(infos.xml).child("velocity")
            assert velocity is not None
            self.assertEqual(velocity.value, stage.velocity)
            setting = Setting("velocity", "float", stage.velocity / 2)
            order = SetInfo(("velocity",), write_settings(setting))
            self.assertEqual(shown(program.orders(order)), ["Info_xml"])
            self.assertEqual(stage.velocity, setting.value)
            program.heard(SETTLING * 2)
            self.lab.lose(node, "switched off")
        self.assertEqual(self.lab.updates.count, 2)

    def test_a_detector_that_comes_later(self) -> None:
        node = self.lab.devices()["camera"]
        self.lab.lose(node, "switched off")
        program = self.program("camera")
        self.assertEqual(self.tree(program, "GRABBER").children, ())
        node.device.back()
        (infos,) = program.heard(SETTLING * 2)
        assert isinstance(infos, Infos)
        self.assertIsNotNone(read_settings(infos.xml).child("exposure"))

    def test_a_unit_that_changes(self) -> None:
        program = self.program("stage")
        program.heard()
        stage: Any = self.lab.devices()["stage"].device
        stage.change("position", unit="um")
        (infos,) = program.heard(SETTLING * 2)
        assert isinstance(infos, Infos)
        units = read_settings(infos.xml).child("units")
        assert units is not None
        self.assertEqual(units.value, "um")
        (where,) = program.orders(GetActuatorValue())
        assert isinstance(where, PositionIs)
        self.assertEqual(where.position.units, "um")
        *_, why = shown(program.orders(MoveAbs(position(20.0, "mm"))))
        self.assertEqual(why, ("Info", "stage is moved in um, not in mm"))

    def test_the_end_of_the_connection_ends_the_session(self) -> None:
        program = self.program("stage")
        program.heard()
        program.protocol.quit()
        session = self.module._session  # type: ignore[attr-defined]
        self.assertTrue(session.closed)
        self.assertEqual(self.lab.updates.count, 0)

    def test_positions_pushed(self) -> None:
        module = module_maker(self.lab, "x", ServeOptions("s", "stage"), Options())()
        program = Program(module, Generation.D, self.clock, push_positions=True)
        program.heard()
        other = self.lab.open_session("scpi", "127.0.0.1:9")
        other.call("stage.move_abs", 60.0)
        answers = shown(program.heard(1.0))
        self.assertGreater(len(answers), 1)
        self.assertEqual(answers[-1], ("position_is", 60.0))


class NumberTests(LabCase):
    def test_a_parameter_as_an_actuator(self) -> None:
        program = self.program("powermeter.wavelength")
        tree = self.tree(program, "ACTUATOR")
        self.assertEqual([child.name for child in tree.children][:1], ["units"])
        units = tree.child("units")
        assert units is not None
        self.assertEqual(units.value, "nm")
        self.assertEqual(shown(program.orders(MoveAbs(position(500.0)))), [("move_done", 500.0)])
        self.assertEqual(shown(program.orders(MoveRel(position(10.0)))), [("move_done", 510.0)])
        where, why = shown(program.orders(MoveHome()))
        self.assertEqual(where, ("position_is", 510.0))
        self.assertIn("no command that moves it home", why[1])


class DetectorTests(LabCase):
    def grabbed(self, program: Program, wait: float = 0.0) -> Any:
        answers = program.orders(SendData("2D")) or program.heard(wait)
        (done,) = answers
        assert isinstance(done, Done), done
        return done.frame

    def test_a_camera(self) -> None:
        for generation in Generation:
            program = self.program("camera", generation)
            self.tree(program, "GRABBER")
            program.orders(SendData("2D"))
            *axes, done = program.heard(0.125)
            self.assertEqual(shown(axes), [] if generation.objects else ["x_axis", "y_axis"])
            assert isinstance(done, Done)
            (array,) = done.frame.arrays
            self.assertEqual((array.shape, array.dtype), ((512, 512), np.dtype("<u2")))
            self.assertGreater(array.max(), 1000)

    def test_a_spectrometer(self) -> None:
        program = self.program("spectrometer")
        self.tree(program, "GRABBER")
        (data,) = self.grabbed(program, 0.125).data
        self.assertEqual((data.dim, data.units, data.labels), ("Data1D", "counts", ("intensity",)))
        (axis,) = data.axes
        self.assertEqual((axis.label, axis.units, axis.data.size), ("wavelength", "nm", 2048))

    def test_numbers(self) -> None:
        program = self.program("powermeter", channels=("power",))
        self.tree(program, "GRABBER")
        (data,) = self.grabbed(program).data
        self.assertEqual((data.dim, data.units), ("Data0D", "W"))
        self.assertGreater(data.value, 0)

    def test_a_list_is_one_channel(self) -> None:
        program = self.program("bench", channels=("trace",))
        self.tree(program, "GRABBER")
        self.lab.devices()["bench"].device.trace = [1, 2.5, 4]  # type: ignore[attr-defined]
        (data,) = self.grabbed(program).data
        self.assertEqual([array.tolist() for array in data.data], [[1.0, 2.5, 4.0]])
        self.lab.devices()["bench"].device.trace = [[1], [2, 3]]  # type: ignore[attr-defined]
        ((_, why),) = shown(program.orders(SendData("1D")))
        self.assertIn("different lengths", why)

    def test_all_that_is_measured(self) -> None:
        program = self.program("bench")
        self.tree(program, "GRABBER")
        frame = self.grabbed(program)
        found = {data.units: (data.labels, [a.tolist() for a in data.data]) for data in frame.data}
        self.assertEqual(found["V"], (("reading", "level"), [[0.25], [0.5]]))
        self.assertEqual(found[""], (("phase",), [[1 + 2j]]))

    def test_failures(self) -> None:
        program = self.program("bench", channels=("broken",))
        program.heard()
        (why,) = shown(program.orders(SendData("0D")))
        self.assertEqual(why[0], "Info")
        self.assertNotIn("Traceback", why[1])
        self.flushLoggedErrors()

    def test_settings_of_all_kinds(self) -> None:
        program = self.program("bench")
        tree = self.tree(program, "GRABBER")
        found = {".".join(path): (s.type, s.value, s.readonly) for path, s in tree.walk()}
        self.assertEqual(
            found,
            {
                "count": ("int", 3, False), "on": ("bool", True, False),
                "mode": ("list", "fast", False), "label": ("str", "µ & <b>", False),
                "gain": ("float", 1.5, False), "serial": ("str", "S1", True),
                "units": ("str", "own", False), "ch1.volts": ("float", 2.0, False),
                "ch2.volts": ("float", 2.0, False),
            },
        )  # fmt: skip
        mode, gain = tree.child("mode"), tree.child("gain")
        assert mode is not None and gain is not None
        self.assertEqual((mode.limits, gain.limits), (["slow", "fast"], None))
        bench: Any = self.lab.devices()["bench"].device
        for path, kind, value in (
            (("count",), "int", 7), (("on",), "bool", False), (("mode",), "list", "slow"),
            (("label",), "str", "new"), (("detector_settings", "ch2", "volts"), "float", 4.0),
        ):  # fmt: skip
            order = SetInfo(path, write_settings(Setting(path[-1], kind, value)))
            self.assertEqual(shown(program.orders(order)), ["Info_xml"])
        self.assertEqual((bench.count, bench.on, bench.mode), (7, False, "slow"))
        self.assertEqual(bench.label, "new")
        self.assertEqual(bench.ch[2].volts, 4.0)

    def test_values_that_do_not_fit(self) -> None:
        program = self.program("bench")
        program.heard()
        for path, kind, value, why in (
            ("count", "int", 70, "count takes 0 to 10, not 70"),
            ("mode", "list", "x", "mode takes one of slow, fast"),
            ("serial", "str", "x", "serial can only be read"),
        ):
            order = SetInfo((path,), write_settings(Setting(path, kind, value)))
            said, old = program.orders(order)
            self.assertIn(why, shown([said])[0][1])
            self.assertIsInstance(old, InfoXml)
        broken = SetInfo(("count",), '<count type="int">many</count>')
        self.assertIn("that is no int", shown(program.orders(broken))[0][1])

    def test_a_unit_of_an_actuator_among_settings(self) -> None:
        """The setting that PyMoDAQ reads the units of is there, beside the device's own."""
        tree = self.tree(self.program("bench.gain"), "ACTUATOR")
        names = {child.name: child.value for child in tree.children}
        self.assertEqual((names["units"], names["units_"]), ("dB", "own"))
        self.assertNotIn("gain", names)

