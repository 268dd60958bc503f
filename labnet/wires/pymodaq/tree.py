"""A device's parameters as the settings of a module, and back.

What can be written is a setting, and so is text that can only be read, such as a serial number.
Measurements are none: they change all the time, and PyMoDAQ takes a fifth of a second for each. Nor
is what belongs to no configuration (group ``NoConfig``), such as the target of a move.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import Any

from labnet.errors import BadArguments
from labnet.registry import DeviceNode, Node, ParameterNode
from labnet.values import BoolKind, EnumKind, FloatKind, IntKind, StrKind
from labnet.wires.pymodaq.codec import Setting
from labnet.wires.pymodaq.settings import text_of

UNITS = "units"
LONGEST_TEXT = 1000

_UNFIT = re.compile(r"[^A-Za-z0-9_]")
_TYPES: tuple[tuple[type, str], ...] = (
    (BoolKind, "bool"),
    (IntKind, "int"),
    (FloatKind, "float"),
    (EnumKind, "list"),
    (StrKind, "str"),
)


@dataclass(slots=True)
class Tree:
    """The settings of a device: which parameter is at which path."""

    root: str
    device: DeviceNode
    skip: frozenset[Node] = frozenset()
    units: str | None = None
    nodes: dict[tuple[str, ...], ParameterNode] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path, node in self._found(self.device, ()):
            self.nodes[path] = node

    def _found(
        self, device: DeviceNode, above: tuple[str, ...]
    ) -> Iterator[tuple[tuple[str, ...], ParameterNode]]:
        taken = {UNITS} if self.units is not None and not above else set()
        for child in device.children.values():
            if child in self.skip:
                continue
            name = _unused(_UNFIT.sub("", child.name), taken)
            taken.add(name)
            if isinstance(child, DeviceNode):
                yield from self._found(child, (*above, name))
            elif isinstance(child, ParameterNode) and type_of(child) is not None:
                yield (*above, name), child

    def setting(self, path: tuple[str, ...], value: Any) -> Setting:
        """The setting at a path, with a value of its parameter."""
        node = self.nodes[path]
        kind = type_of(node)
        assert kind is not None, "only such parameters are in the tree"
        return Setting(
            path[-1],
            kind,
            _shown(node, kind, value),
            _title(node),
            readonly=not node.spec.writable,
            attributes=MappingProxyType(_attributes(node, kind)),
        )

    def build(self, values: dict[tuple[str, ...], Any]) -> Setting:
        """The whole tree; those of which no value is given are left out."""
        first = []
        if self.units is not None:
            first = [Setting(UNITS, "str", self.units, "Units:", readonly=True)]
        found = {path: self.setting(path, value) for path, value in values.items()}
        children = (*first, *_groups(found, ()))
        return Setting(self.root, "group", title="Settings", children=children)

    def parsed(self, path: tuple[str, ...], value: Any) -> tuple[ParameterNode, Any]:
        """The parameter at a path and the value as it takes it; `BadArguments` for no value."""
        node = self.nodes.get(path)
        if node is None:
            raise BadArguments(f"{self.device.path} has no setting {'.'.join(path)}")
        if value is None:
            raise BadArguments(f"{node.path} has been sent a value that is none")
        kind = node.spec.kind
        return node, kind.parse(str(value), node.name) if isinstance(kind, EnumKind) else value


def type_of(node: ParameterNode) -> str | None:
    """The type of the setting that a parameter is; None if it is no setting."""
    spec = node.spec
    kind = next((name for base, name in _TYPES if isinstance(spec.kind, base)), None)
    if not spec.readable or "NoConfig" in spec.groups or (not spec.writable and kind != "str"):
        return None
    return kind


def _unused(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _groups(
    found: dict[tuple[str, ...], Setting], above: tuple[str, ...]
) -> Iterator[Setting]:
    """The settings and groups directly below a path, in their order."""
    depth = len(above)
    done: set[str] = set()
    for path, setting in found.items():
        if path[:depth] != above or path[depth] in done:
            continue
        if len(path) == depth + 1:
            yield setting
        else:
            done.add(path[depth])
            inside = tuple(_groups(found, path[: depth + 1]))
            yield Setting(path[depth], "group", title=path[depth], children=inside)


def _title(node: ParameterNode) -> str:
    words = node.name.replace("_", " ").capitalize()
    return f"{words} ({node.spec.unit}):" if node.spec.unit else f"{words}:"


def _shown(node: ParameterNode, kind: str, value: Any) -> Any:
    spec = node.spec
    if kind == "list":
        return spec.kind.format(value)
    if kind == "str":
        return str(value)[:LONGEST_TEXT]
    try:
        text_of(kind, value)
    except (TypeError, ValueError, OverflowError):
        return None  # it has no value yet
    return value


def _attributes(node: ParameterNode, kind: str) -> dict[str, str]:
    choices, limits = node.spec.choices, node.spec.limits
    if kind == "list" and choices is not None:
        return {"limits": repr([str(text) for text in choices.values()])}
    if limits is None or kind not in ("int", "float"):
        return {}
    bounds = [limits.low, limits.high]
    if any(bound is None or not isfinite(bound) for bound in bounds):
        return {}
    number = int if kind == "int" else float
    return {"limits": repr([number(bound) for bound in bounds if bound is not None])}
