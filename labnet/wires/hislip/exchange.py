"""The messages of the synchronous channel at the server (IVI-6.1 section 3).

They are carried out one after the other. In synchronized mode a message that comes before the
answer to the one before it has been sent interrupts that answer; in overlap mode answers wait for
each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from labnet.errors import LabError, Locked
from labnet.framing.gathering import Gathered
from labnet.logs import Logger
from labnet.wires.hislip import codec
from labnet.wires.hislip.codec import (
    DATA,
    DATA_END,
    DEVICE_CLEAR_COMPLETE,
    NO_ID,
    RMT_DELIVERED,
    TRIGGER,
    Code,
    Message,
    Type,
    next_id,
)
from labnet.wires.hislip.output import Output

if TYPE_CHECKING:
    from labnet.wires.hislip.session import HislipSession

MAX_QUEUED = 64
"""Messages that may wait in one session; then its client is not read from."""

UNSENT = 16 * 1024 * 1024
"""Bytes of answers that may wait to be sent in overlap mode; then nothing more is carried out."""

PIECE = 256 * 1024
"""Longest message that is sent, in bytes, whatever more the client would take."""

COMPLETE_PATIENCE = 1.0
"""Seconds for which a DeviceClearComplete waits for the AsyncDeviceClear that belongs to it."""

PROGRAM = frozenset((DATA, DATA_END, TRIGGER))


class Exchange:
    """Program messages of one session and the answers to them. `overlap`: not synchronized."""

    _log = Logger()

    def __init__(self, session: HislipSession) -> None:
        self.overlap = False
        #: Nothing is carried out, for a device clear is under way.
        self.clearing = False
        self._session = session
        self._options = session.options
        self._connection = session.synchronous
        self._channel = session.channel
        self._part = codec.payload_size(PIECE)
        self._queue: deque[Message] = deque()
        self._queued = 0  # bytes of payload in it
        self._running: Deferred[Any] | None = None
        self._unlocking: Deferred[None] | None = None
        self._alone: IDelayedCall | None = None  # a DeviceClearComplete is at the front
        self._generation = 0
        self._output = Output(self._connection, session.clock, self._pump)
        self._reset()

    def _reset(self) -> None:
        self._input = Gathered()  # the parts of a program message
        self._overflow = False
        self._last = NO_ID  # id of the last message taken
        self._done = NO_ID  # id of the last one carried out
        self._answered = NO_ID  # id of the last message sent in overlap mode
        self._rmt_expected = False
        self._set_available(False)

    # What the session asks

    @property
    def backlogged(self) -> bool:
        """Whether so much waits that no more should be read."""
        if not self._queue:
            return False
        return len(self._queue) >= MAX_QUEUED or self._queued > self._options.max_message_size

    @property
    def interruptible(self) -> bool:
        """Whether a message would end an answer that the client does not take."""
        return self._output.size > 0 and not self.overlap

    @property
    def position(self) -> tuple[int, bool]:
        """The id of the last message carried out; whether others have come that were not."""
        return self._done, bool(self._queue) or self._running is not None

    @property
    def running(self) -> bool:
        """Whether a message is being carried out."""
        return self._running is not None

    def set_size(self, maximum: int) -> None:
        """The client takes messages of at most `maximum` bytes from now on."""
        self._part = codec.payload_size(min(maximum, PIECE))

    def delivered(self) -> None:
        """The client has given the whole answer to its program."""
        self._rmt_expected = False
        self._set_available(False)

    def available(self, number: int) -> bool:
        """MAV, for a status query with that id (IVI-6.1 section 6.14)."""
        if self.overlap:
            return self._output.size > 0 or self._answered != number
        # pyvisa-py gives the id that it will use next.
        return self._available and number in (self._last, next_id(self._last))

    # Messages

    def take(self, message: Message) -> None:
        """A program message, a part of one, a trigger or a DeviceClearComplete has come."""
        if message.type not in PROGRAM:
            self._complete(message)
            return
        if self.clearing:
            return
        if self.interruptible:
            self._output.drop()
            self._interrupted(message.parameter)
        if self._queue or self._occupied:
            self._queue.append(message)
            self._queued += len(message.payload)
        else:
            self._begin(message)

    @property
    def _occupied(self) -> bool:
        """Whether the next message has to wait."""
        return (
            self._running is not None
            or self._unlocking is not None
            or self._alone is not None
            or self._output.size > UNSENT
        )

    def _pump(self) -> None:
        """Carries out what waits, as far as possible."""
        while self._queue and not self._occupied and not self._session.ended:
            message = self._queue.popleft()
            self._queued -= len(message.payload)
            self._begin(message)
        self._connection.go_on()

    def _put_back(self, message: Message) -> None:
        self._queue.appendleft(message)
        self._queued += len(message.payload)

    def _begin(self, message: Message) -> None:
        kind, number = message.type, message.parameter
        if kind == DEVICE_CLEAR_COMPLETE:
            self._put_back(message)
            self._alone = self._session.clock.callLater(COMPLETE_PATIENCE, self._left_alone)
            return
        if self._locked_out(message):
            return
        self._taken(message)
        if kind == TRIGGER:
            self._run(self._channel.trigger(), number)
            return
        program = self._joined(message.payload, kind == DATA_END)
        if program is None:
            self._finished(b"", number)
        else:
            self._run(self._channel.answer(program, None, b"\n"), number)

    def _locked_out(self, message: Message) -> bool:
        """Whether another's lock stands in the way; the message waits until it has gone."""
        try:
            self._channel.check_locks()
        except Locked:
            self._put_back(message)
            self._unlocking = waiting = self._channel.when_unlocked()
            waiting.addCallbacks(self._unlocked, self._not_unlocked)
            return True
        return False

    def _unlocked(self, _: None) -> None:
        self._unlocking = None
        self._pump()

    def _not_unlocked(self, failure: Failure) -> None:
        failure.trap(LabError, CancelledError)
        self._unlocking = None
        if failure.check(LabError):  # the device has left, or the lab stops
            self._session.fatal(codec.Fatal.UNIDENTIFIED, failure.getErrorMessage())

    def _taken(self, message: Message) -> None:
        """The ids and RMT rules of synchronized mode (IVI-6.1 section 3.1)."""
        # A delivered bit where nothing was expected is let pass: some clients always set it.
        if self._rmt_expected and not message.control & RMT_DELIVERED and not self.overlap:
            self._channel.error(-410)
        self._rmt_expected = False
        self._set_available(False)
        self._last = message.parameter
        self._session.remote.touch()

    def _joined(self, payload: bytes | bytearray, end: bool) -> bytes | bytearray | None:
        """The program message that these bytes end, if they end one that is not too long."""
        limit = self._options.max_message
        if end and not self._input and not self._overflow and len(payload) <= limit:
            return payload
        if not self._overflow:
            self._input.add(payload)
            if len(self._input) > limit:
                self._overflow = True
                self._input.clear()
                self._channel.error(-363, f"message longer than {limit} bytes")
        if not end:
            return None
        overflow, self._overflow = self._overflow, False
        return None if overflow else self._input.take()

    def _run(self, work: bytes | Deferred[Any], number: int) -> None:
        if isinstance(work, bytes):
            self._finished(work, number)
            return
        self._running = work
        work.addBoth(self._ended, number, self._generation)

    def _ended(self, result: Any, number: int, generation: int) -> None:
        if isinstance(result, Failure):
            if not result.check(LabError, CancelledError):
                self._log.failure("a message for {device}", result, device=self._channel.node.path)
            result = b""
        if generation != self._generation or self._session.ended:
            return
        self._running = None
        self._finished(result or b"", number)
        self._pump()

    def _finished(self, response: bytes, number: int) -> None:
        self._done = number
        if response:
            self._respond(response, number)
        self._session.carried_out()

    # Answers

    def _respond(self, response: bytes, number: int) -> None:
        size = len(response)
        if not self.overlap:
            if self._queue and self._queue[0].type != DEVICE_CLEAR_COMPLETE:
                self._interrupted(self._queue[0].parameter)
                return
            if size <= self._part:
                self._rmt_expected = True
                header = codec.encode_header(DATA_END, 0, number, size)
                self._connection.send(header + response)
                self._set_available(True)
                return
        self._output.send(self._messages(response, number), size, self._sent)
        self._set_available(True)

    def _messages(self, response: bytes, number: int) -> Iterator[bytes]:
        """The messages of an answer, in sizes that the client takes when they are sent."""
        view = memoryview(response)
        at = 0
        while len(view) - at > self._part:
            part = view[at : at + self._part]
            at += len(part)
            yield codec.encode(DATA, 0, self._id_of(number), part)
        yield codec.encode(DATA_END, 0, self._id_of(number), view[at:])

    def _id_of(self, number: int) -> int:
        """Of a message of the answer to `number`; in overlap mode the server counts by itself."""
        if not self.overlap:
            return number
        self._answered = next_id(self._answered)
        return self._answered

    def _sent(self) -> None:
        self._rmt_expected = True

    def _interrupted(self, number: int) -> None:
        """The message `number` has come before the client took the answer to the one before."""
        self._channel.error(-410)
        self._set_available(False)
        if self._options.interrupted == "standard":
            self._session.tell(codec.encode(Type.ASYNC_INTERRUPTED, 0, number))
            self._connection.send(codec.encode(Type.INTERRUPTED, 0, number))

    def _set_available(self, available: bool) -> None:
        self._available = available
        self._channel.status.message_available = available

    def writable(self) -> None:
        """The client has taken what was sent."""
        self._output.flush()
        self._pump()

    # Device clear

    def clear(self) -> Message | None:
        """Drops all up to a DeviceClearComplete, which is returned if it has come already."""
        self._drop_work()
        self._channel.clear()
        self._stop_waiting()
        self.clearing = True
        while self._queue:
            message = self._queue.popleft()
            self._queued -= len(message.payload)
            if message.type == DEVICE_CLEAR_COMPLETE:
                return message
        self._connection.go_on()
        return None

    def begin_anew(self, overlap: bool) -> None:
        """The device clear is complete."""
        self.clearing = False
        self.overlap = overlap
        self._reset()

    def resume(self) -> None:
        """Goes on with what came after the device clear."""
        self._pump()

    def _drop_work(self) -> None:
        self._generation += 1
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
        if self._unlocking is not None:
            self._unlocking.cancel()
        self._output.drop()

    def _stop_waiting(self) -> None:
        if self._alone is not None:
            self._alone.cancel()
            self._alone = None

    def _complete(self, message: Message) -> None:
        """DeviceClearComplete: expected, or overtaken by its AsyncDeviceClear, or a mistake."""
        if self.clearing:
            self._session.completed(message.control)
        else:
            self._queue.append(message)
            self._pump()

    def _left_alone(self) -> None:
        """A DeviceClearComplete came without an AsyncDeviceClear."""
        self._alone = None
        self._queue.popleft()
        text = "DeviceClearComplete without AsyncDeviceClear"
        self._connection.send(codec.encode_error(Code.UNIDENTIFIED, text))
        self._pump()

    def close(self) -> None:
        """The session has ended."""
        self._stop_waiting()
        self._output.drop()
        self._queue.clear()
        self._generation += 1
