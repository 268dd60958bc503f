"""Who waits for a lock, and in which order they are served.

First come, first served among those that want related nodes: a later request for a lock does not
overtake an earlier one, with two exceptions. The earlier one may be waiting for the very owner of
the later (who would otherwise wait for himself). And who already holds a lock over the node, or
brings the key of a shared one, need not wait (IVI-6.1, lock table: "same key", "holder").

Nobody polls: each request waits behind one hold or one earlier request, and is looked at again when
that one ends. A thousand waiters for one node form a chain, so each release looks at one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from itertools import count, takewhile
from typing import Any

from twisted.internet.defer import Deferred

from labnet import errors
from labnet.deadlines import Entry
from labnet.lock_owners import Owner
from labnet.lock_table import (
    EXCLUSIVE,
    SHARED,
    Hold,
    Lockable,
    Mode,
    Place,
    kept_out,
    place_of,
    shut_out,
)

MAX_HOLDS = 4096
"""Locks that one owner may hold."""
MAX_WAITERS = 4096
"""Requests and operations that may wait in the whole lab."""
MAX_WAITING = 256
"""Of these, of one owner."""
MAX_WANTED = 256
"""Nodes in one request that waits."""
MAX_TEXT = 256
"""Characters of a key, a note or an owner's name (IVI-6.1: a lock string has at most 256)."""
MAX_SECONDS = 366 * 86400.0
"""Longest lease, wait or grace."""


class Request:
    """What an owner asks for: locks on some nodes or, with `operation`, to operate on one.

    An operation needs exactly what an exclusive lock on its node would need, and takes nothing.
    While it waits it is the public record of a waiter: `owner`, `mode`, `key`, `paths`, `since` and
    `deadline` (seconds of the service's clock; None: no limit), `ticket` (order of arrival).
    """

    __slots__ = (
        "behind", "blocker", "covered", "deadline", "deferred", "entry", "key", "lease", "mode",
        "note", "operation", "owner", "places", "replace", "since", "ticket", "wanted",
    )  # fmt: skip

    blocker: Hold | Request | None
    behind: dict[Request, None] | None
    deferred: Deferred[Any] | None
    entry: Entry | None
    deadline: float | None
    wanted: frozenset[Place]
    covered: frozenset[Place]
    since: float
    ticket: int
    operation: bool

    def __init__(
        self,
        places: list[Place],
        owner: Owner,
        mode: Mode = EXCLUSIVE,
        key: str | None = None,
        lease: float = 0.0,
        note: str = "",
        replace: bool = False,
    ) -> None:
        self.places = places
        self.owner = owner
        self.mode = mode
        self.key = key
        self.lease = lease
        self.note = note
        self.replace = replace
        self.deferred = None

    @property
    def path(self) -> str:
        return self.places[0].node.path

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(place.node.path for place in self.places)

    def left(self, now: float) -> float | None:
        """Seconds until it gives up, or None when it does not."""
        return None if self.deadline is None else max(0.0, self.deadline - now)

    def standing(self, place: Place) -> Hold | None:
        """The owner's hold that makes a lock here redundant (IVI-6.1, lock table, "holder")."""
        exclusive = place.exclusive
        if exclusive is not None and exclusive.owner is not self.owner:
            exclusive = None
        if self.mode is EXCLUSIVE:
            return exclusive
        shared = place.shared.get(self.owner)
        if self.replace:
            return shared if shared is not None and shared.key == self.key else None
        return exclusive or shared

    def stopped_by(self) -> Hold | None:
        """The first hold of another that stands against this request."""
        if self.mode is EXCLUSIVE and not self.replace:
            for place in self.places:
                hold = shut_out(place, self.owner)
                if hold is not None:
                    return hold
            return None
        for place in self.places:
            if self.standing(place) is None:
                hold = kept_out(place, self.owner, self.key)
                if hold is not None:
                    return hold
        return None

    def begin(self, deferred: Deferred[Any], ticket: int, since: float, operation: bool) -> None:
        """From a question asked once to a waiter."""
        self.deferred = deferred
        self.ticket = ticket
        self.since = since
        self.operation = operation
        self.blocker = self.behind = self.entry = self.deadline = None
        self.wanted = frozenset(self.places)
        self.covered = frozenset(level for place in self.places for level in place.chain)

    def touches(self, place: Place) -> bool:
        """Whether this waiter wants the place, one above or one below it."""
        return place in self.covered or not self.wanted.isdisjoint(place.chain)

    def obstacle(self) -> Hold | Request:
        """The hold at the end of the line in which this waiter stands."""
        request: Request = self
        while isinstance(request.blocker, Request):
            request = request.blocker
        return request.blocker or request

    def waits_for(self, hold: Hold) -> bool:
        return (self.mode is EXCLUSIVE or hold.key != self.key) and self.touches(hold.place)

    def yields_to(self, earlier: Request) -> bool:
        """Whether this request for a lock must not overtake an earlier one."""
        if self.owner is earlier.owner:
            return False
        if self.mode is SHARED and earlier.mode is SHARED and self.key == earlier.key:
            return False
        contested = any(
            earlier.touches(place) and not self._inside(place) for place in self.places
        )
        return contested and not any(earlier.waits_for(hold) for hold in self.owner.holds)

    def _inside(self, place: Place) -> bool:
        """Whether the owner already holds a lock over the place, or brings the key of one."""
        for level in place.chain:
            if any(level.own(self.owner)):
                return True
            if level.shared and next(iter(level.shared.values())).key == self.key:
                return True
        return False

    def __repr__(self) -> str:
        return f"<Request {', '.join(self.paths)} by {self.owner.name}>"


def checked_request(
    nodes: Iterable[Lockable],
    owner: Owner,
    mode: Mode = EXCLUSIVE,
    key: str | None = None,
    lease: float = 0.0,
    note: str = "",
    replace: bool = False,
) -> Request:
    """The request, with everything that a peer can write held to its bound."""
    if owner.away:
        raise errors.Cancelled(f"{owner.name} is not connected")
    if mode is SHARED:
        if not key:
            raise errors.BadArguments("a shared lock needs a key")
        check_text(key, "the key of a shared lock")
    else:
        key = None
    if lease:
        check_seconds(lease, "lease")
    if note:
        check_text(note, "the note of a lock")
    places = []
    for node in nodes:
        places.append(node.lock or place_of(node))  # noqa: PERF401 (faster for one node)
    if len(places) > 1:
        places = list(dict.fromkeys(places))
    request = Request(places, owner, mode, key, lease, note, replace)
    if len(owner.holds) + len(places) > MAX_HOLDS:
        _check_holds(request)
    return request


def _check_holds(request: Request) -> None:
    added = request.places
    if not request.replace:
        added = [place for place in added if request.standing(place) is None]
    held = 0 if request.replace else len(request.owner.holds)
    if held + len(added) > MAX_HOLDS:
        raise errors.TooLarge(f"a client may hold at most {MAX_HOLDS} locks")


def check_text(text: str, what: str) -> None:
    """Raises `TooLarge` beyond `MAX_TEXT` characters."""
    if len(text) > MAX_TEXT:
        raise errors.TooLarge(f"{what} has at most {MAX_TEXT} characters, not {len(text)}")


def check_seconds(seconds: float, what: str) -> None:
    """Raises `OutOfRange` for what is not 0 to `MAX_SECONDS`."""
    if not 0 <= seconds <= MAX_SECONDS:
        raise errors.OutOfRange(f"the {what} in seconds", seconds, 0, MAX_SECONDS)


class Queue:
    """Waiters in order of arrival; `locks` and `operations` by their Deferred."""

    def __init__(self) -> None:
        self.locks: dict[Deferred[Any], Request] = {}
        self.operations: dict[Deferred[Any], Request] = {}
        self._tickets = count(1)
        self.ready: list[tuple[int, Request]] = []
        """Those to be looked at again; may name some that have left."""

    def __len__(self) -> int:
        return len(self.locks) + len(self.operations)

    def __iter__(self) -> Iterator[Request]:
        """In order of arrival."""
        both = [*self.locks.values(), *self.operations.values()]
        return iter(sorted(both, key=lambda request: request.ticket))

    def find(self, deferred: Deferred[Any]) -> Request | None:
        return self.locks.get(deferred) or self.operations.get(deferred)

    def ahead(self, request: Request) -> Request | None:
        """An earlier waiter for a lock that this request must not overtake.

        For a newcomer the last such one, so that waiters form a chain.
        """
        line = self.locks.values()
        earlier = (
            reversed(line)
            if request.deferred is None
            else takewhile(lambda other: other is not request, line)
        )
        for other in earlier:
            if request.yields_to(other):
                return other
        return None

    def check_room(self, request: Request) -> None:
        """Raises `TooLarge` when the owner or the lab has too many waiters."""
        if len(request.places) > MAX_WANTED:
            raise errors.TooLarge(f"one may wait for at most {MAX_WANTED} nodes at once")
        if len(request.owner.waiting) >= MAX_WAITING or len(self) >= MAX_WAITERS:
            raise errors.TooLarge(
                f"too many wait for locks (at most {MAX_WAITING} a client, {MAX_WAITERS} in all)"
            )

    def join(
        self, request: Request, deferred: Deferred[Any], since: float, operation: bool
    ) -> None:
        request.begin(deferred, next(self._tickets), since, operation)
        (self.operations if operation else self.locks)[deferred] = request
        request.owner.waiting[request] = None

    def position(self, request: Request) -> int:
        """From 1, among those that arrived earlier for the same nodes, nodes above and below."""
        return 1 + sum(
            other.ticket < request.ticket and any(map(other.touches, request.places))
            for other in self
        )

    def waits(self, request: Request) -> bool:
        return request in request.owner.waiting

    def leave(self, request: Request) -> Deferred[Any]:
        """Takes a waiter out; those behind it will be looked at again."""
        deferred = request.deferred
        assert deferred is not None
        del (self.operations if request.operation else self.locks)[deferred]
        del request.owner.waiting[request]
        self._detach(request)
        self.wake(request)
        return deferred

    def put_behind(self, request: Request, blocker: Hold | Request) -> None:
        if request.blocker is blocker:
            return
        self._detach(request)
        request.blocker = blocker
        if blocker.behind is None:
            blocker.behind = {}
        blocker.behind[request] = None

    def wake(self, ended: Hold | Request) -> None:
        """Those behind a hold or a waiter that has ended are to be looked at again."""
        if ended.behind:
            behind, ended.behind = ended.behind, None
            for request in behind:
                request.blocker = None
                self.look_again(request)

    def look_again(self, request: Request) -> None:
        heappush(self.ready, (request.ticket, request))

    def next_ready(self) -> Request | None:
        """The earliest waiter whose obstacle has gone; None when there is none."""
        while self.ready:
            request = heappop(self.ready)[1]
            if self.waits(request):
                return request
        return None

    @staticmethod
    def _detach(request: Request) -> None:
        blocker = request.blocker
        if blocker is not None and blocker.behind is not None:
            blocker.behind.pop(request, None)
        request.blocker = None
