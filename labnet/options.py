"""Keys of a section from the fields of a dataclass, or from the arguments of a constructor.

A field or argument may be bool, int, float, str, a ``Literal`` of words, an IP network, a tuple
of one of these (items separated by commas or lines), or ``None`` besides one of these (empty
text). A field's metadata may hold ``help``, ``unit`` and ``limits`` (lowest and highest value,
both allowed).
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import math
import re
import types
import typing
from collections.abc import Callable, Collection
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Literal, TypeVar, Union

from labnet.device import Device
from labnet.errors import shorten
from labnet.inifile import Section, suggest

Network = IPv4Network | IPv6Network
_T = TypeVar("_T")
_MISSING = inspect.Parameter.empty


@dataclasses.dataclass(frozen=True)
class Option:
    """One key: its name, the type of its value, its default (if any), unit, help and limits."""

    name: str
    type: Any
    default: Any = _MISSING
    unit: str = ""
    help: str = ""
    limits: tuple[float, float] | None = None

    @property
    def required(self) -> bool:
        """Whether the key must be set."""
        return self.default is _MISSING

    def parse(self, text: str) -> Any:
        """The value that `text` stands for; ValueError with a sentence when it is none."""
        value = _parse(text, self.type)
        low, high = self.limits or (-math.inf, math.inf)
        if self.limits and value is not None and not low <= value <= high:
            raise ValueError(f"{value} is outside {low:g} to {high:g} {self.unit}".rstrip())
        return value


def key(default: _T, help: str, unit: str = "", limits: tuple[float, float] | None = None) -> _T:
    """A dataclass field for a key, with its default and what the reference says of it."""
    metadata = {"help": help, "unit": unit, "limits": limits}
    field: _T = dataclasses.field(default=default, metadata=metadata)
    return field


def options_of(target: Any) -> tuple[Option, ...]:
    """The keys that `target`, a dataclass or another class or function, can be made with."""
    if dataclasses.is_dataclass(target):
        hints = typing.get_type_hints(target)
        return tuple(_of_field(field, hints[field.name]) for field in dataclasses.fields(target))
    maker = inspect.getattr_static(target, "__init__") if isinstance(target, type) else target
    if maker is object.__init__:
        return ()
    hints = typing.get_type_hints(maker)
    helps = argument_helps(inspect.getdoc(target) or "")
    parameters = inspect.signature(maker).parameters.values()
    return tuple(
        Option(name, hints[name], it.default, help=helps.get(name, ""))
        for it in parameters
        if _can_parse(hints.get(name := it.name))
    )


def argument_helps(doc: str) -> dict[str, str]:
    """What the ``Args:`` part of a docstring says of each argument."""
    lines = doc.partition("\nArgs:\n")[2].splitlines()
    helps: dict[str, str] = {}
    name = ""
    for line in itertools.takewhile(lambda line: not line or line.startswith("    "), lines):
        start = re.match(r"    (\w+): +(.*)", line)
        if start:
            name, helps[start[1]] = start[1], start[2].strip()
        elif name and line.strip():
            helps[name] += f" {line.strip()}"
    return helps


def _of_field(field: dataclasses.Field[Any], hint: Any) -> Option:
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    elif default is dataclasses.MISSING:
        default = _MISSING
    about = field.metadata
    unit, help = about.get("unit", ""), about.get("help", "")
    return Option(field.name, hint, default, unit, help, about.get("limits"))


def values_of(
    options: Collection[Option], section: Section, also: Collection[str] = ()
) -> dict[str, Any]:
    """The values that `section` sets for `options`; the keys in `also` are left to others.

    Raises `ConfigError` for a key that is neither, for a text that is no value of the option's
    type and for a required key that is not set.
    """
    section.check_keys([*also, *(option.name for option in options)])
    values = {}
    for option in options:
        entry = section.entries.get(option.name)
        if entry is not None:
            try:
                values[option.name] = option.parse(entry.text)
            except ValueError as error:
                raise section.bad(option.name, str(error)) from None
        elif option.required:
            raise section.error(f"the key {option.name!r} is missing")
    return values


def type_name(hint: Any) -> str:
    """The type of a key in the words of the reference: ``number``, ``open | closed``."""
    if _is_union(hint):
        return "network" if hint == Network else type_name(_optional(hint))
    if typing.get_origin(hint) is Literal:
        return " | ".join(map(str, typing.get_args(hint)))
    if typing.get_origin(hint) is tuple:
        return f"list of {type_name(typing.get_args(hint)[0])}"
    return "device" if is_device(hint) else _NAMES.get(hint, "text")


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (Union, types.UnionType)


def _optional(hint: Any) -> Any:
    """The one type that stands beside None in `hint`, or None if `hint` is of another shape."""
    kinds = typing.get_args(hint)
    others = [kind for kind in kinds if kind is not types.NoneType]
    return others[0] if len(others) == 1 and len(kinds) == 2 else None


def is_device(hint: Any) -> bool:
    """Whether a key of this type names another device of the lab."""
    return isinstance(hint, type) and issubclass(hint, Device)


def device_class(hint: Any) -> type[Device] | None:
    """The class of device that a key of this type names, or None if it names none."""
    inner = _optional(hint) if _is_union(hint) else hint
    return inner if is_device(inner) else None


def _can_parse(hint: Any) -> bool:
    if hint in _PARSERS or is_device(hint) or typing.get_origin(hint) is Literal:
        return True
    if _is_union(hint):
        return _can_parse(_optional(hint))
    arguments = typing.get_args(hint)
    return (
        typing.get_origin(hint) is tuple
        and len(arguments) == 2
        and arguments[1] is ...
        and _can_parse(arguments[0])
    )


def _parse(text: str, hint: Any) -> Any:
    parser = str if is_device(hint) else _PARSERS.get(hint)
    if parser is not None:
        return parser(text)
    if _is_union(hint):
        return _parse(text, _optional(hint)) if text else None
    if typing.get_origin(hint) is Literal:
        return _choose(text, typing.get_args(hint))
    return tuple(_parse(item, typing.get_args(hint)[0]) for item in split_list(text))


def split_list(text: str) -> list[str]:
    """The items of a list written with commas, over one or more lines; empty ones are left out."""
    items = (item.strip() for item in text.replace("\n", ",").split(","))
    return [item for item in items if item]


def _choose(text: str, choices: tuple[str, ...]) -> str:
    if text in choices:
        return text
    raise ValueError(f"{shorten(text)!r} is not one of {', '.join(choices)}{_near(text, choices)}")


def _near(text: str, choices: Collection[str]) -> str:
    hint = suggest(text, choices)
    return hint if "did you mean" in hint else ""


_BOOLS = dict.fromkeys(("yes", "true", "on", "1"), True) | dict.fromkeys(
    ("no", "false", "off", "0"), False
)


def _bool(text: str) -> bool:
    try:
        return _BOOLS[text.lower()]
    except KeyError:
        raise ValueError(f"{shorten(text)!r} is neither yes nor no") from None


def _int(text: str) -> int:
    try:
        return int(text[:100], 0 if text[:2].lower() == "0x" else 10)
    except ValueError:
        raise ValueError(f"{shorten(text)!r} is not a whole number") from None


def _float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{shorten(text)!r} is not a number") from None
    if not math.isfinite(value):
        raise ValueError(f"{shorten(text)!r} is not a finite number")
    return value


def _network(text: str) -> Network:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{shorten(text)!r} is not an IP address or network such as 192.168.1.0/24"
        ) from None


_PARSERS: dict[Any, Callable[[str], Any]] = {
    bool: _bool,
    int: _int,
    float: _float,
    str: str,
    Network: _network,
}
_NAMES: dict[Any, str] = {bool: "yes | no", int: "whole number", float: "number", str: "text"}
