"""pymeasure instruments: properties with their ranges and choices, channels as sub-devices.

What a property allows is read from its definition, without asking the instrument. The public
methods of the instrument's own class become commands.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from labnet.device import Device
from labnet.devices.objects.kinds_of_value import (
    LOOSE,
    is_number,
    kind_of_choices,
    kind_of_type,
    limits_of,
)
from labnet.devices.objects.shell import ObjectDevice, help_of, read_identity
from labnet.specs import NAME, command_spec, hints_of
from labnet.values import ANY, BOOL, INT, STR, Kind, Limits

_BASES = (
    "pymeasure.instruments.instrument", "pymeasure.instruments.common_base",
    "pymeasure.instruments.channel", "pymeasure.instruments.fakes",
)  # fmt: skip
#: Methods of the library's bases that are for users of the instrument.
_USEFUL = ("reset", "clear", "shutdown")
_RANGES = ("range", "truncated")
#: The library has no field for a unit, but its documentation says "in Volts" as a rule.
_UNIT = re.compile(r"\bin (?:units of )?([A-Za-z]+)")
_UNITS = {
    "volt": "V", "amp": "A", "ampere": "A", "ohm": "Ohm", "hertz": "Hz", "hz": "Hz", "second": "s",
    "watt": "W", "celsius": "degC", "kelvin": "K", "degree": "deg", "percent": "%", "dbm": "dBm",
    "tesla": "T", "gauss": "G", "farad": "F", "henry": "H", "meter": "m", "nm": "nm", "mm": "mm",
    "milliwatt": "mW", "khz": "kHz", "mhz": "MHz", "ghz": "GHz", "mv": "mV", "ma": "mA",
    "ms": "ms", "us": "us", "torr": "Torr", "mbar": "mbar",
}  # fmt: skip
_CASTS: Mapping[Any, Kind] = {float: LOOSE, int: INT, bool: BOOL, str: STR}


class PymeasureDevice(ObjectDevice):
    """Stands for a pymeasure instrument."""

    def describe_class(self, cls: type) -> None:
        _describe(self, cls, lambda: self.item)

    def describe_object(self, item: Any) -> None:
        self._add_channels(self, item)

    def _add_channels(self, device: Device, item: Any) -> None:
        for name, channel in _channels(item):
            child = Device()
            _describe(child, type(channel), partial(_same, channel))
            self._add_channels(child, channel)
            device.add_device(name, child)

    def open(self, item: Any) -> None:
        if "id" in dir(type(item)) and getattr(item, "SCPI", True):
            try:
                self.identity = read_identity(item.id, self.identity)
            except Exception:  # not every instrument knows *IDN?
                pass

    def close(self, item: Any) -> None:
        adapter = getattr(item, "adapter", None)
        if self.made_here and adapter is not None:
            adapter.close()


def _same(item: Any) -> Any:
    return item


def _describe(device: Device, cls: type, item: Any) -> None:
    """Adds the properties and methods of a class; ``item()`` gives the object."""
    for name, member in _members(cls):
        if isinstance(member, property):
            _add_property(device, cls, name, member, item)
        else:
            method = partial(_call, item, name)
            spec = command_spec(name, member.__get__(object()), help=help_of(member))
            device.add_command(name, method, spec=spec)


def _call(item: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    return getattr(item(), name)(*args, **kwargs)


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__[:-1]):
        own = base.__module__ not in _BASES or base is cls
        for name, member in vars(base).items():
            if not NAME.match(name):
                continue
            wanted = isinstance(member, property)
            wanted |= inspect.isfunction(member) and (own or name in _USEFUL)
            if wanted:
                found[name] = member
            else:
                found.pop(name, None)
    yield from found.items()


def _add_property(device: Device, cls: type, name: str, member: property, item: Any) -> None:
    allowed = Allowed(cls, name, member)
    reads, writes = not allowed.only_set, member.fset is not None and not allowed.only_get
    if not reads and not writes:
        return
    device.add_parameter(
        name,
        allowed.kind,
        getter=(lambda: getattr(item(), name)) if reads else None,
        setter=(lambda value: setattr(item(), name, value)) if writes else None,
        access=f"{'r' if reads else ''}{'w' if writes else ''}",
        unit=unit_in(member.__doc__) if is_number(allowed.kind) else "",
        limits=allowed.limits,
        help=help_of(member),
    )


def unit_in(text: str | None) -> str:
    """The first unit that a docstring names, such as ``in Volts``."""
    for word in _UNIT.findall(text or ""):
        name = word.lower()
        unit = _UNITS.get(name) or _UNITS.get(name.removesuffix("s"))
        if unit:
            return unit
    return ""


class Allowed:
    """What a property gives and takes, as the library's ``control`` was told."""

    def __init__(self, cls: type, name: str, member: property) -> None:
        self._cls, self._name = cls, name
        asked, sent = _defaults(member.fget), _defaults(member.fset)
        made = "get_command" in asked or "set_command" in sent
        self.only_set = made and self._now("get_command", asked) is None
        self.only_get = made and self._now("set_command", sent) is None
        values = self._now("values", sent) if "values" in sent else self._now("values", asked)
        mapped = bool(self._now("map_values", sent) or self._now("map_values", asked))
        validator = getattr(self._now("validator", sent), "__name__", "")
        self.limits: Limits | None = None
        self.kind = self._kind(member, values, mapped, validator)

    def _now(self, field: str, defaults: Mapping[str, Any]) -> Any:
        """A field of the property; a subclass may have changed it in a class attribute."""
        return vars_of(self._cls).get(f"{self._name}_{field}", defaults.get(field))

    def _kind(self, member: property, values: Any, mapped: bool, validator: str) -> Kind:
        choices = list(values) if values is not None and not isinstance(values, str) else []
        if mapped or (validator.endswith("discrete_set") and "truncated" not in validator):
            return kind_of_choices(choices)
        kind = _cast(member)
        numbers = [it for it in choices if isinstance(it, int | float)]
        if numbers and any(word in validator for word in _RANGES):
            kind = kind if is_number(kind) else LOOSE
            self.limits = limits_of(min(numbers), max(numbers))
        return kind


def vars_of(cls: type) -> dict[str, Any]:
    """The attributes of a class and its bases."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        found |= vars(base)
    return found


def _defaults(function: Any) -> dict[str, Any]:
    if function is None:
        return {}
    items = inspect.signature(function).parameters.values()
    return {item.name: item.default for item in items if item.default is not item.empty}


def _cast(member: property) -> Kind:
    """What the answers are converted to; what the annotation says of a property written by hand."""
    if member.fget is None or not inspect.isfunction(member.fget):
        return ANY
    if "return" in member.fget.__annotations__ and "get_command" not in _defaults(member.fget):
        return kind_of_type(hints_of(member.fget).get("return"))
    inside = inspect.getclosurevars(member.fget).nonlocals
    if "cast" not in inside:
        return ANY
    if _changes(member.fget):
        return ANY
    return _CASTS.get(inside["cast"], ANY)


def _changes(getter: Any) -> bool:
    """Whether the property makes something else of the answer by functions of its own."""
    steps = (_defaults(getter).get(name) for name in ("get_process", "get_process_list"))
    return any(getattr(step, "__module__", "") not in (*_BASES, "") for step in steps)


def _channels(item: Any) -> Iterator[tuple[str, Any]]:
    """The channels that are attributes of the instrument, by their names."""
    seen: list[Any] = []
    for name, value in vars(item).items():
        is_channel = any(base.__name__ == "CommonBase" for base in type(value).__mro__)
        known = name == "parent" or any(value is one for one in seen)
        if is_channel and not known and NAME.match(name):
            seen.append(value)
            yield name, value
