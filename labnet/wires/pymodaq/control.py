"""The controlling side of PyMoDAQ's TCP/IP protocol: modules dial in and are given orders.

    modules = Modules(reactor)
    port = await serverFromString(reactor, "tcp:6341:interface=127.0.0.1").listen(modules)
    actuator = await modules.actuator()
    await actuator.move_abs(3.2)
    frame = await (await modules.grabber()).grab("2D")
    print(frame.data[0].data[0].shape)

It listens, although it gives the orders: in PyMoDAQ's words it is the *TCP server*. Many modules
may be connected at once, of every generation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from labnet.logs import WireLog
from labnet.wires.pymodaq.actuator import Actuator
from labnet.wires.pymodaq.codec import Kind
from labnet.wires.pymodaq.connection import ModuleConnection
from labnet.wires.pymodaq.grabber import Grabber
from labnet.wires.pymodaq.module import Clock, Manners, Module

MAX_UNCLAIMED = 1000
"""Modules that have dialled in and that nobody has asked for; the oldest are forgotten first."""

_CLASSES: dict[Kind, type[Module]] = {"ACTUATOR": Actuator, "GRABBER": Grabber}


class Modules(Factory):
    """Listens for modules, and hands each on when it has introduced itself.

    `arrived` is called with each; without it they are kept until `actuator`, `grabber` or `module`
    asks for them. `clock` is the reactor.
    """

    noisy = False

    def __init__(
        self,
        clock: Clock,
        manners: Manners | None = None,
        arrived: Callable[[Any], None] | None = None,
    ) -> None:
        self.clock = clock
        self.manners = manners or Manners()
        self.log = WireLog("pymodaq")
        self.connections: set[ModuleConnection] = set()
        self._arrived = arrived or self._keep
        self._unclaimed: deque[Module] = deque(maxlen=MAX_UNCLAIMED)
        self._wanted: list[tuple[Kind | None, Deferred[Module]]] = []

    def buildProtocol(self, addr: IAddress | None) -> Any:
        connection = ModuleConnection(self, addr)
        self.connections.add(connection)
        self.log.connected(connection.peer)
        return connection

    # For those who want modules

    async def actuator(self) -> Actuator:
        """The next actuator that has dialled in, or will; raises `NotConnected` at the end."""
        return cast(Actuator, await self.module("ACTUATOR"))

    async def grabber(self) -> Grabber:
        """The next detector that has dialled in, or will."""
        return cast(Grabber, await self.module("GRABBER"))

    def module(self, kind: Kind | None = None) -> Deferred[Module]:
        """The next module of a kind that has dialled in, or will."""
        wanted: Deferred[Module] = Deferred(self._forget)
        for module in self._unclaimed:
            if kind in (None, module.kind):
                self._unclaimed.remove(module)
                wanted.callback(module)
                return wanted
        self._wanted.append((kind, wanted))
        return wanted

    def _forget(self, wanted: Deferred[Module]) -> None:
        self._wanted = [entry for entry in self._wanted if entry[1] is not wanted]

    def _keep(self, module: Module) -> None:
        for entry in self._wanted:
            if entry[0] in (None, module.kind):
                self._wanted.remove(entry)
                entry[1].callback(module)
                return
        self._unclaimed.append(module)

    def close(self) -> None:
        """Ends all connections."""
        for connection in list(self.connections):
            connection.wind_up()

    # For the connections

    def make(self, kind: Kind, line: ModuleConnection) -> Module:
        """A module has said what it is."""
        module = _CLASSES[kind](line, self.clock, self.manners)
        module.on_introduced = lambda: self._arrived(module)
        return module

    def refused(self, peer: str, reason: str) -> None:
        """A peer has sent what it must not, and is dropped."""
        self.log.refused(peer, reason)

    def gone(self, line: ModuleConnection) -> None:
        """A connection has ended."""
        self.connections.discard(line)
        if line.module is not None and line.module in self._unclaimed:
            self._unclaimed.remove(line.module)
        self.log.disconnected(line.peer)


__all__ = ["Actuator", "Grabber", "Manners", "Module", "Modules"]
