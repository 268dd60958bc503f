"""A Deferred-based client of instruments that speak HiSLIP, with all that VISA has for them.

    dmm = HislipClient("192.168.1.5")
    print(await dmm.query("*IDN?"))
    await dmm.lock(wait=10)
    await dmm.write("CONF:VOLT:DC 10")
    volts = float(await dmm.query("READ?", timeout=20))
    await dmm.unlock()

One session is kept, made when it is first needed and made again when it is lost. An answer that
comes after its time limit is told from the next one by its number and dropped. Status, locks and
`HislipClient.clear` have a connection of their own and do not wait for a query in progress.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure

from labnet.errors import (
    LabError,
    NotAllowed,
    NotConnected,
    TimedOut,
    UnknownName,
    VisaStatus,
    quote,
    shorten,
)
from labnet.framing.blocks import block_header, decode_text, encode_text, take_block
from labnet.logs import Logger
from labnet.transports.dialing import client_endpoint, shown_address
from labnet.transports.kept import Connections
from labnet.transports.turns import Turns, Watch, limited
from labnet.wires.hislip import codec
from labnet.wires.hislip.answers import Progress
from labnet.wires.hislip.channels import Channel
from labnet.wires.hislip.client_locks import LockInfo, LockRefused, milliseconds
from labnet.wires.hislip.codec import Fatal, Lock, Message, RemoteLocal, Type
from labnet.wires.hislip.link import Link

PORT = 4880
"""The port of HiSLIP."""

MAX_RESPONSE = (1 << 30) + 1024
"""Longest answer that is taken unless a client says otherwise, in bytes."""

__all__ = ["HislipClient", "LockInfo", "LockRefused", "Progress", "RemoteLocal"]

T = TypeVar("T")


class HislipClient:
    """One instrument. `host` is its name or address, or a Twisted endpoint string or object; `name`
    is the sub-address, as in ``TCPIP::host::hislip0::INSTR``.

    `timeout` is the seconds a request may take, connecting and waiting for earlier ones included;
    each request may have its own. After it the session is as good as before.

    `keepalive` has the system look for a peer that has vanished. `max_message_size` is the longest
    HiSLIP message in bytes that the server may send; `max_response` bounds a whole answer.

    With `overlap` messages do not wait for the answers to those before (IVI-6.1, overlap mode):
    answers are read in the order of their messages, each of which must have as many as are read.
    When one is given up, those that wait behind it fail with `Cancelled`, and the instrument is
    cleared before the next message. `NotAllowed` where the instrument has no such mode.

    Methods return Deferreds that fail with a `LabError`, whose `visa_status` says what VISA would:
    `TimedOut` naming the message and the instrument, `NotConnected`, `UnknownName` for a
    sub-address that the server does not have, `Locked`, `TooLarge`, `DeviceFault`, `BadArguments`,
    or `Cancelled` when `clear` ended the request. Nothing is sent twice. A session that is lost
    takes its locks with it; the first request after that fails and says so.
    """

    _log = Logger()

    def __init__(
        self,
        host: str | IStreamClientEndpoint,
        port: int = PORT,
        name: str = "hislip0",
        *,
        timeout: float = 5.0,
        keepalive: bool = True,
        overlap: bool = False,
        max_message_size: int = 1 << 20,
        max_response: int = MAX_RESPONSE,
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.name = name
        self.where = shown_address(host, port)
        self.timeout = timeout
        self.max_message_size = max_message_size
        self.max_response = max_response
        self.keepalive = keepalive
        self.overlap = overlap
        self._clock = reactor
        self._turn = Turns()
        self._clears = Turns()
        self._watch = Watch(reactor)
        self._link: Link | None = None
        self._opening: Deferred[None] | None = None
        self._openers: list[Deferred[Link]] = []
        self._lost_lock = False
        self._on_service_request: Callable[[int], None] | None = None
        self._in_pieces = True  # of the next connection
        self._connections: Connections[Channel] = Connections(
            client_endpoint(host, port, reactor, timeout), self._build, self.where, reactor
        )

    # Messages

    def query(self, message: str, timeout: float | None = None) -> Deferred[str]:
        """Sends a message and gives its answer as text, without the line end."""
        return self._ask(message, decode_text, None, timeout)

    def query_bytes(self, message: str | bytes, timeout: float | None = None) -> Deferred[bytes]:
        """Sends a message and gives its whole answer, as it comes."""
        return self._ask(message, bytes, None, timeout)

    def query_block(
        self, message: str, progress: Progress | None = None, timeout: float | None = None
    ) -> Deferred[bytearray]:
        """Sends a message that is answered by one data block, and gives the bytes of the block.

        `progress` is called with the bytes that have come and their number in all.
        """
        return self._ask(message, take_block, progress, timeout)

    def write(self, message: str | bytes, timeout: float | None = None) -> Deferred[None]:
        """Sends a message that has no answer; fires when it has been handed to the system."""

        async def run(link: Link) -> None:
            await link.send(encode_text(message))

        return self._request(_shown(message, self.where), run, timeout)

    def write_block(
        self,
        header: str,
        data: bytes,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Deferred[None]:
        """Sends a command with a definite-length block as its last argument.

        `header` is what comes before the block: ``"DATA"``, or ``"TRACe A,"``. `progress` is called
        with the bytes of the message that have gone and their number in all.
        """

        async def run(link: Link) -> None:
            start = b"%b %b" % (encode_text(header), block_header(len(data)))
            await link.send(start, data, progress=progress)

        return self._request(_shown(header, self.where), run, timeout)

    def read(self, timeout: float | None = None) -> Deferred[bytes]:
        """The answer to the message that was written last, as it comes."""

        async def run(link: Link) -> Deferred[bytearray]:
            return link.read()

        return self._answered(f"an answer from {self.where}", run, timeout).addCallback(bytes)

    def trigger(self, timeout: float | None = None) -> Deferred[None]:
        """Triggers the instrument, after the messages before it."""

        async def run(link: Link) -> None:
            link.trigger()

        return self._request(f"a trigger of {self.where}", run, timeout)

    def _ask(
        self,
        message: str | bytes,
        decode: Callable[[bytearray], T],
        progress: Progress | None,
        timeout: float | None,
    ) -> Deferred[T]:
        link = self._link
        if link is not None and not self._turn.taken and link.ready_for(len(message)):
            try:  # nothing has to be waited for; a coroutine would take half as long again
                answer = link.ask(encode_text(message), progress)
            except LabError as error:
                return fail(error)
            self._turn.taken = True
            self._watch.begin(answer, self.timeout if timeout is None else timeout)
            return answer.addBoth(self._turn_over, message, decode)

        async def run(link: Link) -> Deferred[bytearray]:
            await link.send(encode_text(message))
            return link.read(progress, True)

        return self._answered(_shown(message, self.where), run, timeout).addCallback(decode)

    def _turn_over(
        self, result: bytearray | Failure, message: str | bytes, decode: Callable[[bytearray], T]
    ) -> T | Failure:
        late = self._watch.end()
        self._turn.release()
        if not isinstance(result, Failure):
            return decode(result)
        if late and result.check(CancelledError):
            raise TimedOut(_shown(message, self.where), self._watch.seconds)
        return result

    # Beside the messages

    def connect(self, timeout: float | None = None) -> Deferred[None]:
        """Opens the session if that is not so already; requests do it by themselves."""

        async def connect() -> None:
            await self._linked()

        return self._limited(f"connecting to {self.where}", connect(), timeout)

    def status_byte(self, timeout: float | None = None) -> Deferred[int]:
        """Serial poll: the status byte."""

        async def poll() -> int:
            return (await (await self._linked()).status()).control

        return self._limited(f"the status byte of {self.where}", poll(), timeout)

    def clear(self, timeout: float | None = None) -> Deferred[None]:
        """Device clear: the instrument drops what it has not carried out or sent.

        A request in progress fails with `Cancelled`.
        """
        return self._limited(f"clearing {self.where}", self._clear(), timeout)

    async def _clear(self) -> None:
        await self._clears.acquire()
        try:
            await (await self._linked()).clear(self.overlap)
        finally:
            self._clears.release()

    def remote_local(self, request: RemoteLocal, timeout: float | None = None) -> Deferred[None]:
        """Remote or local control of the instrument (viGpibControlREN)."""

        async def control() -> None:
            await (await self._linked()).remote(RemoteLocal(request))

        return self._limited(f"remote or local control of {self.where}", control(), timeout)

    def on_service_request(self, callback: Callable[[int], None] | None) -> None:
        """Calls ``callback(status_byte)`` when the instrument asks for service.

        Enable the reasons with ``*SRE``. The next request comes after a `status_byte`.
        """
        self._on_service_request = callback

    # Locks

    def lock(
        self, key: str = "", wait: float = 0.0, timeout: float | None = None
    ) -> Deferred[bool]:
        """Locks the instrument, exclusively or with all who give the same `key`.

        Waits up to `wait` seconds for others, to which `timeout` is added. Fires with whether this
        was news: False if the session has such a lock already. Fails with `Locked`.
        """

        async def lock() -> bool:
            patience = milliseconds(wait)
            link = await self._linked()
            answer = await link.lock(encode_text(key), patience)
            if answer.control == Lock.FAILED:
                raise LockRefused(self._shown_name, self.where)
            granted = answer.control == Lock.GRANTED
            link.locks += granted
            return granted

        seconds = (self.timeout if timeout is None else timeout) + wait
        return self._limited(f"a lock of {self._shown_name}", lock(), seconds)

    def unlock(self, timeout: float | None = None) -> Deferred[Literal["exclusive", "shared"]]:
        """Releases a lock, of two the exclusive one first; gives which one.

        It is released when the messages before have been carried out. Fails with `NotAllowed` if
        the session has no lock.
        """

        async def unlock() -> Literal["exclusive", "shared"]:
            link = await self._linked()
            answer = await link.release()
            if answer.control not in (Lock.GRANTED, Lock.SHARED_RELEASED):
                error = NotAllowed(f"this session has no lock of {self._shown_name}")
                error.visa_status = VisaStatus.SESN_NLOCKED
                raise error
            link.locks -= 1
            return "exclusive" if answer.control == Lock.GRANTED else "shared"

        return self._limited(f"releasing {self._shown_name}", unlock(), timeout)

    def lock_info(self, timeout: float | None = None) -> Deferred[LockInfo]:
        """Whether the instrument is locked, and by how many."""

        async def info() -> LockInfo:
            answer = await (await self._linked()).request(Type.ASYNC_LOCK_INFO)
            return LockInfo(bool(answer.control), answer.parameter)

        return self._limited(f"the locks of {self._shown_name}", info(), timeout)

    # The session

    def close(self) -> Deferred[None]:
        """Closes the session, which frees its locks; fires when it has gone."""
        if self._opening is not None:
            self._opening.cancel()
        link, self._link = self._link, None
        if link is not None:
            link.locks = 0
            link.fail(NotConnected(f"the client of {self.where} was closed"), orderly=True)
        self._lost_lock = False
        self._watch.close()
        return self._connections.close()

    @property
    def _shown_name(self) -> str:
        return f"{self.name or 'hislip0'} at {self.where}"

    async def _linked(self) -> Link:
        """The session, opened if there is none."""
        link = self._link
        if link is not None and not link.spent:
            return link
        if self._lost_lock:
            self._lost_lock = False
            raise NotConnected(f"the session with {self.where} was lost, and its lock with it")
        waiting: Deferred[Link] = Deferred()  # cancelled, others may still wait
        self._openers.append(waiting)
        if self._opening is None:
            what = f"opening {self._shown_name}"
            self._opening = limited(self._open(), what, self.timeout, self._clock)
            self._opening.addBoth(self._opened)
        return await waiting

    async def _open(self) -> None:
        link = Link(self.where, self.max_response, self._serviced, self._lost)
        try:
            response = await link.begin(await self._channel(True), self.name)
            self._check(response)
            await link.pair(await self._channel(False), response, self.max_message_size)
            if link.overlap != self.overlap:
                await link.clear(self.overlap)  # which asks for the other mode
            if self.overlap and not link.overlap:
                raise NotAllowed(f"{self._shown_name} has no overlap mode")
        except BaseException:
            link.fail(NotConnected(f"{self._shown_name} was not opened"))
            raise
        self._link = link

    async def _channel(self, synchronous: bool) -> Channel:
        self._in_pieces = synchronous
        return await self._connections.new()

    def _build(self) -> Channel:
        return Channel(self.where, self.keepalive, self._in_pieces)

    def _check(self, response: Message) -> None:
        """Raises what an answer to Initialize stands for."""
        if response.type == Type.INITIALIZE_RESPONSE:
            return
        if response.type != Type.FATAL_ERROR:
            raise NotConnected(f"{self.where} does not speak HiSLIP")
        code, text = response.control, codec.decode_text(response.payload)
        if code == Fatal.INVALID_INITIALIZATION or code >= codec.FIRST_VENDOR_TYPE:
            raise UnknownName(self.name, (), f"name of an instrument at {self.where}:")
        raise NotConnected(f"{self.where} refused: {text or f'error {code}'}")

    def _opened(self, result: Failure | None) -> None:
        self._opening = None
        waiting, self._openers = self._openers, []
        for opener in waiting:
            if isinstance(result, Failure):
                opener.errback(self._not_opened(result))
            else:
                assert self._link is not None
                opener.callback(self._link)

    def _not_opened(self, failure: Failure) -> Failure:
        """VISA's word for whatever keeps a session from being opened is that it was not found."""
        if failure.check(CancelledError):
            return Failure(NotConnected(f"the client of {self.where} was closed"))
        error = failure.value
        if isinstance(error, NotConnected):
            error.visa_status = VisaStatus.RSRC_NFOUND
        return Failure(error)

    def _lost(self, link: Link, error: LabError) -> None:
        self._lost_lock = self._lost_lock or link.locks > 0

    def _serviced(self, status_byte: int) -> None:
        if self._on_service_request is None:
            return
        try:
            self._on_service_request(status_byte)
        except Exception:
            self._log.failure("a callback for service requests of {where}", where=self.where)

    # Requests

    def _request(
        self,
        what: str,
        run: Callable[[Link], Coroutine[Any, Any, None]],
        timeout: float | None,
    ) -> Deferred[None]:
        """A request that has no answer."""
        return self._limited(what, self._in_turn(run), timeout)

    def _answered(
        self,
        what: str,
        run: Callable[[Link], Coroutine[Any, Any, Deferred[T]]],
        timeout: float | None,
    ) -> Deferred[T]:
        """A request that has one, for which `run` gives a Deferred."""
        return self._limited(what, self._in_turn_answered(run), timeout)

    def _limited(
        self, what: str, work: Coroutine[Any, Any, T], timeout: float | None
    ) -> Deferred[T]:
        seconds = self.timeout if timeout is None else timeout
        return limited(work, what, seconds, self._clock)

    async def _in_turn(self, run: Callable[[Link], Coroutine[Any, Any, T]]) -> T:
        await self._turn.acquire()
        try:
            return await run(await self._clear_link())
        finally:
            self._turn.release()

    async def _in_turn_answered(
        self, run: Callable[[Link], Coroutine[Any, Any, Deferred[T]]]
    ) -> T:
        await self._turn.acquire()
        kept = True
        try:
            link = await self._clear_link()
            answer = await run(link)
            if link.overlap:
                kept = False
                self._turn.release()
            return await answer
        finally:
            if kept:
                self._turn.release()

    async def _clear_link(self) -> Link:
        """The session when a message may be sent."""
        while True:
            link = await self._linked()
            await link.calm()
            if not link.unclear:
                return link
            await link.quiet()  # who waits ahead of what was given up still gets an answer
            await self._clear()  # when it is done, another may have begun


def _shown(message: str | bytes, where: str) -> str:
    text = repr(shorten(message)) if isinstance(message, str) else quote(message)
    return f"{text} to {where}"
