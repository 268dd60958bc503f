"""The client's side of one HiSLIP session: what is under way on its two connections.

The rules of IVI-6.1 for clients in synchronized mode: which answer belongs to which message
(section 3.1), interrupted answers (3.1.2), device clear (6.12).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure

from labnet.errors import Cancelled, DeviceFault, LabError, NotConnected, TooLarge
from labnet.transports.kept import no_answer
from labnet.wires.hislip import codec
from labnet.wires.hislip.channels import Answer, Channel, Progress, Request, Sending
from labnet.wires.hislip.codec import (
    DATA,
    DATA_END,
    FIRST_ID,
    NO_ID,
    RMT_DELIVERED,
    TRIGGER,
    UNKNOWN_ID,
    Message,
    Piece,
    Type,
    next_id,
)

MAX_UNREAD = 1 << 20
"""Bytes of an answer that are taken while nobody reads; then the connection is held back."""

MAX_UNANSWERED = 64
"""Requests on the asynchronous channel whose answers are still awaited, also by nobody."""

PART = 1 << 20
"""Longest message that is sent, in bytes, whatever more the server would take."""

T = TypeVar("T")


class Link:
    """A session with an instrument. `spent`: it has ended. `locks`: how many locks it holds.

    `serviced` is called with the status byte of a service request, `lost` with the error that ended
    the session.
    """

    def __init__(
        self,
        where: str,
        limit: int,
        serviced: Callable[[int], None],
        lost: Callable[[Link, LabError], None],
    ) -> None:
        self.where = where
        self.spent = False
        self.locks = 0
        self.clearing = False
        #: A message was given up in the middle; a device clear is due.
        self.half_sent = False
        self.synchronous: Channel
        self._asynchronous: Channel
        self._limit = limit
        self._serviced = serviced
        self._lost = lost
        #: Bytes of payload that go into one message.
        self.part = codec.payload_size(PART)
        self._requests: deque[Request] = deque()
        self._opening: Deferred[Message] | None = None
        self._acknowledged: Deferred[None] | None = None
        self._calm: list[Deferred[None]] = []
        self._held_back = False
        self._sending: Sending | None = None
        self._answer = Answer()
        self._forget()

    def _forget(self) -> None:
        """As at the beginning, and after a device clear."""
        self._next = FIRST_ID
        self._last = NO_ID
        self._delivered = False
        self._told_interrupted = 0  # AsyncInterrupted without Interrupted; below 0 the other way
        self.half_sent = False
        self._answer = Answer()

    # Opening (IVI-6.1 section 6.1)

    def begin(self, channel: Channel, name: str) -> Deferred[Message]:
        """Initialize; gives its response, or the FatalError that the server answers."""
        self.synchronous = channel
        channel.received, channel.failed = self._synchronous_message, self.fail
        opening: Deferred[Message] = Deferred()
        self._opening = opening
        channel.send(codec.encode_initialize(name))
        return opening

    async def pair(self, channel: Channel, session: int, size: int) -> None:
        """The second connection; `size` is the longest message in bytes that the client takes."""
        self._asynchronous = channel
        channel.received, channel.failed = self._asynchronous_message, self.fail
        await self.request(Type.ASYNC_INITIALIZE, 0, session)
        payload = codec.encode_size(Type.ASYNC_MAXIMUM_MESSAGE_SIZE, size)[codec.HEADER_SIZE :]
        answer = await self.request(Type.ASYNC_MAXIMUM_MESSAGE_SIZE, payload=payload)
        theirs = codec.decode_size(answer.payload)
        if theirs:
            self.part = codec.payload_size(min(theirs, PART))

    # Program messages

    @property
    def ready(self) -> bool:
        """Whether a message may be sent now."""
        return not (self.spent or self.clearing or self.half_sent or self._told_interrupted < 0)

    def calm(self) -> Deferred[None]:
        """Fires when a message may be sent: no device clear, nothing half interrupted."""
        if not self.clearing and self._told_interrupted >= 0:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._calm.append(waiting)
        return waiting

    def _calmed(self) -> None:
        if not self.clearing and self._told_interrupted >= 0:
            waiting, self._calm = self._calm, []
            for deferred in waiting:
                deferred.callback(None)

    def send(self, *pieces: bytes, progress: Progress | None = None) -> Deferred[None]:
        """Sends a program message, `pieces` joined; what has come for the last one is dropped.

        Fires when all has been handed to the system. Cancelling it leaves the session in need of a
        device clear. Raises `NotConnected` if the session has ended.
        """
        self._restart()
        if progress is None and sum(map(len, pieces)) <= self.part:
            self._send_part(pieces, True)
            return succeed(None)
        self._sending = sending = Sending(pieces, self.part, self._send_part, progress)
        transport: Any = self.synchronous.transport
        transport.registerProducer(sending, False)
        return sending.done.addBoth(self._sent, sending)

    def _sent(self, result: T, sending: Sending) -> T:
        """All parts have been sent, or the rest is not."""
        self._sending = None
        self.half_sent = self.half_sent or not sending.complete
        transport: Any = self.synchronous.transport
        if transport is not None:
            transport.unregisterProducer()
        return result

    def _send_part(self, pieces: Sequence[bytes | memoryview], last: bool) -> None:
        self._send(DATA_END if last else DATA, *pieces)

    def trigger(self) -> None:
        """Sends a Trigger message."""
        self._restart()
        self._send(TRIGGER)

    def _send(self, kind: int, *payload: bytes | memoryview) -> None:
        number = self._last = self._next
        self._next = next_id(number)
        self.synchronous.send(codec.encode(kind, self._take_delivered(), number, *payload))

    def _take_delivered(self) -> int:
        """The RMT-delivered bit, which is told once."""
        delivered, self._delivered = self._delivered, False
        return RMT_DELIVERED if delivered else 0

    def read(self, progress: Progress | None = None) -> Deferred[bytearray]:
        """The answer to the last message. Cancelled, it may be read later."""
        answer = self._answer
        assert answer.waiting is None, "one reader at a time"
        waiting: Deferred[bytearray] = Deferred(self._not_read)
        answer.waiting, answer.progress = waiting, progress
        if self.spent:
            self._fail_reader(no_answer(self.where))
            return waiting
        if self._held_back:
            self._hold_back()
        self._grown(answer)
        return waiting

    def _not_read(self, _: object) -> None:
        self._answer.waiting = self._answer.progress = None

    def _restart(self) -> None:
        """A message is about to be sent: nothing that comes from now on answers those before."""
        if self.spent:
            raise no_answer(self.where)
        self._answer = Answer()
        if self._held_back:
            self._hold_back()

    def _grown(self, answer: Answer) -> None:
        if answer.waiting is None:
            self._hold_back()
            return
        try:
            answer.grown()
        except LabError as error:
            self._fail_reader(error)
            return
        if answer.ended:
            waiting, answer.waiting = answer.waiting, None
            self._answer = Answer()
            self._delivered = True
            waiting.callback(answer.data)

    def _fail_reader(self, error: LabError) -> None:
        waiting, self._answer.waiting = self._answer.waiting, None
        if waiting is not None:
            waiting.errback(error)

    def _hold_back(self) -> None:
        """Does not read on from an instrument that sends what nobody reads."""
        answer = self._answer
        full = answer.waiting is None and len(answer.data) > MAX_UNREAD
        transport: Any = self.synchronous.transport
        if full == self._held_back or transport is None:
            return
        self._held_back = full
        if full:
            transport.pauseProducing()
        else:
            transport.resumeProducing()

    # What comes on the synchronous channel

    def _synchronous_message(self, message: Message | Piece) -> None:
        if isinstance(message, Piece):
            self._data(message.type, message.parameter, message.data, message.last)
            return
        kind = message.type
        if kind in (DATA, DATA_END):
            self._data(kind, message.parameter, message.payload, True)
        elif self._opening is not None:
            opening, self._opening = self._opening, None
            opening.callback(message)
        elif kind == Type.INTERRUPTED:
            self._interrupted(-1)
        elif kind == Type.DEVICE_CLEAR_ACKNOWLEDGE:
            acknowledged, self._acknowledged = self._acknowledged, None
            if acknowledged is not None:
                acknowledged.callback(None)
        elif kind == Type.ERROR:
            self._fail_reader(self._told(message))
        elif kind == Type.FATAL_ERROR:
            self._fatal(message)

    def _data(
        self, kind: int, number: int, data: bytes | bytearray | memoryview, last: bool
    ) -> None:
        """Some of an answer, if it is the one to the last message (IVI-6.1 section 3.1.2)."""
        answer = self._answer
        if self.clearing or answer.ended:
            return
        unknown = number == UNKNOWN_ID and kind == DATA and self._told_interrupted <= 0
        if number != self._last and not unknown:
            answer.data.clear()
            return
        if len(answer.data) + len(data) > self._limit:
            self.fail(TooLarge(f"an answer of more than {self._limit} bytes from {self.where}"))
            return
        answer.data += data
        answer.ended = last and kind == DATA_END
        self._grown(answer)

    def _interrupted(self, step: int) -> None:
        """One of the two messages about an interruption has come: what comes is not the answer.

        `step` is 1 for AsyncInterrupted and -1 for Interrupted.
        """
        if not self._answer.ended:
            self._answer.data.clear()
        self._told_interrupted += step
        self._calmed()

    # The asynchronous channel

    def request(
        self,
        kind: Type,
        control: int = 0,
        parameter: int = 0,
        payload: bytes = b"",
        late: Callable[[Message], None] | None = None,
    ) -> Deferred[Message]:
        """Sends a request; gives its answer."""
        waiting: Deferred[Message] = Deferred()  # cancelled, it stays to take what comes too late
        if self.spent:
            waiting.errback(no_answer(self.where))
            return waiting
        if len(self._requests) >= MAX_UNANSWERED:
            self.fail(NotConnected(f"{self.where} has left {MAX_UNANSWERED} requests unanswered"))
            waiting.errback(no_answer(self.where))
            return waiting
        self._requests.append(Request(codec.RESPONSES[kind], waiting, late))
        self._asynchronous.send(codec.encode(kind, control, parameter, payload))
        return waiting

    def status(self) -> Deferred[Message]:
        """AsyncStatusQuery."""
        return self.request(Type.ASYNC_STATUS_QUERY, self._take_delivered(), self._last)

    def lock(self, key: bytes, milliseconds: int) -> Deferred[Message]:
        """AsyncLock: exclusive for an empty key. What is granted too late is released again."""
        return self.request(Type.ASYNC_LOCK, codec.REQUEST_LOCK, milliseconds, key, self._too_late)

    def release(self) -> Deferred[Message]:
        """AsyncLock: release after the last message."""
        return self.request(Type.ASYNC_LOCK, codec.RELEASE_LOCK, self._last)

    def _too_late(self, message: Message) -> None:
        if message.control == codec.Lock.GRANTED and not self.spent:
            self.release().addErrback(lambda failure: failure.trap(LabError) and None)

    def remote(self, request: int) -> Deferred[Message]:
        """AsyncRemoteLocalControl."""
        return self.request(Type.ASYNC_REMOTE_LOCAL_CONTROL, request, self._last)

    def _asynchronous_message(self, message: Message | Piece) -> None:
        if isinstance(message, Piece):
            return
        kind = message.type
        if kind == Type.ASYNC_SERVICE_REQUEST:
            self._serviced(message.control)
        elif kind == Type.ASYNC_INTERRUPTED:
            self._interrupted(1)
        elif kind == Type.FATAL_ERROR:
            self._fatal(message)
        elif kind == Type.ERROR:
            self._refused(self._told(message))
        else:
            self._answered(message)

    def _answered(self, message: Message) -> None:
        for request in self._requests:
            if request.answer == message.type:
                self._requests.remove(request)
                if request.waiting.called and request.late is not None:
                    request.late(message)
                request.waiting.callback(message)
                return

    def _refused(self, error: LabError) -> None:
        """The oldest request was not understood."""
        if self._requests:
            waiting = self._requests.popleft().waiting
            if not waiting.called:
                waiting.errback(error)

    # Device clear (IVI-6.1 section 6.12)

    async def clear(self) -> None:
        """Device clear: four messages, after which all begins anew.

        Who waits for an answer fails with `Cancelled`. A clear that is cancelled ends the session.
        """
        self.clearing = True
        cleared = Cancelled(f"{self.where} was cleared")
        if self._sending is not None:
            self._sending.fail(cleared)
        self._fail_reader(cleared)
        self._restart()
        try:
            await self.request(Type.ASYNC_DEVICE_CLEAR)
            acknowledged: Deferred[None] = Deferred()
            self._acknowledged = acknowledged
            self.synchronous.send(codec.encode(Type.DEVICE_CLEAR_COMPLETE))
            await acknowledged
        except CancelledError:
            self.fail(NotConnected(f"{self.where} did not answer a device clear"))
            raise
        self._forget()
        self.clearing = False
        self._calmed()

    # Errors and the end

    def _told(self, message: Message) -> LabError:
        text = codec.decode_text(message.payload) or f"error {message.control}"
        return DeviceFault(f"{self.where} says: {text}")

    def _fatal(self, message: Message) -> None:
        text = codec.decode_text(message.payload) or f"fatal error {message.control}"
        self.fail(NotConnected(f"{self.where} ended the session: {text}"))

    def fail(self, error: LabError, orderly: bool = False) -> None:
        """Ends the session; all that waits fails with `error`.

        `orderly`: what was handed to the system is sent.
        """
        if self.spent:
            return
        self.spent = True
        waiting: list[Deferred[Any] | None] = [self._opening, self._acknowledged, *self._calm]
        waiting += [request.waiting for request in self._requests]
        self._opening = self._acknowledged = None
        self._calm.clear()
        self._requests.clear()
        if self._sending is not None:
            self._sending.fail(error)
        self._fail_reader(error)
        for deferred in waiting:
            if deferred is not None and not deferred.called:
                deferred.errback(Failure(error))
        for channel in self._channels():
            if orderly:
                channel.close()
            else:
                channel.abort()
        self._lost(self, error)

    def _channels(self) -> list[Channel]:
        """The connections that were made."""
        made = (getattr(self, name, None) for name in ("synchronous", "_asynchronous"))
        return [channel for channel in made if channel is not None]
