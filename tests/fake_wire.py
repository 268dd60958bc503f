"""A wire and a driver as small as the configuration and the service tree need them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.protocols.wire import Echo
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device, parameter
from labnet.devices.table import DRIVERS, Driver
from labnet.wires.table import WIRES, Wire


@dataclass(frozen=True)
class Options:
    """The fake wire's own keys."""

    greeting: str = field(default="hello", metadata={"help": "what it says first"})
    longest: int = field(
        default=100, metadata={"help": "longest line", "unit": "bytes", "limits": (1, 4096)}
    )
    ends: Literal["lf", "crlf"] = field(default="lf", metadata={"help": "end of a line"})
    words: tuple[str, ...] = field(default=(), metadata={"help": "words it knows"})


class Gauge(Device):
    """A device with one value.

    Args:
        start: where it
            begins, in V.
        count: how many.

    More of it.
    """

    value = parameter(float, unit="V", initial=1.5)

    def __init__(
        self, start: float, count: int = 3, noisy: bool = False, label: str = "x", clock: Any = None
    ) -> None:
        if count > 100:
            raise ValueError("no more than 100 counts")
        self.start, self.count, self.noisy, self.label = start, count, noisy, label


class EchoListener:
    """Answers every byte with itself."""

    def __init__(self, port: IListeningPort) -> None:
        self.port = port
        host: Any = port.getHost()
        self.address = f"{host.host}:{host.port}"
        self.example = f"nc {host.host} {host.port}"

    async def stop(self) -> None:
        """Closes the port."""
        await self.port.stopListening()


async def listen(
    host: Any, address: str, common: Any, options: Options, reactor: Any
) -> EchoListener:
    """Listens as every wire does."""
    factory = Factory.forProtocol(Echo)
    factory.noisy = False
    return EchoListener(await serverFromString(reactor, address).listen(factory))


def install(test: SynchronousTestCase) -> None:
    """Puts the wire ``fake`` and the driver ``fake.gauge`` into the tables for one test."""
    WIRES["fake"] = Wire("fake", "tests.fake_wire", "tests.fake_wire.EchoListener", 7000, "echoes")
    test.addCleanup(WIRES.pop, "fake")
    DRIVERS["fake.gauge"] = Driver("fake.gauge", "tests.fake_wire.Gauge", "one value")
    test.addCleanup(DRIVERS.pop, "fake.gauge")
