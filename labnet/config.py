"""A lab's configuration: INI text to frozen dataclasses.

Every error is a `ConfigError` of one line that names file, line, section and key, and the nearest
right word for one that is misspelled.
"""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from twisted.internet.abstract import isIPAddress

from labnet.constructors import Literally, argument_options, arguments_of, load_class
from labnet.device import Device
from labnet.devices.declared import Declared, is_declaration, parse_declarations
from labnet.devices.table import DRIVERS, OBJECT, Driver, find_driver
from labnet.endpoints import check_address, complete_address
from labnet.errors import UnknownName, shorten
from labnet.inifile import ConfigError, Section, error_at, read_ini, read_text, suggest
from labnet.keys import key
from labnet.logs import LEVELS
from labnet.options import (
    Network,
    Option,
    device_class,
    filled,
    options_of,
    split_list,
    type_name,
    values_of,
)
from labnet.wires.table import WIRES, Wire, find_wire

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_Level = Literal["debug", "info", "warn", "error"]
_T = TypeVar("_T")


@dataclass(frozen=True)
class LabKeys:
    """The keys of ``[lab]``."""

    name: str = key("lab", "what the lab is called in logs and on the wires")
    drain: float = key(
        5.0, "how long a stop waits for calls in progress and for clients to go", "s", (0, 3600)
    )
    control: str = key(
        "", "path of the control socket, for the command labnet; no: none; by default one that is"
        " called as the lab, in a directory of this user's"
    )


@dataclass(frozen=True)
class LockKeys:
    """The keys of ``[locks]``."""

    reads: Literal["open", "closed"] = key(
        "open", "whether others may read a parameter that somebody holds exclusively"
    )
    stop: Literal["open", "closed"] = key(
        "closed", "whether others may stop a motion of a device that somebody holds"
    )
    grace: float = key(
        10.0, "how long a named owner keeps its locks after losing its connection", "s", (0, 86400)
    )
    may_break: bool = key(False, "whether a client may break the lock of another")


@dataclass(frozen=True)
class LogKeys:
    """The key of ``[log]`` that is no name of a wire or device."""

    default: _Level = key("info", "shown from this level on: debug, info, warn or error")


@dataclass(frozen=True)
class DeviceKeys:
    """The keys that every ``[device NAME]`` has."""

    driver: str = key("", "the driver, such as simulated.stage (must be set)")
    alias: tuple[str, ...] = key((), "other names by which foreign programs know the device")
    timeout: float | None = key(
        None, "time limit of a call, instead of its section's", "s", (0.001, 86400)
    )
    retry: float = key(
        1.0, "pause before a device that is not connected is tried again; it doubles each time,"
        " and 0 is for no further try", "s", (0, 86400)
    )
    longest_retry: float = key(60.0, "the longest such pause", "s", (0.001, 86400))


@dataclass(frozen=True)
class ServeKeys:
    """The keys that every ``[serve NAME]`` has."""

    wire: str = key("", "the wire format (must be set)")
    listen: str = key(
        "", "a Twisted endpoint or a ZMQ address; without one, the wire's usual port on 127.0.0.1"
    )
    device: str = key("", "the one device that is served, or a part of it such as daq.port0")
    devices: str = key("", "several devices: * or a list of NAME or WIRE'S NAME: NAME")
    allow: tuple[Network, ...] = key((), "addresses and networks that may connect; empty: all")
    timeout: float = key(10.0, "time limit of a call", "s", (0.001, 86400))
    max_connections: int = key(1000, "clients at a time", limits=(1, 100_000))
    allow_shutdown: Literal["no", "listener", "lab"] = key(
        "no", "what a client's shutdown command ends: nothing, this listener or the lab"
    )


@dataclass(frozen=True)
class DialKeys:
    """The keys that every ``[dial NAME]`` has."""

    wire: str = key("", "the wire format, one whose programs wait for devices (must be set)")
    device: str = key("", "the device that is offered, or a part of it such as stage.velocity")
    connect: str = key(
        "", "where the program waits: host, host:port or a Twisted endpoint; without one, the"
        " wire's usual port on 127.0.0.1"
    )
    timeout: float = key(10.0, "time limit of a call", "s", (0.001, 86400))


@dataclass(frozen=True)
class DiscoveryKeys:
    """The keys of ``[discovery]``; with that section the lab is announced on the network."""

    interfaces: tuple[str, ...] = key(
        ("127.0.0.1",),
        "addresses of this machine on whose networks the lab is announced; *: all but the loopback",
    )
    device: str = key(
        "", "the device that the identification document describes first; by default the first"
        " that is an instrument on hislip, vxi11, scpi or vicp"
    )
    manufacturer: str = key(
        "", "the maker that is announced instead of the devices' own; pyvisa-py lists VICP devices"
        " only of a maker that begins with lecroy"
    )
    host: str = key(
        "", "the host name that is announced, without .local; by default that of this machine with"
        " -labnet behind it"
    )
    port: int = key(
        0, "port of the web server with the identification document; 0: any", "", (0, 65535)
    )
    description: str = key("", "what users call this lab or bench, for the document")


@dataclass(frozen=True)
class DeviceConfig:
    """One ``[device NAME]``; `options` are the driver's own keys that the section sets.

    `parts` are those of its keys that name other devices, `declared` the parameters and commands
    that the section adds, for a driver whose constructor takes them as `declared`.
    """

    name: str
    driver: Driver
    keys: DeviceKeys
    options: Mapping[str, Any]
    section: Section
    parts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    declared: Declared | None = None

    def make(
        self, made: Mapping[str, Device] | None = None, clock: Any = None, dial: Any = None
    ) -> Any:
        """A device as the section asks for; ConfigError when its driver refuses the values.

        `made` are the devices that its keys may name; a driver whose constructor takes a `clock`
        gets this one, one that takes a `dial` gets what makes clients of the wires.
        """
        driver = self.driver.load()
        options = dict(self.options)
        options |= {argument: (made or {})[name] for argument, name in self.parts.items()}
        wanted = inspect.signature(driver).parameters
        given = {"clock": clock, "dial": dial}
        options |= {name: it for name, it in given.items() if it is not None and name in wanted}
        if self.declared is not None:
            options["declared"] = self.declared
        try:
            device = driver(**options)
        except Exception as error:  # a class of the user's may raise anything
            why = str(error) or type(error).__name__
            raise self.section.error(f"the device cannot be made: {why}", "driver") from error
        if self.keys.alias:
            device.aliases = (*device.aliases, *self.keys.alias)
        return device


@dataclass(frozen=True)
class ServeConfig:
    """One ``[serve NAME]``; `devices` maps the wire's names to the lab's paths."""

    name: str
    wire: Wire
    listen: str
    device: str | None
    devices: Mapping[str, str]
    keys: ServeKeys
    options: Any
    section: Section

    def brought(self) -> Mapping[str, Device]:
        """Devices for the clients that will be devices, as far as the section names them."""
        found: Mapping[str, Device] = {}
        if self.wire.brings:
            found = self.wire.load_server().devices(self.options)
        return found


@dataclass(frozen=True)
class DialConfig:
    """One ``[dial NAME]``; `device` is the lab's path."""

    name: str
    wire: Wire
    connect: str
    device: str
    keys: DialKeys
    options: Any
    section: Section


@dataclass(frozen=True)
class LogConfig:
    """``[log]``: the level of all, and those of single wires and devices."""

    default: str = "info"
    by_name: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Config:
    """A whole configuration, checked."""

    file: str
    lab: LabKeys = LabKeys()
    locks: LockKeys = LockKeys()
    log: LogConfig = field(default_factory=LogConfig)
    devices: tuple[DeviceConfig, ...] = ()
    serves: tuple[ServeConfig, ...] = ()
    dials: tuple[DialConfig, ...] = ()
    discovery: DiscoveryKeys | None = None


SECTIONS: dict[str, Any] = {
    "lab": LabKeys,
    "locks": LockKeys,
    "log": LogKeys,
    "device": DeviceKeys,
    "serve": ServeKeys,
    "dial": DialKeys,
    "discovery": DiscoveryKeys,
}
_NAMED = ("device", "serve", "dial")
DEMO = Path(__file__).with_name("demo.ini")


def load_config(path: str | Path | None = None) -> Config:
    """The configuration in the file at `path`, or the demo lab's; raises `ConfigError`."""
    file = str(DEMO if path is None else path)
    return parse_config(read_text(file), file)


def parse_config(text: str, file: str = "lab.ini") -> Config:
    """The configuration that `text` says; `file` is its name in the errors."""
    sections = read_ini(text, file)
    for section in sections:
        _check_title(section)
    single = {section.kind: section for section in sections if not section.name}
    devices = _in_order([_device(section) for section in sections if section.kind == "device"])
    names = [section.name for section in sections if section.kind == "device"]
    serving = [section for section in sections if section.kind == "serve"]
    for section in serving:
        names += _brought(section, names)
    serves = tuple(_serve(section, names) for section in serving)
    _check_addresses(serves)
    if not devices and not any(serve.wire.brings for serve in serves):
        raise error_at(file, 1, "no devices; a lab has at least one section [device NAME]")
    empty = partial(Section, file, 1)
    return Config(
        file,
        _fill(LabKeys, single.get("lab", empty("lab"))),
        _fill(LockKeys, single.get("locks", empty("locks"))),
        _log(single.get("log", empty("log")), names),
        devices,
        serves,
        tuple(_dial(section, names) for section in sections if section.kind == "dial"),
        _discovery(single["discovery"], names) if "discovery" in single else None,
    )


def _check_title(section: Section) -> None:
    if section.kind not in SECTIONS:
        raise section.error(f"unknown section{suggest(section.kind, SECTIONS)}")
    if section.kind in _NAMED and not section.name:
        raise section.error(f"the section has no name; write [{section.kind} NAME]")
    if section.kind not in _NAMED and section.name:
        raise section.error(f"the section has no name of its own; write [{section.kind}]")


def _fill(keys: type[_T], section: Section, also: tuple[str, ...] = ()) -> _T:
    return keys(**values_of(options_of(keys), section, also))


def _common(
    keys: type[_T], section: Section, own: tuple[Option, ...], also: Collection[str] = ()
) -> tuple[_T, dict[str, Any]]:
    """The keys that all sections of the kind have, and those of the one driver or wire."""
    common = options_of(keys)
    names = {option.name for option in common}
    own = tuple(option for option in own if option.name not in names)
    values = values_of((*common, *own), section, also)
    mine = {option.name: values[option.name] for option in own if option.name in values}
    return keys(**{name: values[name] for name in names & values.keys()}), mine


def _look_up(find: Any, section: Section, what: str) -> Any:
    name = section.text(what)
    if not name:
        raise section.error(f"the key {what!r} is missing")
    try:
        return find(name)
    except UnknownName:
        hint = suggest(name, WIRES if what == "wire" else DRIVERS)
        raise section.error(f"unknown {what} {shorten(name)!r}{hint}", what) from None


def _load(load: Callable[[], Any], section: Section, what: str) -> Any:
    try:
        return load()
    except ModuleNotFoundError as error:
        if str(error.name).startswith("labnet"):
            raise
        raise section.bad(what, f"needs the Python package {error.name}, not installed") from None


def _device(section: Section) -> DeviceConfig:
    if not _NAME.fullmatch(section.name):
        raise section.error("a device's name is a letter, then letters, digits and _")
    driver: Driver = _look_up(find_driver, section, "driver")
    if driver.own:
        return _own_device(section, driver)
    own = options_of(_load(driver.load, section, "driver"))
    declared = _declared(section, driver)
    also = [] if declared is None else [key for key in section.entries if is_declaration(key)]
    keys, options = _common(DeviceKeys, section, own, also)
    named = {option.name for option in own if device_class(option.type) is not None}
    parts = {key: options.pop(key) for key in named & options.keys()}
    parts = {key: name for key, name in parts.items() if name}
    return DeviceConfig(
        section.name,
        driver,
        keys,
        MappingProxyType(options),
        section,
        MappingProxyType(parts),
        declared,
    )


#: The keys of ``driver = object``, for the reference.
_OBJECT = (
    Option("class", str, help="the dotted name of the class, such as package.module.Class"),
    Option(
        "NAME", Literally, None, help="an argument of its constructor: a number, true, a list, text"
    ),
    Option(
        "argument NAME",
        Literally,
        None,
        help="the same, for an argument that is called as another key or handed on to a base class",
    ),
)


def _own_device(section: Section, driver: Driver) -> DeviceConfig:
    """A device of a class of the user's, by its dotted name or by the key ``class``."""
    key = "class" if driver is OBJECT else "driver"
    if not section.text(key):
        raise section.error(f"the key {key!r} is missing")
    try:
        target = load_class(section.text(key), _folder(section))
        arguments = arguments_of(target)
    except ValueError as error:
        raise section.bad(key, str(error)) from None
    common = options_of(DeviceKeys)
    also = [key] if driver is OBJECT else []
    defaults = {"name": section.name, **driver.defaults(target)}
    given = {name: defaults[name] for name in arguments.required & defaults.keys()}
    taken = [*(option.name for option in common), *also]
    chosen = argument_options(arguments, section, taken, given)
    values = values_of((*common, *chosen.values()), section, also)
    keys = DeviceKeys(**{it.name: values[it.name] for it in common if it.name in values})
    given |= {name: values[it.name] for name, it in chosen.items() if it.name in values}
    parts = {name: given.pop(name) for name in _devices_among(chosen) if name in given}
    return DeviceConfig(
        section.name,
        replace(driver, target=section.text(key)),
        keys,
        MappingProxyType(given),
        section,
        MappingProxyType({name: part for name, part in parts.items() if part}),
    )


def _devices_among(options: Mapping[str, Option]) -> list[str]:
    return [name for name, option in options.items() if device_class(option.type) is not None]


def _folder(section: Section) -> Path | None:
    """Where the configuration lies: modules beside it can be imported too."""
    file = Path(section.file)
    return file.resolve().parent if file.is_file() else None


def _declared(section: Section, driver: Driver) -> Declared | None:
    """What the section declares; None for a driver that takes no declarations."""
    if "declared" not in inspect.signature(driver.load()).parameters:
        return None
    try:
        return parse_declarations({key: it.text for key, it in section.entries.items()})
    except ValueError as error:
        key, _, problem = str(error).partition(": ")
        raise section.bad(key, problem) from None


def _in_order(devices: list[DeviceConfig]) -> tuple[DeviceConfig, ...]:
    """The devices so that each comes after those that its keys name."""
    by_name = {device.name: device for device in devices}
    ordered: dict[str, DeviceConfig] = {}

    def place(device: DeviceConfig, on_the_way: tuple[str, ...]) -> None:
        for option, name in device.parts.items():
            if name in on_the_way:
                raise device.section.bad(option, f"{name!r} needs this device in its turn")
            if name not in by_name:
                problem = f"there is no device {name!r}{suggest(name, by_name)}"
                raise device.section.bad(option, problem)
            _check_class(device, option, by_name[name])
            if name not in ordered:
                place(by_name[name], (*on_the_way, name))
        for option, name in _mentioned(device):
            if name in on_the_way:
                raise device.section.bad(option, f"{name!r} needs this device in its turn")
            if name not in by_name:
                hint = suggest(name, by_name)
                raise device.section.bad(option, f"there is no device {name!r}{hint}")
            if name not in ordered:
                place(by_name[name], (*on_the_way, name))
        ordered[device.name] = device

    for device in devices:
        if device.name not in ordered:
            place(device, (device.name,))
    return tuple(ordered.values())


def _mentioned(device: DeviceConfig) -> Iterator[tuple[str, str]]:
    """The keys of a section that mention parameters of other devices, and the devices' names."""
    renamed = device.options.get("part") or {}
    for option, values in device.options.items():
        for name, value in values.items() if isinstance(values, Mapping) else ():
            for path in getattr(value, "names", ()):
                first = path.partition(".")[0]
                yield f"{option} {name}", renamed.get(first, first)


def _check_class(device: DeviceConfig, name: str, part: DeviceConfig) -> None:
    maker = device.driver.load()
    if not isinstance(maker, type):
        return
    hints = {option.name: option.type for option in arguments_of(maker).options}
    wanted = device_class(hints[name])
    driver = part.driver.load()
    if wanted is not None and isinstance(driver, type) and not issubclass(driver, wanted):
        raise device.section.bad(name, f"{part.name!r} is no {wanted.__name__.lower()}")


def _brought(section: Section, names: list[str]) -> list[str]:
    """The devices that the clients of a listener will be, as far as it has names for them."""
    wire: Wire = _look_up(find_wire, section, "wire")
    if not wire.brings:
        return []
    module = _load(wire.load_server, section, "wire")
    _, options = _common(ServeKeys, section, options_of(module.Options))
    try:
        found = list(module.devices(module.Options(**options)))
    except ValueError as error:
        raise section.error(str(error)) from None
    if taken := [name for name in found if name in names]:
        raise section.error(f"there is already a device called {taken[0]}")
    return found


def _serve(section: Section, names: list[str]) -> ServeConfig:
    wire: Wire = _look_up(find_wire, section, "wire")
    maker = _load(wire.load_server, section, "wire").Options
    keys, options = _common(ServeKeys, section, options_of(maker))
    listen = complete_address(keys.listen or wire.listen)
    problem = check_address(listen, wire.zmq)
    if problem:
        raise section.bad("listen", problem)
    device, devices = _served(section, keys, names, wire)
    return ServeConfig(section.name, wire, listen, device, devices, keys, maker(**options), section)


def _served(
    section: Section, keys: ServeKeys, names: list[str], wire: Wire
) -> tuple[str | None, Mapping[str, str]]:
    if wire.brings:
        if keys.device or keys.devices:
            key = "device" if keys.device else "devices"
            raise section.error("the clients of this wire are devices; it serves none", key)
        return None, MappingProxyType({})
    if keys.device and keys.devices:
        raise section.error("either 'device' or 'devices', not both", "devices")
    if keys.devices == "*":
        return None, MappingProxyType({name: name for name in names})
    if keys.devices:
        return None, MappingProxyType(dict(_pairs(section, keys.devices, names)))
    if not keys.device and len(names) != 1:
        raise section.error("the key 'device' (or 'devices') is missing")
    device = keys.device or names[0]
    _check_device(section, "device", device, names)
    return device, MappingProxyType({})


def _dial(section: Section, names: list[str]) -> DialConfig:
    wire: Wire = _look_up(find_wire, section, "wire")
    if not wire.dialler:
        known = " or ".join(row.name for row in WIRES.values() if row.dialler) or "none"
        problem = f"programs of {wire.name} wait for no devices; those of {known} do"
        raise section.bad("wire", problem)
    dialler = _load(wire.load_dialler, section, "wire")
    keys, options = _common(DialKeys, section, options_of(dialler.Options))
    if not keys.device and len(names) != 1:
        raise section.error("the key 'device' is missing")
    device = keys.device or names[0]
    _check_device(section, "device", device, names)
    connect = keys.connect or f"127.0.0.1:{dialler.PORT}"
    chosen = filled(dialler.Options, options)
    return DialConfig(section.name, wire, connect, device, keys, chosen, section)


def _pairs(section: Section, text: str, names: list[str]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for item in split_list(text):
        shown, colon, path = (part.strip() for part in item.rpartition(":"))
        shown = shown if colon else path
        if shown in seen:
            raise section.bad("devices", f"{shown!r} stands there twice")
        seen.add(shown)
        _check_device(section, "devices", path, names)
        yield shown, path


def _check_device(section: Section, name: str, path: str, names: list[str]) -> None:
    first = path.partition(".")[0]
    if first not in names:
        raise section.bad(name, f"there is no device {first!r}{suggest(first, names)}")


def _check_addresses(serves: tuple[ServeConfig, ...]) -> None:
    first: dict[str, ServeConfig] = {}
    for serve in serves:
        other = first.setdefault(serve.listen, serve)
        fixed = not re.search(r":(0|\*)(:|$)", serve.listen)
        if other is not serve and fixed:
            problem = f"{serve.listen} is the address of [{other.section.title}] already"
            raise serve.section.bad("listen", problem)


def _discovery(section: Section, names: list[str]) -> DiscoveryKeys:
    keys = _fill(DiscoveryKeys, section)
    if keys.device:
        _check_device(section, "device", keys.device, names)
    if not keys.interfaces:
        raise section.bad("interfaces", "names no address")
    for address in keys.interfaces:
        if address != "*" and not isIPAddress(address):
            raise section.bad("interfaces", f"{shorten(address)!r} is no IPv4 address")
    return keys


def _log(section: Section, names: list[str]) -> LogConfig:
    known = [*WIRES, *names]
    section.check_keys(["default", *known])
    level = Option("", _Level)
    levels = {}
    for name, entry in section.entries.items():
        try:
            levels[name] = level.parse(entry.text)
        except ValueError as error:
            raise section.bad(name, str(error)) from None
    assert set(levels.values()) <= set(LEVELS)
    return LogConfig(levels.pop("default", "info"), MappingProxyType(levels))


@dataclass(frozen=True)
class KeyDescription:
    """One row of the reference of keys."""

    section: str
    key: str
    type: str
    default: str
    unit: str
    help: str


def describe_options() -> tuple[KeyDescription, ...]:
    """Every key of every section, driver and wire, for the reference."""
    rows: list[KeyDescription] = []
    for kind, keys in SECTIONS.items():
        title = f"{kind} NAME" if kind in _NAMED else kind
        rows += _describe(title, options_of(keys))
    rows.append(KeyDescription("log", "WIRE or DEVICE", type_name(_Level), "", "", _LOG_HELP))
    for driver in DRIVERS.values():
        title = f"device NAME, driver = {driver.name}"
        own = _OBJECT if driver is OBJECT else options_of(driver.load())
        rows += _describe(title, own, DeviceKeys)
    for wire in WIRES.values():
        title = f"serve NAME, wire = {wire.name}"
        rows += _describe(title, options_of(wire.load_server().Options), ServeKeys)
        if wire.dialler:
            title = f"dial NAME, wire = {wire.name}"
            rows += _describe(title, options_of(wire.load_dialler().Options), DialKeys)
    return tuple(rows)


_LOG_HELP = "the level of one wire or one device; debug shows each message, bounded in length"


def _describe(
    title: str, options: tuple[Option, ...], common: Any = None
) -> Iterator[KeyDescription]:
    known = set() if common is None else {option.name for option in options_of(common)}
    for option in options:
        if option.name not in known:
            default = "" if option.required else default_text(option.default)
            shown = type_name(option.type)
            yield KeyDescription(title, option.name, shown, default, option.unit, option.help)


def default_text(value: Any) -> str:
    """A default as it would stand in the file."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


__all__ = [
    "Config", "ConfigError", "DeviceConfig", "DialConfig", "KeyDescription", "LogConfig",
    "ServeConfig", "describe_options", "load_config", "parse_config",
]  # fmt: skip
