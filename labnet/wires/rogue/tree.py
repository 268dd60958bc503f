"""The tree that a listener shows: which devices, under which names, and who hears of changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred

from labnet.errors import LabError, UnknownName
from labnet.lab import Host, ServeOptions
from labnet.logs import Logger
from labnet.registry import DeviceNode
from labnet.updates import Subscription, Update
from labnet.wires.rogue.codec import ROOT_PATH
from labnet.wires.rogue.devices import LabDevice
from labnet.wires.rogue.nodes import TreeNode
from labnet.wires.rogue.publisher import Publisher
from labnet.wires.rogue.root import RootNode
from labnet.wires.rogue.variables import Variable

if TYPE_CHECKING:
    from labnet.wires.rogue.server import Options

MAX_REMEMBERED: Final = 50_000
"""Paths that clients have asked for and what they mean."""
MAX_SEGMENTS: Final = 32
MAX_PATH: Final = 1000

Ready = tuple[Callable[..., Any], TreeNode, tuple[Any, ...]]

ALIAS: Final = "root"
"""What clients may call the root, whatever its name is."""


class Tree:
    """All nodes of one listener."""

    log = Logger()

    def __init__(self, host: Host, common: ServeOptions, options: Options) -> None:
        self.host = host
        self.common = common
        self.options = options
        self.publisher = Publisher(host.clock, options.inc_groups, options.exc_groups)
        #: The lab's devices in the tree, by the tree's names for them.
        self.devices: dict[str, LabDevice] = {}
        self._known: dict[str, TreeNode] = {}
        #: What clients of the binary port and of the text port ask again and again, by the bytes of
        #: the request: the function, the node and the arguments.
        self.ready: tuple[dict[bytes, Ready], dict[bytes, Ready]] = ({}, {})
        self._heard: dict[str, tuple[Variable, ...]] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self.session = host.open_session("rogue", "this listener", reach=common.reach)
        self.root = RootNode(self, options.root)
        self.refresh()

    def refresh(self, _: object = None) -> None:
        """Devices have come or gone."""
        self._known.clear()
        self.forget_ready()
        self._heard.clear()
        found = dict(self._served())
        for name in self.devices.keys() - found.keys():
            self._forget(name)
        for name, node in found.items():
            if name not in self.devices or self.devices[name].node is not node:
                self._forget(name)
                self._take(name, node)

    def forget_ready(self) -> None:
        """Each request is to be looked at anew."""
        for ready in self.ready:
            ready.clear()

    def _forget(self, name: str) -> None:
        self.devices.pop(name, None)
        subscription = self._subscriptions.pop(name, None)
        if subscription is not None:
            subscription.end()

    def _take(self, name: str, node: DeviceNode) -> None:
        problem = self.root.cannot_hold(name)
        if problem:
            self.log.warn("{problem}", problem=problem)
            return
        self.devices[name] = LabDevice(self, name, self.root, node)
        self._subscriptions[name] = self.session.subscribe([node], self._changed, at_once=True)

    def wanted(self) -> Mapping[str, str]:
        """The tree's names of the devices, and their paths in the lab."""
        common = self.common
        if common.device is not None:
            return {common.device.rpartition(".")[2]: common.device}
        return common.devices or {name: name for name in self.host.devices()}

    def _served(self) -> Iterator[tuple[str, DeviceNode]]:
        for name, path in self.wanted().items():
            first, *rest = path.split(".")
            top = self.host.devices().get(first)
            try:
                node = None if top is None else top.find(rest)
            except UnknownName:
                continue  # it may come back with another form
            if isinstance(node, DeviceNode):
                yield name, node

    # Finding

    def find(self, path: str) -> TreeNode | None:
        """The node of a path that begins with the root's name, or ``root``."""
        found = self._known.get(path)
        if found is not None:
            return found
        if path == ROOT_PATH:
            return self.root
        found = self._search(path)
        if found is not None:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            self._known[path] = found
        return found

    def _search(self, path: str) -> TreeNode | None:
        first, *rest = path[: MAX_PATH + 1].split(".")
        if first not in (self.root.name, ALIAS) or len(path) > MAX_PATH or len(rest) > MAX_SEGMENTS:
            return None
        node: TreeNode | None = self.root
        for name in rest:
            if node is None:
                return None
            node = node.child(name)
        return node

    def find_device(self, text: str) -> Any:
        """What `text` names of the lab: a path in the tree, with or without the root's name.

        Raises `UnknownName`.
        """
        for path in (text, f"{self.root.name}.{text}"):
            node = getattr(self.find(path), "node", None)
            if node is not None:
                return node
        raise UnknownName(text, self.devices)

    def runs(self, device: TreeNode | None) -> bool:
        """Whether the commands of a device run."""
        return not isinstance(device, LabDevice) or device.enabled() is True

    # Changes

    def _changed(self, changes: list[Update]) -> None:
        for change in changes:
            reading = change.reading
            if reading is not None:
                if not self.publisher.audience:
                    return
                for variable in self._heard.get(change.path) or self._variables(change.path):
                    self.publisher.changed(variable, reading)
            elif change.what == "lock":
                self.root.locks.changed()

    def _variables(self, path: str) -> tuple[Variable, ...]:
        """The variables that show the lab's parameter at `path`."""
        found = []
        for name, device in self.devices.items():
            base = device.node.path
            if path.startswith(f"{base}."):
                node = self.find(f"{self.root.name}.{name}{path[len(base) :]}")
                if isinstance(node, Variable):
                    found.append(node)
        if len(self._heard) >= MAX_REMEMBERED:
            self._heard.clear()
        self._heard[path] = tuple(found)
        return self._heard[path]

    def turn(self) -> Deferred[None]:
        """Fires when others have had their turn."""
        waiting: Deferred[None] = Deferred()
        self.host.clock.callLater(0, waiting.callback, None)
        return waiting

    def close(self) -> None:
        """Nobody listens any more."""
        for name in list(self.devices):
            self._forget(name)
        self.session.close("the listener was closed")

    def check(self) -> None:
        """Raises LabError for a device that is not there, or that cannot have its name here."""
        for name in self.wanted():
            problem = self.root.cannot_hold(name)
            if problem:
                raise LabError(problem)
        device = self.common.device
        if device is not None and not self.devices:
            raise UnknownName(device, self.host.devices(), "device")
