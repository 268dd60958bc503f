"""The door to a device for wires that speak messages: SCPI sockets, VXI-11, HiSLIP, VICP.

A `MessageChannel` belongs to one session and one device. Raw sockets, which have no END and no
status, use `execute`; wires with END use `write` and `read`, which keep the message exchange
protocol of IEEE 488.2 section 6: what is written over an unread response drops it (-410), and
reading where nothing was asked is an error too (-420).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure

from labnet.device import is_message_device
from labnet.errors import DeviceFault, LabError, NotConnected, TooLarge
from labnet.instrument.data import Message
from labnet.instrument.errors import ScpiError, from_lab_error
from labnet.instrument.header import HeaderError
from labnet.instrument.status import Status
from labnet.logs import Logger
from labnet.registry import DeviceNode
from labnet.session import Session

log = Logger()

#: Messages that may wait for the one before them, and bytes of one message that END has not ended.
MAX_WAITING = 256
MAX_INPUT = 1 << 30

#: Bytes from which on a view costs less than a copy.
LONG = 4096


class _Read(NamedTuple):
    limit: int | None
    until: int | None
    done: Deferred[tuple[bytes, bool]]


class _Queued(NamedTuple):
    message: Message
    timeout: float | None
    terminator: bytes
    done: Deferred[bytes]


class MessageChannel:
    """Base of the channels; see `open_channel`.

    Messages are carried out one after the other in the order they came. Attributes: `session`,
    `node` (the device), `status` (registers and error queue of this session).
    """

    def __init__(self, session: Session, node: DeviceNode) -> None:
        self.session = session
        self.node = node
        self.status = Status()
        self.closed = False
        self._current: Deferred[bytes] | None = None
        self._queue: deque[_Queued] = deque()
        self._input = bytearray()
        self._output: memoryview | None = None
        self._asked = 0  # written messages that are not done
        self._reads: deque[_Read] = deque()
        self._generation = 0  # of the written messages; raised by clear

    # Messages as a whole

    def execute(
        self, message: Message, timeout: float | None = None, terminator: bytes = b""
    ) -> Deferred[bytes]:
        """Carries out one program message; gives its response, empty if there is none.

        `message` comes without the terminator of a raw socket, the response with `terminator` at
        its end. The Deferred has fired already when nothing had to wait. What goes wrong is in the
        error queue; the Deferred fails only for a channel that is closed or has too much waiting.
        Cancelling it takes the message back, or stops it where it is. `timeout` (seconds) is for
        each call of the device.
        """
        outcome = self.answer(message, timeout, terminator)
        return succeed(outcome) if isinstance(outcome, bytes) else outcome

    def answer(
        self, message: Message, timeout: float | None = None, terminator: bytes = b""
    ) -> bytes | Deferred[bytes]:
        """As `execute`, but a response that needs no waiting comes without a Deferred."""
        if self._current is None and not self._queue and not self.closed:
            outcome = self._perform(message, timeout, terminator)
            return outcome if outcome.__class__ is bytes else self._begun(outcome)  # type: ignore[arg-type]
        if self.closed:
            return fail(NotConnected("this session has been closed"))
        if len(self._queue) >= MAX_WAITING:
            return fail(TooLarge(f"{MAX_WAITING} messages wait already"))
        done: Deferred[bytes] = Deferred(self._taken_back)
        self._queue.append(_Queued(message, timeout, terminator, done))
        return done

    def _begun(self, outcome: Deferred[bytes]) -> Deferred[bytes]:
        self._current = outcome
        told: Deferred[bytes] = Deferred(lambda _: outcome.cancel())
        outcome.addBoth(self._performed, told)
        return told

    def _performed(self, result: bytes | Failure, told: Deferred[bytes]) -> None:
        self._current = None
        told.callback(result)
        self._next()

    def _next(self) -> None:
        while self._current is None and self._queue and not self.closed:
            message, timeout, terminator, done = self._queue.popleft()
            outcome = self._perform(message, timeout, terminator)
            if isinstance(outcome, bytes):
                done.callback(outcome)
            else:
                self._begun(outcome).chainDeferred(done)

    def _taken_back(self, done: Deferred[bytes]) -> None:
        """A queued message leaves the queue; one that has begun since is stopped."""
        kept = [queued for queued in self._queue if queued.done is not done]
        begun = len(kept) == len(self._queue)
        self._queue = deque(kept)
        if begun and self._current is not None:
            self._current.cancel()

    def _perform(
        self, message: Message, timeout: float | None, terminator: bytes
    ) -> bytes | Deferred[bytes]:
        """Carries out a message; never raises, never fails but by being cancelled."""
        raise NotImplementedError

    # Wires with END

    @property
    def message_available(self) -> bool:
        """MAV: whether a response, or the rest of one, waits to be read."""
        return self._output is not None

    @property
    def responding(self) -> bool:
        """Whether a written message is still being carried out."""
        return self._asked > 0

    def write(
        self,
        data: bytes,
        end: bool = True,
        timeout: float | None = None,
        terminator: bytes = b"",
    ) -> Deferred[None]:
        """Takes bytes of a program message; `end` says that the last one ends it.

        `terminator` is put at the end of its response. Fires when the message has been carried out,
        at once for one that END has not ended. Fails with `TooLarge`; what else goes wrong is in
        the error queue.
        """
        outcome = self.take(data, end, timeout, terminator)
        return succeed(None) if outcome is None else outcome

    def take(
        self,
        data: bytes | memoryview,
        end: bool = True,
        timeout: float | None = None,
        terminator: bytes = b"",
    ) -> Deferred[None] | None:
        """As `write`, but None where nothing has to be waited for."""
        if len(self._input) + len(data) > MAX_INPUT:
            self._input = bytearray()
            self.error(-363, f"message longer than {MAX_INPUT} bytes")
            return fail(TooLarge(f"a message may have {MAX_INPUT} bytes"))
        if not end:
            self._input += data
            return None
        if self._input:
            self._input += data
            message: Message = self._input
            self._input = bytearray()
        else:
            message = bytes(data)
        if self._asked >= MAX_WAITING:
            self.error(-430)
            return fail(TooLarge(f"{MAX_WAITING} messages wait already"))
        self._interrupt()
        outcome = self.answer(message, timeout, terminator)
        if isinstance(outcome, bytes):
            self._respond(outcome)
            return None
        self._asked += 1
        return outcome.addBoth(self._answered, self._generation)

    def _interrupt(self) -> None:
        """A new message while a response waits: the response is dropped."""
        if self._output is not None:
            self._set_output(None)
            self.error(-410)

    def _answered(self, result: bytes | Failure, generation: int) -> None:
        if generation != self._generation:
            return
        self._asked -= 1
        if isinstance(result, Failure):
            result.trap(LabError, CancelledError)
        else:
            self._respond(result)
            return
        self._serve_reads()

    def _respond(self, response: bytes) -> None:
        """A message has been carried out."""
        if response:
            if self._asked:
                self.error(-410)  # the next message has come before anybody read this
            else:
                self._set_output(memoryview(response))
        if self._reads:
            self._serve_reads()

    def _set_output(self, output: memoryview | None) -> None:
        self._output = output
        self.status.message_available = output is not None

    def read(
        self, limit: int | None = None, until: int | None = None
    ) -> Deferred[tuple[bytes, bool]]:
        """The next bytes of the response, at most `limit`, and whether END comes with the last.

        `until` is a byte that ends them too (the termination character of VXI-11).
        Waits for a response that is being made. Where none is, -420 is queued and the Deferred
        waits for the next one: cancel it when the wire's time is over.
        """
        waiting: Deferred[tuple[bytes, bool]] = Deferred(self._unread)
        self._reads.append(_Read(limit, until, waiting))
        if self._output is None and not self._asked:
            self.error(-420)
        self._serve_reads()
        return waiting

    def _unread(self, waiting: Deferred[tuple[bytes, bool]]) -> None:
        self._reads = deque(item for item in self._reads if item.done is not waiting)

    def _serve_reads(self) -> None:
        while self._reads and self._output is not None:
            limit, until, done = self._reads.popleft()
            done.callback(self._give(self._output, limit, until))

    def _give(
        self, output: memoryview, limit: int | None, until: int | None
    ) -> tuple[bytes, bool]:
        """The next bytes, and whether they are the last."""
        data = bytes(output[:limit])
        if until is not None:
            data = data[: data.find(until) + 1 or len(data)]
        ended = len(data) == len(output)
        self._set_output(None if ended else output[len(data) :])
        return data, ended

    def read_now(
        self, limit: int | None = None, until: int | None = None
    ) -> tuple[bytes | memoryview, bool] | None:
        """What `read` would give at once; None, and no error, where it would wait.

        What is long is a view of the response, not a copy.
        """
        output = self._output
        if output is None or self._reads:
            return None
        if until is None and limit is not None and len(output) > LONG < limit:
            rest = output[limit:]
            self._set_output(rest if len(rest) else None)
            return output[:limit], not len(rest)
        return self._give(output, limit, until)

    # Beside the messages

    def define(self, header: str, answer: Callable[[], int | str | bytes]) -> None:
        """Adds a query that only this channel knows, such as the port of a control connection."""
        raise NotImplementedError

    def check_locks(self, verb: str = "message") -> None:
        """Raises `Locked` if another owner's lock shuts this session's messages out."""
        self.session.check(verb, (self.node,))

    def when_unlocked(self) -> Deferred[None]:
        """Fires when no lock stands in the way, at once for a session that does not wait for them.

        For a wire whose calls have a time limit for that: cancel it when the limit has passed.
        """
        return self.session.clear("message", (self.node,))

    def clear(self) -> None:
        """Device clear: drops input, output and what is being carried out; keeps the status.

        The Deferreds of messages that are not done fail with `CancelledError`.
        """
        self._generation += 1
        self._asked = 0
        self._input = bytearray()
        self._set_output(None)
        queue, self._queue = self._queue, deque()
        for queued in queue:
            queued.done.cancel()
        if self._current is not None:
            self._current.cancel()

    @property
    def can_trigger(self) -> bool:
        """Whether the device knows a trigger."""
        raise NotImplementedError

    def trigger(self, timeout: float | None = None) -> Deferred[None]:
        """Group execute trigger, which comes after the messages before it."""
        return self.execute(b"*TRG", timeout).addCallback(lambda _: None)

    def status_byte(self) -> Deferred[int]:
        """Serial poll: the status byte, with bit 6 set if the device has asked for service."""
        return succeed(self.status.serial_poll())

    def on_service_request(
        self,
        callback: Callable[[int], None] | None,
        ended: Callable[[], None] | None = None,
    ) -> None:
        """Calls ``callback(status_byte)`` for each new reason for service enabled by ``*SRE``.

        `ended` is called when the request is over: polled, or its reasons are gone.
        """
        self.status.service_requested = callback
        self.status.service_ended = ended

    def enable_service(self, enabled: bool) -> None:
        """Whether a request of the device itself gets through even where ``*SRE`` is 0."""
        self.status.device_requests = enabled
        self.status.update()

    def error(self, number: int, detail: str = "") -> None:
        """Puts an error into this session's queue."""
        self.status.error(ScpiError(number, detail))

    def failed(self, error: BaseException | None) -> None:
        """Puts what went wrong with a unit of a message into the queue."""
        if isinstance(error, ScpiError):
            self.status.error(ScpiError(error.number, error.detail))  # without its traceback
        elif isinstance(error, LabError):
            self.status.error(from_lab_error(error))
        elif not isinstance(error, CancelledError):
            log.error("a message to {device}: {error!r}", device=self.node.path, error=error)
            self.status.error(ScpiError(-310))

    def close(self) -> None:
        """The session ends: nothing more is carried out, nobody is called any more."""
        if self.closed:
            return
        self.closed = True
        self.on_service_request(None)
        self.clear()
        reads, self._reads = self._reads, deque()
        for waiting in reads:
            waiting.done.addErrback(lambda failure: None)
            waiting.done.cancel()


def open_channel(session: Session, node: DeviceNode) -> MessageChannel:
    """The channel of a session to a device: interpreted, or passed on to one that speaks itself.

    Raises `DeviceFault` for a device whose headers are ambiguous; see `check_headers`.
    """
    from labnet.instrument.interpreter import InstrumentChannel
    from labnet.instrument.passing import PassingChannel

    if is_message_device(node.device):
        return PassingChannel(session, node)
    try:
        return InstrumentChannel(session, node)
    except HeaderError as error:
        raise DeviceFault(str(error), "HeaderError") from None


def check_headers(node: DeviceNode) -> None:
    """Raises `HeaderError` if a device cannot be served as an instrument; for a server's start."""
    from labnet.instrument.interpreter import instrument

    if not is_message_device(node.device):
        instrument(node)
