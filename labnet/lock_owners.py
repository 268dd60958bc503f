"""Who may hold locks, and how an owner is found again: by its name on a wire, or by its token."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from labnet import errors
from labnet.deadlines import Entry

if TYPE_CHECKING:
    from labnet.lock_queue import Request
    from labnet.lock_table import Change, Hold

MAX_OWNERS = 65_536
"""Owners that can be found again, by name and by token each."""


class Owner:
    """Who holds locks; the object itself is the identity. Made by `LockService.owner`.

    `named`: known by name, so that it can come back after a lost connection. `away`: its connection
    is gone but some holds last (grace or lease). `gone`: for good. `changed`, when set, is called
    with each `Change` that somebody else, or time, makes to what this owner holds.
    """

    __slots__ = (
        "_known", "_token", "away", "changed", "entry", "gone", "holds", "keyed", "lost_at", "name",
        "named", "peer", "waiting", "wire",
    )  # fmt: skip

    def __init__(self, name: str, wire: str, peer: str, named: bool, known: KnownOwners) -> None:
        self.name = name
        self.wire = wire
        self.peer = peer
        self.named = named
        self.away = False
        self.gone = False
        self.changed: Callable[[Change], None] | None = None
        self.holds: dict[Hold, None] = {}
        self.keyed = 0  # how many of them carry a key
        self.waiting: dict[Request, None] = {}
        self.lost_at = 0.0
        self.entry: Entry | None = None  # the end of its grace
        self._known = known
        self._token = ""

    @property
    def token(self) -> str:
        """The secret by which a program is this same owner on another wire; made when first asked.

        Raises `TooLarge` when the lab has given out too many, `Cancelled` when the owner has gone.
        """
        if not self._token:
            self._token = self._known.give_token(self)
        return self._token

    def __repr__(self) -> str:
        return f"<Owner {self.name} ({self.wire} {self.peer})>"


class KnownOwners:
    """The owners that have a name or a token and have not gone."""

    def __init__(self) -> None:
        self.by_token: dict[str, Owner] = {}
        self.by_name: dict[tuple[str, str], Owner] = {}

    def add(self, owner: Owner) -> None:
        """Raises `NotAllowed` if the name is in use, `TooLarge` if there are too many."""
        if (owner.wire, owner.name) in self.by_name:
            raise errors.NotAllowed(
                f"another client is already known as {errors.shorten(owner.name)} on {owner.wire}"
            )
        _check_room(self.by_name)
        self.by_name[owner.wire, owner.name] = owner

    def give_token(self, owner: Owner) -> str:
        if owner.gone:
            raise errors.Cancelled(f"{owner.name} has gone")
        _check_room(self.by_token)
        token = secrets.token_hex(16)
        self.by_token[token] = owner
        return token

    def remove(self, owner: Owner) -> None:
        self.by_token.pop(owner._token, None)
        if owner.named:
            self.by_name.pop((owner.wire, owner.name), None)


def _check_room(table: dict[str, Owner] | dict[tuple[str, str], Owner]) -> None:
    if len(table) >= MAX_OWNERS:
        raise errors.TooLarge(f"the lab knows at most {MAX_OWNERS} owners of locks at a time")
