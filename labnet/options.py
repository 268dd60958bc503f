"""Keys of a section from the fields of a dataclass, or from the arguments of a constructor.

A field or argument may be bool, int, float, str, a path, a ``Literal`` of words, an enumeration
(by its members' names), an IP network, a class with ``from_text``, a tuple or list of one of these
(items separated by commas or lines), or ``None`` besides one of these (empty text). A
``Mapping[str, ...]`` of one of these stands for any number of keys: ``parameter`` for ``parameter
power``, ``parameter wavelength`` and so on. A field's metadata may hold ``help``, ``unit`` and
``limits`` (lowest and highest value, both allowed).
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import itertools
import math
import re
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal, Union

from labnet.device import Device
from labnet.errors import shorten
from labnet.inifile import Section, suggest
from labnet.specs import NAME

Network = IPv4Network | IPv6Network
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
        if can_parse(hints.get(name := it.name))
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
    return Option(key_of(field.name), hint, default, unit, help, about.get("limits"))


def key_of(field: str) -> str:
    """The key of a field; one that would be a word of Python's, such as ``as``, ends with ``_``."""
    return field.removesuffix("_")


def filled(maker: Any, values: Mapping[str, Any]) -> Any:
    """The dataclass `maker` with values by their keys."""
    fields = (field.name for field in dataclasses.fields(maker))
    return maker(**{name: values[key_of(name)] for name in fields if key_of(name) in values})


def values_of(
    options: Collection[Option], section: Section, also: Collection[str] = ()
) -> dict[str, Any]:
    """The values that `section` sets for `options`; the keys in `also` are left to others.

    Raises `ConfigError` for a key that is neither, for a text that is no value of the option's
    type and for a required key that is not set.
    """
    named = {option.name: list(_named_keys(option, section)) for option in options}
    known = [*also, *map(shown_key, options)]
    section.check_keys([*known, *itertools.chain.from_iterable(named.values())])
    values: dict[str, Any] = {}
    for option in options:
        if named[option.name]:
            values[option.name] = _named_values(option, section, named[option.name])
        elif shown_key(option) in section.entries:
            values[option.name] = _value_of(option, section, option.name)
        elif option.required:
            raise section.error(f"the key {option.name!r} is missing")
    return values


def shown_key(option: Option) -> str:
    """The key as users see it."""
    return option.name if named_type(option.type) is None else f"{option.name} NAME"


def _value_of(option: Option, section: Section, key: str) -> Any:
    try:
        return option.parse(section.entries[key].text)
    except ValueError as error:
        raise section.bad(key, str(error)) from None


def _named_keys(option: Option, section: Section) -> Iterator[str]:
    """The keys ``parameter NAME`` of the section, for an option ``parameter`` that is a mapping."""
    if named_type(option.type) is not None:
        yield from (key for key in section.entries if key.startswith(f"{option.name} "))


def _named_values(option: Option, section: Section, keys: list[str]) -> dict[str, Any]:
    one = dataclasses.replace(option, type=named_type(option.type))
    values = {}
    for key in keys:
        name = key[len(option.name) :].strip()
        if not NAME.match(name):
            problem = f"{shorten(name)!r} is no name: a letter, then letters, digits, _"
            raise section.error(problem, key)
        values[name] = _value_of(one, section, key)
    return values


def type_name(hint: Any) -> str:
    """The type of a key in the words of the reference: ``number``, ``open | closed``."""
    if _is_union(hint):
        return "network" if hint == Network else type_name(_optional(hint))
    if typing.get_origin(hint) is Literal:
        return " | ".join(map(str, typing.get_args(hint)))
    if typing.get_origin(hint) in (tuple, list, Sequence):
        return f"list of {type_name(typing.get_args(hint)[0])}"
    if named_type(hint) is not None:
        return type_name(named_type(hint))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return " | ".join(hint.__members__)
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


def named_type(hint: Any) -> Any:
    """The type of the values of a ``Mapping[str, ...]``; None for any other hint."""
    if _is_union(hint):
        hint = _optional(hint)
    is_mapping = typing.get_origin(hint) is Mapping
    return typing.get_args(hint)[1] if is_mapping else None


def can_parse(hint: Any) -> bool:
    """Whether the text of a key can be read as a value of this type."""
    if _simple_parser(hint) is not None or typing.get_origin(hint) is Literal:
        return True
    if _is_union(hint):
        return can_parse(_optional(hint))
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return len(arguments) == 2 and arguments[1] is ... and can_parse(arguments[0])
    if typing.get_origin(hint) in (list, Sequence):
        return can_parse(arguments[0])
    return named_type(hint) is not None and can_parse(named_type(hint))


def _simple_parser(hint: Any) -> Callable[[str], Any] | None:
    if not isinstance(hint, type):
        return _PARSERS.get(hint) if isinstance(hint, types.UnionType) else None
    if is_device(hint):
        return str
    if issubclass(hint, enum.Enum):
        return functools.partial(_member, hint)
    own: Callable[[str], Any] | None = getattr(hint, "from_text", None)
    return _PARSERS.get(hint, own)


def _parse(text: str, hint: Any) -> Any:
    parser = _simple_parser(hint)
    if parser is not None:
        return parser(text)
    if _is_union(hint):
        return _parse(text, _optional(hint)) if text else None
    if typing.get_origin(hint) is Literal:
        return _choose(text, typing.get_args(hint))
    items = (_parse(item, typing.get_args(hint)[0]) for item in split_list(text))
    return list(items) if typing.get_origin(hint) is list else tuple(items)


def _member(kind: type[enum.Enum], text: str) -> enum.Enum:
    found = [member for name, member in kind.__members__.items() if name.lower() == text.lower()]
    if len(found) != 1:
        _choose(text, tuple(kind.__members__))
        return kind[text]
    return found[0]


def split_list(text: str) -> list[str]:
    """The items of a list written with commas, over one or more lines; empty ones are left out."""
    items = (item.strip() for item in text.replace("\n", ",").split(","))
    return [item for item in items if item]


def _choose(text: str, choices: tuple[Any, ...]) -> Any:
    words = {str(choice): choice for choice in choices}
    if text in words:
        return words[text]
    raise ValueError(f"{shorten(text)!r} is not one of {', '.join(words)}{_near(text, words)}")


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
    Path: lambda text: Path(text).expanduser(),
    Network: _network,
}
_NAMES: dict[Any, str] = {bool: "yes | no", int: "whole number", float: "number", str: "text"}
