"""The controlling side against modules played by the test, on a clock that the test moves."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import (
    BadArguments,
    DeviceFault,
    NotConnected,
    NotWritable,
    TimedOut,
    UnknownName,
    WrongType,
)
from labnet.wires.pymodaq.codec import (
    PROBLEM,
    Axis,
    CheckPosition,
    Generation,
    GetActuatorValue,
    Info,
    MoveAbs,
    MoveHome,
    MoveRel,
    Quit,
    SendData,
    SetInfo,
    Status,
    StopMotion,
    XAxis,
    YAxis,
    encode_bytes,
    read_settings,
)
from labnet.wires.pymodaq.control import Actuator, Grabber, Manners, Modules
from tests.wires.pymodaq_module import SETTINGS, FakeModule

A, B, C1, C2, C3, C4, D = Generation


class ControlCase(SynchronousTestCase):
    """A factory of modules on a test clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.modules = self.new_modules()

    def new_modules(self, **manners: Any) -> Modules:
        self.modules = Modules(self.clock, Manners(**manners))
        return self.modules

    def pair(self, **about: Any) -> tuple[FakeModule, Any]:
        """A module and the proxy for it."""
        fake = FakeModule(self.modules, **about)
        return fake, self.successResultOf(self.modules.module())

    def advance(self, seconds: float) -> None:
        self.clock.pump([0.25] * round(seconds * 4))


class ArrivalTests(ControlCase):
    """Who dials in, and when it is handed on."""

    def test_waiting_for_one(self) -> None:
        wanted = Deferred.fromCoroutine(self.modules.grabber())
        FakeModule(self.modules)
        self.assertNoResult(wanted)
        FakeModule(self.modules, "GRABBER")
        self.assertIsInstance(self.successResultOf(wanted), Grabber)
        actuator = self.successResultOf(Deferred.fromCoroutine(self.modules.actuator()))
        self.assertIsInstance(actuator, Actuator)
        self.assertEqual((actuator.host, actuator.peer), ("127.0.0.1", "127.0.0.1:40000"))

    def test_who_gives_up_waiting_gets_none(self) -> None:
        wanted = self.modules.module()
        wanted.cancel()
        self.failureResultOf(wanted)
        self.pair()

    def test_one_without_settings_is_handed_on_after_a_while(self) -> None:
        FakeModule(self.modules, settings=None)
        wanted = self.modules.module()
        self.advance(0.75)
        self.assertNoResult(wanted)
        self.advance(0.5)
        self.assertIsNone(self.successResultOf(wanted).settings)

    def test_one_that_has_gone_is_not_handed_on(self) -> None:
        fake = FakeModule(self.modules)
        fake.say(Quit())
        fake.vanish()
        self.assertNoResult(self.modules.module())
        self.assertEqual(self.modules.connections, set())

    def test_one_that_never_says_what_it_is(self) -> None:
        fake = FakeModule.__new__(FakeModule)
        for beginning in (b"", b"\0\0\0\7GRAB"):
            FakeModule.__init__(fake, self.modules, settings=None)
            protocol: Any = self.modules.buildProtocol(fake.transport.getPeer())
            transport = type(fake.transport)()
            protocol.makeConnection(transport)
            if beginning:
                protocol.dataReceived(beginning)
            self.advance(10.5)
            self.assertTrue(transport.disconnected or transport.disconnecting)

    def test_all_end_with_the_listener(self) -> None:
        fakes = [self.pair()[0], FakeModule(self.modules)]
        self.modules.close()
        self.assertTrue(all(fake.dropped for fake in fakes))


class PositionTests(ControlCase):
    """Where an actuator is."""

    def test_asked(self) -> None:
        for generation in Generation:
            if generation in (C1, C2):
                self.new_modules(generation=generation)
            fake, actuator = self.pair(generation=generation)
            asked = actuator.position()
            word = GetActuatorValue if generation is D else CheckPosition
            self.assertIsInstance(fake.orders()[0], word)
            fake.is_at(1.25)
            self.assertEqual(self.successResultOf(asked), 1.25)
            self.assertIn(actuator.generation, (generation, None), generation)
            self.assertEqual(actuator.units, "mm")
            self.new_modules()

    def test_generations_that_tell(self) -> None:
        for generation in (C3, C4, D):
            fake, actuator = self.pair(generation=generation)
            fake.is_at(1.0)
            self.assertIs(actuator.generation, generation)

    def test_those_who_ask_together_get_one_answer(self) -> None:
        fake, actuator = self.pair()
        asked = [actuator.position() for _ in range(3)]
        self.assertEqual(len(fake.orders()), 1)
        fake.is_at(2.0)
        self.assertEqual([self.successResultOf(it) for it in asked], [2.0] * 3)

    def test_a_question_that_was_lost_is_asked_again(self) -> None:
        fake, actuator = self.pair()
        first = actuator.position()
        self.advance(2)
        second = actuator.position()
        self.assertEqual(len(fake.orders()), 2)
        fake.is_at(2.0)
        self.assertEqual([self.successResultOf(first), self.successResultOf(second)], [2.0, 2.0])

    def test_told_unasked(self) -> None:
        fake, actuator = self.pair()
        told: list[float] = []
        actuator.on_position = told.append
        fake.is_at(5.0)
        fake.is_at(6.0)
        self.assertEqual(told, [5.0, 6.0])
        self.assertEqual(actuator.last, 6.0)

    def test_it_cannot_say(self) -> None:
        fake, actuator = self.pair()
        asked = actuator.position()
        fake.say(Info(PROBLEM, "the stage is not connected"))
        error = self.failureResultOf(asked, DeviceFault)
        self.assertIn("the stage is not connected", error.getErrorMessage())
        again = actuator.position()
        fake.is_at(2.0)
        self.assertEqual(self.successResultOf(again), 2.0)

    def test_a_problem_that_may_be_one_of_a_setting(self) -> None:
        fake, actuator = self.pair()
        asked = actuator.position()
        actuator.set(["velocity"], 3.0)
        fake.say(Info(PROBLEM, "too fast"))
        self.assertNoResult(asked)
        fake.is_at(2.0)
        self.assertEqual(self.successResultOf(asked), 2.0)

    def test_the_other_word(self) -> None:
        self.new_modules(ask="get_actuator_value")
        fake, actuator = self.pair()
        actuator.position()
        self.assertIsInstance(fake.orders()[0], GetActuatorValue)

    def test_never_asked(self) -> None:
        self.new_modules(ask="none")
        fake, actuator = self.pair()
        self.failureResultOf(actuator.position(), DeviceFault)
        fake.is_at(3.0)
        self.assertEqual(self.successResultOf(actuator.position()), 3.0)
        self.assertEqual(fake.orders(), [])

    def test_big_endian_numbers(self) -> None:
        fake = FakeModule(self.modules, generation=B, settings=None)
        wanted = self.modules.module()
        self.advance(1)
        actuator = self.successResultOf(wanted)
        asked = actuator.position()
        number = np.array(2.5, ">f8").tobytes()
        fake.send(b"\0\0\0\x0bposition_is\0\0\0\3>f8\0\0\0\x08" + number)
        self.assertEqual(self.successResultOf(asked), 2.5)


class MoveTests(ControlCase):
    """Motions, and how they end."""

    def at_rest(self, **about: Any) -> tuple[FakeModule, Actuator]:
        fake, actuator = self.pair(**about)
        fake.is_at(1.0)
        fake.orders()
        return fake, actuator

    def test_move_abs(self) -> None:
        for generation in (B, C3, C4, D):
            fake, actuator = self.at_rest(generation=generation)
            moved = actuator.move_abs(3.25)
            (order,) = fake.orders()
            assert isinstance(order, MoveAbs)
            self.assertEqual(order.position.value, 3.25)
            if generation in (C4, D):
                self.assertEqual(order.position.units, "mm")
            fake.is_at(2.0)
            self.assertNoResult(moved)
            fake.has_moved(3.249)
            self.assertEqual(self.successResultOf(moved), 3.249)
            self.assertFalse(actuator.moving)

    def test_move_rel_and_home(self) -> None:
        fake, actuator = self.at_rest()
        moved = actuator.move_rel(-0.5)
        (order,) = fake.orders()
        assert isinstance(order, MoveRel)
        self.assertEqual(order.position.value, -0.5)
        fake.has_moved(0.5)
        self.assertEqual(self.successResultOf(moved), 0.5)
        home = actuator.move_home()
        self.assertIsInstance(fake.orders()[0], MoveHome)
        fake.has_moved(0.0)
        self.assertEqual(self.successResultOf(home), 0.0)

    def test_the_generation_is_found_out_first(self) -> None:
        fake, actuator = self.pair()
        moved = actuator.move_abs(3.0)
        self.assertIsInstance(fake.orders()[0], CheckPosition)
        fake.is_at(1.0)
        self.assertIsInstance(fake.orders()[0], MoveAbs)
        fake.has_moved(3.0)
        self.assertEqual(self.successResultOf(moved), 3.0)

    def test_a_program_that_knows_no_question(self) -> None:
        fake = FakeModule(self.modules, generation=B, settings=None)
        wanted = self.modules.module()
        self.advance(1)
        actuator = self.successResultOf(wanted)
        moved = actuator.move_abs(3.0)
        fake.orders()
        self.advance(2.5)
        orders = [order for order in fake.orders() if isinstance(order, MoveAbs)]
        self.assertEqual([order.position.value for order in orders], [3.0])
        fake.has_moved(3.0)
        self.assertEqual(self.successResultOf(moved), 3.0)

    def test_a_program_that_is_never_asked(self) -> None:
        self.new_modules(ask="none")
        fake = FakeModule(self.modules, generation=B, settings=None)
        wanted = self.modules.module()
        self.advance(1)
        moved = self.successResultOf(wanted).move_abs(3.0)
        self.assertIsInstance(fake.orders()[0], MoveAbs)
        self.advance(5)
        self.assertEqual(fake.orders(), [])
        fake.has_moved(3.0)
        self.assertEqual(self.successResultOf(moved), 3.0)

    def test_a_module_that_does_not_say_its_generation(self) -> None:
        _, actuator = self.pair()
        moved = actuator.move_abs(3.0)
        self.advance(2.5)
        error = self.failureResultOf(moved, TimedOut)
        self.assertIn("set generation", error.getErrorMessage())

    def test_one_motion_at_a_time(self) -> None:
        fake, actuator = self.at_rest()
        first = actuator.move_abs(3.0)
        refused = self.failureResultOf(actuator.move_abs(4.0), DeviceFault)
        self.assertIn("it is moving", refused.getErrorMessage())
        fake.has_moved(3.0)
        self.successResultOf(first)

    def test_no_number(self) -> None:
        _, actuator = self.at_rest()
        for wrong in (float("nan"), float("inf"), "far"):
            self.failureResultOf(actuator.move_abs(wrong), BadArguments)

    def test_silence_of_a_module_that_is_there_already(self) -> None:
        fake, actuator = self.at_rest()
        moved = actuator.move_abs(1.005)  # within its epsilon
        for _ in range(3):
            self.advance(1)
            fake.answer_questions(1.0)
        self.assertEqual(self.successResultOf(moved), 1.0)

    def test_silence_far_from_the_target_is_no_end(self) -> None:
        fake, actuator = self.at_rest()
        moved = actuator.move_abs(9.0)
        for _ in range(10):
            self.advance(1)
            fake.answer_questions(1.0)
        self.assertNoResult(moved)
        fake.has_moved(9.0)
        self.assertEqual(self.successResultOf(moved), 9.0)

    def test_home_that_nobody_reports(self) -> None:
        fake, actuator = self.at_rest()
        home = actuator.move_home()
        for place in (0.6, 0.3, 0.0, 0.0, 0.0):
            self.assertNoResult(home)
            self.advance(1)
            fake.answer_questions(place)
        self.advance(1)
        self.assertEqual(self.successResultOf(home), 0.0)

    def test_a_module_of_5_1_does_not_move(self) -> None:
        fake, actuator = self.at_rest(generation=D)
        moved = actuator.move_abs(9.0)
        for _ in range(6):
            self.advance(1)
            fake.answer_questions(1.0)
        fault = self.failureResultOf(moved, DeviceFault)
        self.assertIn("it does not move", fault.getErrorMessage())

    def test_stopped(self) -> None:
        fake, actuator = self.at_rest()
        moved = actuator.move_abs(9.0)
        fake.orders()
        stopped = actuator.stop()
        self.assertIsInstance(fake.orders()[0], StopMotion)
        fake.has_moved(4.0)
        self.assertEqual(self.successResultOf(stopped), 4.0)
        error = self.failureResultOf(moved, DeviceFault)
        self.assertEqual(error.getErrorMessage(), "stopped at 4 mm on the way to 9 mm")

    def test_stopped_without_a_word(self) -> None:
        fake, actuator = self.at_rest()
        moved = actuator.move_abs(9.0)
        actuator.stop()
        for _ in range(4):
            fake.answer_questions(4.0)
            self.advance(1)
        self.failureResultOf(moved, DeviceFault)

    def test_one_that_does_not_obey(self) -> None:
        fake, actuator = self.at_rest()
        moved = actuator.move_abs(9.0)
        actuator.stop()
        fake.has_moved(9.0)
        self.assertEqual(self.successResultOf(moved), 9.0)

    def test_the_end_of_a_motion_that_was_given_up(self) -> None:
        fake, actuator = self.at_rest()
        first = actuator.move_abs(9.0)
        first.cancel()
        self.failureResultOf(first)
        second = actuator.move_abs(2.0)
        fake.has_moved(9.0)
        self.assertNoResult(second)
        fake.has_moved(2.0)
        self.assertEqual(self.successResultOf(second), 2.0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_gone_while_it_moves(self) -> None:
        fake, actuator = self.at_rest()
        moved, asked = actuator.move_abs(9.0), actuator.position()
        fake.vanish()
        for waiting in (moved, asked, actuator.position(), actuator.stop(), actuator.move_home()):
            self.failureResultOf(waiting, NotConnected)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class GrabTests(ControlCase):
    """Frames, in order."""

    def grabber(self, **about: Any) -> tuple[FakeModule, Grabber]:
        return self.pair(kind="GRABBER", **about)

    def test_every_dimension(self) -> None:
        for generation in (A, B, C3, C4, D):
            fake, grabber = self.grabber(generation=generation)
            for dimension in ("0D", "1D", "2D"):
                frame = grabber.grab(dimension)  # type: ignore[arg-type]
                self.assertEqual(fake.orders(), [SendData(dimension)])  # type: ignore[arg-type]
                array = np.arange(6.0).reshape((2, 3))
                fake.shows(array)
                self.assertTrue(np.array_equal(self.successResultOf(frame).arrays[0], array))

    def test_a_dimension_that_there_is_not(self) -> None:
        _, grabber = self.grabber()
        self.failureResultOf(grabber.grab("3D"), BadArguments)  # type: ignore[arg-type]

    def test_one_after_the_other(self) -> None:
        fake, grabber = self.grabber()
        frames = [grabber.grab("1D"), grabber.grab("2D")]
        self.assertEqual(fake.orders(), [SendData("1D")])
        fake.shows([1.0, 2.0])
        self.assertEqual(fake.orders(), [SendData("2D")])
        fake.shows([3.0, 4.0])
        firsts = [self.successResultOf(frame).arrays[0][0] for frame in frames]
        self.assertEqual(firsts, [1.0, 3.0])

    def test_one_order_for_each_grab(self) -> None:
        """Who grabs again as soon as a frame has come."""
        fake, grabber = self.grabber()
        again: list[Any] = []
        grabber.grab("0D").addCallback(lambda _: again.append(grabber.grab("0D")))
        fake.orders()
        fake.shows([1.0])
        self.assertEqual(fake.orders(), [SendData("0D")])
        fake.shows([2.0])
        self.assertEqual(self.successResultOf(again[0]).arrays[0][0], 2.0)

    def test_unasked(self) -> None:
        fake, grabber = self.grabber()
        came: list[Any] = []
        grabber.on_frame = came.append
        fake.shows([1.0])
        self.assertEqual(came, [grabber.last])

    def test_a_frame_for_one_who_has_gone_is_not_the_next_one_s(self) -> None:
        fake, grabber = self.grabber()
        first = grabber.grab()
        first.cancel()
        self.failureResultOf(first)
        second = grabber.grab()
        fake.shows([1.0])
        self.assertNoResult(second)
        fake.shows([2.0])
        self.assertEqual(self.successResultOf(second).arrays[0][0], 2.0)

    def test_a_frame_that_never_came_holds_up_one_grab_at_most(self) -> None:
        fake, grabber = self.grabber()
        for _ in range(2):
            lost = grabber.grab()
            lost.cancel()
            self.failureResultOf(lost)
        third = grabber.grab()
        fake.shows([3.0])
        self.assertEqual(self.successResultOf(third).arrays[0][0], 3.0)

    def test_axes_by_themselves(self) -> None:
        fake, grabber = self.grabber(generation=B)
        fake.say(XAxis(Axis("x", "mm", np.arange(3.0))), YAxis(Axis("y", "s", np.arange(2.0))))
        frame = grabber.grab("2D")
        fake.shows(np.zeros((2, 3)))
        axes = self.successResultOf(frame).data[0].axes
        self.assertEqual([(axis.label, axis.index) for axis in axes], [("x", 1), ("y", 0)])

    def test_gone(self) -> None:
        fake, grabber = self.grabber()
        frames = [grabber.grab(), grabber.grab()]
        fake.say(Quit())
        fake.vanish()
        for frame in (*frames, grabber.grab()):
            error = self.failureResultOf(frame, NotConnected)
            self.assertEqual(error.getErrorMessage(), "it has said goodbye")


class SettingTests(ControlCase):
    """Settings on both sides."""

    def test_confirmed(self) -> None:
        for generation in (A, B, C3, C4, D):
            if generation is A:  # only a path of its own tells it from B
                self.new_modules(generation=A)
            fake, actuator = self.pair(generation=generation)
            self.new_modules()
            fake.is_at(1.0)
            fake.orders()
            path = ("deep", "in.ner")
            written = actuator.set(path, 8)
            (order,) = fake.orders()
            assert isinstance(order, SetInfo)
            self.assertEqual(order.path, ("move_settings", *path))
            sent = read_settings(order.xml)
            self.assertEqual((sent.name, sent.value, sent.title), ("in.ner", 8, "Inner:"))
            self.assertNoResult(written)
            fake.changes(("move_settings", *path), order.xml.replace(">8<", ">9<"))
            self.assertEqual(self.successResultOf(written), 9)
            self.assertEqual(actuator.settings.find(path).value, 9)

    def test_believed(self) -> None:
        _, actuator = self.pair()
        written = actuator.set(["velocity"], 3.0)
        self.assertNoResult(written)
        self.advance(1)
        self.assertEqual(self.successResultOf(written), 3.0)
        self.assertEqual(actuator.settings.child("velocity").value, 3.0)

    def test_refused_by_the_module(self) -> None:
        fake, actuator = self.pair()
        velocity = ("move_settings", "velocity")
        written = actuator.set(["velocity"], 3.0)
        fake.say(Info(PROBLEM, "the stage is locked"))
        self.assertNoResult(written)
        fake.changes(velocity, '<velocity type="float">1.5</velocity>')
        self.assertIn("locked", self.failureResultOf(written, DeviceFault).getErrorMessage())
        # What it said before is no reason for another value now.
        written = actuator.set(["velocity"], 30.0)
        fake.changes(velocity, '<velocity type="float">20.0</velocity>')
        self.assertEqual(self.successResultOf(written), 20.0)

    def test_a_problem_is_not_the_end_of_a_setting_that_was_taken(self) -> None:
        fake, actuator = self.pair()
        written = actuator.set(["velocity"], 3.0)
        fake.say(Info(PROBLEM, "something else"))
        fake.changes(("move_settings", "velocity"), '<velocity type="float">3.0</velocity>')
        self.assertEqual(self.successResultOf(written), 3.0)

    def test_what_it_has_already_is_not_sent(self) -> None:
        fake, actuator = self.pair()
        self.assertEqual(self.successResultOf(actuator.set(["velocity"], 1.5)), 1.5)
        self.assertEqual(fake.orders(), [])

    def test_refused(self) -> None:
        fake, actuator = self.pair()
        self.failureResultOf(actuator.set(["speed"], 1.0), UnknownName)
        self.failureResultOf(actuator.set(["model"], "x"), NotWritable)
        self.failureResultOf(actuator.set(["deep"], 1), NotWritable)
        self.failureResultOf(actuator.set(["velocity"], "fast"), WrongType)
        self.assertEqual(fake.orders(), [])

    def test_told(self) -> None:
        fake, actuator = self.pair()
        told: list[Any] = []
        actuator.on_settings = told.append
        fake.changes(("move_settings", "velocity"), '<velocity type="float">7.5</velocity>')
        fake.changes(("move_settings", "nothing"), '<nothing type="float">7.5</nothing>')
        self.assertEqual(told, [("velocity",)])
        self.assertEqual(actuator.settings.child("velocity").value, 7.5)

    def test_lines_of_information(self) -> None:
        fake, actuator = self.pair()
        told: list[str] = []
        actuator.on_info = told.append
        for number in range(300):
            fake.say(Info(f"line {number}", "x"))
        self.assertEqual(len(told), 256)
        fake.say(Info("line 0", "y"))
        self.assertEqual(actuator.info["line 0"], "y")

    def test_gone_before_it_confirms(self) -> None:
        fake, actuator = self.pair()
        written = actuator.set(["velocity"], 3.0)
        fake.vanish()
        self.failureResultOf(written, NotConnected)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class BadModuleTests(ControlCase):
    """What a module must not do: it is dropped, and the others work on."""

    def check_dropped(self, data: bytes, kind: Any = "GRABBER", generation: Generation = B) -> str:
        good, actuator = self.pair()
        bad, module = self.pair(kind=kind, generation=generation)
        bad.send(data)
        self.assertTrue(bad.dropped, data[:60])
        bad.vanish()
        asked = actuator.position()
        good.is_at(1.0)
        self.assertEqual(self.successResultOf(asked), 1.0)
        ended: str = module.ended
        return ended

    def frame(self, dtype: bytes = b"<f8", size: int = 8, *sizes: int) -> bytes:
        words = (len(sizes), *sizes)
        return (
            b"\0\0\0\4Done\0\0\0\1\0\0\0\5array"
            + len(dtype).to_bytes(4, "big") + dtype + size.to_bytes(4, "big")
            + b"".join(word.to_bytes(4, "big") for word in words)
        )  # fmt: skip

    def test_lengths_that_lie(self) -> None:
        for length in (0x80000000, 0xFFFFFFFF, 0xFFFFFFF0, 1 << 30):
            word = length.to_bytes(4, "big")
            self.assertIn("bytes", self.check_dropped(word))
            self.assertIn("bytes", self.check_dropped(b"\0\0\0\5Infos" + word))
            self.assertIn("bytes", self.check_dropped(self.frame(b"<f8", length, length // 8)))
            self.assertIn("list", self.check_dropped(b"\0\0\0\4Done" + word * 2))

    def test_types_that_name_objects(self) -> None:
        for dtype in (b"|O", b"O", b"|O8", b"<U5", b"|V8", b"<M8", b"f8,f8", b"[('a','O')]"):
            reason = self.check_dropped(self.frame(dtype, 8, 1))
            self.assertIn("type", reason)

    def test_shapes_whose_product_overflows(self) -> None:
        for sizes in ((0xFFFFFFFF,) * 2, (0x80000000, 2), (0x10000,) * 4, (1,) * 40, (3,)):
            reason = self.check_dropped(self.frame(b"<f8", 8, *sizes))
            self.assertIn("array", reason)

    def test_bombs_in_settings(self) -> None:
        bombs = (
            '<!DOCTYPE a [<!ENTITY b "c">]><a type="group">&b;</a>',
            '<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
            "<a>" * 100 + "</a>" * 100,
            "<a>" + "<b/>" * 20_000 + "</a>",
            "no xml",
        )
        for bomb in bombs:
            data = len(bomb).to_bytes(4, "big") + bomb.encode()
            self.assertIn("settings", self.check_dropped(b"\0\0\0\5Infos" + data))

    def test_settings_are_not_run(self) -> None:
        """What PyMoDAQ itself evaluates is a text like any other here."""
        evil = SETTINGS.replace("str('fast')", "__import__('os').getcwd()")
        _, actuator = self.pair(settings=evil)
        mode = actuator.settings.child("mode")
        self.assertEqual(mode.value, "__import__('os').getcwd()")

    def test_stopping_inside_an_array(self) -> None:
        bad, module = self.pair(kind="GRABBER", generation=B)
        bad.send(self.frame(b"<f8", 800_000, 100_000) + bytes(1000))
        self.advance(5)
        bad.send(bytes(1000))
        self.advance(9)
        self.assertFalse(bad.dropped)
        self.advance(2)
        self.assertTrue(bad.dropped)
        bad.vanish()
        self.assertIn("stopped inside a message", module.ended)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_generations_that_nothing_tells(self) -> None:
        """A user who has not configured one is told to."""
        for generation in (C1, C2):
            bad, module = self.pair(generation=generation)
            bad.is_at(1.0)
            self.assertFalse(bad.dropped)
            self.advance(11)
            self.assertTrue(bad.dropped)
            bad.vanish()
            self.assertIn("set generation = C1 or C2", module.ended)

    def test_gone_inside_a_message(self) -> None:
        bad, module = self.pair(kind="GRABBER", generation=B)
        bad.send(self.frame(b"<f8", 80, 10) + encode_bytes(Quit(), B))
        self.assertFalse(bad.dropped)  # it is eight of the bytes that were announced
        bad.vanish()
        self.assertEqual(module.ended, "it has gone inside a message")

    def test_what_the_other_kind_says(self) -> None:
        self.check_dropped(encode_bytes(XAxis(Axis("", "", np.zeros(2))), B), "ACTUATOR")
        self.check_dropped(self.frame(b"<f8", 8, 1) + bytes(8), "ACTUATOR")
        position = b"\0\0\0\x0bposition_is\0\0\0\3<f8\0\0\0\x08" + bytes(8)
        self.check_dropped(position, "GRABBER")

    def test_unknown_words_and_second_names(self) -> None:
        for word in (b"Server Closed", b"move_abs", b"GRABBER", b"ACTUATOR", b"\xff\xfe"):
            self.check_dropped(len(word).to_bytes(4, "big") + word)

    def test_a_flood_is_taken_in_turns(self) -> None:
        bad, module = self.pair(generation=B)
        told: list[float] = []
        module.on_position = told.append
        one = b"\0\0\0\x0bposition_is\0\0\0\3<f8\0\0\0\x08" + bytes(8)
        bad.send(one * 1500)
        self.assertEqual(len(told), 64)
        self.assertFalse(bad.transport.producerState == "producing")  # no more is read meanwhile
        self.clock.advance(0)
        self.assertEqual(len(told), 1500)
        self.assertTrue(bad.transport.producerState == "producing")

    @given(st.binary(max_size=200), st.integers(1, 60), st.sampled_from([A, B, C4, D]))
    @settings(max_examples=300, deadline=None)
    def test_any_bytes(self, data: bytes, size: int, generation: Generation) -> None:
        """They are messages, the beginning of one, or the end of it all for a reason."""
        clock = Clock()
        modules = Modules(clock)
        fake = FakeModule(modules, "GRABBER", generation)
        module: Any = self.successResultOf(modules.module())
        for at in range(0, len(data), size):
            fake.send(data[at : at + size])
        clock.advance(11)
        refused = fake.dropped
        fake.vanish()
        self.assertTrue(module.ended)
        if not refused:
            self.assertIn(module.ended, ("its connection is lost", "it has gone inside a message"))
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_what_is_passed_over(self) -> None:
        fake, actuator = self.pair()
        fake.say(SendData("0D"), Status())
        self.assertFalse(fake.dropped)
        fake.is_at(2.0)
        self.assertEqual(actuator.last, 2.0)
