"""Devices as PLESTY clients see them: keys of parameters, operations, names of resources.

A parameter's key is its dotted path below the device; letter case counts only where two keys differ
in nothing else, so the peer's ``MOTOR.position`` finds ``motor.position``. A resource is a node of
the device, written with ``/``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from labnet.errors import BadArguments, LabError, UnknownName
from labnet.registry import CommandNode, DeviceNode, Node, ParameterNode
from labnet.values import Kind
from labnet.wires.plesty import describe

MAX_KNOWN: Final = 4096
"""Spellings of names that a device remembers."""


class Operation:
    """A command of the device: its path, and what must be done with arguments first."""

    __slots__ = ("_kinds", "node", "path", "takes_resources", "takes_timeout")

    def __init__(self, node: CommandNode) -> None:
        spec = node.spec
        names = {argument.name for argument in spec.arguments}
        self.node = node
        self.path = node.path
        self.takes_timeout = "timeout" in names
        self.takes_resources = "resources" in names or spec.keywords is not None
        kinds = {argument.name: argument.kind for argument in spec.arguments}
        odd = any(kind.name in _FROM_JSON for kind in kinds.values())
        self._kinds: dict[str, Kind] | None = kinds if odd else None

    def adapted(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        """Arguments with complex numbers and bytes made from what JSON has for them."""
        kinds = self._kinds
        if kinds is None:
            return args, dict(kwargs)
        by_place = [*kinds.values()]
        rest = args[len(by_place) :]
        first = [from_json(kind, value) for kind, value in zip(by_place, args, strict=False)]
        named = {
            key: from_json(kinds[key], value) if key in kinds else value
            for key, value in kwargs.items()
        }
        return [*first, *rest], named


def from_json(kind: Kind, value: Any) -> Any:
    """`value` as the kind wants it, where JSON has no form of its own for that kind."""
    convert = _FROM_JSON.get(kind.name)
    return value if convert is None else convert(value)


def _complex(value: Any) -> Any:
    pair = isinstance(value, list) and len(value) == 2
    if pair and all(isinstance(part, (int, float)) for part in value):
        try:
            return complex(*value)
        except OverflowError:
            pass
    return value


def _bytes(value: Any) -> Any:
    try:
        return value.encode("latin-1") if isinstance(value, str) else value
    except UnicodeEncodeError:
        return value


_FROM_JSON: Final[Mapping[str, Callable[[Any], Any]]] = {"complex": _complex, "bytes": _bytes}


class Served:
    """One device of a listener; `name` is the one that its clients use."""

    def __init__(self, name: str, node: DeviceNode) -> None:
        self.name = name
        self.node = node
        #: Keys that clients have used, with the parameter's path in the lab.
        self.paths: dict[str, str] = {}
        self._operations: dict[str, Operation] = {}

    def _find(self, segments: Sequence[str]) -> Node:
        """The node of a name that begins in the device, or else with the device's own name."""
        try:
            return self.node.find(segments)
        except UnknownName:
            if segments[0].lower() not in (self.name.lower(), self.node.name.lower()):
                raise
            return self.node.find(segments[1:])

    # -- parameters --------------------------------------------------------------------------

    def path(self, key: str) -> str:
        """The path in the lab of a parameter; raises `UnknownName`."""
        found = self.paths.get(key)
        if found is None:
            found = self.parameter(key).path
            if len(self.paths) >= MAX_KNOWN:
                self.paths.clear()
            self.paths[key] = found
        return found

    def parameter(self, key: str) -> ParameterNode:
        """The parameter that a key names; raises `UnknownName`."""
        node = self._find(key.split("."))
        if not isinstance(node, ParameterNode):
            raise UnknownName(key, describe.config_list(self.node), "parameter")
        return node

    def full_key(self, name: str) -> str | None:
        """A key that ends in the bare `name` of a grouped parameter."""
        found = (node for node in self.node.parameters() if node.name == name)
        return next((describe.key_of(node, self.node) for node in found), None)

    # -- operations --------------------------------------------------------------------------

    def operation(self, name: str) -> Operation | None:
        """The command that `name` means; None for a stock operation; raises `UnknownName`."""
        found = self._operations.get(name)
        if found is not None:
            return found
        try:
            node: Node | None = self._find(name.split("."))
        except UnknownName:
            node = None
        if not isinstance(node, CommandNode):
            if name in describe.STOCK:
                return None
            raise UnknownName(name, describe.methods(self.node), "operation")
        if len(self._operations) >= MAX_KNOWN:
            self._operations.clear()
        return self._operations.setdefault(name, Operation(node))

    def stock(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The result of a stock operation, ``query`` and ``write`` aside."""
        if args or kwargs:
            raise BadArguments(f"{name} takes no arguments")
        return _STOCK[name](self.node)

    # -- resources ---------------------------------------------------------------------------

    def resource(self, path: str) -> Node:
        """The node of a resource; the empty name and the device's own mean the whole device."""
        return self._find(path.split("/")) if path else self.node

    def shown(self, node: Node) -> str:
        """The name of a resource, empty for the whole device."""
        return node.path[len(self.node.path) + 1 :].replace(".", "/")


_STOCK: Final[Mapping[str, Callable[[DeviceNode], Any]]] = {
    "identity": lambda node: str(node.identity),
    "get_config_list": describe.config_list,
    "get_group_list": lambda node: list(describe.groups(node)),
    "check_operatability": lambda node: node.queue.unavailable is None,
    "summary": describe.help_text,
    "doc_model": describe.doc,
}


@dataclass(frozen=True)
class Claim:
    """What a `resources` key means: the nodes to lock, and their leaves by name, in order.

    The leaves of a device are its innermost sub-devices; a node without sub-devices is its own.
    """

    nodes: tuple[Node, ...]
    leaves: Mapping[str, Node]
    unknown: tuple[str, ...]


def claim(paths: Iterable[str], find: Callable[[str], tuple[Served, Node, str]]) -> Claim:
    """What `paths` stand for.

    `find` gives the device and the node of one, and what stands before names of its resources;
    it raises `UnknownName`.
    """
    nodes: dict[Node, None] = {}
    leaves: dict[str, Node] = {}
    unknown: list[str] = []
    for path in paths:
        try:
            served, node, prefix = find(path)
        except LabError:
            unknown.append(path)
            continue
        nodes[node] = None
        whole = node is served.node
        for leaf in [node] if whole else sorted(_leaves(node), key=lambda leaf: leaf.path):
            leaves[served.name if whole else prefix + served.shown(leaf)] = leaf
    return Claim(tuple(nodes), leaves, tuple(unknown))


def _leaves(node: Node) -> list[Node]:
    if not isinstance(node, DeviceNode):
        return [node]
    inner = [child for child in node.children.values() if isinstance(child, DeviceNode)]
    return [leaf for child in inner for leaf in _leaves(child)] or [node]
