"""One queue a device: who may use it next, for how long, and in which thread.

Calls of a device that does not block run in the reactor, at once when it is free. A blocking device
has a thread of its own; jobs go there and results come back in batches. Every call has a deadline:
when it passes the caller gets `TimedOut` at once, and the device is shown as busy until the call
really returns. A device that hangs stops neither the others nor the shutdown.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import CoroutineType
from typing import Any, NamedTuple

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from labnet.deadlines import Clock
from labnet.device import Deadline, current_deadline
from labnet.errors import (
    Cancelled,
    DeviceFault,
    LabError,
    NotAllowed,
    NotConnected,
    TimedOut,
    TooLarge,
    shorten,
)
from labnet.logs import Logger
from labnet.turn import Turn
from labnet.values import AT_HAND
from labnet.worker import GIVEN_BACK, Caller, Gate, Job, Raised, Worker

#: The most calls that wait for one device; a further one is refused.
MAX_WAITING = 1000
#: The most jobs that a device's thread holds at once.
BATCH = 16
#: The most threads of one device that hang at once; it is then not given a further one.
MAX_ABANDONED = 8
#: The most characters of what a device raises that anybody is told.
MAX_TEXT = 4096
#: What a device is asked for though it is not connected: it has to know that a lock has ended.
_WITHOUT_DEVICE = ("connect", "disconnect", "unlock")

log = Logger()


class JobInfo(NamedTuple):
    """What a device is busy with: the name of the call and its age in seconds."""

    what: str
    age: float


class DeviceQueue:
    """The FIFO of one device.

    `clock` must be monotonic; `from_thread` calls a function in the reactor's thread (only needed
    for a blocking device).
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        gate: Gate,
        *,
        blocking: bool = False,
        from_thread: Callable[..., Any] | None = None,
    ) -> None:
        self.name = name
        self.blocking = blocking
        #: Why the device cannot be used, or None when it can.
        self.unavailable: str | None = None
        #: Is told what the device raises, before the caller is.
        self.raised: Callable[[BaseException], None] | None = None
        #: Seconds that a call may take where neither wire nor command says so; None: the section's.
        self.limit: float | None = None
        self.counts = {"done": 0, "failed": 0, "refused": 0, "timed_out": 0, "dropped": 0}
        self._clock = clock
        self._seconds = clock.seconds
        self._gate = gate
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._aside: set[Job] = set()  # long ones: they run, the device is free for others
        self._draining = False
        self._timer: IDelayedCall | None = None
        self._due = 0.0
        self._stopped: list[Deferred[None]] = []
        self._from_thread = from_thread
        self._abandoned = 0
        self._worker = self._new_worker() if blocking else None

    def _new_worker(self) -> Worker:
        assert self._from_thread is not None
        return Worker(self.name, self._gate, self._from_thread, self._collected)

    @property
    def free(self) -> bool:
        """Whether nothing waits and nothing holds the device."""
        idle = self._running is None and not self._waiting
        return idle and (self._worker is None or not self._worker.jobs)

    def busy(self) -> JobInfo | None:
        """What the device does now, if it does anything that takes time."""
        job = self._running or next(iter(self._aside), None)
        if self._worker is not None and self._worker.jobs:
            job = self._worker.jobs[0]
        return None if job is None else JobInfo(job.what, self._seconds() - job.begun)

    def stuck(self) -> JobInfo | None:
        """The call that holds the device though its time is over; its caller has given it up."""
        job = self._stuck()
        return None if job is None else JobInfo(job.what, self._seconds() - job.begun)

    def _stuck(self) -> Job | None:
        job = self._running
        if self._worker is not None and self._worker.jobs:
            job = self._worker.jobs[0]
        if job is None or job.deferred is not None or job.inline:
            return None
        end = job.deadline.end
        return job if end is None or end <= self._seconds() else None

    @property
    def condition(self) -> str:
        """What is wrong with the device, in a user's words; empty when it can be used."""
        stuck = self.stuck()
        if stuck is not None:
            return f"stuck in {stuck.what} for {stuck.age:.0f} s"
        return "" if self.unavailable is None else f"not connected: {self.unavailable}"

    def restart(self) -> None:
        """Gives up the call that the device is stuck in, and all that wait behind it.

        A blocking device gets a new thread; the old one ends when its call returns. Raises
        `NotAllowed` when too many hang already.
        """
        job = self._stuck()
        if job is None:
            return
        reason = f"restarted, as it was stuck in {job.what}"
        if self._worker is None:
            self._running = None
        elif self._abandoned >= MAX_ABANDONED:
            raise NotAllowed(f"{self.name} hangs in {self._abandoned} threads; restart the lab")
        else:
            self._abandon(self._worker, f"{self.name} is not connected: {reason}")
        log.warn("{name} is {reason}", name=self.name, reason=reason)
        self.lose(reason)
        self._drain()

    def _abandon(self, worker: Worker, problem: str) -> None:
        self._abandoned += 1
        for job in worker.jobs:
            self._give_up(job, Failure(NotConnected(problem)))
        worker.abandon(self._thread_ended)
        self._worker = self._new_worker()

    def _thread_ended(self) -> None:
        self._abandoned -= 1

    def run(
        self,
        function: Callable[..., Any],
        args: Iterable[Any] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        caller: Caller,
        verb: str,
        needs: Sequence[Any],
        what: str,
        timeout: float | None,
        long: bool = False,
        urgent: bool = False,
        inline: bool = False,
    ) -> Deferred[Any]:
        """Calls `function` when it is its turn; the Deferred fails with `LabError`s only.

        `timeout` is in seconds, None for no limit. `long` frees the device while the function's
        Deferred waits, `urgent` overtakes what waits. Cancelling the Deferred takes the call out of
        the queue, or tells one that runs by its `Deadline`.
        """
        deadline = Deadline(timeout, self._seconds, caller)
        result = None
        free = self._running is None and not self._waiting and self._worker is None
        if free:
            # Mostly such a call does not even wait, and so needs no job.
            try:
                result = self._call(function, args, kwargs, caller, verb, needs, what, deadline)
            except LabError as error:
                return fail(error)
            if result.__class__ in AT_HAND:
                self.counts["done"] += 1
                return succeed(result)
        job = Job(function, args, kwargs, caller, verb, needs, what, deadline)
        job.long = long
        job.inline = inline
        return self._follow(job, result) if free else self._enqueue(job, urgent)

    def turn(
        self, *, caller: Caller, verb: str, needs: Sequence[Any], what: str, timeout: float | None
    ) -> Deferred[Turn]:
        """The device for several calls that nobody else's may come between, until `Turn.done`.

        When `timeout` passes the turn is over, at the latest when its call in progress returns.
        """
        turn = Turn(self, caller)
        turn.held_by(
            self.run(
                turn.begin,
                caller=caller,
                verb=verb,
                needs=needs,
                what=what,
                timeout=timeout,
                inline=True,
            )
        )
        return turn.granted

    def _follow(self, job: Job, result: Any) -> Deferred[Any]:
        """What becomes of a call that found the device free and has returned `result`."""
        if isinstance(result, CoroutineType):
            result = job.begin(result)
        if not isinstance(result, Deferred):
            self.counts["done"] += 1
            return succeed(result)
        deferred = self._promise(job)
        self._hold(job, result)
        return deferred

    def _promise(self, job: Job) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred(lambda _: self._cancelled(job))
        job.deferred = deferred
        job.caller.outstanding += 1
        if job.deadline.end is not None:
            self._watch(job.deadline.end)
        return deferred

    def _take_up(self, job: Job) -> Any:
        """Begins a job in the reactor; raises `LabError`, returns a value or a Deferred."""
        result = self._call(
            job.function, job.args, job.kwargs, job.caller, job.verb, job.needs, job.what,
            job.deadline,
        )  # fmt: skip
        return job.begin(result) if isinstance(result, CoroutineType) else result

    def _call(
        self,
        function: Callable[..., Any],
        args: Iterable[Any],
        kwargs: dict[str, Any] | None,
        caller: Caller,
        verb: str,
        needs: Sequence[Any],
        what: str,
        deadline: Deadline,
    ) -> Any:
        """Calls `function` now, if that is allowed; raises `LabError`."""
        self.check(caller, verb, needs)
        token = current_deadline.set(deadline)
        try:
            return function(*args, **kwargs) if kwargs else function(*args)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also SystemExit, GeneratorExit, asyncio's CancelledError
            raise self._fault(what, verb, error) from None
        finally:
            current_deadline.reset(token)

    def check(self, caller: Caller, verb: str, needs: Sequence[Any]) -> None:
        """Raises `NotConnected`, or `Locked`, if the caller may not do this now."""
        if self.unavailable is not None and verb not in _WITHOUT_DEVICE:
            raise NotConnected(f"{self.name} is not connected: {self.unavailable}")
        try:
            self._gate.check(caller, verb, needs)
        except LabError:
            self.counts["refused"] += 1
            raise

    def _fault(self, what: str, verb: str, error: BaseException) -> LabError:
        """What went wrong in the device, in the lab's words; logged once, here."""
        self.counts["failed"] += 1
        if isinstance(error, LabError):
            return error
        if isinstance(error, CancelledError):
            return Cancelled(f"{what} was cancelled")
        self._tell_raised(error)
        kind = type(error).__name__
        text = fault_text(error)
        if verb != "poll":  # whoever polls says so once, not each time
            log.warn("{what} failed: {kind}: {error}", what=what, kind=kind, error=text)
            log.debug("{trace}", trace="".join(Failure(error).getTraceback()))
        return DeviceFault(text, kind)

    def _tell_raised(self, error: BaseException) -> None:
        if self.raised is not None:
            try:
                self.raised(error)
            except Exception:
                log.failure("{name} could not judge what it raised", name=self.name)

    def _enqueue(self, job: Job, urgent: bool) -> Deferred[Any]:
        if len(self._waiting) >= MAX_WAITING:
            self.counts["refused"] += 1
            condition = self.condition or "busy"
            problem = f"{self.name} is {condition}; {MAX_WAITING} calls wait for it already"
            return fail(TooLarge(problem))
        deferred: Deferred[Any] = self._promise(job)
        if urgent:
            self._waiting.appendleft(job)
        else:
            self._waiting.append(job)
        self._drain()
        return deferred

    def _drain(self) -> None:
        """Takes up what waits; never re-entered, so a long chain of calls needs no stack."""
        if self._draining:
            return
        self._draining = True
        try:
            while self._waiting and self._running is None and self._room(self._waiting[0]):
                self._begin(self._waiting.popleft())
        finally:
            self._draining = False
        if self._worker is not None:
            self._worker.send()
        if self._stopped:
            self._tell_stopped()

    def _room(self, job: Job) -> bool:
        if self._worker is None:
            return True
        if self.unavailable is not None and self._worker.opening():
            return False  # what comes of it decides
        return len(self._worker.jobs) < (1 if job.inline else BATCH)

    def _begin(self, job: Job) -> None:
        if self._worker is not None and not job.inline:
            self._hand_over(job)
            return
        result: Any
        try:
            result = self._take_up(job)
        except LabError as error:
            result = Failure(error)
        if isinstance(result, Deferred):
            self._hold(job, result)
        else:
            self._finish(job, result)

    def _hold(self, job: Job, result: Deferred[Any]) -> None:
        """The device is at it until `result` fires."""
        job.begun = self._seconds()
        job.inner = result
        if job.long:
            self._aside.add(job)
        else:
            self._running = job
        result.addBoth(self._returned, job)

    def _returned(self, result: Any, job: Job) -> None:
        if isinstance(result, Failure):
            assert result.value is not None
            result = Failure(self._fault(job.what, job.verb, result.value))
        self._aside.discard(job)
        if self._running is job:
            self._running = None
        self._finish(job, result)
        self._drain()

    def _finish(self, job: Job, result: Any) -> None:
        """Gives the caller the outcome, unless it has had one already."""
        deferred, job.deferred = job.deferred, None
        if deferred is None:
            return
        job.caller.outstanding -= 1
        if not isinstance(result, Failure):
            self.counts["done"] += 1
        deferred.callback(result)

    # Deadlines and cancelling

    def _watch(self, due: float) -> None:
        """One timer a queue, set to the nearest deadline."""
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self._clock.callLater(max(0.0, due - self._seconds()), self._expire)

    def _all(self) -> list[Job]:
        running = [] if self._running is None else [self._running]
        in_thread = [] if self._worker is None else self._worker.jobs
        return [*self._waiting, *running, *self._aside, *in_thread]

    def _expire(self) -> None:
        self._timer = None
        now = self._seconds()
        nearest: float | None = None
        late = self._stuck()
        why = "" if late is None else f"{self.name} is {self.condition}"
        for job in self._all():
            end = job.deadline.end
            if job.deferred is None or end is None:
                continue
            if end <= now:
                self.counts["timed_out"] += 1
                self._give_up(job, Failure(TimedOut(job.what, job.deadline.limit, why)))
            elif nearest is None or end < nearest:
                nearest = end
        if nearest is not None:
            self._watch(nearest)

    def _cancelled(self, job: Job) -> None:
        self.counts["dropped"] += 1
        job.deadline.cancelled = True
        self._give_up(job, None)

    def _give_up(self, job: Job, outcome: Failure | None, recall: bool = True) -> None:
        """Ends the caller's wait. What has begun goes on, unless `recall` can end it.

        `outcome` is None where the Deferred is being cancelled and so fails by itself.
        """
        deferred, job.deferred = job.deferred, None
        if deferred is None:
            return
        job.caller.outstanding -= 1
        if job in self._waiting:
            self._waiting.remove(job)
        elif job.inner is None:
            job.claim()
        if outcome is not None:
            deferred.errback(outcome)
        if recall and job.inner is not None and not job.inline:
            job.inner.cancel()

    def drop(self, caller: Caller) -> None:
        """Forgets what `caller` has waiting; a call of it that runs goes on, unheard."""
        for job in self._all():
            if job.caller is caller and job.deferred is not None:
                self.counts["dropped"] += 1
                job.deadline.cancelled = True
                deferred = job.deferred
                self._give_up(job, Failure(CancelledError()), recall=False)
                deferred.addErrback(lambda _: None)

    def refuse(self, caller: Caller, node: Any, error: LabError) -> None:
        """What `caller` has waiting that needs `node`, or one above or below it, fails."""
        waiting = list(self._waiting)
        in_thread = [] if self._worker is None else list(self._worker.jobs)
        for job in (*waiting, *in_thread):
            if job.caller is not caller or not any(_related(need, node) for need in job.needs):
                continue
            if job in waiting or job.claim():  # else the thread has begun it
                self.counts["refused"] += 1
                self._give_up(job, Failure(error))

    def lose(self, reason: str) -> None:
        """The device is gone: all calls that wait for it fail at once, and new ones too."""
        self.unavailable = reason
        error = NotConnected(f"{self.name} is not connected: {reason}")
        for job in self._all():
            if job.verb not in _WITHOUT_DEVICE:
                self._give_up(job, Failure(error))

    def regain(self) -> None:
        """The device can be used again."""
        self.unavailable = None

    # The thread of a blocking device

    def _hand_over(self, job: Job) -> None:
        assert self._worker is not None
        try:
            self.check(job.caller, job.verb, job.needs)
        except LabError as error:
            self._finish(job, Failure(error))
            return
        job.epoch = self._gate.epoch
        job.begun = self._seconds()
        self._worker.add(job)

    def in_thread(self, job: Job) -> None:
        """A call within a turn: past the FIFO, straight to the thread."""
        assert self._worker is not None
        job.begun = self._seconds()
        job.epoch = -1
        self._worker.add(job)
        self._worker.send()

    def _collected(self, results: list[tuple[Job, Any]]) -> None:
        """A batch of results has come back from the thread."""
        again = []
        for job, result in results:
            if result is GIVEN_BACK:
                if job.deferred is not None:
                    job.ticket = [None]
                    again.append(job)
            elif isinstance(result, Raised):
                self._finish(job, Failure(self._fault(job.what, job.verb, result.error)))
            else:
                self._finish(job, result)
        self._waiting.extendleft(reversed(again))
        self._drain()

    def in_reactor(self, function: Callable[..., Any], *args: Any) -> None:
        """From another thread: calls `function` in the reactor's, before any later result."""
        if self._worker is not None:
            self._worker.later(lambda: function(*args))
        else:
            assert self._from_thread is not None
            self._from_thread(function, *args)

    # The end

    def stop(self, wait: float) -> Deferred[None]:
        """Refuses and drops everything; fires when the device is idle, or after `wait` seconds."""
        self.lose(self.unavailable or "the lab is shutting down")
        if self._worker is not None:
            self._worker.close()
        done: Deferred[None] = Deferred()
        timer = self._clock.callLater(wait, self._tell_stopped, True)
        done.addBoth(lambda _: timer.cancel() if timer.active() else None)
        self._stopped.append(done)
        self._tell_stopped()
        return done

    def _tell_stopped(self, anyway: bool = False) -> None:
        job = self.busy()
        if job is not None and not anyway:
            return
        if job is not None:
            log.warn("{name} still hangs in {job}", name=self.name, job=job.what)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        stopped, self._stopped = self._stopped, []
        for done in stopped:
            done.callback(None)


def _related(one: Any, other: Any) -> bool:
    """Whether two nodes are the same, or one is above the other."""
    return one is other or one in other.ancestors or other in one.ancestors


def fault_text(error: BaseException) -> str:
    """What an exception says, without the quotes that Python puts around a KeyError's.

    At most `MAX_TEXT` characters of it; empty for one that cannot even say what it is.
    """
    quoted = isinstance(error, KeyError) and len(error.args) == 1
    try:
        text = str(error.args[0] if quoted else error)
    except Exception:
        return ""
    return shorten(text, MAX_TEXT)


__all__ = ["BATCH", "MAX_TEXT", "MAX_WAITING", "DeviceQueue", "JobInfo", "Turn", "fault_text"]
