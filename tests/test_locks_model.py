"""The lock service against a naive model: lists, and every pair compared with every other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from labnet import errors
from labnet.locks import EXCLUSIVE, SHARED, LockService, Mode, Owner


class Node:
    def __init__(self, name: str, parent: Node | None = None) -> None:
        self.path: str = name if parent is None else f"{parent.path}.{name}"
        self.ancestors: tuple[Node, ...] = () if parent is None else (parent, *parent.ancestors)
        self.lock: Any = None

    def __repr__(self) -> str:
        return self.path


STAGE = ("stage", "stage.x", "stage.y", "stage.x.fine", "dmm")
KEYS = ("K1", "K2")


def tree() -> dict[str, Node]:
    nodes: dict[str, Node] = {}
    for path in STAGE:
        parent, _, name = path.rpartition(".")
        nodes[path] = Node(name, nodes.get(parent))
    return nodes


def related(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def over(one: str, other: str) -> bool:
    return f"{other}.".startswith(f"{one}.")


@dataclass(eq=False)
class Held:
    owner: int
    path: str
    mode: Mode
    key: str
    lease: float
    deadline: float | None


@dataclass(eq=False)
class Wanted:
    owner: int
    paths: tuple[str, ...]
    mode: Mode
    key: str
    lease: float = 0.0
    replace: bool = False
    operation: bool = False
    deadline: float | None = None
    deferred: Deferred[Any] | None = None
    results: list[Any] = field(default_factory=list)
    expected: str = "waiting"


class Model:
    """Who holds what and who waits, in the slowest and plainest way."""

    def __init__(self) -> None:
        self.now = 0.0
        self.holds: list[Held] = []
        self.queue: list[Wanted] = []
        self.away: dict[int, float] = {}

    def own(self, owner: int, path: str, mode: Mode) -> Held | None:
        for held in self.holds:
            if (held.owner, held.path, held.mode) == (owner, path, mode):
                return held
        return None

    def standing(self, want: Wanted, path: str) -> Held | None:
        exclusive = self.own(want.owner, path, EXCLUSIVE)
        if want.mode is EXCLUSIVE:
            return exclusive
        shared = self.own(want.owner, path, SHARED)
        if want.replace:
            return shared if shared and shared.key == want.key else None
        return exclusive or shared

    def key(self, want: Wanted, path: str) -> str:
        """The key a new hold would carry."""
        if want.mode is SHARED or want.replace:
            return want.key
        covering = [h for h in self.holds if h.owner == want.owner and over(h.path, path) and h.key]
        return max(covering, key=lambda held: len(held.path)).key if covering else ""

    def conflict(self, want: Wanted, path: str, held: Held) -> bool:
        if held.owner == want.owner or not related(path, held.path):
            return False
        if held.mode is EXCLUSIVE and want.mode is EXCLUSIVE:
            return True
        key = self.key(want, path)
        return not key or key != held.key

    def stopped(self, want: Wanted) -> bool:
        return any(
            self.conflict(want, path, held)
            for path in want.paths
            if not self.standing(want, path)
            for held in self.holds
        )

    def yields(self, want: Wanted, earlier: Wanted) -> bool:
        if want.owner == earlier.owner or earlier.operation:
            return False
        if want.mode is SHARED and earlier.mode is SHARED and want.key == earlier.key:
            return False
        for held in self.holds:
            waited = any(related(held.path, path) for path in earlier.paths)
            keyed = earlier.mode is SHARED and held.key == earlier.key
            if held.owner == want.owner and waited and not keyed:
                return False
        return any(
            related(path, other) and not self.inside(want, path)
            for path in want.paths
            for other in earlier.paths
        )

    def inside(self, want: Wanted, path: str) -> bool:
        return any(
            over(held.path, path)
            and (
                held.owner == want.owner
                or (want.mode is SHARED and held.mode is SHARED and held.key == want.key)
            )
            for held in self.holds
        )

    def grantable(self, want: Wanted) -> bool:
        if self.stopped(want):
            return False
        if want.operation:
            return True
        earlier = self.queue[: self.queue.index(want)] if want in self.queue else self.queue
        return not any(self.yields(want, other) for other in earlier)

    def grant(self, want: Wanted) -> None:
        want.expected = "granted"
        if want.operation:
            return
        standing = [self.standing(want, path) for path in want.paths]
        keys = [self.key(want, path) for path in want.paths]
        if want.replace:
            self.holds = [h for h in self.holds if h.owner != want.owner or h in standing]
        for path, held, key in zip(want.paths, standing, keys, strict=True):
            if held is None:
                deadline = self.now + want.lease if want.lease else None
                new = Held(want.owner, path, want.mode, key, want.lease, deadline)
                self.holds.append(new)

    def settle(self) -> None:
        self.holds_of_lost()
        while True:
            want = next((want for want in self.queue if self.grantable(want)), None)
            if want is None:
                return
            self.queue.remove(want)
            self.grant(want)

    def holds_of_lost(self) -> None:
        for owner in list(self.away):
            if not any(held.owner == owner for held in self.holds):
                del self.away[owner]

    def end_waits(self, owner: int, expected: str) -> None:
        for want in [want for want in self.queue if want.owner == owner]:
            self.queue.remove(want)
            want.expected = expected

    def advance(self, until: float) -> None:
        moments = {held.deadline for held in self.holds} | set(self.away.values())
        moments |= {want.deadline for want in self.queue}
        if not any(moment is not None and moment <= until for moment in moments):
            self.now = until
            return
        self.now = until
        ended = {owner for owner, moment in self.away.items() if moment <= until}
        self.holds = [
            held
            for held in self.holds
            if held.owner not in ended and not (held.deadline and held.deadline <= until)
        ]
        self.settle()
        for want in list(self.queue):
            if want.deadline is not None and want.deadline <= until:
                self.queue.remove(want)
                want.expected = "locked"
        self.settle()


OWNERS = st.integers(0, 3)
PATHS = st.lists(st.sampled_from(STAGE), min_size=1, max_size=3, unique=True).map(tuple)
MODES = st.sampled_from([(EXCLUSIVE, ""), (SHARED, "K1"), (SHARED, "K2")])
LEASES = st.sampled_from([0.0, 0.0, 2.0, 5.0])


class LocksLikeTheModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.locks = LockService(self.clock, reads_open=True)
        self.nodes = tree()
        self.model = Model()
        self.wants: list[Wanted] = []
        self.fence = 0
        self.owners = [self.new_owner(number) for number in range(4)]

    def new_owner(self, number: int) -> Owner:
        return self.locks.owner(f"client{number}", "plesty", f"peer{number}", named=True)

    def asked(self, want: Wanted, **extra: Any) -> tuple[list[Node], Owner, dict[str, Any]]:
        nodes = [self.nodes[path] for path in want.paths]
        options = {"mode": want.mode, "key": want.key or None, "lease": want.lease, **extra}
        return nodes, self.owners[want.owner], options | {"replace": want.replace}

    @rule(owner=OWNERS, paths=PATHS, mode=MODES, lease=LEASES, replace=st.booleans())
    def take(
        self, owner: int, paths: tuple[str, ...], mode: Any, lease: float, replace: bool
    ) -> None:
        if owner in self.model.away:
            return
        want = Wanted(owner, paths, mode[0], mode[1], lease, replace)
        granted = self.model.grantable(want)
        already = [bool(self.model.standing(want, path)) for path in paths]
        nodes, who, options = self.asked(want)
        before = self.locks.holds(who)
        try:
            grant = self.locks.take(nodes, who, **options)
        except errors.Locked as error:
            assert not granted
            assert error.holder.name != who.name or self.model.queue
            assert self.locks.holds(who) == before
        else:
            assert granted
            assert [hold in grant.already for hold in grant.holds] == already
            assert [hold.path for hold in grant.holds] == list(paths)
            self.model.grant(want)
            self.model.settle()

    @rule(
        owner=OWNERS,
        paths=PATHS,
        mode=MODES,
        lease=LEASES,
        replace=st.booleans(),
        wait=st.sampled_from([None, 0.0, 1.0, 3.0, 7.0]),
    )
    def acquire(
        self,
        owner: int,
        paths: tuple[str, ...],
        mode: Any,
        lease: float,
        replace: bool,
        wait: float | None,
    ) -> None:
        if owner not in self.model.away:
            want = Wanted(owner, paths, mode[0], mode[1], lease, replace)
            nodes, who, options = self.asked(want, wait=wait)
            self.wait(want, lambda: self.locks.acquire(nodes, who, **options), wait)

    @rule(owner=OWNERS, path=st.sampled_from(STAGE), wait=st.sampled_from([None, 1.0, 4.0]))
    def clear(self, owner: int, path: str, wait: float | None) -> None:
        if owner not in self.model.away:
            want = Wanted(owner, (path,), EXCLUSIVE, "", operation=True)
            node, who = self.nodes[path], self.owners[owner]
            self.wait(want, lambda: self.locks.clear(who, node, "set", wait), wait)

    def wait(self, want: Wanted, ask: Any, wait: float | None) -> None:
        self.wants.append(want)
        if self.model.grantable(want):
            self.model.grant(want)
        elif wait == 0:
            want.expected = "locked"
        else:
            want.deadline = None if wait is None else self.model.now + wait
            self.model.queue.append(want)
        want.deferred = ask()
        want.deferred.addBoth(want.results.append)
        self.model.settle()

    @precondition(lambda self: self.model.queue)
    @rule(number=st.integers(0, 50))
    def cancel(self, number: int) -> None:
        want = self.model.queue[number % len(self.model.queue)]
        self.model.queue.remove(want)
        want.expected = "cancelled"
        assert want.deferred is not None
        want.deferred.cancel()
        self.model.settle()

    @rule(owner=OWNERS, paths=st.none() | PATHS, mode=st.sampled_from([None, EXCLUSIVE, SHARED]))
    def free(self, owner: int, paths: tuple[str, ...] | None, mode: Mode | None) -> None:
        chosen = [
            held
            for held in self.model.holds
            if held.owner == owner
            and (paths is None or held.path in paths)
            and mode in (None, held.mode)
        ]
        nodes = None if paths is None else [self.nodes[path] for path in paths]
        freed = self.locks.free(self.owners[owner], nodes, mode=mode)
        assert sorted((h.path, h.mode.value) for h in freed) == sorted(
            (h.path, h.mode.value) for h in chosen
        )
        self.model.holds = [held for held in self.model.holds if held not in chosen]
        self.model.settle()

    @rule(owner=OWNERS, lease=st.sampled_from([None, 0.0, 4.0]))
    def renew(self, owner: int, lease: float | None) -> None:
        renewed = self.locks.renew(self.owners[owner], lease=lease)
        chosen = [
            h for h in self.model.holds if h.owner == owner and (h.lease or lease is not None)
        ]
        assert len(renewed) == len(chosen)
        for held in chosen:
            held.lease = held.lease if lease is None else lease
            held.deadline = self.model.now + held.lease if held.lease else None

    @rule(path=st.sampled_from(STAGE), by=OWNERS)
    def break_(self, path: str, by: int) -> None:
        broken = self.locks.break_(self.nodes[path], self.owners[by])
        kept = [h for h in self.model.holds if not over(path, h.path) or h.owner == by]
        assert len(broken) == len(self.model.holds) - len(kept)
        self.model.holds = kept
        self.model.settle()

    @rule(owner=OWNERS)
    def gone(self, owner: int) -> None:
        self.locks.gone(self.owners[owner])
        self.model.away.pop(owner, None)
        self.model.holds = [held for held in self.model.holds if held.owner != owner]
        self.model.end_waits(owner, "gone")
        self.owners[owner] = self.new_owner(owner)
        self.model.settle()

    @rule(owner=OWNERS, grace=st.sampled_from([2.0, 6.0]))
    def lost(self, owner: int, grace: float) -> None:
        if owner not in self.model.away:
            self.locks.lost(self.owners[owner], grace)
            self.model.away[owner] = self.model.now + grace
            self.model.end_waits(owner, "gone")
            self.model.settle()
            self.replace_gone()

    @precondition(lambda self: self.model.away)
    @rule(seconds=st.sampled_from([0.0, 3.0, 9.0]))
    def back(self, seconds: float) -> None:
        owner = next(iter(self.model.away))
        if seconds:
            left = self.locks.extend(self.owners[owner], seconds)
            self.model.away[owner] = max(self.model.away[owner], self.model.now + seconds)
            assert abs(left - (self.model.away[owner] - self.model.now)) < 1e-6
        else:
            assert self.locks.back(self.owners[owner])
            del self.model.away[owner]

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 5.0]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.model.advance(self.model.now + seconds)

    def replace_gone(self) -> None:
        """A named owner without holds is forgotten when lost: the name begins anew."""
        for number, owner in enumerate(self.owners):
            if owner.gone:
                assert number not in self.model.away
                self.owners[number] = self.new_owner(number)

    @invariant()
    def same_holds(self) -> None:
        self.replace_gone()
        assert self.locks.count == len(self.model.holds)
        for number, owner in enumerate(self.owners):
            ours = {(h.path, h.mode, h.key, h.deadline) for h in self.locks.holds(owner)}
            theirs = {
                (h.path, h.mode, h.key, h.deadline)
                for h in self.model.holds
                if h.owner == number
            }
            assert ours == theirs
            assert owner.away == (number in self.model.away)

    @invariant()
    def fences_grow(self) -> None:
        fences = sorted(h.fence for owner in self.owners for h in self.locks.holds(owner))
        assert len(set(fences)) == len(fences)
        assert max(fences, default=0) <= self.locks.epoch

    @invariant()
    def same_answers(self) -> None:
        for want in self.wants:
            assert outcome(want.results) == want.expected, (want, want.results)
        assert [w.paths for w in self.model.queue] == [w.paths for w in self.waiters()]

    def waiters(self) -> list[Any]:
        found = {id(w): w for path in STAGE for w in self.locks.waiters(self.nodes[path])}
        return sorted(found.values(), key=lambda waiter: waiter.ticket)

    @invariant()
    def same_refusals(self) -> None:
        for number, owner in enumerate(self.owners):
            for path, node in self.nodes.items():
                want = Wanted(number, (path,), EXCLUSIVE, "")
                hold = self.locks.refusal(owner, node, "set")
                assert (hold is not None) == self.model.stopped(want), (owner, path)
                assert hold is None or (hold.owner is not owner and related(hold.path, path))
                assert self.locks.refusal(owner, node, "get") is None

    @invariant()
    def same_info(self) -> None:
        for path, node in self.nodes.items():
            ours = sorted(hold.path for hold in self.locks.info(node))
            assert ours == sorted(h.path for h in self.model.holds if related(h.path, path))

    def teardown(self) -> None:
        self.locks.stop()
        for owner in self.owners:
            self.locks.gone(owner)
        assert self.locks.count == 0
        assert not self.clock.getDelayedCalls()
        for node in self.nodes.values():
            place = node.lock
            assert place is None or not (place.shared or place.exclusive or [*place.below()])


def outcome(results: list[Any]) -> str:
    if not results:
        return "waiting"
    if not isinstance(results[0], Failure):
        return "granted"
    if results[0].check(errors.Locked):
        return "locked"
    if results[0].check(CancelledError):
        return "cancelled"
    return "gone" if results[0].check(errors.Cancelled) else str(results[0])


class ModelTests(SynchronousTestCase):
    def test_any_history(self) -> None:
        """Whatever happens in whatever order, both tell the same."""
        run_state_machine_as_test(
            LocksLikeTheModel,
            settings=settings(max_examples=60, stateful_step_count=40, deadline=None),
        )
