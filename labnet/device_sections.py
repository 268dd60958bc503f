"""The sections ``[device NAME]``: the driver, its keys, the order in which devices are made."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from labnet.constructors import argument_options, arguments_of, load_class
from labnet.device import Device
from labnet.devices.declared import Declared, is_declaration, parse_declarations
from labnet.devices.table import OBJECT, Driver, find_driver
from labnet.inifile import Section, suggest
from labnet.keys import key
from labnet.options import Option, device_class, options_of, values_of
from labnet.sections import common_and_own, load_for, look_up

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


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


def read_device(section: Section) -> DeviceConfig:
    if not _NAME.fullmatch(section.name):
        raise section.error("a device's name is a letter, then letters, digits and _")
    driver: Driver = look_up(find_driver, section, "driver")
    if driver.own:
        return _own_device(section, driver)
    own = options_of(load_for(driver.load, section, "driver"))
    declared = _declared(section, driver)
    also = [] if declared is None else [key for key in section.entries if is_declaration(key)]
    keys, options = common_and_own(DeviceKeys, section, own, also)
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


def takes_declarations(maker: Any) -> bool:
    """Whether a driver's section may declare parameters and commands."""
    return "declared" in inspect.signature(maker).parameters


def _declared(section: Section, driver: Driver) -> Declared | None:
    """What the section declares; None for a driver that takes no declarations."""
    if not takes_declarations(driver.load()):
        return None
    try:
        return parse_declarations({key: it.text for key, it in section.entries.items()})
    except ValueError as error:
        key, _, problem = str(error).partition(": ")
        raise section.bad(key, problem) from None


def in_order(
    devices: list[DeviceConfig], brought: Collection[str] = ()
) -> tuple[DeviceConfig, ...]:
    """The devices so that each comes after those that its keys name.

    `brought` are the names of those that have no section, as the clients of a listener are devices;
    parameters of these may be mentioned too.
    """
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
            if name in brought:
                continue
            if name in on_the_way:
                raise device.section.bad(option, f"{name!r} needs this device in its turn")
            if name not in by_name:
                hint = suggest(name, (*by_name, *brought))
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
