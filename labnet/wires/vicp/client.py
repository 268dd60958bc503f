"""A Deferred-based client of LeCroy oscilloscopes, and of what else speaks VICP.

    scope = VicpClient("192.168.1.7")
    print(await scope.query("*IDN?"))
    await scope.write("ARM")
    trace = await scope.query_block("C1:WAVEFORM?", timeout=60)

One connection is kept, made when it is first needed and made again when it is lost. Each message
has a number that its answer repeats, so an answer that comes too late is told from the next one and
dropped. `VicpClient.status_byte` and `VicpClient.clear` do not wait for a query in progress.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IPushProducer, IStreamClientEndpoint
from twisted.python.failure import Failure

from labnet.errors import (
    Cancelled,
    LabError,
    NotConnected,
    TimedOut,
    TooLarge,
)
from labnet.framing.blocks import block_header, encode_text, find_block
from labnet.logs import Logger
from labnet.transports.asking import Asking, Progress, shown
from labnet.transports.dialing import client_endpoint, shown_address
from labnet.transports.kept import ClientProtocol, Connections, keep_alive, no_answer
from labnet.transports.outflow import Outflow, Unit, take_buffers
from labnet.transports.prompt import USUAL_READ, read_as_much, write_now
from labnet.transports.system_lock import SystemLock
from labnet.transports.turns import Turns, Watch, limited
from labnet.wires.vicp import codec
from labnet.wires.vicp.codec import Block, BlockSplitter, Malformed

PORT = 1861
"""The port of VICP."""

MAX_UNREAD = 1 << 20
"""Bytes of an answer that are taken while nobody reads; then the connection is held back."""

LONGEST_BLOCK = 1 << 20
"""Bytes of a long message in one block of VICP."""

T = TypeVar("T")


class _Answer:
    """What comes for one message, and who waits for it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False
        self.waiting: Deferred[bytearray] | None = None
        self.grown: Callable[[bytearray], None] | None = None


class VicpClientProtocol(ClientProtocol):
    """One connection. Only the answer to the last message is kept; `serviced` is told of SRQs."""

    def __init__(
        self, where: str, limit: int, serviced: Callable[[bool], None], keepalive: float
    ) -> None:
        super().__init__(where)
        self._limit = limit
        self._keepalive = keepalive
        self._serviced = serviced
        self._splitter = BlockSplitter(1 << 32)  # `limit` is for the bytes that have come
        self._sequence = 0
        self._message = 0  # number of the last message
        self._answer = _Answer()
        self._polls: dict[int, Deferred[int]] = {}
        self._held_back = False
        self._numbered = False  # the server has repeated a number
        #: Answers of requests that timed out may still come and could not be told apart.
        self.out_of_step = False
        self._outflow: Outflow | None = None
        self._between: deque[bytes] = deque()  # blocks that go between those of a long message
        self._half_sent = False  # a message without its end
        self._large = False  # the last read was

    def connectionMade(self) -> None:
        super().connectionMade()
        keep_alive(self.transport, self._keepalive)

    # What leaves

    def send(self, *parts: bytes, progress: Progress | None = None) -> Deferred[None] | None:
        """Sends a program message, `parts` joined; what has come for the last one is dropped.

        None when all has been handed to the system, else a Deferred that fires then. Cancelling it
        gives up the rest.
        """
        self._sequence = self._message = codec.next_sequence(self._sequence)
        self._restart()
        size = sum(map(len, parts))
        if size < codec.PIECE and progress is None:
            header = codec.encode_header(self._begin(True), self._message, size)
            self._write(b"".join((header, *parts)))
            return None
        blocks = self._blocks([memoryview(part) for part in parts], size, progress)
        self._outflow = outflow = Outflow(self.transport, blocks)
        return outflow.begin().addBoth(self._sent)

    def _begin(self, last: bool) -> int:
        """The operation of the first block of a message."""
        # With a clear the instrument forgets a message that has no end.
        clear, self._half_sent = codec.CLEAR if self._half_sent else 0, False
        return codec.DATA | clear | (codec.EOI if last else 0)

    def _blocks(
        self, parts: list[memoryview], size: int, progress: Progress | None
    ) -> Iterator[Unit]:
        """A long message in blocks, each made when the one before has been sent."""
        rest, done = deque(parts), 0
        while done < size or not size:
            block = take_buffers(rest, LONGEST_BLOCK)
            length = sum(map(len, block))
            last = done + length == size
            operation = self._begin(last) if not done else codec.DATA | codec.EOI * last
            self._half_sent = not last
            yield codec.encode_header(operation, self._message, length), *block
            done += length
            while self._between:
                yield (self._between.popleft(),)
            if progress is not None:
                progress(done, size)
            if last:
                return

    def _sent(self, result: T) -> T:
        """All blocks have been sent, or the rest is not."""
        self._outflow = None
        while self._between and self.transport is not None:
            self._write(self._between.popleft())
        return result

    def poll(self) -> Deferred[int]:
        """The status byte, by a serial poll."""
        self._sequence = number = codec.next_sequence(self._sequence)
        polled: Deferred[int] = Deferred()  # cancelled, it stays to take what comes too late
        if self.spent:
            polled.errback(no_answer(self.where))
            return polled
        self._polls[number] = polled
        self._write(codec.encode_header(codec.DATA | codec.SERIAL_POLL, number))
        return polled

    def clear(self) -> None:
        """Device clear; who waits for an answer fails with `Cancelled`."""
        if self._outflow is not None:
            self._outflow.fail(Cancelled(f"{self.where} was cleared"))
        self._half_sent = False
        number = codec.next_sequence(self._sequence)
        self._write(codec.encode_header(codec.DATA | codec.CLEAR, number))
        answer = self._answer
        self._message = number  # nothing that is under way is an answer any more
        self._sequence = number
        self._restart()
        self.out_of_step = self.out_of_step or not self._numbered
        if answer.waiting is not None:
            answer.waiting.errback(Cancelled(f"{self.where} was cleared"))

    def remote(self, operation: int) -> None:
        """Sends a block without data, which sets the remote and lockout states."""
        self._write(codec.encode_header(operation, 0))

    def _write(self, data: bytes) -> None:
        assert self.transport is not None
        if self._outflow is not None:
            self._between.append(data)
        else:
            write_now(self.transport, data)

    # Answers

    def read(self, progress: Progress | None = None) -> Deferred[bytearray]:
        """The answer to the last message; `progress` is told about a block in it.

        Fails with `NotConnected` if the connection ends first. When it is cancelled the answer may
        be read later, as long as no other message is sent.
        """
        answer = self._answer
        assert answer.waiting is None, "one reader at a time"
        waiting: Deferred[bytearray] = Deferred(lambda _: self._cancelled())
        answer.waiting = waiting
        answer.grown = _teller(progress) if progress is not None else None
        if answer.ended:
            self._finish(answer)
        elif self.spent:
            self._fail(no_answer(self.where))
        else:
            self._hold_back()
            self._grow(answer)
        return waiting

    def _cancelled(self) -> None:
        """Nobody waits for the answer any more."""
        self._answer.waiting = None
        self.out_of_step = self.out_of_step or not self._numbered
        self._hold_back()

    def _restart(self) -> None:
        self._answer = _Answer()
        self._hold_back()

    def dataReceived(self, data: bytes) -> None:
        size = len(data)
        if size >= USUAL_READ or self._large:
            self._large = read_as_much(self.transport, size)
        for item in self._splitter.feed(data):
            if self.spent:
                return
            if isinstance(item, Block):
                self._received(item)
            elif isinstance(item, Malformed):
                self._fail(NotConnected(f"{self.where} does not speak VICP: {item.reason}"))

    def _received(self, block: Block) -> None:
        operation, number, data = block
        if operation & codec.SRQ:
            self._serviced(data[:1] != b"0")
            return
        if not operation & codec.DATA:
            return
        poll = self._poll_of(block)
        if poll is not None:
            self._numbered = self._numbered or number != 0
            poll.callback(data[0])
        elif not codec.is_late(number, self._message) and not self._answer.ended:
            self._numbered = self._numbered or number != 0
            self._take(self._answer, data, bool(operation & codec.EOI))

    def _poll_of(self, block: Block) -> Deferred[int] | None:
        """Who waits for this as the answer to a poll; an old server does not number it."""
        if not self._polls or len(block.data) != 1:
            return None
        if block.sequence:
            return self._polls.pop(block.sequence, None)
        return self._polls.pop(next(iter(self._polls))) if not self._answer.data else None

    def _take(self, answer: _Answer, data: bytes, ended: bool) -> None:
        if len(answer.data) + len(data) > self._limit:
            self._fail(TooLarge(f"an answer of more than {self._limit} bytes from {self.where}"))
            return
        answer.data += data
        answer.ended = ended
        if answer.waiting is None:
            self._hold_back()
            return
        self._grow(answer)
        if ended and answer.waiting is not None:
            self._finish(answer)

    def _grow(self, answer: _Answer) -> None:
        if answer.grown is not None and answer.data:
            try:
                answer.grown(answer.data)
            except Exception:  # no block, or a mistake in the caller's `progress`
                waiting = answer.waiting
                self._cancelled()
                if waiting is not None:
                    waiting.errback(Failure())

    def _finish(self, answer: _Answer) -> None:
        waiting, answer.waiting = answer.waiting, None
        self._restart()
        assert waiting is not None
        waiting.callback(answer.data)

    def _fail(self, error: LabError) -> None:
        waiting, self._answer.waiting = self._answer.waiting, None
        polls, self._polls = self._polls, {}
        self.abort()
        if self._outflow is not None:
            self._outflow.fail(error)
        for deferred in (waiting, *polls.values()):
            if deferred is not None:
                deferred.errback(error)

    def _hold_back(self) -> None:
        """Does not read on from an instrument that sends what nobody reads."""
        answer = self._answer
        full = answer.waiting is None and len(answer.data) > MAX_UNREAD
        if full != self._held_back and IPushProducer.providedBy(self.transport):
            self._held_back = full
            if full:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    def ended(self) -> None:
        self._fail(no_answer(self.where))


def _teller(progress: Progress) -> Callable[[bytearray], None]:
    """What tells `progress` about the block in a growing answer."""
    found: list[tuple[int, int]] = []

    def grown(data: bytearray) -> None:
        if not found:
            block = find_block(data)
            if block is None:
                return
            found.append(block)
        start, length = found[0]
        if length >= 0:
            progress(min(len(data) - start, length), length)

    return grown


class VicpClient(Asking):
    """One instrument. `host` is its name or address, or a Twisted endpoint string or object.

    `timeout` is the seconds a request may take, connecting and waiting for earlier ones included;
    each request may have its own. `keepalive` (seconds, 0 for none) is after what silence a dead
    peer is found. After a timeout the next request works at once: an answer that is late is
    dropped. (Instruments with the first version of the protocol do not number answers; for them the
    connection is made anew.)

    Methods return Deferreds that fail with a `LabError`: `TimedOut` naming the message and the
    instrument, `NotConnected`, `TooLarge`, `DeviceFault`, `BadArguments`, or `Cancelled` when
    `clear` ended the request. Nothing is sent twice. A connection that is lost takes its lock with
    it; the first request after that fails and says so.
    """

    _log = Logger()

    def __init__(
        self,
        host: str | IStreamClientEndpoint,
        port: int = PORT,
        *,
        timeout: float = 5.0,
        keepalive: float = 60.0,
        max_response: int = codec.DEFAULT_LIMIT,
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.where = shown_address(host, port)
        self.timeout = timeout
        self.keepalive = keepalive
        self.max_response = max_response
        self._clock = reactor
        self._turn = Turns()
        self._watch = Watch(reactor)
        self._last: VicpClientProtocol | None = None
        self._on_service_request: Callable[[bool], None] | None = None
        self._system_lock = SystemLock(
            self.query, self.write, self.where, reactor, lambda: self._last
        )
        self._connections: Connections[VicpClientProtocol] = Connections(
            client_endpoint(host, port, reactor, timeout), self._build, self.where, reactor
        )

    def _build(self) -> VicpClientProtocol:
        return VicpClientProtocol(self.where, self.max_response, self._serviced, self.keepalive)

    # Messages

    def write(self, message: str | bytes, timeout: float | None = None) -> Deferred[None]:
        """Sends a message that has no answer; fires when it has been handed to the system."""

        async def run(protocol: VicpClientProtocol) -> None:
            await _sending(protocol.send(encode_text(message)))

        return self._request(_name(message, self.where), run, timeout)

    def write_block(
        self,
        header: str,
        data: bytes,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Deferred[None]:
        """Sends a command with a definite-length block as its last argument.

        `header` is what comes before the block: ``"C1:WF"``, or ``"TRACe A,"``. `progress` is
        called with the bytes that have gone, the header among them, and their number in all.
        """

        async def run(protocol: VicpClientProtocol) -> None:
            start = b"%b %b" % (encode_text(header), block_header(len(data)))
            await _sending(protocol.send(start, data, progress=progress))

        return self._request(_name(header, self.where), run, timeout)

    def read(self, timeout: float | None = None) -> Deferred[bytes]:
        """The answer to the message that was written last, as it comes."""

        async def run(protocol: VicpClientProtocol) -> bytes:
            return bytes(await protocol.read())

        return self._request(f"an answer from {self.where}", run, timeout, fresh=False)

    def _ask(
        self, message: str | bytes, progress: Progress | None, timeout: float | None
    ) -> Deferred[bytearray]:
        if (protocol := self._ready()) is not None and len(message) < codec.PIECE:
            return self._ask_now(protocol, message, progress, timeout)

        async def run(protocol: VicpClientProtocol) -> bytearray:
            await _sending(protocol.send(encode_text(message)))
            return await protocol.read(progress)

        return self._request(_name(message, self.where), run, timeout)

    def _ready(self) -> VicpClientProtocol | None:
        """The connection, where nothing has to be waited for."""
        protocol = self._last
        if protocol is None or protocol.spent or protocol.out_of_step or self._turn.taken:
            return None
        return protocol

    def _ask_now(
        self,
        protocol: VicpClientProtocol,
        message: str | bytes,
        progress: Progress | None,
        timeout: float | None,
    ) -> Deferred[bytearray]:
        """`_ask` when nothing has to be waited for; a coroutine would take half as long again."""
        try:
            protocol.send(encode_text(message))
        except LabError as error:
            return fail(error)
        self._turn.taken = True
        answer = protocol.read(progress)
        self._watch.begin(answer, self.timeout if timeout is None else timeout)
        return answer.addBoth(self._answered, message)

    def _answered(self, result: bytearray | Failure, message: str | bytes) -> bytearray | Failure:
        late = self._watch.end()
        self._turn.release()
        if late and isinstance(result, Failure) and result.check(CancelledError):
            raise TimedOut(_name(message, self.where), self._watch.seconds)
        return result

    # Beside the messages

    def connect(self, timeout: float | None = None) -> Deferred[None]:
        """Connects if that is not so already; requests do it by themselves."""

        async def run(protocol: VicpClientProtocol) -> None:
            """Being connected is all."""

        return self._request(f"connecting to {self.where}", run, timeout)

    def status_byte(self, timeout: float | None = None) -> Deferred[int]:
        """Serial poll: the status byte. Does not wait for a query in progress."""

        async def poll() -> int:
            return await (await self._connections.kept()).poll()

        return self._limited(f"the status byte of {self.where}", poll(), timeout)

    def clear(self, timeout: float | None = None) -> Deferred[None]:
        """Device clear: the instrument drops what it has not carried out or sent.

        A request in progress fails with `Cancelled`. Has no answer, so it fires when it was sent.
        """

        async def clear() -> None:
            (await self._connections.kept()).clear()

        return self._limited(f"clearing {self.where}", clear(), timeout)

    def trigger(self, timeout: float | None = None) -> Deferred[None]:
        """Triggers the instrument (``*TRG``)."""
        return self.write("*TRG", timeout)

    def lock(self, wait: float = 0.0, timeout: float | None = None) -> Deferred[None]:
        """Locks the instrument, where it has ``SYSTem:LOCK``; waits up to `wait` seconds for it.

        VICP itself has no lock. Fails with `Locked`, or `NotAllowed` where there is no lock.
        """
        seconds = (self.timeout if timeout is None else timeout) + wait
        return self._system_lock.acquire(seconds, wait)

    def unlock(self, timeout: float | None = None) -> Deferred[None]:
        """Frees the lock."""
        return self._system_lock.release(timeout)

    def remote(self, lockout: bool = False, timeout: float | None = None) -> Deferred[None]:
        """Asks for remote control; with `lockout` the front panel is locked."""
        operation = codec.REMOTE | (codec.LOCKOUT if lockout else 0)

        async def run(protocol: VicpClientProtocol) -> None:
            protocol.remote(operation)

        return self._request(f"remote control of {self.where}", run, timeout)

    def on_service_request(self, callback: Callable[[bool], None] | None) -> None:
        """Calls ``callback(asserted)`` when the instrument says that its request has changed.

        Enable the reasons with ``*SRE``; `status_byte` tells which it is, and takes it back.
        """
        self._on_service_request = callback

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        """Calls ``callback()`` when the connection has ended without this client's doing."""
        self._connections.on_lost = callback

    def close(self) -> Deferred[None]:
        """Closes the connection; fires when it has gone."""
        self._watch.close()
        self._system_lock.forget()
        return self._connections.close()

    # Between these

    def _serviced(self, asserted: bool) -> None:
        if self._on_service_request is None:
            return
        try:
            self._on_service_request(asserted)
        except Exception:
            self._log.failure("a callback for service requests of {where}", where=self.where)

    def _request(
        self,
        name: str,
        run: Callable[[VicpClientProtocol], Coroutine[Any, Any, T]],
        timeout: float | None,
        fresh: bool = True,
    ) -> Deferred[T]:
        return self._limited(name, self._in_turn(run, fresh), timeout)

    def _limited(
        self, name: str, work: Coroutine[Any, Any, T], timeout: float | None
    ) -> Deferred[T]:
        seconds = self.timeout if timeout is None else timeout
        return limited(work, name, seconds, self._clock)

    async def _in_turn(
        self, run: Callable[[VicpClientProtocol], Coroutine[Any, Any, T]], fresh: bool
    ) -> T:
        await self._turn.acquire()
        try:
            protocol = await self._connections.kept()
            if fresh and protocol.out_of_step:
                protocol.abort()
                protocol = await self._connections.kept()
            self._last = protocol
            self._system_lock.check(protocol)
            return await run(protocol)
        finally:
            self._turn.release()


async def _sending(sent: Deferred[None] | None) -> None:
    if sent is not None:
        await sent


def _name(message: str | bytes, where: str) -> str:
    return f"{shown(message)} to {where}"
