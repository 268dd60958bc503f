"""The stage moves in a ramp, tells where it is, and can be stopped on the way."""

from __future__ import annotations

from labnet.devices.simulated.stage import Motion, Stage, brake, ramp
from labnet.errors import DeviceFault, NotWritable, OutOfRange, TimedOut
from tests.devices.bench import BenchCase


class MotionTests(BenchCase):
    """The profiles."""

    def distance(self, motion: Motion) -> float:
        return motion.at(motion.begin + motion.duration)[0] - motion.start

    def test_long_way(self) -> None:
        motion = ramp(5.0, 10.0, 90.0, 100.0, 1000.0)
        self.assertAlmostEqual(motion.duration, 0.1 + 0.7 + 0.1)
        self.assertEqual(motion.at(4.0), (10.0, 0.0))
        self.assertAlmostEqual(motion.at(5.1)[0], 15.0)
        self.assertAlmostEqual(motion.at(5.45)[0], 50.0)
        self.assertAlmostEqual(motion.at(5.45)[1], 100.0)
        self.assertAlmostEqual(motion.at(99.0)[0], 90.0)
        self.assertAlmostEqual(motion.at(99.0)[1], 0.0)

    def test_short_way_back(self) -> None:
        motion = ramp(0.0, 10.0, 9.0, 100.0, 1000.0)
        self.assertAlmostEqual(self.distance(motion), -1.0)
        self.assertAlmostEqual(motion.duration, 2 * (1 / 1000) ** 0.5)
        self.assertAlmostEqual(motion.at(motion.duration / 2)[0], 9.5)

    def test_brake(self) -> None:
        for speed in (100.0, -100.0):
            motion = brake(1.0, 50.0, speed, 1000.0)
            self.assertAlmostEqual(motion.duration, 0.1)
            self.assertAlmostEqual(self.distance(motion), speed / 20)


class StageTests(BenchCase):
    def setUp(self) -> None:
        super().setUp()
        self.session = self.attach("stage", Stage(clock=self.clock))

    def position(self) -> float:
        return float(self.get(self.session, "position"))

    def test_move(self) -> None:
        self.assertEqual(self.takes(self.session.call("move_abs", 80.0), 0.9), 80.0)
        self.assertEqual(self.takes(self.session.call("move_rel", -30.0), 0.4), 50.0)
        self.assertEqual(self.position(), 50.0)
        self.assertEqual(self.call(self.session, "move_abs", 50.0), 50.0)

    def test_position_on_the_way(self) -> None:
        move = self.session.call("move_abs", 100)
        positions = []
        for _ in range(11):
            positions.append(self.position())
            self.clock.advance(0.1)
        self.assertEqual(positions, [0.0, *(5.0 + 10 * n for n in range(10))])
        self.assertIs(self.get(self.session, "moving"), False)
        self.assertEqual(self.successResultOf(move), 100.0)

    def test_updates_on_the_way(self) -> None:
        heard = self.told(self.session, "position", "moving", "target")
        self.session.call("move_abs", 20)
        self.passes(0.4)
        values: dict[str, list[object]] = {}
        for update in heard:
            assert update.reading is not None
            values.setdefault(update.path, []).append(update.reading.value)
        self.assertEqual(values["stage.moving"], [True, False])
        self.assertEqual(values["stage.target"], [20.0])
        positions = values["stage.position"]
        self.assertEqual(positions, sorted(positions, key=float))
        self.assertGreater(len(positions), 4)
        self.assertEqual(positions[-1], 20.0)

    def test_nothing_happens_while_it_stands(self) -> None:
        self.takes(self.session.call("move_abs", 10.0), 0.2)
        timers = [str(call) for call in self.clock.getDelayedCalls()]
        self.assertEqual([timer for timer in timers if "Stage" in timer], [])

    def test_stop_on_the_way(self) -> None:
        move = self.session.call("move_abs", 80)
        self.passes(0.25)
        self.assertAlmostEqual(self.position(), 20.0)
        stopped = self.takes(self.client("stage").stop(), 0.1)
        self.assertApproximates(stopped, 25.0, 0.01)
        fault = self.failureResultOf(move, DeviceFault).value
        self.assertEqual(str(fault), f"stopped at {stopped:g} mm on the way to 80 mm")
        self.passes(1.0)
        self.assertEqual(self.position(), stopped)
        self.assertIs(self.get(self.session, "moving"), False)
        self.assertEqual(self.takes(self.session.call("home"), 0.05 + stopped / 50), 0.0)

    def test_stop_twice_and_at_rest(self) -> None:
        self.assertEqual(self.call(self.session, "stop"), 0.0)
        self.session.call("move_abs", 80).addErrback(lambda failure: None)
        self.passes(0.3)
        stops = [self.session.stop(), self.session.stop()]
        self.passes(0.2)
        self.assertEqual(*map(self.successResultOf, stops))

    def test_another_move_is_refused(self) -> None:
        move = self.session.call("move_abs", 80)
        self.passes(0.1)
        other = self.client("stage")
        for path, value in (("move_abs", 10), ("move_rel", 1)):
            fault = self.failureResultOf(other.call(path, value), DeviceFault).value
            self.assertEqual(fault.kind, "Busy")
            self.assertIn("moving to 80 mm", str(fault))
        self.failureResultOf(other.call("home"), DeviceFault)
        self.failureResultOf(other.set("target", 3), DeviceFault)
        self.passes(1.0)
        self.assertEqual(self.successResultOf(move), 80.0)

    def test_limits(self) -> None:
        for path, value in (("move_abs", 100.1), ("move_abs", -1), ("move_rel", 101)):
            self.failureResultOf(self.session.call(path, value), OutOfRange)
        self.failureResultOf(self.session.set("target", 101), OutOfRange)
        self.failureResultOf(self.session.set("velocity", 0), OutOfRange)
        self.failureResultOf(self.session.set("position", 5), NotWritable)
        self.assertRaises(OutOfRange, Stage, position=101.0)
        self.assertIs(self.get(self.session, "moving"), False)

    def test_velocity_counts_for_the_next_move(self) -> None:
        self.set(self.session, "velocity", 10.0)
        move = self.session.call("move_abs", 20)
        self.passes(1.0)
        self.set(self.session, "velocity", 100.0)
        self.assertEqual(self.takes(move, 1.01), 20.0)
        self.assertEqual(self.takes(self.session.call("move_abs", 60), 0.5), 60.0)

    def test_target_begins_a_move(self) -> None:
        self.set(self.session, "target", 30)
        self.assertIs(self.get(self.session, "moving"), True)
        self.passes(0.5)
        self.assertEqual(self.position(), 30.0)
        self.assertEqual(self.get(self.session, "target"), 30.0)

    def test_a_stopped_target_says_nothing_more(self) -> None:
        self.set(self.session, "target", 30)
        self.passes(0.1)
        self.takes(self.session.stop(), 0.1)
        self.assertLess(self.position(), 30.0)

    def test_a_caller_that_loses_patience_does_not_stop_it(self) -> None:
        move = self.session.call("move_abs", 80, timeout=0.3)
        self.passes(0.31)
        self.failureResultOf(move, TimedOut)
        self.assertIs(self.get(self.session, "moving"), True)
        self.passes(0.7)
        self.assertEqual(self.position(), 80.0)

    def test_power_off_on_the_way(self) -> None:
        move = self.session.call("move_abs", 80)
        self.passes(0.3)
        self.successResultOf(self.session.disconnect())
        self.assertTrue(self.failureResultOf(move))
        self.successResultOf(self.session.connect())
        self.assertEqual(self.position(), 25.0)
        self.assertEqual(self.takes(self.session.call("move_abs", 35), 0.2), 35.0)

    def test_as_an_instrument(self) -> None:
        channel = self.session.channel()
        self.successResultOf(channel.execute(b"VEL 50;MOVE 50 MM"))
        self.assertEqual(self.scpi(self.session, b"MOV?;TARG?;VEL?"), b"1;50;50")
        done = channel.execute(b"*OPC?;POS?")
        self.assertEqual(self.takes(done, 1.05), b"1;50")

    def test_every_member_has_help(self) -> None:
        self.assert_helpful("stage")
