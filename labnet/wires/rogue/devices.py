"""Devices of the tree: those of the lab, and what every PyRogue device has besides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from twisted.internet.defer import Deferred

from labnet.errors import NotAllowed, NotReadable
from labnet.registry import CommandNode, DeviceNode, Node, ParameterNode
from labnet.specs import ArgumentSpec, CommandSpec, ParameterSpec
from labnet.wires.rogue.commands import LabCommand
from labnet.wires.rogue.model import DEVICE, NODE, Func
from labnet.wires.rogue.nodes import NODE_ATTRIBUTES, Attribute, TreeNode, shows, then
from labnet.wires.rogue.own import ENABLE, EnableVariable, OwnCommand, OwnVariable
from labnet.wires.rogue.variables import LabVariable, Variable
from labnet.wires.rogue.yaml import block

if TYPE_CHECKING:
    from labnet.wires.rogue.protocol import RogueProtocol
    from labnet.wires.rogue.tree import Tree

READS_A_TURN: Final = 64
"""Variables that a command reads before others have their turn."""

Modes = frozenset[str]
ALL_MODES: Final[Modes] = frozenset({"RW", "RO", "WO"})


class TreeDevice(TreeNode):
    """A device; its children are made when they are first asked for."""

    __slots__ = ("_children",)

    class_name = "Device"
    bases: ClassVar[tuple[str, ...]] = (DEVICE, NODE)
    props: ClassVar[tuple[str, ...]] = ("address", "offset")
    funcs: ClassVar[Mapping[str, Func]] = {
        "getYaml": Func(("readFirst", "modes", "incGroups", "excGroups", "recurse"))
    }
    expand: ClassVar[bool] = False

    def __init__(self, tree: Tree, name: str, parent: TreeNode | None) -> None:
        super().__init__(tree, name, parent)
        self._children: dict[str, TreeNode] = {}

    def add(self, node: TreeNode) -> None:
        """One more child, unless its name is taken."""
        self._children.setdefault(node.name, node)

    def add_own(
        self,
        name: str,
        kind: Any,
        get: Callable[[], Any],
        put: Callable[[RogueProtocol, Any], Any] | None = None,
        *,
        groups: Sequence[str] = (),
        help: str = "",
        display: str = "",
    ) -> OwnVariable:
        """A variable of the server itself."""
        access: Any = "r" if put is None else "rw"
        spec = ParameterSpec(
            name=name, kind=kind, access=access, groups=tuple(groups), help=help, display=display
        )
        variable = OwnVariable(self.tree, self, spec, get, put)
        self.add(variable)
        return variable

    def add_command(
        self,
        name: str,
        function: Callable[..., Any],
        *arguments: ArgumentSpec,
        groups: Sequence[str] = ("Hidden",),
        help: str = "",
        secret: bool = False,
    ) -> None:
        """A command of the server itself; the argument of a `secret` one is told to nobody."""
        spec = CommandSpec(name=name, arguments=arguments, groups=tuple(groups), help=help)
        self.add(OwnCommand(self.tree, self, spec, function, secret))

    def add_usual(self) -> None:
        """What every device has: whether it is enabled, and commands to read and write it."""
        spec = ParameterSpec(
            name="enable", kind=ENABLE, groups=("Enable",),
            help="Determines if device is enabled for hardware access",
        )  # fmt: skip
        self.add(EnableVariable(self.tree, self, spec, self.enabled, self.enable))
        without = "of device without recursion"
        self.add_command("ReadDevice", self.read_here, help=f"Force read {without}")
        self.add_command("WriteDevice", self.write_here, help=f"Force write {without}")

    def child(self, name: str) -> TreeNode | None:
        return self._children.get(name)

    def children(self) -> Iterator[TreeNode]:
        return iter(self._children.values())

    def enabled(self) -> bool | str:
        """Whether the commands of the device run: False, or ``parent`` for what is in another."""
        return True

    def enable(self, client: RogueProtocol, value: bool) -> None:
        """Lets the commands of the device run, or not."""
        if value is not True:
            raise NotAllowed(f"{self.path} is no hardware that could be disabled")

    # What is read and written at once.

    def variables(self, recurse: bool = True) -> Iterator[Variable]:
        """The variables of this device, and with `recurse` of those in it."""
        for node in self.children():
            if isinstance(node, LabVariable):
                yield node
            elif recurse and isinstance(node, TreeDevice):
                yield from node.variables()

    def read_here(self, client: RogueProtocol) -> Any:
        """Reads the variables of this device."""
        return self.read_all(client, False)

    def write_here(self, client: RogueProtocol) -> Any:
        """Writes what this client has set of this device with ``write=False``."""
        return self.write_all(client, False)

    def read_all(self, client: RogueProtocol, recurse: bool = True) -> Any:
        """Reads the variables; gives True. Raises the first error when all have been tried."""
        return Deferred.fromCoroutine(self._each(client, recurse, lambda v: v.fresh(client)))

    def write_all(self, client: RogueProtocol, recurse: bool = True) -> Any:
        """Writes what this client has set with ``write=False``; gives True."""
        staged = set(client.staged)

        def write(variable: Variable) -> Any:
            return variable.put(client, client.staged[variable]) if variable in staged else None

        return Deferred.fromCoroutine(self._each(client, recurse, write))

    async def _each(
        self, client: RogueProtocol, recurse: bool, do: Callable[[Any], Any]
    ) -> bool:
        error: Exception | None = None
        for number, variable in enumerate(list(self.variables(recurse))):
            if number % READS_A_TURN == READS_A_TURN - 1:
                await self.tree.turn()
            if client.peer is None:
                break
            try:
                done = do(variable)
                if isinstance(done, Deferred):
                    await done
            except NotReadable:
                pass
            except Exception as problem:
                error = error or problem
        if error is not None:
            raise error
        return True

    # As YAML.

    def yaml(self, client: RogueProtocol, modes: Modes, without: Sequence[str] = ()) -> str:
        """The displayed values of all variables."""
        parts = []
        for node in self.children():
            if any(group in node.groups for group in without):
                continue
            if isinstance(node, TreeDevice):
                parts.append(node.yaml(client, modes, without))
            elif isinstance(node, LabVariable | OwnVariable) and node.mode in modes:
                parts.append(node.yaml(client))
        return block(self.name, "".join(parts))

    def read_yaml(
        self, client: RogueProtocol, first: Any, modes: Modes, without: Sequence[str] = ()
    ) -> Any:
        """`yaml`, after reading everything if `first` is true."""
        if not first:
            return self.yaml(client, modes, without)
        return then(self.read_all(client), lambda _: self.yaml(client, modes, without))


def _yaml(
    node: TreeDevice, client: RogueProtocol, readFirst: Any = False, modes: Any = None,
    incGroups: Any = None, excGroups: Any = None, recurse: Any = True,
) -> Any:  # fmt: skip
    chosen = ALL_MODES & frozenset(_words(modes)) if modes is not None else ALL_MODES
    return node.read_yaml(client, readFirst, chosen, _words(excGroups))


def _words(value: Any) -> list[str]:
    """A word or a list of words, from a client."""
    words = [value] if isinstance(value, str) else value
    return [word for word in words if isinstance(word, str)] if isinstance(words, list) else []


TreeDevice.attributes = {
    **NODE_ATTRIBUTES,
    "address": shows(lambda node: 0),
    "offset": shows(lambda node: 0),
    "getYaml": Attribute(_yaml, ("readFirst", "modes", "incGroups", "excGroups", "recurse")),
}


class LabDevice(TreeDevice):
    """A device of the lab, or a part of one."""

    __slots__ = ("_disabled", "node")

    def __init__(self, tree: Tree, name: str, parent: TreeNode, node: DeviceNode) -> None:
        super().__init__(tree, name, parent)
        self.node = node
        self._disabled = False
        self.add_usual()

    @property
    def description(self) -> str:
        identity = self.node.identity
        return f"{identity.maker} {identity.model} {identity.serial}".strip()

    def enabled(self) -> bool | str:
        if self._disabled:
            return False
        outer = self.parent
        assert isinstance(outer, TreeDevice)
        return True if outer.enabled() is True else "parent"

    def enable(self, client: RogueProtocol, value: bool) -> None:
        client.session.check("call", (self.node,))
        self._disabled = not value

    def child(self, name: str) -> TreeNode | None:
        found = self.node.children.get(name)
        return self._children.get(name) if found is None else self._made(name, found)

    def children(self) -> Iterator[TreeNode]:
        members = self.node.children
        yield from (own for name, own in self._own().items() if name not in members)
        for name, node in list(members.items()):
            yield self._made(name, node)

    def _own(self) -> dict[str, TreeNode]:
        return {name: self._children[name] for name in USUAL if name in self._children}

    def _made(self, name: str, node: Node) -> TreeNode:
        made = self._children.get(name)
        if getattr(made, "node", None) is not node:
            made = self._children[name] = self._make(name, node)
        assert made is not None
        return made

    def _make(self, name: str, node: Node) -> TreeNode:
        if isinstance(node, ParameterNode):
            return LabVariable(self.tree, name, self, node)
        if isinstance(node, CommandNode):
            return LabCommand(self.tree, name, self, node)
        assert isinstance(node, DeviceNode)
        return LabDevice(self.tree, name, self, node)


USUAL: Final = ("enable", "ReadDevice", "WriteDevice")
