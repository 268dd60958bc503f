"""The root of the tree, with the variables and commands that PyRogue's clients expect there."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from labnet.errors import NotAllowed, shorten
from labnet.specs import ArgumentSpec
from labnet.values import ANY, BOOL, FLOAT, STR
from labnet.wires.rogue.devices import ALL_MODES, TreeDevice
from labnet.wires.rogue.locking import LocksDevice
from labnet.wires.rogue.model import DEVICE, NODE, ROOT, Func
from labnet.wires.rogue.nodes import Attribute, TreeNode, shows
from labnet.wires.rogue.own import OwnVariable

if TYPE_CHECKING:
    from labnet.wires.rogue.protocol import RogueProtocol
    from labnet.wires.rogue.tree import Tree

VERSION: Final = "6.15.0"
"""The PyRogue release whose clients this server was made for."""
MAX_LOGGED: Final = 20
"""Errors that the system log keeps."""
_CONFIG: Final = frozenset({"RW", "WO"})

REFUSED: Final = {
    "SaveState": "Save state to file",
    "SaveConfig": "Save configuration to file",
    "LoadConfig": "Read configuration from file",
    "RemoteVariableDump": "Save a dump of the remote variable state",
    "RemoteConfigDump": "Save a dump of the remote variable state",
    "SetYamlConfig": "Set configuration from YAML string",
    "Initialize": "Generate a soft reset to each device in the tree",
    "HardReset": "Generate a hard reset to each device in the tree",
    "CountReset": "Generate a count reset to each device in the tree",
}
"""Commands that clients look for and that no client of a lab may use."""


class SystemLog:
    """The last errors of requests, as JSON the way PyRogue's own log is."""

    def __init__(self) -> None:
        self.changed = False
        self._entries: deque[dict[str, Any]] = deque(maxlen=MAX_LOGGED)

    def add(self, kind: str, text: str) -> None:
        """A request has failed."""
        self._entries.append({
            "created": time.time(), "name": "pyrogue.labnet", "message": shorten(text, 200),
            "exception": kind, "traceBack": [], "levelName": "ERROR", "levelNumber": 40,
        })  # fmt: skip
        self.changed = True

    def clear(self, client: object = None) -> None:
        """Forgets all of them."""
        self._entries.clear()
        self.changed = True

    def text(self) -> str:
        """All of them, as a JSON list."""
        return json.dumps(list(self._entries))

    def last(self) -> str:
        """The last one, as a JSON object, or the empty text."""
        return json.dumps(self._entries[-1]) if self._entries else ""


class RootNode(TreeDevice):
    """The root: what PyRogue's roots have, the lab's locks, then the lab's devices."""

    __slots__ = ("_beat", "_logged", "locks", "log")

    class_name = "Root"
    bases = (ROOT, DEVICE, NODE)
    props = ("address", "offset", "running")
    funcs = {**TreeDevice.funcs, "waitOnUpdate": Func()}
    expand = True

    def __init__(self, tree: Tree, name: str) -> None:
        super().__init__(tree, name, None)
        self.log = SystemLog()
        self.add_usual()
        self._beat: list[OwnVariable] = []
        self._logged: list[OwnVariable] = []
        self._add_variables()
        self._add_commands()
        self.locks = LocksDevice(tree, self)
        self.add(self.locks)

    @property
    def description(self) -> str:
        return self.tree.common.name or "A lab"

    def _add_variables(self) -> None:
        add = self.add_own
        add("RogueVersion", STR, lambda: VERSION, help="Rogue Version String")
        add("RogueDirectory", STR, lambda: "", help="Rogue Library Directory")
        hidden = ("NoStream", "NoSql", "NoState", "Hidden")
        self._logged = [
            add("SystemLog", STR, self.log.text, groups=hidden,
                help="String containing newline separated system logic entries"),
            add("SystemLogLast", STR, self.log.last, groups=("NoStream", "NoState", "Hidden"),
                help="String containing last system log entry"),
        ]  # fmt: skip
        flags = ("Hidden",)
        add("ForceWrite", BOOL, lambda: False, groups=flags, help="Never: all writes are made")
        add("InitAfterConfig", BOOL, lambda: False, groups=flags, help="Never")
        self._beat = [
            add("Time", FLOAT, time.time, groups=("NoSql", "Hidden"),
                help="Current Time In Seconds Since EPOCH UTC"),
            add("LocalTime", STR, _local_time, groups=("NoStream", "NoSql", "NoState"),
                help="Local Time"),
        ]  # fmt: skip
        add("PollEn", BOOL, lambda: True, groups=("NoStream", "NoSql", "NoState"),
            help="The lab polls its devices")  # fmt: skip

    def _add_commands(self) -> None:
        add = self.add_command
        add("WriteAll", self.write_all, help="Write all values to the hardware")
        add("ReadAll", self.read_all, help="Read all values from the hardware")
        for name, help in REFUSED.items():
            anything = ArgumentSpec(name="arg", kind=ANY, required=False)
            add(name, _refuse(name), anything, help=f"{help}: not offered here")
        add("ClearLog", self.log.clear, help="Clear the message log contained in SystemLog")
        first = ArgumentSpec(name="readFirst", kind=BOOL, required=False, default=False)
        add("GetYamlConfig", self._yaml_config, first, help="Get configuration in YAML string")
        add("GetYamlState", self._yaml_state, first, help="Get current state as YAML string")

    def _yaml_config(self, client: RogueProtocol, readFirst: bool = False) -> Any:
        return self.read_yaml(client, readFirst, _CONFIG, ("NoConfig",))

    def _yaml_state(self, client: RogueProtocol, readFirst: bool = False) -> Any:
        return self.read_yaml(client, readFirst, ALL_MODES, ("NoState",))

    def child(self, name: str) -> TreeNode | None:
        return self._children.get(name) or self.tree.devices.get(name)

    def children(self) -> Iterator[TreeNode]:
        yield from self._children.values()
        yield from list(self.tree.devices.values())

    def cannot_hold(self, name: str) -> str:
        """Why a device cannot have this name in the tree, or the empty text."""
        if name in self._children:
            return f"the Rogue tree has a {name} of its own; give the device another name there"
        if not name or "." in name or "{" in name:
            return f"{shorten(name)!r} cannot be a name in a Rogue tree, where dots part names"
        return ""

    def beat(self) -> None:
        """Once a second: subscribers see that the server lives."""
        for variable in self._beat:
            variable.tell()
        if self.log.changed:
            self.log.changed = False
            for variable in self._logged:
                variable.tell()
        self.tree.publisher.flush()


def _local_time() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime())


def _refuse(name: str) -> Any:
    def refuse(client: RogueProtocol, arg: Any = None) -> None:
        raise NotAllowed(f"{name} is not offered by a lab: set its parameters instead")

    return refuse


def _flush(node: RootNode, client: RogueProtocol) -> None:
    """All updates have gone out when the reply comes."""
    node.tree.publisher.flush()


RootNode.attributes = {
    **TreeDevice.attributes,
    "running": shows(lambda node: True),
    "waitOnUpdate": Attribute(_flush),
}
