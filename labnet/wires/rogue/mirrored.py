"""A device, variable or command in the tree of a PyRogue server, as a client sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from labnet.errors import DeviceFault
from labnet.wires.rogue.model import (
    COMMAND,
    DEVICE,
    PROCESS,
    ROOT,
    VARIABLE,
    NodeInfo,
    VariableValue,
)
from labnet.wires.rogue.pickles.reader import Opaque

if TYPE_CHECKING:
    from labnet.wires.rogue.mirror import RogueMirror

OnValue = Callable[["Node", VariableValue], object]


class Node:
    """A device, variable or command of the server's tree.

    `info` is what the server told; `children` are by name; `last` is the newest value that was
    heard of a variable, None before, and `heard_at` when that was (seconds since 1970).
    """

    __slots__ = ("children", "heard_at", "info", "last", "listeners", "mirror", "path")

    def __init__(self, mirror: RogueMirror, path: str, info: NodeInfo) -> None:
        self.mirror = mirror
        self.path = path
        self.info = info
        self.children: dict[str, Node] = {}
        self.last: VariableValue | None = None
        self.heard_at = 0.0
        self.listeners: tuple[OnValue, ...] = ()

    def __repr__(self) -> str:
        return f"<Node {self.path}>"

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def is_command(self) -> bool:
        return self.info.is_a(COMMAND)

    @property
    def is_variable(self) -> bool:
        """Whether it is a variable and not a command, which PyRogue takes for variables too."""
        return self.info.is_a(VARIABLE) and not self.is_command

    @property
    def is_process(self) -> bool:
        return self.info.is_a(PROCESS)

    @property
    def is_device(self) -> bool:
        return self.info.is_a(DEVICE) or self.info.is_a(ROOT)

    @property
    def value(self) -> Any:
        """The newest value that was heard; `DeviceFault` if there is none that can be read."""
        if self.last is None:
            raise DeviceFault(f"{self.path}: no value has been heard yet", "NotHeard")
        return readable(self.last.value, self.path)

    def get(self, **options: Any) -> Deferred[Any]:
        """See `RogueClient.get`."""
        return self.mirror.get(self.path, **options)

    def set(self, value: Any, **options: Any) -> Deferred[None]:
        """See `RogueClient.set`."""
        return self.mirror.set(self.path, value, **options)

    def set_disp(self, text: str, **options: Any) -> Deferred[None]:
        """See `RogueClient.set_disp`."""
        return self.mirror.set_disp(self.path, text, **options)

    def exec(self, *args: Any, **options: Any) -> Deferred[Any]:
        """See `RogueClient.exec`."""
        return self.mirror.exec(self.path, *args, **options)

    def fetch(self, *, read: bool = False, timeout: float | None = None) -> Deferred[VariableValue]:
        """Asks for value, text and alarms, by default as the server last knew them; kept as `last`.
        """
        kwargs = {"read": read}
        asked = self.mirror.request(self.path, "getVariableValue", (), kwargs, timeout=timeout)
        return asked.addCallback(self._fetched)

    def _fetched(self, value: Any) -> VariableValue:
        if not isinstance(value, VariableValue):
            raise DeviceFault(f"{self.path}: the server answers no value", "ProtocolError")
        self.heard(value)
        return value

    def listen(self, function: OnValue) -> Callable[[], None]:
        """Calls ``function(node, value)`` for each value that is heard, until the result is called.
        """
        self.listeners = (*self.listeners, function)

        def stop() -> None:
            self.listeners = tuple(kept for kept in self.listeners if kept is not function)

        return stop

    def heard(self, value: VariableValue) -> None:
        """Keeps a new value and tells the listeners."""
        self.last = value
        self.heard_at = time.time()
        for function in self.listeners:
            self.mirror.tell(function, self, value)

    def walk(self) -> Iterator[Node]:
        """This node and all below it."""
        yield self
        for child in self.children.values():
            yield from child.walk()


def readable(value: Any, path: str) -> Any:
    """The value; `DeviceFault` for one of a class that is not read."""
    if isinstance(value, Opaque):
        raise DeviceFault(f"{path}: a value of class {value.kind} is not read", value.kind)
    return value
