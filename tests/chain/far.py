"""The far end of a chain: a lab with a device, served over one wire, and its place in the lab here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from socket import socket
from typing import Any

import numpy as np
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from labnet.config import parse_config
from labnet.device import Device, Identity, command, parameter
from labnet.errors import DeviceFault
from labnet.lab import Lab, ServeOptions
from labnet.registry import DeviceNode
from labnet.service import LabService
from labnet.testing import serve_on_loopback
from labnet.updates import Update
from labnet.wires.table import find_wire

SPECTRUM = [1.0, 2.5, -3.0, 4.0]


class Bulb(Device):
    """A part of it."""

    age = parameter(float, unit="h", initial=3.0)


class Lamp(Device):
    """What stands at the far end."""

    identity = Identity("labnet", "LAMP", "7", "1.0")
    level = parameter(float, unit="V", limits=(0, 100), initial=1.0, help="how bright it is")

    def __init__(self) -> None:
        self.bulb = Bulb()

    @parameter
    def spectrum(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Its light."""
        return np.array(SPECTRUM)

    @command
    def double(self, x: float) -> float:
        """Twice as much."""
        return 2 * x

    @command
    def burn(self) -> None:
        """Fails."""
        raise DeviceFault("the lamp is broken")


_DECLARED = """
parameter level = LEVEL?, LEVEL {value}, float, V, 0..100
parameter spectrum = SPECTRUM?, array
command double = DOUBLE? {x}, x: float, float
command burn = BURN
errors = yes
lock = yes
"""


@dataclass(frozen=True)
class Names:
    """What the lamp's level is called here, how it is set, and what else there is of the lamp."""

    level: str = "level"
    setter: str = ""  # a command; else the level is set itself
    whole: bool = True  # its commands and arrays, and what it says of errors
    locks: bool = True  # and locks


LEVEL = Names()


@dataclass(frozen=True)
class DeviceWire:
    """How a wire stands in a ``[device]`` section: its keys, with ``{port}`` for the far port."""

    name: str
    keys: str
    messages: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    names: Names = LEVEL  # by which the lamp is used here
    dials: bool = False  # the far end dials, and the near one listens

    def section(self, port: int) -> str:
        """The text of the section."""
        if self.dials:
            listen = f"tcp:{port}:interface=127.0.0.1"
            return f"[serve far]\nwire = {self.name}\nlisten = {listen}\n{self.keys}\n"
        keys = self.keys.format(port=port) + (_DECLARED if self.messages else "")
        return f"[device lamp]\ndriver = {self.name}\nretry = 0.05\nprobe = 1\n{keys}\n"


DEVICE_WIRES: dict[str, DeviceWire] = {
    wire.name: wire
    for wire in (
        DeviceWire("tsv", "address = 127.0.0.1:{port}\npoll = 0.1"),
        DeviceWire("plesty", "address = tcp://127.0.0.1:{port}\npoll = 0.1"),
        DeviceWire("rogue", "address = 127.0.0.1:{port}\nnode = lamp\nsilence = 0.5"),
        DeviceWire("scpi", "address = 127.0.0.1:{port}", True),
        DeviceWire("vxi11", "host = 127.0.0.1\nport = {port}", True, {"portmapper": "none"}),
        DeviceWire("hislip", "host = 127.0.0.1\nport = {port}", True),
        DeviceWire(
            "pymodaq", "actuators = lamp\nquiet = 0.1\nintroduction = 0.1",
            names=Names("position", "move_abs", whole=False, locks=False), dials=True,
        ),
        DeviceWire("vicp", "host = 127.0.0.1\nport = {port}", True),
    )
}


def free_base(count: int) -> int:
    """The first of so many ports in a row that are free."""
    while True:
        with ExitStack() as taken:
            first = taken.enter_context(socket())
            first.bind(("127.0.0.1", 0))
            base: int = first.getsockname()[1]
            try:
                for step in range(1, count):
                    taken.enter_context(socket()).bind(("127.0.0.1", base + step))
            except (OSError, OverflowError):
                continue
            return base


async def dialled(wire: str, lab: Lab, port: int, device: str) -> Any:
    """What offers a device to who listens at a port."""
    dialler = find_wire(wire).load_dialler()
    common = ServeOptions("offer", device, drain=0.0)
    return await dialler.dial(lab, f"127.0.0.1:{port}", common, dialler.Options(), lab.reactor)


class FarEnd:
    """A lab with a lamp that is served over one wire, and can be killed and started again."""

    def __init__(self, wire: DeviceWire) -> None:
        self.wire = wire
        self.lamp = Lamp()
        self.lab = Lab(reactor=reactor, grace=0.2)
        self.lab.attach("lamp", self.lamp)
        self.port = 0
        self._served: Any = None

    async def start(self) -> None:
        """Serves; at the same port as before."""
        if self.wire.dials:
            self.port = self.port or free_base(1)
            self._served = await dialled(self.wire.name, self.lab, self.port, "lamp.level")
            return
        zmq = find_wire(self.wire.name).zmq
        if self.wire.name == "rogue" and not self.port:
            self.port = free_base(3)
        place = f"127.0.0.1:{self.port or ('*' if zmq else 0)}"
        host, _, number = place.partition(":")
        address = f"tcp://{place}" if zmq else f"tcp:{number}:interface={host}"
        self._served = await serve_on_loopback(
            self.lab, self.wire.name, address=address, device="lamp", drain=0.0,
            **self.wire.options,
        )  # fmt: skip
        self.port = self._served.port or int(self._served.listener.address.rpartition(":")[2])

    async def kill(self) -> None:
        """Ends all connections and listens no more."""
        served, self._served = self._served, None
        if served is not None:
            await served.stop()

    async def stop(self) -> None:
        """Ends it for good."""
        await self.kill()
        await self.lab.stop()


class NearEnd:
    """The lab between: the lamp as a device of its, served over another wire."""

    def __init__(self, wire: DeviceWire, port: int, more: str = "") -> None:
        self.service = LabService(parse_config(wire.section(port) + more))
        self.service.startService()
        self.losses = 0
        self._waiting: list[Deferred[None]] = []
        self._watcher = self.lab.open_session("test", "here", device="lamp")
        self._watcher.subscribe(["lamp"], self._changed)

    def _changed(self, updates: list[Update]) -> None:
        self.losses += sum(update.what == "lost" for update in updates)
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until something is so; looks again whenever anything has changed."""
        while not condition():
            self._waiting.append(Deferred())
            await self._waiting[-1]

    async def up(self) -> None:
        """The lamp is connected."""
        await self.until(lambda: self.node.queue.unavailable is None)

    async def down(self) -> None:
        """The lamp is not connected."""
        await self.until(lambda: self.node.queue.unavailable is not None)

    @property
    def node(self) -> DeviceNode:
        """The lamp."""
        return self.lab.devices()["lamp"]

    @property
    def lab(self) -> Lab:
        """The lab, while it runs."""
        assert self.service.lab is not None
        return self.service.lab

    async def serve(self, wire: str) -> Any:
        """One more listener."""
        if DEVICE_WIRES[wire].dials:
            return Offers(self.lab)
        options = DEVICE_WIRES[wire].options
        return await serve_on_loopback(self.lab, wire, device="lamp", timeout=5.0, **options)


class Offers:
    """What stands for a listener where the programs listen: each is dialled when it is there."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    async def stop(self) -> None:
        """The programs end what they were offered."""
