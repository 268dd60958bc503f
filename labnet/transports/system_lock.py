"""The lock of an instrument that is asked for by messages: SYSTem:LOCK of SCPI-1999.

For clients of wires that have no lock of their own: ``SYSTem:LOCK:REQuest?`` answers 1 for a lock
that was taken and 0 for one that somebody else has.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from labnet.errors import DeviceFault, Holder, LabError, Locked, NotAllowed, TimedOut, quote

REQUEST = "SYSTem:LOCK:REQuest?"
OWNER = "SYSTem:LOCK:OWNer?"
RELEASE = "SYSTem:LOCK:RELease"

PAUSE = 0.2
"""Seconds between two requests while another has the lock."""

_OWNER = re.compile(r'"?(.*?) \((\S+) (\S+)\)"?\Z')
Query = Callable[[str, float | None], Deferred[str]]


def request_lock(
    query: Query, where: str, clock: Any, timeout: float, wait: float = 0.0
) -> Deferred[None]:
    """Takes the lock of the instrument at `where`, if need be after `wait` seconds.

    Fails with `Locked` when another keeps it, `NotAllowed` when the instrument does not answer such
    a request within `timeout` seconds, or what `query` fails with.
    """
    return Deferred.fromCoroutine(_request(query, where, clock, timeout, wait))


async def _request(query: Query, where: str, clock: Any, timeout: float, wait: float) -> None:
    end = clock.seconds() + wait
    while True:
        answer = await _asked(query, where, timeout)
        if answer == "1":
            return
        if answer != "0":
            raise DeviceFault(f"{where} answered {quote(answer)} to a request for its lock")
        left = end - clock.seconds()
        if left <= 0:
            raise await _locked(query, where, timeout)
        await deferLater(clock, min(left, PAUSE))


async def _asked(query: Query, where: str, timeout: float) -> str:
    try:
        return (await query(REQUEST, timeout)).strip().removeprefix("+")
    except TimedOut:
        # Where messages wait for a lock, so does this one.
        why = "it has none, or another holds it"
        raise NotAllowed(f"{where} did not answer {REQUEST}, for its lock: {why}") from None


async def _locked(query: Query, where: str, timeout: float) -> Locked:
    """The error that says who has the lock, as far as the instrument tells."""
    try:
        owner = (await query(OWNER, timeout)).strip()
    except LabError:
        owner = ""
    named = _OWNER.match(owner)
    name, wire, peer = named.groups() if named else (owner.strip('"') or "another", "client", "")
    return Locked(Holder(where, name, wire, peer or where, 0.0))
