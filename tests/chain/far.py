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
from labnet.devices.composite import Composite, combined, relayed
from labnet.errors import DeviceFault
from labnet.lab import Lab, ServeOptions
from labnet.registry import DeviceNode
from labnet.service import LabService
from labnet.testing import Served, serve_on_loopback
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


class Mover(Composite):
    """The lamp in PyMoDAQ's words: its level is a setting, its commands are moves."""

    position = combined("lamp.level")
    level = combined("lamp.level")
    move_abs = relayed("lamp.double")
    home = relayed("lamp.burn")


#: The same, as a section has it.
MOVER = """
[device mover]
driver = composite
parameter position = lamp.level
parameter level = lamp.level
command move_abs = lamp.double
command home = lamp.burn
"""

#: The modules that the lamp is offered as: what of it, and what stands in the section beyond that.
MODULES: dict[str, Mapping[str, Any]] = {
    "mover": {"as_": "ACTUATOR"},
    "lamp": {"as_": "GRABBER", "channels": ("spectrum",)},
}

_DECLARED = """
parameter level = LEVEL?, LEVEL {value}, float, V, 0..100
parameter spectrum = SPECTRUM?, array
command double = DOUBLE? {x}, x: float, float
command burn = BURN
errors = yes
lock = yes
"""


#: A lamp that is two modules, an actuator and a detector.
_MODULES_HERE = """
[serve far]
wire = pymodaq
listen = tcp:{port}:interface=127.0.0.1
actuators = actuator
grabbers = detector
[device lamp]
driver = composite
retry = 0.05
parameter level = actuator.settings.level
command double = actuator.move_abs
command burn = actuator.move_home
command spectrum = detector.grab
"""


@dataclass(frozen=True)
class DeviceWire:
    """How a wire stands in a ``[device]`` section: its keys, with ``{port}`` for the far port."""

    name: str
    keys: str
    messages: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    dials: bool = False  # the device comes to the lab, which listens at the port
    parts: tuple[str, ...] = ("lamp",)  # what is not connected when the far end is gone

    def section(self, port: int) -> str:
        """The text of the section."""
        if self.dials:
            return self.keys.format(port=port)
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
        DeviceWire("vicp", "host = 127.0.0.1\nport = {port}", True),
        DeviceWire("pymodaq", _MODULES_HERE, dials=True, parts=("actuator", "detector")),
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


class FarEnd:
    """A lab with a lamp that is served over one wire, and can be killed and started again."""

    def __init__(self, wire: DeviceWire) -> None:
        self.wire = wire
        self.lamp = Lamp()
        self.lab = Lab(reactor=reactor, grace=0.2)
        self.lab.attach("lamp", self.lamp)
        self.port = 0
        self._served: list[Any] = []
        if wire.dials:
            self.lab.attach("mover", Mover())

    async def start(self) -> None:
        """Serves; at the same port as before."""
        if self.wire.dials:
            self.port = self.port or free_base(1)
            self._served = [await self._offered(*module) for module in MODULES.items()]
        else:
            self._served = [await self._serve()]

    async def _offered(self, device: str, options: Mapping[str, Any]) -> Any:
        """What a ``[dial]`` section does."""
        module = find_wire(self.wire.name).load_dialler()
        common = ServeOptions(device=device, drain=0.0)
        return await module.dial(
            self.lab, f"127.0.0.1:{self.port}", common, module.Options(**options), reactor
        )

    async def _serve(self) -> Served:
        zmq = find_wire(self.wire.name).zmq
        if self.wire.name == "rogue" and not self.port:
            self.port = free_base(3)
        place = f"127.0.0.1:{self.port or ('*' if zmq else 0)}"
        host, _, number = place.partition(":")
        address = f"tcp://{place}" if zmq else f"tcp:{number}:interface={host}"
        served = await serve_on_loopback(
            self.lab, self.wire.name, address=address, device="lamp", drain=0.0,
            **self.wire.options,
        )  # fmt: skip
        self.port = served.port or int(served.listener.address.rpartition(":")[2])
        return served

    async def kill(self) -> None:
        """Ends all connections and listens no more."""
        served, self._served = self._served, []
        for one in served:
            await one.stop()

    async def stop(self) -> None:
        """Ends it for good."""
        await self.kill()
        await self.lab.stop()


class NearEnd:
    """The lab between: the lamp as a device of its, served over another wire."""

    def __init__(self, wire: DeviceWire, port: int, more: str = "") -> None:
        self._parts = wire.parts
        self.service = LabService(parse_config(wire.section(port) + more))
        self.service.startService()
        self.losses = 0
        self._waiting: list[Deferred[None]] = []
        self._watcher = self.lab.open_session("test", "here", device="lamp")
        self._watcher.subscribe(sorted({"lamp", *wire.parts}), self._changed)

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
        """The lamp is connected, and all its parts."""
        await self.until(lambda: not self._unavailable("lamp", *self._parts))

    async def down(self) -> None:
        """The lamp is not connected, or none of its parts."""
        await self.until(lambda: self._unavailable(*self._parts) == [*self._parts])

    def _unavailable(self, *names: str) -> list[str]:
        devices = self.lab.devices()
        return [name for name in names if devices[name].queue.unavailable is not None]

    @property
    def node(self) -> DeviceNode:
        """The lamp."""
        return self.lab.devices()["lamp"]

    @property
    def lab(self) -> Lab:
        """The lab, while it runs."""
        assert self.service.lab is not None
        return self.service.lab

    async def serve(self, wire: str) -> Served:
        """One more listener."""
        options = DEVICE_WIRES[wire].options
        return await serve_on_loopback(self.lab, wire, device="lamp", timeout=5.0, **options)
