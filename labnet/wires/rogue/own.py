"""Variables and commands of the server itself, such as the root's ``Time``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from labnet.errors import NotWritable
from labnet.specs import CommandSpec, ParameterSpec
from labnet.values import EnumKind, Reading
from labnet.wires.rogue.commands import Command
from labnet.wires.rogue.model import ENABLE_VARIABLE, LOCAL_VARIABLE, NODE, VARIABLE
from labnet.wires.rogue.nodes import TreeNode, then
from labnet.wires.rogue.variables import (
    FUNCTIONS,
    PROPERTIES,
    VARIABLE_ATTRIBUTES,
    Variable,
    described,
)

if TYPE_CHECKING:
    from labnet.wires.rogue.protocol import RogueProtocol
    from labnet.wires.rogue.tree import Tree


class OwnVariable(Variable):
    """A variable whose value `get` knows, and that `put` changes for a client."""

    __slots__ = ("_get", "_put", "_spec")

    class_name = "LocalVariable"
    bases = (LOCAL_VARIABLE, VARIABLE, NODE)
    props = tuple(PROPERTIES)
    funcs = described(FUNCTIONS)
    attributes = VARIABLE_ATTRIBUTES

    def __init__(
        self,
        tree: Tree,
        parent: TreeNode,
        spec: ParameterSpec,
        get: Callable[[], Any],
        put: Callable[[RogueProtocol, Any], Any] | None = None,
    ) -> None:
        super().__init__(tree, spec.name, parent)
        self._spec = spec
        self._get = get
        self._put = put

    @property
    def spec(self) -> ParameterSpec:
        return self._spec

    @property
    def mode(self) -> str:
        return "RO" if self._put is None else "RW"

    def now(self) -> Reading:
        """Its value."""
        return Reading(self._get(), time.time())

    def last(self, client: RogueProtocol) -> Any:
        return self.now()

    def fresh(self, client: RogueProtocol) -> Any:
        return self.tell()

    def put(self, client: RogueProtocol, value: Any) -> Any:
        if self._put is None:
            raise NotWritable(self.path)
        done = self._put(client, self._spec.check(value, self.name))
        return then(done, lambda _: self.tell() and None)

    def tell(self) -> Reading:
        """All subscribers are told its value."""
        reading = self.now()
        self.tree.publisher.changed(self, reading)
        return reading


ENABLE: Final = EnumKind({
    False: "False", True: "True", "parent": "ParentFalse", "deps": "ExtDepFalse",
})  # fmt: skip
"""Of ``enable``: clients look for the text of its value among these."""


class EnableVariable(OwnVariable):
    """Whether a device is enabled: ``parent`` where it is, but what it is in is not."""

    __slots__ = ()

    class_name = "EnableVariable"
    bases = (ENABLE_VARIABLE, VARIABLE, NODE)

    def put(self, client: RogueProtocol, value: Any) -> Any:
        """As in PyRogue, what only the server can say of it changes nothing."""
        if isinstance(self.spec.check(value, self.name), str):
            return None
        return super().put(client, value)


class OwnCommand(Command):
    """A command that a function of the client and the arguments carries out."""

    __slots__ = ("_command", "_function", "_secret")

    def __init__(
        self,
        tree: Tree,
        parent: TreeNode,
        spec: CommandSpec,
        function: Callable[..., Any],
        secret: bool = False,
    ) -> None:
        super().__init__(tree, spec.name, parent)
        self._command = spec
        self._secret = secret
        self._function = function

    @property
    def command(self) -> CommandSpec:
        return self._command

    def keep(self, value: Any) -> None:
        if not self._secret:
            super().keep(value)

    def run(
        self, client: RogueProtocol, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        bound, named = self._command.bind(args, kwargs)
        return self._function(client, *bound, **named)
