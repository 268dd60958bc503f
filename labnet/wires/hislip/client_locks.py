"""What a HiSLIP client asks and is told about locks."""

from __future__ import annotations

from typing import NamedTuple

from labnet.errors import BadArguments, Holder, LabError, Locked

MAX_WAIT = 0xFFFFFFFF / 1000
"""Longest time in seconds for which a request can wait for a lock."""


class LockRefused(Locked):
    """Another session, or a client of another kind, holds the instrument; it is not said who."""

    def __init__(self, what: str, where: str) -> None:
        self.holder = Holder(what, "another client", "hislip", where, 0.0)
        LabError.__init__(self, f"{what} is locked by another client")


class LockInfo(NamedTuple):
    """Whether somebody holds the instrument's exclusive lock, and how many hold any lock."""

    exclusive: bool
    holders: int


def milliseconds(wait: float) -> int:
    """A wait in seconds as the protocol has it; `BadArguments` for one that it cannot say."""
    if not 0 <= wait <= MAX_WAIT:
        raise BadArguments(f"a wait is from 0 to {MAX_WAIT:.0f} s, not {wait}")
    return round(wait * 1000)
