"""The JSON dialect of the PLESTY protocol: values to text, bytes to values.

It is the dialect of Python's ``json``: ``NaN``, ``Infinity`` and ``-Infinity`` as bare words,
integers of any size, separators ``", "`` and ``": "``, everything outside ASCII escaped.

What JSON has no form for travels so: tuples and arrays as (nested) lists, complex numbers as
``[re, im]``, bytes as a text of their Latin-1 characters (one character a byte), members of an
enumeration as their values, labelled arrays as ``{"data", "unit", "label", "axes"}``. Keys of
mappings become strings. Whatever is left is refused with `NotSerializable`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from enum import Enum
from json.decoder import JSONDecodeError, JSONDecoder
from json.encoder import JSONEncoder, encode_basestring_ascii
from typing import Any, Final

import numpy as np

from labnet.values import LabeledArray

MAX_DEPTH: Final = 100
"""Deepest nesting of a request."""
MAX_ITEMS: Final = 1 << 24
"""Most items of an array in a reply."""

Scalar = str | int | float | bool | None


class BadRequest(Exception):
    """The peer's request breaks the protocol; `kind` and `text` are for the error reply.

    `tail` ends that reply (see `Request`).
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.tail = "}"


class NotSerializable(Exception):
    """A result has no form in JSON; the text is the peer's own."""

    kind = "SerializationError"

    def __init__(self, value: object) -> None:
        name = type(value).__name__
        super().__init__(
            f"result of type {name} is not JSON-serializable, so it cannot cross the device "
            "protocol. Return a JSON primitive, or a path to where the data was written."
        )


# ---- values to JSON --------------------------------------------------------------------------


def _in_json(value: object) -> object:
    """What the encoder writes instead of `value`, which JSON knows nothing of."""
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, complex):
        return [value.real, value.imag]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("latin-1")
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, LabeledArray):
        return _labeled(value)
    raise TypeError("not JSON")


def _array(value: np.ndarray[Any, Any]) -> object:
    if value.dtype.kind not in "biufcSUO":
        raise TypeError("not JSON")
    if value.size > MAX_ITEMS:
        raise OverflowError
    return value.tolist()


def _labeled(value: LabeledArray) -> dict[str, object]:
    axes = [{"label": a.label, "unit": a.unit, "values": a.values} for a in value.axes]
    return {"data": value.data, "unit": value.unit, "label": value.label, "axes": axes}


_encode = JSONEncoder(check_circular=False, default=_in_json).encode
_WORDS: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def _float_text(value: float) -> str:
    text = repr(value)
    return _WORDS.get(text, text)


SIMPLE: Final[dict[type, Callable[[Any], str]]] = {
    float: _float_text,
    int: int.__repr__,
    str: encode_basestring_ascii,
    bool: lambda value: "true" if value else "false",
    type(None): lambda value: "null",
}


def json_text(value: object) -> str:
    """`value` as JSON; `NotSerializable` when it has no form, names the outermost type."""
    simple = SIMPLE.get(type(value))
    try:
        return _encode(value) if simple is None else simple(value)
    except TypeError:
        return _text_with_odd_keys(value)
    except (ValueError, RecursionError, OverflowError):
        raise NotSerializable(value) from None


def _text_with_odd_keys(value: object) -> str:
    """JSON of a value whose mappings may have keys that are not Python's own scalars."""
    try:
        return _encode(_plain(value, MAX_DEPTH))
    except (TypeError, ValueError, RecursionError, OverflowError):
        raise NotSerializable(value) from None


def _plain(value: object, depth: int) -> object:
    if not depth:
        raise RecursionError
    if isinstance(value, Mapping):
        return {_key(key): _plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth - 1) for item in value]
    return value


def _key(key: object) -> Scalar:
    if isinstance(key, np.generic):
        key = key.item()
    if isinstance(key, Enum) and not isinstance(key, (str, int, float)):
        key = key.value
    if isinstance(key, (bytes, bytearray)):
        key = bytes(key).decode("latin-1")
    if key is None or isinstance(key, (str, int, float)):
        return key
    raise TypeError("not a key")


# ---- JSON to values --------------------------------------------------------------------------

_scan: Callable[[str, int], tuple[Any, int]] = JSONDecoder().scan_once  # type: ignore[attr-defined]


def loads(body: bytes) -> Any:
    """The JSON value of `body`; `BadRequest` with the peer's exception names otherwise."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        where = f"byte {error.start}"
        raise BadRequest("UnicodeDecodeError", f"the request is not UTF-8 text, see {where}")
    try:
        value, end = _scan(text, 0)
        if end == len(text):
            return value
    except (StopIteration, ValueError, RecursionError):
        pass
    return _loads_slowly(text)


def _loads_slowly(text: str) -> Any:
    """With white space around the value, and with errors that say where."""
    try:
        return json.loads(text)
    except JSONDecodeError as error:
        raise BadRequest("JSONDecodeError", str(error))
    except RecursionError:
        raise BadRequest("RecursionError", "the request is nested too deeply")
    except ValueError:
        raise BadRequest("ValueError", "a number in the request has too many digits")


def check_depth(value: object) -> None:
    """Refuse what is nested deeper than `MAX_DEPTH`, without recursion."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            item
            for outer in level
            if isinstance(outer, (list, dict))
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise BadRequest("RecursionError", f"the request is nested deeper than {MAX_DEPTH} levels")


def json_type(value: object) -> str:
    """What JSON calls the type of `value`, with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    names: dict[type, str] = {str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")
