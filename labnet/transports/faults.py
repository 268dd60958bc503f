"""What can go wrong between a server and its clients, on request: for tests.

A `Flow` carries bytes one way as its `Direction` says; `Faults` has both directions of all the
connections to one server. `labnet.transports.memory` uses them on a test clock; `Relay` between
real sockets, for programs and libraries that cannot be given a reactor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Literal, Protocol

import twisted.internet.protocol
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure

READ_SIZE = 65536
"""Bytes that arrive at once, at most."""

SEND_BUFFER = 65536
"""Bytes under way from which on a sender is told to pause."""

Way = Literal["both", "to_server", "to_client"]


class Woken(Protocol):
    """What waits on a direction: a flow, or a connection that is being made."""

    def wake(self) -> None:
        """Look again: a fault may be over."""


class Direction:
    """What befalls the bytes that go one way.

    `delay` is in seconds; `pieces` the bytes that arrive at once, 0 for as many as come; while
    `hang` bytes wait, while `drop` they vanish, and so does the end of a connection.
    """

    def __init__(self) -> None:
        self.delay = 0.0
        self.pieces = 0
        self.hang = False
        self.drop = False
        self.waiting: set[Woken] = set()

    def clear(self) -> None:
        """Nothing goes wrong any more; what hung goes on."""
        self.delay = 0.0
        self.pieces = 0
        self.drop = False
        self.resume()

    def resume(self) -> None:
        """What hung goes on."""
        self.hang = False
        for waiting in list(self.waiting):
            waiting.wake()


class Flow:
    """Bytes on their way to one end: in order, as late and in such pieces as the faults say."""

    def __init__(
        self,
        clock: IReactorTime,
        faults: Direction,
        deliver: Callable[[bytes], None],
        end: Callable[[Exception], None],
        drained: Callable[[], None] = lambda: None,
    ) -> None:
        self.size = 0  # bytes under way
        self._clock = clock
        self._faults = faults
        self._receive = deliver
        self._end = end
        self._drained = drained
        self._items: deque[tuple[float, memoryview | Exception]] = deque()
        self._call: IDelayedCall | None = None
        self._paused = False
        self._over = False
        faults.waiting.add(self)

    def send(self, data: bytes) -> None:
        """More bytes."""
        if not self._faults.drop:
            self.insert(data)

    def insert(self, data: bytes) -> None:
        """Bytes that arrive even while others vanish."""
        if data and not self._over:
            self.size += len(data)
            self._put(memoryview(bytes(data)))

    def finish(self, reason: Exception) -> None:
        """No more bytes: the end travels behind them."""
        if not self._faults.drop and not self._over:
            self._put(reason)

    def reset(self, reason: Exception) -> None:
        """The end, instead of what is still under way."""
        self._items.clear()
        self.size = 0
        self.finish(reason)

    def pause(self, paused: bool) -> None:
        """The receiver does not read, or does again."""
        self._paused = paused
        self.wake()

    def stop(self) -> None:
        """The receiver is gone."""
        self._over = True
        self._items.clear()
        self.size = 0
        self._faults.waiting.discard(self)
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def wake(self) -> None:
        """Plans the next arrival, if there is any."""
        if self._call is None and self._items and not self._paused and not self._faults.hang:
            left = max(0.0, self._items[0][0] - self._clock.seconds())
            self._call = self._clock.callLater(left, self._arrive)

    def _put(self, item: memoryview | Exception) -> None:
        due = self._clock.seconds() + self._faults.delay
        if self._items:
            due = max(due, self._items[-1][0])
        self._items.append((due, item))
        self.wake()

    def _arrive(self) -> None:
        self._call = None
        if self._paused or self._faults.hang or not self._items:
            return
        item = self._items[0][1]
        if isinstance(item, Exception):
            self.stop()
            self._end(item)
            return
        data = self._take(self._faults.pieces or READ_SIZE)
        self.size -= len(data)
        self._receive(data)
        self._drained()
        self.wake()

    def _take(self, limit: int) -> bytes:
        """The bytes that are due, at most `limit` of them."""
        now = self._clock.seconds()
        parts: list[memoryview] = []
        while limit and self._items:
            due, item = self._items[0]
            if isinstance(item, Exception) or (parts and due > now):
                break
            self._items.popleft()
            if len(item) > limit:
                self._items.appendleft((due, item[limit:]))
                item = item[:limit]
            limit -= len(item)
            parts.append(item)
        return b"".join(parts)


class Faults:
    """What goes wrong between a server and its clients; `way` picks one direction.

    Faults may be combined, and last until `clear`. They hold for open connections and for those
    made later.
    """

    def __init__(self) -> None:
        self.to_server = Direction()
        self.to_client = Direction()
        self.refusing = False
        self.links: list[Link] = []

    def _ways(self, way: Way) -> list[Direction]:
        return [
            direction
            for name, direction in (("to_server", self.to_server), ("to_client", self.to_client))
            if way in ("both", name)
        ]

    def delay(self, seconds: float, way: Way = "both") -> None:
        """Bytes sent from now on arrive `seconds` later."""
        for direction in self._ways(way):
            direction.delay = seconds

    def in_pieces(self, size: int = 1, way: Way = "both") -> None:
        """Bytes arrive `size` at a time."""
        for direction in self._ways(way):
            direction.pieces = size

    def hang(self, way: Way = "both") -> None:
        """Nothing arrives until `resume`; what is sent meanwhile is kept."""
        for direction in self._ways(way):
            direction.hang = True

    def resume(self, way: Way = "both") -> None:
        """The end of `hang`: what was kept arrives."""
        for direction in self._ways(way):
            direction.resume()

    def drop(self, way: Way = "both") -> None:
        """What is sent from now on vanishes, the end of a connection too: a cable is pulled."""
        for direction in self._ways(way):
            direction.drop = True

    def garbage(self, data: bytes, way: Way = "to_client") -> None:
        """`data` arrives on each open connection, as if the other end had sent it."""
        for link in list(self.links):
            link.insert(data, way)

    def refuse(self, refusing: bool = True) -> None:
        """New connections are refused."""
        self.refusing = refusing

    def disconnect(self) -> None:
        """Each open connection is lost, on both ends, in the next turn."""
        for link in list(self.links):
            link.cut()

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self.refusing = False
        self.to_server.clear()
        self.to_client.clear()


class Link(Protocol):
    """One connection as far as faults see it."""

    def insert(self, data: bytes, way: Way) -> None:
        """`data` arrives at the end or ends that `way` leads to."""

    def cut(self) -> None:
        """Both ends lose the connection."""


class _End(twisted.internet.protocol.Protocol):
    """A socket of a relay: what it reads goes into `out`, what it is to send comes from there."""

    transport: Any
    out: Flow | None = None

    def __init__(self) -> None:
        self._early: list[bytes] = []
        self.lost = False

    def join(self, out: Flow) -> None:
        """The other end is there: what came before it goes on."""
        self.out = out
        for data in self._early:
            out.send(data)
        self._early.clear()

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        if self.out is None:
            self._early.append(data)
        else:
            self.out.send(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True
        if self.out is not None:
            self.out.finish(Exception())


class _Joined:
    """A client's socket and the one to its server."""

    def __init__(self, faults: Faults, clock: IReactorTime, server: _End, client: _End) -> None:
        self._ends = (server, client)
        self._flows = (
            Flow(clock, faults.to_server, server.transport.write, self._over(server)),
            Flow(clock, faults.to_client, client.transport.write, self._over(client)),
        )
        client.join(self._flows[0])
        server.join(self._flows[1])

    def _over(self, end: _End) -> Callable[[Exception], None]:
        return lambda reason: end.transport.loseConnection()

    def insert(self, data: bytes, way: Way) -> None:
        for flow, name in zip(self._flows, ("to_server", "to_client"), strict=True):
            if way in ("both", name):
                flow.insert(data)

    def cut(self) -> None:
        for flow in self._flows:
            flow.stop()
        for end in self._ends:
            end.transport.abortConnection()


class Relay(Factory):
    """A port on the loopback address that leads to the TCP port of a server, with faults.

    `await Relay(reactor, port).start()`, connect to `relay.port`, `await relay.stop()`.
    """

    noisy = False

    def __init__(self, reactor: Any, target: int, host: str = "127.0.0.1") -> None:
        self.faults = Faults()
        self.port = 0
        self._reactor = reactor
        self._target = TCP4ClientEndpoint(reactor, host, target)
        self._listening: Any = None

    async def start(self) -> Relay:
        """Opens the port."""
        endpoint: Any = TCP4ServerEndpoint
        self._listening = await endpoint(self._reactor, 0, interface="127.0.0.1").listen(self)
        self.port = self._listening.getHost().port
        return self

    async def stop(self) -> None:
        """Closes the port and every connection."""
        await self._listening.stopListening()
        self.faults.disconnect()

    def buildProtocol(self, addr: IAddress | None) -> _End | None:
        if self.faults.refusing:
            return None
        client = _End()
        to_server = Factory.forProtocol(_End)
        to_server.noisy = False
        self._target.connect(to_server).addCallbacks(
            self._joined, lambda failure: client.transport.abortConnection(), (client,)
        )
        return client

    def _joined(self, server: Any, client: _End) -> None:
        if client.lost:
            server.transport.abortConnection()
        else:
            self.faults.links.append(_Joined(self.faults, self._reactor, server, client))
