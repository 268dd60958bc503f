"""PyMoDAQ's hardware side against a program that gives orders, in all generations."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import BadArguments, DeviceFault
from labnet.values import Axis as LabAxis
from labnet.values import LabeledArray
from labnet.wires.pymodaq.codec import (
    CheckPosition,
    Data,
    Done,
    Generation,
    GetActuatorValue,
    Identify,
    Info,
    Infos,
    InfoXml,
    MoveAbs,
    MoveDone,
    MoveHome,
    MoveRel,
    PositionIs,
    Quit,
    SendData,
    SetInfo,
    Setting,
    StopMotion,
    XAxis,
    YAxis,
    encode_bytes,
    position,
    read_settings,
    write_settings,
)
from labnet.wires.pymodaq.hardware import DRAIN, WAITING
from labnet.wires.pymodaq.offered import frame_of, module_of
from tests.wires.pymodaq_toy import Eye, Program, Slide, shown
from tests.wires.vectors import records

A, B, C1, C2, C3, C4, D = Generation


class ActuatorTests(SynchronousTestCase):
    def program(self, generation: Generation = C4, **manners: Any) -> Program:
        self.clock = Clock()
        self.slide = Slide(self.clock)
        return Program(self.slide, generation, self.clock, **manners)

    def test_the_first_words(self) -> None:
        for generation in Generation:
            first, infos = self.program(generation).heard()
            self.assertEqual(first, Identify("ACTUATOR"))
            assert isinstance(infos, Infos)
            tree = read_settings(infos.xml)
            self.assertEqual(tree.name, "move_settings")
            self.assertEqual([child.name for child in tree.children], ["units", "velocity", "deep"])

    def test_they_leave_in_two_messages_at_once(self) -> None:
        program = self.program()
        self.assertTrue(program.transport.value().startswith(b"\0\0\0\x08ACTUATOR\0\0\0\x05Infos"))

    def test_both_questions_for_the_position(self) -> None:
        for generation in Generation:
            program = self.program(generation)
            program.heard()
            answers = program.orders(CheckPosition(), GetActuatorValue())
            self.assertEqual(shown(answers), [("position_is", 1.25)] * 2)
            (first, _) = answers
            assert isinstance(first, PositionIs)
            known = generation in (C4, D)
            self.assertEqual(first.position.units, "mm" if known else "")
            self.assertEqual(first.position.timestamp > 1.6e9, generation.objects)

    def test_a_move(self) -> None:
        for generation in Generation:
            program = self.program(generation, report=0.5)
            program.heard()
            self.assertEqual(program.orders(MoveAbs(position(3.25))), [])
            self.assertEqual(
                shown(program.heard(2.5)),
                [("position_is", 1.25), ("position_is", 2.25), ("position_is", 2.25),
                 ("move_done", 3.25)],
            )  # fmt: skip
            self.assertEqual(program.heard(5.0), [])

    def test_a_move_by_a_distance(self) -> None:
        program = self.program(report=10.0)
        program.heard()
        program.orders(MoveRel(position(-0.25, "mm")))
        self.assertEqual(shown(program.heard(2.0)), [("move_done", 1.0)])

    def test_home(self) -> None:
        program = self.program()
        program.heard()
        self.assertEqual(shown(program.orders(MoveHome())), [("move_done", 0.0)])

    def test_stop_is_not_answered(self) -> None:
        program = self.program()
        program.heard()
        self.assertEqual(program.orders(StopMotion(), StopMotion()), [])
        self.assertEqual(self.slide.stopped, 2)

    def test_questions_during_a_move_are_answered(self) -> None:
        program = self.program(report=10.0)
        program.heard()
        program.orders(MoveAbs(position(3.25)))
        program.heard(1.0)
        self.assertEqual(shown(program.orders(GetActuatorValue())), [("position_is", 2.25)])

    def test_a_refused_move(self) -> None:
        """The position that it still has, the reason, and never ``move_done``."""
        for generation in Generation:
            program = self.program(generation)
            self.slide.broken = "slide is locked by somebody"
            program.heard()
            reason = [("Info", "slide is locked by somebody")] * (generation is not A)
            answers = program.orders(MoveAbs(position(3.0)))
            self.assertEqual(shown(answers), [("position_is", 1.25), *reason])
            self.assertEqual(program.heard(3.0), [])

    def test_orders_that_make_no_sense(self) -> None:
        program = self.program()
        program.heard()
        for order, why in (
            (MoveAbs(position(float("nan"))), "slide cannot be moved to nan"),
            (MoveAbs(position(float("inf"))), "slide cannot be moved to inf"),
            (MoveAbs(position(1.0, "km")), "slide is moved in mm, not in km"),
            (MoveAbs(Data("", ())), "slide: a move without a number"),
        ):
            self.assertEqual(
                shown(program.orders(order)), [("position_is", 1.25), ("Info", why)]
            )
        self.assertEqual(
            shown(program.orders(SendData("0D"))),
            [("Info", "slide is an actuator; nothing can be grabbed from it")],
        )

    def test_a_fault_of_the_program_of_the_user(self) -> None:
        """No internals on the wire; the log has all of it."""
        program = self.program()
        program.heard()
        self.slide.position = lambda: 1 / 0  # type: ignore[method-assign]
        answers = program.orders(GetActuatorValue())
        self.assertEqual(shown(answers), [("Info", "slide has failed")])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_positions_that_nobody_reports(self) -> None:
        """An actuator that does not say by itself that it has moved is looked at now and then."""
        program = self.program(D, push_positions=True)
        *_, first = program.heard()
        self.assertEqual(shown([first]), [("position_is", 1.25)])
        self.assertEqual(program.heard(3.0), [])
        self.slide.at = 7.0
        self.assertEqual(shown(program.heard(3.0)), [("position_is", 7.0)])

    def test_positions_that_change_by_themselves(self) -> None:
        program = self.program(D, push_positions=True, report=0.2)
        program.heard()
        for where in (2.0, 3.0, 4.0):
            self.slide.at = where
            self.slide.moved(where)
        self.assertEqual(shown(program.heard(1.0)), [("position_is", 4.0)])
        self.slide.moved(4.0)
        self.assertEqual(program.heard(1.0), [])

    def test_they_are_not_told_unless_that_is_wanted(self) -> None:
        program = self.program()
        program.heard()
        self.slide.moved(2.0)
        self.assertEqual(program.heard(1.0), [])


class SettingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.slide = Slide(self.clock)

    def program(self, generation: Generation = C4) -> Program:
        program = Program(self.slide, generation, self.clock)
        program.heard()
        return program

    def set(self, path: tuple[str, ...], setting: Setting) -> SetInfo:
        return SetInfo(path, write_settings(setting))

    def test_set_by_the_program(self) -> None:
        """With and without the group in front, in all generations."""
        for generation in Generation:
            program = self.program(generation)
            for path, value in ((("velocity",), 5.0), (("move_settings", "velocity"), 6.0)):
                answers = program.orders(self.set(path, Setting("velocity", "float", value)))
                (taken,) = answers
                assert isinstance(taken, InfoXml)
                self.assertEqual(read_settings(taken.xml).value, value)
                self.assertEqual(self.slide.velocity, value)

    def test_what_became_of_it_is_told(self) -> None:
        (answer,) = self.program().orders(
            self.set(("velocity",), Setting("velocity", "float", 99.0))
        )
        assert isinstance(answer, InfoXml)
        self.assertEqual(answer.path, ("move_settings", "velocity"))
        self.assertEqual(read_settings(answer.xml).value, 10.0)

    def test_refused(self) -> None:
        why, old = self.program().orders(self.set(("deep", "inner"), Setting("inner", "int", 9)))
        self.assertEqual(why, Info("problem", "inner is fixed"))
        assert isinstance(old, InfoXml)
        self.assertEqual(old.path, ("move_settings", "deep", "inner"))
        self.assertEqual(read_settings(old.xml).value, 7)

    def test_settings_that_are_none(self) -> None:
        program = self.program()
        for order in (
            self.set(("nothing",), Setting("nothing", "int", 1)),
            self.set(("deep",), Setting("deep", "group")),
            self.set((), Setting("deep", "group")),
            SetInfo(("velocity",), "<velocity"),
            SetInfo(("velocity",), '<velocity type="float">fast</velocity>'),
            self.set(("velocity",), Setting("velocity", "str", "fast")),
            SetInfo(("velocity",), '<!DOCTYPE a [<!ENTITY b "c">]><velocity>&b;</velocity>'),
        ):
            (answer,) = program.orders(order)
            self.assertIsInstance(answer, Info)
        self.assertEqual(self.slide.velocity, 2.0)

    def test_a_change_here_is_told_once(self) -> None:
        program = self.program()
        self.slide.setting_changed(("velocity",), Setting("velocity", "float", 3.0))
        self.slide.setting_changed(("velocity",), Setting("velocity", "float", 3.0))
        (told,) = program.heard()
        assert isinstance(told, InfoXml)
        self.assertEqual(told.path, ("move_settings", "velocity"))
        self.assertEqual(read_settings(told.xml).value, 3.0)

    def test_the_echo_of_a_program_changes_nothing(self) -> None:
        """PyMoDAQ's program sends back what it is told; else the two would never come to rest."""
        program = self.program()
        self.slide.setting_changed(("velocity",), Setting("velocity", "float", 3.0))
        program.heard()
        echo = self.set(("velocity",), Setting("velocity", "float", 3.0))
        self.assertEqual(program.orders(echo), [])
        self.assertEqual(self.slide.velocity, 2.0)


class GrabberTests(SynchronousTestCase):
    def program(self, generation: Generation = C4, **manners: Any) -> Program:
        self.eye = Eye()
        program = Program(self.eye, generation, **manners)
        first, infos = program.heard()
        self.assertEqual(first, Identify("GRABBER"))
        assert isinstance(infos, Infos)
        self.assertEqual(read_settings(infos.xml).name, "detector_settings")
        return program

    def test_each_generation(self) -> None:
        for generation in Generation:
            program = self.program(generation)
            (done,) = program.orders(SendData("2D"))
            assert isinstance(done, Done)
            (array,) = done.frame.arrays
            self.assertEqual(array.tolist(), [[0, 1, 2], [3, 4, 5]])
            self.assertEqual(self.eye.asked, ["2D"])
            if generation.objects:
                (data,) = done.frame.data
                self.assertEqual((data.name, data.dim, data.labels), ("eye", "Data2D", ("eye",)))
                shown_by = {C1: {}, C2: {"plot": True, "save": True}}
                both = {"do_plot": True, "do_save": True}
                self.assertEqual(dict(data.extra), shown_by.get(generation, both))

    def test_all_dimensions(self) -> None:
        for data, dim, shape in (
            (2.5, "Data0D", (1,)), (True, "Data0D", (1,)), (np.arange(5), "Data1D", (5,)),
            (np.zeros((3, 4), np.uint16), "Data2D", (3, 4)), (np.zeros((2, 3, 4)), "DataND",
                                                                (2, 3, 4)),
        ):  # fmt: skip
            program = self.program()
            self.eye.gives = data
            (done,) = program.orders(SendData("0D"))
            assert isinstance(done, Done)
            (found,) = done.frame.data
            self.assertEqual((found.dim, found.data[0].shape), (dim, shape))
            self.assertEqual(found.nav_indexes, tuple(range(len(shape) - 2)))

    def test_axes(self) -> None:
        axes = (LabAxis("y", "um", np.arange(2)), LabAxis("x", "mm", np.arange(3) / 2))
        image = LabeledArray(np.ones((2, 3)), "image", "counts", axes)
        for generation in (C1, C4, D):
            program = self.program(generation)
            self.eye.gives = image
            (done,) = program.orders(SendData("2D"))
            assert isinstance(done, Done)
            (data,) = done.frame.data
            self.assertEqual([(a.label, a.units, a.index) for a in data.axes],
                             [("y", "um", 0), ("x", "mm", 1)])  # fmt: skip
            self.assertEqual(data.axes[1].data.tolist(), [0, 0.5, 1])
            self.assertEqual(data.units, "" if generation is C1 else "counts")

    def test_axes_of_old_generations_come_before_the_frame_and_once(self) -> None:
        axes = (LabAxis("y", "um", np.arange(2)), LabAxis("x", "mm", np.arange(3)))
        for generation in (A, B):
            program = self.program(generation)
            self.eye.gives = LabeledArray(np.ones((2, 3)), "image", "counts", axes)
            x, y, done = program.orders(SendData("2D"))
            assert isinstance(x, XAxis) and isinstance(y, YAxis) and isinstance(done, Done)
            self.assertEqual((x.axis.label, x.axis.units, x.axis.data.size), ("x", "mm", 3))
            self.assertEqual((y.axis.label, y.axis.units, y.axis.data.size), ("y", "um", 2))
            self.assertEqual(shown(program.orders(SendData("2D"))), ["Done"])

    def test_several_channels(self) -> None:
        program = self.program()
        self.eye.gives = {"a": 1.0, "b": 2, "c": np.arange(3)}
        (done,) = program.orders(SendData("0D"))
        assert isinstance(done, Done)
        numbers, line = done.frame.data
        self.assertEqual((numbers.labels, line.labels), (("a", "b"), ("c",)))
        self.assertEqual([array.tolist() for array in numbers.data], [[1.0], [2.0]])

    def test_failures(self) -> None:
        for error, why in (
            (DeviceFault("no light"), "no light"),
            (ValueError("internal"), "eye has failed"),
        ):
            program = self.program()
            self.eye.gives = error
            self.assertEqual(shown(program.orders(SendData("0D"))), [("Info", why)])
        self.flushLoggedErrors(ValueError)
        for data in ("text", np.array(["a"]), object(), [["a"]], np.zeros(2, "M8[s]")):
            program = self.program()
            self.eye.gives = data
            self.assertIn("PyMoDAQ knows no", shown(program.orders(SendData("0D")))[0][1])

    def test_one_after_the_other(self) -> None:
        from twisted.internet.defer import Deferred

        program = self.program()
        self.eye.gives = first = Deferred()
        self.assertEqual(program.orders(SendData("0D"), SendData("1D")), [])
        self.assertEqual(self.eye.asked, ["0D"])
        self.eye.gives = 2.0
        first.callback(1.0)
        self.assertEqual(self.eye.asked, ["0D", "1D"])
        values = [done.frame.data[0].value for done in program.heard()]  # type: ignore[attr-defined]
        self.assertEqual(values, [1.0, 2.0])

    def test_frames_that_nobody_asked_for(self) -> None:
        program = self.program(D, push_frames=0.5)
        self.assertEqual(len(program.heard(2.0)), 4)
        self.eye.grabbed([1.0, 2.0])
        (done,) = program.heard()
        assert isinstance(done, Done)
        self.assertEqual(done.frame.data[0].labels, ("CH00", "CH01"))

    def test_orders_for_an_actuator(self) -> None:
        program = self.program()
        answers = program.orders(MoveHome(), GetActuatorValue(), StopMotion())
        self.assertEqual([type(answer) for answer in answers], [Info] * 3)


class EndTests(SynchronousTestCase):
    """How it takes leave, and what a program that does not behave gets."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.slide = Slide(self.clock)
        self.program = Program(self.slide, C4, self.clock)
        self.program.heard()

    def test_quit_first(self) -> None:
        self.program.protocol.quit()
        self.assertEqual(self.program.heard(), [Quit()])
        self.assertTrue(self.program.transport.disconnecting)
        self.slide.moved(1.0)
        self.program.protocol.quit()
        self.assertEqual(self.program.heard(1.0), [])

    def test_a_program_that_does_not_read_the_end(self) -> None:
        aborted = []
        self.program.protocol.abort = lambda: aborted.append(True)  # type: ignore[method-assign]
        self.program.protocol.quit()
        self.clock.advance(DRAIN)
        self.assertEqual(aborted, [True])

    def test_the_connection_ends_in_a_move(self) -> None:
        self.program.orders(MoveAbs(position(3.0)))
        self.program.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.program.heard(), [])

    def test_garbage(self) -> None:
        self.program.protocol.dataReceived(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(self.program.heard(), [Quit()])
        self.assertTrue(self.program.transport.disconnecting)

    def test_an_unknown_word_in_each_generation(self) -> None:
        for generation in Generation:
            program = Program(Slide(self.clock), generation, self.clock)
            program.heard()
            program.protocol.dataReceived(encode_bytes(Info("a", "b"), B))
            self.assertEqual(program.heard()[-1], Quit())

    def test_too_many_orders_are_not_read(self) -> None:
        for _ in range(WAITING):
            self.program.orders(MoveAbs(position(3.0)))
        self.assertEqual(self.program.transport.producerState, "paused")
        self.program.heard(2.0)
        self.assertEqual(self.program.transport.producerState, "producing")

    def test_a_silent_program(self) -> None:
        program = Program(Slide(self.clock), C4, self.clock, idle=10.0)
        program.heard(9.0)
        program.orders(GetActuatorValue())
        self.assertEqual(program.heard(9.5), [])
        self.assertEqual(program.heard(1.0), [Quit()])


class AnyObjectTests(SynchronousTestCase):
    """Objects that know nothing of labnet."""

    def test_an_actuator(self) -> None:
        class Motor:
            units = "deg"
            position = 1.0

            async def move_abs(self, angle: float) -> None:
                self.position = angle

            def home(self) -> None:
                self.position = 0.0

        motor = Motor()
        program = Program(module_of(motor))
        program.heard()
        answers = program.orders(
            MoveAbs(position(4.0)), MoveRel(position(1.5, "deg")), MoveHome(), StopMotion()
        )
        self.assertEqual(
            shown(answers),
            [("move_done", 4.0), ("move_done", 5.5), ("move_done", 0.0),
             ("Info", "Motor cannot be stopped")],
        )  # fmt: skip
        (first, *_) = answers
        assert isinstance(first, MoveDone)
        self.assertEqual(first.position.units, "deg")

    def test_a_detector(self) -> None:
        class Meter:
            name = "meter"

            def grab(self) -> list[float]:
                return [1.0, 2.0]

        program = Program(module_of(Meter()))
        self.assertEqual(program.heard()[0], Identify("GRABBER"))
        self.assertEqual(shown(program.orders(SendData("0D"))), ["Done"])

    def test_neither(self) -> None:
        for target, kind in ((object(), None), (Eye(), None), (object(), "ACTUATOR")):
            if isinstance(target, Eye):
                self.assertIs(module_of(target), target)
                continue
            with self.assertRaises(BadArguments):
                module_of(target, kind)  # type: ignore[arg-type]

    def test_frames_are_left_as_they_are(self) -> None:
        frame = frame_of(Data("a", (np.zeros(1),)), "eye")
        self.assertIs(frame_of(frame, "other"), frame)
        self.assertEqual(frame_of(frame.data, "eye").data, frame.data)


class DamagedOrderTests(SynchronousTestCase):
    """Ten thousand orders that went wrong on their way, beside a program that behaves."""

    def test_damaged_orders(self) -> None:
        chance = random.Random(6341)
        clock = Clock()
        orders = [
            (bytes.fromhex(record["bytes"]), Generation[record["generation"]])
            for record in records("pymodaq")
            if record["direction"] == "s2c"
        ]
        slide, eye = Slide(clock), Eye()
        good = Program(slide, C4, clock)
        good.heard()
        for number in range(10_000):
            order, generation = chance.choice(orders)
            damaged = bytearray(order * chance.randint(1, 2))
            for _ in range(chance.randint(1, 5)):
                at = chance.randrange(len(damaged))
                damaged[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
            module = slide if number % 2 else eye
            bad = Program(module, generation, clock)
            bad.protocol.dataReceived(bytes(damaged))
            self.assertLess(bad.protocol._decoder.pending, 1 << 20)
            bad.protocol.connectionLost(Failure(ConnectionDone()))
            if number % 500 == 0:
                self.assertEqual(good.orders(GetActuatorValue())[0].spoken, "position_is")
        self.assertEqual(slide._links, {good.protocol})
        self.assertEqual(eye._links, set())
        good.protocol.quit()
        clock.advance(DRAIN)
        self.assertEqual(clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])
