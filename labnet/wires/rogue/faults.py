"""A server's exception as the lab's own error, with the server's text where it is for users.

PyRogue's errors are ``module.name: text`` (on the text port only the text). What they say about
limits, types and names becomes the class that other wires know too; labnet's own servers name the
lab's errors; everything else is a `DeviceFault` whose `kind` is the server's exception class.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from labnet.errors import (
    BadArguments,
    DeviceFault,
    Holder,
    LabError,
    Locked,
    NotAllowed,
    NotReadable,
    NotWritable,
    OutOfRange,
    TimedOut,
    UnknownName,
    WrongType,
    shorten,
)
from labnet.wires.rogue.model import RemoteException

MAX_TEXT: Final = 2000
"""Characters of a server's error that are kept."""

_KIND: Final = re.compile(r"([A-Za-z_][\w.<>]*\.[A-Za-z_]\w*): (.*)\Z", re.S)
_RANGE: Final = re.compile(
    r"Value range error for (\S+)\. Value=(.*), Min=([^,]*), Max=([^,]*)\Z", re.S
)
_TYPE: Final = re.compile(
    r"Type mismatch for (\S+): expected <class '([\w.]+)'>, got <class '([\w.]+)'>"
)
_INVALID: Final = re.compile(
    r"Invalid value (.*) for variable (\S+) with type <class '([^']*)'>", re.S
)
_ATTRIBUTE: Final = re.compile(r"\A<class '.*'> - (\S+) has no attribute (\S+)\Z", re.S)
_ARGUMENTS: Final = re.compile(
    r"\(\) (?:got an unexpected keyword argument|missing \d+ required|takes \d+ positional)"
)
_HOLDER: Final = re.compile(
    r"(\S+) is locked(?: at (\S+))? by (.*) \((\S+) (\S*), for (\d+) s(?:, (\d+) s left)?.*\)\Z",
    re.S,
)
_ACCESS: Final = re.compile(r"\A(\S+) can only be (read|written)\Z")
_CHOICES: Final = re.compile(r"\A(\S+) takes one of .*, not (.*)\Z", re.S)
_KIND_OF_VALUE: Final = re.compile(r"\A(\S+) takes (.*), not (.*)\Z", re.S)
_UNKNOWN: Final = re.compile(r"\A\W?unknown \w+ '([^']*)'")


def lab_error(error: RemoteException, what: str) -> LabError:
    """The error that an exception from a server stands for; `what` was asked."""
    kind, text = split_kind(error)
    locked = _HOLDER.match(text)
    if locked is not None:
        return _locked(locked)
    for pattern, make in _FORMS:
        found = pattern.search(text)
        if found is not None:
            return make(found, what)
    name = kind.rpartition(".")[2] or "Exception"
    if kind in _CLASSES and text:
        return _CLASSES[kind](text)
    return DeviceFault(text or f"{what} failed with {name}", name)


def split_kind(error: RemoteException) -> tuple[str, str]:
    """Class and text of an exception; the class is empty where the server does not say."""
    text = error.text if len(error.text) <= MAX_TEXT else shorten(error.text, MAX_TEXT)
    if error.kind != "builtins.Exception":
        return error.kind, text
    found = _KIND.match(text)
    return (found[1], found[2]) if found else ("", text)


def _worded(error: LabError, text: str) -> LabError:
    """An error with the server's own words."""
    error.args = (text,)
    return error


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _out_of_range(found: re.Match[str], what: str) -> LabError:
    value = _number(found[2])
    low, high = _number(found[3]), _number(found[4])
    return OutOfRange(found[1], found[2] if value is None else value, low, high)


def _wrong_type(found: re.Match[str], what: str) -> LabError:
    error = WrongType(found[1], None, found[2])
    return _worded(error, f"{found[1]} takes {found[2]}, not {found[3]}")


def _access(found: re.Match[str], what: str) -> LabError:
    return NotWritable(found[1]) if found[2] == "read" else NotReadable(found[1])


def _timed_out(text: str) -> LabError:
    return _worded(TimedOut(text), text)


def _locked(found: re.Match[str]) -> LabError:
    left = None if found[7] is None else float(found[7])
    place = found[2] or found[1]
    return Locked(Holder(place, found[3], found[4], found[5], float(found[6]), left), found[1])


_FORMS: Final[tuple[tuple[re.Pattern[str], Callable[[re.Match[str], str], LabError]], ...]] = (
    (_RANGE, _out_of_range),
    (_TYPE, _wrong_type),
    (_INVALID, lambda found, what: WrongType(found[2], found[1], found[3])),
    (_ATTRIBUTE, lambda found, what: UnknownName(found[2], what=f"attribute of {found[1]}")),
    (_ARGUMENTS, lambda found, what: BadArguments(found.string)),
    (_ACCESS, _access),
    (_CHOICES, lambda found, what: _worded(OutOfRange(found[1], found[2]), found.string)),
    (
        _KIND_OF_VALUE,
        lambda found, what: _worded(WrongType(found[1], found[3], found[2]), found.string),
    ),
    (_UNKNOWN, lambda found, what: _worded(UnknownName(found[1]), found.string.strip('"'))),
)
_CLASSES: Final[dict[str, Callable[[str], LabError]]] = {
    "builtins.PermissionError": NotAllowed,
    "builtins.TimeoutError": _timed_out,
}
