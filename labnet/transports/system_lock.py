"""The lock of an instrument that is asked for by messages: SYSTem:LOCK of SCPI-1999.

For clients of wires that have no lock of their own: ``SYSTem:LOCK:REQuest?`` answers 1 for a lock
that was taken and 0 for one that somebody else has.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from labnet.errors import (
    DeviceFault,
    Holder,
    LabError,
    Locked,
    NotAllowed,
    NotConnected,
    TimedOut,
    quote,
)
from labnet.transports.kept import ClientProtocol

REQUEST = "SYSTem:LOCK:REQuest?"
OWNER = "SYSTem:LOCK:OWNer?"
RELEASE = "SYSTem:LOCK:RELease"

PAUSE = 0.2
"""Seconds between two requests while another has the lock."""

_OWNER = re.compile(r'"?(.*?) \((\S+) (\S+)\)"?\Z')
Query = Callable[[str, float | None], Deferred[str]]


class SystemLock:
    """The lock of one client. `connection` gives the connection that it uses, if there is one."""

    def __init__(
        self,
        query: Query,
        write: Callable[[str, float | None], Deferred[None]],
        where: str,
        clock: Any,
        connection: Callable[[], ClientProtocol | None],
    ) -> None:
        self._query = query
        self._write = write
        self._where = where
        self._clock = clock
        self._connection = connection
        self._held: ClientProtocol | None = None  # the connection that has the lock

    def acquire(self, timeout: float, wait: float) -> Deferred[None]:
        """See `request_lock`."""
        taken = request_lock(
            self._query, self._where, self._clock, timeout, wait, self._give_back
        )
        return taken.addCallback(self._taken)

    def release(self, timeout: float | None = None) -> Deferred[None]:
        """Frees the lock."""
        self._held = None
        return self._write(RELEASE, timeout)

    def check(self, connection: ClientProtocol) -> None:
        """Raises `NotConnected`, once, if the lock has ended with a connection before this one."""
        if self._held is not None and self._held is not connection:
            self._held = None
            raise NotConnected(
                f"the connection to {self._where} was lost, and with it the lock of the instrument"
            )

    def forget(self) -> None:
        """The client ends the connection, and the lock with it."""
        self._held = None

    def _taken(self, _: None) -> None:
        self._held = self._connection()

    def _give_back(self) -> None:
        """What is granted when nobody waits for it any more."""
        connection = self._connection()
        if connection is not None and not connection.spent and connection is not self._held:
            self.release().addErrback(_no_matter)


def _no_matter(failure: Failure) -> None:
    failure.trap(LabError, CancelledError)


def request_lock(
    query: Query,
    where: str,
    clock: Any,
    timeout: float,
    wait: float = 0.0,
    given_up: Callable[[], None] = lambda: None,
) -> Deferred[None]:
    """Takes the lock of the instrument at `where`, if need be after `wait` seconds.

    Fails with `Locked` when another keeps it, `NotAllowed` when the instrument does not answer such
    a request within `timeout` seconds, or what `query` fails with. `given_up` is called when a
    request has been sent that may still be granted although nobody waits for it.
    """
    return Deferred.fromCoroutine(_request(query, where, clock, timeout, wait, given_up))


async def _request(
    query: Query,
    where: str,
    clock: Any,
    timeout: float,
    wait: float,
    given_up: Callable[[], None],
) -> None:
    end = clock.seconds() + wait
    while True:
        answer = await _asked(query, where, timeout, given_up)
        if answer == "1":
            return
        if answer != "0":
            raise DeviceFault(f"{where} answered {quote(answer)} to a request for its lock")
        left = end - clock.seconds()
        if left <= 0:
            raise await _locked(query, where, timeout)
        await deferLater(clock, min(left, PAUSE))


async def _asked(
    query: Query, where: str, timeout: float, given_up: Callable[[], None]
) -> str:
    try:
        return (await query(REQUEST, timeout)).strip().removeprefix("+")
    except CancelledError:
        given_up()
        raise
    except TimedOut:
        given_up()
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
