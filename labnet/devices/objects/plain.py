"""Plain annotated classes: public methods are commands, public properties parameters.

A method is published when all its arguments are annotated, and its result or at least one argument;
a property when its getter says what it gives. ``Annotated[float, "nm", Limits(400, 1100)]`` adds
unit and limits; of an argument too. ``connect`` (or ``open``) and ``disconnect`` (or ``close``)
open and close the object.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any

from labnet.device import Device
from labnet.devices.objects.shell import ObjectDevice, call_first, help_of, read_identity
from labnet.specs import command_spec, hints_of
from labnet.values import Limits, kind_of

_OPEN = ("connect", "open")
_CLOSE = ("disconnect", "close")
_RESERVED = frozenset((*_OPEN, *_CLOSE, "identity"))


class PlainDevice(ObjectDevice):
    """Stands for an object of a plain class."""

    def describe_class(self, cls: type) -> None:
        self.blocking = bool(getattr(cls, "blocking", not _has_coroutines(cls)))
        for name, member in public_members(cls):
            if isinstance(member, property):
                self._add_property(name, member)
            else:
                self._add_method(name, member)

    def describe_object(self, item: Any) -> None:
        for name, value in vars(item).items() if hasattr(item, "__dict__") else ():
            if isinstance(value, Device) and not name.startswith("_"):
                self.add_device(name, value)
        own = getattr(item, "identity", None)
        if isinstance(own, str):
            self.identity = read_identity(own, self.identity)

    def _add_property(self, name: str, member: property) -> None:
        assert member.fget is not None
        hint = hints_of(member.fget).get("return")
        unit, limits = annotations_of(hint)
        writes = member.fset is not None
        self.add_parameter(
            name,
            kind_of(hint),
            getter=partial(self.read_attribute, name),
            setter=partial(self.write_attribute, name) if writes else None,
            unit=unit,
            limits=limits,
            help=help_of(member),
        )

    def _add_method(self, name: str, method: Any) -> None:
        hints = hints_of(method)
        about = {key: annotations_of(hint) for key, hint in hints.items()}
        units = {key: unit for key, (unit, _) in about.items() if unit}
        bounds = {key: (it.low, it.high) for key, (_, it) in about.items() if it is not None}
        result = units.pop("return", "")
        bounds.pop("return", None)
        spec = command_spec(
            name, method.__get__(object()), limits=bounds, units=units, unit=result
        )
        self.add_command(name, partial(self.call_method, name), spec=spec)

    def open(self, item: Any) -> None:
        call_first(item, _OPEN)

    def close(self, item: Any) -> None:
        call_first(item, _CLOSE)


def public_members(cls: type) -> Iterator[tuple[str, Any]]:
    """The annotated public methods and properties of a class, those of its bases first."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__[:-1]):
        found |= {name: it for name, it in vars(base).items() if not name.startswith("_")}
    for name, member in found.items():
        if name not in _RESERVED and (_is_property(member) or _is_method(member)):
            yield name, member


def is_published(name: str, member: Any) -> bool:
    """Whether this attribute of a class is a public annotated method that may be a command."""
    return not name.startswith("_") and name not in _RESERVED and _is_method(member)


def _is_property(member: Any) -> bool:
    return isinstance(member, property) and "return" in getattr(member.fget, "__annotations__", {})


def _is_method(member: Any) -> bool:
    if not inspect.isfunction(member):
        return False
    _, *arguments = inspect.signature(member).parameters.values()
    if any(item.annotation is item.empty for item in arguments):
        return False
    return bool(arguments) or "return" in member.__annotations__


def _has_coroutines(cls: type) -> bool:
    return any(inspect.iscoroutinefunction(member) for _, member in public_members(cls))


def annotations_of(hint: Any) -> tuple[str, Limits | None]:
    """The unit and the limits that an ``Annotated`` carries."""
    if typing.get_origin(hint) is not Annotated:
        return "", None
    extras = typing.get_args(hint)[1:]
    unit = next((extra for extra in extras if isinstance(extra, str)), "")
    return unit, next((extra for extra in extras if isinstance(extra, Limits)), None)
