"""One client's presence in the lab: its verbs, its locks, its end."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device, command, parameter
from labnet.errors import (
    BadArguments,
    Cancelled,
    DeviceFault,
    Holder,
    LabError,
    Locked,
    NotAllowed,
    NotConnected,
    NotReadable,
    NotWritable,
    OutOfRange,
    TimedOut,
    TooLarge,
    UnknownName,
    WrongType,
)
from labnet.locks import Mode
from labnet.registry import Node, ParameterNode
from labnet.session import Session
from labnet.testing import FakeDevice, MemoryLab


class Axis(Device):
    position = parameter(float, limits=(0, 100), initial=0.0)

    def __init__(self) -> None:
        self.stopped = 0
        self.moves: list[tuple[float, Deferred[None]]] = []
        self.stop_fails = False

    @command(long=True)
    def move(self, to: float) -> Deferred[None]:
        self.moves.append((to, Deferred()))
        return self.moves[-1][1]

    @command
    def stop(self) -> None:
        self.stopped += 1
        if self.stop_fails:
            raise OSError("stuck")


class Stage(Device):
    """Two axes, a parameter that goes to the instrument, commands of each kind."""

    fast = parameter(bool)

    def __init__(self) -> None:
        self.x = Axis()
        self.y = Axis()
        self.voltage = 1.0
        self.waiting: list[Deferred[Any]] = []

    @parameter(unit="V")
    def level(self) -> float:
        return self.voltage

    @level.setter
    def set_level(self, value: float) -> Deferred[None]:
        def took(_: object) -> None:
            self.voltage = value

        self.waiting.append(Deferred())
        return self.waiting[-1].addCallback(took)

    @command
    def home(self) -> Deferred[str]:
        self.waiting.append(Deferred())
        return self.waiting[-1]

    @command(reads=True)
    def report(self) -> str:
        return "fine"

    @command(touches="x")
    def home_x(self) -> str:
        return "x is home"

    @command
    def echo(self, timeout: float, text: str = "") -> str:
        return f"{timeout:g}{text}"


class SessionCase(SynchronousTestCase):
    """Ann and Ben are clients of one lab with one stage."""

    options: dict[str, Any] = {}

    def setUp(self) -> None:
        self.stage = Stage()
        self.lab = MemoryLab({"stage": self.stage}, **self.options)
        self.ann = self.client("ann")
        self.ben = self.client("ben")

    def client(self, name: str | None, wire: str = "test", **options: Any) -> Session:
        options.setdefault("timeout", 10.0)
        return self.lab.open_session(wire, "192.0.2.1:5", name=name, device="stage", **options)

    def gives(self, deferred: Deferred[Any]) -> Any:
        return self.successResultOf(deferred)

    def fails(self, deferred: Deferred[Any], error: type[Exception], words: str = "") -> Any:
        failure = self.failureResultOf(deferred, error)
        self.assertIn(words, str(failure.value))
        return failure.value

    def value(self, session: Session, path: str) -> Any:
        return self.gives(session.get(path)).value


class VerbTests(SessionCase):
    """get, set, call, describe."""

    def test_get_and_set(self) -> None:
        reading = self.gives(self.ann.set("x.position", 5))
        self.assertEqual(reading.value, 5.0)
        self.assertEqual(self.gives(self.ben.get("x.position")), reading)

    def test_paths_begin_at_the_device_or_at_the_root(self) -> None:
        for path in ("x.position", "stage.x.position", ("x", "position"), "X.Position"):
            self.assertEqual(self.gives(self.ann.get(path)).value, 0.0)
        root = self.lab.session(device=None)
        self.assertEqual(self.value(root, "stage.fast"), False)
        self.fails(root.get("fast"), UnknownName, "unknown device 'fast'")

    def test_device_may_be_a_sub_device(self) -> None:
        session = self.lab.session(device="stage.x")
        self.assertEqual(self.value(session, "position"), 0.0)
        session = self.lab.session(device="stage.x.position")
        self.assertEqual(self.value(session, "position"), 0.0)
        self.assertRaises(UnknownName, self.lab.session, device="stge")

    def test_what_is_what(self) -> None:
        self.fails(self.ann.get("x"), NotReadable, "stage.x is a device, not a parameter")
        self.fails(self.ann.get("home"), NotReadable, "stage.home is a command")
        self.fails(self.ann.set("home", 1), NotWritable, "stage.home is a command")
        self.fails(self.ann.call("fast"), NotReadable, "stage.fast is a parameter")

    def test_values_are_checked_before_the_device(self) -> None:
        self.fails(self.ann.set("x.position", 101), OutOfRange)
        self.fails(self.ann.set("x.position", math.nan), OutOfRange)
        self.fails(self.ann.set("x.position", "far"), WrongType)
        self.fails(self.ann.call("x.move"), BadArguments)
        self.fails(self.ann.call("x.move", "far"), WrongType)
        self.assertEqual(self.stage.x.moves, [])

    def test_call(self) -> None:
        self.assertEqual(self.gives(self.ann.call("report")), "fine")
        self.assertEqual(self.gives(self.ann.call_with("echo", (5,), {"text": "s"})), "5s")
        self.assertEqual(self.gives(self.ann.call_with("echo", (), {"timeout": 5})), "5")

    def test_describe(self) -> None:
        node = self.ann.describe("level")
        assert isinstance(node, ParameterNode)
        self.assertEqual(node.spec.unit, "V")
        self.assertEqual(self.ann.describe().path, "stage")
        self.assertIs(self.ann.resolve(node), node)
        self.assertRaises(NotAllowed, self.lab.session(device=None).describe)

    def test_nodes_for_paths(self) -> None:
        node: Any = self.ann.resolve("level")
        self.gives(self.ann.lock([node]))
        self.assertEqual([hold.path for hold in self.ann.lock_info(node)], ["stage.level"])

    @given(st.text(st.characters()), st.one_of(st.none(), st.text(st.characters()), st.integers()))
    def test_nothing_but_lab_errors(self, path: str, value: Any) -> None:
        for deferred in (self.ann.get(path), self.ann.set(path, value),
                         self.ann.call(path, value), self.ann.set("x.position", value),
                         self.ann.call("x.move", value, to=value)):  # fmt: skip
            result: list[Any] = []
            deferred.addBoth(result.append)
            if result and hasattr(result[0], "check"):
                self.assertTrue(result[0].check(LabError), result[0])

    def test_repr(self) -> None:
        self.assertEqual(repr(self.ann), "<Session ann (test 192.0.2.1:5)>")


class TimeTests(SessionCase):
    """Whose time limit holds, and what a limit may be."""

    def test_the_session_s(self) -> None:
        home = self.ann.call("home")
        self.lab.advance(9.9)
        self.assertNoResult(home)
        self.lab.advance(0.1)
        self.fails(home, TimedOut, "stage.home did not finish within 10 s")

    def test_the_caller_s(self) -> None:
        home = self.ann.call("home", timeout=2)
        self.lab.advance(2)
        self.fails(home, TimedOut, "2 s")

    def test_the_command_s(self) -> None:
        self.stage.add_command("long_home", self.stage.home, timeout=60)
        home = self.ann.call("long_home")
        self.lab.advance(59)
        self.assertNoResult(home)
        self.lab.advance(1)
        self.fails(home, TimedOut, "60 s")

    def test_the_device_s(self) -> None:
        self.lab.devices()["stage"].device_queue.limit = 3.0
        home = self.ann.call("home")
        self.lab.advance(3)
        self.fails(home, TimedOut, "3 s")

    def test_none(self) -> None:
        home = self.client(None, timeout=None).call("home")
        self.lab.advance(1e6)
        self.assertNoResult(home)
        self.assertEqual(self.lab.net.getDelayedCalls(), [])
        self.assertNoResult(self.ann.call("report", timeout=math.inf))
        self.assertEqual(self.lab.net.getDelayedCalls(), [])

    def test_impossible(self) -> None:
        for limit in (-1, math.nan, 1e12):
            for deferred in (
                self.ann.call("report", timeout=limit), self.ann.get("level", timeout=limit),
                self.ann.set("fast", True, timeout=limit), self.ann.stop("x", timeout=limit),
                self.ann.connect(timeout=limit),
                self.ann.turn(self.lab.devices()["stage"], timeout=limit),
            ):  # fmt: skip
                self.fails(deferred, OutOfRange, "the time limit in seconds")

    def test_no_time_at_all(self) -> None:
        home = self.ann.call("home", timeout=0)
        self.lab.advance()
        self.fails(home, TimedOut)
        self.assertEqual(self.gives(self.ann.call("report", timeout=0)), "fine")


class OrderTests(SessionCase):
    """What a client has written it reads, whatever the device is busy with."""

    def test_get_after_set(self) -> None:
        written = self.ann.set("level", 5)
        read = self.ann.get("level")
        self.assertNoResult(read)
        self.stage.waiting[0].callback(None)
        self.assertEqual((self.gives(written).value, self.gives(read).value), (5.0, 5.0))

    def test_stored_parameter_after_its_own_set(self) -> None:
        home = self.ann.call("home")
        written = self.ann.set("fast", True)
        read = self.ann.get("fast")
        self.assertNoResult(read)
        self.assertIs(self.value(self.ben, "fast"), False, "others need not wait")
        self.stage.waiting[0].callback("home")
        self.assertEqual((self.gives(home), self.gives(written).value), ("home", True))
        self.assertIs(self.gives(read).value, True)

    def test_cancelled_call(self) -> None:
        home = self.ann.call("home")
        waiting = self.ben.call("home")
        waiting.cancel()
        self.fails(waiting, CancelledError)
        self.stage.waiting[0].callback("home")
        self.assertEqual(self.gives(home), "home")
        self.assertEqual(len(self.stage.waiting), 1, "the cancelled one was never begun")
        self.assertEqual((self.ann.outstanding, self.ben.outstanding), (0, 0))

    def test_get_can_be_cancelled_and_others_go_on(self) -> None:
        self.ann.call("home")
        reads = [self.ben.get("level") for _ in range(3)]
        reads[1].cancel()
        self.fails(reads[1], CancelledError)
        self.stage.waiting[0].callback(None)
        self.assertEqual([self.gives(reads[n]).value for n in (0, 2)], [1.0, 1.0])

    def test_a_long_call_leaves_the_device_free(self) -> None:
        move = self.ann.call("x.move", 5.0)
        self.assertEqual(self.value(self.ben, "level"), 1.0)
        self.stage.x.moves[0][1].callback(None)
        self.assertIsNone(self.gives(move))

    def test_own_calls_count_per_session(self) -> None:
        self.ann.call("home")
        self.assertEqual((self.ann.outstanding, self.ben.outstanding), (1, 0))
        self.stage.waiting[0].errback(OSError("stuck"))
        self.assertEqual(self.ann.outstanding, 0)
        self.flushLoggedErrors()


class StopTests(SessionCase):
    """An end to motions."""

    def test_a_device_s_own(self) -> None:
        self.assertIsNone(self.gives(self.ann.stop("x")))
        self.assertEqual((self.stage.x.stopped, self.stage.y.stopped), (1, 0))

    def test_all_of_its_parts(self) -> None:
        self.assertIsNone(self.gives(self.ann.stop()))
        self.assertEqual((self.stage.x.stopped, self.stage.y.stopped), (1, 1))

    def test_one_that_fails_does_not_keep_the_others(self) -> None:
        self.stage.x.stop_fails = True
        self.fails(self.ann.stop(), DeviceFault, "stuck")
        self.assertEqual(self.stage.y.stopped, 1)

    def test_its_own_alone_where_it_has_one(self) -> None:
        stops: list[str] = []
        self.stage.add_command("halt", lambda: stops.append("halt"), stop=True)
        self.gives(self.ann.stop())
        self.assertEqual((stops, self.stage.x.stopped), (["halt"], 0))

    def test_none(self) -> None:
        self.lab.attach("meter", FakeDevice("zero"))
        self.fails(self.ann.stop("meter"), NotAllowed, "meter has no command that stops it")
        self.fails(self.ann.stop("mter"), UnknownName)

    def test_overtakes_what_waits(self) -> None:
        self.ann.call("home")
        waiting = self.ann.call("home")
        stopped = self.ben.stop("x")
        self.stage.waiting[0].callback(None)
        self.gives(stopped)
        self.assertNoResult(waiting)


class HardwareTests(SynchronousTestCase):
    """connect and disconnect."""

    def setUp(self) -> None:
        self.device = FakeDevice("zero", power=1.0)
        self.lab = MemoryLab({"meter": self.device})
        self.session = self.lab.session(device="meter", timeout=10.0)

    def test_disconnect_and_connect(self) -> None:
        self.lab.wait(self.session.disconnect())
        for deferred in (self.session.get("power"), self.session.call("zero")):
            error = self.failureResultOf(deferred, NotConnected).value
            self.assertEqual(str(error), "meter is not connected: disconnected by tester")
        self.lab.wait(self.session.connect())
        self.assertEqual(self.lab.wait(self.session.get("power")).value, 1.0)

    def test_by_the_path_of_a_part(self) -> None:
        self.lab.wait(self.lab.session(device=None).disconnect("meter.power"))
        self.failureResultOf(self.session.get("power"), NotConnected)

    def test_refused_while_another_holds_it(self) -> None:
        self.lab.wait(self.lab.session("ann").lock(["meter"]))
        for deferred in (self.session.disconnect(), self.session.connect()):
            self.failureResultOf(deferred, Locked)
        self.assertIsNone(self.lab.devices()["meter"].queue.unavailable)

    def test_a_connect_that_waits_in_vain_loses_nothing(self) -> None:
        self.device.hang("zero")
        zero = self.lab.session("ann", device="meter").call("zero")
        given_up = self.session.connect()
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        late = self.session.connect(timeout=1.0)
        self.lab.advance(1)
        self.failureResultOf(late, TimedOut)
        self.assertNoResult(zero)
        self.device.release()
        self.assertIsNone(self.successResultOf(zero))

    def test_a_connect_that_fails_loses_the_device(self) -> None:
        self.device.fail("no answer", "connect")
        self.failureResultOf(self.session.connect(), DeviceFault)
        error = self.failureResultOf(self.session.get("power"), NotConnected).value
        self.assertEqual(str(error), "meter is not connected: no answer")

    def test_a_connect_given_up_half_way(self) -> None:
        self.device.hang("connect")
        connecting = self.session.connect()
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        error = self.failureResultOf(self.session.get("power"), NotConnected).value
        self.assertEqual(str(error), "meter is not connected: meter connect was given up")

    def test_a_disconnect_that_fails_leaves_it_as_it_was(self) -> None:
        def disconnect() -> None:
            raise OSError("busy")

        self.device.disconnect = disconnect  # type: ignore[method-assign]
        self.failureResultOf(self.session.disconnect(), DeviceFault)
        self.assertEqual(self.lab.wait(self.session.get("power")).value, 1.0)


class LockTests(SessionCase):
    """Locks, as one client has them and another meets them."""

    def test_others_are_refused_and_told_by_whom(self) -> None:
        grant = self.gives(self.ann.lock(["stage"], note="night run"))
        self.assertEqual([hold.path for hold in grant.new], ["stage"])
        self.lab.advance(5)
        error = self.fails(self.ben.set("fast", True), Locked)
        self.assertEqual(str(error), "stage.fast is locked at stage by ann (test 192.0.2.1:5,"
                         " for 5 s)")  # fmt: skip
        for deferred in (self.ben.call("home"), self.ben.call("x.stop"), self.ben.stop("x"),
                         self.ben.connect(), self.ben.lock(["x"])):  # fmt: skip
            self.fails(deferred, Locked)
        self.assertEqual(self.gives(self.ann.set("fast", True)).value, True)
        self.assertEqual(self.ann.unlock()[0].path, "stage")
        self.gives(self.ben.set("fast", False))

    def test_the_path_wanted_is_named(self) -> None:
        self.gives(self.ann.lock(["x"]))
        for deferred, wanted in (
            (self.ben.set("x.position", 1), "stage.x.position is locked at stage.x by ann"),
            (self.ben.call("home"), "stage is locked at stage.x by ann"),
            (self.ben.lock(["stage"]), "stage is locked at stage.x by ann"),
            (self.ben.lock(["x"]), "stage.x is locked by ann"),
            (self.ben.call("home_x"), "stage.x is locked by ann"),
        ):  # fmt: skip
            self.fails(deferred, Locked, wanted)

    def test_touches(self) -> None:
        self.gives(self.ann.lock(["y"]))
        self.assertEqual(self.gives(self.ben.call("home_x")), "x is home")
        self.fails(self.ben.call("home"), Locked)
        self.gives(self.ben.lock(["x"]))
        self.fails(self.ann.call("home_x"), Locked, "by ben")

    def test_reads_stay_open(self) -> None:
        self.gives(self.ann.lock(["stage"]))
        self.assertEqual(self.value(self.ben, "level"), 1.0)
        self.assertEqual(self.value(self.ben, "fast"), False)
        self.assertEqual(self.gives(self.ben.call("report")), "fine")

    def test_all_or_none(self) -> None:
        self.gives(self.ann.lock(["y"]))
        self.fails(self.ben.lock(["x", "y"]), Locked)
        self.assertEqual(self.ben.holdings(), [])
        self.fails(self.ben.lock(["x", "z"]), UnknownName)
        self.assertEqual(self.ben.holdings(), [])

    def test_replace(self) -> None:
        self.gives(self.ben.lock(["x"]))
        self.gives(self.ben.lock(["y"], replace=True))
        self.assertEqual([hold.path for hold in self.ben.holdings()], ["stage.y"])

    def test_shared(self) -> None:
        self.gives(self.ann.lock(["x"], mode=Mode.SHARED, key="k"))
        self.gives(self.ben.lock(["x"], mode=Mode.SHARED, key="k"))
        eve = self.client("eve")
        self.fails(eve.set("x.position", 1), Locked)
        self.gives(self.ben.set("x.position", 1))
        self.fails(eve.lock(["x"], mode=Mode.SHARED), BadArguments)

    def test_wait(self) -> None:
        self.gives(self.ann.lock(["x"]))
        granted = self.ben.lock(["x"], wait=5)
        late = self.client("eve").lock(["x"], wait=2)
        self.lab.advance(2)
        self.fails(late, Locked)
        self.ann.unlock(["x"])
        self.gives(granted)

    def test_a_wait_may_be_cancelled(self) -> None:
        self.gives(self.ann.lock(["x"]))
        granted = self.ben.lock(["x"], wait=5)
        granted.cancel()
        self.fails(granted, CancelledError)
        self.ann.unlock()
        self.assertEqual(self.ben.holdings(), [])

    def test_lease(self) -> None:
        self.gives(self.ann.lock(["x"], lease=10))
        self.lab.advance(8)
        self.ann.renew()
        self.lab.advance(8)
        self.fails(self.ben.lock(["x"]), Locked, "for 16 s, 2 s left")
        self.lab.advance(2)
        self.gives(self.ben.lock(["x"]))

    def test_info(self) -> None:
        self.gives(self.ann.lock(["x"]))
        self.assertEqual([hold.owner.name for hold in self.ben.lock_info("stage")], ["ann"])
        self.assertEqual([holder.name for holder in self.ben.holders("x.position")], ["ann"])
        self.assertEqual(self.ben.lock_info("y"), [])

    def test_unlock_of_what_is_not_held(self) -> None:
        self.assertEqual(self.ben.unlock(), [])
        self.assertEqual(self.ben.unlock(["x"]), [])
        self.assertRaises(UnknownName, self.ben.unlock, ["z"])
        self.ben.renew()

    def test_impossible(self) -> None:
        self.fails(self.ann.lock(["x"], lease=-1), OutOfRange)
        self.fails(self.ann.lock(["x"], lease=math.nan), OutOfRange)
        self.fails(self.ann.lock(["x"], note="n" * 1000), TooLarge)
        self.assertEqual(self.ann.holdings(), [])

    def test_the_lock_is_asked_when_the_device_takes_up_the_call(self) -> None:
        self.ann.call("home")
        queued = self.ben.call("home")
        self.gives(self.ann.lock(["stage"]))
        self.stage.waiting[0].callback(None)
        self.fails(queued, Locked)
        self.assertEqual(len(self.stage.waiting), 1)


class ClosedReadsTests(SessionCase):
    """``reads = closed`` and ``stop = open``."""

    options = {"reads_open": False, "stop_open": True}

    def test_reads_are_refused(self) -> None:
        self.gives(self.ann.lock(["stage"]))
        for deferred in (self.ben.get("fast"), self.ben.get("level"), self.ben.call("report")):
            self.fails(deferred, Locked)
        self.assertEqual(self.value(self.ann, "fast"), False)

    def test_stop_is_not(self) -> None:
        self.gives(self.ann.lock(["stage"]))
        self.gives(self.ben.stop())
        self.gives(self.ben.call("x.stop"))
        self.assertEqual((self.stage.x.stopped, self.stage.y.stopped), (2, 1))


class PatientTests(SessionCase):
    """Sessions whose operations wait for another's lock."""

    def setUp(self) -> None:
        super().setUp()
        self.patient = self.client(None, wait_for_locks=True, timeout=2.0)

    def test_waits_before_the_queue_and_beyond_the_deadline(self) -> None:
        self.gives(self.ann.lock(["stage"]))
        written = self.patient.set("fast", True)
        self.lab.advance(60)
        self.assertNoResult(written)
        self.assertEqual(self.gives(self.ann.call("report")), "fine", "the device is not held up")
        self.ann.unlock()
        self.assertIs(self.gives(written).value, True)

    def test_deadline_begins_after_the_wait(self) -> None:
        self.gives(self.ann.lock(["stage"]))
        home = self.patient.call("home")
        self.lab.advance(60)
        self.ann.unlock()
        self.lab.advance(1.9)
        self.assertNoResult(home)
        self.lab.advance(0.2)
        self.fails(home, TimedOut)

    def test_waits_again_if_the_lock_is_taken_while_it_is_queued(self) -> None:
        self.gives(self.ben.lock(["y"]))
        home = self.ann.call("home_x")
        self.gives(home)
        busy = self.ben.call("y.move", 1.0)
        self.assertNoResult(busy)
        held = self.client("eve")
        self.ben.unlock()
        blocker = held.call("home")
        written = self.patient.set("fast", True)
        self.gives(self.ann.lock(["fast"]))
        self.stage.waiting[-1].callback(None)
        self.gives(blocker)
        self.assertNoResult(written)
        self.ann.unlock()
        self.assertIs(self.gives(written).value, True)

    def test_cancel(self) -> None:
        self.gives(self.ann.lock(["stage"]))
        written = self.patient.set("fast", True)
        written.cancel()
        self.fails(written, CancelledError)
        self.ann.unlock()
        self.assertIs(self.value(self.ben, "fast"), False)

    def test_close_while_waiting(self) -> None:
        self.gives(self.ann.lock(["stage"]))
        written = self.patient.set("fast", True)
        self.patient.close()
        self.failureResultOf(written)
        self.ann.unlock()
        self.assertIs(self.value(self.ben, "fast"), False)

    def test_locks_of_the_device_s_own_are_not_waited_for(self) -> None:
        calls: list[int] = []

        def elsewhere() -> None:
            calls.append(1)
            raise Locked(Holder("remote", "eve", "tsv", "far", 1.0))

        self.stage.add_command("elsewhere", elsewhere)
        self.fails(self.patient.call("elsewhere"), Locked, "remote is locked by eve")
        self.gives(self.ann.lock(["y"]))
        self.stage.add_command("x_elsewhere", elsewhere, touches="x")
        self.fails(self.patient.call("x_elsewhere"), Locked, "remote is locked by eve")
        self.assertEqual(len(calls), 2)

    def test_several_needs(self) -> None:
        self.stage.add_command("both", lambda: "done", touches=("x", "y"))
        self.gives(self.ann.lock(["x"]))
        self.gives(self.ben.lock(["y"]))
        both = self.patient.call("both")
        self.ann.unlock()
        self.assertNoResult(both)
        self.ben.unlock()
        self.assertEqual(self.gives(both), "done")

    def test_clear(self) -> None:
        node: Any = self.patient.resolve("x")
        self.assertIsNone(self.gives(self.patient.clear("message", (node,))))
        self.gives(self.ann.lock(["x"]))
        waiting = self.patient.clear("message", (node,))
        self.assertNoResult(waiting)
        self.ann.unlock()
        self.assertIsNone(self.gives(waiting))


class TokenTests(SessionCase):
    """One owner over several connections."""

    def test_a_second_session_is_the_same_owner(self) -> None:
        self.gives(self.ann.lock(["stage"]))
        second = self.client(None, "other")
        self.fails(second.set("fast", True), Locked)
        second.show_token(self.ann.token)
        self.assertIs(self.gives(second.set("fast", True)).value, True)
        self.assertEqual(len(second.holdings()), 1)

    def test_locks_end_with_the_last_session(self) -> None:
        self.gives(self.ann.lock(["stage"]))
        second = self.client(None, "other")
        second.show_token(self.ann.token)
        second.close()
        self.fails(self.ben.set("fast", True), Locked)
        third = self.client(None, "other")
        third.show_token(self.ann.token)
        self.ann.close()
        self.fails(self.ben.set("fast", True), Locked)

    def test_who_only_showed_the_token_does_not_end_its_owner(self) -> None:
        token = self.ann.token
        second = self.client(None, "other")
        second.show_token(token)
        second.close()
        self.gives(self.ann.lock(["stage"]))
        self.assertEqual(self.ann.token, token)

    def test_own_locks_are_freed(self) -> None:
        self.gives(self.ann.lock(["x"]))
        self.gives(self.ben.lock(["y"]))
        self.ben.show_token(self.ann.token)
        self.assertEqual([hold.path for hold in self.ben.holdings()], ["stage.x"])
        self.assertEqual(self.ann.lock_info("y"), [])

    def test_wrong_tokens(self) -> None:
        for token in ("", "x", "\ud800", "0" * 10_000):
            self.assertRaises(NotAllowed, self.ben.show_token, token)

    def test_token_of_one_who_has_gone(self) -> None:
        token = self.ann.token
        self.ann.close()
        self.assertRaises(NotAllowed, self.ben.show_token, token)

    def test_tokens_are_secret_and_differ(self) -> None:
        self.assertGreaterEqual(len(self.ann.token), 32)
        self.assertNotEqual(self.ann.token, self.ben.token)
        self.assertEqual(self.ann.token, self.ann.token)


class EndTests(SessionCase):
    """The end of a connection, and its client's return."""

    def test_close_frees_everything(self) -> None:
        self.gives(self.ann.lock(["x"]))
        waiting = self.ben.lock(["x"], wait=60)
        running = self.ann.call("home")
        queued = self.ann.call("home")
        for deferred in (running, queued):
            deferred.addErrback(lambda failure: None)
        self.ann.close("gone")
        self.gives(waiting)
        self.stage.waiting[0].callback(None)
        self.assertEqual(len(self.stage.waiting), 1, "what had not begun never begins")
        self.assertEqual(self.ann.outstanding, 0)
        self.ann.close()

    def test_nothing_after_the_end(self) -> None:
        self.ann.close()
        for deferred in (
            self.ann.get("fast"), self.ann.get("level"), self.ann.set("fast", True),
            self.ann.call("report"), self.ann.stop("x"), self.ann.connect(),
            self.ann.lock(["x"]), self.ann.lock([]), self.ann.turn(self.lab.devices()["stage"]),
        ):  # fmt: skip
            self.fails(deferred, NotConnected, "this session has been closed")
        self.assertEqual((self.ann.holdings(), self.ann.unlock()), ([], []))
        with self.assertRaises(NotConnected):
            self.ann.token  # noqa: B018

    def test_waits_for_locks_end(self) -> None:
        self.gives(self.ann.lock(["x"]))
        waiting = self.ben.lock(["x"], wait=60)
        self.ben.close()
        self.failureResultOf(waiting)
        self.ann.unlock()
        self.gives(self.client("eve").lock(["x"]))

    def test_lease_may_outlast_the_connection(self) -> None:
        self.gives(self.ann.lock(["x"], lease=30))
        self.gives(self.ann.lock(["y"]))
        token = self.ann.token
        self.ann.close(keep_leased=True)
        self.gives(self.ben.lock(["y"]))
        self.fails(self.ben.lock(["x"]), Locked, "by ann")
        second = self.client(None)
        second.show_token(token)
        self.gives(second.set("x.position", 1))
        self.gives(second.lock(["x.position"]))
        second.close(keep_leased=True)
        self.lab.advance(30)
        self.gives(self.ben.lock(["x"]))

    def test_grace(self) -> None:
        self.gives(self.ann.lock(["x"]))
        self.ann.lost(5.0)
        self.lab.advance(4.9)
        self.fails(self.ben.lock(["x"]), Locked)
        self.lab.advance(0.2)
        self.gives(self.ben.lock(["x"]))

    def test_back_in_time(self) -> None:
        self.gives(self.ann.lock(["x"]))
        self.ann.lost(5.0)
        self.fails(self.ann.get("fast"), NotConnected)
        self.lab.advance(3)
        self.ann.back()
        self.lab.advance(100)
        self.fails(self.ben.lock(["x"]), Locked)
        self.assertEqual(len(self.ann.holdings()), 1)

    def test_back_too_late(self) -> None:
        self.gives(self.ann.lock(["x"]))
        self.ann.lost()
        self.lab.advance(self.lab.grace + 1)
        self.ann.back()
        self.assertEqual(self.ann.holdings(), [])
        self.gives(self.ann.lock(["x"]))
        self.fails(self.ben.set("x.position", 1), Locked, "by ann")

    def test_another_connection_of_the_same_name_takes_over_in_time(self) -> None:
        self.gives(self.ann.lock(["x"]))
        self.ann.lost(5.0)
        again = self.client("ann")
        self.gives(again.set("x.position", 1))
        self.assertEqual(len(again.holdings()), 1)
        self.lab.advance(100)
        self.fails(self.ben.lock(["x"]), Locked)
        again.close()
        self.gives(self.ben.lock(["x"]))

    def test_a_second_live_one_of_a_name_is_another(self) -> None:
        self.gives(self.ann.lock(["x"]))
        twin = self.client("ann")
        self.fails(twin.set("x.position", 1), Locked, "by ann")
        self.gives(twin.lock(["y"]))
        twin.close()
        self.gives(self.ben.lock(["y"]))
        self.gives(self.ann.set("x.position", 1))

    def test_the_same_name_on_another_wire_is_another(self) -> None:
        self.gives(self.ann.lock(["x"]))
        self.ann.lost(5.0)
        other = self.client("ann", "other")
        self.fails(other.set("x.position", 1), Locked)

    def test_a_name_is_free_after_its_end(self) -> None:
        for _ in range(3):
            session = self.client("zoe")
            self.gives(session.lock(["x"]))
            session.close()

    def test_peer_without_a_name(self) -> None:
        nameless = self.client(None)
        self.assertEqual(nameless.name, "192.0.2.1:5")
        self.gives(nameless.lock(["x"]))
        other = self.client(None)
        self.fails(other.lock(["x"]), Locked)

    def test_long_names_are_refused(self) -> None:
        self.assertRaises(TooLarge, self.client, "n" * 300)

    def test_nothing_is_left_of_many_sessions(self) -> None:
        for number in range(50):
            session = self.client(f"client {number}")
            self.gives(session.lock(["x"]))
            session.subscribe(["x"], lambda updates: None)
            session.token  # noqa: B018
            session.close()
        self.assertEqual(self.lab._members, {})
        self.assertEqual(self.lab.locks._known.by_name, {})
        self.assertEqual(self.lab.locks._known.by_token, {})
        self.assertEqual(self.lab.updates.count, 0)


class BreakTests(SessionCase):
    """Breaking another's lock."""

    options = {"may_break": True}

    def test_break(self) -> None:
        self.gives(self.ann.lock(["x"]))
        broken = self.ben.break_lock("x")
        self.assertEqual([hold.owner.name for hold in broken], ["ann"])
        self.gives(self.ben.lock(["x"]))
        self.assertEqual(self.ann.holdings(), [])

    def test_own_locks_stay(self) -> None:
        self.gives(self.ben.lock(["x"]))
        self.assertEqual(self.ben.break_lock("stage"), [])
        self.assertEqual(len(self.ben.holdings()), 1)

    def test_what_the_broken_one_has_waiting_is_refused(self) -> None:
        self.gives(self.ann.lock(["x", "y"]))
        running = self.ann.call("home")
        queued = [self.ann.set("x.position", 1), self.ann.set("y.position", 1)]
        other = self.ben.get("level")
        self.ben.break_lock("x")
        self.fails(queued[0], Locked, "stage.x is locked by ben")
        self.assertNoResult(queued[1])
        self.assertNoResult(running)
        self.stage.waiting[0].callback("home")
        self.assertEqual(self.gives(running), "home", "a call on the instrument cannot be recalled")
        self.assertEqual(self.gives(queued[1]).value, 1.0)
        self.gives(other)

    def test_the_broken_one_is_told(self) -> None:
        heard: list[Any] = []
        self.ann.subscribe(["x"], heard.extend)
        self.gives(self.ann.lock(["x"]))
        self.lab.advance()
        self.ben.break_lock("x")
        self.lab.advance()
        self.assertEqual((heard[-1].detail.what, heard[-1].detail.by), ("broken", "ben"))


class NoBreakTests(SessionCase):
    """Where the lab does not allow it."""

    def test_refused(self) -> None:
        self.gives(self.ann.lock(["x"]))
        with self.assertRaisesRegex(NotAllowed, "does not allow breaking the lock of stage.x"):
            self.ben.break_lock("x")
        self.assertEqual(len(self.ann.holdings()), 1)


class PolicyTests(SynchronousTestCase):
    """One place that every verb passes."""

    def test_every_verb_asks(self) -> None:
        asked: list[tuple[str, str]] = []

        def policy(session: Session, verb: str, node: Node) -> bool:
            asked.append((verb, node.path))
            return False

        stage = Stage()
        lab = MemoryLab({"stage": stage}, may_break=True)
        device = lab.devices()["stage"]
        session = Session(lab, "test", "peer", "ann", device, allowed=policy)
        for deferred in (
            session.get("fast"), session.get("level"), session.set("fast", True),
            session.call("report"), session.call("home"), session.stop("x"), session.connect(),
            session.disconnect(), session.lock(["x"]), session.turn(device),
        ):  # fmt: skip
            self.failureResultOf(deferred, NotAllowed)
        for refused in (lambda: session.subscribe(["x"], lambda updates: None),
                        lambda: session.break_lock("x")):  # fmt: skip
            self.assertRaises(NotAllowed, refused)
        self.assertEqual([verb for verb, _ in asked], [
            "get", "get", "set", "get", "call", "stop", "connect", "disconnect", "lock", "message",
            "subscribe", "break",
        ])  # fmt: skip
        self.assertEqual((stage.waiting, stage.x.stopped), ([], 0))


class DepartureTests(SessionCase):
    """A device that leaves, and one that comes in its place."""

    def test_calls_that_wait_fail_and_locks_end(self) -> None:
        self.gives(self.ann.lock(["x"]))
        running, queued = self.ann.call("home"), self.ann.call("home")
        waiting = self.ben.lock(["x"], wait=60)
        self.lab.detach("stage")
        for deferred in (running, queued, waiting):
            self.fails(deferred, NotConnected, "has left the lab"
                       if deferred is waiting else "it has left the lab")  # fmt: skip
        self.assertEqual(self.ann.holdings(), [])

    def test_afterwards(self) -> None:
        self.lab.detach("stage")
        self.fails(self.ann.get("level"), NotConnected, "stage is not connected: it has left")
        self.fails(self.ann.get("fast"), NotConnected)
        self.fails(self.ann.get("stage.fast"), UnknownName)

    def test_the_next_of_that_name_is_found(self) -> None:
        self.gives(self.ann.get("fast"))
        self.lab.detach("stage")
        successor = Stage()
        self.lab.attach("stage", successor)
        self.gives(self.ann.set("x.position", 7))
        self.assertEqual(successor.x.position, 7.0)
        self.assertIs(self.ann.describe(), self.lab.devices()["stage"])
        self.gives(self.ann.stop())
        self.assertEqual((successor.x.stopped, self.stage.x.stopped), (1, 0))


class OwnerTests(SessionCase):
    """What a lock service says of an owner that has gone meanwhile."""

    def test_lock_of_one_who_is_away(self) -> None:
        self.gives(self.ann.lock(["x"]))
        self.lab.locks.lost(self.ann.owner, 5.0)
        self.fails(self.ann.lock(["y"]), Cancelled, "ann is not connected")
