"""Variables of the tree: parameters of the lab's devices as PyRogue's clients use them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from twisted.internet.defer import Deferred

from labnet.device import check_writable
from labnet.errors import LabError, NotReadable, OutOfRange, TooLarge, WrongType, quote
from labnet.registry import DeviceNode, ParameterNode
from labnet.specs import SHORTEST_POLL, ParameterSpec
from labnet.values import ANY, BOOL, FLOAT, ArrayKind, LabeledArray, Reading
from labnet.wires.rogue.codec import BadRequest
from labnet.wires.rogue.display import (
    disp_of,
    enum_of,
    inner_kind,
    parsed,
    precision,
    safe_format,
    shown,
    type_text,
)
from labnet.wires.rogue.model import LOCAL_VARIABLE, NODE, VARIABLE, Func, VariableValue
from labnet.wires.rogue.nodes import (
    NO_SERVE,
    NODE_ATTRIBUTES,
    Attribute,
    TreeNode,
    settled,
    shows,
    then,
    where_read,
)
from labnet.wires.rogue.pickles.fragments import Template
from labnet.wires.rogue.yaml import line

if TYPE_CHECKING:
    from labnet.wires.rogue.protocol import RogueProtocol
    from labnet.wires.rogue.tree import Tree

MAX_STAGED: Final = 1000
"""Values of one client that are kept to be written later."""

LONGEST_POLL: Final = 86400.0

VARIABLE_ERROR: Final = "pyrogue._Variable.VariableError"


class Variable(TreeNode):
    """Something with a value: a variable, or a command, which keeps its last argument."""

    __slots__ = ("_template",)

    def __init__(self, tree: Tree, name: str, parent: TreeNode | None) -> None:
        super().__init__(tree, name, parent)
        self._template: Template | None = None

    # What subclasses give.

    @property
    def spec(self) -> ParameterSpec:
        """What is known about it."""
        raise NotImplementedError

    @property
    def mode(self) -> str:
        """``RW``, ``RO`` or ``WO``."""
        raise NotImplementedError

    def last(self, client: RogueProtocol) -> Any:
        """Its last reading, without asking anything; perhaps a Deferred if there never was one."""
        raise NotImplementedError

    def fresh(self, client: RogueProtocol) -> Any:
        """A new reading, or a Deferred of it; all subscribers are told."""
        raise NotImplementedError

    def put(self, client: RogueProtocol, value: Any) -> Any:
        """Gives it a value; None or a Deferred. All subscribers are told."""
        raise NotImplementedError

    def poll(self, client: RogueProtocol, interval: float | None) -> None:
        """Sets the time between two polls (s)."""
        raise LabError(f"{self.path} is not polled")

    # What they have in common.

    @property
    def groups(self) -> tuple[str, ...]:
        return self.spec.groups

    @property
    def description(self) -> str:
        return self.spec.help

    @property
    def template(self) -> Template:
        """What its updates have in common."""
        template, spec = self._template, self.spec
        if template is None or template.source is not spec:
            published = self.tree.publisher.publishes(spec.groups)
            template = Template(self.path, disp_of(spec), enum_of(spec), spec, published)
            self._template = template
        return template

    def shown(self, value: Any) -> str:
        """A value as clients see it."""
        template = self.template
        return shown(value, template.disp, template.enum)

    def reading(self, client: RogueProtocol, read: Any) -> Any:
        """A new reading or the last one."""
        return self.fresh(client) if read else self.last(client)

    def yaml(self, client: RogueProtocol) -> str:
        """Its name and its last value, as a line of YAML."""
        value = where_read(partial(self.last, client), lambda reading: reading.value)
        value = None if isinstance(value, Deferred) else value
        return line(self.name, self.shown(value), value)


class LabVariable(Variable):
    """A parameter of a device of the lab."""

    __slots__ = ("node",)

    class_name = "LocalVariable"
    bases = (LOCAL_VARIABLE, VARIABLE, NODE)

    def __init__(self, tree: Tree, name: str, parent: TreeNode, node: ParameterNode) -> None:
        super().__init__(tree, name, parent)
        self.node = node

    @property
    def spec(self) -> ParameterSpec:
        return self.node.state.spec

    @property
    def mode(self) -> str:
        state = self.node.state
        if not state.spec.readable:
            return "WO"
        fixed = state.getter is not None and state.setter is None
        return "RW" if state.spec.writable and not fixed else "RO"

    def last(self, client: RogueProtocol) -> Any:
        staged = client.staged
        if staged and self in staged:
            return Reading(staged[self], 0.0)
        client.session.check("get", self.node.needs)
        state = self.node.state
        if state.sequence or state.getter is None or not state.spec.readable:
            return state.reading
        return self.fresh(client)

    def fresh(self, client: RogueProtocol) -> Any:
        node = self.node
        waiting = client.session.get(node.path)
        try:
            result = settled(waiting)
        except NotReadable:  # only written: the answer is what was written last
            result = node.state.reading
        if node.state.getter is None:
            # The lab says nothing where no device was asked.
            if result.__class__ is Reading:
                self.tree.publisher.changed(self, result)
                return result
            return result.addCallback(self._tell)
        return result

    def _tell(self, reading: Reading) -> Reading:
        self.tree.publisher.changed(self, reading)
        return reading

    def put(self, client: RogueProtocol, value: Any) -> Any:
        if client.staged:
            client.staged.pop(self, None)
        return then(client.session.set(self.node.path, value), _nothing)

    def stage(self, client: RogueProtocol, value: Any) -> None:
        """Keeps a value, which is checked, until the client asks for it to be written."""
        state = self.node.state
        check_writable(state)
        value = state.spec.check(value, self.name)
        if self not in client.staged and len(client.staged) >= MAX_STAGED:
            raise TooLarge(f"{MAX_STAGED} values wait to be written already")
        client.staged[self] = value

    def write(self, client: RogueProtocol) -> Any:
        """Writes what was staged, if anything was."""
        if self not in client.staged:
            return None
        return self.put(client, client.staged[self])

    def poll(self, client: RogueProtocol, interval: float | None) -> None:
        client.session.check("set", self.node.needs)
        parent = self.node.parent
        assert isinstance(parent, DeviceNode)
        parent.device.change(self.node.state.spec.name, poll=interval)


def _nothing(result: object) -> None:
    return None


# ---- what clients ask of a variable ----------------------------------------------------------


def with_value(found: Any, use: Callable[[Reading], Any]) -> Any:
    """What `use` makes of a reading, at once if it is there."""
    return use(found) if found.__class__ is Reading else then(found, use)


def element(node: Variable, value: Any, index: Any) -> Any:
    """One element of a value, or for a negative `index` all of it; raises `BadRequest`."""
    if index.__class__ is int and index < 0:
        return value
    index = _index(node, value, index)
    return (value.data if isinstance(value, LabeledArray) else value)[index]


def _index(node: Variable, value: Any, index: Any) -> int:
    if isinstance(index, bool) or not isinstance(index, int):
        raise BadRequest(f"an index of {node.path} is a whole number, not {quote(index)}")
    if not isinstance(value, list | tuple | LabeledArray | np.ndarray) or not np.ndim(value):
        raise BadRequest(f"{node.path} has no elements")
    size = len(np.asarray(value)) if isinstance(value, LabeledArray) else len(value)
    if not 0 <= index < size:
        text = f"index {index} is out of bounds for axis 0 with size {size}"
        raise BadRequest(text, "builtins.IndexError")
    return index


def _get(
    node: Variable, client: RogueProtocol,
    index: Any = -1, read: Any = True, wait: Any = True, check: Any = True,
) -> Any:  # fmt: skip
    found = node.fresh(client) if read else node.last(client)
    if found.__class__ is Reading:
        return found.value if index == -1 else element(node, found.value, index)
    return then(found, lambda reading: element(node, reading.value, index))


def _get_disp(node: Variable, client: RogueProtocol, read: Any = True, index: Any = -1) -> Any:
    return with_value(
        node.reading(client, read),
        lambda reading: node.shown(element(node, reading.value, index)),
    )


def _value(node: Variable, client: RogueProtocol, index: Any = -1) -> Any:
    return with_value(node.last(client), lambda reading: element(node, reading.value, index))


def _value_disp(node: Variable, client: RogueProtocol, index: Any = -1) -> Any:
    return _get_disp(node, client, False, index)


def _variable_value(
    node: Variable, client: RogueProtocol, read: Any = True, index: Any = -1
) -> Any:
    def made(reading: Reading) -> VariableValue:
        spec, value = node.spec, element(node, reading.value, index)
        enum = enum_of(spec)
        return VariableValue(
            value, node.shown(value), disp_of(spec), None if enum is None else dict(enum),
            False, reading.status, reading.severity,
        )  # fmt: skip

    return with_value(node.reading(client, read), made)


def _set(
    node: Variable, client: RogueProtocol, value: Any, index: Any = -1, write: Any = True,
    verify: Any = True, wait: Any = True, check: Any = True,
) -> Any:  # fmt: skip
    if index.__class__ is int and index < 0:
        check_type(node, value)
        return _keep(node, client, value, write)
    return with_value(
        node.last(client),
        lambda reading: _keep(node, client, _replaced(node, reading.value, index, value), write),
    )


def _set_disp(
    node: Variable, client: RogueProtocol, value: Any, write: Any = True, index: Any = -1
) -> Any:
    if not isinstance(value, str):
        return _set(node, client, value, index, write)
    if index.__class__ is int and index < 0:
        return _keep(node, client, _alike(node, _parse(node, value)), write)
    return _set(node, client, _parse_element(value), index, write)


def _alike(node: Variable, value: Any) -> Any:
    """An array out of a text, with the dtype that the variable's array has: 1 stands for 1.0."""
    if value.__class__ is not np.ndarray or not isinstance(node, LabVariable):
        return value
    dtype = getattr(node.node.state.reading.value, "dtype", None)
    if dtype is None or dtype.kind in "SU":
        return value
    return ArrayKind(dtype).check(value, node.name)


def _parse_element(text: str) -> Any:
    """One element of an array, by its text."""
    return ANY.parse(text)


def _keep(node: Variable, client: RogueProtocol, value: Any, write: Any) -> Any:
    if write or not isinstance(node, LabVariable):
        return node.put(client, value)
    return node.stage(client, value)


def _replaced(node: Variable, value: Any, index: Any, part: Any) -> Any:
    """A copy of a value with one element replaced."""
    index = _index(node, value, index)
    if isinstance(value, list | tuple):
        return [*value[:index], part, *value[index + 1 :]]
    array = np.array(value)
    try:
        array[index] = part
    except (TypeError, ValueError, OverflowError):
        raise WrongType(node.name, part, f"elements of {array.dtype}") from None
    return array


_WHOLE: Final = (int, np.integer, np.bool_)
_TRUTH: Final = (bool, np.bool_)


def check_type(node: Variable, value: Any) -> None:
    """Raises `BadRequest` where a PyRogue server would not take a number for another kind's."""
    if value.__class__ is float or not node.tree.options.strict_types:
        return
    kind = inner_kind(node.spec.kind)
    if kind is FLOAT:
        wrong = isinstance(value, _WHOLE)
    else:
        wrong = kind is BOOL and not isinstance(value, _TRUTH)
    if wrong:
        got = type(value).__name__
        text = f"Type mismatch for {node.path}: expected {kind.name}, got {got}"
        raise BadRequest(text, VARIABLE_ERROR)


def _parse(node: Variable, text: str) -> Any:
    try:
        return parsed(node.spec, text)
    except (WrongType, OutOfRange) as error:
        message = f"Invalid value {quote(text)[1:-1]} for variable {node.name}: {error}"
        raise BadRequest(message, VARIABLE_ERROR) from None


def _parse_disp(node: Variable, client: RogueProtocol, value: Any) -> Any:
    return _parse(node, value) if isinstance(value, str) else value


def _gen_disp(node: Variable, client: RogueProtocol, value: Any, useDisp: Any = None) -> str:
    if not isinstance(useDisp, str):
        return node.shown(value)
    return shown(value, safe_format(useDisp), enum_of(node.spec)) if useDisp else ""


def _post(node: Variable, client: RogueProtocol, value: Any, index: Any = -1) -> Any:
    return _set(node, client, value, index)


def _write(
    node: Variable, client: RogueProtocol,
    verify: Any = True, wait: Any = True, check: Any = True,
) -> Any:  # fmt: skip
    return node.write(client) if isinstance(node, LabVariable) else None


def _set_poll_interval(node: Variable, client: RogueProtocol, interval: Any) -> None:
    if isinstance(interval, bool) or not isinstance(interval, int | float):
        raise WrongType("a poll interval", interval, "a number of seconds")
    if not math.isfinite(interval) or not (
        interval == 0 or SHORTEST_POLL <= interval <= LONGEST_POLL
    ):
        raise OutOfRange("a poll interval in seconds", interval, SHORTEST_POLL, LONGEST_POLL)
    node.poll(client, float(interval) or None)


def _yaml(
    node: Variable, client: RogueProtocol, readFirst: Any = False, modes: Any = None,
    incGroups: Any = None, excGroups: Any = None, recurse: Any = True,
) -> Any:  # fmt: skip
    return then(node.reading(client, readFirst), lambda reading: node.yaml(client))


def _limit(name: str, side: str) -> Attribute:
    def get(node: Variable) -> float | None:
        spec = node.spec
        limits = getattr(spec, name)
        value: float | None = None if limits is None else getattr(limits, side)
        return float(value) if value is not None and spec.kind is FLOAT else value

    return shows(get)


def _status(field: str) -> Attribute:
    def get(node: Variable, client: RogueProtocol) -> Any:
        return where_read(partial(node.last, client), lambda reading: getattr(reading, field))

    return Attribute(get)


def _enum(node: Variable) -> dict[Any, str] | None:
    enum = enum_of(node.spec)
    return None if enum is None else dict(enum)


def _reverse_enum(node: Variable) -> dict[str, Any] | None:
    enum = enum_of(node.spec)
    return None if enum is None else {text: value for value, text in enum.items()}


def _type_text(node: Variable, client: RogueProtocol) -> Any:
    kind = inner_kind(node.spec.kind)
    if not isinstance(kind, ArrayKind) and kind is not ANY:
        return type_text(kind, None)  # no device is asked
    return where_read(partial(node.last, client), lambda reading: type_text(kind, reading.value))


def _lock(node: Variable) -> None:
    raise BadRequest("the lock of a variable cannot be sent")


_YAML: Final = ("readFirst", "modes", "incGroups", "excGroups", "recurse")

PROPERTIES: Final[Mapping[str, Attribute]] = {
    "alarmSeverity": _status("severity"),
    "alarmStatus": _status("status"),
    "disp": shows(lambda node: disp_of(node.spec)),
    "enum": shows(_enum),
    "hasAlarm": shows(lambda node: (node.spec.alarms or node.spec.warnings) is not None),
    "highAlarm": _limit("alarms", "high"),
    "highWarning": _limit("warnings", "high"),
    "lock": shows(_lock),
    "lowAlarm": _limit("alarms", "low"),
    "lowWarning": _limit("warnings", "low"),
    "maximum": _limit("limits", "high"),
    "minimum": _limit("limits", "low"),
    "mode": shows(lambda node: node.mode),
    "pollInterval": shows(lambda node: node.spec.poll or 0),
    "precision": shows(lambda node: precision(node.spec)),
    "revEnum": shows(_reverse_enum),
    "typeStr": Attribute(_type_text),
    "units": shows(lambda node: node.spec.unit or None),
    "updateNotify": shows(lambda node: NO_SERVE not in node.groups),
}

FUNCTIONS: Final[Mapping[str, Attribute]] = {
    "genDisp": Attribute(_gen_disp, ("value",), ("useDisp",), 1),
    "get": Attribute(_get, (), ("index", "read", "wait", "check")),
    "getDisp": Attribute(_get_disp, ("read", "index")),
    "getVariableValue": Attribute(_variable_value, ("read", "index")),
    "getYaml": Attribute(_yaml, _YAML),
    "parseDisp": Attribute(_parse_disp, ("sValue",), (), 1),
    "post": Attribute(_post, ("value",), ("index",), 1),
    "set": Attribute(_set, ("value",), ("index", "write", "verify", "wait", "check"), 1),
    "setDisp": Attribute(_set_disp, ("sValue", "write", "index"), (), 1),
    "setPollInterval": Attribute(_set_poll_interval, ("interval",), (), 1),
    "value": Attribute(_value, ("index",)),
    "valueDisp": Attribute(_value_disp, ("index",)),
    "write": Attribute(_write, (), ("verify", "wait", "check")),
}


def described(functions: Mapping[str, Attribute]) -> dict[str, Func]:
    """The functions as clients are told of them."""
    return {
        name: Func(function.positional, sorted(function.keywords - set(function.positional)))
        for name, function in functions.items()
    }


VARIABLE_ATTRIBUTES: Final[Mapping[str, Attribute]] = {
    **NODE_ATTRIBUTES, **PROPERTIES, **FUNCTIONS,
}  # fmt: skip

LabVariable.props = tuple(PROPERTIES)
LabVariable.funcs = described(FUNCTIONS)
LabVariable.attributes = VARIABLE_ATTRIBUTES
