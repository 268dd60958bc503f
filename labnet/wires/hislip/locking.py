"""The lock of a HiSLIP session: requests, releases, who holds one (IVI-6.1 section 6.5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from labnet.errors import Cancelled, LabError, Locked, NotAllowed, TimedOut
from labnet.locks import Grant, Mode
from labnet.registry import DeviceNode
from labnet.session import Session
from labnet.wires.hislip.codec import Lock, Message, decode_text, reached

RELEASE_PATIENCE = 1.0
"""Seconds for which a release waits for a message that it names and that does not come."""


class SessionLock:
    """What one session asks of the lock service about its device.

    `answer` sends an AsyncLockResponse with its control code. `position` gives the id of the last
    message that was carried out, and whether others have come that were not.
    """

    def __init__(
        self,
        session: Session,
        device: DeviceNode,
        clock: Any,
        answer: Callable[[int], None],
        position: Callable[[], tuple[int, bool]],
    ) -> None:
        self._session = session
        self._device = device
        self._clock = clock
        self._answer = answer
        self._position = position
        self._request: Deferred[Grant] | None = None
        self._release: int | None = None  # the id of the message after which it is due
        self._timer: IDelayedCall | None = None

    @property
    def pending(self) -> bool:
        """Whether a request or a release has not been answered."""
        return self._request is not None or self._release is not None

    # Requests

    def request(self, message: Message) -> None:
        """Exclusive for an empty string, else shared under it; waits as long as the client says."""
        key = decode_text(message.payload)
        if key and self._holds_by_token(key):
            self._answer(Lock.GRANTED)
            return
        request = self._session.lock(
            [self._device],
            mode=Mode.SHARED if key else Mode.EXCLUSIVE,
            key=key or None,
            wait=message.parameter / 1000,
        )
        self._request = request
        request.addCallbacks(self._granted, self._refused)

    def _holds_by_token(self, key: str) -> bool:
        """A key may be the token of an owner, who then is here too; whether it has the device."""
        try:
            self._session.show_token(key)
        except NotAllowed:
            return False
        return any(hold.node is self._device for hold in self._session.holdings())

    def _granted(self, grant: Grant) -> None:
        self._request = None
        self._answer(Lock.GRANTED if grant.new else Lock.ERROR)

    def _refused(self, failure: Failure) -> None:
        failure.trap(LabError, CancelledError)
        self._request = None
        not_in_time = failure.check(Locked, TimedOut, Cancelled, CancelledError)
        self._answer(Lock.FAILED if not_in_time else Lock.ERROR)

    # Releases

    def release(self, after: int) -> None:
        """Releases when the message `after` has been carried out."""
        self._release = after
        self.carried_out()

    def carried_out(self) -> None:
        """A message has been carried out; a release may be due."""
        if self._release is None:
            return
        last, more = self._position()
        if reached(last, self._release):
            self._release_now()
        elif not more and self._timer is None:
            self._timer = self._clock.callLater(RELEASE_PATIENCE, self._waited)

    def _waited(self) -> None:
        self._timer = None
        if self._release is not None and not self._position()[1]:
            self._release_now()

    def _release_now(self) -> None:
        self._release = None
        self._stop_timer()
        freed = self._session.release_one(self._device)
        if freed is None:
            self._answer(Lock.ERROR)
        else:
            exclusive = freed.mode is Mode.EXCLUSIVE
            self._answer(Lock.GRANTED if exclusive else Lock.SHARED_RELEASED)

    # Information

    def info(self) -> tuple[bool, int]:
        """Whether somebody holds an exclusive lock, and how many hold any."""
        holds = self._session.lock_info(self._device)
        return any(hold.mode is Mode.EXCLUSIVE for hold in holds), len({h.owner for h in holds})

    # The end

    def clear(self) -> None:
        """Device clear: ends a wait, and completes a release."""
        if self._request is not None:
            self._request.cancel()
        if self._release is not None:
            self._release_now()

    def close(self) -> None:
        """The session has ended; the lock service is told by the lab's session."""
        self._release = None
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
