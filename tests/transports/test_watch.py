"""Time limits that share a timer."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.transports.watch import Watch


class WatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.watch = Watch(self.clock)

    def begin(self, seconds: float) -> Deferred[Any]:
        watched: Deferred[Any] = Deferred()
        self.watch.begin(watched, seconds)
        return watched

    def test_too_late(self) -> None:
        watched = self.begin(2.0)
        self.clock.advance(1.9)
        self.assertNoResult(watched)
        self.clock.advance(0.2)
        self.failureResultOf(watched, CancelledError)
        self.assertTrue(self.watch.end())

    def test_in_time(self) -> None:
        watched = self.begin(2.0)
        watched.callback("done")
        self.assertFalse(self.watch.end())
        self.clock.advance(5)
        self.assertEqual(self.successResultOf(watched), "done")

    def test_one_timer_for_all(self) -> None:
        for _ in range(100):
            self.begin(2.0)
            self.watch.end()
            self.clock.advance(0.01)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_the_timer_of_an_earlier_one_is_not_too_early(self) -> None:
        self.begin(2.0)
        self.clock.advance(1.5)
        self.watch.end()
        later = self.begin(2.0)
        self.clock.advance(1.9)
        self.assertNoResult(later)
        self.clock.advance(0.2)
        self.failureResultOf(later, CancelledError)

    def test_a_shorter_one_is_not_kept_waiting(self) -> None:
        self.begin(100.0)
        self.watch.end()
        short = self.begin(1.0)
        self.clock.advance(1.1)
        self.failureResultOf(short, CancelledError)

    def test_closed(self) -> None:
        watched = self.begin(2.0)
        self.watch.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(5)
        self.assertNoResult(watched)
