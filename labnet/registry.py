"""Names to devices: the tree of nodes that all wires see; arrivals and departures.

A node is a device (or sub-device), a parameter or a command. Its path is a dotted name such as
``daq.port0.line0``. The lock service keeps its records on the nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from labnet.device import CommandSpec, CommandState, Device, Identity, ParameterSpec, ParameterState
from labnet.errors import UnknownName
from labnet.execution import DeviceQueue
from labnet.specs import check_name

#: How many names that clients wrote are remembered with the node they mean.
MAX_REMEMBERED = 10_000
#: The deepest path and the longest name that a client may write.
MAX_SEGMENTS = 32
MAX_NAME = 1000


class Node:
    """One name in the tree; `ancestors` has the nearest first and the whole device last."""

    __slots__ = ("__weakref__", "aliases", "ancestors", "lock", "name", "parent", "path", "top")

    def __init__(self, name: str, parent: DeviceNode | None, aliases: Sequence[str] = ()) -> None:
        self.name = name
        self.parent = parent
        self.path: str = name if parent is None else f"{parent.path}.{name}"
        self.ancestors: tuple[DeviceNode, ...] = (
            () if parent is None else (parent, *parent.ancestors)
        )
        self.aliases = tuple(aliases)
        self.lock: Any = None  # belongs to the lock service

    top: DeviceNode

    @property
    def queue(self) -> DeviceQueue:
        """The queue of the device that this node belongs to."""
        return self.top.device_queue

    def relative(self) -> str:
        """The path without the name of the device in the lab."""
        return self.path.partition(".")[2]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"


class ParameterNode(Node):
    """A parameter in the tree."""

    __slots__ = ("needs", "state")

    def __init__(self, name: str, parent: DeviceNode, state: ParameterState) -> None:
        super().__init__(name, parent, state.spec.aliases)
        self.top = parent.top
        self.state = state
        self.needs: tuple[Node, ...] = (self,)

    @property
    def spec(self) -> ParameterSpec:
        return self.state.spec


class CommandNode(Node):
    """A command in the tree; `needs` are the nodes that it must not find locked by others."""

    __slots__ = ("_needs", "state")

    def __init__(self, name: str, parent: DeviceNode, state: CommandState) -> None:
        super().__init__(name, parent, state.spec.aliases)
        self.top = parent.top
        self.state = state
        self._needs: tuple[Node, ...] | None = None

    @property
    def spec(self) -> CommandSpec:
        return self.state.spec

    @property
    def needs(self) -> tuple[Node, ...]:
        if self._needs is None:
            assert self.parent is not None
            touched = tuple(self.parent.find(name.split(".")) for name in self.spec.touches)
            self._needs = touched or (self.parent,)
        return self._needs


class DeviceNode(Node):
    """A device or sub-device in the tree, with its children in the order of declaration."""

    __slots__ = ("_adopted", "_children", "_folded", "device", "device_queue", "needs")

    device_queue: DeviceQueue

    def __init__(self, name: str, device: Device, parent: DeviceNode | None = None) -> None:
        super().__init__(name, parent, device.aliases)
        self.top = self if parent is None else parent.top
        self.device = device
        self.needs: tuple[Node, ...] = (self,)
        self._adopted: Callable[[Node], None] | None = None
        self._children: dict[str, Node] = {}
        self._folded: dict[str, list[Node]] = {}
        for child, member in device.members.items():
            self.adopt(child, member)
        device._joined = self.adopt

    @property
    def children(self) -> Mapping[str, Node]:
        return MappingProxyType(self._children)

    @property
    def identity(self) -> Identity:
        return self.device.identity

    def adopt(self, name: str, member: Any) -> Node:
        """Makes the node of one member; a member that joins later appears at once."""
        node: Node
        if isinstance(member, ParameterState):
            node = ParameterNode(name, self, member)
        elif isinstance(member, CommandState):
            node = CommandNode(name, self, member)
        else:
            node = DeviceNode(name, member, self)
        self._children[name] = node
        for known in {name, *node.aliases}:
            self._folded.setdefault(known.lower(), []).append(node)
        if isinstance(node, DeviceNode) and self._adopted is not None:
            node.each(self._adopted)
        elif self._adopted is not None:
            self._adopted(node)
        return node

    def each(self, adopted: Callable[[Node], None]) -> None:
        """Calls `adopted` for this node and all below it, now and whenever one joins."""
        self._adopted = adopted
        adopted(self)
        for node in self._children.values():
            if isinstance(node, DeviceNode):
                node.each(adopted)
            else:
                adopted(node)

    def child(self, name: str) -> Node | None:
        """The child called so: exactly, else by alias or regardless of case if only one fits."""
        node = self._children.get(name)
        return node if node is not None else only_fit(self._folded.get(name.lower(), ()), name)

    def find(self, segments: Sequence[str]) -> Node:
        """The node below this one; raises `UnknownName` with the nearest names."""
        node: Node = self
        for segment in segments:
            below = node.child(segment) if isinstance(node, DeviceNode) else None
            if below is None:
                known = node.children if isinstance(node, DeviceNode) else ()
                raise UnknownName(segment, known, f"name in {node.path}:")
            node = below
        return node

    def walk(self) -> Iterator[Node]:
        """This node and all below it, parents first."""
        yield self
        for node in self._children.values():
            if isinstance(node, DeviceNode):
                yield from node.walk()
            else:
                yield node

    def parameters(self) -> Iterator[ParameterNode]:
        """All parameters of this device and its sub-devices."""
        return (node for node in self.walk() if isinstance(node, ParameterNode))

    def commands(self) -> Iterator[CommandNode]:
        """All commands of this device and its sub-devices."""
        return (node for node in self.walk() if isinstance(node, CommandNode))


def only_fit(nodes: Sequence[Node], name: str) -> Node | None:
    """The one of `nodes` (alike but for case) that `name` means, if there is just one."""
    if len(nodes) == 1:
        return nodes[0]
    exact = [node for node in nodes if name in node.aliases]
    return exact[0] if len(exact) == 1 else None


class Registry:
    """All devices of the lab by name."""

    def __init__(self) -> None:
        self._devices: dict[str, DeviceNode] = {}
        self._names: dict[str, dict[Any, Node]] = {}
        self._watchers: list[tuple[Callable[[DeviceNode], None], Callable[[DeviceNode], None]]] = []

    @property
    def devices(self) -> Mapping[str, DeviceNode]:
        return MappingProxyType(self._devices)

    def add(self, name: str, device: Device) -> DeviceNode:
        """A device comes into the lab; raises ValueError for a name that is taken or is none."""
        check_name(name)
        if name in self._devices:
            raise ValueError(f"there is already a device called {name}")
        if device._joined is not None:
            raise ValueError(f"the device for {name} is in a lab already")
        node = DeviceNode(name, device)
        self._devices[name] = node
        self._forget_names()
        return node

    def announce(self, node: DeviceNode) -> None:
        """Tells the watchers that the device is ready."""
        for arrived, _ in list(self._watchers):
            arrived(node)

    def remove(self, name: str) -> DeviceNode:
        """A device leaves the lab; raises `UnknownName`."""
        if name not in self._devices:
            raise UnknownName(name, self._devices, "device")
        node = self._devices.pop(name)
        for part in node.walk():
            if isinstance(part, DeviceNode):
                part.device._joined = None
        self._forget_names()
        for _, departed in list(self._watchers):
            departed(node)
        return node

    def watch(
        self, arrived: Callable[[DeviceNode], None], departed: Callable[[DeviceNode], None]
    ) -> Callable[[], None]:
        """Calls `arrived` and `departed` for devices from now on; returns what ends it."""
        entry = (arrived, departed)
        self._watchers.append(entry)

        def end() -> None:
            if entry in self._watchers:
                self._watchers.remove(entry)

        return end

    def names(self, base: DeviceNode | None) -> dict[Any, Node]:
        """The nodes that clients of `base` have asked for, by what they wrote.

        A session may look here before it calls `find`; it is emptied when devices come or go.
        """
        return self._names.setdefault("" if base is None else base.path, {})

    def _forget_names(self) -> None:
        for names in self._names.values():
            names.clear()

    def find(self, path: str | tuple[str, ...], base: DeviceNode | None = None) -> Node:
        """The node of `path` (dotted, or split already), relative to `base` first, then from the
        root. Raises `UnknownName`."""
        names = self.names(base)
        node = names.get(path)
        if node is None:
            node = self._search(path.split(".") if isinstance(path, str) else path, base)
            if len(names) >= MAX_REMEMBERED:
                names.clear()
            names[path] = node
        return node

    def _search(self, segments: Sequence[str], base: DeviceNode | None) -> Node:
        if len(segments) > MAX_SEGMENTS or any(len(segment) > MAX_NAME for segment in segments):
            raise UnknownName(".".join(segments[:3]))
        if base is None:
            return self._from_root(segments)
        try:
            return base.find(segments)
        except UnknownName as error:
            if base.child(segments[0]) is None:
                try:
                    return self._from_root(segments)
                except UnknownName:
                    pass
            raise error from None

    def _from_root(self, segments: Sequence[str]) -> Node:
        first = segments[0]
        node = self._devices.get(first)
        if node is None:
            folded = first.lower()
            fits = [
                device
                for device in self._devices.values()
                if folded == device.name.lower() or folded in map(str.lower, device.aliases)
            ]
            node = fits[0] if len(fits) == 1 else None
        if node is None:
            raise UnknownName(first, self._devices, "device")
        return node.find(segments[1:])
