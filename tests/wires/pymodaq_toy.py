"""A controlling program of PyMoDAQ as far as the hardware side sees it, and things to offer it."""

from __future__ import annotations

from typing import Any

import numpy as np
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport

from labnet.errors import NotAllowed
from labnet.wires.pymodaq.codec import (
    FROM_HARDWARE,
    Decoder,
    Generation,
    Message,
    Setting,
    encode_bytes,
    position,
)
from labnet.wires.pymodaq.hardware import HardwareProtocol, Manners
from labnet.wires.pymodaq.messages import Info, MoveDone, PositionIs
from labnet.wires.pymodaq.offered import Offered, OfferedActuator, OfferedGrabber


class Slide(OfferedActuator):
    """Moves in two seconds, in mm; is at the middle after one."""

    name = "slide"
    units = "mm"

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.at = 1.25
        self.velocity = 2.0
        self.stopped = 0
        self.broken = ""

    def settings(self) -> Setting:
        units = Setting("units", "str", self.units, "Units:")
        deep = Setting("deep", "group", children=(Setting("inner", "int", 7),))
        return Setting("move_settings", "group", children=(units, self.velocity_setting(), deep))

    def velocity_setting(self) -> Setting:
        return Setting("velocity", "float", self.velocity)

    def set(self, path: tuple[str, ...], value: Any) -> Setting:
        if path != ("velocity",):
            raise NotAllowed(f"{path[-1]} is fixed")
        self.velocity = min(value, 10.0)
        return self.velocity_setting()

    def position(self) -> float:
        return self.at

    def move_abs(self, position: float) -> Deferred[None]:
        if self.broken:
            raise NotAllowed(self.broken)
        return Deferred.fromCoroutine(self._move(position))

    async def _move(self, position: float) -> None:
        middle = (self.at + position) / 2
        await deferLater(self.clock, 1.0)
        self.at = middle
        await deferLater(self.clock, 1.0)
        self.at = position

    def move_home(self) -> float:
        self.at = 0.0
        return 0.0

    def stop(self) -> None:
        self.stopped += 1


class Eye(OfferedGrabber):
    """Gives what it is told to."""

    name = "eye"

    def __init__(self) -> None:
        super().__init__()
        self.gives: Any = np.arange(6.0).reshape(2, 3)
        self.asked: list[str] = []

    def grab(self, dim: str) -> Any:
        self.asked.append(dim)
        if isinstance(self.gives, Exception):
            raise self.gives
        return self.gives


class Program:
    """The program at the other end of one connection."""

    def __init__(
        self,
        module: Offered,
        generation: Generation = Generation.C4,
        clock: Clock | None = None,
        **manners: Any,
    ) -> None:
        self.clock = clock or Clock()
        self.generation = generation
        self.transport = StringTransport()
        self.protocol = HardwareProtocol(
            module, Manners(generation, **manners), "the program", self.clock
        )
        self._decoder = Decoder(FROM_HARDWARE, {generation})
        self.protocol.makeConnection(self.transport)

    def orders(self, *messages: Message) -> list[Message]:
        """What comes back of these orders."""
        sent = b"".join(encode_bytes(message, self.generation) for message in messages)
        self.protocol.dataReceived(sent)
        return self.heard()

    def heard(self, seconds: float = 0.0) -> list[Message]:
        """What comes in this time."""
        for _ in range(round(seconds * 8)):
            self.clock.advance(0.125)
        while self.transport.producer is not None and not self.transport.streaming:
            self.transport.producer.resumeProducing()
        data = self.transport.value()
        self.transport.clear()
        found = self._decoder.feed(data)
        assert not self._decoder.fault, self._decoder.fault
        return found


def shown(messages: list[Message]) -> list[Any]:
    """Messages as a test writes them: the word, and the number or text behind it."""
    found: list[Any] = []
    for message in messages:
        if isinstance(message, PositionIs | MoveDone):
            found.append((message.spoken, message.position.value))
        elif isinstance(message, Info):
            found.append((message.spoken, message.value))
        else:
            found.append(message.spoken)
    return found


__all__ = ["Eye", "Program", "Slide", "position", "shown"]
