"""The lab itself: devices that come, go, are polled and have threads; the end."""

from __future__ import annotations

from threading import Event, Thread, get_ident
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from labnet.device import Device, command, parameter
from labnet.errors import DeviceFault, Locked, NotConnected, TimedOut, UnknownName
from labnet.lab import Lab, MonotonicClock
from labnet.session import Session
from labnet.supervision import Retry
from labnet.testing import FakeDevice, MemoryLab
from labnet.updates import Update


class Opening(Device):
    """Opens and closes when the test says so."""

    value = parameter(float, initial=1.0)

    def __init__(self) -> None:
        self.opening: list[Deferred[None]] = []
        self.closing: list[Deferred[None]] = []

    def connect(self) -> Deferred[None]:
        self.opening.append(Deferred())
        return self.opening[-1]

    def disconnect(self) -> Deferred[None]:
        self.closing.append(Deferred())
        return self.closing[-1]

    @command
    def work(self) -> str:
        return "done"


class AttachTests(SynchronousTestCase):
    """Devices come and go."""

    def setUp(self) -> None:
        self.device = Opening()
        self.lab = MemoryLab({"meter": self.device})
        self.session = self.lab.session(device="meter")

    def test_there_at_once_and_usable_when_open(self) -> None:
        self.assertEqual(list(self.lab.devices()), ["meter"])
        calls = [self.session.call("work"), self.session.get("value")]
        hasty = self.session.call("work", timeout=1.0)
        self.lab.advance(1.0)
        self.failureResultOf(hasty, TimedOut)
        self.device.opening[0].callback(None)
        self.assertEqual(self.successResultOf(calls[0]), "done")
        self.assertEqual(self.successResultOf(calls[1]).value, 1.0)

    def test_one_that_cannot_be_opened(self) -> None:
        waiting = self.session.call("work")
        self.device.opening[0].errback(OSError("no such port"))
        self.failureResultOf(waiting, NotConnected)
        error = self.failureResultOf(self.session.call("work"), NotConnected).value
        self.assertEqual(str(error), "meter is not connected: no such port")
        again = self.session.connect()
        self.device.opening[1].callback(None)
        self.successResultOf(again)
        self.assertEqual(self.successResultOf(self.session.call("work")), "done")

    def test_one_that_raises_when_opened(self) -> None:
        device = FakeDevice(power=1.0)
        device.unplug("no cable")
        self.lab.attach("other", device)
        self.failureResultOf(self.lab.session().get("other.power"), NotConnected)

    def test_without_a_connect_it_is_open(self) -> None:
        self.lab.attach("plain", Plain())
        self.assertEqual(self.successResultOf(self.lab.session().get("plain.value")).value, 0.0)

    def test_watchers(self) -> None:
        heard: list[tuple[str, str]] = []
        end = self.lab.watch(
            lambda node: heard.append(("came", node.path)),
            lambda node: heard.append(("left", node.path)),
        )
        self.lab.attach("plain", Plain())
        self.lab.detach("plain")
        end()
        self.lab.attach("plain", Plain())
        self.assertEqual(heard, [("came", "plain"), ("left", "plain")])

    def test_detach_closes(self) -> None:
        self.device.opening[0].callback(None)
        gone = self.lab.detach("meter")
        self.assertEqual((list(self.lab.devices()), len(self.device.closing)), ([], 1))
        self.assertNoResult(gone)
        self.device.closing[0].callback(None)
        self.successResultOf(gone)
        self.assertRaises(UnknownName, self.lab.detach, "meter")
        self.lab.attach("meter", self.device)

    def test_detach_does_not_wait_for_ever(self) -> None:
        self.device.opening[0].callback(None)
        gone = self.lab.detach("meter")
        self.lab.advance(5.0)
        self.successResultOf(gone)
        self.assertEqual(self.lab.net.getDelayedCalls(), [])

    def test_detach_while_it_is_opened(self) -> None:
        gone = self.lab.detach("meter")
        self.lab.advance(5.0)
        self.successResultOf(gone)

    def test_names(self) -> None:
        self.assertRaises(ValueError, self.lab.attach, "meter", Plain())
        self.assertRaises(ValueError, self.lab.attach, "5", Plain())
        self.assertRaises(ValueError, self.lab.attach, "other", self.device)
        self.assertEqual(list(self.lab.devices()), ["meter"])


class Plain(Device):
    value = parameter(float)


class StopTests(SynchronousTestCase):
    """The end of a lab."""

    def test_all_devices_are_closed(self) -> None:
        devices = {name: FakeDevice(power={"initial": 0.0, "poll": 1.0}) for name in "abc"}
        lab = MemoryLab(devices)
        lab.wait(lab.stop())
        for device in devices.values():
            self.assertEqual(len(device.asked("disconnect")), 1)
        lab.advance(100)
        self.assertEqual(lab.net.getDelayedCalls(), [])
        self.successResultOf(lab.stop())

    def test_within_the_time_given(self) -> None:
        fake, opening = FakeDevice("zero"), Opening()
        lab = MemoryLab({"fake": fake, "opening": opening})
        opening.opening[0].callback(None)
        fake.hang("zero")
        session = lab.session(device="fake")
        session.call("zero").addErrback(lambda failure: None)
        stopped = lab.stop(wait=3.0)
        lab.advance(3.0)
        self.successResultOf(stopped)
        self.assertEqual(lab.net.getDelayedCalls(), [])

    def test_calls_fail(self) -> None:
        lab = MemoryLab({"fake": FakeDevice("zero")})
        session = lab.session(device="fake")
        lab.stop()
        error = self.failureResultOf(session.call("zero"), NotConnected).value
        self.assertEqual(str(error), "fake is not connected: the lab is shutting down")

    def test_empty(self) -> None:
        self.successResultOf(Lab(Clock()).stop())

    def test_shut_down(self) -> None:
        asked: list[str] = []
        Lab(Clock(), on_shut_down=asked.append).shut_down("a client said so")
        Lab(Clock()).shut_down("nobody minds")
        self.assertEqual(asked, ["a client said so"])


class PollTests(SynchronousTestCase):
    """Parameters that are read without being asked for."""

    def setUp(self) -> None:
        self.device = FakeDevice("zero", power={"initial": 0.0, "poll": 0.5}, quiet=0.0)
        self.lab = MemoryLab({"meter": self.device})
        self.session = self.lab.session(device="meter")

    def polls(self, name: str = "power") -> int:
        """How many there were since the last question."""
        count = len(self.device.asked("get", name))
        self.device.calls.clear()
        return count

    def test_interval(self) -> None:
        self.lab.advance(5.25)
        self.assertEqual((len(self.device.asked("get", "quiet")), self.polls()), (0, 10))

    def test_listeners_hear(self) -> None:
        heard: list[Update] = []
        self.session.subscribe(["power"], heard.extend)
        self.device.values["power"] = 3.0
        self.lab.advance(0.6)
        reading = heard[0].reading
        assert reading is not None
        self.assertEqual(reading.value, 3.0)

    def test_changed_interval(self) -> None:
        self.device.change("power", poll=2.0)
        self.lab.advance(4.1)
        self.assertEqual(self.polls(), 2)
        self.device.change("power", poll=None)
        self.lab.advance(10)
        self.assertEqual(self.polls(), 0)
        self.device.change("power", poll=1.0)
        self.lab.advance(3.5)
        self.assertEqual(self.polls(), 3)

    def test_other_changes_do_not_put_a_poll_off(self) -> None:
        for _ in range(10):
            self.device.change("power", unit="W")
            self.lab.advance(0.31)
        self.assertEqual(self.polls(), 6)

    def test_parameters_that_join_later(self) -> None:
        self.device.declare("late", initial=1.0, poll=1.0)
        head = FakeDevice(heat={"initial": 1.0, "poll": 1.0})
        self.device.add_device("head", head)
        self.lab.advance(3.5)
        self.assertEqual((self.polls("late"), len(head.asked("get", "heat"))), (3, 3))

    def test_a_replaced_parameter_is_polled_once(self) -> None:
        self.device.declare("power", initial=1.0, poll=0.5)
        self.lab.advance(1.1)
        self.assertEqual(self.polls(), 2)

    def test_not_while_the_device_is_busy(self) -> None:
        self.device.hang("zero")
        zero = self.session.call("zero")
        self.lab.advance(5)
        self.assertEqual(self.polls(), 0)
        self.device.release()
        self.assertIsNone(self.successResultOf(zero))
        self.lab.advance(1.1)
        self.assertEqual(self.polls(), 2)

    def test_not_while_it_is_lost(self) -> None:
        self.lab.lose(self.lab.devices()["meter"], "unplugged")
        self.lab.advance(5)
        self.assertEqual(self.polls(), 0)
        self.lab.wait(self.session.connect())
        self.lab.advance(1.1)
        self.assertEqual(self.polls(), 2)

    def test_a_slow_one_is_not_asked_again_meanwhile(self) -> None:
        self.device.delay(0.8, "power")
        self.lab.advance(3.1)
        self.assertEqual((self.polls(), self.device.cancelled), (3, []))

    def test_one_that_hangs_is_given_up(self) -> None:
        self.device.hang("power")
        self.lab.advance(11)
        self.assertEqual(self.device.cancelled, ["power"])

    def test_locks_do_not_matter(self) -> None:
        self.lab.wait(self.lab.session("ann").lock(["meter"]))
        self.lab.advance(1.1)
        self.assertEqual(self.polls(), 2)

    def test_a_failing_one_goes_on(self) -> None:
        self.device.fail("no light", "power")
        self.lab.advance(2.6)
        self.assertEqual(self.polls(), 5)
        self.device.recover()
        self.lab.advance(1)
        self.assertEqual(self.polls(), 2)

    def test_detached(self) -> None:
        self.lab.wait(self.lab.detach("meter"))
        self.lab.advance(5)
        self.assertEqual(self.polls(), 0)


class NewsTests(SynchronousTestCase):
    """What a lab tells nobody in particular."""

    def test_a_lock_s_path_and_the_path_wanted(self) -> None:
        lab = MemoryLab({"meter": FakeDevice(power=1.0)})
        lab.wait(lab.session("ann").lock(["meter"]))
        error = self.failureResultOf(lab.session("ben").set("meter.power", 2.0), Locked).value
        self.assertIn("meter.power is locked at meter by ann", str(error))

    def test_clocks(self) -> None:
        clock = MonotonicClock(reactor)
        first = clock.seconds()
        self.assertGreaterEqual(clock.seconds(), first)


class Slow(Device):
    """A blocking device; a test lets its calls go on."""

    blocking = True
    temperature = parameter(float, initial=20.0)

    def __init__(self) -> None:
        self.begun = Event()
        self.release = Event()
        self.threads: set[int] = set()
        self.voltage = 1.0

    def connect(self) -> None:
        self.threads.add(get_ident())
        self.store("temperature", 25.0)

    def disconnect(self) -> None:
        self.threads.add(get_ident())

    @parameter(unit="V")
    def level(self) -> float:
        self.threads.add(get_ident())
        return self.voltage

    @level.setter
    def set_level(self, value: float) -> None:
        self.voltage = value

    @command
    def hang(self) -> str:
        self.begun.set()
        self.release.wait(20)
        return "released"

    @command
    def discover(self, count: int) -> int:
        for number in range(count):
            self.add_parameter(f"channel[{number}]", float, initial=float(number))
            self.change(f"channel[{number}]", unit="V")
        self.temperature = 30.0
        return count

    @command
    async def wrong(self) -> int:
        return 5


class ThreadTests(TestCase):
    """Devices with a thread of their own, in a lab on the real reactor."""

    timeout = 20

    def setUp(self) -> None:
        self.lab = Lab(reactor=reactor)
        self.device = Slow()
        self.addCleanup(self.end)
        self.lab.attach("slow", self.device)
        self.session = self.client("ann")

    async def end(self) -> None:
        self.device.release.set()
        await self.lab.stop()

    def client(self, name: str) -> Session:
        return self.lab.open_session("test", "here", name=name, device="slow", timeout=10.0)

    async def ready(self) -> None:
        """Waits until the device has been opened."""
        await self.session.connect()

    async def test_everything_runs_in_one_thread(self) -> None:
        await self.ready()
        reading = await self.session.get("level")
        self.assertEqual(reading.value, 1.0)
        await self.session.disconnect()
        self.assertEqual(len(self.device.threads), 1)
        self.assertNotIn(get_ident(), self.device.threads)

    async def test_get_after_set(self) -> None:
        await self.ready()
        results = await gatherResults(
            [
                self.session.set("level", 5.0),
                self.session.get("level"),
                self.session.set("level", 6.0),
                self.session.get("level"),
            ]
        )
        self.assertEqual([reading.value for reading in results], [5.0, 5.0, 6.0, 6.0])

    async def test_changes_reach_listeners_in_the_reactor(self) -> None:
        await self.ready()
        heard: Deferred[tuple[int, list[Update]]] = Deferred()
        self.session.subscribe(
            ["temperature"], lambda updates: heard.callback((get_ident(), updates))
        )
        await self.session.call("discover", 0)
        thread, updates = await heard
        self.assertEqual(thread, get_ident())
        assert updates[-1].reading is not None
        self.assertEqual(updates[-1].reading.value, 30.0)

    async def test_members_that_a_call_has_found_are_there_when_it_returns(self) -> None:
        await self.ready()
        others = [self.session.get("level") for _ in range(5)]
        self.assertEqual(await self.session.call("discover", 20), 20)
        self.assertEqual((await self.session.get("channel[19]")).value, 19.0)
        node: Any = self.session.resolve("channel[7]")
        self.assertEqual(node.spec.unit, "V")
        await gatherResults(others)

    async def test_members_from_a_thread_of_the_driver_s(self) -> None:
        await self.ready()
        await deferToThread(self.device.add_parameter, "other", float, initial=3.0)
        # What this thread asked for is done before what any later call gives.
        await self.session.get("level")
        self.assertEqual((await self.session.get("other")).value, 3.0)

    async def test_names_that_are_taken_are_told_to_the_log(self) -> None:
        await self.ready()
        await deferToThread(self.device.add_parameter, "hang", float)
        await self.session.get("level")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_a_hung_call_holds_up_nobody_else(self) -> None:
        await self.ready()
        self.lab.attach("other", FakeDevice(power=1.0, clock=reactor))
        hanging = self.session.call("hang")
        await deferToThread(self.device.begun.wait, 10)
        other = self.lab.open_session("test", "here", device="other")
        self.assertEqual((await other.get("power")).value, 1.0)
        late = self.client("ben").get("level", timeout=0.01)
        await self.assertFailure(late, TimedOut)
        self.device.release.set()
        self.assertEqual(await hanging, "released")

    async def test_broken_lock_takes_back_what_the_thread_has_not_begun(self) -> None:
        await self.ready()
        self.lab.may_break = True
        await self.session.lock(["slow"])
        hanging = self.session.call("hang")
        queued = self.session.set("level", 9.0)
        await deferToThread(self.device.begun.wait, 10)
        ben = self.client("ben")
        ben.break_lock("slow")
        await self.assertFailure(queued, Locked)
        await ben.lock(["slow"])
        self.device.release.set()
        self.assertEqual(await hanging, "released")
        self.assertEqual((await ben.get("level")).value, 1.0)

    async def test_what_must_be_waited_for_is_no_result(self) -> None:
        await self.ready()
        fault = await self.assertFailure(self.session.call("wrong"), DeviceFault)
        self.assertIn("slow.wrong blocks and so must return its result itself", str(fault))

    async def test_opened_while_others_ask(self) -> None:
        device = Slow()
        opened = Event()
        self.addCleanup(opened.set)
        device.connect = lambda: opened.wait(10)  # type: ignore[method-assign,assignment]
        self.lab.attach("late", device)
        session = self.lab.open_session("test", "here", device="late")
        waiting = session.get("level")
        await self.assertFailure(session.get("level", timeout=0.01), TimedOut)
        opened.set()
        self.assertEqual((await waiting).value, 1.0)

    async def test_opening_that_fails(self) -> None:
        device = Slow()
        go = Event()
        self.addCleanup(go.set)

        def connect() -> None:
            go.wait(10)
            raise OSError("no such port")

        device.connect = connect  # type: ignore[method-assign]
        self.lab.attach("late", device, retry=Retry(first=0))
        session = self.lab.open_session("test", "here", device="late")
        waiting = session.get("level")
        go.set()
        error = await self.assertFailure(waiting, NotConnected)
        self.assertEqual(str(error), "late is not connected: no such port")

    async def test_detach(self) -> None:
        await self.ready()
        await self.lab.detach("slow")
        self.assertEqual(len(self.device.threads), 1)
        self.lab.attach("slow", self.device)
        await self.session.connect()
        self.assertEqual((await self.session.get("level")).value, 1.0)

    async def test_stored_by_another_thread(self) -> None:
        await self.ready()
        heard: Deferred[list[Update]] = Deferred()
        self.session.subscribe(["temperature"], heard.callback)
        thread = Thread(target=self.device.store, args=("temperature", 50.0))
        thread.start()
        updates = await heard
        thread.join()
        assert updates[0].reading is not None
        self.assertEqual(updates[0].reading.value, 50.0)
