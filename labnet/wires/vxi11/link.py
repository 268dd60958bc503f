"""A link: what one VXI-11 client does with one device, under a session of its own.

Each method is one call. It gives the results at once, or a Deferred of them where it waits: for a
lock, for room, for the device. What ends such a wait early, be it a time limit, device_abort or the
end of the connection, ends the call with its own error code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from labnet.deadlines import Clock
from labnet.errors import (
    Cancelled,
    DeviceFault,
    LabError,
    Locked,
    NotAllowed,
    NotConnected,
    TimedOut,
    TooLarge,
    UnknownName,
)
from labnet.instrument.channel import MessageChannel
from labnet.instrument.status import StatusByte
from labnet.locks import Mode
from labnet.registry import DeviceNode
from labnet.session import Session
from labnet.wires.vxi11 import codec
from labnet.wires.vxi11.codec import (
    DeviceLock,
    DeviceRead,
    DeviceWrite,
    EnableSrq,
    ErrorCode,
    Generic,
    Given,
    Taken,
    seconds,
)

#: What the lab refuses or fails to do, in the words of VXI-11.
CODES: tuple[tuple[type[LabError], ErrorCode], ...] = (
    (Locked, ErrorCode.LOCKED),
    (TimedOut, ErrorCode.IO_TIMEOUT),
    (Cancelled, ErrorCode.ABORT),
    (UnknownName, ErrorCode.IO_ERROR),
    (NotConnected, ErrorCode.IO_ERROR),
    (DeviceFault, ErrorCode.IO_ERROR),
    (NotAllowed, ErrorCode.NOT_SUPPORTED),
    (TooLarge, ErrorCode.OUT_OF_RESOURCES),
)

TERMINATOR = b"\n"
"""Responses end with it, and with END (IEEE 488.2 section 8.5)."""

MAX_GIVEN = 16 << 20
"""Bytes of one answer to device_read; a client that asks for more comes again."""

MAX_MESSAGES = 64
MAX_MESSAGE_BYTES = 16 << 20
"""Messages of a link, and bytes of them, that the device has yet to carry out."""

T = TypeVar("T")


class Ended(Exception):
    """A call ends with this error code."""

    def __init__(self, code: ErrorCode) -> None:
        self.code = code
        super().__init__(code.name)


def code_of(failure: Failure) -> ErrorCode:
    """The error code for what a Deferred of the lab failed with."""
    error = failure.value
    if isinstance(error, Ended):
        return error.code
    if isinstance(error, CancelledError):
        return ErrorCode.ABORT
    if not isinstance(error, LabError):
        failure.raiseException()
    for kind, code in CODES:
        if isinstance(error, kind):
            return code
    return ErrorCode.IO_ERROR


class Link:
    """One link. `handle` names it in service requests, None while they are off.

    `serviced` is called with the link when its device asks for service and the client wants to
    know. Attributes: `number` (0 until the link is made), `client_id`, `remote`.
    """

    def __init__(
        self,
        session: Session,
        node: DeviceNode,
        clock: Clock,
        serviced: Callable[[Link], None],
        client_id: int = 0,
    ) -> None:
        self.number = 0
        self.session = session
        self.node = node
        self.client_id = client_id
        self.remote = False
        self.handle: bytes | None = None
        self.gone = False
        self._channel: MessageChannel = session.channel()
        self._clock = clock
        self._serviced = serviced
        self._waiting: Deferred[Any] | None = None
        self._why: ErrorCode | None = None
        self._reading = False
        self._collected = 0  # bytes of a message that END has not ended
        self._messages = 0
        self._bytes = 0
        self._room: Deferred[None] | None = None

    # Waiting

    def _wait(self, inner: Deferred[T], limit: float, code: ErrorCode) -> Deferred[T]:
        """`inner`, which fails with `Ended`: after `limit` seconds with `code`, or by `end`."""
        if inner.called and not inner.paused:
            return inner
        self._waiting, self._why = inner, None
        timer = self._clock.callLater(limit, self.end, code)
        return inner.addBoth(self._waited, timer)

    def _waited(self, result: Any, timer: IDelayedCall) -> Any:
        self._waiting = None
        if timer.active():
            timer.cancel()
        if isinstance(result, Failure) and self._why is not None:
            raise Ended(self._why)
        return result

    def end(self, code: ErrorCode) -> None:
        """Ends the call that waits, if one does."""
        if self._waiting is not None and self._why is None:
            self._why = code
            self._waiting.cancel()

    def abort(self) -> None:
        """device_abort: with a read that waits for it, the device drops what it is doing, too."""
        reading = self._reading and self._waiting is not None
        self.end(ErrorCode.ABORT)
        if reading and self._channel.responding:
            self._channel.clear()

    def _guarded(
        self,
        flags: int,
        lock_timeout: int,
        go: Callable[[], T | Deferred[T]],
        refuse: Callable[[ErrorCode], T],
    ) -> T | Deferred[T]:
        """Calls `go` when no other client's lock stands in the way; `refuse` makes its results."""
        if self.gone:
            return refuse(ErrorCode.IO_ERROR)
        try:
            self._channel.check_locks()
        except Locked:
            if not flags & codec.WAITLOCK or not lock_timeout:
                return refuse(ErrorCode.LOCKED)
            free = self._wait(
                self._channel.when_unlocked(), seconds(lock_timeout), ErrorCode.LOCKED
            )
            return self._results(free.addCallback(lambda _: go()), refuse)
        except LabError as error:
            return refuse(code_of(Failure(error)))
        results = go()
        return self._results(results, refuse) if isinstance(results, Deferred) else results

    def _results(self, results: Deferred[Any], refuse: Callable[[ErrorCode], T]) -> Deferred[T]:
        return results.addErrback(lambda failure: refuse(code_of(failure)))

    # Messages

    def write(self, request: DeviceWrite) -> Taken | Deferred[Taken]:
        """device_write: answered when the message is taken, not when it has been carried out."""

        def go() -> Taken | Deferred[Taken]:
            size = len(request.data)
            if not self._messages or self._has_room(size):
                return self._take(request)
            self._room = Deferred()
            room = self._wait(self._room, seconds(request.io_timeout), ErrorCode.IO_TIMEOUT)
            return room.addCallback(lambda _: go())

        return self._guarded(
            request.flags, request.lock_timeout, go, lambda code: Taken(code, 0)
        )

    def _has_room(self, size: int) -> bool:
        return self._messages < MAX_MESSAGES and self._bytes + size <= MAX_MESSAGE_BYTES

    def _take(self, request: DeviceWrite) -> Taken:
        data, end = request.data, bool(request.flags & codec.END)
        size = len(data)
        if not size and not (end and self._collected):
            return Taken(ErrorCode.NONE, 0)
        whole = self._collected + size
        self._collected = 0 if end else whole
        done = self._channel.take(data, end, None, TERMINATOR)
        if done is None:
            return Taken(ErrorCode.NONE, size)
        if not done.called:
            self._messages += 1
            self._bytes += whole
            done.addBoth(self._carried_out, whole)
        elif isinstance(done.result, Failure):
            self._collected = 0
            done.addErrback(lambda failure: None)
            return Taken(ErrorCode.IO_ERROR, 0)
        return Taken(ErrorCode.NONE, size)

    def _carried_out(self, result: object, size: int) -> None:
        self._messages -= 1
        self._bytes -= size
        room, self._room = self._room, None
        if room is not None and not room.called:
            room.callback(None)

    def read(self, request: DeviceRead) -> Given | Deferred[Given]:
        """device_read: the next bytes of the response, or error 15 when there are none in time."""
        return self._guarded(
            request.flags,
            request.lock_timeout,
            lambda: self._read(request),
            lambda code: Given(code, 0, b""),
        )

    def _read(self, request: DeviceRead) -> Given | Deferred[Given]:
        if not request.size:
            return Given(ErrorCode.NONE, codec.REASON_REQCNT, b"")
        limit = min(request.size, MAX_GIVEN)
        until = request.termchar if request.flags & codec.TERMCHRSET else None
        found = self._channel.read_now(limit, until)
        if found is not None:
            return self._given(found, request)
        if not request.io_timeout:
            return Given(ErrorCode.IO_TIMEOUT, 0, b"")
        coming: Deferred[tuple[bytes, bool]] = Deferred()  # of what nobody has asked for: never
        if self._channel.responding:
            coming = self._channel.read(limit, until)
        self._reading = True
        waiting = self._wait(coming, seconds(request.io_timeout), ErrorCode.IO_TIMEOUT)
        return waiting.addBoth(self._read_on).addCallback(self._given, request)

    def _read_on(self, result: Any) -> Any:
        self._reading = False
        return result

    def _given(self, found: tuple[bytes | memoryview, bool], request: DeviceRead) -> Given:
        data, end = found
        reason = codec.REASON_END if end else 0
        if len(data) == request.size:
            reason |= codec.REASON_REQCNT
        if request.flags & codec.TERMCHRSET and data[-1:] == bytes([request.termchar]):
            reason |= codec.REASON_CHR
        return Given(ErrorCode.NONE, reason, data)

    # Beside the messages

    def status_byte(self, request: Generic) -> Taken | Deferred[Taken]:
        """device_readstb: a serial poll."""

        def go() -> Deferred[Taken]:
            polled = self._limited(self._channel.status_byte(), request)
            return polled.addCallback(lambda byte: Taken(ErrorCode.NONE, byte))

        return self._guarded(
            request.flags, request.lock_timeout, go, lambda code: Taken(code, 0)
        )

    def trigger(self, request: Generic) -> ErrorCode | Deferred[ErrorCode]:
        """device_trigger: after the messages before it."""

        def go() -> ErrorCode | Deferred[ErrorCode]:
            if not self._channel.can_trigger:
                return ErrorCode.NOT_SUPPORTED
            triggered = self._limited(self._channel.trigger(), request)
            return triggered.addCallback(lambda _: ErrorCode.NONE)

        return self._generic(request, go)

    def clear(self, request: Generic) -> ErrorCode | Deferred[ErrorCode]:
        """device_clear: this link's input, output, and what the device is doing for it."""

        def go() -> ErrorCode:
            self._collected = 0
            self._channel.clear()
            return ErrorCode.NONE

        return self._generic(request, go)

    def set_remote(self, request: Generic, remote: bool) -> ErrorCode | Deferred[ErrorCode]:
        """device_remote and device_local; there is no front panel to lock."""

        def go() -> ErrorCode:
            self.remote = remote
            return ErrorCode.NONE

        return self._generic(request, go)

    def _generic(
        self, request: Generic, go: Callable[[], ErrorCode | Deferred[ErrorCode]]
    ) -> ErrorCode | Deferred[ErrorCode]:
        return self._guarded(request.flags, request.lock_timeout, go, lambda code: code)

    def _limited(self, inner: Deferred[T], request: Generic) -> Deferred[T]:
        return self._wait(inner, seconds(request.io_timeout), ErrorCode.IO_TIMEOUT)

    # Locks

    def lock(self, request: DeviceLock) -> ErrorCode | Deferred[ErrorCode]:
        """device_lock; a second one by the holder is refused like anybody else's."""
        if self.gone:
            return ErrorCode.IO_ERROR
        for hold in self.session.holdings():
            if hold.node is self.node and hold.mode is Mode.EXCLUSIVE:
                return ErrorCode.LOCKED
        return self.take_lock(request.lock_timeout if request.flags & codec.WAITLOCK else 0)

    def take_lock(self, lock_timeout: int) -> ErrorCode | Deferred[ErrorCode]:
        """Locks the device; waits for that so many milliseconds."""
        limit = seconds(lock_timeout)
        taken = self.session.lock([self.node], wait=limit)
        waited = self._wait(taken, limit + 1.0, ErrorCode.LOCKED)
        return waited.addCallbacks(lambda _: ErrorCode.NONE, self._not_locked)

    def _not_locked(self, failure: Failure) -> ErrorCode:
        code = code_of(failure)
        return ErrorCode.LOCKED if code is ErrorCode.IO_TIMEOUT else code

    def unlock(self) -> ErrorCode:
        """device_unlock."""
        if self.gone:
            return ErrorCode.NO_LOCK
        return ErrorCode.NONE if self.session.unlock([self.node]) else ErrorCode.NO_LOCK

    # Service requests

    def enable_service(self, request: EnableSrq) -> ErrorCode:
        """device_enable_srq; a request that is pending already is told at once."""
        if len(request.handle) > codec.MAX_HANDLE:
            return ErrorCode.PARAMETER
        enable = bool(request.enable)
        self.handle = request.handle if enable else None
        self._channel.on_service_request(self._service_requested if enable else None)
        self._channel.enable_service(enable)
        if self.service_pending:
            self._serviced(self)
        return ErrorCode.NONE

    @property
    def service_pending(self) -> bool:
        """Whether the client wants to know of service requests and has not taken the last one."""
        wanted = self.handle is not None
        return wanted and bool(self._channel.status.peek() & StatusByte.SERVICE)

    def _service_requested(self, status_byte: int) -> None:
        self._serviced(self)

    # The end

    def lose_device(self) -> None:
        """The device has left the lab."""
        self.gone = True
        self.end(ErrorCode.IO_ERROR)

    def destroy(self, reason: str) -> None:
        """Ends the call that waits, frees the lock."""
        self.end(ErrorCode.ABORT)
        self.handle = None
        self.session.close(reason)
