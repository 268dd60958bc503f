"""The lock service: one lock that every wire obeys.

A lock is on nodes of the tree and covers what is below them; see `labnet.lock_table` for who can
stand beside whom and `labnet.lock_queue` for who is served first. It is pure logic on a monotonic
clock that is passed in. All times are seconds.

The outcomes follow the lock table of IVI-6.1 (HiSLIP) section 6.5, with the tree and the leases
added: `Grant.already` is its "redundant" answer, `Locked` its "not granted in time".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from labnet import errors
from labnet.deadlines import Clock
from labnet.lock_ledger import Grant, Ledger
from labnet.lock_owners import Owner
from labnet.lock_queue import MAX_SECONDS, Request, check_seconds, check_text, checked_request
from labnet.lock_table import (
    EXCLUSIVE,
    SHARED,
    Change,
    Hold,
    Lockable,
    Mode,
    Place,
    place_of,
    shut_out,
)

__all__ = [
    "EXCLUSIVE", "SHARED", "Change", "Grant", "Hold", "LockService", "Lockable", "Mode", "Owner",
    "Request",
]  # fmt: skip


class LockService(Ledger):
    """Who holds what, who waits, and what an operation meets.

    `count`: locks held now; while it is 0 nothing need be asked. `epoch`: grows with each lock
    taken or broken, so that work handed out before can be called back. `reads_open`: a "get" passes
    every lock; `stop_open`: so does a "stop". `open_verbs`: the words of what passes every lock.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        reads_open: bool = True,
        stop_open: bool = False,
        grace_limit: float = 600.0,
    ) -> None:
        super().__init__(clock)
        self._grace_limit = grace_limit
        self.open_verbs: frozenset[str] = frozenset()
        self.set_open(reads_open=reads_open, stop_open=stop_open)

    def set_open(self, *, reads_open: bool, stop_open: bool) -> None:
        """What passes every lock from now on."""
        self.open_verbs = frozenset(
            verb for verb, passes in (("get", reads_open), ("stop", stop_open)) if passes
        )

    # Owners

    def owner(self, name: str, wire: str, peer: str, *, named: bool = False) -> Owner:
        """A new owner. `named`: it can come back under this name after a lost connection.

        Raises `NotAllowed` if that name is in use on the wire (also by one who is away: ask
        `owner_by_name` first), `TooLarge` for too long a name or too many owners.
        """
        check_text(name, "a client's name")
        owner = Owner(name, wire, peer, named, self._known)
        if named:
            self._known.add(owner)
        return owner

    def owner_by_token(self, token: str) -> Owner | None:
        """The owner who was given this token and has not gone."""
        return self._known.by_token.get(token)

    def owner_by_name(self, wire: str, name: str) -> Owner | None:
        """The named owner of a wire who has not gone; it may be away."""
        return self._known.by_name.get((wire, name))

    def gone(self, owner: Owner, *, keep_leased: bool = False) -> list[Hold]:
        """The owner's connection has ended: what was freed.

        Its waiters leave the queue. With `keep_leased` locks with a lease stay, and the owner can
        be found by its token until the last of them ends.
        """
        owner.away = True
        self._end_waits(owner.waiting, f"{owner.name} has gone")
        freed = [hold for hold in owner.holds if not (keep_leased and hold.lease)]
        self._remove(freed, "freed")
        self._forget_if_idle(owner)
        self._settle()
        return freed

    def lost(self, owner: Owner, grace: float) -> None:
        """The connection of a named owner is lost: it keeps its locks for `grace` seconds.

        Its waiters leave the queue, since nobody would hear the answer. One who holds nothing is
        gone at once.
        """
        if owner.away or owner.gone:
            return
        if not grace > 0 or not owner.holds:
            self.gone(owner)
            return
        owner.away = True
        self._end_waits(owner.waiting, f"{owner.name} has lost its connection")
        owner.lost_at = self._clock.seconds()
        self._tell("lost", owner)
        self._await_return(owner, min(grace, MAX_SECONDS))
        self._settle()

    def extend(self, owner: Owner, seconds: float) -> float:
        """Gives a lost owner at least `seconds` from now, for it may be connected and silent.

        Never beyond the hard limit, `grace_limit` after the loss. Returns the seconds it has.
        """
        if owner.entry is None:
            return 0.0
        now = self._clock.seconds()
        had: float = owner.entry[0] - now
        left = max(had, min(seconds, owner.lost_at + self._grace_limit - now))
        if left > had:
            self._await_return(owner, left)
        return max(0.0, left)

    def back(self, owner: Owner) -> bool:
        """An owner that was away is connected again; False if it had gone for good."""
        if owner.gone:
            return False
        if owner.away:
            owner.away = False
            owner.lost_at = 0.0
            self._stop_deadline(owner)
            self._tell("back", owner)
            self._settle()
        return True

    # Taking

    def take(
        self,
        nodes: Iterable[Lockable],
        owner: Owner,
        *,
        mode: Mode = EXCLUSIVE,
        key: str | None = None,
        lease: float = 0.0,
        note: str = "",
        replace: bool = False,
    ) -> Grant:
        """Locks all the nodes now, or none of them.

        What the owner already has on a node stays as it is. With `replace` the owner's whole set is
        swapped: afterwards it holds these locks only, or on failure what it held before.

        Raises `Locked`; `BadArguments` (a shared lock without key), `OutOfRange` (lease),
        `TooLarge` (a bound of `labnet.lock_queue`), `Cancelled` (the owner is away or gone).
        """
        request = checked_request(nodes, owner, mode, key, lease, note, replace)
        blocker = self._blocker(request)
        if blocker is not None:
            raise self._refused(request, blocker)
        grant = self._grant(request)
        if self._todo or self._queue.ready:
            self._settle()
        return grant

    def acquire(
        self,
        nodes: Iterable[Lockable],
        owner: Owner,
        *,
        mode: Mode = EXCLUSIVE,
        key: str | None = None,
        lease: float = 0.0,
        note: str = "",
        replace: bool = False,
        wait: float | None = 0.0,
    ) -> Deferred[Grant]:
        """As `take`, but waits in the queue up to `wait` seconds (None: without limit).

        Fails with `Locked`, naming the holder, when the time is up; with `Cancelled` when the owner
        goes. Cancelling the Deferred leaves the queue. Never raises.
        """
        try:
            request = checked_request(nodes, owner, mode, key, lease, note, replace)
            blocker = self._blocker(request)
            if blocker is not None:
                return self._enqueue(request, blocker, wait, operation=False)
        except errors.LabError as error:
            return fail(error)
        grant = self._grant(request)
        self._settle()
        return succeed(grant)

    def renew(
        self, owner: Owner, nodes: Iterable[Lockable] | None = None, lease: float | None = None
    ) -> list[Hold]:
        """Starts the leases on `nodes` (None: all the owner's) anew; returns what was renewed.

        `lease` sets a new length, 0 ends the lease and binds the lock to the connection. Without it
        locks that have no lease are left alone.
        """
        if lease is not None:
            check_seconds(lease, "lease")
        holds = self._selected(owner, nodes, None)
        if lease is None:
            holds = [hold for hold in holds if hold.lease]
        now = self._clock.seconds()
        for hold in holds:
            self._set_lease(hold, hold.lease if lease is None else lease, now)
        return holds

    # Freeing

    def free(
        self, owner: Owner, nodes: Iterable[Lockable] | None = None, *, mode: Mode | None = None
    ) -> list[Hold]:
        """Frees the owner's locks on exactly these nodes (None: all); returns what was freed.

        `mode` restricts it to exclusive or to shared ones. Nodes that it does not hold are passed
        over, so an empty list means that none was held (HiSLIP 3, VXI-11 12).
        """
        freed = self._selected(owner, nodes, mode)
        self._remove(freed, "freed")
        if self._todo or self._queue.ready:
            self._settle()
        return freed

    def release(self, owner: Owner, node: Lockable) -> Hold | None:
        """HiSLIP's release: of both locks on the node the exclusive first, then the shared one."""
        holds = self._selected(owner, (node,), None)[:1]
        self._remove(holds, "freed")
        self._settle()
        return holds[0] if holds else None

    def break_(self, node: Lockable, by: Owner | str) -> list[Hold]:
        """Ends the locks of all others on the node and below it; returns them.

        A lock on a node above is broken there. Each holder is told through its `changed`.
        """
        place = place_of(node)
        broken = [hold for hold in (*place.here(), *place.below()) if hold.owner is not by]
        if broken:
            self.epoch += 1
        self._remove(broken, "broken", by.name if isinstance(by, Owner) else by)
        self._settle()
        return broken

    def forget(self, node: Lockable) -> list[Hold]:
        """The node has left the tree: ends what is held and awaited there and below."""
        place = place_of(node)
        freed = [*place.here(), *place.below()]
        for request in self._queue:
            if place in request.covered:
                self._end_wait(request, errors.NotConnected(f"{node.path} has left the lab"))
        self._remove(freed, "freed")
        self._settle()
        return freed

    def _selected(
        self, owner: Owner, nodes: Iterable[Lockable] | None, mode: Mode | None
    ) -> list[Hold]:
        if nodes is None:
            return [hold for hold in owner.holds if mode is None or hold.mode is mode]
        found: dict[Hold, None] = {}
        for node in nodes:
            place: Place | None = node.lock
            if place is not None:
                hold = place.exclusive
                if hold is not None and hold.owner is owner and mode is not SHARED:
                    found[hold] = None
                if place.shared and mode is not EXCLUSIVE and owner in place.shared:
                    found[place.shared[owner]] = None
        return list(found)

    # Operations

    def refusal(self, owner: Owner, node: Lockable, verb: str) -> Hold | None:
        """The hold that an operation of `owner` on `node` meets when a device takes it up, or None.

        `verb` is "get" for whatever only reads, "stop" for what ends a motion; any other word is
        an operation that needs the node for itself.
        """
        if verb in self.open_verbs:
            return None
        place = node.lock
        if place is None:
            place = place_of(node)
        for level in place.chain:  # the common answer, None, without a further call
            if level.exclusive or level.shared:
                return shut_out(place, owner)
        if place.exclusive_below or place.shared_below:
            return shut_out(place, owner)
        return None

    def clear(
        self,
        owner: Owner,
        nodes: Lockable | Sequence[Lockable],
        verb: str,
        wait: float | None = None,
    ) -> Deferred[None]:
        """Fires when the operation is refused on none of its nodes, at once if that is so now.

        It waits in line with the requests for locks and takes nothing: ask `refusal` again at
        take-up. Fails with `Locked` after `wait` seconds (None: no limit) and with `Cancelled` when
        the owner goes. Cancelling leaves the queue. Never raises.
        """
        try:
            if verb in self.open_verbs:
                return succeed(None)
            needs = nodes if isinstance(nodes, (tuple, list)) else (nodes,)
            request = checked_request(needs, owner)
            hold = request.stopped_by()
            if hold is None:
                return succeed(None)
            return self._enqueue(request, hold, wait, operation=True)
        except errors.LabError as error:
            return fail(error)

    # Asking

    def holds(self, owner: Owner) -> list[Hold]:
        """What the owner holds, oldest first."""
        return list(owner.holds)

    def info(self, node: Lockable) -> list[Hold]:
        """The locks that concern a node: above it from the root down, on it, and below it."""
        place = place_of(node)
        above = [hold for level in reversed(place.above) for hold in level.here()]
        return [*above, *place.here(), *place.below()]

    def waiters(self, node: Lockable) -> list[Request]:
        """Who waits for the node, for one above or one below it, in order of arrival."""
        place = place_of(node)
        return [request for request in self._queue if request.touches(place)]

    def position(self, waiter: Deferred[Any] | Owner) -> int | None:
        """The place in line, from 1, of a wait or of an owner's first one; None if not waiting.

        Counted are those who arrived earlier for the same nodes, nodes above and nodes below.
        """
        request: Request | None
        if isinstance(waiter, Owner):
            request = next(iter(waiter.waiting), None)
        else:
            request = self._queue.find(waiter)
        return None if request is None else self._queue.position(request)

    def locked(self, hold: Hold, wanted: str = "") -> errors.Locked:
        """The error that names a holder; `wanted` is the path that was asked for."""
        return errors.Locked(self._holder(hold, self._clock.seconds()), wanted)

    # Listeners

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Calls `listener` with every `Change`, in order; returns what ends that."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def stop(self) -> None:
        """The lab ends: waiters fail with `Cancelled`, and no timer is left."""
        self._end_waits(self._queue, "the lab is stopping")
        self._settle()
        self._deadlines.stop()
