"""The client's side of one HiSLIP session: what is under way on its two connections.

The rules of IVI-6.1 for clients: the numbers of messages (section 3.1), interrupted answers
(3.1.2), device clear (6.12). What comes is sorted by `labnet.wires.hislip.answers`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure

from labnet.errors import Cancelled, DeviceFault, LabError, NotConnected, TooLarge
from labnet.transports.kept import no_answer
from labnet.transports.outflow import Outflow, Unit
from labnet.wires.hislip import codec
from labnet.wires.hislip.answers import Answers, Progress
from labnet.wires.hislip.channels import Channel, Request
from labnet.wires.hislip.codec import (
    DATA,
    DATA_END,
    FIRST_ID,
    NO_ID,
    OVERLAP,
    RMT_DELIVERED,
    TRIGGER,
    Message,
    Piece,
    Type,
    next_id,
)

MAX_UNANSWERED = 64
"""Requests on the asynchronous channel whose answers are still awaited, also by nobody."""

PART = 1 << 20
"""Longest message that is sent, in bytes, whatever more the server would take."""

SHORT = 1 << 16
"""Messages up to this length, in bytes, are sent in one piece."""

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
        self.synchronous: Channel
        self._asynchronous: Channel
        self._serviced = serviced
        self._lost = lost
        #: Bytes of payload that go into one message, and those that are sent without ado.
        self.part = codec.payload_size(PART)
        self.short = SHORT
        self._requests: deque[Request] = deque()
        self._opening: Deferred[Message] | None = None
        self._acknowledged: Deferred[Message] | None = None
        self._calm: list[Deferred[None]] = []
        self._outflow: Outflow | None = None
        self._answers = Answers(where, limit, self._hold_back)
        self._forget()

    def _forget(self) -> None:
        """As at the beginning, and after a device clear."""
        self._next = FIRST_ID
        self._last = NO_ID
        self._told_interrupted = 0  # AsyncInterrupted without Interrupted; below 0 the other way
        self._half_sent = False  # a message was given up in the middle
        self._answers.forget()

    @property
    def overlap(self) -> bool:
        """Whether messages need not wait for the answers to those before (overlap mode)."""
        return self._answers.overlap

    @property
    def unclear(self) -> bool:
        """A message or an answer was given up in the middle; a device clear is due."""
        return self._half_sent or self._answers.out_of_step

    # Opening (IVI-6.1 section 6.1)

    def begin(self, channel: Channel, name: str) -> Deferred[Message]:
        """Initialize; gives its response, or the FatalError that the server answers."""
        self.synchronous = channel
        channel.received, channel.failed = self._synchronous_message, self.fail
        opening: Deferred[Message] = Deferred()
        self._opening = opening
        channel.send(codec.encode_initialize(name))
        return opening

    async def pair(self, channel: Channel, opened: Message, size: int) -> None:
        """The second connection of the session that the InitializeResponse `opened` stands for.

        `size` is the longest message in bytes that the client takes.
        """
        self._asynchronous = channel
        self._answers.overlap = bool(opened.control & OVERLAP)
        channel.received, channel.failed = self._asynchronous_message, self.fail
        await self.request(Type.ASYNC_INITIALIZE, 0, codec.decode_session(opened.parameter))
        payload = codec.encode_size(Type.ASYNC_MAXIMUM_MESSAGE_SIZE, size)[codec.HEADER_SIZE :]
        answer = await self.request(Type.ASYNC_MAXIMUM_MESSAGE_SIZE, payload=payload)
        theirs = codec.decode_size(answer.payload)
        if theirs:
            self.part = codec.payload_size(min(theirs, PART))
            self.short = min(self.part, SHORT)

    # Program messages

    def ready_for(self, size: int) -> bool:
        """Whether a message of so many bytes may be sent at once, and its answer read alone."""
        return not (
            self.spent
            or self.clearing
            or self._half_sent
            or self._told_interrupted < 0
            or size > self.short
            or self._answers.overlap
        )

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
        if progress is None and sum(map(len, pieces)) <= self.short:
            self._send(DATA_END, *pieces)
            return succeed(None)
        transport: Any = self.synchronous.transport
        self._outflow = outflow = Outflow(transport, self._parts(pieces, progress))
        self._half_sent = True
        return outflow.begin().addBoth(self._sent)

    def _sent(self, result: T) -> T:
        """All parts have been sent, or the rest is not."""
        self._outflow = None
        return result

    def _parts(self, pieces: Sequence[bytes], progress: Progress | None) -> Iterator[Unit]:
        """The messages for a program message, each made when the one before has been sent."""
        rest = deque(memoryview(piece) for piece in pieces)
        total, done = sum(map(len, pieces)), 0
        while rest:
            part = _take(rest, self.part)
            size = sum(map(len, part))
            kind = DATA if rest else DATA_END
            self._half_sent = bool(rest)
            yield self._header(kind, size), *part
            done += size
            if progress is not None:
                progress(done, total)

    def trigger(self) -> None:
        """Sends a Trigger message."""
        self._restart()
        self._send(TRIGGER)

    def _send(self, kind: int, *payload: bytes) -> None:
        size = sum(map(len, payload)) if payload else 0
        self.synchronous.send(b"".join((self._header(kind, size), *payload)))

    def _header(self, kind: int, size: int) -> bytes:
        """Of the next message."""
        number = self._last = self._answers.wanted = self._next
        self._next = next_id(number)
        return codec.encode_header(kind, self._take_delivered(), number, size)

    def _take_delivered(self) -> int:
        """The RMT-delivered bit, which is told once."""
        answers = self._answers
        if answers.delivered:
            answers.delivered = False
            return RMT_DELIVERED
        return 0

    def read(
        self, progress: Progress | None = None, skips: bool = False
    ) -> Deferred[bytearray]:
        """The next answer. Cancelled, it may be read later, unless it `skips`."""
        if self.spent:
            return fail(no_answer(self.where))
        return self._answers.read(progress, skips)

    def ask(self, message: bytes, progress: Progress | None) -> Deferred[bytearray]:
        """Sends a message of at most `short` bytes; gives its answer. Raises `NotConnected`."""
        self._restart()
        self.synchronous.send(self._header(DATA_END, len(message)) + message)
        return self._answers.read(progress, True)

    def quiet(self) -> Deferred[None]:
        """Fires when nobody waits for an answer."""
        return self._answers.quiet()

    def _restart(self) -> None:
        """A message is about to be sent: in synchronized mode, nothing that has come answers it."""
        if self.spent:
            raise no_answer(self.where)
        if not self._answers.overlap:
            self._answers.drop()

    def _hold_back(self, full: bool) -> None:
        transport: Any = self.synchronous.transport
        if transport is None:
            return
        if full:
            transport.pauseProducing()
        else:
            transport.resumeProducing()

    # What comes on the synchronous channel

    def _synchronous_message(self, message: Message | Piece) -> None:
        kind = message.type
        if isinstance(message, Piece):
            self._data(kind, message.parameter, message.data, message.last)
        elif kind in (DATA_END, DATA):
            self._data(kind, message.parameter, message.payload, True)
        elif self._opening is not None:
            opening, self._opening = self._opening, None
            opening.callback(message)
        elif kind == Type.INTERRUPTED:
            self._interrupted(-1)
        elif kind == Type.DEVICE_CLEAR_ACKNOWLEDGE:
            acknowledged, self._acknowledged = self._acknowledged, None
            if acknowledged is not None:
                acknowledged.callback(message)
        elif kind == Type.ERROR:
            self._answers.fail(self._told(message))
        elif kind == Type.FATAL_ERROR:
            self._fatal(message)

    def _data(
        self, kind: int, number: int, data: bytes | bytearray | memoryview, last: bool
    ) -> None:
        if self.clearing:
            return
        if last and kind == DATA_END and self._answers.take_whole(number, data):
            return
        try:
            self._answers.take(kind, number, data, last)
        except TooLarge as error:
            self.fail(error)

    def _interrupted(self, step: int) -> None:
        """One of the two messages about an interruption has come: what comes is not the answer.

        `step` is 1 for AsyncInterrupted and -1 for Interrupted.
        """
        self._answers.begin_again()
        self._told_interrupted += step
        self._answers.interrupted = self._told_interrupted > 0
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
        """AsyncStatusQuery: MAV is for the last message, in overlap mode for the last answer."""
        number = self._answers.given if self.overlap else self._last
        return self.request(Type.ASYNC_STATUS_QUERY, self._take_delivered(), number)

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

    async def clear(self, overlap: bool = False) -> None:
        """Device clear: four messages, after which all begins anew, in `overlap` mode if so agreed.

        Who waits for an answer fails with `Cancelled`. A clear that is cancelled ends the session.
        """
        self.clearing = True
        cleared = Cancelled(f"{self.where} was cleared")
        if self._outflow is not None:
            self._outflow.fail(cleared)
        self._answers.fail(cleared)
        self._restart()
        try:
            await self.request(Type.ASYNC_DEVICE_CLEAR)
            acknowledged: Deferred[Message] = Deferred()
            self._acknowledged = acknowledged
            features = OVERLAP if overlap else 0
            self.synchronous.send(codec.encode(Type.DEVICE_CLEAR_COMPLETE, features))
            self._answers.overlap = bool((await acknowledged).control & OVERLAP)
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
        if self._outflow is not None:
            self._outflow.fail(error)
        self._answers.fail(error)
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


def _take(rest: deque[memoryview], size: int) -> list[memoryview]:
    """Takes so many bytes, or what there is, out of `rest`."""
    part = []
    while size and rest:
        piece = rest.popleft()
        if len(piece) > size:
            rest.appendleft(piece[size:])
            piece = piece[:size]
        part.append(piece)
        size -= len(piece)
    return part
