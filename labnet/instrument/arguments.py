"""From program data to the values that parameters and commands take.

Each function says by a SCPI error number what is wrong with a datum: its type (-104), its suffix
(-131, -138), a word that is no choice (-224), a number outside the limits (-222).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from labnet.instrument.choices import choices_of
from labnet.instrument.data import (
    Block,
    Datum,
    Expression,
    Number,
    Text,
    Word,
    channel_list,
    in_unit,
)
from labnet.instrument.errors import ScpiError
from labnet.instrument.response import ArrayFormat
from labnet.values import ArrayKind, EnumKind, Kind, Limits, ListKind, OptionalKind

_MINIMUM, _MAXIMUM, _DEFAULT = {"MIN", "MINIMUM"}, {"MAX", "MAXIMUM"}, {"DEF", "DEFAULT"}
_ODD = {
    "INF": math.inf, "INFINITY": math.inf,
    "NINF": -math.inf, "NINFINITY": -math.inf, "NAN": math.nan,
}  # fmt: skip


class Target:
    """What a datum is meant for: its kind, unit, limits and the value that DEF stands for."""

    __slots__ = ("default", "kind", "limits", "unit")

    def __init__(
        self, kind: Kind, unit: str = "", limits: Limits | None = None, default: Any = None
    ) -> None:
        self.kind = kind.inner if isinstance(kind, OptionalKind) else kind
        self.unit = unit
        self.limits = limits
        self.default = default

    def limit(self, word: str) -> Any:
        """What MIN, MAX or DEF means here; raises `ScpiError` -224 where it means nothing."""
        value = None
        if word in _MINIMUM and self.limits is not None:
            value = self.limits.low
        elif word in _MAXIMUM and self.limits is not None:
            value = self.limits.high
        elif word in _DEFAULT:
            value = self.default
        if value is None:
            raise ScpiError(-224)
        return value


def is_limit(data: Sequence[Datum]) -> bool:
    """Whether the data of a query ask for a limit: ``VOLT? MAX``."""
    words = _MINIMUM | _MAXIMUM | _DEFAULT
    return len(data) == 1 and isinstance(data[0], Word) and data[0].text in words


def take(
    target: Target, data: Sequence[Datum], at: int, arrays: ArrayFormat
) -> tuple[Any, int]:
    """The value for `target` from the data at `at`, and where the next one begins.

    Complex numbers take two data, lists and arrays all that are left; an array may be one block of
    items in the `arrays` format. Raises `ScpiError`.
    """
    kind = target.kind
    if isinstance(kind, ArrayKind):
        return _array(target, data[at:], arrays), len(data)
    if isinstance(kind, ListKind):
        return _list(target, kind, data[at:], arrays), len(data)
    if at >= len(data):
        raise ScpiError(-109)
    if kind.name == "complex":
        return _complex(target, data, at)
    if isinstance(kind, EnumKind):
        return _choice(target, kind, data[at]), at + 1
    return _SCALARS.get(kind.name, _anything)(target, data[at]), at + 1


def _choice(target: Target, kind: EnumKind, datum: Datum) -> Any:
    choices = choices_of(kind)
    try:
        return choices.understood(datum)
    except ScpiError:
        if isinstance(datum, Word) and datum.text in _DEFAULT:
            return target.limit(datum.text)
        raise


def _number(target: Target, datum: Datum) -> int | float:
    if isinstance(datum, Number):
        return in_unit(datum, target.unit)
    if not isinstance(datum, Word):
        raise ScpiError(-104)
    if datum.text in _ODD:
        return _ODD[datum.text]
    value: int | float = target.limit(datum.text)
    return value


def _float(target: Target, datum: Datum) -> float:
    try:
        return float(_number(target, datum))
    except OverflowError:
        raise ScpiError(-222) from None


def _rounded(value: int | float) -> int:
    """The nearest whole number, a half away from zero as instruments do."""
    if isinstance(value, int):
        return int(value)
    if not math.isfinite(value):
        raise ScpiError(-222)
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def _int(target: Target, datum: Datum) -> int:
    return _rounded(_number(target, datum))


def _bool(target: Target, datum: Datum) -> bool:
    if isinstance(datum, Number):
        if datum.suffix:
            raise ScpiError(-138)
        return _rounded(datum.value) != 0
    if not isinstance(datum, Word):
        raise ScpiError(-104)
    if datum.text in ("ON", "TRUE"):
        return True
    if datum.text in ("OFF", "FALSE"):
        return False
    return bool(target.limit(datum.text))


def _str(target: Target, datum: Datum) -> str:
    if isinstance(datum, Text):
        return datum.text
    if isinstance(datum, Block):
        return bytes(datum.data).decode("latin-1")
    raise ScpiError(-104)


def _bytes(target: Target, datum: Datum) -> bytes:
    if isinstance(datum, Block):
        return bytes(datum.data)
    raise ScpiError(-104)


def _anything(target: Target, datum: Datum) -> Any:
    if isinstance(datum, Number):
        return in_unit(datum, target.unit)
    if isinstance(datum, Block):
        return bytes(datum.data)
    if isinstance(datum, Expression):
        return channel_list(datum.text) if datum.text.startswith("@") else datum.text
    return datum.text


def _dict(target: Target, datum: Datum) -> Any:
    return target.kind.parse(_str(target, datum))


_SCALARS: dict[str, Callable[[Target, Datum], Any]] = {
    "bool": _bool, "int": _int, "float": _float, "str": _str, "bytes": _bytes, "dict": _dict,
}  # fmt: skip


def _complex(target: Target, data: Sequence[Datum], at: int) -> tuple[complex, int]:
    """Real and imaginary part; the real part alone where no other number follows."""
    real = _float(target, data[at])
    if at + 1 < len(data) and isinstance(data[at + 1], Number):
        return complex(real, _float(target, data[at + 1])), at + 2
    return complex(real, 0.0), at + 1


def _list(target: Target, kind: ListKind, data: Sequence[Datum], arrays: ArrayFormat) -> list[Any]:
    if not data:
        raise ScpiError(-109)
    first = data[0]
    if len(data) == 1 and isinstance(first, Expression):
        return list(channel_list(first.text))
    item = Target(kind.item, target.unit)
    values, at = [], 0
    while at < len(data):
        value, at = take(item, data, at, arrays)
        values.append(value)
    return values


def _array(target: Target, data: Sequence[Datum], arrays: ArrayFormat) -> Any:
    if not data:
        raise ScpiError(-109)
    first = data[0]
    if len(data) == 1 and isinstance(first, Block):
        return _from_block(first, arrays)
    item = Target(target.kind, target.unit)
    return np.array([_number(item, datum) for datum in data])


def _from_block(datum: Block, arrays: ArrayFormat) -> Any:
    dtype: np.dtype[Any] = np.dtype(">f8") if arrays.letter == "a" else arrays.dtype
    if datum.data.nbytes % dtype.itemsize:
        raise ScpiError(-161)
    return np.frombuffer(datum.data, dtype).astype(dtype.newbyteorder("="))


Values: TypeAlias = tuple[Any, ...]


def take_all(targets: Sequence[Target], data: Sequence[Datum], arrays: ArrayFormat) -> Values:
    """A value for each target, no datum left over; raises `ScpiError` (-108, -109 and others)."""
    values, at = [], 0
    for target in targets:
        value, at = take(target, data, at, arrays)
        values.append(value)
    if at < len(data):
        raise ScpiError(-108)
    return tuple(values)
