"""Keeps a client's link: connects, takes turns, ends what was given up, connects again."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from functools import partial
from random import getrandbits
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.python.failure import Failure

from labnet.errors import (
    BadArguments,
    LabError,
    Locked,
    NotAllowed,
    NotConnected,
    TimedOut,
    UnknownName,
    VisaStatus,
)
from labnet.framing.blocks import encode_text
from labnet.logs import Logger
from labnet.transports.asking import Progress
from labnet.transports.kept import keep_alive
from labnet.transports.listening import CannotListen
from labnet.transports.turns import Turns, Watch
from labnet.wires.vxi11 import codec
from labnet.wires.vxi11.codec import Procedure, Program
from labnet.wires.vxi11.connection import RpcConnection
from labnet.wires.vxi11.exchange import Exchange
from labnet.wires.vxi11.interrupt_server import InterruptServer
from labnet.wires.vxi11.linked import (
    LATE,
    MAX_REPLY,
    SETTLE,
    SHORTEST,
    LinkedDevice,
    make_link,
)
from labnet.wires.vxi11.portmap import PortmapClient, dial
from labnet.wires.vxi11.rpc import PORTMAPPER_PORT, TCP, Mapping

DEFAULT_LIMIT = 1 << 30
"""Longest response in bytes, unless the caller says otherwise."""

HANDLE = b"labnet"
"""The handle of service requests; there is one link on a connection."""

_HOST_AND_PORT = re.compile(r"([^:]+):([0-9]{1,5})\Z")

_IN_STEP = (Locked, NotAllowed, UnknownName, BadArguments)
"""Failures after which nothing is left to come from the instrument."""

T = TypeVar("T")


class LinkKeeper:
    """The part of `labnet.wires.vxi11.client.Vxi11Client` that is about the connection."""

    _log = Logger()

    def __init__(
        self,
        host: str,
        device: str = "inst0",
        *,
        port: int | None = None,
        timeout: float = 5.0,
        lock_timeout: float = 0.0,
        keepalive: float = 60.0,
        terminator: str = "\n",
        max_response: int = DEFAULT_LIMIT,
        together: bool = False,
        portmapper_port: int = PORTMAPPER_PORT,
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        if port is None and (match := _HOST_AND_PORT.match(host)) is not None:
            host, port = match[1], int(match[2])
        self.host = host
        self.device = device
        self.where = host if port is None else f"{host}:{port}"
        self.timeout = timeout
        self.lock_timeout = lock_timeout
        self.keepalive = keepalive
        self.max_response = max_response
        self.together = together
        self._port = port
        self._portmapper_port = portmapper_port
        self._terminator = encode_text(terminator)
        self._clock = reactor
        self._turn = Turns()
        self._watch = Watch(reactor)
        self._linked: LinkedDevice | None = None
        self._serviced: Callable[[], None] | None = None
        self._on_lost: Callable[[], None] | None = None
        self._interrupts: InterruptServer | None = None

    # Requests

    @property
    def _flags(self) -> int:
        return codec.WAITLOCK if self.lock_timeout else 0

    def _left(self, end: float) -> float:
        """What is left of a request's time, in seconds."""
        return max(SHORTEST, end - float(self._clock.seconds()))

    def _request(
        self,
        name: str,
        run: Callable[[LinkedDevice, float], Coroutine[Any, Any, T]],
        timeout: float | None,
        *,
        fresh: bool = False,
        reserve: float = 0.0,
    ) -> Deferred[T]:
        """Runs a request in its turn; `reserve` is what of its time belongs to a lock."""
        seconds = self.timeout if timeout is None else timeout
        end = self._clock.seconds() + seconds - reserve
        turn = _Turn(self._turn)
        done = Deferred.fromCoroutine(self._run(turn, run, end, fresh))
        late = seconds + self.lock_timeout + 2 * LATE  # the calls have their own, earlier limits
        done.addTimeout(late, self._clock, partial(_timed_out, name, self.where, seconds))
        return done.addErrback(self._given_up, turn, name, seconds)

    def _exchange(
        self,
        name: Callable[[], str],
        begin: Callable[[Exchange], Deferred[bytearray]],
        timeout: float | None,
        progress: Progress | None = None,
        *,
        fresh: bool = True,
    ) -> Deferred[bytearray]:
        """A message, a response, or both; `fresh` if what is late must not be taken for it."""
        linked = self._linked
        if linked is None or not linked.usable or self._turn.taken or linked.out_of_step & fresh:

            async def run(linked: LinkedDevice, end: float) -> bytearray:
                return await begin(self._new_exchange(linked, end, progress))

            return self._request(name(), run, timeout, fresh=fresh)
        return self._exchange_now(linked, name, begin, timeout, progress)

    def _exchange_now(
        self,
        linked: LinkedDevice,
        name: Callable[[], str],
        begin: Callable[[Exchange], Deferred[bytearray]],
        timeout: float | None,
        progress: Progress | None,
    ) -> Deferred[bytearray]:
        """`_exchange` when nothing has to be waited for."""
        seconds = self.timeout if timeout is None else timeout
        exchange = self._new_exchange(linked, self._clock.seconds() + seconds, progress)
        turn = _Turn(self._turn)
        turn.take(linked)
        try:
            done = begin(exchange)
        except LabError as error:
            turn.end()
            return fail(error)
        if not done.called:
            self._watch.begin(done, seconds + self.lock_timeout + LATE)
        return done.addBoth(self._exchanged, turn, name, seconds)

    def _new_exchange(
        self, linked: LinkedDevice, end: float, progress: Progress | None
    ) -> Exchange:
        left = partial(self._left, end)
        return Exchange(
            linked, left, self.lock_timeout, self.max_response, progress, self.together
        )

    def _exchanged(
        self, result: bytearray | Failure, turn: _Turn, name: Callable[[], str], seconds: float
    ) -> bytearray | Failure:
        late = self._watch.end()
        if not isinstance(result, Failure):
            turn.end()
            return result
        if late and result.check(CancelledError):
            result = Failure(TimedOut(name(), seconds))
        return self._given_up(result, turn, name(), seconds)

    async def _run(
        self,
        turn: _Turn,
        run: Callable[[LinkedDevice, float], Coroutine[Any, Any, T]],
        end: float,
        fresh: bool,
    ) -> T:
        await turn.begin(self._left(end), self._clock)
        linked = await self._link(end)
        turn.linked = linked
        if fresh and linked.out_of_step:
            await self._resynchronise(linked, end)
        result = await run(linked, end)
        turn.end()
        return result

    async def _resynchronise(self, linked: LinkedDevice, end: float) -> None:
        """What is late must not be the answer to the next message."""
        try:
            await self._generic(linked, Procedure.DEVICE_CLEAR, end)
        except NotAllowed:
            pass  # an instrument without device clear: the new message drops the old answer
        linked.out_of_step = False

    def _given_up(self, failure: Failure, turn: _Turn, name: str, seconds: float) -> Failure:
        """A request that has failed: the next one begins when the link is in order again."""
        linked = turn.linked
        if linked is None or not linked.connection.outstanding:
            if linked is not None and not failure.check(*_IN_STEP):
                linked.out_of_step = True
            turn.end()
        else:
            linked.out_of_step = True
            settled = Deferred.fromCoroutine(linked.settle())
            settled.addErrback(self._not_settled).addBoth(lambda _: turn.end())
        if failure.check(TimedOut):
            return Failure(TimedOut(f"{name} at {self.where}", seconds))
        return failure

    def _not_settled(self, failure: Failure) -> None:
        self._log.failure("ending a call of {where}", failure, where=self.where)

    # The connection

    async def _link(self, end: float) -> LinkedDevice:
        """The link that is kept, or a new one."""
        linked = self._linked
        if linked is not None:
            if linked.usable:
                return linked
            self._linked = None
            linked.connection.abort()
            if linked.locked:
                raise NotConnected(
                    f"the connection to {self.where} was lost,"
                    f" and with it the lock of {self.device}"
                )
        linked = self._linked = await self._new_link(end)
        linked.connection.when_lost.addCallback(lambda _: self._ended(linked))
        if self._serviced is not None:
            await self._start_interrupts(linked, self._left(end))
        return linked

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        """Calls ``callback()`` when the connection has ended without this client's doing."""
        self._on_lost = callback

    def _ended(self, linked: LinkedDevice) -> None:
        if linked is self._linked and linked.connection.cut and self._on_lost is not None:
            self._on_lost()

    async def _new_link(self, end: float) -> LinkedDevice:
        try:
            port = await self._find_port(end)
            connection = await dial(
                self.host,
                port,
                lambda: RpcConnection(f"{self.host}:{port}", MAX_REPLY),
                self._left(end),
                self._clock,
            )
        except NotConnected as error:
            error.visa_status = VisaStatus.RSRC_NFOUND
            raise
        keep_alive(connection.transport, self.keepalive)
        try:
            return await make_link(
                self.host, connection, self.device, getrandbits(31), self._left(end), self._clock
            )
        except BaseException:
            connection.abort()
            raise

    async def _find_port(self, end: float) -> int:
        if self._port is not None:
            return self._port
        mapper = PortmapClient(
            self.host, self._portmapper_port, timeout=self._left(end), reactor=self._clock
        )
        port = await mapper.get_port(Mapping(Program.CORE, codec.VERSION, TCP, 0))
        if not 0 < port < 65536:
            raise NotConnected(f"{self.host} has a port mapper, but no VXI-11 instrument")
        return port

    def close(self) -> Deferred[None]:
        """Ends the link and the connection; fires when it has gone."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        turn = _Turn(self._turn)
        try:
            await turn.begin(SETTLE, self._clock)
        except TimedOut:
            pass  # the connection closes under the request in progress
        try:
            linked, self._linked = self._linked, None
            self._serviced = None
            self._close_interrupts()
            self._watch.close()
            if linked is not None:
                await linked.close()
                await _lost(linked.connection)
        finally:
            turn.end()

    # Service requests

    async def _start_interrupts(self, linked: LinkedDevice, limit: float) -> None:
        if linked.channel:
            return
        assert linked.connection.transport is not None
        here: Any = linked.connection.transport.getHost()
        there: Any = linked.connection.transport.getPeer()
        if not isinstance(getattr(here, "host", None), str) or ":" in here.host:
            raise NotAllowed("service requests of VXI-11 need an IPv4 connection")
        self._close_interrupts()
        try:
            self._interrupts = InterruptServer(here.host, there.host, self._service, self._clock)
        except CannotListen as error:
            raise NotAllowed(str(error)) from None
        try:
            await linked.open_channel(here.host, self._interrupts.port, limit)
            await linked.enable_service(HANDLE, True, limit)
        except BaseException:
            self._close_interrupts()
            self._serviced = None
            raise

    async def _stop_interrupts(self, linked: LinkedDevice, limit: float) -> None:
        try:
            if linked.channel:
                await linked.enable_service(HANDLE, False, limit)
                await linked.close_channel(limit)
        finally:
            self._close_interrupts()

    def _close_interrupts(self) -> None:
        server, self._interrupts = self._interrupts, None
        if server is not None:
            server.close()

    def _service(self, handle: bytes) -> None:
        if self._serviced is None or handle != HANDLE:
            return
        try:
            self._serviced()
        except Exception:
            self._log.failure("a callback for service requests of {where}", where=self.where)

    async def _generic(self, linked: LinkedDevice, procedure: Procedure, end: float) -> Any:
        return await linked.generic(procedure, self._left(end), self._flags, self.lock_timeout)


class _Turn:
    """The right of one request to the link; `linked` is what it has used."""

    def __init__(self, turns: Turns) -> None:
        self.linked: LinkedDevice | None = None
        self._turns = turns
        self._mine = False

    async def begin(self, limit: float, clock: Any) -> None:
        """Waits for the requests before it; `TimedOut` after `limit` seconds."""
        if self._turns.taken:
            waiting = Deferred.fromCoroutine(self._turns.acquire())
            late = partial(_timed_out, "waiting", "the link", limit)
            await waiting.addTimeout(limit, clock, late)
        self._mine = self._turns.taken = True

    def take(self, linked: LinkedDevice) -> None:
        """Begins at once, where nobody else has begun."""
        self._mine = self._turns.taken = True
        self.linked = linked

    def end(self) -> None:
        """Lets the next request begin."""
        if self._mine:
            self._mine = False
            self._turns.release()


def _lost(connection: RpcConnection) -> Deferred[None]:
    """Fires when the connection has ended."""
    gone: Deferred[None] = Deferred()

    def tell(result: None) -> None:
        gone.callback(None)

    connection.when_lost.addCallback(tell)
    return gone


def _timed_out(name: str, where: str, seconds: float, result: object, limit: float) -> Any:
    if isinstance(result, Failure) and not result.check(CancelledError, LabError):
        return result
    raise TimedOut(f"{name} at {where}", seconds)
