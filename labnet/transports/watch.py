"""Time limits for requests that come one after the other, without a timer for each."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall


class Watch:
    """Cancels the Deferred that it watches when its time is over.

    The timer of an earlier one that was done in time goes on, and then waits for what is left.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._end = 0.0
        self._watched: Deferred[Any] | None = None
        self._late = False
        self._timer: IDelayedCall | None = None

    def begin(self, watched: Deferred[Any], seconds: float) -> None:
        """Cancels `watched` after so many seconds, unless `end` comes first."""
        self._watched, self._late = watched, False
        self._end = end = self._clock.seconds() + seconds
        timer = self._timer
        if timer is None:
            self._timer = self._clock.callLater(seconds, self._look)
        elif timer.getTime() > end:
            timer.reset(seconds)

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
            return
        self._late = True
        watched.cancel()

    def close(self) -> None:
        """Nothing is watched any more."""
        self._watched = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
