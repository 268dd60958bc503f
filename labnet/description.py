"""A device in a form that another program can read: members with kinds, units, limits, arguments.

The result is made of what JSON has: mappings, lists, text, numbers. It is what labnet tells another
labnet; wires with descriptions of their own have those besides.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labnet.registry import CommandNode, DeviceNode, ParameterNode
from labnet.specs import ArgumentSpec
from labnet.values import ArrayKind, EnumKind, Kind, Limits, ListKind, OptionalKind

VERSION = 1


def describe(device: DeviceNode) -> dict[str, Any]:
    """All that is known about a device but its values."""
    identity = device.identity
    return {
        "version": VERSION,
        "device": device.path,
        "identity": [identity.maker, identity.model, identity.serial, identity.firmware],
        "condition": device.queue.condition,
        "members": list(_members(device)),
    }


def _members(device: DeviceNode) -> Iterator[dict[str, Any]]:
    for node in device.walk():
        path = node.path[len(device.path) + 1 :]
        if isinstance(node, ParameterNode):
            yield {"path": path, "is": "parameter", **_parameter(node)}
        elif isinstance(node, CommandNode):
            yield {"path": path, "is": "command", **_command(node)}


def _parameter(node: ParameterNode) -> dict[str, Any]:
    spec = node.spec
    return _said(
        kind=kind_as_data(spec.kind),
        access=spec.access,
        unit=spec.unit,
        limits=_pair(spec.limits),
        alarms=_pair(spec.alarms),
        warnings=_pair(spec.warnings),
        display=spec.display,
        groups=list(spec.groups),
        help=spec.help,
    )


def _command(node: CommandNode) -> dict[str, Any]:
    spec = node.spec
    return _said(
        arguments=[_argument(argument) for argument in spec.arguments],
        variadic=spec.variadic and kind_as_data(spec.variadic),
        keywords=spec.keywords and kind_as_data(spec.keywords),
        result=kind_as_data(spec.result),
        unit=spec.unit,
        help=spec.help,
        groups=list(spec.groups),
        long=spec.long,
        urgent=spec.urgent,
        reads=spec.reads,
        stop=spec.stop,
        timeout=spec.timeout,
    )


def _argument(spec: ArgumentSpec) -> dict[str, Any]:
    plain = isinstance(spec.default, bool | int | float | str)
    return _said(
        name=spec.name,
        kind=kind_as_data(spec.kind),
        required=spec.required or None,
        default=spec.default if plain else None,
        unit=spec.unit,
        limits=_pair(spec.limits),
        keyword_only=spec.keyword_only,
    )


def kind_as_data(kind: Kind) -> Any:
    """A kind as its name, or as a mapping with what belongs to it."""
    if isinstance(kind, EnumKind):
        choices = [[key, text] for key, text in kind.choices.items()]
        plain = all(isinstance(key, bool | int | float | str) for key, _ in choices)
        return {"enum": choices if plain else [[text, text] for _, text in choices]}
    if isinstance(kind, OptionalKind):
        return {"optional": kind_as_data(kind.inner)}
    if isinstance(kind, ListKind):
        return {"list": kind_as_data(kind.item)} if kind.item is not None else "list"
    if isinstance(kind, ArrayKind):
        shape = None if kind.shape is None else list(kind.shape)
        return {"array": None if kind.dtype is None else kind.dtype.str, "shape": shape}
    return kind.name


def _pair(limits: Limits | None) -> list[float | None] | None:
    return None if limits is None else [limits.low, limits.high]


def _said(**fields: Any) -> dict[str, Any]:
    """The fields that say something."""
    return {key: value for key, value in fields.items() if value not in (None, "", False, [])}
