"""Plain annotated objects as devices."""

from __future__ import annotations

from threading import Event, Lock
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from labnet.device import CommandState, Device, ParameterState
from labnet.devices.objects import shell
from labnet.devices.objects.kinds import as_device, maker_of
from labnet.errors import DeviceFault, NotConnected, OutOfRange, TimedOut
from labnet.instrument.model import words_of
from labnet.service import Lab
from labnet.supervision import RETRY, Retry
from labnet.values import FLOAT, EnumKind, Limits
from tests.devices.bench import BenchCase
from tests.devices.own_classes import Asynchronous, Meter, Shutter


class DescriptionTests(SynchronousTestCase):
    """What is published of a class, before there is an object of it."""

    def setUp(self) -> None:
        self.device = maker_of(Meter)(port="a", name="b")

    def parameter(self, name: str) -> Any:
        state = self.device.members[name]
        assert isinstance(state, ParameterState)
        return state.spec

    def test_what_is_published(self) -> None:
        names = {"power", "wavelength", "mode", "zero", "fail"}
        self.assertEqual(set(self.device.members), names)

    def test_properties(self) -> None:
        power, wavelength = self.parameter("power"), self.parameter("wavelength")
        self.assertEqual((power.kind, power.unit, power.access), (FLOAT, "W", "r"))
        self.assertEqual((wavelength.access, wavelength.limits), ("rw", Limits(400, 1100)))
        self.assertEqual(wavelength.help, "The calibration wavelength.")
        self.assertIsInstance(self.parameter("mode").kind, EnumKind)

    def test_methods(self) -> None:
        zero = self.device.members["zero"]
        assert isinstance(zero, CommandState)
        (seconds,) = zero.spec.arguments
        self.assertEqual((seconds.unit, seconds.limits, seconds.default), ("s", Limits(0, 60), 1.0))
        self.assertEqual((zero.spec.unit, zero.spec.result), ("W", FLOAT))

    def test_identity(self) -> None:
        self.assertEqual(self.device.identity.model, "Meter")
        self.assertEqual(str(as_device(Meter("a", "b")).identity), "Example,Meter,M-1,2.0")

    def test_devices_are_left_as_they_are(self) -> None:
        shutter = Shutter(1.0)
        self.assertIs(as_device(shutter), shutter)

    def test_what_is_no_device(self) -> None:
        for wrong in (Meter, 5, "meter", None):
            self.assertRaises(ValueError, as_device, wrong)


class LabTests(TestCase):
    """In a lab, with the thread of their own."""

    timeout = 20

    def lab(self, item: Any, retry: Retry = RETRY) -> Any:
        lab = Lab(retry=retry)
        self.addCleanup(lab.stop)
        lab.add("meter", item)
        return lab.session(device="meter")

    async def test_values_and_commands(self) -> None:
        meter = Meter("a", "b")
        session = self.lab(meter)
        self.assertEqual((await session.get("power")).value, 1e-3)
        await session.set("wavelength", 800)
        self.assertEqual(meter.wavelength, 800.0)
        self.assertEqual(await session.call("zero", seconds=2), 0.2)
        self.assertEqual(meter.events, ["open"])
        await self.assertFailure(session.set("wavelength", 300), OutOfRange)
        error = await self.assertFailure(session.call("fail"), DeviceFault)
        self.assertEqual((str(error), error.kind), ("the lamp is broken", "RuntimeError"))

    async def test_closed_and_opened_again(self) -> None:
        """An object that labnet has made is made anew; another one stays."""
        session = self.lab(maker_of(Meter)(port="a", name="again"))
        await session.set("wavelength", 800)
        first = Meter.made[-1]
        await session.disconnect()
        self.assertEqual(first.events, ["open", "close"])
        await self.assertFailure(session.get("power"), NotConnected)
        await session.connect()
        self.assertEqual((await session.get("wavelength")).value, 633.0)
        self.assertIsNot(Meter.made[-1], first)

    async def test_a_constructor_that_fails(self) -> None:
        """The lab goes on; who asks is told why."""
        session = self.lab(maker_of(Meter)(port="none", name="x"))
        error = await self.assertFailure(session.get("power"), NotConnected)
        self.assertIn("there is no such port", str(error))
        self.flushLoggedErrors()

    async def test_a_connection_that_ends(self) -> None:
        """The object is made anew."""
        session = self.lab(maker_of(Meter)(port="a", name="x"), Retry(0.01, 0.05))
        await session.set("wavelength", 800)
        first, back = Meter.made[-1], Deferred[None]()

        def heard(updates: list[Any]) -> None:
            if any(update.what == "back" for update in updates):
                back.callback(None)

        session.subscribe(["meter"], heard)
        self.patch(Meter, "zero", _broken_pipe)
        error = await self.assertFailure(session.call("zero"), DeviceFault)
        self.assertEqual(error.kind, "BrokenPipeError")
        await back
        self.assertEqual((await session.get("wavelength")).value, 633.0)
        self.assertIsNot(Meter.made[-1], first)
        self.assertEqual(first.events, ["open", "close"])
        self.flushLoggedErrors()

    async def test_an_object_made_elsewhere_is_not_made_anew(self) -> None:
        meter = Meter("a", "b")
        session = self.lab(meter)
        self.patch(Meter, "zero", _broken_pipe)
        await self.assertFailure(session.call("zero"), DeviceFault)
        self.assertEqual((await session.get("power")).value, 1e-3)

    async def test_an_object_that_hangs_and_cannot_be_closed(self) -> None:
        """A new one takes its place, though the old one's own lock is never free."""
        self.patch(shell, "CLOSING", 0.01)
        begun, go = Event(), Event()
        self.addCleanup(go.set)

        class Hanging:
            """One lock around all, as many drivers have."""

            def __init__(self) -> None:
                self.lock = Lock()

            def hang(self) -> str:
                with self.lock:
                    begun.set()
                    go.wait(30)
                return "late"

            def number(self) -> int:
                return 5

            def close(self) -> None:
                with self.lock:
                    pass

        for disconnected in (False, True):
            begun.clear()
            session = self.lab(maker_of(Hanging)())
            hanging = session.call("hang", timeout=0.02)
            await deferToThread(begun.wait, 10)
            await self.assertFailure(hanging, TimedOut)
            if disconnected:
                await session.disconnect()
            await session.connect()
            self.assertEqual(await session.call("number"), 5)

    async def test_coroutines_run_in_the_reactor(self) -> None:
        device = as_device(Asynchronous())
        self.assertFalse(device.blocking)
        session = self.lab(device)
        self.assertEqual(await session.call("double", 2.5), 5.0)

    async def test_sub_devices_of_an_object(self) -> None:
        meter = Meter("a", "b")
        meter.shutter = Shutter(1.0)  # type: ignore[attr-defined]
        session = self.lab(meter)
        await session.set("shutter.is_open", True)
        self.assertIs(meter.shutter.is_open, True)  # type: ignore[attr-defined]


def _broken_pipe(meter: Meter, seconds: float = 1.0) -> float:
    raise BrokenPipeError("the instrument has hung up")


class Frame:
    """Names that would collide as headers of one node each."""

    frame_width_values = 5

    @property
    def frame_width(self) -> int:
        return 512

    @property
    def frame_height(self) -> int:
        return 256

    @property
    def mode_2d(self) -> str:
        return "off"

    @property
    def ch_1(self) -> float:
        return 1.5

    def frame__width(self) -> int:
        """Collides all the same."""
        return 0


class HeaderTests(BenchCase):
    """Objects as SCPI instruments: each word a node."""

    def test_words_are_nodes(self) -> None:
        device = as_device(Frame())
        device.blocking = False
        session = self.attach("it", device)
        self.assertEqual(self.scpi(session, b"FRAM:WIDT?;HEIG?"), b"512;256")
        self.assertEqual(self.scpi(session, b"FRAME:HEIGHT?"), b"256")
        self.assertEqual(self.scpi(session, b"MODE2D?;:CH1?"), b'"off";1.5')

    def test_words(self) -> None:
        for name, words in (
            ("frame_width", ["frame", "width"]),
            ("ch_1", ["ch1"]),
            ("mode_2d_x", ["mode2d", "x"]),
            ("a__b_", ["a", "b"]),
            ("power", ["power"]),
        ):
            self.assertEqual(words_of(name), words)


class ListenerTests(TestCase):
    """A listener waits until a device has told what it has."""

    timeout = 20

    async def test_waits(self) -> None:
        class Late(Device):
            """Knows its parameters when it is open."""

            described_late = True
            opened: Deferred[None]

            def connect(self) -> Deferred[None]:
                self.opened = Deferred()
                return self.opened.addCallback(
                    lambda _: self.add_parameter("x", float, initial=2.0)
                )

        lab = Lab()
        self.addCleanup(lab.stop)
        device = Late()
        lab.add("late", device)
        service = lab.serve("tsv", "tcp:0", device="late.x")
        service.startService()
        self.addCleanup(service.stopService)
        self.assertFalse(service.started.called)
        device.opened.callback(None)
        self.assertIsNotNone(await service.started)

    async def test_not_for_one_that_cannot_be_opened(self) -> None:
        class Broken(Device):
            """Is never there."""

            described_late = True

            def connect(self) -> None:
                raise OSError("it is off")

        lab = Lab()
        self.addCleanup(lab.stop)
        lab.add("broken", Broken())
        service = lab.serve("tsv", "tcp:0", device="broken")
        service.startService()
        self.addCleanup(service.stopService)
        self.assertIsNotNone(await service.started)
        self.flushLoggedErrors()
