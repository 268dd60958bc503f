"""Requests of one client that follow each other, and how long each of them may take.

What Twisted has for this (`DeferredLock`, `Deferred.addTimeout`) makes two Deferreds and a timer a
request, which for a question over a fast network is a good part of its cost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from labnet.errors import TimedOut

T = TypeVar("T")


def limited(
    work: Coroutine[Any, Any, T], what: str, seconds: float, clock: Any
) -> Deferred[T]:
    """The result of `work`; fails with `TimedOut`, which names `what`, after so many seconds."""

    def timed_out(_: object, limit: float) -> NoReturn:
        raise TimedOut(what, limit)

    return Deferred.fromCoroutine(work).addTimeout(seconds, clock, timed_out)


class Turns:
    """One at a time, first come, first served. `taken` is set directly where nobody has to wait."""

    def __init__(self) -> None:
        #: Whether somebody has the turn.
        self.taken = False
        self._waiting: deque[Deferred[None]] = deque()
        self._passing = False  # `release` is at work
        self._released = False  # and was called again meanwhile

    async def acquire(self) -> None:
        """Waits for the turn; who is cancelled meanwhile gives up the place in the queue."""
        if self.taken:
            waiting: Deferred[None] = Deferred(self._given_up)
            self._waiting.append(waiting)
            await waiting  # the turn is handed over
        else:
            self.taken = True

    def _given_up(self, waiting: Deferred[None]) -> None:
        self._waiting.remove(waiting)

    def release(self) -> None:
        """The turn goes to who has waited longest."""
        if self._passing:  # by somebody who was done at once: hundreds of them may follow
            self._released = True
            return
        self._passing = True
        try:
            while self._waiting:
                self._released = False
                self._waiting.popleft().callback(None)
                if not self._released:
                    return
            self.taken = False
        finally:
            self._passing = False


class Watch:
    """A time limit for one Deferred after the other, for less than a timer each.

    The timer of an earlier one that was done in time goes on, and then waits for what is left.
    """

    def __init__(self, clock: Any) -> None:
        #: The last limit.
        self.seconds = 0.0
        self._clock = clock
        self._end = 0.0
        self._due = 0.0  # when the timer ends
        self._watched: Deferred[Any] | None = None
        self._late = False
        self._timer: IDelayedCall | None = None

    def begin(self, watched: Deferred[Any], seconds: float) -> None:
        """Cancels `watched` after so many seconds, unless `end` comes first."""
        self._watched, self._late, self.seconds = watched, False, seconds
        self._end = end = self._clock.seconds() + seconds
        if self._timer is None:
            self._timer = self._clock.callLater(seconds, self._look)
            self._due = end
        elif self._due > end:
            self._timer.reset(seconds)
            self._due = end

    def end(self) -> bool:
        """It is done; whether it was cancelled from here."""
        self._watched = None
        return self._late

    def _look(self) -> None:
        self._timer = None
        watched = self._watched
        if watched is None:
            return
        left = self._end - self._clock.seconds()
        if left > 0:
            self._timer = self._clock.callLater(left, self._look)
            self._due = self._end
            return
        self._late = True
        watched.cancel()

    def close(self) -> None:
        """Nothing is watched any more."""
        self._watched = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
