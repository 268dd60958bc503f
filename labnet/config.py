"""A lab's configuration: INI text to frozen dataclasses.

Every error is a `ConfigError` of one line that names file, line, section and key, and the nearest
right word for one that is misspelled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from twisted.internet.abstract import isIPAddress

from labnet.device import Device
from labnet.device_sections import DeviceConfig, DeviceKeys, in_order, read_device
from labnet.endpoints import check_address, complete_address
from labnet.errors import shorten
from labnet.inifile import ConfigError, Section, error_at, read_ini, read_text, suggest
from labnet.keys import key
from labnet.logs import LEVELS
from labnet.options import (
    Network,
    Option,
    filled,
    options_of,
    split_list,
    values_of,
)
from labnet.sections import common_and_own, load_for, look_up
from labnet.wires.table import WIRES, Wire, find_wire

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
Level = Literal["debug", "info", "warn", "error"]
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

    default: Level = key("info", "shown from this level on: debug, info, warn or error")


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
    read = [read_device(section) for section in sections if section.kind == "device"]
    names = [device.name for device in read]
    serving = [section for section in sections if section.kind == "serve"]
    for section in serving:
        names += _brought(section, names)
    devices = in_order(read, names[len(read) :])
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


def _brought(section: Section, names: list[str]) -> list[str]:
    """The devices that the clients of a listener will be, as far as it has names for them."""
    wire: Wire = look_up(find_wire, section, "wire")
    if not wire.brings:
        return []
    module = load_for(wire.load_server, section, "wire")
    _, options = common_and_own(ServeKeys, section, options_of(module.Options))
    try:
        found = list(module.devices(module.Options(**options)))
    except ValueError as error:
        raise section.error(str(error)) from None
    if taken := [name for name in found if name in names]:
        raise section.error(f"there is already a device called {taken[0]}")
    return found


def _serve(section: Section, names: list[str]) -> ServeConfig:
    wire: Wire = look_up(find_wire, section, "wire")
    maker = load_for(wire.load_server, section, "wire").Options
    keys, options = common_and_own(ServeKeys, section, options_of(maker))
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
    wire: Wire = look_up(find_wire, section, "wire")
    if not wire.dialler:
        known = " or ".join(row.name for row in WIRES.values() if row.dialler) or "none"
        problem = f"programs of {wire.name} wait for no devices; those of {known} do"
        raise section.bad("wire", problem)
    dialler = load_for(wire.load_dialler, section, "wire")
    keys, options = common_and_own(DialKeys, section, options_of(dialler.Options))
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
    level = Option("", Level)
    levels = {}
    for name, entry in section.entries.items():
        try:
            levels[name] = level.parse(entry.text)
        except ValueError as error:
            raise section.bad(name, str(error)) from None
    assert set(levels.values()) <= set(LEVELS)
    return LogConfig(levels.pop("default", "info"), MappingProxyType(levels))


__all__ = [
    "Config", "ConfigError", "DeviceConfig", "DialConfig", "LogConfig", "ServeConfig",
    "load_config", "parse_config",
]  # fmt: skip
