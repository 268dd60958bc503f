"""A device held by one caller for several calls that nobody else's may come between."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure

from labnet.device import Deadline
from labnet.errors import LabError, TimedOut
from labnet.worker import Caller, Job

if TYPE_CHECKING:
    from labnet.execution import DeviceQueue


class Turn:
    """The device, held by one caller for several calls."""

    def __init__(self, queue: DeviceQueue, caller: Caller) -> None:
        self.granted: Deferred[Turn] = Deferred(lambda _: self._held.cancel())
        self.over = False
        self._queue = queue
        self._caller = caller
        self._held: Deferred[Any]
        self._end: Deferred[None] = Deferred()
        self._inside = 0

    def begin(self) -> Deferred[None]:
        """The queue has come to this turn."""
        self.granted.callback(self)
        return self._end

    def held_by(self, held: Deferred[Any]) -> None:
        self._held = held
        held.addErrback(self._refused)

    def _refused(self, failure: Failure) -> None:
        self.done()
        if not self.granted.called and not failure.check(CancelledError):
            self.granted.errback(failure)

    def run(
        self,
        function: Callable[..., Any],
        args: Iterable[Any] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        what: str,
        timeout: float | None,
        long: bool = False,
    ) -> Deferred[Any]:
        """One call within the turn; the locks are not asked again. A `long` one may outlast it."""
        queue = self._queue
        if self.over:
            return fail(TimedOut(what, timeout))
        deadline = Deadline(timeout, queue._seconds, self._caller)
        job = Job(function, args, kwargs, self._caller, "message", (), what, deadline)
        if queue._worker is None:
            try:
                result = queue._take_up(job)
            except LabError as error:
                return fail(error)
            if not isinstance(result, Deferred):
                return succeed(result)
            deferred: Deferred[Any] = queue._promise(job)
            job.inner = result
            queue._aside.add(job)
            result.addBoth(queue._returned, job)
        else:
            deferred = queue._promise(job)
            queue.in_thread(job)
        if long:
            return deferred
        self._inside += 1
        return deferred.addBoth(self._came_back)

    def _came_back(self, result: Any) -> Any:
        self._inside -= 1
        if self.over and not self._inside and not self._end.called:
            self._end.callback(None)
        return result

    def done(self) -> None:
        """The device is free for the next one, as soon as no call of this turn is in it."""
        self.over = True
        if not self._inside and not self._end.called:
            self._end.callback(None)
