"""Names to devices: the tree of nodes that all wires see; arrivals and departures.

A node is a device (or sub-device), a parameter or a command. Its path is a dotted name such as
``daq.port0.line0``. The lock service keeps its records on the nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from weakref import WeakKeyDictionary

from labnet.device import CommandSpec, CommandState, Device, Identity, ParameterSpec, ParameterState
from labnet.errors import LabError, NotConnected, UnknownName
from labnet.execution import DeviceQueue
from labnet.logs import Logger
from labnet.specs import check_name

log = Logger()

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

    def each(self, adopted: Callable[[Node], None]) -> None:
        """Calls `adopted` for this node."""
        adopted(self)

    def replace(self, member: Any) -> None:
        """Another member of the device has taken this one's name."""
        raise NotImplementedError(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"


class ParameterNode(Node):
    """A parameter in the tree; `needs` are the nodes that it must not find locked by others."""

    __slots__ = ("_needs", "state")

    def __init__(self, name: str, parent: DeviceNode, state: ParameterState) -> None:
        super().__init__(name, parent, state.spec.aliases)
        self.top = parent.top
        self.state = state
        self._needs: tuple[Node, ...] | None = None

    @property
    def spec(self) -> ParameterSpec:
        return self.state.spec

    @property
    def needs(self) -> tuple[Node, ...]:
        if self._needs is None:
            assert self.parent is not None
            touched = (self.parent.find(name.split(".")) for name in _beside(self.spec.touches))
            needs = (self, *touched)
            if self.top.device.reaches_out:  # other devices come and go
                return (*needs, *self.top.elsewhere(self.spec.touches))
            self._needs = needs
        return self._needs

    def replace(self, member: Any) -> None:
        if not isinstance(member, ParameterState):
            raise ValueError(f"{self.path} is a parameter; nothing else can take its name")
        self.state.notify = None
        member.sequence = max(member.sequence, self.state.sequence)
        self.state = member


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

    def replace(self, member: Any) -> None:
        if not isinstance(member, CommandState):
            raise ValueError(f"{self.path} is a command; nothing else can take its name")
        self.state = member
        self._needs = None

    @property
    def needs(self) -> tuple[Node, ...]:
        if self._needs is None:
            assert self.parent is not None
            try:
                names = _beside(self.spec.touches)
                touched = tuple(self.parent.find(name.split(".")) for name in names)
            except UnknownName as error:  # it may join later; until then, better too much
                log.warn("{path} touches what is not there: {error}", path=self.path, error=error)
                return (self.parent,)
            needs = touched or (self.parent,)
            if self.top.device.reaches_out:  # other devices come and go
                return (*needs, *self.top.elsewhere(self.spec.touches))
            self._needs = needs
        return self._needs


class DeviceNode(Node):
    """A device or sub-device in the tree, with its children in the order of declaration."""

    __slots__ = (
        "_adopted", "_children", "_folded", "device", "device_queue", "hop", "look_up",
        "members_changed", "needs",
    )  # fmt: skip

    device_queue: DeviceQueue
    #: Of a whole device: calls a function in the reactor's thread.
    hop: Callable[..., None]
    #: Of a whole device: finds a node of the lab by its path.
    look_up: Callable[[str], Node]
    #: Of a whole device: is told, when members were replaced, which nodes have gone.
    members_changed: Callable[[list[Node]], None]

    def __init__(self, name: str, device: Device, parent: DeviceNode | None = None) -> None:
        super().__init__(name, parent, device.aliases)
        self.top = self if parent is None else parent.top
        self.hop = _directly
        self.members_changed = _directly_forgotten
        self.look_up = _unknown
        self.device = device
        self.needs: tuple[Node, ...] = (self,)
        self._adopted: Callable[[Node], None] | None = None
        self._children: dict[str, Node] = {}
        self._folded: dict[str, list[Node]] = {}
        self._take(device)

    def _take(self, device: Device) -> None:
        if device._joined is not None:
            raise ValueError(
                f"the device for {self.path} is in a lab already; an attribute that only refers to"
                " another device has a name that begins with an underscore"
            )
        self.device = device
        device._joined, device._replaced = self._joined, self._replaced
        try:
            for child, member in list(device.members.items()):
                self.adopt(child, member)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """The devices of this node and of those below are in no lab any more."""
        for node in self.walk():
            if isinstance(node, DeviceNode):
                set_free(node.device)
            elif isinstance(node, ParameterNode):
                node.state.notify = None

    def _joined(self, name: str, member: Any) -> None:
        self.top.hop(self.adopt, name, member)

    @property
    def children(self) -> Mapping[str, Node]:
        return MappingProxyType(self._children)

    @property
    def identity(self) -> Identity:
        return self.device.identity

    def adopt(self, name: str, member: Any) -> Node:
        """Makes the node of one member; a member that joins later appears at once.

        One that takes another's name takes its node too, with the locks on it and its listeners.
        Raises ValueError if it is another kind of member, or a device that is in a lab already.
        """
        node = self._children.get(name)
        if node is None:
            node = self._children[name] = self._node(name, member)
            for known in {known.lower() for known in (name, *node.aliases)}:
                self._folded.setdefault(known, []).append(node)
        else:
            node.replace(member)
        if self._adopted is not None:
            node.each(self._adopted)
        return node

    def _node(self, name: str, member: Any) -> Node:
        if isinstance(member, ParameterState):
            return ParameterNode(name, self, member)
        if isinstance(member, CommandState):
            return CommandNode(name, self, member)
        return DeviceNode(name, member, self)

    def replace(self, member: Any) -> None:
        if member is self.device:
            return
        if not isinstance(member, Device):
            raise ValueError(f"{self.path} is a device; nothing else can take its name")
        before = self.device
        gone = self._drop_others(member.members)
        self._take(member)
        set_free(before)
        if gone:
            self.top.members_changed(gone)

    def _replaced(self, members: dict[str, Any]) -> None:
        self.top.hop(self._replace_all, members)

    def _replace_all(self, members: dict[str, Any]) -> None:
        """The device has these members now."""
        before = self.device.members
        gone = self._drop_others(members)
        self.device.members = members
        for name, member in members.items():
            if before.get(name) is not member or name not in self._children:
                self.adopt(name, member)
        self._children = {name: self._children[name] for name in members}
        self.top.members_changed(gone)

    def _drop_others(self, members: Mapping[str, Any]) -> list[Node]:
        """Takes out the children that `members` has not, or has as something else."""
        gone = [
            node
            for name, node in self._children.items()
            if name not in members or not _same_sort(node, members[name])
        ]
        for node in gone:
            del self._children[node.name]
            for alike in self._folded.values():
                if node in alike:
                    alike.remove(node)
            if isinstance(node, DeviceNode):
                node.release()
            elif isinstance(node, ParameterNode):
                node.state.notify = None
        if gone:
            self.top.forget_needs()
        return gone

    def forget_needs(self) -> None:
        """What members touch is looked up anew."""
        for node in self.walk():
            if isinstance(node, ParameterNode | CommandNode):
                node._needs = None

    def each(self, adopted: Callable[[Node], None]) -> None:
        """Calls `adopted` for this node and all below it, now and whenever one joins."""
        self._adopted = adopted
        adopted(self)
        for node in list(self._children.values()):
            node.each(adopted)

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

    def elsewhere(self, touches: Iterable[str]) -> Iterator[Node]:
        """What is needed of other devices; those that are not there need nothing."""
        for name in touches:
            if name.startswith(":"):
                try:
                    node = self.look_up(name[1:])
                except UnknownName:
                    continue
                yield from getattr(node, "needs", ())

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


def _beside(touches: Iterable[str]) -> Iterator[str]:
    """The names that are beside the member, not of other devices."""
    return (name for name in touches if not name.startswith(":"))


def with_parts(nodes: Iterable[Node]) -> list[Node]:
    """These nodes, and what they reach of other devices, each once: what a lock on them covers."""
    found: dict[Node, None] = {}
    waiting = list(nodes)
    if not any(node.top.device.reaches_out for node in waiting):
        return waiting
    while waiting:
        node = waiting.pop(0)
        if node in found:
            continue
        found[node] = None
        if node.top.device.reaches_out:
            inside = node.walk() if isinstance(node, DeviceNode) else (node,)
            members = (it for it in inside if isinstance(it, ParameterNode | CommandNode))
            waiting += [part for it in members for part in node.top.elsewhere(it.spec.touches)]
    return list(found)


def _unknown(path: str) -> Node:
    raise UnknownName(path)


def _directly(function: Callable[..., Any], *args: Any) -> None:
    function(*args)


def _directly_forgotten(gone: list[Node]) -> None:
    """Nobody is told as long as the device is in no lab."""


def set_free(device: Device) -> None:
    """The device is in no lab any more."""
    device._joined = device._changed = device._replaced = device._reported = None


def _same_sort(node: Node, member: Any) -> bool:
    if isinstance(node, ParameterNode):
        return isinstance(member, ParameterState)
    return isinstance(member, CommandState if isinstance(node, CommandNode) else Device)


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
        self._root_names: dict[Any, Node] = {}
        self._names: WeakKeyDictionary[DeviceNode, dict[Any, Node]] = WeakKeyDictionary()
        self._reached: dict[tuple[str, tuple[str, ...]], dict[Any, Node]] = {}
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
        node.members_changed = lambda gone: self.forget_names()
        self._warn_of_aliases(node)
        self._devices[name] = node
        self.forget_names()
        return node

    def _warn_of_aliases(self, node: DeviceNode) -> None:
        """A name goes before an alias, and an alias of two devices finds neither."""
        taken = {
            known.lower(): other.name
            for other in self._devices.values()
            for known in (other.name, *other.aliases)
        }
        aliases = {alias.lower(): alias for alias in node.aliases}
        for alias in (*aliases, node.name.lower()):
            if alias in taken:
                log.warn(
                    "{name}: {alias} is a name or an alias of {other} too",
                    name=node.name,
                    alias=aliases.get(alias, node.name),
                    other=taken[alias],
                )

    def announce(self, node: DeviceNode) -> None:
        """Tells the watchers that the device is ready."""
        for arrived, _ in list(self._watchers):
            _tell(arrived, node)

    def remove(self, name: str) -> DeviceNode:
        """A device leaves the lab; raises `UnknownName`."""
        if name not in self._devices:
            raise UnknownName(name, self._devices, "device")
        node = self._devices.pop(name)
        node.release()
        self.forget_names()
        for _, departed in list(self._watchers):
            _tell(departed, node)
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
        return self._root_names if base is None else self._names.setdefault(base, {})

    def reached_names(
        self, base: DeviceNode | None, reach: tuple[str, ...]
    ) -> dict[Any, Node]:
        """Like `names`, for clients who reach only what is at or below the paths `reach`.

        Those who fill it see to that, and to its bound, `MAX_REMEMBERED`.
        """
        return self._reached.setdefault(("" if base is None else base.path, reach), {})

    def forget_names(self) -> None:
        """Names are looked up anew, since nodes have come or gone."""
        for names in (self._root_names, *self._names.values(), *self._reached.values()):
            names.clear()

    def current(self, base: DeviceNode) -> DeviceNode:
        """The node that has this one's place now: another if its device has left and come again."""
        if self._devices.get(base.top.name) is not base.top and base.top.name in self._devices:
            try:
                node = self._from_root(base.path.split("."))
            except UnknownName:
                return base
            return node if isinstance(node, DeviceNode) else base
        return base

    def find(self, path: str | tuple[str, ...], base: DeviceNode | None = None) -> Node:
        """The node of `path` (dotted, or split already), relative to `base` first, then from the
        root. Raises `UnknownName`, or `NotConnected` for a device that has yet to tell what it has.
        """
        names = self.names(base)
        node = names.get(path)
        if node is None:
            node = self._search(path.split(".") if isinstance(path, str) else path, base)
            if len(names) >= MAX_REMEMBERED:
                names.clear()
            names[path] = node
        return node

    def _search(self, segments: Sequence[str], base: DeviceNode | None) -> Node:
        too_long = any(len(segment) > MAX_NAME for segment in segments)
        if too_long or not 0 < len(segments) <= MAX_SEGMENTS:
            raise UnknownName(".".join(segments[:3]))
        if base is None:
            return self._from_root(segments)
        base = self.current(base)
        try:
            return base.find(segments)
        except UnknownName as error:
            if base.child(segments[0]) is None:
                try:
                    return self._from_root(segments)
                except (UnknownName, NotConnected):
                    pass
            raise _explained(error, base.top) from None

    def _from_root(self, segments: Sequence[str]) -> Node:
        first = segments[0]
        node = self._devices.get(first)
        if node is None:
            folded = first.lower()
            fits = [
                known
                for known in self._devices.values()
                if folded == known.name.lower() or folded in map(str.lower, known.aliases)
            ]
            device = only_fit(fits, first)
            if device is None:
                raise UnknownName(first, self._devices, "device")
            assert isinstance(device, DeviceNode)
            node = device
        try:
            return node.find(segments[1:])
        except UnknownName as error:
            raise _explained(error, node) from None


def _explained(error: UnknownName, device: DeviceNode) -> LabError:
    """Why a name is not there: a device that is not connected may not know its members yet."""
    why = device.queue.unavailable if device.device.described_late else None
    return error if why is None else NotConnected(f"{device.path} is not connected: {why}")


def _tell(watcher: Callable[[DeviceNode], None], node: DeviceNode) -> None:
    """A watcher that fails keeps neither the device nor the other watchers from their business."""
    try:
        watcher(node)
    except Exception:
        log.failure("who watches the devices failed at {device}", device=node.path)
