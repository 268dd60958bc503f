"""What is known about parameters and commands: kinds, units, limits, arguments, help.

The wires describe devices by these records; authors make them through `labnet.device`.
"""

from __future__ import annotations

import collections.abc
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, Literal

from labnet.errors import BadArguments, OutOfRange, shorten
from labnet.values import ANY, BOOL, FLOAT, INT, STR, EnumKind, Kind, Limits, kind_of

Access = Literal["r", "w", "rw"]

#: A name is a letter followed by letters, digits and underscores; a numbered child is ``Ch[1]``.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\[[0-9]{1,9}\])?\Z")

#: Seconds between two polls of one parameter, at least.
SHORTEST_POLL = 0.01

_MISSING: Any = object()


@dataclass(frozen=True, slots=True)
class Identity:
    """The four fields of ``*IDN?`` (IEEE 488.2 section 10.14)."""

    maker: str = "labnet"
    model: str = "device"
    serial: str = "0"
    firmware: str = "0"

    def __str__(self) -> str:
        return f"{self.maker},{self.model},{self.serial},{self.firmware}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterSpec:
    """All that is known about a parameter but its value. Only name and kind are fixed for ever.

    `touches` are names beside it that share its fate, so that a lock on one of them shuts it too.
    `alarms` and `warnings` are the major and minor alarm limits, `display` a Python format string,
    `poll` an interval in seconds, `scpi` a header pattern such as ``[SOURce]:VOLTage``, or several
    separated by commas.
    """

    name: str
    kind: Kind
    unit: str = ""
    limits: Limits | None = None
    access: Access = "rw"
    alarms: Limits | None = None
    warnings: Limits | None = None
    display: str = ""
    groups: tuple[str, ...] = ()
    poll: float | None = None
    help: str = ""
    scpi: str | None = None
    touches: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    initial: Any = None

    @property
    def readable(self) -> bool:
        return "r" in self.access

    @property
    def writable(self) -> bool:
        return "w" in self.access

    @property
    def choices(self) -> Mapping[Any, str] | None:
        """Value to text of an enum, else None."""
        return self.kind.choices if isinstance(self.kind, EnumKind) else None

    def check(self, value: Any, what: str | None = None) -> Any:
        """`value` as the parameter holds it; raises `WrongType` or `OutOfRange`."""
        value = self.kind.check(value, what or self.name)
        if self.limits is not None and not self.limits.contains(value):
            raise OutOfRange(what or self.name, value, self.limits.low, self.limits.high)
        return value

    def format(self, value: Any) -> str:
        """`value` as text, by the display format."""
        return self.kind.format(value, self.display)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgumentSpec:
    """One argument of a command; `default` counts only where it is not `required`."""

    name: str
    kind: Kind = ANY
    required: bool = True
    default: Any = None
    unit: str = ""
    limits: Limits | None = None
    keyword_only: bool = False

    def check(self, value: Any) -> Any:
        value = self.kind.check(value, self.name)
        if self.limits is not None and value is not None and not self.limits.contains(value):
            raise OutOfRange(self.name, value, self.limits.low, self.limits.high)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSpec:
    """All that is known about a command.

    `variadic` and `keywords` are the kinds of ``*args`` and ``**kwargs`` where it takes them.
    `long`: leaves the device free while it waits; `urgent`: overtakes what waits; `reads`:
    harmless, open to all while somebody holds a lock; `stop`: ends a motion; `touches`: the names
    it needs a lock on (empty: its whole device). `timeout` is the seconds that it may need.
    """

    name: str
    arguments: tuple[ArgumentSpec, ...] = ()
    variadic: Kind | None = None
    keywords: Kind | None = None
    result: Kind = ANY
    help: str = ""
    scpi: str | None = None
    unit: str = ""
    long: bool = False
    urgent: bool = False
    reads: bool = False
    stop: bool = False
    touches: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    timeout: float | None = None
    aliases: tuple[str, ...] = ()

    @property
    def positional(self) -> tuple[ArgumentSpec, ...]:
        return tuple(a for a in self.arguments if not a.keyword_only)

    def usage(self) -> str:
        """The command with its arguments as a user would write them: ``zero [seconds]``."""
        words = [a.name if a.required else f"[{a.name}]" for a in self.arguments]
        return " ".join([self.name, *words, *(["..."] if self.variadic else [])])

    def bind(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Checked arguments; raises `BadArguments`, `WrongType` or `OutOfRange`."""
        if not args and not kwargs and not self.arguments:
            return (), {}
        positional = self.positional
        if len(args) > len(positional) and self.variadic is None:
            raise BadArguments(f"too many arguments; usage: {self.usage()}")
        taken = [spec.check(value) for spec, value in zip(positional, args, strict=False)]
        if self.variadic is not None:
            taken += [self.variadic.check(value) for value in args[len(positional) :]]
        return tuple(taken), self._bind_keywords(len(args), kwargs)

    def _bind_keywords(self, given: int, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        rest = dict(kwargs)
        named: dict[str, Any] = {}
        index = 0
        for spec in self.arguments:
            already = False
            if not spec.keyword_only:
                already, index = index < given, index + 1
            if spec.name in rest and not already:
                named[spec.name] = spec.check(rest.pop(spec.name))
            elif spec.required and not already:
                raise BadArguments(f"missing argument {spec.name}; usage: {self.usage()}")
        for name, value in rest.items():
            if self.keywords is None:
                shown = name if name.isidentifier() else repr(name)
                raise BadArguments(f"unknown argument {shorten(shown)}; usage: {self.usage()}")
            named[name] = self.keywords.check(value, name)
        return named

    def parse(self, texts: Iterable[str]) -> tuple[Any, ...]:
        """Positional arguments from text, each by its kind; more texts than fit stay text."""
        kinds = chain(
            ((argument.kind, argument.name) for argument in self.positional),
            repeat((self.variadic or STR, "argument")),
        )
        pairs = zip(texts, kinds, strict=False)
        return tuple(kind.parse(text, name) for text, (kind, name) in pairs)


def make_spec(name: str, kind: Any, **options: Any) -> ParameterSpec:
    """A `ParameterSpec` from what an author writes.

    Limits may be pairs, choices a sequence or a mapping, and the kind is guessed from the choices
    or the initial value where it is not given.
    """
    check_name(name)
    choices = options.pop("choices", None)
    initial = options.pop("initial", _MISSING)
    if choices is not None:
        kind = EnumKind(choices)
    elif kind is None:
        kind = ANY if initial is _MISSING else kind_of(type(initial))
    kind = kind_of(kind)
    for key in ("limits", "alarms", "warnings"):
        if options.get(key) is not None and not isinstance(options[key], Limits):
            options[key] = Limits(*options[key])
    for key in ("groups", "aliases", "touches"):
        options[key] = as_tuple(options.get(key))
    check_poll(options.get("poll"))
    limits = options.get("limits")
    if initial is _MISSING:
        initial = first_value(kind, limits)
    elif initial is not None:
        initial = kind.check(initial, name)
    return ParameterSpec(name=name, kind=kind, initial=initial, **options)


def first_value(kind: Kind, limits: Limits | None) -> Any:
    """A sensible first value of a parameter whose author gave none: zero, or the nearest limit."""
    if isinstance(kind, EnumKind):
        return kind.check(next(iter(kind.choices)))
    if kind in (INT, FLOAT):
        low = None if limits is None else limits.low
        high = None if limits is None else limits.high
        start = max(0.0, low) if low is not None else 0.0
        return kind.parse(str(min(start, high) if high is not None else start))
    return {BOOL: False, STR: ""}.get(kind)


def command_spec(name: str, function: Callable[..., Any], **options: Any) -> CommandSpec:
    """The `CommandSpec` of a bound method or function, from its signature and docstring."""
    check_name(name)
    limits = options.pop("limits", {})
    units = options.pop("units", {})
    for key in ("groups", "aliases", "touches"):
        options[key] = as_tuple(options.get(key))
    options.setdefault("help", first_paragraph(function.__doc__))
    options.setdefault("stop", name == "stop")
    options["urgent"] = options.get("urgent", False) or options["stop"]
    hints = hints_of(function)
    arguments: list[ArgumentSpec] = []
    for item in inspect.signature(function).parameters.values():
        kind = kind_of(hints.get(item.name, Any))
        if item.kind is item.VAR_POSITIONAL:
            options["variadic"] = kind
        elif item.kind is item.VAR_KEYWORD:
            options["keywords"] = kind
        else:
            arguments.append(_argument(item, kind, limits, units))
    return CommandSpec(
        name=name,
        arguments=tuple(arguments),
        result=kind_of(hints.get("return", Any)),
        **options,
    )


def _argument(
    item: inspect.Parameter, kind: Kind, limits: Mapping[str, Any], units: Mapping[str, str]
) -> ArgumentSpec:
    required = item.default is item.empty
    bounds = limits.get(item.name)
    return ArgumentSpec(
        name=item.name,
        kind=kind,
        required=required,
        default=None if required else item.default,
        unit=units.get(item.name, ""),
        limits=None if bounds is None else Limits(*bounds),
        keyword_only=item.kind is item.KEYWORD_ONLY,
    )


#: What modules often import for a type checker only.
_OFTEN = {
    **{name: getattr(typing, name) for name in typing.__all__},
    **{name: getattr(collections.abc, name) for name in collections.abc.__all__},
}


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function; without those that name what only a type checker knows."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # an annotation may be any expression
        pass
    hints: dict[str, Any] = {}
    names = {**_OFTEN, **getattr(inspect.unwrap(function), "__globals__", {})}
    for name, hint in getattr(function, "__annotations__", {}).items():
        one = types.SimpleNamespace(__annotations__={name: hint})
        try:
            hints |= typing.get_type_hints(one, names, include_extras=True)
        except Exception:
            continue
    return hints


def check_name(name: str) -> None:
    """Raises ValueError for a name that no wire could carry."""
    if not NAME.match(name):
        raise ValueError(f"{name!r} is no name: a letter, then letters, digits, underscores")


def check_poll(interval: float | None) -> None:
    """Raises ValueError for a poll interval that would leave no time for anything else."""
    if interval and not interval >= SHORTEST_POLL:
        raise ValueError(f"a poll interval is {SHORTEST_POLL:g} s or more, not {interval}")


def as_tuple(value: Any) -> tuple[Any, ...]:
    """A tuple of what may have been written as one item, several or none."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def first_paragraph(text: str | None) -> str:
    """The first paragraph of a docstring on one line."""
    return " ".join((inspect.cleandoc(text or "").split("\n\n")[0]).split())
