"""The camera sees a spot where the stage is, brighter with exposure and gain."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from labnet.devices.simulated.camera import DARK, FULL_SCALE, Camera
from labnet.devices.simulated.stage import Stage
from labnet.errors import NotWritable, OutOfRange, TimedOut
from labnet.session import Session
from labnet.values import LabeledArray
from tests.devices.bench import BenchCase

Frame = npt.NDArray[np.uint16]


class CameraTests(BenchCase):
    def setUp(self) -> None:
        super().setUp()
        self.stage = self.attach("stage", stage := Stage(position=20.0, clock=self.clock))
        self.session = self.attach("camera", Camera(stage, clock=self.clock))

    def grab(self, session: Session | None = None) -> Frame:
        grab = (session or self.session).call("grab")
        self.passes(self.get(self.session, "exposure") + 0.01)
        frame = self.successResultOf(grab)
        assert isinstance(frame, LabeledArray)
        return frame.data

    def spot(self, frame: Frame) -> tuple[float, float]:
        """Row and column of the centre of the light."""
        light = np.clip(frame.astype(float) - DARK - 100, 0, None)
        rows, columns = light.sum(1), light.sum(0)
        pixels = np.arange(512)
        total = light.sum()
        return float(rows @ pixels / total), float(columns @ pixels / total)

    def width(self, frame: Frame) -> int:
        """Columns in which the light is at least half of the brightest."""
        columns = frame.max(0).astype(float) - DARK
        return int(np.count_nonzero(columns > columns.max() / 2))

    def test_a_frame(self) -> None:
        grab = self.takes(self.session.call("grab"), 0.02)
        self.assertEqual((grab.data.shape, grab.data.dtype), ((512, 512), np.uint16))
        self.assertFalse(grab.data.flags.writeable)
        axes = [(axis.label, axis.unit) for axis in grab.axes]
        self.assertEqual(axes, [("y", "px"), ("x", "px")])
        self.assertEqual(grab.axes[1].values[-1], 511)

    def test_the_spot_follows_the_stage(self) -> None:
        for position in (20.0, 0.0, 75.5, 100.0):
            move = self.stage.call("move_abs", position)
            self.passes(1.2)
            self.successResultOf(move)
            row, column = self.spot(self.grab())
            self.assertApproximates(column, 56 + 4 * position, 1)
            self.assertApproximates(row, 256, 6)

    def test_a_moving_spot_is_smeared(self) -> None:
        still = self.width(self.grab())
        self.set(self.session, "exposure", 0.2)
        self.stage.call("move_abs", 100)
        self.passes(0.2)
        frame = self.grab()
        self.assertGreater(self.width(frame), 2 * still)
        # From 35 to 55 mm in these 0.2 s.
        self.assertApproximates(self.spot(frame)[1], 56 + 4 * 45, 10)
        self.passes(1)

    def test_without_a_stage_the_spot_is_in_the_middle(self) -> None:
        alone = Camera(clock=self.clock)
        session = self.attach("alone", alone)
        self.assertApproximates(self.spot(self.grab(session))[1], 256, 1)
        alone.follow(Stage(position=0.0, clock=self.clock))
        self.assertApproximates(self.spot(self.grab(session))[1], 56, 1)

    def test_brightness_grows_with_exposure_and_gain(self) -> None:
        bright = {}
        for exposure, gain in ((0.01, 1.0), (0.02, 1.0), (0.02, 2.0)):
            self.set(self.session, "exposure", exposure)
            self.set(self.session, "gain", gain)
            bright[exposure, gain] = float(np.percentile(self.grab(), 99.9)) - DARK
        self.assertApproximates(bright[0.02, 1.0] / bright[0.01, 1.0], 2, 0.1)
        self.assertApproximates(bright[0.02, 2.0] / bright[0.02, 1.0], 2, 0.1)

    def test_saturates(self) -> None:
        self.grab()
        self.assertEqual(self.get(self.session, "saturated"), 0)
        self.set(self.session, "exposure", 0.5)
        frame = self.grab()
        self.assertEqual(frame.max(), FULL_SCALE)
        self.assertGreater(self.get(self.session, "saturated"), 100)
        self.assertEqual(frame[256, 400], frame[256, 400].clip(150, 250))

    def test_the_last_frame_can_be_read(self) -> None:
        self.assertEqual(self.get(self.session, "image").max(), 0)
        frame = self.grab()
        self.assertTrue(np.array_equal(self.get(self.session, "image"), frame))
        self.assertEqual(self.get(self.session, "mean"), frame.mean())
        self.assertEqual(self.get(self.session, "brightest"), frame.max())
        self.assertEqual(self.get(self.session, "frames"), 1)
        self.failureResultOf(self.session.set("image", frame), NotWritable)

    def test_frames_differ_but_for_the_seed(self) -> None:
        first, second = self.grab(), self.grab()
        self.assertFalse(np.array_equal(first, second))
        again = self.attach("again", Camera(Stage(20.0, clock=self.clock), clock=self.clock))
        other = self.attach("other", Camera(Stage(20.0, clock=self.clock), 9, clock=self.clock))
        start = self.clock.seconds()
        one = self.attach("one", Camera(Stage(20.0, clock=self.clock), clock=self.clock))
        grabs = [session.call("grab") for session in (again, one, other)]
        self.passes(0.03)
        frames = [self.successResultOf(grab).data for grab in grabs]
        self.assertGreater(self.clock.seconds(), start)
        self.assertTrue(np.array_equal(frames[0], frames[1]))
        self.assertFalse(np.array_equal(frames[0], frames[2]))

    def test_those_who_come_during_an_exposure_share_the_next(self) -> None:
        self.set(self.session, "exposure", 0.1)
        first = self.session.call("grab")
        self.passes(0.05)
        late = [self.client("camera").call("grab") for _ in range(3)]
        self.passes(0.06)
        frame = self.successResultOf(first)
        for grab in late:
            self.assertNoResult(grab)
        self.passes(0.1)
        shared = [self.successResultOf(grab) for grab in late]
        self.assertIs(shared[0], shared[1])
        self.assertIs(shared[1], shared[2])
        self.assertIsNot(frame, shared[0])
        self.assertEqual(self.get(self.session, "frames"), 2)

    def test_a_grab_given_up_ends_its_exposure(self) -> None:
        self.set(self.session, "exposure", 5.0)
        late = self.session.call("grab", timeout=0.2)
        self.passes(0.25)
        self.failureResultOf(late, TimedOut)
        self.set(self.session, "exposure", 0.1)
        self.takes(self.session.call("grab"), 0.1)
        self.assertEqual(self.get(self.session, "frames"), 1)

    def test_one_of_several_gives_up(self) -> None:
        self.set(self.session, "exposure", 0.5)
        first = self.session.call("grab", timeout=0.1)
        self.passes(0.05)
        second = self.client("camera").call("grab")
        self.passes(0.06)
        self.failureResultOf(first, TimedOut)
        self.takes(second, 0.49)

    def test_settings_can_be_read_and_set_during_an_exposure(self) -> None:
        self.set(self.session, "exposure", 0.1)
        grab = self.session.call("grab")
        self.passes(0.05)
        self.set(self.session, "exposure", 1.0)
        self.assertEqual(self.get(self.session, "exposure"), 1.0)
        self.passes(0.06)
        self.successResultOf(grab)
        self.failureResultOf(self.session.set("exposure", 11.0), OutOfRange)

    def test_a_lock_does_not_shut_out_a_grab(self) -> None:
        self.successResultOf(self.client("camera").lock(["camera"]))
        self.grab()

    def test_every_member_has_help(self) -> None:
        self.assert_helpful("camera")
