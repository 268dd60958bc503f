"""The thread of a blocking device, and the jobs that go there and come back."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue
from types import CoroutineType
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from labnet.device import Deadline, current_deadline
from labnet.logs import Logger

log = Logger()


class Caller(Protocol):
    """Who calls: a session. `outstanding` counts its calls that have no answer yet."""

    outstanding: int


class Gate(Protocol):
    """What the queue asks at the moment when a call is taken up: the lock service."""

    @property
    def epoch(self) -> int:
        """Changes with each lock taken or broken."""

    def check(self, caller: Any, verb: str, needs: Sequence[Any]) -> None:
        """Raises `Locked` if `verb` on the nodes `needs` is shut to the caller."""


class Job:
    """One call on its way: waiting, running, or given up by its caller but still running."""

    __slots__ = (
        "args", "begun", "caller", "deadline", "deferred", "epoch", "function", "inline", "inner",
        "kwargs", "long", "needs", "ticket", "verb", "what",
    )  # fmt: skip

    def __init__(
        self,
        function: Callable[..., Any],
        args: Iterable[Any],
        kwargs: dict[str, Any] | None,
        caller: Caller,
        verb: str,
        needs: Sequence[Any],
        what: str,
        deadline: Deadline,
    ) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.caller = caller
        self.verb = verb
        self.needs = needs
        self.what = what
        self.deadline = deadline
        self.long = False
        self.inline = False  # runs in the reactor even if the device has a thread
        self.deferred: Deferred[Any] | None = None  # the caller's, until it has its answer
        self.inner: Deferred[Any] | None = None  # the device's own
        self.begun = 0.0
        self.epoch = 0
        self.ticket = [None]

    def claim(self) -> bool:
        """True for the first who asks: the thread that runs the job, or who takes it back."""
        try:
            self.ticket.pop()
        except IndexError:
            return False
        return True

    def call(self) -> Any:
        """Runs the function with the deadline in place."""
        token = current_deadline.set(self.deadline)
        try:
            if self.kwargs:
                return self.function(*self.args, **self.kwargs)
            return self.function(*self.args)
        finally:
            current_deadline.reset(token)

    def begin(self, coroutine: CoroutineType[Any, Any, Any]) -> Deferred[Any]:
        """Begins what an ``async def`` returned, with the deadline in place for all its steps."""
        token = current_deadline.set(self.deadline)
        try:
            return Deferred.fromCoroutine(coroutine)
        finally:
            current_deadline.reset(token)


class Raised:
    """What a function raised in the thread."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


GIVEN_BACK = object()
"""The result of a job that the thread has not begun."""


class Worker:
    """The thread of one blocking device; begun with its first job.

    Jobs go over in batches. Before each one the thread looks whether locks have changed since the
    batch was made, and gives back what it has not begun if so.
    """

    def __init__(
        self,
        name: str,
        gate: Gate,
        from_thread: Callable[..., Any],
        collected: Callable[[list[tuple[Job, Any]]], None],
    ) -> None:
        #: What has gone over and not come back, oldest first.
        self.jobs: list[Job] = []
        self._name = name
        self._gate = gate
        self._from_thread = from_thread
        self._collected = collected
        self._batch: list[Job] = []
        self._inbox: SimpleQueue[list[Job] | None] = SimpleQueue()
        self._outbox: deque[tuple[Job | None, Any]] = deque()
        self._called = False
        self._thread: threading.Thread | None = None

    def opening(self) -> bool:
        """Whether somebody waits for the device to be opened."""
        return any(job.verb == "connect" and job.deferred is not None for job in self.jobs)

    def add(self, job: Job) -> None:
        """Puts a job into the next batch."""
        self.jobs.append(job)
        self._batch.append(job)

    def send(self) -> None:
        """Hands the batch over."""
        if not self._batch:
            return
        batch, self._batch = self._batch, []
        if self._thread is None:
            # A daemon: a call that hangs must not keep the process from ending.
            self._thread = threading.Thread(
                target=self._work, name=f"labnet device {self._name}", daemon=True
            )
            self._thread.start()
        self._inbox.put(batch)

    def close(self) -> None:
        """Ends the thread after what it has."""
        self._inbox.put(None)

    def abandon(self, ended: Callable[[], None]) -> None:
        """Leaves the thread to the call that hangs in it; `ended` is called when that returns."""
        self._collected = lambda results: None if self.jobs else ended()
        self.close()

    def _work(self) -> None:
        while (batch := self._inbox.get()) is not None:
            for job in batch:
                self._put(job, self._run(job))

    def later(self, function: Callable[[], Any]) -> None:
        """From any thread: calls `function` in the reactor, before the results that follow."""
        self._put(None, function)

    def _put(self, job: Job | None, result: Any) -> None:
        self._outbox.append((job, result))
        if not self._called:
            self._called = True
            self._from_thread(self._collect)

    def _run(self, job: Job) -> Any:
        if job.epoch >= 0 and job.epoch != self._gate.epoch:
            return GIVEN_BACK
        if not job.claim():
            return None  # taken back before it began
        try:
            result = job.call()
        except BaseException as error:
            return Raised(error)
        if isinstance(result, CoroutineType):
            result.close()
        if isinstance(result, Deferred | CoroutineType):
            return Raised(TypeError(f"{job.what} blocks and so must return its result itself"))
        return result

    def _collect(self) -> None:
        """Runs in the reactor, once for all results that have gathered."""
        self._called = False
        results = []
        while self._outbox:
            job, result = self._outbox.popleft()
            if job is None:
                _call_safely(result)
            else:
                self.jobs.remove(job)
                results.append((job, result))
        self._collected(results)


def _call_safely(function: Callable[[], Any]) -> None:
    try:
        function()
    except Exception:
        log.failure("what a device's thread has asked for failed")
