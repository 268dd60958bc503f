"""A server's error reply as the lab's own error, with the server's text kept.

What the stock device base says about names, access, types and limits becomes the class that other
wires know too; everything else is a `DeviceFault` whose `kind` is the server's exception class.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from labnet.errors import (
    DeviceFault,
    Holder,
    LabError,
    Locked,
    NotAllowed,
    NotWritable,
    OutOfRange,
    TimedOut,
    UnknownName,
    WrongType,
)
from labnet.wires.plesty.codec import Reply

_UNKNOWN: Final = re.compile(r"\"?Config parameter '(.*)' is not registered")
_GROUPED: Final = re.compile(r"\"?Grouped parameter '(.*)' requires full key format")
_READ_ONLY: Final = re.compile(r"Config parameter '(.*)' is read-only")
_TYPE: Final = re.compile(r"(\S+) Value (.*) does not match expected type (.*)\Z", re.S)
_BOUND: Final = re.compile(r"Value (.*) is (?:below minimum|above maximum) of (.*)\Z", re.S)
_OPTION: Final = re.compile(r"Value (.*) is not in allowed options: ", re.S)
_ATTRIBUTE: Final = re.compile(r".*has no attribute '(.*)'\Z|unknown operation '(.*?)'", re.S)


def lab_error(reply: Reply, what: str, seconds: float | None = None) -> LabError:
    """The error that a failed `reply` to the request for `what` stands for.

    `seconds` is the time limit that went with the request. ``str(error)`` is the server's text,
    and `DeviceFault.kind` its exception class. A refusal that names the holder (labnet's servers
    do) is `Locked`; one that does not is `NotAllowed`.
    """
    error = _of_known(reply, what, seconds)
    if error is None:
        return DeviceFault(reply.text or f"{what} failed with {reply.kind}", reply.kind)
    if reply.text:
        error.args = (_unquoted(reply),)
    return error


def _of_known(reply: Reply, what: str, seconds: float | None) -> LabError | None:
    if reply.kind in ("ResourceAllocationError", "ResourceLockedError"):
        return _refusal(reply, what)
    if reply.kind == "TimeoutError" and reply.text.partition(":")[0] in ("", "Operation timed out"):
        return TimedOut(what, seconds)
    for kind, pattern, make in _FORMS:
        found = pattern.match(reply.text) if kind == reply.kind else None
        if found is not None:
            return make(found, what)
    return None


def _refusal(reply: Reply, what: str) -> LabError:
    """A lock in the way: whose, where the server says so."""
    details = reply.result if isinstance(reply.result, dict) else {}
    unknown = details.get("unknown")
    if isinstance(unknown, list) and unknown:
        return UnknownName(str(unknown[0]), what="resource")
    holder = details.get("holder")
    if isinstance(holder, dict):
        return Locked(_holder(holder), what)
    return NotAllowed(reply.text)


def _holder(fields: Mapping[str, Any]) -> Holder:
    def text(key: str) -> str:
        return str(fields.get(key, ""))

    age, left = fields.get("age"), fields.get("left")
    return Holder(
        text("resource"),
        text("name"),
        text("wire"),
        text("peer"),
        float(age) if isinstance(age, (int, float)) else 0.0,
        float(left) if isinstance(left, (int, float)) else None,
    )


def holder_fields(holder: Holder) -> dict[str, Any]:
    """What a refusal tells about the holder of a lock; ages and times left in seconds."""
    return {
        "resource": holder.resource,
        "name": holder.name,
        "wire": holder.wire,
        "peer": holder.peer,
        "age": round(holder.age, 3),
        "left": None if holder.left is None else round(holder.left, 3),
    }


def _unquoted(reply: Reply) -> str:
    """The text without the quotes that str() of a KeyError puts around it."""
    text = reply.text
    quoted = reply.kind == "KeyError" and len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _out_of_bounds(found: re.Match[str], what: str) -> LabError:
    below = "below minimum" in found[0]
    bound = _number(found[2])
    return OutOfRange(what, found[1], low=bound if below else None, high=None if below else bound)


_FORMS: Final[tuple[tuple[str, re.Pattern[str], Callable[[re.Match[str], str], LabError]], ...]] = (
    ("KeyError", _UNKNOWN, lambda found, what: UnknownName(found[1], what="parameter")),
    ("KeyError", _GROUPED, lambda found, what: UnknownName(found[1], what="parameter")),
    ("AttributeError", _ATTRIBUTE, lambda found, what: UnknownName(found[1] or found[2] or what)),
    ("ValueError", _READ_ONLY, lambda found, what: NotWritable(found[1])),
    ("ValueError", _TYPE, lambda found, what: WrongType(found[1], found[2], found[3])),
    ("ValueError", _BOUND, _out_of_bounds),
    ("ValueError", _OPTION, lambda found, what: OutOfRange(what, found[1])),
)
