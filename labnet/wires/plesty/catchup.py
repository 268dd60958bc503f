"""Coming back to a server under the same name, with answers still owed.

Servers address answers by the client's name, so the answer to a request of the old connection comes
on the new one. Nothing may be asked there before it has come.
"""

from __future__ import annotations

from typing import Final
from uuid import uuid4

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from labnet.errors import TimedOut
from labnet.wires.plesty.conversation import Conversation

TRIES: Final = 2
"""Waits for the owed answers on one socket before another socket is tried."""


class CatchUp:
    """Waits on a new socket until the server has answered everything asked under this name.

    A parameter that cannot exist is asked for: the answer comes after those of all requests before
    it, as a device serves one after the other. The socket is kept through a first wait in vain: a
    busy server may not have read from it yet, and while it has not, it would not read from another
    one of the same name.
    """

    def __init__(self, talk: Conversation, clock: IReactorTime) -> None:
        self._clock = clock
        self._done = False
        self._waits = 0
        self._wait: tuple[Deferred[None], IDelayedCall] | None = None
        talk.last_of_all(f"labnet-{uuid4().hex}").addBoth(self._answered)

    @property
    def hopeful(self) -> bool:
        """Whether it is worth waiting (again) on this socket."""
        return self._done or self._waits < TRIES

    def wait(self, limit: float) -> Deferred[None]:
        """Fires when nothing is owed any more; fails with `TimedOut` after `limit` seconds."""
        if self._done:
            return succeed(None)
        self._waits += 1
        waiting: Deferred[None] = Deferred()
        self._wait = waiting, self._clock.callLater(limit, self._in_vain, limit)
        return waiting

    def _answered(self, _: object) -> None:
        """The answer is here, or the socket was closed, which its user knows."""
        self._done = True
        if self._wait is not None:
            (waiting, timer), self._wait = self._wait, None
            timer.cancel()
            waiting.callback(None)

    def _in_vain(self, limit: float) -> None:
        assert self._wait is not None
        (waiting, _), self._wait = self._wait, None
        waiting.errback(TimedOut("an earlier request", limit))
