"""The rules of the locks, one by one, on a clock that only the tests move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from labnet import errors, lock_owners, lock_queue
from labnet.locks import EXCLUSIVE, SHARED, Change, Grant, Hold, LockService, Mode, Owner


class Node:
    """What the lock service asks of a node of the tree."""

    def __init__(self, name: str, parent: Node | None = None) -> None:
        self.path: str = name if parent is None else f"{parent.path}.{name}"
        self.ancestors: tuple[Node, ...] = () if parent is None else (parent, *parent.ancestors)
        self.lock: Any = None


class LocksCase(SynchronousTestCase):
    """Two devices, `stage` with `x` (with `fine`) and `y`, and `dmm`; clients A to D."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.locks = LockService(self.clock)
        self.stage = Node("stage")
        self.x = Node("x", self.stage)
        self.y = Node("y", self.stage)
        self.fine = Node("fine", self.x)
        self.dmm = Node("dmm")
        self.a, self.b, self.c, self.d = (self.client(name) for name in "ABCD")

    def client(self, name: str, named: bool = False) -> Owner:
        return self.locks.owner(name, "hislip", f"10.0.0.{ord(name[0]) - 64}:4000", named=named)

    def refused(self, owner: Owner, node: Node, verb: str = "set") -> bool:
        return self.locks.refusal(owner, node, verb) is not None

    def wait(self, owner: Owner, *nodes: Node, **options: Any) -> list[Any]:
        """Waits for a lock; the list has the result once there is one."""
        results: list[Any] = []
        options = {"wait": 10.0, **options}
        self.locks.acquire(nodes, owner, **options).addBoth(results.append)
        return results

    def assert_granted(self, results: Sequence[Any]) -> Grant:
        self.assertEqual(len(results), 1, "no answer yet")
        self.assertIsInstance(results[0], Grant)
        grant: Grant = results[0]
        return grant

    def assert_failed(self, results: Sequence[Any], kind: type[Exception]) -> Any:
        self.assertEqual(len(results), 1, "no answer yet")
        self.assertIsInstance(results[0], Failure)
        self.assertTrue(results[0].check(kind), results[0])
        return results[0].value

    def assert_clean(self) -> None:
        """Nothing is left of locks or of waits."""
        self.assertEqual(self.locks.count, 0)
        for node in (self.stage, self.x, self.y, self.fine, self.dmm):
            self.assertEqual((self.locks.info(node), self.locks.waiters(node)), ([], []))


class TakingTests(LocksCase):
    def test_record(self) -> None:
        self.clock.advance(5)
        grant = self.locks.take([self.x], self.a, lease=30, note="alignment")
        (hold,) = grant.holds
        self.assertEqual((hold.path, hold.node, hold.owner), ("stage.x", self.x, self.a))
        self.assertEqual((hold.mode, hold.key, hold.note), (EXCLUSIVE, "", "alignment"))
        self.assertEqual((hold.since, hold.lease, hold.deadline), (5, 30, 35))
        self.clock.advance(10)
        self.assertEqual(hold.left(self.clock.seconds()), 20)
        self.assertTrue(hold.held)
        self.assertEqual(self.locks.holds(self.a), [hold])
        self.locks.free(self.a)
        self.assertFalse(hold.held)

    def test_locked_says_who(self) -> None:
        self.locks.take([self.stage], self.a, lease=60)
        self.clock.advance(12)
        error = self.assertRaises(errors.Locked, self.locks.take, [self.x], self.b)
        holder = error.holder
        self.assertEqual((holder.resource, holder.name, holder.wire), ("stage", "A", "hislip"))
        self.assertEqual((holder.peer, holder.age, holder.left), ("10.0.0.1:4000", 12, 48))
        self.assertEqual(
            str(error),
            "stage.x is locked at stage by A (hislip 10.0.0.1:4000, for 12 s, 48 s left)",
        )

    def test_locked_from_a_hold(self) -> None:
        (hold,) = self.locks.take([self.stage], self.a).holds
        self.clock.advance(3)
        error = self.locks.locked(hold, "stage.y")
        self.assertIn("stage.y is locked at stage by A", str(error))
        self.assertEqual((error.holder.age, error.holder.left), (3, None))

    def test_all_or_nothing(self) -> None:
        self.locks.take([self.y], self.b)
        before = self.locks.epoch
        wanted = [self.dmm, self.x, self.y]
        error = self.assertRaises(errors.Locked, self.locks.take, wanted, self.a)
        self.assertEqual(error.holder.resource, "stage.y")
        self.assertEqual((self.locks.holds(self.a), self.locks.count), ([], 1))
        self.assertEqual(self.locks.epoch, before)
        self.assertFalse(self.refused(self.c, self.dmm))

    def test_several_in_order_and_doubles_merged(self) -> None:
        grant = self.locks.take([self.y, self.dmm, self.y], self.a)
        self.assertEqual([hold.path for hold in grant.holds], ["stage.y", "dmm"])
        self.assertEqual(self.locks.count, 2)

    def test_nothing(self) -> None:
        self.assertEqual(self.locks.take([], self.a), Grant((), ()))

    def test_already_held(self) -> None:
        (first,) = self.locks.take([self.x], self.a).holds
        grant = self.locks.take([self.x, self.dmm], self.a)
        self.assertEqual(grant.already, (first,))
        self.assertEqual([hold.path for hold in grant.new], ["dmm"])
        self.assertEqual(self.locks.count, 2)

    def test_count_epoch_and_fences(self) -> None:
        fences, epochs = [], [self.locks.epoch]
        for _ in range(3):
            (hold,) = self.locks.take([self.x], self.a).holds
            fences.append(hold.fence)
            epochs.append(self.locks.epoch)
            self.assertEqual(self.locks.count, 1)
            self.locks.free(self.a)
            self.assertEqual(self.locks.count, 0)
        self.assertEqual(fences, sorted(set(fences)))
        self.assertEqual(epochs, sorted(set(epochs)))

    def test_replace_swaps(self) -> None:
        self.locks.take([self.x, self.dmm], self.a)
        kept = self.locks.holds(self.a)[0]
        grant = self.locks.take([self.x, self.y], self.a, replace=True)
        self.assertEqual(grant.already, (kept,))
        self.assertEqual([hold.path for hold in self.locks.holds(self.a)], ["stage.x", "stage.y"])
        self.assertFalse(self.refused(self.b, self.dmm))

    def test_replace_refused_leaves_the_set(self) -> None:
        self.locks.take([self.x], self.a)
        self.locks.take([self.dmm], self.b)
        before = self.locks.holds(self.a)
        self.assertRaises(errors.Locked, self.locks.take, [self.y, self.dmm], self.a, replace=True)
        self.assertEqual(self.locks.holds(self.a), before)

    def test_replace_by_nothing_and_by_the_whole(self) -> None:
        self.locks.take([self.x], self.a)
        self.locks.take([self.stage], self.a, replace=True)
        self.assertEqual([hold.path for hold in self.locks.holds(self.a)], ["stage"])
        self.locks.take([], self.a, replace=True)
        self.assert_clean()

    def test_replace_changes_the_key_only_when_alone(self) -> None:
        self.locks.take([self.x], self.a, mode=SHARED, key="K1")
        self.locks.take([self.x], self.a, mode=SHARED, key="K2", replace=True)
        self.assertEqual([hold.key for hold in self.locks.holds(self.a)], ["K2"])
        self.locks.take([self.x], self.b, mode=SHARED, key="K2")
        with self.assertRaises(errors.Locked):
            self.locks.take([self.x], self.a, mode=SHARED, key="K1", replace=True)
        with self.assertRaises(errors.Locked):
            self.locks.take([self.x], self.a, replace=True)
        self.assertEqual([hold.key for hold in self.locks.holds(self.a)], ["K2"])

    def test_replace_serves_who_waited(self) -> None:
        self.locks.take([self.x], self.a)
        results = self.wait(self.b, self.x)
        self.locks.take([self.y], self.a, replace=True)
        self.assert_granted(results)

    def test_free_only_named_nodes_and_modes(self) -> None:
        self.locks.take([self.x, self.y], self.a, mode=SHARED, key="K")
        self.locks.take([self.x], self.a)
        self.assertEqual(self.locks.free(self.a, [self.stage, self.dmm]), [])
        self.assertEqual(self.locks.free(self.b), [])
        modes = [hold.mode for hold in self.locks.free(self.a, [self.x], mode=EXCLUSIVE)]
        self.assertEqual(modes, [EXCLUSIVE])
        self.assertEqual(len(self.locks.free(self.a, mode=EXCLUSIVE)), 0)
        self.assertEqual(len(self.locks.free(self.a, mode=SHARED)), 2)
        self.assert_clean()

    def test_bounds(self) -> None:
        take = self.locks.take
        self.assertRaises(errors.BadArguments, take, [self.x], self.a, mode=SHARED)
        self.assertRaises(errors.BadArguments, take, [self.x], self.a, mode=SHARED, key="")
        self.assertRaises(errors.TooLarge, take, [self.x], self.a, mode=SHARED, key="k" * 257)
        self.assertRaises(errors.TooLarge, take, [self.x], self.a, note="n" * 257)
        for lease in (-1.0, float("nan"), float("inf")):
            self.assertRaises(errors.OutOfRange, take, [self.x], self.a, lease=lease)
        self.assertRaises(errors.OutOfRange, self.locks.renew, self.a, lease=-1.0)
        self.assertRaises(errors.TooLarge, self.locks.owner, "n" * 257, "tsv", "peer")
        self.assert_clean()

    def test_too_many_holds(self) -> None:
        self.patch(lock_queue, "MAX_HOLDS", 2)
        self.locks.take([self.x, self.y], self.a)
        error = self.assertRaises(errors.TooLarge, self.locks.take, [self.dmm], self.a)
        self.assertIn("at most 2 locks", str(error))
        self.assertEqual(self.locks.take([self.x, self.y], self.a).new, ())
        self.locks.take([self.dmm], self.a, replace=True)
        self.assertRaises(
            errors.TooLarge, self.locks.take, [self.x, self.y, self.dmm], self.a, replace=True
        )


class HislipTableTests(LocksCase):
    """Every line of the lock table of IVI-6.1. B stands for the other; C for a third."""

    def ask(self, owner: Owner, key: str = "") -> int:
        """The code of a HiSLIP lock request that does not wait."""
        mode = SHARED if key else EXCLUSIVE
        try:
            grant = self.locks.take([self.dmm], owner, mode=mode, key=key or None)
        except errors.Locked:
            return 0
        return 1 if grant.new else 3

    def release(self, owner: Owner) -> int:
        hold = self.locks.release(owner, self.dmm)
        if hold is None:
            return 3
        return 1 if hold.mode is EXCLUSIVE else 2

    def state(self) -> str:
        modes = {hold.mode for hold in self.locks.info(self.dmm)}
        names: dict[frozenset[Mode], str] = {
            frozenset(): "free",
            frozenset({EXCLUSIVE}): "exclusive",
            frozenset({SHARED}): "shared",
            frozenset({EXCLUSIVE, SHARED}): "both",
        }
        return names[frozenset(modes)]

    def check(self, owner: Owner, key: str, code: int, state: str) -> None:
        self.assertEqual((self.ask(owner, key), self.state()), (code, state))

    def test_free(self) -> None:
        self.check(self.a, "", 1, "exclusive")
        self.assertEqual((self.release(self.a), self.state()), (1, "free"))
        self.check(self.a, "K1", 1, "shared")
        self.assertEqual((self.release(self.a), self.state()), (2, "free"))

    def test_exclusive(self) -> None:
        self.ask(self.a)
        self.check(self.a, "K1", 3, "exclusive")
        self.check(self.a, "", 3, "exclusive")
        self.check(self.b, "", 0, "exclusive")
        self.check(self.b, "K1", 0, "exclusive")

    def test_shared_by_its_holder(self) -> None:
        self.ask(self.a, "K1")
        self.check(self.a, "K1", 3, "shared")
        self.check(self.a, "K2", 3, "shared")
        self.check(self.a, "", 1, "both")

    def test_shared_by_another(self) -> None:
        self.ask(self.a, "K1")
        self.check(self.b, "K2", 0, "shared")
        self.check(self.b, "", 0, "shared")
        self.check(self.b, "K1", 1, "shared")
        self.check(self.b, "", 1, "both")

    def test_both(self) -> None:
        self.ask(self.a, "K1")
        self.ask(self.b, "K1")
        self.ask(self.a)
        self.check(self.a, "K1", 3, "both")
        self.check(self.b, "K1", 3, "both")
        self.check(self.a, "K2", 3, "both")
        self.check(self.c, "K2", 0, "both")
        self.check(self.c, "K1", 1, "both")
        self.check(self.a, "", 3, "both")
        self.check(self.b, "", 0, "both")
        self.check(self.d, "", 0, "both")

    def test_release(self) -> None:
        self.assertEqual(self.release(self.a), 3)
        self.ask(self.a, "K1")
        self.ask(self.b, "K1")
        self.ask(self.a)
        self.assertEqual((self.release(self.b), self.state()), (2, "both"))
        self.assertEqual((self.release(self.a), self.state()), (1, "shared"))
        self.assertEqual((self.release(self.b), self.state()), (3, "shared"))
        self.assertEqual((self.release(self.a), self.state()), (2, "free"))

    def test_operations_in_each_state(self) -> None:
        self.ask(self.a, "K1")
        self.ask(self.b, "K1")
        allowed = [self.refused(who, self.dmm) for who in (self.a, self.b, self.c)]
        self.assertEqual(allowed, [False, False, True])
        self.ask(self.a)
        allowed = [self.refused(who, self.dmm) for who in (self.a, self.b, self.c)]
        self.assertEqual(allowed, [False, True, True])

    def test_waiting_gets_the_same_codes(self) -> None:
        self.ask(self.a, "K1")
        self.assertFalse(self.assert_granted(self.wait(self.a, self.dmm)).already)
        self.assertTrue(self.assert_granted(self.wait(self.a, self.dmm)).already)
        joined = self.wait(self.b, self.dmm, mode=SHARED, key="K1")
        self.assertTrue(self.assert_granted(joined).new)
        late = self.wait(self.c, self.dmm, mode=SHARED, key="K2", wait=2.0)
        self.clock.advance(2)
        self.assert_failed(late, errors.Locked)

    def test_same_key_joins_past_who_waits(self) -> None:
        self.ask(self.a, "K1")
        exclusive = self.wait(self.b, self.dmm)
        self.check(self.c, "K1", 1, "shared")
        self.check(self.a, "", 1, "both")
        self.assertEqual(exclusive, [])

    def test_exclusive_keeps_its_key(self) -> None:
        """The shared part of a lock can end first, by its lease or by name."""
        self.ask(self.a, "K1")
        self.ask(self.a)
        self.locks.free(self.a, [self.dmm], mode=SHARED)
        self.check(self.b, "K2", 0, "exclusive")
        self.check(self.b, "K1", 1, "both")
        self.assertTrue(self.refused(self.b, self.dmm))
        self.assertFalse(self.refused(self.a, self.dmm))


class TreeTests(LocksCase):
    def conflicts(self, held: Node, wanted: Node) -> bool:
        self.locks.take([held], self.a)
        refused = self.refused(self.b, wanted)
        try:
            self.locks.take([wanted], self.b)
            taken = True
        except errors.Locked:
            taken = False
        self.locks.free(self.a)
        self.locks.free(self.b)
        self.assertEqual(refused, not taken)
        return refused

    def test_both_ways(self) -> None:
        for held, wanted in ((self.stage, self.x), (self.stage, self.fine), (self.x, self.fine)):
            self.assertTrue(self.conflicts(held, wanted))
            self.assertTrue(self.conflicts(wanted, held))
        for node in (self.stage, self.fine):
            self.assertTrue(self.conflicts(node, node))

    def test_strangers(self) -> None:
        for held, wanted in ((self.x, self.y), (self.y, self.fine), (self.stage, self.dmm)):
            self.assertFalse(self.conflicts(held, wanted))
            self.assertFalse(self.conflicts(wanted, held))

    def test_own_locks_never_conflict(self) -> None:
        self.locks.take([self.x], self.a)
        self.locks.take([self.stage], self.a)
        self.locks.take([self.fine], self.a)
        for node in (self.stage, self.x, self.fine, self.y):
            self.assertFalse(self.refused(self.a, node))
        self.locks.free(self.a, [self.stage])
        self.assertFalse(self.refused(self.b, self.y))
        self.assertTrue(self.refused(self.b, self.stage))

    def test_below_names_the_other_among_own(self) -> None:
        self.locks.take([self.x], self.a)
        self.locks.take([self.y], self.b)
        hold = self.locks.refusal(self.a, self.stage, "set")
        assert hold is not None
        self.assertEqual((hold.owner, hold.path), (self.b, "stage.y"))

    def test_shared_in_the_tree(self) -> None:
        self.locks.take([self.stage], self.a, mode=SHARED, key="K")
        self.locks.take([self.x], self.b, mode=SHARED, key="K")
        self.assertRaises(errors.Locked, self.locks.take, [self.x], self.c, mode=SHARED, key="L")
        self.assertRaises(errors.Locked, self.locks.take, [self.stage], self.c)
        self.assertFalse(self.refused(self.b, self.fine))
        self.assertTrue(self.refused(self.b, self.y), "its own lock does not cover y")
        self.assertFalse(self.refused(self.a, self.y))
        self.assertTrue(self.refused(self.c, self.fine))

    def test_different_keys_side_by_side(self) -> None:
        self.locks.take([self.x], self.a, mode=SHARED, key="K")
        self.locks.take([self.y], self.b, mode=SHARED, key="L")
        for key in "KL":
            with self.assertRaises(errors.Locked):
                self.locks.take([self.stage], self.c, mode=SHARED, key=key)
        self.locks.free(self.b)
        self.locks.take([self.stage], self.c, mode=SHARED, key="K")

    def test_exclusive_under_a_shared_cover(self) -> None:
        self.locks.take([self.stage], self.a, mode=SHARED, key="K")
        self.locks.take([self.stage], self.b, mode=SHARED, key="K")
        (hold,) = self.locks.take([self.x], self.a).holds
        self.assertEqual(hold.key, "K")
        self.assertTrue(self.refused(self.b, self.x))
        self.assertTrue(self.refused(self.b, self.stage))
        self.assertFalse(self.refused(self.b, self.y))
        self.assertRaises(errors.Locked, self.locks.take, [self.stage], self.b)

    def test_reads_and_stops(self) -> None:
        self.locks.take([self.stage], self.a)
        self.assertFalse(self.refused(self.b, self.x, "get"))
        for verb in ("set", "call", "message", "stop"):
            self.assertTrue(self.refused(self.b, self.x, verb), verb)
        strict = LockService(self.clock, reads_open=False, stop_open=True)
        node = Node("laser")
        strict.take([node], strict.owner("A", "tsv", "p"))
        other = strict.owner("B", "tsv", "p")
        self.assertIsNotNone(strict.refusal(other, node, "get"))
        self.assertIsNone(strict.refusal(other, node, "stop"))

    def test_info(self) -> None:
        self.locks.take([self.stage], self.a, mode=SHARED, key="K")
        self.locks.take([self.x, self.fine], self.a)
        self.assertEqual(
            [hold.path for hold in self.locks.info(self.x)], ["stage", "stage.x", "stage.x.fine"]
        )
        self.assertEqual([hold.path for hold in self.locks.info(self.y)], ["stage"])
        self.assertEqual(self.locks.info(self.dmm), [])


class WaitingTests(LocksCase):
    def test_at_once_when_free(self) -> None:
        self.assert_granted(self.wait(self.a, self.x, wait=0.0))

    def test_without_wait(self) -> None:
        self.locks.take([self.x], self.a)
        error = self.assert_failed(self.wait(self.b, self.x, wait=0.0), errors.Locked)
        self.assertEqual(error.holder.name, "A")
        self.assertEqual(self.locks.waiters(self.x), [])

    def test_bad_requests_fail_the_deferred(self) -> None:
        self.locks.take([self.x], self.a)
        self.assert_failed(self.wait(self.b, self.x, mode=SHARED), errors.BadArguments)
        self.assert_failed(self.wait(self.b, self.x, wait=-1.0), errors.OutOfRange)
        self.assert_failed(self.wait(self.b, self.x, wait=float("nan")), errors.OutOfRange)

    def test_first_come_first_served(self) -> None:
        self.locks.take([self.x], self.a)
        results = [self.wait(who, self.x) for who in (self.b, self.c, self.d)]
        for number, who in enumerate((self.a, self.b, self.c)):
            self.assertEqual(results[number], [])
            self.locks.free(who)
            self.assert_granted(results[number])
        self.locks.free(self.d)
        self.assert_clean()

    def test_no_overtaking_of_a_wider_request(self) -> None:
        self.locks.take([self.x], self.a)
        whole = self.wait(self.b, self.stage)
        part = self.wait(self.c, self.y)
        error = self.assertRaises(errors.Locked, self.locks.take, [self.y], self.d)
        self.assertEqual(error.holder.resource, "stage.x")
        self.assertEqual((whole, part), ([], []))
        self.locks.free(self.a)
        self.assert_granted(whole)
        self.assertEqual(part, [])
        self.locks.free(self.b)
        self.assert_granted(part)

    def test_strangers_pass(self) -> None:
        self.locks.take([self.x], self.a)
        self.wait(self.b, self.x)
        self.assert_granted(self.wait(self.c, self.y))
        self.assert_granted(self.wait(self.c, self.dmm))

    def test_nobody_waits_for_himself(self) -> None:
        """B waits for A: A's further requests do not queue behind B."""
        self.locks.take([self.x], self.a)
        self.locks.take([self.y], self.c)
        whole = self.wait(self.b, self.stage)
        more = self.wait(self.a, self.y)
        self.locks.free(self.c)
        self.assert_granted(more)
        self.assertEqual(whole, [])
        self.locks.free(self.a)
        self.assert_granted(whole)

    def test_several_nodes_wait_for_all(self) -> None:
        self.locks.take([self.x], self.a)
        self.locks.take([self.dmm], self.b)
        results = self.wait(self.c, self.x, self.dmm)
        self.locks.free(self.a)
        self.assertEqual((results, self.locks.holds(self.c)), ([], []))
        self.locks.free(self.b)
        self.assertEqual(len(self.assert_granted(results).new), 2)

    def test_shared_waiters_together(self) -> None:
        self.locks.take([self.x], self.a)
        results = [self.wait(who, self.x, mode=SHARED, key="K") for who in (self.b, self.c)]
        other = self.wait(self.d, self.x, mode=SHARED, key="L")
        self.locks.free(self.a)
        for result in results:
            self.assert_granted(result)
        self.assertEqual(other, [])

    def test_own_deadlines(self) -> None:
        self.locks.take([self.x], self.a)
        short, long, endless = (
            self.wait(who, self.x, wait=wait)
            for who, wait in ((self.b, 2.0), (self.c, 5.0), (self.d, None))
        )
        self.clock.advance(2)
        error = self.assert_failed(short, errors.Locked)
        self.assertEqual((error.holder.name, error.holder.age), ("A", 2))
        self.assertEqual(long, [])
        self.clock.advance(3)
        self.assertEqual(self.assert_failed(long, errors.Locked).holder.name, "A")
        self.clock.advance(1e6)
        self.assertEqual(endless, [])
        self.locks.free(self.a)
        self.assert_granted(endless)

    def test_the_next_moves_up_when_one_gives_up(self) -> None:
        self.locks.take([self.x], self.a)
        whole = self.wait(self.b, self.stage, wait=2.0)
        part = self.wait(self.c, self.y)
        self.clock.advance(2)
        self.assert_failed(whole, errors.Locked)
        self.assert_granted(part)

    def test_cancel(self) -> None:
        self.locks.take([self.x], self.a)
        waiting = self.locks.acquire([self.x], self.b, wait=10)
        after = self.wait(self.c, self.x)
        self.assertEqual(self.locks.position(waiting), 1)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertIsNone(self.locks.position(waiting))
        self.assertEqual(self.locks.position(self.c), 1)
        self.locks.free(self.a)
        self.assert_granted(after)
        self.locks.free(self.c)
        self.assert_clean()

    def test_cancel_from_another_answer(self) -> None:
        """An answer that is on its way is not given to who has cancelled meanwhile."""
        self.locks.take([self.x], self.a)
        first = self.locks.acquire([self.x], self.b, wait=2)
        second = self.locks.acquire([self.x], self.c, wait=2)
        first.addErrback(lambda _: second.cancel())
        self.clock.advance(2)
        self.failureResultOf(second, CancelledError)
        self.successResultOf(first)

    def test_owner_gone_while_waiting(self) -> None:
        self.locks.take([self.x], self.a)
        results = self.wait(self.b, self.x)
        self.locks.gone(self.b)
        self.assert_failed(results, errors.Cancelled)
        self.locks.free(self.a)
        self.assert_clean()
        self.assert_failed(self.wait(self.b, self.x), errors.Cancelled)

    def test_positions_and_records(self) -> None:
        self.locks.take([self.x], self.a)
        self.clock.advance(1)
        self.wait(self.b, self.x, mode=SHARED, key="K")
        last = self.locks.acquire([self.stage, self.dmm], self.c, wait=9)
        self.assertEqual((self.locks.position(self.b), self.locks.position(last)), (1, 2))
        self.assertIsNone(self.locks.position(self.d))
        first, second = self.locks.waiters(self.fine)
        self.assertEqual((first.owner, first.mode, first.key), (self.b, SHARED, "K"))
        self.assertEqual((second.paths, second.since), (("stage", "dmm"), 1))
        self.assertEqual((second.deadline, second.left(4)), (10, 6))
        self.assertEqual([w.owner for w in self.locks.waiters(self.dmm)], [self.c])
        last.addErrback(lambda _: None)
        last.cancel()

    def test_bounds(self) -> None:
        self.patch(lock_queue, "MAX_WAITING", 2)
        self.patch(lock_queue, "MAX_WAITERS", 3)
        self.patch(lock_queue, "MAX_WANTED", 1)
        self.locks.take([self.x], self.a)
        self.assert_failed(self.wait(self.b, self.x, self.y), errors.TooLarge)
        self.wait(self.b, self.x)
        self.wait(self.b, self.x)
        self.assert_failed(self.wait(self.b, self.x), errors.TooLarge)
        self.assertEqual(self.wait(self.c, self.x), [])
        self.assert_failed(self.wait(self.d, self.x), errors.TooLarge)

    def test_deferred_grant_that_is_freed_in_its_callback(self) -> None:
        """A thousand waiters, each freeing when granted: no recursion, in order."""
        self.patch(lock_queue, "MAX_WAITERS", 1000)
        self.locks.take([self.x], self.a)
        order: list[int] = []

        def granted(grant: Grant, number: int, owner: Owner) -> None:
            order.append(number)
            self.locks.free(owner)

        for number in range(1000):
            owner = self.client("W")
            waiting = self.locks.acquire([self.x], owner, wait=10)
            waiting.addCallback(granted, number, owner)
        self.locks.free(self.a)
        self.assertEqual(order, list(range(1000)))
        self.assert_clean()

    def test_callbacks_may_do_anything(self) -> None:
        """Taking, waiting and leaving from inside a callback."""
        self.locks.take([self.x], self.a)
        seen: list[Any] = []

        def granted(grant: Grant) -> None:
            seen.append(self.locks.take([self.dmm], self.b))
            seen.append(self.wait(self.a, self.x))
            self.assertRaises(errors.Locked, self.locks.take, [self.x], self.d)
            self.locks.gone(self.c)
            self.locks.free(self.b, [self.x])
            seen.append("done")

        self.locks.acquire([self.x], self.b, wait=10).addCallback(granted)
        leaver = self.wait(self.c, self.x)
        self.locks.free(self.a)
        self.assertEqual(seen[-1], "done")
        self.assert_failed(leaver, errors.Cancelled)
        self.assert_granted(seen[1])

    def test_gone_in_a_chain(self) -> None:
        """Each who learns of his end ends the next: no recursion either."""
        self.locks.take([self.x], self.a)
        owners = [self.client("W") for _ in range(1000)]
        ended: list[int] = []

        def end(_: object, number: int) -> None:
            ended.append(number)
            if number + 1 < len(owners):
                self.locks.gone(owners[number + 1])

        for number, owner in enumerate(owners):
            self.locks.acquire([self.x], owner, wait=None).addErrback(end, number)
        self.locks.gone(owners[0])
        self.assertEqual(ended, list(range(1000)))


class OperationTests(LocksCase):
    def clear(self, owner: Owner, node: Any, **options: Any) -> list[Any]:
        results: list[Any] = []
        verb = options.pop("verb", "set")
        self.locks.clear(owner, node, verb, **options).addBoth(results.append)
        return results

    def test_at_once(self) -> None:
        self.assertEqual(self.clear(self.a, self.x), [None])
        self.locks.take([self.x], self.a)
        self.assertEqual(self.clear(self.a, self.x), [None])
        self.assertEqual(self.clear(self.b, self.y), [None])
        self.assertEqual(self.clear(self.b, self.x, verb="get"), [None])

    def test_waits_and_takes_nothing(self) -> None:
        self.locks.take([self.x], self.a)
        results = self.clear(self.b, self.stage)
        self.assertEqual(results, [])
        self.locks.free(self.a)
        self.assertEqual((results, self.locks.count), ([None], 0))

    def test_several_nodes(self) -> None:
        self.locks.take([self.x], self.a)
        self.locks.take([self.dmm], self.c)
        results = self.clear(self.b, (self.y, self.x, self.dmm))
        self.locks.free(self.a)
        self.assertEqual(results, [])
        self.locks.free(self.c)
        self.assertEqual(results, [None])

    def test_in_line_with_locks(self) -> None:
        self.locks.take([self.x], self.a)
        before = self.clear(self.b, self.x)
        lock = self.wait(self.c, self.x)
        after = self.clear(self.b, self.x)
        self.locks.free(self.a)
        self.assertEqual(before, [None])
        self.assert_granted(lock)
        self.assertEqual(after, [])
        self.locks.free(self.c)
        self.assertEqual(after, [None])

    def test_does_not_reserve(self) -> None:
        """A wide operation that waits does not keep others from locks beside it."""
        self.locks.take([self.x], self.a)
        self.clear(self.b, self.stage)
        self.locks.take([self.y], self.c)

    def test_deadline_and_no_limit(self) -> None:
        self.locks.take([self.x], self.a)
        at_once = self.clear(self.b, self.x, wait=0.0)
        self.assert_failed(at_once, errors.Locked)
        limited, endless = self.clear(self.b, self.x, wait=3.0), self.clear(self.b, self.x)
        self.clock.advance(3)
        self.assertEqual(self.assert_failed(limited, errors.Locked).holder.name, "A")
        self.clock.advance(1e6)
        self.assertEqual(endless, [])

    def test_cancel_and_gone(self) -> None:
        self.locks.take([self.x], self.a)
        waiting: Deferred[None] = self.locks.clear(self.b, self.x, "call")
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        results = self.clear(self.b, self.x)
        self.locks.gone(self.b)
        self.assert_failed(results, errors.Cancelled)
        self.assertEqual(self.locks.waiters(self.x), [])

    def test_its_owner_joins_a_shared_lock(self) -> None:
        self.locks.take([self.x], self.a, mode=SHARED, key="K")
        results = self.clear(self.b, self.x)
        self.locks.take([self.x], self.b, mode=SHARED, key="K")
        self.assertEqual(results, [None])


class LeaseTests(LocksCase):
    def test_expires(self) -> None:
        (hold,) = self.locks.take([self.x], self.a, lease=5).holds
        results = self.wait(self.b, self.x)
        self.clock.advance(4.9)
        self.assertEqual((results, hold.held), ([], True))
        self.clock.advance(0.2)
        self.assertFalse(hold.held)
        self.assert_granted(results)

    def test_without_lease(self) -> None:
        self.locks.take([self.x], self.a)
        self.clock.advance(1e7)
        self.assertEqual(self.locks.count, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_renew(self) -> None:
        self.locks.take([self.x, self.y], self.a, lease=5)
        self.locks.take([self.dmm], self.a)
        self.clock.advance(4)
        self.assertEqual(len(self.locks.renew(self.a, [self.x])), 1)
        self.clock.advance(2)
        self.assertEqual([hold.path for hold in self.locks.holds(self.a)], ["stage.x", "dmm"])
        self.assertEqual([hold.path for hold in self.locks.renew(self.a)], ["stage.x"])
        self.clock.advance(4.5)
        self.assertEqual(self.locks.renew(self.b), [])
        self.clock.advance(1)
        self.assertEqual([hold.path for hold in self.locks.holds(self.a)], ["dmm"])

    def test_renew_with_another_length(self) -> None:
        (hold,) = self.locks.take([self.x], self.a, lease=5).holds
        self.locks.renew(self.a, lease=50)
        self.clock.advance(40)
        self.assertEqual(hold.left(self.clock.seconds()), 10)
        self.locks.renew(self.a, [self.x], lease=0)
        self.clock.advance(1000)
        self.assertEqual((hold.held, hold.lease, hold.left(1040)), (True, 0, None))

    def test_already_held_keeps_its_lease(self) -> None:
        self.locks.take([self.x], self.a, lease=5)
        self.clock.advance(3)
        self.locks.take([self.x], self.a, lease=5)
        self.clock.advance(2)
        self.assertEqual(self.locks.count, 0)

    def test_lease_begins_when_granted(self) -> None:
        self.locks.take([self.x], self.a)
        results = self.wait(self.b, self.x, lease=5)
        self.clock.advance(8)
        self.locks.free(self.a)
        self.assertEqual(self.assert_granted(results).holds[0].deadline, 13)

    def test_who_waits_to_the_last_moment_gets_it(self) -> None:
        self.locks.take([self.x], self.a, lease=5)
        results = self.wait(self.b, self.x, wait=5.0)
        self.clock.advance(5)
        self.assert_granted(results)

    def test_one_timer(self) -> None:
        for number in range(50):
            node = Node(f"device{number}")
            self.locks.take([node], self.a, lease=10 + number)
            self.locks.acquire([node], self.b, wait=5 + number).addErrback(lambda _: None)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.locks.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_memory_stays(self) -> None:
        """A hundred thousand leases taken and freed leave a short heap and nothing else."""
        node = self.x
        for _ in range(100_000):
            self.locks.take((node,), self.a, lease=60)
            self.locks.free(self.a, (node,))
        self.assertLess(len(self.locks._deadlines._heap), 200)
        self.assertEqual(len(self.locks._deadlines), 0)
        for _ in range(1000):
            self.locks.acquire((node,), self.a, wait=5)
            waiting = self.locks.acquire((node,), self.b, wait=5)
            waiting.addErrback(lambda _: None)
            waiting.cancel()
            self.locks.free(self.a)
        self.assertLess(len(self.locks._deadlines._heap), 200)
        self.assertEqual((len(self.locks._queue), self.locks._queue.ready), (0, []))
        self.assert_clean()


class OwnerTests(LocksCase):
    def test_gone_frees_all(self) -> None:
        self.locks.take([self.x, self.dmm], self.a, lease=60)
        results = self.wait(self.b, self.x)
        freed = self.locks.gone(self.a)
        self.assertEqual([hold.path for hold in freed], ["stage.x", "dmm"])
        self.assert_granted(results)
        self.assertTrue(self.a.gone)
        self.assertEqual(self.locks.gone(self.a), [])
        self.assertRaises(errors.Cancelled, self.locks.take, [self.x], self.a)

    def test_leased_locks_can_outlive_the_connection(self) -> None:
        token = self.a.token
        self.locks.take([self.x], self.a, lease=60)
        self.locks.take([self.y], self.a)
        self.assertEqual(len(self.locks.gone(self.a, keep_leased=True)), 1)
        self.assertIs(self.locks.owner_by_token(token), self.a)
        self.assertRaises(errors.Cancelled, self.locks.take, [self.dmm], self.a)
        self.assertTrue(self.locks.back(self.a))
        self.locks.take([self.dmm], self.a)
        self.locks.gone(self.a, keep_leased=True)
        self.clock.advance(60)
        self.assertIsNone(self.locks.owner_by_token(token))
        self.assert_clean()
        self.assertFalse(self.locks.back(self.a))

    def test_grace(self) -> None:
        exp = self.client("exp-1", named=True)
        self.locks.take([self.x], exp)
        self.locks.lost(exp, 10)
        self.assertIs(self.locks.owner_by_name("hislip", "exp-1"), exp)
        self.clock.advance(9)
        self.assertTrue(self.refused(self.a, self.x))
        self.assertTrue(self.locks.back(exp))
        self.clock.advance(100)
        self.assertTrue(self.refused(self.a, self.x))
        self.locks.lost(exp, 10)
        results = self.wait(self.b, self.x, wait=None)
        self.clock.advance(10)
        self.assert_granted(results)
        self.assertIsNone(self.locks.owner_by_name("hislip", "exp-1"))
        self.assertFalse(self.locks.back(exp))

    def test_others_are_told_that_the_holder_is_away(self) -> None:
        exp = self.client("exp-1", named=True)
        grant = self.locks.take([self.x], exp)
        self.assertNotIn("lost", str(self.locks.locked(grant.holds[0])))
        self.locks.lost(exp, 10)
        self.clock.advance(4)
        away = self.locks.locked(grant.holds[0])
        self.assertEqual(away.holder.grace, 6)
        self.assertIn("its connection is lost, it may come back within 6 s", str(away))

    def test_lost_twice_counts_from_the_first(self) -> None:
        exp = self.client("exp-1", named=True)
        self.locks.take([self.x], exp)
        self.locks.lost(exp, 10)
        self.clock.advance(6)
        self.locks.lost(exp, 10)
        self.clock.advance(4)
        self.assert_clean()

    def test_lost_with_nothing_or_without_grace_is_gone(self) -> None:
        for nodes, grace in (([], 10.0), ([self.x], 0.0)):
            exp = self.client("exp-1", named=True)
            self.locks.take(nodes, exp)
            self.locks.lost(exp, grace)
            self.assertTrue(exp.gone)
            self.assertIsNone(self.locks.owner_by_name("hislip", "exp-1"))

    def test_waiters_end_when_lost(self) -> None:
        exp = self.client("exp-1", named=True)
        self.locks.take([self.x], exp)
        self.locks.take([self.y], self.a)
        results = self.wait(exp, self.y)
        self.locks.lost(exp, 10)
        self.assert_failed(results, errors.Cancelled)

    def test_extend_to_the_limit(self) -> None:
        self.locks = LockService(self.clock, grace_limit=30)
        exp = self.client("exp-1", named=True)
        self.locks.take([self.x], exp)
        self.assertEqual(self.locks.extend(exp, 5), 0.0)
        self.locks.lost(exp, 10)
        self.clock.advance(8)
        self.assertEqual(self.locks.extend(exp, 1), 2.0)
        self.assertEqual(self.locks.extend(exp, 10), 10.0)
        self.clock.advance(9)
        self.assertEqual(self.locks.extend(exp, 100), 13.0)
        self.clock.advance(12.5)
        self.assertEqual(self.locks.count, 1)
        self.clock.advance(0.5)
        self.assertEqual(self.locks.count, 0)

    def test_last_lock_broken_while_away(self) -> None:
        exp = self.client("exp-1", named=True)
        self.locks.take([self.x], exp)
        self.locks.lost(exp, 10)
        self.locks.break_(self.x, self.b)
        self.assertTrue(exp.gone)
        self.client("exp-1", named=True)

    def test_names(self) -> None:
        first = self.client("exp-1", named=True)
        self.assertRaises(errors.NotAllowed, self.client, "exp-1", named=True)
        self.locks.owner("exp-1", "plesty", "peer", named=True)
        self.assertIsNone(self.locks.owner_by_name("tsv", "exp-1"))
        self.locks.gone(first)
        self.assertIsNot(self.client("exp-1", named=True), first)

    def test_old_owner_does_not_take_the_name_along(self) -> None:
        """Within one turn: the old one goes, the name is taken anew, the old one goes again."""
        exp = self.client("exp-1", named=True)
        self.locks.take([self.x], exp)
        self.locks.gone(exp)
        again = self.client("exp-1", named=True)
        self.locks.gone(exp)
        self.assertIs(self.locks.owner_by_name("hislip", "exp-1"), again)

    def test_tokens(self) -> None:
        self.assertEqual(self.a.token, self.a.token)
        self.assertEqual(len(self.a.token), 32)
        self.assertNotEqual(self.a.token, self.b.token)
        self.assertIs(self.locks.owner_by_token(self.b.token), self.b)
        self.assertIsNone(self.locks.owner_by_token("x"))
        token = self.a.token
        self.locks.gone(self.a)
        self.assertIsNone(self.locks.owner_by_token(token))
        self.locks.gone(self.c)
        self.assertRaises(errors.Cancelled, lambda: self.c.token)

    def test_bounded_tables(self) -> None:
        self.patch(lock_owners, "MAX_OWNERS", 1)
        self.client("exp-1", named=True)
        self.assertRaises(errors.TooLarge, self.client, "exp-2", named=True)
        self.assertTrue(self.a.token)
        self.assertRaises(errors.TooLarge, lambda: self.b.token)

    def test_a_device_leaves(self) -> None:
        (hold,) = self.locks.take([self.x], self.a).holds
        self.locks.take([self.dmm], self.a)
        waiting, other = self.wait(self.b, self.fine), self.wait(self.c, self.dmm)
        self.assertEqual(self.locks.forget(self.stage), [hold])
        self.assert_failed(waiting, errors.NotConnected)
        self.assertEqual((other, self.locks.count), ([], 1))


class BreakAndNewsTests(LocksCase):
    def setUp(self) -> None:
        super().setUp()
        self.news: list[Change] = []
        self.unsubscribe = self.locks.subscribe(self.news.append)

    def told(self) -> list[tuple[str, str]]:
        """What was told since the last call: the word, and the path or the owner."""
        told: list[tuple[str, str]] = [
            (c.what, c.hold.path if c.hold else c.owner.name) for c in self.news
        ]
        self.news.clear()
        return told

    def test_break(self) -> None:
        mine: list[Change] = []
        self.a.changed = mine.append
        (hold,) = self.locks.take([self.x], self.a).holds
        results = self.wait(self.c, self.x)
        epoch = self.locks.epoch
        self.assertEqual(self.locks.break_(self.stage, self.b), [hold])
        self.assertGreater(self.locks.epoch, epoch)
        self.assert_granted(results)
        self.assertEqual(mine, [Change("broken", self.a, hold, "B")])
        self.assertEqual(
            self.told(), [("taken", "stage.x"), ("broken", "stage.x"), ("taken", "stage.x")]
        )

    def test_break_reaches_down_not_up_and_spares_own(self) -> None:
        self.locks.take([self.stage], self.a)
        self.assertEqual(self.locks.break_(self.x, self.b), [])
        self.locks.free(self.a)
        self.locks.take([self.x], self.a)
        self.locks.take([self.y], self.b)
        epoch = self.locks.epoch
        self.assertEqual([h.path for h in self.locks.break_(self.stage, self.b)], ["stage.x"])
        self.assertEqual(self.locks.epoch, epoch + 1)
        self.assertEqual([h.path for h in self.locks.break_(self.stage, "operator")], ["stage.y"])
        self.assertEqual(self.news[-1].by, "operator")

    def test_every_kind(self) -> None:
        exp = self.client("exp-1", named=True)
        self.locks.take([self.x, self.y], exp)
        self.locks.take([self.dmm], self.a, lease=2)
        self.locks.free(exp, [self.y])
        self.locks.lost(exp, 5)
        self.locks.back(exp)
        self.clock.advance(2)
        self.locks.lost(exp, 5)
        self.clock.advance(5)
        self.assertEqual(
            self.told(),
            [
                *[("taken", path) for path in ("stage.x", "stage.y", "dmm")],
                ("freed", "stage.y"),
                ("lost", "exp-1"),
                ("back", "exp-1"),
                ("expired", "dmm"),
                ("lost", "exp-1"),
                ("expired", "stage.x"),
            ],
        )

    def test_unsubscribe(self) -> None:
        self.unsubscribe()
        self.unsubscribe()
        self.locks.take([self.x], self.a)
        self.assertEqual(self.told(), [])

    def test_a_listener_may_act(self) -> None:
        """Who frees in answer to "taken" recurses no more than a waiter does."""
        taken: list[Hold] = []

        def free_at_once(change: Change) -> None:
            if change.what == "taken" and change.hold is not None and len(taken) < 2000:
                taken.append(change.hold)
                self.locks.free(change.owner)
                self.locks.take([self.x], self.b if change.owner is self.a else self.a)

        self.locks.subscribe(free_at_once)
        self.locks.take([self.x], self.a)
        self.assertEqual((len(taken), self.locks.count), (2000, 1))

    def test_a_failing_listener_harms_nobody(self) -> None:
        self.news.clear()

        def fail(change: Change) -> None:
            raise ZeroDivisionError

        self.unsubscribe()
        self.locks.subscribe(fail)
        self.locks.subscribe(self.news.append)
        self.locks.take([self.x], self.a)
        self.assertEqual(self.told(), [("taken", "stage.x")])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stop(self) -> None:
        self.locks.take([self.x], self.a, lease=5)
        results = self.wait(self.b, self.x)
        self.locks.stop()
        self.assert_failed(results, errors.Cancelled)
        self.assertEqual(self.clock.getDelayedCalls(), [])
