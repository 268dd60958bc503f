"""A Deferred-based client of SCPI instruments, and of others, on raw TCP sockets.

    dmm = ScpiClient("192.168.1.5")
    print(await dmm.query("*IDN?"))
    await dmm.write("CONF:VOLT:DC 10")
    volts = float(await dmm.query("READ?", timeout=20))
    trace = await dmm.query_block("CURVE?")

Instruments have few sockets: one connection is kept, made when it is first needed and made again
when it is lost. Requests wait for each other, so that nobody reads another one's answer.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure

from labnet.errors import BadArguments, DeviceFault, LabError, TimedOut, shorten
from labnet.framing.lines import parse_ending
from labnet.transports.dialing import client_endpoint, shown_address
from labnet.transports.kept import Connections
from labnet.transports.outflow import Unit
from labnet.transports.system_lock import SystemLock
from labnet.transports.turns import Turns, Watch, limited
from labnet.wires.scpi.codec import (
    DEFAULT_LIMIT,
    BlockReader,
    CountReader,
    Progress,
    Reader,
    ResponseReader,
    SilenceReader,
    UntilReader,
    block_header,
    check_one_message,
    decode_error,
    decode_text,
    encode_text,
)
from labnet.wires.scpi.stream import ScpiClientProtocol

PORT = 5025
"""The usual port of SCPI on a raw socket."""

SHORT = 64 * 1024
"""Blocks from this length on, in bytes, are sent as they are, without being joined to the rest."""

PART = 1024 * 1024
"""Bytes of a block after which `progress` is told."""

MAX_ERRORS = 100
"""How many entries are read from an error queue before it is taken for endless."""

T = TypeVar("T")


class _Request(Generic[T]):
    """What a request does with the connection once it is its turn."""

    def __init__(self, name: str, run: Callable[[ScpiClientProtocol], Coroutine[Any, Any, T]]):
        self.name = name
        self.run = run


class ScpiClient:
    """One instrument. `address` is ``host``, ``host:port``, a Twisted endpoint string or object.

    Messages end with `terminator`, in the words of `labnet.framing.lines.parse_ending`; where
    answers end otherwise, `answers` says how. `timeout` is the seconds a request may take,
    connecting and waiting for earlier ones included; each request may have its own.

    After a timeout the answer may still come. The next request then begins on a new connection;
    or, with `marker` (a query with always the same answer, such as ``*IDN?``) on the same one after
    everything up to the answer of the marker has been thrown away.

    With `check_errors` each write and query is followed by ``SYSTem:ERRor?``, and an error there
    fails the request as a `DeviceFault` with the instrument's number and text.

    `keepalive` has the system look for a peer that has vanished.

    Methods return Deferreds that fail with a `LabError`: `TimedOut` naming the query and the
    instrument, `NotConnected`, `TooLarge`, `DeviceFault`, `BadArguments` for what would not be one
    message, `Cancelled` when `clear` ended the request. Nothing is sent twice. A connection that is
    lost, or ended by `clear` or after a timeout, takes its lock with it; the first request after
    that fails and says so.
    """

    def __init__(
        self,
        address: str | IStreamClientEndpoint,
        *,
        timeout: float = 5.0,
        terminator: str = "LF",
        answers: str = "",
        marker: str = "",
        check_errors: bool = False,
        keepalive: bool = True,
        max_response: int = DEFAULT_LIMIT,
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.where = shown_address(address, PORT)
        self.timeout = timeout
        self.marker = marker
        self.check_errors = check_errors
        self.keepalive = keepalive
        self.max_response = max_response
        self._ending = parse_ending(terminator)
        self._answers = parse_ending(answers) if answers else self._ending
        self._plain = self._answers.terminator if max_response >= SHORT else b""
        self._clock = reactor
        self._turn = Turns()
        self._watch = Watch(reactor)
        self._protocol: ScpiClientProtocol | None = None  # of the last request
        self._marked = b""  # what the marker is answered with
        self._system_lock = SystemLock(
            self.query, self.write, self.where, reactor, lambda: self._protocol
        )
        self._connections: Connections[ScpiClientProtocol] = Connections(
            client_endpoint(address, PORT, reactor, timeout), self._build, self.where, reactor
        )

    def _build(self) -> ScpiClientProtocol:
        return ScpiClientProtocol(self.where, self._clock, self.keepalive)

    # Messages

    def query(self, message: str, timeout: float | None = None) -> Deferred[str]:
        """Sends a message and gives its response as text, without the terminator.

        A block or a string in the response may hold the terminator's bytes.
        """
        return self._ask(message, self._response_reader, decode_text, timeout)

    def query_bytes(self, message: str, timeout: float | None = None) -> Deferred[bytes]:
        """`query` with the response as bytes."""
        return self._ask(message, self._response_reader, bytes, timeout)

    def query_block(
        self, message: str, progress: Progress | None = None, timeout: float | None = None
    ) -> Deferred[bytearray]:
        """Sends a message that is answered by one block, and gives the bytes of the block.

        `progress` is called with the bytes that have come and their number in all.
        """
        end = self._answers.terminator or b"\n"
        make = partial(BlockReader, end, self.max_response, progress)
        return self._ask(message, make, _as_bytearray, timeout)

    def write(self, message: str, timeout: float | None = None) -> Deferred[None]:
        """Sends a message that has no response; fires when it has been handed to the system."""

        async def run(protocol: ScpiClientProtocol) -> None:
            protocol.send(self._encoded(message))
            await self._check(protocol)

        return self._request(_Request(f"{shorten(message)!r} to {self.where}", run), timeout)

    def write_block(
        self,
        header: str,
        data: bytes,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Deferred[None]:
        """Sends a command with a definite-length block as its last argument.

        `header` is what comes before the block: ``"DATA"``, or ``"TRACe A,"``. `progress` is called
        with the bytes of the block that have gone and their number in all. Cancelled, or too late,
        it ends the connection.
        """

        async def run(protocol: ScpiClientProtocol) -> None:
            start = encode_text(header)
            check_one_message(start)
            start = b"%b %b" % (start, block_header(len(data)))
            if len(data) < SHORT and progress is None:
                protocol.send(b"".join((start, data, self._ending.terminator)))
            else:
                await protocol.send_long(self._block(start, data, progress))
            await self._check(protocol)

        return self._request(_Request(f"{shorten(header)!r} to {self.where}", run), timeout)

    def _block(self, start: bytes, data: bytes, progress: Progress | None) -> Iterator[Unit]:
        yield (start,)
        view = memoryview(data)
        for at in range(0, len(data), PART):
            part = view[at : at + PART]
            yield (part,)
            if progress is not None:
                progress(at + len(part), len(data))
        yield (self._ending.terminator,)

    # Bytes

    def write_raw(self, data: bytes, timeout: float | None = None) -> Deferred[None]:
        """Sends bytes as they are."""

        async def run(protocol: ScpiClientProtocol) -> None:
            protocol.send(data)

        return self._request(_Request(f"{len(data)} bytes to {self.where}", run), timeout)

    def read(self, timeout: float | None = None) -> Deferred[bytes]:
        """The next response, without its terminator."""
        return self._read("a response", self._response_reader, timeout)

    def read_raw(self, count: int, timeout: float | None = None) -> Deferred[bytes]:
        """The next `count` bytes."""
        if not 0 < count <= self.max_response:
            return fail(BadArguments(f"a count is from 1 to {self.max_response}, not {count}"))
        return self._read(f"{count} bytes", partial(CountReader, count), timeout)

    def read_until(self, terminator: bytes, timeout: float | None = None) -> Deferred[bytes]:
        """Everything up to `terminator`, which is left out."""
        if not terminator:
            return fail(BadArguments("a terminator has at least one byte"))
        make = partial(UntilReader, terminator, self.max_response)
        return self._read(f"a response up to {terminator!r}", make, timeout)

    # What other wires have ways of their own for

    def trigger(self, timeout: float | None = None) -> Deferred[None]:
        """Triggers the instrument (``*TRG``)."""
        return self.write("*TRG", timeout)

    def status_byte(self, timeout: float | None = None) -> Deferred[int]:
        """The status byte, by ``*STB?``: a raw socket has no serial poll."""
        return self.query("*STB?", timeout).addCallback(_whole_number)

    def lock(self, wait: float = 0.0, timeout: float | None = None) -> Deferred[None]:
        """Locks the instrument, where it has ``SYSTem:LOCK``; waits up to `wait` seconds for it.

        Fails with `Locked`, or `NotAllowed` where there is no lock.
        """
        seconds = self.timeout if timeout is None else timeout
        return self._system_lock.acquire(seconds, wait)

    def unlock(self, timeout: float | None = None) -> Deferred[None]:
        """Frees the lock."""
        return self._system_lock.release(timeout)

    # Errors and the end

    def errors(self, timeout: float | None = None) -> Deferred[list[tuple[int, str]]]:
        """Empties the instrument's error queue: numbers and texts, oldest first."""
        request = _Request(f"the errors of {self.where}", self._read_errors)
        return self._request(request, timeout)

    def identity(self, timeout: float | None = None) -> Deferred[tuple[str, str, str, str]]:
        """Maker, model, serial number and firmware; empty where the instrument names fewer."""
        return self.query("*IDN?", timeout).addCallback(_four_fields)

    def connect(self, timeout: float | None = None) -> Deferred[None]:
        """Connects if that is not so already; requests do it by themselves."""

        async def run(protocol: ScpiClientProtocol) -> None:
            """Being connected is all."""

        return self._request(_Request(f"connecting to {self.where}", run), timeout)

    def clear(self) -> Deferred[None]:
        """Ends the connection, the one clear that every instrument understands on a raw socket.

        What it had not carried out or sent is dropped; the next request connects again. A request
        in progress fails with `Cancelled`.
        """
        if self._protocol is not None:
            self._protocol.clear()
        return succeed(None)

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        """Calls ``callback()`` when the connection has ended without this client's doing."""
        self._connections.on_lost = callback

    def close(self) -> Deferred[None]:
        """Closes the connection; fires when it has gone."""
        self._watch.close()
        self._system_lock.forget()
        return self._connections.close()

    # Between these

    def _encoded(self, message: str) -> bytes:
        data = encode_text(message)
        if self._ending.terminator == b"\n":
            check_one_message(data)
        return data + self._ending.terminator

    def _response_reader(self) -> Reader:
        ending = self._answers
        if ending.terminator:
            return ResponseReader(ending.terminator, self.max_response)
        return CountReader(ending.count) if ending.count else SilenceReader(self.max_response)

    def _ask(
        self,
        message: str,
        make: Callable[[], Reader],
        decode: Callable[[bytes | bytearray], T],
        timeout: float | None,
    ) -> Deferred[T]:
        protocol = self._protocol
        if protocol is not None and not (
            self._turn.taken
            or protocol.spent
            or protocol.out_of_step
            or self.check_errors
            or self.marker
        ):
            try:  # nothing has to be waited for; a coroutine would take twice as long
                data = self._encoded(message)
            except LabError as error:
                return fail(error)
            self._turn.taken = True
            protocol.drop_unread()
            protocol.send(data)
            plain = self._plain if make == self._response_reader else b""
            answer = protocol.read(make, self._answers.silence, plain)
            self._watch.begin(answer, self.timeout if timeout is None else timeout)
            return answer.addBoth(self._turn_over, message, decode)

        async def run(protocol: ScpiClientProtocol) -> bytes | bytearray:
            data = self._encoded(message)
            protocol.drop_unread()
            protocol.send(data)
            response = await protocol.read(make, self._answers.silence)
            await self._check(protocol)
            return response

        request = _Request(f"{shorten(message)!r} to {self.where}", run)
        return self._request(request, timeout).addCallback(decode)

    def _turn_over(
        self,
        result: bytes | bytearray | Failure,
        message: str,
        decode: Callable[[bytes | bytearray], T],
    ) -> T | Failure:
        late = self._watch.end()
        self._turn.release()
        if not isinstance(result, Failure):
            return decode(result)
        if late and result.check(CancelledError):
            raise TimedOut(f"{shorten(message)!r} to {self.where}", self._watch.seconds)
        return result

    def _read(
        self, what: str, make: Callable[[], Reader], timeout: float | None
    ) -> Deferred[bytes]:
        async def run(protocol: ScpiClientProtocol) -> bytes:
            return bytes(await protocol.read(make, self._answers.silence))

        return self._request(_Request(f"{what} from {self.where}", run), timeout)

    async def _check(self, protocol: ScpiClientProtocol) -> None:
        if self.check_errors:
            errors = await self._read_errors(protocol)
            if errors:
                text = "; ".join(f"{number}, {text}" for number, text in errors)
                raise DeviceFault(f"{self.where}: {text}", number=errors[0][0])

    async def _read_errors(self, protocol: ScpiClientProtocol) -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        while len(found) < MAX_ERRORS:
            protocol.send(b"SYST:ERR?" + self._ending.terminator)
            response = await protocol.read(self._response_reader, self._answers.silence)
            error = decode_error(decode_text(response))
            if error[0] == 0:
                break
            found.append(error)
        return found

    def _request(self, request: _Request[T], timeout: float | None) -> Deferred[T]:
        seconds = self.timeout if timeout is None else timeout
        return limited(self._in_turn(request), request.name, seconds, self._clock)

    async def _in_turn(self, request: _Request[T]) -> T:
        await self._turn.acquire()
        try:
            protocol = self._protocol = await self._in_step()
            self._system_lock.check(protocol)
            return await request.run(protocol)
        finally:
            self._turn.release()

    async def _in_step(self) -> ScpiClientProtocol:
        """A connection on which no late answer can come any more."""
        protocol = await self._connections.kept()
        if protocol.out_of_step and not self.marker:
            protocol.abort()
            protocol = await self._connections.kept()
        if self.marker and (protocol.out_of_step or not self._marked):
            await self._mark(protocol)
        return protocol

    async def _mark(self, protocol: ScpiClientProtocol) -> None:
        """Learns the answer of the marker; later reads up to it, dropping what was late."""
        end = self._answers.terminator or b"\n"
        protocol.drop_unread()
        protocol.send(encode_text(self.marker) + self._ending.terminator)
        line = b""
        try:
            while not line or line != self._marked:
                line = bytes(await protocol.read(partial(UntilReader, end, self.max_response)))
                self._marked = self._marked or line
        except BaseException:
            protocol.abort()  # else the answer of this marker could be taken for the next one's
            raise
        protocol.out_of_step = False


def _as_bytearray(data: bytes | bytearray) -> bytearray:
    return data if isinstance(data, bytearray) else bytearray(data)


def _whole_number(response: str) -> int:
    try:
        return int(response)
    except ValueError:
        raise DeviceFault(f"{shorten(response)!r} is no whole number") from None


def _four_fields(response: str) -> tuple[str, str, str, str]:
    fields = [field.strip() for field in response.split(",", 3)]
    maker, model, serial, firmware = [*fields, "", "", "", ""][:4]
    return maker, model, serial, firmware
