"""A Deferred-based client of sm_bluesky's instrument servers and of labnet's `tsv` listeners.

    client = TsvClient("stage-pc")
    await client.send("move_abs", 12.5)
    reply = await client.send("limits")
    low, high, unit = reply.fields

A real sm_bluesky server serves one connection at a time, so that a client that stays connected
shuts everybody else out: unless told otherwise, each request has a connection of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, fail
from twisted.internet.interfaces import IStreamClientEndpoint

from labnet.errors import BadArguments, DeviceFault, LabError, TooLarge, shorten
from labnet.framing.lines import Line, LineSplitter
from labnet.transports.dialing import client_endpoint, shown_address
from labnet.transports.kept import ClientProtocol, Connections, no_answer
from labnet.transports.turns import limited
from labnet.wires.tsv.codec import Reply, decode_reply, encode_request, failure

PORT = 7891
"""The port of the sm_bluesky command line and of its own client."""

_PING = b"ping\n"


class TsvClientProtocol(ClientProtocol):
    """One connection to a TSV server, with at most one request in flight.

    Lines that come while nobody waits, and lines without a status after the first reply, are the
    rest of the reply before: they are thrown away.
    """

    def __init__(self, where: str, max_reply: int) -> None:
        super().__init__(where)
        self.max_reply = max_reply
        self._splitter = LineSplitter(limit=max_reply)
        self._waiting: Deferred[Reply | None] | None = None
        self._take: Callable[[Reply], bool] = lambda reply: True
        self._first: Reply | None = None
        self._answered = False

    def exchange(self, request: bytes) -> Deferred[Reply | None]:
        """Sends a line; fires with its reply, or with None if the server closes without one."""
        self._take = lambda reply: True
        return self._send(request)

    def exchange_then_ping(self, request: bytes) -> Deferred[Reply | None]:
        """Sends a line and then ``ping``; fires when the reply of the ``ping`` has come.

        The result is the first reply before it, or success without data if there was none. If that
        reply is itself an acknowledgement the second one is not waited for: do not use the
        connection again.
        """

        def take(reply: Reply) -> bool:
            if self._first is None:
                self._first = reply
            return reply.ok and not reply.data

        self._take = take
        return self._send(request + _PING)

    def _send(self, data: bytes) -> Deferred[Reply | None]:
        assert self._waiting is None, "one request at a time"
        self._splitter.clear()
        self._first = None
        waiting: Deferred[Reply | None] = Deferred(self._cancelled)
        if self.spent:
            waiting.callback(None)
        else:
            assert self.transport is not None
            self._waiting = waiting
            self.transport.write(data)
        return waiting

    def _cancelled(self, _: Deferred[Reply | None]) -> None:
        # The reply may still come and would be taken for the next one: the connection is spent.
        self._waiting = None
        self.abort()

    def dataReceived(self, data: bytes) -> None:
        waiting = self._waiting
        for line in self._splitter.feed(data):
            if waiting is None or self._waiting is not waiting:
                return  # what follows an answer in one read cannot answer the next request
            self._line(line)

    def _line(self, line: Line) -> None:
        if not isinstance(line, bytes):
            limit = f"a reply of {self.where} exceeds the limit of {self.max_reply} bytes"
            self._fail(TooLarge(limit))
            return
        reply = decode_reply(line)
        if reply is not None:
            self._answered = True
            if self._take(reply):
                self._finish(self._first or reply)
        elif not self._answered:
            text = shorten(line.decode("utf-8", "backslashreplace"))
            self._fail(DeviceFault(f"{self.where} answered without a status: {text!r}"))

    def _finish(self, reply: Reply | None) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(reply)

    def _fail(self, error: LabError) -> None:
        waiting, self._waiting = self._waiting, None
        self.abort()
        if waiting is not None:
            waiting.errback(error)

    def ended(self) -> None:
        self._finish(self._first)


class TsvClient:
    """Requests to one TSV server.

    `address` is ``host``, ``host:port``, a Twisted endpoint string or an endpoint; `timeout` the
    seconds a request may take, connecting included; `max_reply` the longest reply line in bytes.

    With ``persistent=True`` one connection is kept, made again with growing pauses when it is lost,
    and requests wait for each other. Use it for labnet's servers, or for a server that is yours
    alone; a server that sends two replies to one request gets out of step with it.

    Methods return Deferreds that fail with a `LabError`: `UnknownName` for a command that the
    server does not have, `DeviceFault` with the server's text, `TimedOut`, `NotConnected`,
    `TooLarge`, `BadArguments` for what the wire cannot carry. A request that timed out may have
    been carried out, or may still be.
    """

    def __init__(
        self,
        address: str | IStreamClientEndpoint = f"127.0.0.1:{PORT}",
        *,
        timeout: float = 10.0,
        persistent: bool = False,
        max_reply: int = 1 << 26,
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.where = shown_address(address, PORT)
        self.timeout = timeout
        self.persistent = persistent
        self.max_reply = max_reply
        self._clock = reactor
        self._turn = DeferredLock()
        self._connections = Connections(
            client_endpoint(address, PORT, reactor, timeout), self._build, self.where, reactor
        )

    def send(
        self, command: str, *arguments: object, timeout: float | None = None
    ) -> Deferred[Reply]:
        """One command, with its reply."""
        return self._request(command, arguments, timeout, self._exchange)

    def send_silent(
        self, command: str, *arguments: object, timeout: float | None = None
    ) -> Deferred[Reply]:
        """One command that a server may leave without a reply; silence is success without data."""
        return self._request(command, arguments, timeout, self._exchange_then_ping)

    def ping(self, timeout: float | None = None) -> Deferred[None]:
        """Fires when the server has answered."""
        return self.send("ping", timeout=timeout).addCallback(_nothing)

    def command_list(self, timeout: float | None = None) -> Deferred[tuple[str, ...]]:
        """The names of all commands (servers of sm-bluesky 1.1 and later)."""
        return self.send("command_list", timeout=timeout).addCallback(lambda reply: reply.fields)

    def connect_hardware(self, timeout: float | None = None) -> Deferred[str]:
        """Connects the hardware; the server's text, or an empty one for a server that says none."""
        return self.send_silent("connect_hardware", timeout=timeout).addCallback(_text)

    def disconnect_hardware(self, timeout: float | None = None) -> Deferred[str]:
        """Disconnects the hardware; the server's text, or an empty one."""
        return self.send_silent("disconnect_hardware", timeout=timeout).addCallback(_text)

    def shutdown(self, timeout: float | None = None) -> Deferred[None]:
        """Ends the server, which closes the connection without a reply; fails if it refuses."""
        request = self._request("shutdown", (), timeout, self._exchange_until_closed)
        return request.addCallback(_nothing)

    def get(self, node: str, timeout: float | None = None) -> Deferred[Reply]:
        """The value of a parameter of a labnet server, by its dotted path."""
        return self.send("get", node, timeout=timeout)

    def set(self, node: str, value: object, timeout: float | None = None) -> Deferred[None]:
        """Sets a parameter of a labnet server."""
        return self.send("set", node, value, timeout=timeout).addCallback(_nothing)

    def lock(
        self, node: str, name: str = "", lease: float = 0.0, timeout: float | None = None
    ) -> Deferred[str]:
        """Locks a node of a labnet server; the token that `unlock` and `with_token` need.

        `name` tells others who holds it. A lock without a `lease` (in seconds) ends with the
        connection, so it needs ``persistent=True``; `BadArguments` otherwise.
        """
        if not lease and not self.persistent:
            return fail(
                BadArguments(
                    f"a lock on {node} without a lease would end with the connection of this"
                    " request: give a lease, or make the client with persistent=True"
                )
            )
        arguments: tuple[object, ...] = (node,)
        if name or lease:
            arguments += (name or "client", f"{lease:g}")
        return self.send("lock", *arguments, timeout=timeout).addCallback(_text)

    def unlock(self, token: str, timeout: float | None = None) -> Deferred[None]:
        """Frees what was locked under `token`."""
        return self.send("unlock", token, timeout=timeout).addCallback(_nothing)

    def with_token(
        self, token: str, command: str, *arguments: object, timeout: float | None = None
    ) -> Deferred[Reply]:
        """A command of the owner of `token`, through the lock."""
        return self.send("with", token, command, *arguments, timeout=timeout)

    def lock_info(self, node: str = "", timeout: float | None = None) -> Deferred[tuple[str, ...]]:
        """One text for each lock on `node` of a labnet server, or on its device."""
        arguments = (node,) if node else ()
        reply = self.send("lock_info", *arguments, timeout=timeout)
        return reply.addCallback(lambda reply: reply.fields)

    def help(self, command: str = "", timeout: float | None = None) -> Deferred[str]:
        """What a labnet server says about a command, or about all of them."""
        arguments = (command,) if command else ()
        return self.send("help", *arguments, timeout=timeout).addCallback(_text)

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        """Calls ``callback()`` when the connection has ended without this client's doing."""
        self._connections.on_lost = callback

    def close(self) -> Deferred[None]:
        """Closes every connection; fires when all of them have gone."""
        return self._connections.close()

    def _build(self) -> TsvClientProtocol:
        return TsvClientProtocol(self.where, self.max_reply)

    def _request(
        self,
        command: str,
        arguments: tuple[object, ...],
        timeout: float | None,
        how: Callable[[TsvClientProtocol, bytes], Coroutine[Deferred[Any], Any, Reply]],
    ) -> Deferred[Reply]:
        seconds = self.timeout if timeout is None else timeout
        what = f"{shorten(command)!r} to {self.where}"
        run = self._kept if self.persistent else self._once
        return limited(run(command, arguments, how), what, seconds, self._clock)

    async def _once(self, command: str, arguments: tuple[object, ...], how: Any) -> Reply:
        line = encode_request(command, *arguments)
        protocol = await self._connections.new()
        try:
            return _checked(await how(protocol, line))
        finally:
            protocol.close()

    async def _kept(self, command: str, arguments: tuple[object, ...], how: Any) -> Reply:
        line = encode_request(command, *arguments)
        await self._turn.acquire()
        try:
            protocol = await self._connections.kept()
            return _checked(await how(protocol, line))
        finally:
            self._turn.release()

    async def _exchange(self, protocol: TsvClientProtocol, line: bytes) -> Reply:
        reply = await protocol.exchange(line)
        if reply is None:
            raise no_answer(self.where)
        return reply

    async def _exchange_then_ping(self, protocol: TsvClientProtocol, line: bytes) -> Reply:
        reply = await protocol.exchange_then_ping(line)
        if reply is None:
            raise no_answer(self.where)
        if reply.ok and not reply.data:
            protocol.close()  # whose acknowledgement it was is not known, and one may still come
        return reply

    async def _exchange_until_closed(self, protocol: TsvClientProtocol, line: bytes) -> Reply:
        return await protocol.exchange(line) or Reply(True)


def _checked(reply: Reply) -> Reply:
    if not reply.ok:
        raise failure(reply)
    return reply


def _text(reply: Reply) -> str:
    return reply.text


def _nothing(_: object) -> None:
    return None
