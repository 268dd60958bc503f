"""Who stands where: holds, and the places of the tree that they cover.

A lock is on a node and covers its subtree. Each node that was ever asked about has a `Place`: who
holds it, and what is held below it by owner (exclusive) or by key (shared). Whether a request or an
operation meets a lock is then a walk along the ancestors, however many locks there are; taking and
freeing touch the ancestors only.

Two holds of different owners on related nodes (the same, or one above the other) can stand together
only if both carry the same key and not both are exclusive. An exclusive hold carries a key when its
owner already had a shared one over that node (IVI-6.1, the state "both" of the lock table). From
this follows what makes the tests short: an owner whose own hold covers a node can meet nobody there
but another's exclusive hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from labnet.deadlines import Entry
from labnet.lock_owners import Owner

if TYPE_CHECKING:
    from labnet.lock_queue import Request


class Mode(Enum):
    """EXCLUSIVE shuts out everybody else; SHARED everybody without the same key."""

    EXCLUSIVE = "exclusive"
    SHARED = "shared"


# Module names: in Python 3.11 reading a member through its class costs a descriptor call.
EXCLUSIVE = Mode.EXCLUSIVE
SHARED = Mode.SHARED


class Lockable(Protocol):
    """A node of the tree. `ancestors` are nearest first, without itself; `lock` starts as None."""

    lock: Any

    @property
    def path(self) -> str: ...

    @property
    def ancestors(self) -> tuple[Lockable, ...]: ...


class Hold:
    """One lock of one owner on one node.

    `key` is empty for an exclusive lock that was not taken over a shared one. `fence` only grows:
    a later hold has a larger number. `since` and `deadline` are seconds of the service's clock;
    `deadline` is None and `lease` 0 for a lock that lasts as long as the connection.
    """

    __slots__ = (
        "behind", "deadline", "entry", "fence", "key", "lease", "mode", "note", "owner", "place",
        "since",
    )  # fmt: skip

    def __init__(
        self, place: Place, owner: Owner, mode: Mode, key: str, fence: int, since: float, note: str
    ) -> None:
        self.place = place
        self.owner = owner
        self.mode = mode
        self.key = key
        self.fence = fence
        self.since = since
        self.note = note
        self.lease = 0.0
        self.deadline: float | None = None
        self.entry: Entry | None = None
        self.behind: dict[Request, None] | None = None

    @property
    def node(self) -> Lockable:
        return self.place.node

    @property
    def path(self) -> str:
        return self.place.node.path

    @property
    def held(self) -> bool:
        """Whether it still stands."""
        return self in self.owner.holds

    def left(self, now: float) -> float | None:
        """Seconds of its lease left, or None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - now)

    def __repr__(self) -> str:
        return f"<Hold {self.fence} {self.path} {self.mode.value} by {self.owner.name}>"


What = Literal["taken", "freed", "broken", "expired", "lost", "back"]


class Change(NamedTuple):
    """What listeners are told. `hold` is None for "lost" and "back"; `by` names who broke it."""

    what: What
    owner: Owner
    hold: Hold | None = None
    by: str = ""


class Place:
    """What is held on one node and below it. `chain` is the node itself, then its ancestors."""

    __slots__ = (
        "above", "chain", "exclusive", "exclusive_below", "node", "shared", "shared_below",
    )  # fmt: skip

    def __init__(self, node: Lockable) -> None:
        self.node = node
        self.above: tuple[Place, ...] = tuple(place_of(above) for above in node.ancestors)
        self.chain: tuple[Place, ...] = (self, *self.above)
        self.exclusive: Hold | None = None
        self.shared: dict[Owner, Hold] = {}  # all under one key
        self.exclusive_below: dict[Owner, dict[Hold, None]] = {}
        self.shared_below: dict[str, dict[Hold, None]] = {}

    def here(self) -> Iterator[Hold]:
        if self.exclusive is not None:
            yield self.exclusive
        yield from self.shared.values()

    def related(self, other: Place) -> bool:
        """Whether the two are one place, or one is above the other."""
        return self in other.chain or other in self.above

    def below(self) -> Iterator[Hold]:
        for group in self.exclusive_below.values():
            yield from group
        for group in self.shared_below.values():
            yield from group

    def own(self, owner: Owner) -> tuple[Hold | None, Hold | None]:
        """The owner's exclusive and shared hold on this very node."""
        mine = self.exclusive
        if mine is not None and mine.owner is not owner:
            mine = None
        return mine, self.shared.get(owner)


def place_of(node: Lockable) -> Place:
    """The node's place, made when first asked for."""
    place: Place | None = node.lock
    if place is None:
        place = node.lock = Place(node)
    return place


def shut_out(place: Place, owner: Owner) -> Hold | None:
    """The hold that keeps `owner` from an operation or an exclusive lock here, or None."""
    covered = False
    shared = None
    for level in place.chain:
        hold = level.exclusive
        if hold is not None:
            return None if hold.owner is owner else hold
        if level.shared:
            if owner in level.shared:
                covered = True
            else:
                shared = level.shared
    if place.exclusive_below:
        for other, group in place.exclusive_below.items():
            if other is not owner:
                return next(iter(group))
    if covered:
        return None
    if shared is not None:
        return next(iter(shared.values()))
    return _shared_below(place, owner, None) if place.shared_below else None


def kept_out(place: Place, owner: Owner, key: str | None) -> Hold | None:
    """The first hold of another, on, above or below, that does not carry `key`; None fits none."""
    for level in place.chain:
        hold = level.exclusive
        if hold is not None and hold.owner is not owner and hold.key != key:
            return hold
        for hold in level.shared.values():
            if hold.key == key:
                break
            if hold.owner is not owner:
                return hold
    for other, group in place.exclusive_below.items():
        if other is not owner:
            for hold in group:
                if hold.key != key:
                    return hold
    return _shared_below(place, owner, key)


def _shared_below(place: Place, owner: Owner, key: str | None) -> Hold | None:
    for other, group in place.shared_below.items():
        if other != key:
            for hold in group:
                if hold.owner is not owner:
                    return hold
    return None


def covering_key(place: Place, owner: Owner) -> str:
    """The key of the owner's nearest hold on or above this place, or an empty string."""
    for level in place.chain:
        exclusive, shared = level.own(owner)
        if shared is not None:
            return shared.key
        if exclusive is not None and exclusive.key:
            return exclusive.key
    return ""


def enter(hold: Hold) -> None:
    """Puts a hold into the tree and into its owner's set."""
    place, owner = hold.place, hold.owner
    owner.holds[hold] = None
    if hold.key:
        owner.keyed += 1
    if hold.mode is EXCLUSIVE:
        place.exclusive = hold
        for level in place.above:
            group = level.exclusive_below.get(owner)
            if group is None:
                level.exclusive_below[owner] = {hold: None}
            else:
                group[hold] = None
    else:
        place.shared[owner] = hold
        for level in place.above:
            level.shared_below.setdefault(hold.key, {})[hold] = None


def leave(hold: Hold) -> None:
    """Takes a hold out of the tree and of its owner's set."""
    place, owner = hold.place, hold.owner
    del owner.holds[hold]
    if hold.key:
        owner.keyed -= 1
    if hold.mode is EXCLUSIVE:
        place.exclusive = None
        for level in place.above:
            group = level.exclusive_below[owner]
            if len(group) == 1:
                del level.exclusive_below[owner]
            else:
                del group[hold]
    else:
        del place.shared[owner]
        for level in place.above:
            group = level.shared_below[hold.key]
            del group[hold]
            if not group:
                del level.shared_below[hold.key]
