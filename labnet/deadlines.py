"""Many deadlines, one timer.

A `callLater` for each lease or wait would cost more than the lock itself. Here a deadline is a heap
entry; dropping one only empties its entry, and the heap is rebuilt when empty entries outnumber the
live ones, so that a million leases taken and freed leave nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.interfaces import IDelayedCall

T = TypeVar("T")

Entry = list[Any]
"""``[when, serial, subject]``; the subject is None once the deadline has passed or was dropped."""

SLACK = 1e-6
"""Seconds by which a timer may be early: ``now + (when - now)`` can round to below ``when``."""

SPARE = 64
"""Empty entries that are always tolerated."""


class Clock(Protocol):
    """Time in seconds that only moves forward, and calls after a while."""

    def seconds(self) -> float: ...
    def callLater(
        self, delay: float, function: Callable[..., Any], /, *args: Any
    ) -> IDelayedCall: ...


class Deadlines(Generic[T]):
    """Calls ``due(subjects)`` with all whose time has come, earliest first.

    The clock is monotonic; `when` is in its seconds. The timer is lazy: it is moved for an earlier
    deadline, never for one that was dropped.
    """

    def __init__(self, clock: Clock, due: Callable[[list[T]], None]) -> None:
        self._clock = clock
        self._due = due
        self._heap: list[Entry] = []
        self._live = 0
        self._serial = count()
        self._timer: IDelayedCall | None = None
        self._armed = inf

    def __len__(self) -> int:
        return self._live

    def add(self, when: float, subject: T) -> Entry:
        """A new deadline; keep the entry for `drop` and `passed`."""
        entry = [when, next(self._serial), subject]
        heappush(self._heap, entry)
        self._live += 1
        if when < self._armed:
            self._arm(when)
        return entry

    def drop(self, entry: Entry) -> None:
        """The deadline no longer matters; harmless when it has passed or was dropped before."""
        if entry[2] is None:
            return
        entry[2] = None
        self._live -= 1
        if len(self._heap) > 2 * self._live + SPARE:
            self._heap = [kept for kept in self._heap if kept[2] is not None]
            heapify(self._heap)

    @staticmethod
    def passed(entry: Entry | None) -> bool:
        """Whether this entry was handed to `due` and has not been replaced since."""
        return entry is not None and entry[2] is None

    def stop(self) -> None:
        """Forgets every deadline and leaves no timer behind."""
        for entry in self._heap:
            entry[2] = None
        self._heap.clear()
        self._live = 0
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._armed = inf

    def _arm(self, when: float) -> None:
        delay = max(0.0, when - self._clock.seconds())
        self._armed = when
        if self._timer is None:
            self._timer = self._clock.callLater(delay, self._ring)
        else:
            self._timer.reset(delay)

    def _ring(self) -> None:
        self._timer = None
        self._armed = inf
        due = self._collect(self._clock.seconds() + SLACK)
        if self._heap:
            self._arm(self._heap[0][0])
        if due:
            self._due(due)

    def _collect(self, until: float) -> list[T]:
        heap, due = self._heap, []
        while heap and (heap[0][2] is None or heap[0][0] <= until):
            entry = heappop(heap)
            if entry[2] is not None:
                due.append(entry[2])
                entry[2] = None
                self._live -= 1
        return due
