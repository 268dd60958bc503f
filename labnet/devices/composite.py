"""``driver = composite``: parameters of several devices under new names.

    [device goniometer]
    driver = composite
    parameter angle = stage.position * 3.6, deg, 0..360
    parameter signal = powermeter.power
    command home = stage.home

or as a class, whose parts a section may name otherwise (``part stage = stage2``)::

    class Goniometer(Composite):
        angle = combined("stage.position * 3.6", unit="deg")
        home = relayed("stage.home")

A parameter that only renames another has its kind, unit, limits and help; one that is linear in
one parameter can be written, if that one can. A lock reaches the parts, and updates follow them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from twisted.internet.defer import Deferred, gatherResults

from labnet.device import CommandState, Device, ParameterState
from labnet.devices.formula import Expression, Formula, FormulaError, parse_expression
from labnet.errors import LabError, NotConnected
from labnet.specs import NAME, CommandSpec, Identity, ParameterSpec, make_spec
from labnet.values import ANY, FLOAT, ArrayKind, Kind, Limits, Reading

#: Seconds that the parts may take to be there when the device is opened.
PATIENCE = 5.0


class Relayed(str):
    """The path of a command of another device, as a section or a class names it."""

    @classmethod
    def from_text(cls, text: str) -> Relayed:
        """ValueError for what is no path."""
        words = text.strip().split(".")
        if len(words) < 2 or not all(NAME.match(word) for word in words):
            raise ValueError(f"{text.strip()!r} is no command such as stage.home")
        return cls(".".join(words))

    @property
    def names(self) -> tuple[str, ...]:
        """The path itself."""
        return (str(self),)


def combined(expression: str, **options: Any) -> Any:
    """In the body of a `Composite`: a parameter made of others; `options` as for `parameter`."""
    return Formula(parse_expression(expression), options)


def relayed(path: str) -> Any:
    """In the body of a `Composite`: a command of another device."""
    return Relayed.from_text(path)


class Composite(Device):
    """A device made of others.

    Args:
        parameter: an expression over parameters of other devices, then unit and limits
        command: a command of another device, such as stage.home
        part: the device that is meant by a name in the class's own expressions
    """

    reaches_out = True
    described_late = True
    identity = Identity("labnet", "composite")

    def __init__(
        self,
        *,
        parameter: Mapping[str, Formula] | None = None,
        command: Mapping[str, Relayed] | None = None,
        part: Mapping[str, str] | None = None,
    ) -> None:
        self._part = dict(part or {})
        self._formulas: dict[str, Formula] = {}
        self._commands: dict[str, str] = {}
        for name, what in {**_own(type(self)), **(parameter or {}), **(command or {})}.items():
            if isinstance(what, Formula):
                self._formulas[name] = what
            else:
                self._commands[name] = what
        if not self._formulas and not self._commands:
            raise ValueError("it has neither a parameter nor a command")
        names = [name for formula in self._formulas.values() for name in formula.names]
        self._where = {name: self._place(name) for name in (*names, *self._commands.values())}
        self._ends: list[Callable[[], None]] = []
        self._waiting: Deferred[None] | None = None
        self._built: tuple[Any, ...] = ()

    def _place(self, name: str) -> str:
        """The path in the lab of a name in an expression."""
        first, dot, rest = name.partition(".")
        return f"{self._part.get(first, first)}{dot}{rest}"

    @property
    def devices(self) -> set[str]:
        """The names of the devices that it is made of."""
        return {path.partition(".")[0] for path in self._where.values()}

    # Opening: the parts must be there

    def connect(self) -> Deferred[None] | None:
        """Waits for the parts; `NotConnected` names one that does not come."""
        assert self.parts is not None
        self.disconnect()
        self._ends.append(self.parts.watch(self.devices, self._parts_changed))
        missing = self._take_over()
        if missing is None:
            return None
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        timer = self.parts.clock.callLater(PATIENCE, self._not_there)

        def done(result: Any) -> Any:
            self._waiting = None
            if timer.active():
                timer.cancel()
            return result

        return waiting.addBoth(done)

    def disconnect(self) -> None:
        """Listens to the parts no longer."""
        ends, self._ends = self._ends, []
        for end in ends:
            end()
        self._built = ()

    def _not_there(self) -> None:
        if self._waiting is not None:
            self._waiting.errback(self._take_over() or NotConnected("its parts are not there"))

    def _parts_changed(self) -> None:
        """A part has come, has gone or has other members."""
        missing = self._take_over()
        if missing is not None:
            if self._waiting is None:
                self.lost(str(missing))
        elif self._waiting is not None:
            self._waiting.callback(None)
        else:
            self.back()

    def _take_over(self) -> LabError | None:
        """Makes the members from the parts as they are now; the error if one is missing."""
        assert self.parts is not None
        try:
            nodes = {name: self.parts.find(path) for name, path in self._where.items()}
            if tuple(nodes.values()) != self._built:
                self.replace_members(self._made_of(nodes))
                self._listen(nodes)
                self.parts.lock_again()
                self._built = tuple(nodes.values())
        except LabError as error:
            return error
        return None

    def _made_of(self, nodes: Mapping[str, Any]) -> dict[str, Any]:
        own = {name: it for name, it in self.members.items() if name in self._declared()}
        made: dict[str, Any] = {
            name: self._parameter(name, formula, nodes) for name, formula in self._formulas.items()
        }
        made |= {name: self._command(name, path, nodes) for name, path in self._commands.items()}
        return own | made

    def _parameter(
        self, name: str, formula: Formula, nodes: Mapping[str, Any]
    ) -> ParameterState:
        expression = formula.expression
        specs = [_spec(nodes, path) for path in expression.names]
        linear = expression.linear()
        turned = linear if specs[0].writable else None
        options = {**_inherited(expression, specs, linear), **formula.options}
        options["access"] = "rw" if turned else "r"
        options["touches"] = tuple(f":{self._where[path]}" for path in expression.names)
        spec = make_spec(name, _kind(expression, specs), **options)
        setter = partial(self._set, expression, turned) if turned else None
        return ParameterState(self, spec, partial(self._get, expression), setter)

    def _command(self, name: str, path: str, nodes: Mapping[str, Any]) -> CommandState:
        spec = getattr(nodes[path], "spec", None)
        if not isinstance(spec, CommandSpec):
            raise NotConnected(f"{path} is no command")
        where = self._where[path]
        spec = replace(spec, name=name, scpi=None, aliases=(), touches=(f":{where}",))

        def call(*args: Any, **kwargs: Any) -> Any:
            assert self.parts is not None
            return self.parts.call(where, args, kwargs)

        return CommandState(self, spec, call)

    # Values

    def _get(self, expression: Expression) -> Deferred[Any]:
        assert self.parts is not None
        asked = [self.parts.get(self._where[name]) for name in expression.names]
        if len(asked) == 1:
            return asked[0].addCallback(lambda reading: self._value(expression, [reading]))
        answers: Deferred[Any] = gatherResults(asked, consumeErrors=True)
        return answers.addCallbacks(
            lambda readings: self._value(expression, readings),
            lambda failure: failure.value.subFailure,
        )

    def _value(self, expression: Expression, readings: Iterable[Reading]) -> Any:
        values = (reading.value for reading in readings)
        return expression.value(dict(zip(expression.names, values, strict=True)))

    def _set(
        self, expression: Expression, linear: tuple[float, float], value: Any
    ) -> Deferred[Any]:
        assert self.parts is not None
        path = self._where[expression.names[0]]
        wanted = value if expression.alias is not None else _inverse(linear, value)
        node: Any = self.parts.find(path)
        if node.spec.kind.name == "int" and isinstance(wanted, float) and math.isfinite(wanted):
            wanted = round(wanted)
        done = self.parts.set(path, wanted)
        return done.addCallback(lambda reading: self._value(expression, [reading]))

    # Updates

    def _listen(self, nodes: Mapping[str, Any]) -> None:
        assert self.parts is not None
        by_path: dict[str, list[str]] = {}
        for name, formula in self._formulas.items():
            for path in formula.names:
                by_path.setdefault(nodes[path].path, []).append(name)
        heard = self.parts.subscribe(by_path, partial(self._heard, by_path))
        self._ends = [*self._ends[:1], heard.end]

    def _heard(self, by_path: Mapping[str, list[str]], updates: list[Any]) -> None:
        assert self.parts is not None
        for update in updates:
            if update.what in ("lost", "back"):  # a device or a member of it
                lost = [path for path in by_path if f"{path}.".startswith(f"{update.path}.")]
                for name in {name for path in lost for name in by_path[path]}:
                    self.parts.tell(name, update.what, update.detail)
            for name in by_path.get(update.path, ()):
                try:
                    if update.what == "value":
                        self._follow(name)
                    elif update.what == "metadata":
                        self._describe_again(name)
                except NotConnected:
                    pass  # another part has gone since, which is told too

    def _follow(self, name: str) -> None:
        """A part has a new value: so has what is made of it, once all parts have one."""
        assert self.parts is not None
        expression = self._formulas[name].expression
        nodes: list[Any] = [self.parts.find(self._where[path]) for path in expression.names]
        readings = [node.state.reading for node in nodes]
        if any(reading.value is None for reading in readings):
            return
        try:
            value = self._value(expression, readings)
        except LabError:
            return  # who asks is told why
        state = self.members.get(name)
        if isinstance(state, ParameterState) and not _same(state.reading.value, value):
            self.store(name, value)

    def _describe_again(self, name: str) -> None:
        """What is known of a part has changed."""
        assert self.parts is not None
        formula = self._formulas[name]
        expression = formula.expression
        nodes: list[Any] = [self.parts.find(self._where[path]) for path in expression.names]
        found = _inherited(expression, [node.spec for node in nodes], expression.linear())
        changed = {key: value for key, value in found.items() if key not in formula.options}
        if changed:
            self.change(name, **changed)


def _own(cls: type) -> dict[str, Any]:
    """What a class and its bases are made of."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        own = vars(base).items()
        found |= {name: it for name, it in own if isinstance(it, Formula | Relayed)}
    return found


def _spec(nodes: Mapping[str, Any], path: str) -> ParameterSpec:
    spec = getattr(nodes[path], "spec", None)
    if not isinstance(spec, ParameterSpec):
        raise NotConnected(f"{path} is no parameter")
    return spec


def _kind(expression: Expression, specs: list[Any]) -> Kind:
    if expression.alias is not None:
        kind: Kind = specs[0].kind
        return kind
    if any(isinstance(spec.kind, ArrayKind) or spec.kind is ANY for spec in specs):
        return ANY
    return FLOAT


def _inherited(
    expression: Expression, specs: list[Any], linear: tuple[float, float] | None
) -> dict[str, Any]:
    """What a parameter has from the one that it is made of."""
    if expression.alias is not None:
        names = ("unit", "limits", "display", "help", "alarms", "warnings")
        return {name: getattr(specs[0], name) for name in names}
    found: dict[str, Any] = {"help": f"{expression.text}"}
    limits = specs[0].limits
    if linear is not None:
        found["limits"] = None if limits is None else _turned(linear, limits)
    return found


def _turned(linear: tuple[float, float], limits: Limits) -> Limits:
    a, b = linear
    ends = [None if end is None else a * end + b for end in (limits.low, limits.high)]
    return Limits(*(ends if a > 0 else reversed(ends)))


def _inverse(linear: tuple[float, float], value: Any) -> Any:
    a, b = linear
    turned = (np.asarray(value) - b) / a
    return turned.item() if np.ndim(turned) == 0 else turned


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return bool(np.array_equal(one, other))
    return bool(one == other)


__all__ = ["Composite", "FormulaError", "combined", "relayed"]
