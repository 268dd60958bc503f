"""Response data: values as an instrument writes them (IEEE 488.2 section 8.7, SCPI-1999 7.2)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from labnet.instrument.choices import choices_of
from labnet.instrument.errors import ScpiError
from labnet.values import EnumKind, Kind, LabeledArray, OptionalKind, RawTextKind, plain, text_of

NOT_A_NUMBER = "9.91E37"
INFINITY = "9.9E37"
#: Most elements of an array that are written as text; larger ones are for FORMat REAL or INTeger.
MAX_TEXT_ELEMENTS = 1 << 20


@dataclass(frozen=True, slots=True)
class ArrayFormat:
    """How arrays are answered: ``FORMat[:DATA]`` and ``FORMat:BORDer`` (SCPI-1999 volume 2, 9).

    `letter` is ``a`` for text, else numpy's ``f``, ``i`` or ``u``; `bits` is the length of an item.
    """

    letter: str = "a"
    bits: int = 0
    swapped: bool = False

    NAMES = {"a": "ASC", "f": "REAL", "i": "INT", "u": "UINT"}
    LENGTHS = {"a": (0,), "f": (64, 32), "i": (32, 8, 16, 64), "u": (32, 8, 16, 64)}

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy type of a block's items; big endian unless swapped."""
        return np.dtype(f"{'<' if self.swapped else '>'}{self.letter}{self.bits // 8}")

    def __str__(self) -> str:
        return f"{self.NAMES[self.letter]},{self.bits}"


ASCII = ArrayFormat()


def number(value: float) -> str:
    """The shortest NR1, NR2 or NR3 that means `value`; the standard's numbers for odd ones."""
    if isinstance(value, int):
        return str(int(value))
    if math.isfinite(value):
        text = repr(value)
        return (text[:-2] if text.endswith(".0") else text).upper()
    if math.isnan(value):
        return NOT_A_NUMBER
    return INFINITY if value > 0 else "-" + INFINITY


def quoted(text: str) -> bytes:
    """String response data; what ASCII has no character for becomes a question mark."""
    return b'"' + text.replace('"', '""').encode("latin-1", "replace") + b'"'


def block(data: bytes | bytearray | memoryview) -> list[bytes | bytearray | memoryview]:
    """Definite-length block response data, in two pieces so that the data is not copied."""
    digits = str(len(data) if isinstance(data, bytes | bytearray) else data.nbytes)
    return [f"#{len(digits)}{digits}".encode(), data]


Pieces = list[bytes | bytearray | memoryview]


def response(value: Any, kind: Kind, arrays: ArrayFormat = ASCII) -> Pieces:
    """One response unit, in pieces to be joined; raises `ScpiError`.

    Texts and mappings (as JSON) are quoted, choices given in their short form, bytes as a block,
    lists item by item, complex numbers as real and imaginary part.
    """
    if isinstance(kind, OptionalKind):
        kind = kind.inner
    if isinstance(kind, EnumKind):
        return [choices_of(kind).written(value)]
    if isinstance(kind, RawTextKind) and isinstance(value, str):
        return [value.encode("latin-1", "replace").replace(b"\n", b" ")]
    value = plain(value)
    kind_of_value = type(value)
    if kind_of_value is float or kind_of_value is int:
        return [number(value).encode()]
    if value is None:
        return [NOT_A_NUMBER.encode() if kind.name in ("int", "float") else b'""']
    return _other(value, arrays)


def _other(value: Any, arrays: ArrayFormat) -> Pieces:
    if isinstance(value, bool):
        return [b"1" if value else b"0"]
    if isinstance(value, int | float):
        return [number(value).encode()]
    if isinstance(value, str):
        return [quoted(value)]
    if isinstance(value, bytes | bytearray | memoryview):
        return block(value)
    if isinstance(value, complex):
        return [f"{number(value.real)},{number(value.imag)}".encode()]
    if isinstance(value, LabeledArray):
        return array(value.data, arrays)
    if isinstance(value, np.ndarray):
        return array(value, arrays)
    if isinstance(value, list | tuple):
        return _items(value, arrays)
    if isinstance(value, Mapping):
        return [quoted(_json(value))]
    return [quoted(text_of(value))]


def _items(values: list[Any] | tuple[Any, ...], arrays: ArrayFormat) -> Pieces:
    if arrays.letter != "a" and values and all(type(v) in (int, float) for v in values):
        return array(np.asarray(values), arrays)
    pieces: Pieces = []
    for value in values:
        if pieces:
            pieces.append(b",")
        pieces += _other(plain(value), arrays) if value is not None else [b'""']
    return pieces


def _json(value: Any) -> str:
    return json.dumps(value, default=text_of, ensure_ascii=True)


def array(values: npt.NDArray[Any], arrays: ArrayFormat) -> Pieces:
    """An array in C order, as numbers with commas or as a block of the chosen format."""
    if values.dtype.kind in "SU":
        return _items(values.ravel().tolist(), ASCII)
    if values.dtype.kind == "c":
        values = np.ascontiguousarray(values).view(values.real.dtype)
    if arrays.letter == "a":
        return [_text(values)]
    return block(_packed(values, arrays).view(np.uint8).data)


def _packed(values: npt.NDArray[Any], arrays: ArrayFormat) -> npt.NDArray[Any]:
    if arrays.letter in "iu" and values.dtype.kind == "f":
        values = np.rint(values)
    if arrays.letter in "iu" and values.size:
        bounds = np.iinfo(arrays.dtype)
        if not (values.min() >= bounds.min and values.max() <= bounds.max):
            raise ScpiError(-222, f"values do not fit FORMat {arrays}")
    return np.ascontiguousarray(values.ravel(), dtype=arrays.dtype)


def _text(values: npt.NDArray[Any]) -> bytes:
    if values.size > MAX_TEXT_ELEMENTS:
        raise ScpiError(-223, f"more than {MAX_TEXT_ELEMENTS} values; use FORMat REAL")
    items = values.ravel().tolist()
    if values.dtype.kind == "f":
        return ",".join(map(number, items)).encode()
    return ",".join(str(int(item)) for item in items).encode()
