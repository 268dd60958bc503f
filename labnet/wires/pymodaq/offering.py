"""A program as the hardware side: offers an object to a controlling program of PyMoDAQ.

    service = offer(MyStage(), "127.0.0.1:6341", generation="C4")
    service.startService()
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import random
from typing import Any

from twisted.application.internet import ClientService
from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError, fail, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from zope.interface import implementer

from labnet.errors import LabError, NotConnected
from labnet.logs import Logger
from labnet.transports.dialing import client_endpoint, shown_address
from labnet.wires.pymodaq.codec import Generation, Kind
from labnet.wires.pymodaq.codec import generation as generation_called
from labnet.wires.pymodaq.hardware import DRAIN, HardwareProtocol, Manners
from labnet.wires.pymodaq.offered import Offered, module_of

PORT = 6341
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
SETTLING = 1.0
"""Seconds that an attempt to connect may still take when the offer ends."""
BRIEF = 5.0
"""Seconds; a connection that the other side ends sooner counts as one that could not be made."""


class _Factory(Factory):
    noisy = False

    def __init__(self, build: Callable[[], HardwareProtocol]) -> None:
        self._build = build

    def buildProtocol(self, addr: Any) -> HardwareProtocol:
        return self._build()


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """An endpoint that is dialled when all is ready, and is called in the log as users call it.

    A program that is dialled and hears nothing would never listen again.
    """

    def __init__(
        self, endpoint: IStreamClientEndpoint, where: str, ready: Callable[[], None]
    ) -> None:
        self._endpoint = endpoint
        self._where = where
        self._ready = ready
        self.dialling = False
        self._waiting: list[Deferred[None]] = []

    def connect(self, factory: Any) -> Any:
        try:
            self._ready()
        except Exception:
            return fail()
        self.dialling = True
        attempt: Any = self._endpoint.connect(factory)
        return attempt.addBoth(self._done)

    def _done(self, result: Any) -> Any:
        self.dialling = False
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)
        return result

    def settled(self) -> Deferred[None]:
        """Fires at the end of the attempt that is under way."""
        waiting: Deferred[None] = Deferred(lambda one: self._waiting.remove(one))
        self._waiting.append(waiting)
        return waiting

    def __repr__(self) -> str:
        return self._where


class Offer(Service):
    """Offers one module to the controlling program at an address, until it is stopped.

    `connection` is the one there is. A program that does not answer is dialled again after growing
    pauses, and never probed.
    """

    log = Logger()

    def __init__(
        self,
        make: Callable[[], Offered],
        address: str | IStreamClientEndpoint,
        manners: Manners,
        *,
        reactor: Any = None,
        clock: Any = None,
        drain: float = DRAIN,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.where = shown_address(address, PORT)
        self.manners = manners
        self.connection: HardwareProtocol | None = None
        self._make = make
        self._clock = clock or reactor
        self._drain = drain
        endpoint = client_endpoint(address, PORT, reactor)
        self._endpoint = _Endpoint(endpoint, self.where, self._ready)
        self._module: Offered | None = None  # for the connection that is to come
        self._service: Any = None
        self._had = False  # a connection since the last pause
        self._brief = 0  # connections in a row that the other side has ended at once
        self._since = 0.0
        self._silent = False
        self._waiting: list[Deferred[HardwareProtocol]] = []

    def startService(self) -> None:
        """Begins to dial."""
        start: Any = super().startService  # untyped in Twisted
        start()
        service: Any = ClientService(
            self._endpoint, _Factory(self._build), self._pause, self._clock
        )
        self._service = service
        service.startService()

    def stopService(self) -> Deferred[None]:
        """Takes leave of the program and closes the connection."""
        stop: Any = super().stopService
        stop()
        return Deferred.fromCoroutine(self._stop())

    def when_connected(self) -> Deferred[HardwareProtocol]:
        """The connection, as soon as there is one."""
        if self.connection is not None:
            return succeed(self.connection)
        waiting: Deferred[HardwareProtocol] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def _ready(self) -> None:
        """Has a new module for the next connection."""
        self._discard()
        try:
            self._module = self._make()
        except LabError as error:
            if not self._silent:
                self._silent = True
                self.log.warn(
                    "nothing can be offered to {where}: {error}",
                    where=self.where,
                    error=str(error),
                )
            raise

    def _discard(self) -> None:
        module, self._module = self._module, None
        if module is not None:
            module.close()

    def _build(self) -> HardwareProtocol:
        module, self._module = self._module, None
        assert module is not None, "nobody is dialled without a module"
        protocol = HardwareProtocol(module, self.manners, self.where, self._clock)
        self.connection = protocol
        self._since = self._clock.seconds()
        self._silent = False
        self.log.info(
            "{name} is offered to {where} as {kind}, generation {generation}",
            name=protocol.module.name, where=self.where, kind=protocol.module.kind,
            generation=self.manners.generation.name,
        )  # fmt: skip
        protocol.when_lost.addCallback(self._lost, protocol)
        self._clock.callLater(0, self._connected, protocol)
        return protocol

    def _connected(self, protocol: HardwareProtocol) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(protocol)

    def _lost(self, _: None, protocol: HardwareProtocol) -> None:
        self.connection = None
        self._had = True
        brief = self._clock.seconds() - self._since < BRIEF
        self._brief = self._brief + 1 if brief else 0
        if self.running:
            self.log.info("{where} has closed the connection; dialled again", where=self.where)

    def _pause(self, failures: int) -> float:
        """Seconds before the next attempt."""
        had, self._had = self._had, False
        if failures and not had and not self._silent:
            self._silent = True
            self.log.info("{where} does not answer; dialled until it does", where=self.where)
        steps = min(max(failures, self._brief), 20)
        return min(FIRST_PAUSE * 1.5**steps, LONGEST_PAUSE) * (1.0 + 0.1 * random())

    async def _settled(self) -> None:
        """An attempt that is cut off might leave the program with a silent connection."""
        try:
            await self._endpoint.settled().addTimeout(min(SETTLING, self._drain), self._clock)
        except TimeoutError:
            return
        await deferLater(self._clock, 0)  # the service learns of the connection after the endpoint

    async def _stop(self) -> None:
        service: Any = self._service
        self._service = None
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.errback(NotConnected(f"{self.where} is dialled no more"))
        if self._endpoint.dialling:
            await self._settled()
        protocol = self.connection
        if protocol is not None:
            protocol.quit()
        if service is None:
            return
        stopping: Awaitable[Any] = service.stopService()
        try:
            await Deferred.fromCoroutine(_wait(stopping)).addTimeout(self._drain, self._clock)
        except TimeoutError:
            if protocol is not None:
                protocol.abort()
        self._discard()


async def _wait(event: Awaitable[Any]) -> None:
    await event


def offer(
    target: Any,
    address: str | IStreamClientEndpoint,
    generation: Generation | str = Generation.C4,
    *,
    kind: Kind | None = None,
    reactor: Any = None,
    **manners: Any,
) -> Offer:
    """A service that offers `target` to the program that listens at `address`; start it to dial.

    `target` is an `Offered`, or any object with ``move_abs`` and ``position``, or with ``grab``;
    `kind` says which for one that has both. The generation is that of the program's PyMoDAQ: a
    wrong one is refused by it, and a program of generation D never listens again. `manners` are
    the fields of `Manners`.
    """
    if isinstance(generation, str):
        generation = generation_called(generation)
    module = module_of(target, kind)
    chosen = Manners(generation=generation, **manners)
    return Offer(lambda: module, address, chosen, reactor=reactor)
