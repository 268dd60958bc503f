"""Pickles joined from pieces: the quick way for updates, of which there are many.

Without a memo the opcodes of a value mean the same wherever they stand, so what never changes of a
variable's update is written once and kept.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from struct import Struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from labnet.wires.rogue.pickles.writer import MAX_DEPTH, NotPlain, plain_value

_FLOAT: Final = Struct(">cd").pack
_INT: Final = Struct("<ci").pack
_COMPLEX: Final = Struct(">cdcd").pack


def text(value: str) -> bytes:
    """The opcodes of a text."""
    data = value.encode("utf-8", "surrogatepass")
    size = len(data)
    if size < 256:
        return b"\x8c%c%b" % (size, data)
    if size >> 32:
        return b"\x8d" + size.to_bytes(8, "little") + data
    return b"X" + size.to_bytes(4, "little") + data


def _bytes(value: bytes) -> bytes:
    size = len(value)
    if size < 256:
        return b"C%c%b" % (size, value)
    if size >> 32:
        return b"\x8e" + size.to_bytes(8, "little") + value
    return b"B" + size.to_bytes(4, "little") + value


def _int(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K%c" % value
    if -0x80000000 <= value <= 0x7FFFFFFF:
        return _INT(b"J", value)
    data = pickle.encode_long(value)
    if len(data) < 256:
        return b"\x8a%c%b" % (len(data), data)
    return b"\x8b" + len(data).to_bytes(4, "little") + data


def _complex(value: complex) -> bytes:
    return _global("builtins", "complex") + _COMPLEX(b"G", value.real, b"G", value.imag) + b"\x86R"


def _global(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


_WRITERS: Final[Mapping[type, Callable[[Any], bytes]]] = {
    float: lambda value: _FLOAT(b"G", value),
    int: _int,
    str: text,
    bool: lambda value: b"\x88" if value else b"\x89",
    type(None): lambda value: b"N",
    bytes: _bytes,
    complex: _complex,
}


def fragment(value: Any, depth: int = MAX_DEPTH) -> bytes:
    """The opcodes that push `value`; raises `NotPlain`."""
    write = _WRITERS.get(value.__class__)
    if write is not None:
        return write(value)
    if not depth:
        raise NotPlain(f"the value is nested more than {MAX_DEPTH} deep")
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return _array(value)
    if isinstance(value, np.generic) and not value.dtype.hasobject:
        return _SCALAR + _dtype(value.dtype) + _bytes(value.tobytes()) + b"\x86R"
    return _container(plain_value(value, depth), depth - 1)


def _container(value: Any, depth: int) -> bytes:
    if isinstance(value, dict):
        items = (fragment(part, depth) for item in value.items() for part in item)
        return b"}(" + b"".join(items) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join([fragment(part, depth) for part in value]) + b"e"
    if isinstance(value, tuple):
        return b"(" + b"".join([fragment(part, depth) for part in value]) + b"t"
    return fragment(value, depth)


# numpy: `_reconstruct(ndarray, (0,), b'b')`, then the state (1, shape, dtype, fortran, data)

_MULTIARRAY: Final = np.empty(0).__reduce__()[0].__module__
_SCALAR: Final = _global(_MULTIARRAY, "scalar")
_RECONSTRUCT: Final = (
    _global(_MULTIARRAY, "_reconstruct") + _global("numpy", "ndarray") + b"K\0\x85C\1b\x87R(K\1"
)
_DTYPE: Final = _global("numpy", "dtype")


@lru_cache(maxsize=64)
def _dtype(dtype: np.dtype[Any]) -> bytes:
    reduced: Any = dtype.__reduce__()
    return _DTYPE + _container(reduced[1], 2) + b"R" + _container(reduced[2], 2) + b"b"


def _array(array: npt.NDArray[Any]) -> bytes:
    shape = _container(array.shape, 2)
    return b"".join((_RECONSTRUCT, shape, _dtype(array.dtype), b"\x89", _bytes(array.tobytes()),
                     b"tb"))  # fmt: skip


# updates: {path: VariableValue, ...}, with the attributes in the order of PyRogue's

_BEGIN: Final = (
    _global("pyrogue._Variable", "VariableValue") + b")\x81}(" + text("value")
)
_SHOWN: Final = text("valueDisp")


class Template:
    """What stays the same from one update of a variable to the next.

    `source` is whatever it was made from; `published` says whether there are any.
    """

    __slots__ = ("about", "disp", "enum", "path", "published", "source")

    def __init__(
        self,
        path: str,
        disp: str,
        enum: Mapping[Any, str] | None,
        source: object = None,
        published: bool = True,
    ) -> None:
        self.published = published
        self.path = text(path)
        self.disp = disp
        self.enum = enum
        self.source = source
        self.about = _about(disp, None if enum is None else tuple(enum.items()))


@lru_cache(maxsize=1024, typed=True)
def _about(disp: str, enum: tuple[tuple[Any, str], ...] | None) -> bytes:
    choices = b"N" if enum is None else fragment(dict(enum))
    return b"".join((text("disp"), text(disp), text("enum"), choices, text("updated"), b"\x89"))


@lru_cache(maxsize=64)
def _outcome(status: str, severity: str) -> bytes:
    return text("status") + text(status) + text("severity") + text(severity) + b"ub"


def update(template: Template, value: Any, shown: str, status: str, severity: str) -> bytes:
    """One variable's part of a message; raises `NotPlain`."""
    write = _WRITERS.get(value.__class__)
    pushed = fragment(value) if write is None else write(value)
    return b"".join((
        template.path, _BEGIN, pushed, _SHOWN, text(shown), template.about,
        _outcome(status, severity),
    ))  # fmt: skip


def updates(parts: Iterable[bytes]) -> bytes:
    """The message of all these parts (`update`)."""
    return b"\x80\x04}(" + b"".join(parts) + b"u."
