"""The connections of a client: made when first needed, made again when lost, counted until closed.

`Connections` is what the clients of stream wires share: it hands out a connection for one request,
or keeps one and hands it out again and again.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from random import random
from typing import Any, Generic, TypeVar

from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from labnet.errors import LabError, NotConnected
from labnet.transports.dialing import GIVEN_UP, not_connected

FIRST_PAUSE = 0.1
"""Seconds before a lost connection is made again; each failure makes it longer by half."""

LONGEST_PAUSE = 30.0


class ClientProtocol(Protocol):
    """A connection of a client, with TCP_NODELAY and, unless it is not wanted, keepalive.

    `spent` says that it must not be used for a further request; `when_lost` fires at its end;
    `cut` says then whether somebody else has ended it.
    """

    def __init__(self, where: str, keepalive: bool = True) -> None:
        self.where = where
        self.keepalive = keepalive
        self.spent = False
        self.cut = False
        self.when_lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(self.keepalive)

    def close(self) -> None:
        """Closes the connection after what was written has gone out."""
        self.spent = True
        if self.transport is not None:
            self.transport.loseConnection()

    def abort(self) -> None:
        """Closes the connection now."""
        if ITCPTransport.providedBy(self.transport):
            self.spent = True
            self.transport.abortConnection()
        else:
            self.close()

    def ended(self) -> None:
        """The connection has ended; for subclasses, to fail what waits."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.cut = not self.spent
        self.spent = True
        self.ended()
        self.when_lost.callback(None)


P = TypeVar("P", bound=ClientProtocol)


class _Factory(Factory):
    noisy = False

    def __init__(self, build: Callable[[], Protocol]) -> None:
        self.build = build

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return self.build()


class Connections(Generic[P]):
    """The connections of one client to the server at `endpoint`, which users know as `where`."""

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        build: Callable[[], P],
        where: str,
        clock: Any,
    ) -> None:
        self.where = where
        #: Called when somebody else has ended a connection.
        self.on_lost: Callable[[], None] | None = None
        self._endpoint = endpoint
        self._build = build
        self._clock = clock
        self._open: set[P] = set()
        self._service: ClientService | None = None

    async def new(self) -> P:
        """A connection of its own; `NotConnected` if that fails."""
        try:
            protocol: Any = await self._endpoint.connect(_Factory(self._made))
        except GIVEN_UP:
            raise CancelledError from None
        except Exception as error:
            raise not_connected(error, self.where)
        return protocol  # type: ignore[no-any-return]

    async def kept(self) -> P:
        """The kept connection, made when there is none.

        `NotConnected` if the attempt under way, or the next one, fails; attempts go on with growing
        pauses until `close`.
        """
        while True:
            protocol = await self._when_connected()
            if not protocol.spent:
                return protocol
            await _follow(protocol.when_lost)
            await deferLater(self._clock, 0)  # the service learns of the loss after the protocol

    async def _when_connected(self) -> P:
        service = self._service
        if service is None:
            pauses = backoffPolicy(FIRST_PAUSE, LONGEST_PAUSE, jitter=_jitter)
            factory = _Factory(self._made)
            service = self._service = ClientService(self._endpoint, factory, pauses, self._clock)
        waiting = service.whenConnected(failAfterFailures=1)
        if not service.running:
            service.startService()
        waited = not waiting.called
        try:
            protocol: Any = await waiting
        except CancelledError:
            if self._service is None:
                raise NotConnected(f"the client of {self.where} was closed")
            raise
        except Exception as error:
            await self._next_turn(waited)
            raise not_connected(error, self.where)
        await self._next_turn(waited)
        return protocol  # type: ignore[no-any-return]

    async def _next_turn(self, waited: bool) -> None:
        # The service calls back from inside its state machine, where nobody may stop it.
        if waited:
            await deferLater(self._clock, 0)

    def close(self) -> Deferred[None]:
        """Closes every connection; fires when all of them have gone."""
        service, self._service = self._service, None
        waits: list[Deferred[Any]] = [_follow(protocol.when_lost) for protocol in self._open]
        if service is not None:
            waits.append(Deferred.fromCoroutine(_stopped(service)))
        for protocol in list(self._open):
            protocol.close()
        return gatherResults(waits).addCallback(lambda _: None)

    def _made(self) -> P:
        protocol = self._build()
        self._open.add(protocol)
        protocol.when_lost.addCallback(lambda _: self._ended(protocol))
        return protocol

    def _ended(self, protocol: P) -> None:
        self._open.discard(protocol)
        if protocol.cut and self.on_lost is not None:
            self.on_lost()


def no_answer(where: str) -> LabError:
    """What a request fails with when the connection ends before its answer."""
    return NotConnected(f"{where} closed the connection without an answer")


def _jitter() -> float:
    return FIRST_PAUSE * random()


async def _stopped(service: ClientService) -> None:
    await service.stopService()


def _follow(event: Deferred[None]) -> Deferred[None]:
    """A Deferred of its own that fires after `event` has."""
    follower: Deferred[None] = Deferred()

    def fired(_: None) -> None:
        follower.callback(None)

    event.addCallback(fired)
    return follower


def keep_alive(transport: Any, seconds: float) -> None:
    """TCP keepalive that finds a dead peer after so many seconds of silence; 0 for none."""
    handle: Any = getattr(transport, "getHandle", lambda: None)()
    if getattr(handle, "family", None) not in (socket.AF_INET, socket.AF_INET6):
        return
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, seconds > 0)
    probes = 3
    interval = max(1, round(seconds / (probes + 1)))
    for name, value in (
        ("TCP_KEEPIDLE", interval),
        ("TCP_KEEPINTVL", interval),
        ("TCP_KEEPCNT", probes),
    ):
        option = getattr(socket, name, None)  # not everywhere
        if option is not None:
            handle.setsockopt(socket.IPPROTO_TCP, option, value)
