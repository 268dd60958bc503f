"""Commands of the tree: a PyRogue command takes one argument or none and keeps the last one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from labnet.errors import LabError
from labnet.literals import literal
from labnet.registry import CommandNode
from labnet.specs import ArgumentSpec, CommandSpec, ParameterSpec, first_value
from labnet.values import ANY, NONE, STR, Reading
from labnet.wires.rogue.display import inner_kind, shown
from labnet.wires.rogue.model import COMMAND, NODE, VARIABLE
from labnet.wires.rogue.nodes import NODE_ATTRIBUTES, Attribute, TreeNode, shows, then
from labnet.wires.rogue.variables import FUNCTIONS, PROPERTIES, Variable, described

if TYPE_CHECKING:
    from labnet.wires.rogue.protocol import RogueProtocol
    from labnet.wires.rogue.tree import Tree

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def arguments(spec: CommandSpec, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
    """What a client's call means for a command; raises `WrongType`.

    A single None stands for no argument, and a command without arguments ignores the one that
    PyDM's buttons send. A text is read by the kind of the argument. A command with several takes a
    list or a mapping of them as the one, or its text.
    """
    if "arg" in kwargs and not args and len(kwargs) == 1 and not _has(spec, "arg"):
        args, kwargs = (kwargs["arg"],), {}
    if not kwargs and len(args) <= 1:
        return _spread(spec, args[0]) if args and args[0] is not None else ((), {})
    by_name = {argument.name: argument for argument in spec.arguments}
    taken = [_by_kind(spec.positional[i], value) if i < len(spec.positional) else value
             for i, value in enumerate(args)]  # fmt: skip
    named = {
        name: _by_kind(by_name[name], value) if name in by_name else value
        for name, value in kwargs.items()
    }
    return tuple(taken), named


def _has(spec: CommandSpec, name: str) -> bool:
    return any(argument.name == name for argument in spec.arguments)


def _spread(spec: CommandSpec, value: Any) -> Arguments:
    """One argument that may stand for several."""
    if not spec.arguments and spec.variadic is None:
        return (), {}
    if len(spec.positional) != 1 or spec.variadic is not None:
        several = literal(value, spec.name, "arguments") if _looks_several(value) else value
        if isinstance(several, dict):
            return arguments(spec, (), several) if several else ((), {})
        if isinstance(several, list | tuple) and len(several) != 1:
            return arguments(spec, tuple(several), {})
        value = several[0] if isinstance(several, list | tuple) else several
    return ((_by_kind(spec.positional[0], value) if spec.positional else value,), {})


def _looks_several(value: Any) -> bool:
    return isinstance(value, str) and value.strip()[:1] in ("[", "{", "(")


def _by_kind(argument: ArgumentSpec, value: Any) -> Any:
    kind = inner_kind(argument.kind)
    if isinstance(value, str) and kind is not STR:
        return kind.parse(value, argument.name)
    return value


def parameter_of(spec: CommandSpec) -> ParameterSpec:
    """A command's first argument as the variable that the command is, too."""
    first = next(iter(spec.arguments), None)
    return ParameterSpec(
        name=spec.name,
        kind=ANY if first is None else first.kind,
        unit="" if first is None else first.unit,
        limits=None if first is None else first.limits,
        groups=spec.groups,
        help=spec.help,
        initial=_before_the_first(first),
    )


def _before_the_first(argument: ArgumentSpec | None) -> Any:
    """The value of a command that was not called yet; never None, for which PyDM has no signal."""
    if argument is None:
        return 0  # as in PyRogue
    if argument.default is not None:
        return argument.default
    value = first_value(inner_kind(argument.kind), argument.limits)
    return "" if value is None else value


class Command(Variable):
    """A command; `reading` is its last argument."""

    __slots__ = ("_made_from", "_spec", "kept")

    class_name = "BaseCommand"
    bases = (COMMAND, VARIABLE, NODE)
    mode = "WO"

    def __init__(self, tree: Tree, name: str, parent: TreeNode) -> None:
        super().__init__(tree, name, parent)
        self._spec: ParameterSpec | None = None
        self._made_from: CommandSpec | None = None
        self.kept: Reading | None = None

    @property
    def command(self) -> CommandSpec:
        """What is known about the command."""
        raise NotImplementedError

    def run(
        self, client: RogueProtocol, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The result, or a Deferred of it."""
        raise NotImplementedError

    @property
    def spec(self) -> ParameterSpec:
        command = self.command
        if self._spec is None or self._made_from is not command:
            self._spec, self._made_from = parameter_of(command), command
        return self._spec

    def last(self, client: RogueProtocol) -> Any:
        return self.kept or Reading(self.spec.initial, 0.0)

    def fresh(self, client: RogueProtocol) -> Any:
        reading = self.last(client)
        if self.takes_argument:
            self.tree.publisher.changed(self, reading)
        return reading

    def put(self, client: RogueProtocol, value: Any) -> Any:
        """Nothing, as in PyRogue."""

    @property
    def takes_argument(self) -> bool:
        """Whether it declares an argument."""
        return bool(self.command.arguments) or self.command.variadic is not None

    def call(
        self, client: RogueProtocol, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Runs it; then its argument is its value, which subscribers are told."""
        if len(args) > 1000 or len(kwargs) > 1000:
            raise LabError(f"{self.path} takes no more than 1000 arguments")
        bound, named = arguments(self.command, args, kwargs)
        result = self.run(client, bound, named)
        if self.takes_argument:
            value = bound[0] if bound else next(iter(named.values()), None)
            return then(result, lambda outcome: self._kept(value, outcome))
        return result

    def _kept(self, value: Any, outcome: Any) -> Any:
        self.keep(value)
        return outcome

    def keep(self, value: Any) -> None:
        """Its argument is its value; subscribers are told."""
        self.kept = Reading(self.spec.initial if value is None else value, time.time())
        self.tree.publisher.changed(self, self.kept)


class LabCommand(Command):
    """A command of a device of the lab."""

    __slots__ = ("node",)

    def __init__(self, tree: Tree, name: str, parent: TreeNode, node: CommandNode) -> None:
        super().__init__(tree, name, parent)
        self.node = node

    @property
    def command(self) -> CommandSpec:
        return self.node.state.spec

    def call(
        self, client: RogueProtocol, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        if not self.tree.runs(self.parent):
            return None
        return super().call(client, args, kwargs)

    def run(
        self, client: RogueProtocol, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return client.session.call_with(self.node.path, args, kwargs)


class _Call(Attribute):
    """A call with whatever arguments."""

    direct = False

    def call(
        self,
        name: str,
        node: Any,
        client: RogueProtocol,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        return self.function(node, client, args, kwargs)


def _call(
    node: Command, client: RogueProtocol, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    return node.call(client, args, kwargs)


def _call_disp(
    node: Command, client: RogueProtocol, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    return then(node.call(client, args, kwargs), lambda result: shown(result, "{}", None))


def _result_type(node: Command) -> str | None:
    kind = node.command.result
    return None if kind in (ANY, NONE) else inner_kind(kind).name


_CALLS: Final[Mapping[str, Attribute]] = {
    "call": _Call(_call, ("arg",)), "callDisp": _Call(_call_disp, ("arg",)),
}  # fmt: skip
_PROPERTIES: Final[Mapping[str, Attribute]] = {
    **PROPERTIES,
    "arg": shows(lambda node: node.takes_argument),
    "retTypeStr": shows(_result_type),
}

Command.props = tuple(sorted(_PROPERTIES))
Command.funcs = {
    name: func
    for name, func in sorted(described({**FUNCTIONS, **_CALLS}).items())
    if name != "get"
}
Command.attributes = {
    **NODE_ATTRIBUTES, **_PROPERTIES, **FUNCTIONS, **_CALLS, "__call__": _Call(_call),
}  # fmt: skip
