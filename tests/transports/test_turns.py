"""Requests that follow each other, and their time limits."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import TimedOut
from labnet.transports.turns import Turns, Watch, limited


class TurnsTests(SynchronousTestCase):
    def acquire(self, turns: Turns) -> Deferred[None]:
        return Deferred.fromCoroutine(turns.acquire())

    def test_first_come_first_served(self) -> None:
        turns = Turns()
        first, second, third = (self.acquire(turns) for _ in range(3))
        self.successResultOf(first)
        self.assertNoResult(second)
        turns.release()
        self.successResultOf(second)
        self.assertNoResult(third)
        turns.release()
        self.successResultOf(third)
        self.assertTrue(turns.taken)
        turns.release()
        self.assertFalse(turns.taken)

    def test_giving_up(self) -> None:
        turns = Turns()
        self.successResultOf(self.acquire(turns))
        second, third = self.acquire(turns), self.acquire(turns)
        second.cancel()
        self.failureResultOf(second, CancelledError)
        turns.release()
        self.successResultOf(third)

    def test_thousands_that_are_done_at_once(self) -> None:
        """One after the other, not one inside the other."""
        turns, done = Turns(), []

        async def take(number: int) -> None:
            await turns.acquire()
            done.append(number)
            if number != 2500:
                turns.release()

        turns.taken = True
        for number in range(5000):
            Deferred.fromCoroutine(take(number))
        turns.release()
        self.assertEqual(done, list(range(2501)))
        self.assertTrue(turns.taken)
        turns.release()
        self.assertEqual(done, list(range(5000)))
        self.assertFalse(turns.taken)

    def test_taken_without_waiting(self) -> None:
        turns = Turns()
        turns.taken = True
        waiting = self.acquire(turns)
        self.assertNoResult(waiting)
        turns.release()
        self.successResultOf(waiting)


class WatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.watch = Watch(self.clock)

    def test_in_time(self) -> None:
        watched: Deferred[None] = Deferred()
        self.watch.begin(watched, 2.0)
        self.clock.advance(1.0)
        self.assertFalse(self.watch.end())
        self.clock.advance(5.0)
        self.assertNoResult(watched)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_too_late(self) -> None:
        watched: Deferred[None] = Deferred()
        self.watch.begin(watched, 2.0)
        self.clock.advance(2.0)
        self.failureResultOf(watched, CancelledError)
        self.assertTrue(self.watch.end())

    def test_one_timer_for_many(self) -> None:
        """Each has its own limit, whether that ends before or after the one before it."""
        for _ in range(10):
            self.watch.begin(Deferred(), 2.0)
            self.clock.advance(0.5)
            self.assertFalse(self.watch.end())
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        longer: Deferred[None] = Deferred()
        self.watch.begin(longer, 3.0)
        self.clock.advance(2.9)
        self.assertNoResult(longer)
        self.clock.advance(0.2)
        self.failureResultOf(longer, CancelledError)
        self.watch.begin(Deferred(), 9.0)
        self.watch.end()
        shorter: Deferred[None] = Deferred()
        self.watch.begin(shorter, 0.5)
        self.clock.advance(0.5)
        self.failureResultOf(shorter, CancelledError)

    def test_closed(self) -> None:
        watched: Deferred[None] = Deferred()
        self.watch.begin(watched, 1.0)
        self.watch.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertNoResult(watched)
        self.watch.close()


class LimitedTests(SynchronousTestCase):
    def test_in_time_and_too_late(self) -> None:
        clock, answers = Clock(), [Deferred[int](), Deferred[int]()]

        async def ask(number: int) -> int:
            return await answers[number]

        quick, slow = (limited(ask(number), f"question {number}", 2.0, clock) for number in (0, 1))
        answers[0].callback(7)
        self.assertEqual(self.successResultOf(quick), 7)
        clock.advance(2.0)
        error = self.failureResultOf(slow, TimedOut).value
        self.assertEqual(str(error), "question 1 did not finish within 2 s")
        self.assertEqual(clock.getDelayedCalls(), [])
