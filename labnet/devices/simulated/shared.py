"""What the simulated instruments share: a clock, seeded noise, slow drifts, exposures in turn."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import numpy as np
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater

from labnet.device import Device

T = TypeVar("T")


class Simulated(Device):
    """Base of the simulated instruments; the same seed on the same clock gives the same readings.

    Args:
        seed: where the noise begins.
        clock: its time; None for the reactor's.
    """

    def __init__(self, seed: int, clock: IReactorTime | None = None) -> None:
        self._given_clock = clock
        self._began: float | None = None
        self._random = np.random.default_rng(seed)

    @property
    def _clock(self) -> IReactorTime:
        if self._given_clock is None:
            from twisted.internet import reactor

            self._given_clock = cast(IReactorTime, reactor)
        return self._given_clock

    def _now(self) -> float:
        """Seconds since the instrument was first used."""
        now = self._clock.seconds()
        if self._began is None:
            self._began = now
        return now - self._began

    def _pause(self, seconds: float) -> Deferred[None]:
        """Fires after `seconds`; cancelling it ends the wait."""
        return deferLater(self._clock, seconds)

    def _noise(self) -> float:
        """One sample of normal noise of standard deviation 1."""
        return float(self._random.standard_normal())

    def _drift(self, period: float) -> Drift:
        return Drift(self._random, period)


class Drift:
    """A smooth, repeatable motion between -1 and 1: three sines with seeded phases.

    `period` is the time of its slowest part in seconds.
    """

    _PARTS = ((1.0, 0.5), (2.7, 0.3), (7.1, 0.2))

    def __init__(self, random: np.random.Generator, period: float) -> None:
        self._sines = [
            (share, 2 * math.pi * rate / period, random.uniform(0, 2 * math.pi))
            for rate, share in self._PARTS
        ]

    def at(self, seconds: float) -> float:
        """Where it is at a time."""
        return sum(share * math.sin(rate * seconds + phase) for share, rate, phase in self._sines)


class Exposures(Generic[T]):
    """Exposures one after the other; all who ask during one share the next, which is all theirs.

    `begin` opens the shutter and returns the exposure time in seconds; `end` gives the result. An
    exposure that nobody waits for any more is broken off.
    """

    def __init__(
        self,
        clock: Callable[[], IReactorTime],
        begin: Callable[[], float],
        end: Callable[[], T],
    ) -> None:
        self._clock = clock
        self._begin = begin
        self._end = end
        self._now: list[Deferred[T]] = []
        self._next: list[Deferred[T]] = []
        self._timer: IDelayedCall | None = None

    @property
    def running(self) -> bool:
        """Whether the shutter is open."""
        return self._timer is not None

    def request(self) -> Deferred[T]:
        """The result of an exposure that begins now or when the one in progress ends."""
        waiter: Deferred[T] = Deferred(self._cancelled)
        self._next.append(waiter)
        if self._timer is None:
            self._open()
        return waiter

    def _open(self) -> None:
        self._now, self._next = self._next, []
        self._timer = self._clock().callLater(self._begin(), self._close)

    def _close(self) -> None:
        self._timer = None
        done, self._now = self._now, []
        result = self._end()
        if self._next:
            self._open()
        for waiter in done:
            waiter.callback(result)

    def _cancelled(self, waiter: Deferred[Any]) -> None:
        for waiters in (self._now, self._next):
            if waiter in waiters:
                waiters.remove(waiter)
        if not self._now and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            if self._next:
                self._open()
