"""The members of a device of another labnet, from what `labnet.description` tells of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from labnet.devices.remote.base import Found
from labnet.errors import LabError
from labnet.specs import ArgumentSpec, Identity
from labnet.values import (
    ANY,
    BOOL,
    BYTES,
    COMPLEX,
    FLOAT,
    INT,
    NONE,
    STR,
    ArrayKind,
    EnumKind,
    Kind,
    Limits,
    OptionalKind,
    kind_of,
)

MAX_MEMBERS = 10_000
MAX_DEPTH = 4

_KINDS: Mapping[str, Kind] = {
    "bool": BOOL, "int": INT, "float": FLOAT, "complex": COMPLEX, "str": STR, "bytes": BYTES,
    "none": NONE, "any": ANY, "list": kind_of(list), "dict": kind_of(dict),
}  # fmt: skip

Getter = Callable[[str, Kind], Callable[[], Any]]
Setter = Callable[[str, Kind], Callable[[Any], Any]]
Caller = Callable[[str, Kind, tuple[ArgumentSpec, ...]], Callable[..., Any]]


def identity_from(data: Mapping[str, Any]) -> Identity:
    """The four fields of the identity."""
    fields = data.get("identity")
    if not isinstance(fields, list) or len(fields) != 4:
        return Identity()
    return Identity(*map(str, fields))


def members_from(
    data: Mapping[str, Any], get: Getter, set: Setter, call: Caller, poll: float | None
) -> Found:
    """The members of a description; `get`, `set` and `call` make what reaches the one at a path.

    What cannot be understood is left out.
    """
    found = Found()
    for entry in _list(data.get("members"))[:MAX_MEMBERS]:
        path = entry.get("path") if isinstance(entry, Mapping) else None
        if not isinstance(path, str) or not path:
            continue
        try:
            if entry.get("is") == "parameter":
                _add_parameter(found, path, entry, get, set, poll)
            elif entry.get("is") == "command":
                _add_command(found, path, entry, call)
        except (ValueError, TypeError, LabError):
            continue
    return found


def _add_parameter(
    found: Found, path: str, entry: Mapping[str, Any], get: Getter, set: Setter, poll: float | None
) -> None:
    kind = kind_from_data(entry.get("kind"))
    access = str(entry.get("access", "rw"))
    found.parameter(
        path,
        kind,
        getter=get(path, kind) if "r" in access else None,
        setter=set(path, kind) if "w" in access else None,
        unit=_text(entry, "unit"),
        limits=_limits(entry, "limits"),
        alarms=_limits(entry, "alarms"),
        warnings=_limits(entry, "warnings"),
        display=_text(entry, "display"),
        groups=tuple(map(str, _list(entry.get("groups")))),
        help=_text(entry, "help"),
        poll=poll,
        initial=None,
    )


def _add_command(found: Found, path: str, entry: Mapping[str, Any], call: Caller) -> None:
    result = kind_from_data(entry.get("result"))
    variadic, keywords = entry.get("variadic"), entry.get("keywords")
    timeout = entry.get("timeout")
    arguments = tuple(_arguments(entry))
    found.command(
        path,
        call(path, result, arguments),
        arguments=arguments,
        variadic=kind_from_data(variadic) if variadic else None,
        keywords=kind_from_data(keywords) if keywords else None,
        result=result,
        unit=_text(entry, "unit"),
        help=_text(entry, "help"),
        timeout=float(timeout) if isinstance(timeout, int | float) else None,
        **{key: bool(entry.get(key)) for key in ("long", "urgent", "reads", "stop")},
    )


def _arguments(entry: Mapping[str, Any]) -> Iterator[ArgumentSpec]:
    for it in _list(entry.get("arguments")):
        if isinstance(it, Mapping) and str(it.get("name", "")).isidentifier():
            yield ArgumentSpec(
                name=str(it["name"]),
                kind=kind_from_data(it.get("kind")),
                required=bool(it.get("required")),
                default=it.get("default"),
                unit=_text(it, "unit"),
                limits=_limits(it, "limits"),
                keyword_only=bool(it.get("keyword_only")),
            )


def kind_from_data(data: Any, depth: int = 0) -> Kind:
    """The kind that `labnet.description.kind_as_data` wrote; anything for what is not known."""
    if isinstance(data, str):
        return _KINDS.get(data, ANY)
    if not isinstance(data, Mapping) or depth > MAX_DEPTH:
        return ANY
    if "enum" in data:
        choices = [it for it in _list(data["enum"]) if isinstance(it, list) and len(it) == 2]
        plain = [it for it in choices if isinstance(it[0], bool | int | float | str)]
        return EnumKind({key: str(text) for key, text in plain}) if plain else ANY
    if "optional" in data:
        return OptionalKind(kind_from_data(data["optional"], depth + 1))
    if "array" in data:
        return ArrayKind(_dtype(data["array"]))
    return kind_of(list) if "list" in data else ANY


def _dtype(data: Any) -> Any:
    try:
        dtype = np.dtype(data) if isinstance(data, str) and len(data) < 10 else None
    except TypeError:
        return None
    return dtype if dtype is not None and dtype.kind in "biufcSU" else None


def _limits(entry: Mapping[str, Any], key: str) -> Limits | None:
    pair = entry.get(key)
    if not isinstance(pair, list) or len(pair) != 2:
        return None
    low, high = (it if isinstance(it, int | float) else None for it in pair)
    return Limits(low, high)


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
