"""From the lines of a TSV listener to actions, by one look-up for a line that has come before.

A device's command is called by its name and a parameter ``x`` by the command ``x``, which reads it,
or sets it when a value is given; members of sub-devices have dotted names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from labnet.errors import LabError
from labnet.framing.lines import Line
from labnet.registry import CommandNode, DeviceNode, Node, ParameterNode
from labnet.wires.tsv import codec
from labnet.wires.tsv.actions import (
    Action,
    always,
    call_command,
    error_reply,
    get_parameter,
    guarded_by,
    set_parameter,
)
from labnet.wires.tsv.codec import Request
from labnet.wires.tsv.commands import EXTRA, FIRST

#: How many lines are remembered with their actions, and the longest such line in bytes.
MAX_REMEMBERED = 4096
MAX_LINE_REMEMBERED = 256


class CommandTable:
    """The commands of one listener.

    `devices` maps the wire's names of several devices to their nodes' paths; for a listener of one
    device it is empty and `device` is its path. `find` gives the node of a path.
    """

    def __init__(
        self, find: Callable[[str], Node], device: str | None, devices: Mapping[str, str]
    ) -> None:
        self._find = find
        self._device = device
        self._devices = devices
        self._actions: dict[Line, Action] = {}
        #: The action of a line that has come before.
        self.remembered = self._actions.get

    def forget(self) -> None:
        """Devices have come or gone: what names mean is looked up anew."""
        self._actions.clear()

    def action(self, line: bytes) -> Action | None:
        """What a line asks for; None for one that asks for nothing."""
        request = codec.decode_request(line)
        if request is None:
            return None
        action, lasting = self.of(request)
        if lasting and len(line) <= MAX_LINE_REMEMBERED:
            if len(self._actions) >= MAX_REMEMBERED:
                self._actions.clear()
            self._actions[line] = action
        return action

    def of(self, request: Request) -> tuple[Action, bool]:
        """The action of a request, and whether the same request will always mean the same."""
        try:
            command = request.command.decode()
        except UnicodeDecodeError as error:
            return always(codec.not_a_command(error)), False
        try:
            found = self._make(command, request.arguments)
        except LabError as error:
            return always(error_reply(command, error)), False
        if found is None:
            return always(codec.unknown_command(command)), False
        return guarded_by(command, found), True

    def _make(self, command: str, arguments: tuple[bytes, ...]) -> Action | None:
        make = FIRST.get(command)
        node = None
        if make is None:
            node = self.node(command)
            if not isinstance(node, CommandNode):
                make = EXTRA.get(command)
        if make is not None:
            return make(self, command, arguments)
        if isinstance(node, CommandNode):
            return call_command(self.path_to(node), node.spec, arguments)
        if isinstance(node, ParameterNode) and arguments:
            return set_parameter(self.path_to(node), node.spec, f"{command} [value]", arguments)
        if isinstance(node, ParameterNode):
            return get_parameter(self.path_to(node), node.spec.kind)
        return None

    # Names

    def node(self, name: str) -> Node | None:
        """The node that a command's name means: exactly so, or by an alias."""
        first, *rest = name.split(".")
        device = self.default
        node: Node | None = None if device is None else _exactly(device, first)
        if node is None:
            node = self._device_at(self._devices.get(first, first))
        for segment in rest:
            node = _exactly(node, segment) if isinstance(node, DeviceNode) else None
        return node if node is not None and self._serves(node) else None

    def _serves(self, node: Node) -> bool:
        parts = self._devices.values() if self._device is None else (self._device,)
        return any(f"{node.path}.".startswith(f"{part}.") for part in parts)

    def path_to(self, node: Node) -> str:
        """The path by which a session of this listener finds `node`."""
        device = self.default
        own = device is not None and device in node.ancestors
        return node.path[len(device.path) + 1 :] if device is not None and own else node.path

    def path(self, written: str) -> str:
        """What a client wrote for a node, as a path of the lab."""
        first, dot, rest = written.partition(".")
        return self._devices.get(first, first) + dot + rest

    @property
    def default(self) -> DeviceNode | None:
        """The one device of this listener; None if it serves several, or the device has gone."""
        return None if self._device is None else self._device_at(self._device)

    @property
    def several(self) -> bool:
        """Whether the listener serves several devices, so that a command must say which."""
        return self._device is None

    def _served(self, name: str) -> DeviceNode | None:
        path = self._devices.get(name)
        return None if path is None else self._device_at(path)

    def _device_at(self, path: str) -> DeviceNode | None:
        try:
            node = self._find(path)
        except LabError:
            return None
        return node if isinstance(node, DeviceNode) else None

    def own_names(self) -> Iterator[str]:
        """The names of the devices' own commands, as they are called here."""
        if self._device is not None:
            yield from _names("", self.default)
        for name in self._devices:
            yield from _names(f"{name}.", self._served(name))

    def names(self) -> list[str]:
        """All names of commands."""
        own = [name for name in self.own_names() if name not in FIRST]
        return [*FIRST, *own, *(name for name in EXTRA if name not in own)]


def _exactly(device: DeviceNode, name: str) -> Node | None:
    node = device.child(name)
    return node if node is not None and (name == node.name or name in node.aliases) else None


def _names(prefix: str, device: DeviceNode | None) -> Iterator[str]:
    if device is not None:
        for node in device.walk():
            if not isinstance(node, DeviceNode):
                yield prefix + node.path[len(device.path) + 1 :]
