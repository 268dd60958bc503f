"""What a server tells of a variable or a command besides its place in the tree.

Each property is a request of its own, as a real server has no other way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from labnet.errors import DeviceFault, UnknownName
from labnet.wires.rogue.mirror import AT_ONCE, first_error
from labnet.wires.rogue.mirrored import Node
from labnet.wires.rogue.model import VariableValue

MODES: Final = ("RW", "RO", "WO")


@dataclass(frozen=True, slots=True)
class VariableInfo:
    """What is known of a variable, or of a command's argument.

    `mode` is RW, RO or WO; `type` a word such as ``float``, ``UInt32`` or ``float64(4,)``; `enum`
    maps values to texts; `disp` is a Python format string, or ``enum``. Limits are numbers or None,
    `poll` is in seconds, `takes` says whether a command takes an argument.
    """

    mode: str = "RW"
    type: str = ""
    units: str = ""
    disp: str = ""
    enum: Mapping[Any, str] | None = None
    minimum: float | None = None
    maximum: float | None = None
    low_alarm: float | None = None
    low_warning: float | None = None
    high_warning: float | None = None
    high_alarm: float | None = None
    poll: float | None = None
    takes: bool = False
    value: VariableValue | None = None


def _number(value: Any) -> float | None:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return None
    return float(value) if isinstance(value, np.floating | float) else int(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _mode(value: Any) -> str:
    return value if value in MODES else "RW"


def _enum(value: Any) -> Mapping[Any, str] | None:
    if not isinstance(value, dict) or not value:
        return None
    return {key: str(text) for key, text in value.items()}


def _seconds(value: Any) -> float | None:
    number = _number(value)
    return number if number and number > 0 else None


_PROPS: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "mode": ("mode", _mode),
    "typeStr": ("type", _text),
    "units": ("units", _text),
    "disp": ("disp", _text),
    "enum": ("enum", _enum),
    "minimum": ("minimum", _number),
    "maximum": ("maximum", _number),
    "lowAlarm": ("low_alarm", _number),
    "lowWarning": ("low_warning", _number),
    "highWarning": ("high_warning", _number),
    "highAlarm": ("high_alarm", _number),
    "pollInterval": ("poll", _seconds),
    "arg": ("takes", bool),
}


def describe(node: Node) -> Deferred[VariableInfo]:
    """Asks for all that is known of a variable or command, with the value as last known.

    What a server refuses to tell is left out; fails only when it does not answer at all.
    """
    asked = [prop for prop in _PROPS if prop in node.info.props]
    answers = [node.mirror.request(node.path, prop) for prop in asked]
    fields = [_PROPS[prop] for prop in asked]
    if node.is_variable and "getVariableValue" in node.info.funcs:
        answers.append(node.fetch())
        fields.append(("value", lambda value: value))
    for answer in answers:
        answer.addErrback(_untold)
    made = gatherResults(answers, consumeErrors=True).addErrback(first_error)
    return made.addCallback(_info, fields)


def _untold(failure: Failure) -> Any:
    failure.trap(DeviceFault, UnknownName)
    return _UNTOLD


_UNTOLD: Final = object()


def _info(
    answers: Sequence[Any], fields: Sequence[tuple[str, Callable[[Any], Any]]]
) -> VariableInfo:
    told = {
        name: convert(answer)
        for answer, (name, convert) in zip(answers, fields, strict=True)
        if answer is not _UNTOLD
    }
    return VariableInfo(**told)


async def describe_all(nodes: Sequence[Node]) -> list[VariableInfo]:
    """Asks for what is known of many, some at a time."""
    infos: list[VariableInfo] = []
    for start in range(0, len(nodes), AT_ONCE):
        some = [describe(node) for node in nodes[start : start + AT_ONCE]]
        infos += await gatherResults(some, consumeErrors=True).addErrback(first_error)
    return infos
