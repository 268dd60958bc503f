"""The reference of a configuration's keys, made from the code that reads them."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from labnet.config import SECTIONS, DialKeys, Level, ServeKeys
from labnet.constructors import Literally
from labnet.device_sections import DeviceKeys, takes_declarations
from labnet.devices.table import DRIVERS, OBJECT
from labnet.options import Option, options_of, shown_key, type_name
from labnet.wires.table import WIRES

_NAMED = ("device", "serve", "dial")
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


#: The keys that declare something, for the reference.
_DECLARED = (
    Option(
        "parameter NAME", str, help="what asks for it, what sets it, kind, unit, low..high; such as"
        " SENS:WAV?, SENS:WAV {value}, float, nm, 400..1100"
    ),
    Option(
        "command NAME", str, help="its message, the kinds of its arguments and of its answer; such"
        " as MOVE {by}, by: float"
    ),
)  # fmt: skip


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
    rows.append(KeyDescription("log", "WIRE or DEVICE", type_name(Level), "", "", _LOG_HELP))
    for driver in DRIVERS.values():
        title = f"device NAME, driver = {driver.name}"
        own = _OBJECT if driver is OBJECT else options_of(driver.load())
        rows += _describe(title, own, DeviceKeys)
        if driver is not OBJECT and takes_declarations(driver.load()):
            rows += _describe(title, _DECLARED)
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
            key_name = shown_key(option)
            yield KeyDescription(title, key_name, shown, default, option.unit, option.help)


def default_text(value: Any) -> str:
    """A default as it would stand in the file."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
