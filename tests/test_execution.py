"""The queue of a device: order, deadlines, cancelling, the thread of a blocking one."""

from __future__ import annotations

from threading import Event, get_ident
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from labnet.device import current_deadline
from labnet.errors import Cancelled, DeviceFault, Holder, Locked, NotConnected, TimedOut, TooLarge
from labnet.execution import BATCH, MAX_TEXT, MAX_WAITING, DeviceQueue, Turn


class Caller:
    """A session as far as a queue knows one."""

    def __init__(self) -> None:
        self.outstanding = 0


class Gate:
    """Locks as far as a queue knows them: `shut` names the verbs that are refused."""

    def __init__(self) -> None:
        self.epoch = 0
        self.shut: set[str] = set()

    def check(self, caller: Any, verb: str, needs: Any) -> None:
        if verb in self.shut:
            raise Locked(Holder("stage", "ann", "plesty", "peer", 1.0))


class Mute(Exception):
    """One that fails when it is asked for its text."""

    def __str__(self) -> str:
        raise RuntimeError


def raiser(error: BaseException) -> Any:
    """A function of any arguments that raises `error`."""

    def boom(*_: object) -> None:
        raise error

    return boom


class QueueTests(SynchronousTestCase):
    """A device that does not block, on a `Clock`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.gate = Gate()
        self.queue = DeviceQueue("stage", self.clock, self.gate)
        self.caller = Caller()
        self.order: list[str] = []

    def run_call(self, function: Any, *args: Any, **options: Any) -> Deferred[Any]:
        keys: dict[str, Any] = {
            "caller": self.caller, "verb": "call", "needs": (), "what": "stage.move", "timeout": 5,
        }  # fmt: skip
        return self.queue.run(function, args, **(keys | options))

    def test_free_device_answers_at_once(self) -> None:
        self.assertEqual(self.successResultOf(self.run_call(lambda a: a + 1, 1)), 2)
        self.assertEqual(self.caller.outstanding, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_fifo(self) -> None:
        first: Deferred[str] = Deferred()
        outcomes = [self.run_call(lambda: first)]
        outcomes += [self.run_call(self.order.append, name) for name in "abc"]
        self.assertEqual(self.order, [])
        self.assertEqual(self.caller.outstanding, 4)
        first.callback("done")
        self.assertEqual(self.order, ["a", "b", "c"])
        self.assertEqual(self.successResultOf(outcomes[0]), "done")
        self.assertEqual(self.caller.outstanding, 0)

    def test_urgent_overtakes(self) -> None:
        first: Deferred[None] = Deferred()
        self.run_call(lambda: first)
        self.run_call(self.order.append, "waiting")
        self.run_call(self.order.append, "stop", urgent=True)
        first.callback(None)
        self.assertEqual(self.order, ["stop", "waiting"])

    def test_long_leaves_the_device_free(self) -> None:
        move: Deferred[str] = Deferred()
        moving = self.run_call(lambda: move, long=True)
        self.assertEqual(self.successResultOf(self.run_call(lambda: 7)), 7)
        self.assertNoResult(moving)
        info = self.queue.busy()
        assert info is not None
        self.assertEqual(info.what, "stage.move")
        move.callback("there")
        self.assertEqual(self.successResultOf(moving), "there")
        self.assertIsNone(self.queue.busy())

    def test_coroutine(self) -> None:
        step: Deferred[int] = Deferred()

        async def move() -> int:
            return await step + 1

        outcome = self.run_call(move)
        step.callback(1)
        self.assertEqual(self.successResultOf(outcome), 2)

    def test_a_chain_of_calls_needs_no_stack(self) -> None:
        first: Deferred[None] = Deferred()
        self.run_call(lambda: first)
        done: list[int] = []

        def again(_: object, left: int) -> None:
            done.append(left)
            if left:
                self.run_call(lambda: None).addCallback(again, left - 1)

        for _ in range(MAX_WAITING - 1):
            self.run_call(lambda: None).addCallback(again, 1)
        first.callback(None)
        self.assertEqual(len(done), 2 * (MAX_WAITING - 1))

    def test_deadline_of_one_that_waits(self) -> None:
        first: Deferred[None] = Deferred()
        self.run_call(lambda: first, timeout=None)
        waiting = self.run_call(self.order.append, "never", timeout=2.0)
        self.clock.advance(1.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.2)
        error = self.failureResultOf(waiting, TimedOut).value
        self.assertIn("stage.move did not finish within 2 s", str(error))
        first.callback(None)
        self.assertEqual(self.order, [])

    def test_deadline_of_one_that_runs_recalls_it(self) -> None:
        ended: list[str] = []
        move: Deferred[None] = Deferred(lambda _: ended.append("cancelled"))
        outcome = self.run_call(lambda: move, timeout=1.0)
        waiting = self.run_call(lambda: "next", timeout=None)
        self.clock.advance(1.0)
        self.failureResultOf(outcome, TimedOut)
        self.assertEqual(ended, ["cancelled"])
        self.assertEqual(self.successResultOf(waiting), "next")

    def test_busy_until_a_given_up_call_returns(self) -> None:
        held: Deferred[None] = Deferred()
        inner: Deferred[None] = Deferred(lambda d: d.addErrback(lambda f: held))
        # Its own clean-up takes time: the device is not free before that has ended.
        inner.addErrback(lambda f: held)
        outcome = self.run_call(lambda: inner, timeout=1.0)
        waiting = self.run_call(lambda: "next", timeout=None)
        self.clock.advance(1.0)
        self.failureResultOf(outcome, TimedOut)
        self.assertNoResult(waiting)
        info = self.queue.busy()
        assert info is not None
        held.callback(None)
        self.assertEqual(self.successResultOf(waiting), "next")

    def test_cancel_one_that_waits(self) -> None:
        first: Deferred[None] = Deferred()
        self.run_call(lambda: first)
        waiting = self.run_call(self.order.append, "never")
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        first.callback(None)
        self.assertEqual(self.order, [])
        self.assertEqual(self.caller.outstanding, 0)

    def test_device_sees_its_deadline(self) -> None:
        seen: list[float] = []
        self.successResultOf(self.run_call(lambda: seen.append(current_deadline.get().left())))
        self.assertEqual(seen, [5])

    def test_cancelled_call_sees_it(self) -> None:
        stop: Deferred[None] = Deferred()

        async def move() -> None:
            deadline = current_deadline.get()
            try:
                await stop
            except CancelledError:
                deadline.check("move")

        outcome = self.run_call(move)
        outcome.cancel()
        self.failureResultOf(outcome, CancelledError)
        self.assertTrue(self.queue.free)

    def test_faults_get_the_lab_s_words(self) -> None:
        def boom() -> None:
            raise KeyError("x")

        error = self.failureResultOf(self.run_call(boom), DeviceFault).value
        self.assertEqual((str(error), error.kind), ("x", "KeyError"))

        def leave() -> None:
            raise SystemExit(3)

        error = self.failureResultOf(self.run_call(leave), DeviceFault).value
        self.assertEqual(error.kind, "SystemExit")

    def test_whatever_is_raised_is_the_device_s(self) -> None:
        for kind in (GeneratorExit, StopIteration, BaseException):
            error = self.failureResultOf(self.run_call(raiser(kind("x"))), DeviceFault).value
            self.assertEqual((str(error), error.kind), ("x", kind.__name__))

    def test_an_exception_without_a_text(self) -> None:
        error = self.failureResultOf(self.run_call(raiser(Mute())), DeviceFault).value
        self.assertEqual((str(error), error.kind), ("", "Mute"))

    def test_a_text_has_a_bound(self) -> None:
        error = self.failureResultOf(self.run_call(raiser(ValueError("x" * 10**6))), DeviceFault)
        self.assertEqual(len(str(error.value)), MAX_TEXT)

    def test_a_device_that_cannot_judge_what_it_raised(self) -> None:
        self.queue.raised = raiser(TypeError("no"))
        self.failureResultOf(self.run_call(raiser(ValueError("x"))), DeviceFault)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_lock_is_asked_at_take_up(self) -> None:
        first: Deferred[None] = Deferred()
        self.run_call(lambda: first)
        waiting = self.run_call(self.order.append, "never")
        self.gate.shut.add("call")
        first.callback(None)
        self.failureResultOf(waiting, Locked)
        self.assertEqual(self.order, [])
        self.assertEqual(self.queue.counts["refused"], 1)

    def test_too_many_waiters(self) -> None:
        first: Deferred[None] = Deferred()
        self.run_call(lambda: first)
        for _ in range(MAX_WAITING):
            self.run_call(lambda: None)
        self.failureResultOf(self.run_call(lambda: None), TooLarge)

    def test_lost_device_fails_all_at_once(self) -> None:
        first: Deferred[None] = Deferred()
        outcomes = [self.run_call(lambda: first), self.run_call(lambda: None)]
        self.queue.lose("unplugged")
        for outcome in outcomes:
            error = self.failureResultOf(outcome, NotConnected).value
            self.assertEqual(str(error), "stage is not connected: unplugged")
        self.failureResultOf(self.run_call(lambda: None), NotConnected)
        self.queue.regain()
        self.assertEqual(self.successResultOf(self.run_call(lambda: 1)), 1)

    def test_drop_forgets_only_that_caller(self) -> None:
        first: Deferred[None] = Deferred()
        other = Caller()
        self.run_call(lambda: first, caller=other)
        mine = self.run_call(self.order.append, "mine")
        theirs = self.run_call(self.order.append, "theirs", caller=other)
        ended: list[Any] = []
        mine.addErrback(lambda f: ended.append(f.type))
        self.queue.drop(self.caller)
        self.assertEqual(ended, [CancelledError])
        first.callback(None)
        self.assertEqual(self.order, ["theirs"])
        self.successResultOf(theirs)

    def test_drop_lets_a_running_call_go_on(self) -> None:
        ended: list[str] = []
        move: Deferred[None] = Deferred(lambda _: ended.append("cancelled"))
        self.run_call(lambda: move).addErrback(lambda f: None)
        self.queue.drop(self.caller)
        self.assertEqual(ended, [])
        self.assertIsNotNone(self.queue.busy())
        move.callback(None)
        self.assertTrue(self.queue.free)

    def test_stop_does_not_wait_for_ever(self) -> None:
        move: Deferred[None] = Deferred(lambda d: None)
        move.addErrback(lambda f: Deferred())
        self.run_call(lambda: move).addErrback(lambda f: None)
        done = self.queue.stop(3.0)
        self.assertNoResult(done)
        self.clock.advance(3.0)
        self.successResultOf(done)
        self.assertEqual([c for c in self.clock.getDelayedCalls() if c.active()], [])


class TurnTests(SynchronousTestCase):
    """A device held for several calls."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.queue = DeviceQueue("dmm", self.clock, Gate())
        self.caller = Caller()

    def take(self, timeout: float | None = 5.0) -> Deferred[Turn]:
        return self.queue.turn(
            caller=self.caller, verb="message", needs=(), what="message", timeout=timeout
        )

    def call(self, function: Any) -> Deferred[Any]:
        return self.queue.run(
            function, caller=self.caller, verb="call", needs=(), what="call", timeout=5.0
        )

    def test_nobody_comes_between(self) -> None:
        turn = self.successResultOf(self.take())
        other = self.call(lambda: "other")
        inside = turn.run(lambda: "mine", what="unit", timeout=1.0)
        self.assertEqual(self.successResultOf(inside), "mine")
        self.assertNoResult(other)
        turn.done()
        self.assertEqual(self.successResultOf(other), "other")
        self.assertEqual(self.caller.outstanding, 0)

    def test_turns_wait_for_each_other(self) -> None:
        first = self.successResultOf(self.take())
        second = self.take()
        self.assertNoResult(second)
        first.done()
        self.successResultOf(second).done()
        self.assertTrue(self.queue.free)

    def test_deadline_ends_a_turn_when_its_call_returns(self) -> None:
        turn = self.successResultOf(self.take(2.0))
        read: Deferred[str] = Deferred()
        inside = turn.run(lambda: read, what="unit", timeout=None)
        other = self.call(lambda: "other")
        self.clock.advance(2.5)
        self.assertTrue(turn.over)
        self.assertNoResult(other)
        read.callback("late")
        self.assertEqual(self.successResultOf(inside), "late")
        self.assertEqual(self.successResultOf(other), "other")
        self.failureResultOf(turn.run(lambda: 1, what="unit", timeout=1.0), TimedOut)

    def test_cancel_while_waiting(self) -> None:
        first = self.successResultOf(self.take())
        second = self.take()
        second.cancel()
        self.failureResultOf(second, CancelledError)
        first.done()
        self.assertTrue(self.queue.free)


class ThreadTests(TestCase):
    """A blocking device, with a real thread."""

    timeout = 20

    def setUp(self) -> None:
        self.gate = Gate()
        self.queue = DeviceQueue(
            "dmm", reactor, self.gate, blocking=True, from_thread=reactor.callFromThread
        )
        self.caller = Caller()
        self.addCleanup(lambda: self.queue.stop(5.0))

    def run_call(self, function: Any, *args: Any, **options: Any) -> Deferred[Any]:
        keys: dict[str, Any] = {
            "caller": self.caller, "verb": "call", "needs": (), "what": "dmm.read", "timeout": 10.0,
        }  # fmt: skip
        return self.queue.run(function, args, **(keys | options))

    async def test_always_the_same_other_thread(self) -> None:
        threads = await gatherResults([self.run_call(get_ident) for _ in range(50)])
        self.assertEqual(len(set(threads)), 1)
        self.assertNotEqual(threads[0], get_ident())

    async def test_order(self) -> None:
        order: list[int] = []
        await gatherResults([self.run_call(order.append, n) for n in range(5 * BATCH)])
        self.assertEqual(order, list(range(5 * BATCH)))
        self.assertEqual(self.caller.outstanding, 0)

    async def test_timed_out_call_keeps_the_device_busy(self) -> None:
        release = Event()
        self.addCleanup(release.set)
        hanging = self.run_call(release.wait, timeout=0.05)
        following = self.run_call(lambda: "next")
        await self.assertFailure(hanging, TimedOut)
        info = self.queue.busy()
        assert info is not None
        self.assertEqual(info.what, "dmm.read")
        self.assertFalse(following.called)
        release.set()
        self.assertEqual(await following, "next")

    async def test_locks_taken_meanwhile_call_back_the_batch(self) -> None:
        begun, release = Event(), Event()
        self.addCleanup(release.set)
        ran: list[str] = []

        def first() -> None:
            begun.set()
            release.wait()

        held = self.run_call(first)
        refused = self.run_call(ran.append, "never")
        await self.assertFailure(self.run_call(lambda: None, timeout=0.01), TimedOut)
        begun.wait()
        self.gate.epoch += 1
        self.gate.shut.add("call")
        release.set()
        await held
        await self.assertFailure(refused, Locked)
        self.assertEqual(ran, [])

    async def test_cancelled_before_it_began(self) -> None:
        begun, release = Event(), Event()
        self.addCleanup(release.set)
        ran: list[str] = []

        def first() -> None:
            begun.set()
            release.wait()

        held = self.run_call(first)
        begun.wait()
        second = self.run_call(ran.append, "never")
        second.cancel()
        await self.assertFailure(second, CancelledError)
        release.set()
        await held
        await self.run_call(lambda: None)
        self.assertEqual(ran, [])

    async def test_running_call_learns_that_its_caller_has_gone(self) -> None:
        begun, seen, go = Event(), [], Event()

        def work() -> None:
            deadline = current_deadline.get()
            begun.set()
            go.wait()
            try:
                deadline.check("work")
            except Cancelled as error:
                seen.append(str(error))

        call = self.run_call(work)
        begun.wait()
        call.cancel()
        go.set()
        await self.assertFailure(call, CancelledError)
        await self.run_call(lambda: None)
        self.assertEqual(seen, ["work was cancelled"])

    async def test_an_exception_without_a_text(self) -> None:
        await self.assertFailure(self.run_call(raiser(Mute())), DeviceFault)
        self.assertEqual(await self.run_call(lambda: 1), 1)

    async def test_system_exit_does_not_end_the_thread(self) -> None:
        def leave() -> None:
            raise SystemExit

        await self.assertFailure(self.run_call(leave), DeviceFault)
        self.assertEqual(await self.run_call(lambda: 1), 1)

    async def test_turn(self) -> None:
        turn = await self.queue.turn(
            caller=self.caller, verb="message", needs=(), what="message", timeout=5.0
        )
        other = self.run_call(lambda: "other")
        self.assertNotEqual(await turn.run(get_ident, what="unit", timeout=5.0), get_ident())
        self.assertFalse(other.called)
        turn.done()
        self.assertEqual(await other, "other")

    async def test_stop_leaves_a_hung_thread_behind(self) -> None:
        begun, release = Event(), Event()
        self.addCleanup(release.set)

        def hang() -> None:
            begun.set()
            release.wait()

        self.run_call(hang).addErrback(lambda f: None)
        begun.wait()
        await self.queue.stop(0.05)
        self.assertIsNotNone(self.queue.busy())
