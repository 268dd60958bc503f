"""Devices that cannot be opened, are lost, come back, hang, or change what they are made of."""

from __future__ import annotations

from threading import Event
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from labnet import supervision
from labnet.device import Device, ParameterState, command, parameter
from labnet.device_locks import UNLOCKING
from labnet.errors import (
    DeviceFault,
    Holder,
    LabError,
    Locked,
    NotAllowed,
    NotConnected,
    TimedOut,
    UnknownName,
)
from labnet.execution import MAX_ABANDONED
from labnet.lab import Lab
from labnet.specs import make_spec
from labnet.supervision import Retry
from labnet.testing import FakeDevice, MemoryLab
from labnet.updates import Update
from labnet.values import FLOAT

EXACT = Retry(first=1.0, longest=4.0, jitter=0.0)


class SupervisedCase(SynchronousTestCase):
    """A lab with one fake device."""

    def setUp(self) -> None:
        self.device = FakeDevice("zero", power=1.0)
        self.heard: list[tuple[str, str]] = []

    def attach(self) -> None:
        self.lab = MemoryLab({"meter": self.device}, retry=EXACT)
        self.session = self.lab.session(device="meter", timeout=5.0)
        self.addCleanup(self.lab.close)

    def opened(self) -> int:
        """How often the device was asked to open."""
        return len(self.device.asked("connect"))

    def listen(self, *paths: str) -> None:
        def heard(updates: list[Update]) -> None:
            self.heard += [(update.what, update.path) for update in updates]

        self.session.subscribe(paths, heard)

    def refused(self) -> str:
        """What a client is told that asks the lost device."""
        return str(self.failureResultOf(self.session.get("power"), NotConnected).value)


class Hanging(FakeDevice):
    """Says which of its exceptions mean that the instrument is gone."""

    def means_lost(self, error: BaseException) -> bool:
        return isinstance(error, ConnectionError)


class MeansLostTests(SupervisedCase):
    """A device whose exceptions say that it is lost."""

    def setUp(self) -> None:
        super().setUp()
        self.device = Hanging("zero", power=1.0)
        self.attach()
        self.device.answer("hang_up", self.hang_up)
        self.device.answer("err", self.err)

    def hang_up(self) -> None:
        raise ConnectionResetError("the other end has gone")

    def err(self) -> None:
        raise RuntimeError("too hot")

    def test_it_is_lost_and_opened_again(self) -> None:
        self.listen("meter")
        failure = self.failureResultOf(self.session.call("hang_up"), DeviceFault)
        self.assertEqual(failure.value.kind, "ConnectionResetError")
        said = "meter is not connected: ConnectionResetError: the other end has gone"
        self.assertEqual(self.refused(), said)
        self.lab.advance(1)
        self.assertEqual(self.lab.wait(self.session.get("power")).value, 1.0)
        self.assertIn(("lost", "meter"), self.heard)
        self.assertIn(("back", "meter"), self.heard)

    def test_other_exceptions_leave_it_as_it_is(self) -> None:
        self.failureResultOf(self.session.call("err"), DeviceFault)
        self.assertEqual(self.lab.wait(self.session.get("power")).value, 1.0)
        self.assertEqual(self.opened(), 1)


class OpeningTests(SupervisedCase):
    """A device that cannot be opened at start."""

    def test_the_reason_is_told(self) -> None:
        self.device.unplug("no route to 10.0.0.5")
        self.attach()
        self.assertEqual(self.refused(), "meter is not connected: no route to 10.0.0.5")

    def test_it_is_tried_again_with_growing_pauses(self) -> None:
        self.device.unplug("no route")
        self.attach()
        counts = []
        for seconds in (0.9, 0.1, 1.9, 0.1, 3.9, 0.1, 4.0, 4.0):
            self.lab.advance(seconds)
            counts.append(self.opened())
        self.assertEqual(counts, [1, 2, 2, 3, 3, 4, 5, 6])

    def test_the_pauses_change_while_it_is_tried(self) -> None:
        self.device.unplug("no route")
        self.attach()
        self.lab.advance(7.0)
        self.assertEqual(self.opened(), 4)
        self.lab.change_retry(self.lab.devices()["meter"], 0.5, 0.5)
        self.lab.advance(0.5)
        self.assertEqual(self.opened(), 5)
        self.lab.advance(0.5)
        self.assertEqual(self.opened(), 6)
        self.lab.change_retry(self.lab.devices()["meter"], 0.0, 0.5)
        self.lab.advance(100)
        self.assertEqual(self.opened(), 6)

    def test_it_is_there_once_it_can_be_opened(self) -> None:
        self.device.unplug("no route")
        self.attach()
        self.device.plug()
        self.lab.advance(1)
        self.assertEqual(self.lab.wait(self.session.get("power")).value, 1.0)
        self.lab.advance(100)
        self.assertEqual(self.opened(), 2)

    def test_an_opening_that_hangs_is_given_up(self) -> None:
        self.device.hang("connect")
        self.attach()
        self.lab.advance(30)
        self.assertIn("did not finish within 30 s", self.refused())
        self.device.recover("connect")
        self.lab.advance(1)
        self.assertEqual(self.lab.wait(self.session.get("power")).value, 1.0)

    def test_a_client_need_not_wait_for_an_attempt_that_hangs(self) -> None:
        self.device.hang("connect")
        self.attach()
        self.device.recover("connect")
        self.lab.wait(self.session.connect(), 1.0)
        self.assertEqual(self.device.cancelled, ["connect"])
        self.assertEqual(self.lab.wait(self.session.get("power")).value, 1.0)

    def test_nothing_is_left_of_an_attempt_when_the_device_leaves(self) -> None:
        self.device.hang("connect")
        self.attach()
        self.lab.wait(self.lab.detach("meter"), 1.0)
        self.assertEqual(self.device.cancelled, ["connect"])

    def test_no_retry_where_that_is_not_wanted(self) -> None:
        self.device.unplug()
        self.lab = MemoryLab(retry=EXACT)
        self.addCleanup(self.lab.close)
        self.lab.attach("meter", self.device, retry=Retry(first=0.0))
        self.lab.advance(1000)
        self.assertEqual(self.opened(), 1)

    def test_the_pauses_of_many_differ(self) -> None:
        self.patch(supervision, "random", lambda: 0.5)
        self.device.unplug()
        self.lab = MemoryLab({"meter": self.device}, retry=Retry(1.0, 1.0, jitter=0.5))
        self.addCleanup(self.lab.close)
        counts = []
        for seconds in (1.2, 0.05, 1.2, 0.05):
            self.lab.advance(seconds)
            counts.append(self.opened())
        self.assertEqual(counts, [1, 2, 2, 3])

    def test_a_client_can_connect_it_at_once(self) -> None:
        self.device.unplug()
        self.attach()
        self.device.plug()
        self.lab.wait(self.session.connect())
        self.assertEqual(self.lab.wait(self.session.get("power")).value, 1.0)
        self.lab.advance(100)
        self.assertEqual(self.opened(), 2)


class LossTests(SupervisedCase):
    """A device that is lost on the way."""

    def setUp(self) -> None:
        super().setUp()
        self.attach()

    def test_waiting_calls_fail_at_once(self) -> None:
        self.device.hang("zero")
        calls = [self.session.call("zero"), self.session.get("power")]
        self.device.lost("the cable is out")
        for call in calls:
            error = self.failureResultOf(call, NotConnected).value
            self.assertEqual(str(error), "meter is not connected: the cable is out")

    def test_it_comes_back_by_itself(self) -> None:
        self.device.lost("gone")
        self.assertIn("gone", self.refused())
        self.lab.advance(1)
        self.assertEqual(self.lab.wait(self.session.get("power")).value, 1.0)

    def test_listeners_get_a_gap_mark_and_the_values(self) -> None:
        self.listen("power")
        self.device.lost("gone")
        self.lab.advance(0.1)
        self.device.values["power"] = 2.0
        self.lab.advance(1)
        kinds = [("lost", "meter"), ("back", "meter"), ("gap", "meter"), ("value", "meter.power")]
        self.assertEqual(self.heard, kinds)

    def test_the_gap_has_a_length(self) -> None:
        gaps: list[Any] = []
        self.session.subscribe(
            ["meter"], lambda updates: gaps.extend(u.detail for u in updates if u.what == "gap")
        )
        self.device.unplug()
        self.device.lost("gone")
        self.lab.advance(1.5)
        self.device.plug()
        self.lab.advance(2)
        self.assertEqual(gaps, [3.0])

    def test_nobody_listens_nothing_is_read(self) -> None:
        self.device.lost("gone")
        self.lab.advance(1)
        self.assertEqual(self.device.asked("get"), [])

    def test_the_device_may_say_that_it_is_back(self) -> None:
        self.device.unplug()
        self.device.lost("gone")
        self.device.plug()
        self.device.back()
        self.assertEqual(self.lab.wait(self.session.get("power")).value, 1.0)
        self.lab.advance(100)
        self.assertEqual(self.opened(), 1)

    def test_one_that_a_client_disconnected_stays_so(self) -> None:
        self.lab.wait(self.session.disconnect())
        self.lab.advance(100)
        self.assertEqual(self.opened(), 1)
        self.lab.wait(self.session.connect())
        self.device.lost("gone")
        self.lab.advance(1)
        self.assertEqual(self.opened(), 3)

    def test_disconnected_while_it_is_tried_again(self) -> None:
        self.device.unplug()
        self.device.lost("gone")
        self.lab.wait(self.session.disconnect())
        self.lab.advance(100)
        self.assertEqual(self.opened(), 1)

    def test_one_that_left_the_lab_is_left_alone(self) -> None:
        self.device.lost("gone")
        self.lab.wait(self.lab.detach("meter"))
        self.lab.advance(100)
        self.assertEqual(self.opened(), 1)
        self.device.lost("nobody cares")
        self.device.back()

    def test_a_device_that_is_never_opened_waits_for_its_own_word(self) -> None:
        plain = Device()
        plain.add_parameter("level", float, initial=1.0)
        self.lab.attach("plain", plain)
        plain.lost("gone")
        self.lab.advance(100)
        self.failureResultOf(self.session.get("plain.level"), NotConnected)
        plain.back()
        self.assertEqual(self.lab.wait(self.session.get("plain.level")).value, 1.0)

    def test_locks_last(self) -> None:
        self.lab.wait(self.session.lock(["meter"]))
        self.device.lost("gone")
        self.lab.advance(1)
        ben = self.lab.session("ben", device="meter")
        self.failureResultOf(ben.call("zero"), Locked)


class ProbeTests(SupervisedCase):
    """Signs of life."""

    def setUp(self) -> None:
        super().setUp()
        self.alive = True
        self.probes = 0
        self.device.probe_interval = 2.0
        self.device.probe = self.probe  # type: ignore[method-assign]
        self.attach()

    def probe(self) -> None:
        self.probes += 1
        if not self.alive:
            raise DeviceFault("no answer to the sign of life")

    def test_they_are_asked_for(self) -> None:
        self.lab.advance(10)
        self.assertEqual(self.probes, 5)

    def test_without_one_the_device_is_lost(self) -> None:
        self.alive = False
        self.lab.advance(2)
        self.assertIn("no answer to the sign of life", self.refused())

    def test_not_while_it_is_busy(self) -> None:
        self.device.hang("zero")
        self.session.call("zero", timeout=100).addErrback(lambda _: None)
        self.lab.advance(10)
        self.assertEqual(self.probes, 0)


class StuckTests(SupervisedCase):
    """A call that does not return, in a device that does not hear that it was given up."""

    def setUp(self) -> None:
        super().setUp()
        self.held: Deferred[None] = Deferred(lambda _: self.held.addErrback(lambda _: Deferred()))
        self.device.answer("stick", lambda: self.never())
        self.attach()

    def never(self) -> Deferred[None]:
        outer: Deferred[None] = Deferred(lambda _: outer.callback(None))
        return outer.addCallback(lambda _: self.held)

    def stick(self) -> None:
        self.failure(self.session.call("stick", timeout=5.0), 5.0)

    def failure(self, call: Deferred[Any], seconds: float) -> LabError:
        self.lab.advance(seconds)
        error = self.failureResultOf(call, TimedOut).value
        assert isinstance(error, LabError)
        return error

    def test_the_next_callers_are_told(self) -> None:
        self.stick()
        queue = self.lab.devices()["meter"].queue
        self.lab.advance(27)
        self.assertEqual(queue.condition, "stuck in meter.stick for 32 s")
        error = self.failure(self.session.get("power", timeout=2.0), 2.0)
        self.assertEqual(
            str(error),
            "meter.power did not finish within 2 s: meter is stuck in meter.stick for 34 s",
        )

    def test_within_its_time_nothing_is_stuck(self) -> None:
        self.session.call("stick", timeout=5.0).addErrback(lambda _: None)
        self.lab.advance(4)
        self.assertEqual(self.lab.devices()["meter"].queue.condition, "")
        self.lab.advance(1)

    def test_disconnect_and_connect_restart_it(self) -> None:
        self.stick()
        waiting = self.session.get("power")
        self.lab.wait(self.session.disconnect())
        error = self.failureResultOf(waiting, NotConnected).value
        self.assertIn("restarted, as it was stuck in meter.stick", str(error))
        self.lab.wait(self.session.connect())
        self.assertEqual(self.lab.wait(self.session.get("power")).value, 1.0)

    def test_connect_alone_does_too(self) -> None:
        self.stick()
        self.lab.wait(self.session.connect())
        self.assertEqual(self.lab.wait(self.session.get("power")).value, 1.0)

    def test_nobody_restarts_what_another_holds(self) -> None:
        self.stick()
        ben = self.lab.session("ben", device="meter")
        self.lab.wait(ben.lock(["meter"]))
        self.failureResultOf(self.session.disconnect(), Locked)
        self.assertIn("stuck", self.lab.devices()["meter"].queue.condition)


class Composed(FakeDevice):
    """A device whose members are known only once it is connected."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names

    def connect(self) -> Any:
        super().connect()
        members: dict[str, Any] = {}
        for name in self.names:
            if name.startswith("part"):
                part = Device()
                part.add_parameter("value", float, initial=1.0)
                members[name] = part
            else:
                spec = make_spec(name, FLOAT, initial=1.0, poll=1.0)
                members[name] = ParameterState(self, spec, lambda: 2.0)
        self.replace_members(members)


class MemberTests(SynchronousTestCase):
    """Members that come, stay and go when a device is connected again."""

    def setUp(self) -> None:
        self.device = Composed("power", "part1", "part2")
        self.lab = MemoryLab({"meter": self.device}, retry=EXACT)
        self.session = self.lab.session(device="meter", timeout=5.0)
        self.addCleanup(self.lab.close)
        self.heard: list[tuple[str, str]] = []

    def heard_by(self, updates: list[Update]) -> None:
        self.heard += [(update.what, update.path) for update in updates]

    def reconnect(self, *names: str) -> None:
        self.device.names = names
        self.device.lost("gone")
        self.lab.advance(1.0)

    def test_they_are_there_after_connecting(self) -> None:
        children = self.lab.devices()["meter"].children
        self.assertEqual(list(children), ["power", "part1", "part2"])
        self.assertEqual(self.lab.wait(self.session.get("part1.value")).value, 1.0)

    def test_what_stays_keeps_its_node_and_its_lock(self) -> None:
        node = self.session.resolve("part1")
        self.lab.wait(self.session.lock(["part1"]))
        self.reconnect("power", "part1", "part3")
        self.assertIs(self.session.resolve("part1"), node)
        self.assertEqual([hold.path for hold in self.session.holdings()], ["meter.part1"])

    def test_locks_on_what_has_gone_end(self) -> None:
        self.lab.wait(self.session.lock(["part1", "part2.value"]))
        self.reconnect("power", "part1")
        self.assertEqual([hold.path for hold in self.session.holdings()], ["meter.part1"])
        self.failureResultOf(self.session.get("part2.value"), UnknownName)

    def test_listeners_follow(self) -> None:
        self.session.subscribe(["part2.value", "power"], self.heard_by)
        self.reconnect("part1")
        self.assertIn(("lost", "meter.power"), self.heard)
        self.heard.clear()
        self.reconnect("power", "part2")
        self.lab.advance(0)
        self.assertIn(("value", "meter.power"), self.heard)
        self.assertIn(("value", "meter.part2.value"), self.heard)

    def test_polls_follow(self) -> None:
        self.session.subscribe(["meter"], self.heard_by)
        self.reconnect("part1")
        self.heard.clear()
        self.lab.advance(5)
        self.assertEqual(self.heard, [])
        self.reconnect("power")
        self.heard.clear()
        self.lab.advance(2.5)
        self.assertEqual(self.heard.count(("value", "meter.power")), 2)

    def test_watchers_hear_of_it(self) -> None:
        arrived: list[str] = []
        self.lab.watch(lambda node: arrived.append(node.path), lambda node: None)
        self.reconnect("part1")
        self.assertEqual(arrived, ["meter"])

    def test_sequence_numbers_only_grow(self) -> None:
        before = self.lab.wait(self.session.get("power")).sequence
        self.reconnect("power")
        self.assertGreater(self.lab.wait(self.session.get("power")).sequence, before)

    def test_another_sort_of_the_same_name(self) -> None:
        self.device.replace_members({"power": Device()})
        self.assertEqual(list(self.lab.devices()["meter"].children), ["power"])
        self.assertEqual(self.session.resolve("power").path, "meter.power")

    def test_members_in_place_of_others_have_headers(self) -> None:
        session = self.lab.session("instrument", device="meter")
        self.assertEqual(self.lab.wait(session.channel().execute(b"POWER?")), b"2")
        session.close()
        self.reconnect("level", "part1", "part2")
        session = self.lab.session("instrument", device="meter")
        self.assertEqual(self.lab.wait(session.channel().execute(b"LEVEL?")), b"2")
        self.assertEqual(self.lab.wait(session.channel().execute(b"POWER?")), b"")

    def test_before_it_is_in_a_lab(self) -> None:
        device = Device()
        state = ParameterState(device, make_spec("level", FLOAT))
        device.replace_members({"level": state})
        self.assertEqual(device.members, {"level": state})
        self.assertRaises(ValueError, device.replace_members, {"no name": state})


class Guarded(FakeDevice):
    """A device with a lock of its own."""

    def __init__(self) -> None:
        super().__init__(power=1.0, level=1.0)
        self.told: list[tuple[Any, ...]] = []
        self.refusal: LabError | None = None
        self.answer_to_lock: Deferred[None] | None = None

    def locked(self, path: str, holder: str, wait: float) -> Any:
        self.told.append(("locked", path, holder, wait))
        if self.refusal is not None:
            raise self.refusal
        return self.answer_to_lock

    def unlocked(self, path: str) -> None:
        self.told.append(("unlocked", path))


class DeviceLockTests(SynchronousTestCase):
    """Locks passed on to a device that has one of its own."""

    def setUp(self) -> None:
        self.device = Guarded()
        self.lab = MemoryLab({"meter": self.device, "other": FakeDevice(power=1.0)})
        self.ann = self.lab.session("ann", timeout=5.0)
        self.ben = self.lab.session("ben", timeout=5.0)
        self.addCleanup(self.lab.close)

    def test_taken_and_given_back(self) -> None:
        grant = self.successResultOf(self.ann.lock(["meter", "other"]))
        self.assertEqual([hold.path for hold in grant.holds], ["meter", "other"])
        self.ann.unlock()
        self.assertEqual(self.device.told, [("locked", "", "ann", 0.0), ("unlocked", "")])

    def test_a_part(self) -> None:
        self.successResultOf(self.ann.lock(["meter.power"], wait=3.0))
        self.ann.close()
        self.assertEqual(
            self.device.told, [("locked", "power", "ann", 3.0), ("unlocked", "power")]
        )

    def test_a_refusal_is_told_to_who_wanted_the_lock(self) -> None:
        self.device.refusal = Locked(Holder("meter", "eve", "plesty", "10.0.0.9", 5.0))
        error = self.failureResultOf(self.ann.lock(["meter", "other"]), Locked).value
        self.assertIn("eve (plesty 10.0.0.9", str(error))
        self.assertEqual(self.ann.holdings(), [])
        self.device.refusal = None
        self.successResultOf(self.ben.lock(["meter"]))

    def test_shared_ones_are_one_lock_there(self) -> None:
        from labnet.locks import Mode

        for session in (self.ann, self.ben):
            self.successResultOf(session.lock(["meter"], mode=Mode.SHARED, key="k"))
        self.ann.unlock()
        self.assertEqual([told[0] for told in self.device.told], ["locked", "locked"])
        self.ben.unlock()
        self.assertEqual(self.device.told[-1], ("unlocked", ""))

    def test_a_lease_that_ends(self) -> None:
        self.successResultOf(self.ann.lock(["meter"], lease=2.0))
        self.lab.advance(2.1)
        self.assertEqual(self.device.told[-1], ("unlocked", ""))

    def test_the_client_goes_while_the_device_is_asked(self) -> None:
        self.device.answer_to_lock = Deferred()
        waiting = self.ann.lock(["meter"])
        self.assertNoResult(waiting)
        self.ann.close()
        self.failureResultOf(waiting)
        self.device.answer_to_lock = None
        self.successResultOf(self.ben.lock(["meter"]))

    def test_it_is_told_of_the_end_though_it_is_not_connected(self) -> None:
        """Else it would take the lock again when it is back, for nobody."""
        self.successResultOf(self.ann.lock(["meter"]))
        self.lab.lose(self.lab.devices()["meter"], "gone")
        self.ann.unlock()
        self.assertEqual(self.device.told[-1], ("unlocked", ""))

    def test_it_is_told_once_it_answers_again(self) -> None:
        """What it could not give back in time it gives back later, if nobody holds it then."""
        self.successResultOf(self.ann.lock(["meter.power"]))
        self.successResultOf(self.ann.lock(["meter.level"]))
        held: Deferred[None] = Deferred()
        outer: Deferred[None] = Deferred(lambda _: outer.callback(None))
        self.device.answer("stick", lambda: outer.addCallback(lambda _: held))
        sticking = self.ann.call("meter.stick", timeout=1.0)
        self.ann.unlock()
        self.lab.advance(UNLOCKING + 0.1)
        self.failureResultOf(sticking, TimedOut)
        self.assertEqual([told[0] for told in self.device.told], ["locked", "locked"])
        held.callback(None)
        self.successResultOf(self.ben.lock(["meter.power"]))
        self.lab.wait(self.ben.connect("meter"))
        self.assertEqual(self.device.told[-1], ("unlocked", "level"))
        self.assertNotIn(("unlocked", "power"), self.device.told)

    def test_not_while_it_is_not_connected(self) -> None:
        self.lab.lose(self.lab.devices()["meter"], "gone")
        self.failureResultOf(self.ann.lock(["meter"]), NotConnected)
        self.assertEqual(self.ann.holdings(), [])


class Blocking(Device):
    """A device whose calls hang until the test lets them go."""

    blocking = True
    level = parameter(float, initial=1.0)

    def __init__(self) -> None:
        self._begun = Event()
        self._go = Event()

    @command
    def hang(self) -> str:
        """Does not return before it may."""
        self._begun.set()
        self._go.wait(30)
        return "late"

    @parameter
    def reading(self) -> float:
        """Read in the device's thread."""
        return 2.0


class ThreadTests(TestCase):
    """A blocking device is given a new thread."""

    timeout = 20

    def setUp(self) -> None:
        self.lab = Lab(reactor=reactor)
        self.device = Blocking()
        self.lab.attach("slow", self.device)
        self.session = self.lab.open_session("test", "here", device="slow", timeout=5.0)
        self.addCleanup(self.lab.stop, 5.0)
        self.addCleanup(self.device._go.set)

    async def stick(self) -> None:
        self.device._begun.clear()
        hanging = self.session.call("hang", timeout=0.02)
        await deferToThread(self.device._begun.wait, 10)
        await self.assertFailure(hanging, TimedOut)

    async def test_a_new_thread_serves_while_the_old_one_hangs(self) -> None:
        await self.stick()
        self.assertIn("stuck in slow.hang", self.lab.devices()["slow"].queue.condition)
        waiting = self.session.get("reading")
        await self.session.disconnect()
        await self.assertFailure(waiting, NotConnected)
        await self.session.connect()
        self.assertEqual((await self.session.get("reading")).value, 2.0)
        self.assertFalse(self.device._go.is_set())

    async def test_not_without_end(self) -> None:
        for _ in range(MAX_ABANDONED):
            await self.stick()
            await self.session.connect()
        await self.stick()
        error = await self.assertFailure(self.session.connect(), NotAllowed)
        self.assertIn("restart the lab", str(error))
        self.device._go.set()
        while self.lab.devices()["slow"].queue._abandoned:
            await deferToThread(lambda: None)
        self.assertEqual((await self.session.get("reading")).value, 2.0)

    async def test_lost_from_a_thread_of_the_driver_s(self) -> None:
        await deferToThread(self.device.lost, "the watchdog says so")
        await self.assertFailure(self.session.get("reading"), NotConnected)
        await deferToThread(self.device.back)
        self.assertEqual((await self.session.get("reading")).value, 2.0)
