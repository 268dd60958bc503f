"""One HiSLIP session at the server: what its two connections share (IVI-6.1 sections 3 to 6).

Messages of the synchronous channel go to its `Exchange`; those of the asynchronous one are answered
here, at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from labnet.errors import LabError, Locked
from labnet.instrument.channel import MessageChannel
from labnet.wires.hislip import codec
from labnet.wires.hislip.codec import (
    DEVICE_CLEAR_COMPLETE,
    OVERLAP,
    RMT_DELIVERED,
    Code,
    Fatal,
    Message,
    RemoteLocal,
    Type,
)
from labnet.wires.hislip.exchange import PROGRAM, Exchange
from labnet.wires.hislip.locking import SessionLock
from labnet.wires.hislip.remote import RemoteState

if TYPE_CHECKING:
    from labnet.wires.hislip.server import HislipProtocol, Options

STATUS_PATIENCE = 1.0
"""Seconds that a device of its own may take for a serial poll; then labnet's registers answer."""

_SYNCHRONOUS = PROGRAM | {DEVICE_CLEAR_COMPLETE}


class HislipSession:
    """The state of one session. `number` is its id; `channel` leads to its device."""

    def __init__(
        self,
        number: int,
        synchronous: HislipProtocol,
        channel: MessageChannel,
        options: Options,
        clock: Any,
        told_end: Callable[[HislipSession], None],
    ) -> None:
        self.number = number
        self.synchronous: HislipProtocol = synchronous
        self.asynchronous: HislipProtocol | None = None
        self.channel = channel
        self.options = options
        self.clock = clock
        self.remote = RemoteState()
        self.ended = False
        self.exchange = Exchange(self)
        self._told_end = told_end
        self._lock = SessionLock(
            channel.session, channel.node, clock, self._lock_answer, self._position
        )
        self._completing: IDelayedCall | None = None  # a device clear is under way
        self._late: deque[bytes] = deque()  # answers held back by async_delay
        self._delays: deque[IDelayedCall] = deque()
        channel.on_service_request(self._service_requested)

    # The two channels

    def pair(self, connection: HislipProtocol) -> None:
        """The second connection is there."""
        self.asynchronous = connection
        self.synchronous.paired()

    def synchronous_message(self, message: Message) -> None:
        """A message has come on the synchronous channel."""
        if message.type in _SYNCHRONOUS:
            self.exchange.take(message)
        else:
            self._not_understood(self.synchronous, message)

    def asynchronous_message(self, message: Message) -> None:
        """A message has come on the asynchronous channel."""
        act = _ASYNCHRONOUS.get(message.type)
        if act is not None:
            act(self, message)
        else:
            assert self.asynchronous is not None
            self._not_understood(self.asynchronous, message)

    def tell(self, data: bytes) -> None:
        """Sends on the asynchronous channel, later if the section says so."""
        if self.ended or self.asynchronous is None:
            return
        if not self.options.async_delay:
            self.asynchronous.send(data)
            return
        self._late.append(data)
        self._delays.append(self.clock.callLater(self.options.async_delay, self._tell_late))

    def _tell_late(self) -> None:
        self._delays.popleft()
        assert self.asynchronous is not None
        self.asynchronous.send(self._late.popleft())

    # Sizes, remote and local

    def _maximum_size(self, message: Message) -> None:
        size = codec.decode_size(message.payload)
        if size is None:
            self.tell(codec.encode_error(Code.UNIDENTIFIED, "a size has 8 bytes"))
            return
        self.exchange.set_size(size)
        ours = self.options.max_message_size
        self.tell(codec.encode_size(Type.ASYNC_MAXIMUM_MESSAGE_SIZE_RESPONSE, ours))

    def _remote_local(self, message: Message) -> None:
        if message.control > max(RemoteLocal):
            self._unknown_control(message)
            return
        self.remote.request(RemoteLocal(message.control))
        self.tell(codec.encode(Type.ASYNC_REMOTE_LOCAL_RESPONSE))

    def _unknown_control(self, message: Message) -> None:
        text = f"{codec.type_name(message.type)} has no control code {message.control}"
        self.tell(codec.encode_error(Code.UNRECOGNIZED_CONTROL, text))

    # Status

    def _status_query(self, message: Message) -> None:
        self.remote.touch()
        if message.control & RMT_DELIVERED:
            self.exchange.delivered()
        available = self.exchange.available(message.parameter)
        self._poll().addErrback(self._not_polled).addCallback(self._polled, available)

    def _poll(self) -> Deferred[int]:
        """The status byte; of labnet's own registers where the device cannot be asked now."""
        try:
            self.channel.check_locks()
            free = not self.exchange.running
        except Locked:
            free = False
        if not free:
            return succeed(self.channel.status.serial_poll())
        poll = self.channel.status_byte()
        return poll if poll.called else poll.addTimeout(STATUS_PATIENCE, self.clock)

    def _not_polled(self, failure: Failure) -> int:
        failure.trap(LabError, CancelledError, TimeoutError)
        return self.channel.status.serial_poll()

    def _polled(self, status: int, available: bool) -> None:
        byte = status & 0xEF | (0x10 if available else 0)
        self.tell(codec.encode(Type.ASYNC_STATUS_RESPONSE, byte))

    def _service_requested(self, status: int) -> None:
        self.tell(codec.encode(Type.ASYNC_SERVICE_REQUEST, status))

    # Locks

    def _lock_request(self, message: Message) -> None:
        if message.control not in (codec.REQUEST_LOCK, codec.RELEASE_LOCK):
            self._unknown_control(message)
        elif self._lock.pending:
            text = "the lock request or release before this one has not been answered"
            self.tell(codec.encode_error(Code.UNIDENTIFIED, text))
        elif message.control == codec.REQUEST_LOCK:
            self.remote.touch()
            self._lock.request(message)
        else:
            self._lock.release(message.parameter)

    def _lock_answer(self, code: int) -> None:
        self.tell(codec.encode(Type.ASYNC_LOCK_RESPONSE, code))

    def _position(self) -> tuple[int, bool]:
        return self.exchange.position

    def carried_out(self) -> None:
        """A message of the synchronous channel has been carried out."""
        if self._lock.pending:
            self._lock.carried_out()

    def _lock_info(self, message: Message) -> None:
        exclusive, holders = self._lock.info()
        self.tell(codec.encode(Type.ASYNC_LOCK_INFO_RESPONSE, exclusive, holders))

    # Device clear (IVI-6.1 section 6.12)

    def _device_clear(self, message: Message) -> None:
        self.remote.touch()
        self._stop_completing()
        complete = self.exchange.clear()
        self._lock.clear()
        self.tell(codec.encode(Type.ASYNC_DEVICE_CLEAR_ACKNOWLEDGE))
        if complete is not None:
            self.completed(complete.control)
        else:
            limit = self.options.clear_timeout
            self._completing = self.clock.callLater(limit, self._not_completed)

    def completed(self, features: int) -> None:
        """The client has completed the device clear and asks for these features."""
        self._stop_completing()
        overlap = features & OVERLAP
        self.exchange.begin_anew(bool(overlap))
        self.synchronous.send(codec.encode(Type.DEVICE_CLEAR_ACKNOWLEDGE, overlap))
        self.exchange.resume()

    def _not_completed(self) -> None:
        self._completing = None
        self.fatal(Fatal.UNIDENTIFIED, "AsyncDeviceClear without DeviceClearComplete")

    def _stop_completing(self) -> None:
        if self._completing is not None:
            self._completing.cancel()
            self._completing = None

    # Errors and the end

    def _not_understood(self, connection: HislipProtocol, message: Message) -> None:
        kind = message.type
        if kind == Type.FATAL_ERROR:
            self.end(f"the client has given up: {codec.decode_text(message.payload)}")
        elif kind == Type.ERROR:
            connection.told_error(message)
        elif kind in (Type.INITIALIZE, Type.ASYNC_INITIALIZE):
            name = codec.type_name(kind)
            self.fatal(Fatal.INVALID_INITIALIZATION, f"{name} on a session that exists")
        else:
            connection.send(codec.encode_not_understood(kind))

    def fatal(self, code: int, text: str) -> None:
        """Ends the session with an error that is told on both channels."""
        for connection in (self.synchronous, self.asynchronous):
            if connection is not None and not self.ended:
                connection.send(codec.encode_fatal(code, text))
        self.end(text)

    def end(self, reason: str) -> None:
        """Ends the session: its locks are freed and both connections closed."""
        if self.ended:
            return
        self.ended = True
        self._told_end(self)
        self._stop_completing()
        self.exchange.close()
        self._lock.close()
        for delay in self._delays:
            delay.cancel()
        self.channel.session.close(reason)
        for connection in (self.synchronous, self.asynchronous):
            if connection is not None:
                connection.close()


_ASYNCHRONOUS: dict[int, Callable[[HislipSession, Message], None]] = {
    Type.ASYNC_LOCK: HislipSession._lock_request,
    Type.ASYNC_REMOTE_LOCAL_CONTROL: HislipSession._remote_local,
    Type.ASYNC_MAXIMUM_MESSAGE_SIZE: HislipSession._maximum_size,
    Type.ASYNC_DEVICE_CLEAR: HislipSession._device_clear,
    Type.ASYNC_STATUS_QUERY: HislipSession._status_query,
    Type.ASYNC_LOCK_INFO: HislipSession._lock_info,
}
