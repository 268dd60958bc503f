"""PyMoDAQ's modules, LabVIEW programs and the like dial in, and each becomes a device of the lab.

The names that the section gives them are in the lab from the start, so that other sections can
serve them; a device is not connected while its module is away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

from labnet.device import Device
from labnet.lab import Host, ServeOptions
from labnet.logs import Logger
from labnet.specs import check_name
from labnet.supervision import Retry
from labnet.transports.tcp import TcpListener, listen_tcp
from labnet.wires.pymodaq.actuator import Actuator
from labnet.wires.pymodaq.codec import MAX_MESSAGE, Generation, Kind
from labnet.wires.pymodaq.control import Modules
from labnet.wires.pymodaq.module import Manners, Module
from labnet.wires.pymodaq.served import DEVICES, PATIENCE, ModuleDevice

log = Logger()

NEVER = Retry(first=0.0)
"""A device is not opened again: it is its module that comes again."""


def _key(default: Any, help: str, unit: str = "", limits: Any = None) -> Any:
    return field(default=default, metadata={"help": help, "unit": unit, "limits": limits})


_NAMES = (
    "names of the {} that dial in, in the order of their arrival; NAME@HOST is kept for one from"
    " that host, and a module whose title is one of the names gets that; more than these are"
    " numbered ({}1, {}2...)"
)


@dataclass(frozen=True)
class Options:
    """The keys of a ``[serve NAME]`` section with ``wire = pymodaq`` beyond the common ones."""

    actuators: tuple[str, ...] = _key((), _NAMES.format("actuators", "actuator", "actuator"))
    grabbers: tuple[str, ...] = _key((), _NAMES.format("detectors", "grabber", "grabber"))
    generation: Literal["auto", "A", "B", "C1", "C2", "C3", "C4", "D"] = _key(
        "auto",
        "generation of the modules' messages: A is PyMoDAQ 1.6 to 2.0.0, B to 4.0 and LabVIEW, C1"
        " 4.1.0 to 4.1.2, C2 4.1.3 to 4.1.5, C3 4.2, 4.3 and 5.0.0, C4 4.4, D 5.0.1 to 5.1; auto"
        " tells all but C1 and C2",
    )
    ask: Literal["check_position", "get_actuator_value", "none"] = _key(
        "check_position",
        "word by which an actuator is asked for its position; none for programs that know no such"
        " word, whose position is then the last that they have told",
    )
    move_timeout: float = _key(
        PATIENCE, "longest time that a motion or an exposure may take", "s", (0.1, 86400)
    )
    max_message: int = _key(
        MAX_MESSAGE, "longest message, such as a frame", "bytes", (1024, (1 << 32) - 1)
    )
    stall: float = _key(
        10.0, "longest pause inside a message; then the module is dropped", "s", (0.1, 3600)
    )
    introduction: float = _key(
        1.0, "time in which a module sends its settings, if it has any", "s", (0.0, 60)
    )
    confirm: float = _key(
        1.0, "time in which a module confirms a setting; else it is believed", "s", (0.0, 60)
    )
    quiet: float = _key(
        1.0, "silence during a motion after which the actuator is asked for its position", "s",
        (0.05, 60),
    )  # fmt: skip

    @property
    def manners(self) -> Manners:
        """How the modules are treated."""
        known = None if self.generation == "auto" else Generation[self.generation]
        return Manners(
            known, self.ask, self.max_message, self.stall, self.introduction, self.confirm,
            self.quiet,
        )  # fmt: skip

    def places(self) -> Iterator[tuple[Kind, str, str]]:
        """Kind, name and host (or nothing) of each named module; ValueError for a bad name."""
        given: dict[Kind, tuple[str, ...]] = {"ACTUATOR": self.actuators, "GRABBER": self.grabbers}
        for kind, names in given.items():
            for text in names:
                name, _, host = (part.strip() for part in text.partition("@"))
                check_name(name)
                yield kind, name, host


def devices(options: Options) -> Mapping[str, Device]:
    """The devices that a section brings into the lab before any module has come.

    Raises ValueError for a name that is none, or that stands there twice.
    """
    found: dict[str, Device] = {}
    for kind, name, _ in options.places():
        if name in found:
            raise ValueError(f"{name} stands there twice")
        found[name] = DEVICES[kind](options.move_timeout)
    return found


class Place:
    """A device of the lab, and who it is for."""

    def __init__(self, name: str, kind: Kind, host: str, device: ModuleDevice) -> None:
        self.name = name
        self.kind: Kind = kind
        self.host = host
        self.device = device
        self.last = ""  # the host of the last module that was here

    def rank(self, module: Module, title: str) -> int:
        """How well a module fits here, the lower the better."""
        if title == self.name:
            return 0
        if self.host:
            return 1
        if self.last == module.host:
            return 2
        return 4 if self.last else 3

    def takes(self, module: Module) -> bool:
        """Whether the module may come here."""
        fits = self.kind == module.kind and self.host in ("", module.host)
        return fits and self.device.present is None


class Reception:
    """Gives each module that dials in its place."""

    def __init__(self, host: Host, options: Options) -> None:
        self._host = host
        self._options = options
        self.modules = Modules(host.clock, options.manners, self._arrived)
        self.places = [
            Place(name, kind, where, self._device(name, kind))
            for kind, name, where in options.places()
        ]

    def _device(self, name: str, kind: Kind) -> ModuleDevice:
        """The device of a name: one that the section has brought already, or a new one."""
        node = self._host.devices().get(name)
        if node is not None and isinstance(node.device, DEVICES[kind]):
            return node.device
        device = DEVICES[kind](self._options.move_timeout)
        self._host.attach(name, device, NEVER)
        return device

    def _arrived(self, module: Module) -> None:
        if isinstance(module, Actuator) and self._options.ask != "none":
            # Where it is tells its generation, and since 4.0 its title.
            asked: Any = module.position()
            asked.addTimeout(self._options.quiet, self._host.clock)
            asked.addBoth(lambda _: self._admit(module, module.title))
        else:
            self._admit(module, "")

    def _admit(self, module: Module, title: str) -> None:
        if module.ended:
            return
        fitting = [place for place in self.places if place.takes(module)]
        if fitting:
            place = min(fitting, key=lambda place: place.rank(module, title))
            place.device.take(module)
        else:
            place = self._numbered(module)
        place.last = module.host
        log.info(
            "{name} is the {kind} at {peer}",
            name=place.name,
            kind="actuator" if module.kind == "ACTUATOR" else "detector",
            peer=module.peer,
        )

    def _numbered(self, module: Module) -> Place:
        """A new device, with the next number that is free."""
        base = module.kind.lower()
        taken = self._host.devices()
        name = next(name for n in count(1) if (name := f"{base}{n}") not in taken)
        device = DEVICES[module.kind](self._options.move_timeout)
        device.take(module)
        self._host.attach(name, device, NEVER)
        place = Place(name, module.kind, "", device)
        self.places.append(place)
        return place

    def leave(self) -> None:
        """Takes the devices out of the lab."""
        for place in self.places:
            node = self._host.devices().get(place.name)
            if node is not None and node.device is place.device:
                self._host.detach(place.name).addErrback(self._not_closed, place.name)
        self.places.clear()

    def _not_closed(self, failure: Any, name: str) -> None:
        log.failure("{name} could not be closed", failure, name=name)


class ModuleListener:
    """An open port for modules; `address` is what was bound."""

    def __init__(self, listener: TcpListener, reception: Reception) -> None:
        self.address = listener.address
        self.port = listener.port
        self.reception = reception
        number = getattr(listener.port.getHost(), "port", "")
        self.example = f"tick Connect in a PyMoDAQ module's TCP/IP settings, port {number}"
        self._listener = listener

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._listener.connections

    async def stop(self) -> None:
        """Closes the port and all connections; the devices leave the lab."""
        await self._listener.stop()
        self.reception.leave()


async def listen(
    host: Host, address: str, common: ServeOptions, options: Options, reactor: Any
) -> ModuleListener:
    """Lets modules dial in at `address`, a Twisted endpoint; `CannotListen` if it is taken."""
    reception = Reception(host, options)
    try:
        listener = await listen_tcp(
            reception.modules,
            address,
            reactor=reactor,
            allow=common.allow,
            max_connections=common.max_connections,
            drain=common.drain,
        )
    except BaseException:
        reception.leave()
        raise
    return ModuleListener(listener, reception)


__all__ = ["ModuleListener", "Options", "Reception", "devices", "listen"]
