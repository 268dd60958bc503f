"""Kinds of value, limits, readings, arrays with axes; text to value and back.

A `Kind` knows which Python values belong to it (`check`), and how they are read from and written as
text (`parse`, `format`). All wires share these, so a value means the same on each of them.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Union

import numpy as np
import numpy.typing as npt

from labnet.errors import OutOfRange, WrongType
from labnet.literals import MAX_BITS, literal, text_size, written
from labnet.literals import plain as plain
from labnet.literals import text_of as text_of

#: Bytes that an array made from texts may take.
MAX_TEXT_ARRAY = 1 << 24

NUMBERS = (int, float, np.integer, np.floating)
COMPLEX_NUMBERS = (complex, np.complexfloating, *NUMBERS)


class Kind:
    """A kind of value; `name` is what users are told."""

    name = "any"

    def check(self, value: Any, what: str = "value") -> Any:
        """`value` as this kind holds it; raises `WrongType` or `OutOfRange` naming `what`."""
        return value

    def parse(self, text: str, what: str = "value") -> Any:
        """The value that `text` writes; raises `WrongType` or `OutOfRange` naming `what`."""
        return self.check(literal(text, what, self.name), what)

    def format(self, value: Any, display: str = "") -> str:
        """`value` as text; `display` is a Python format string such as ``{:.3f}``.

        A value that `display` does not fit is written as if there were none.
        """
        if display:
            try:
                return display.format(value)
            except (TypeError, ValueError):
                pass
        return value if isinstance(value, str) else written(value)

    def __repr__(self) -> str:
        return f"<kind {self.name}>"


class AnyKind(Kind):
    """Takes everything; text that is no literal stands for itself."""

    def parse(self, text: str, what: str = "value") -> Any:
        try:
            return literal(text, what, self.name)
        except WrongType:
            return text


class NoneKind(Kind):
    """What a command without a result answers."""

    name = "none"

    def check(self, value: Any, what: str = "value") -> Any:
        if value is not None:
            raise WrongType(what, value, self.name)

    def format(self, value: Any, display: str = "") -> str:
        return ""


class BoolKind(Kind):
    """True or false; as text also on/off, yes/no, 1/0."""

    name = "bool"
    words: Mapping[str, bool] = {
        "true": True, "on": True, "yes": True, "1": True,
        "false": False, "off": False, "no": False, "0": False,
    }  # fmt: skip

    def check(self, value: Any, what: str = "value") -> bool:
        if value is True or value is False:
            return bool(value)
        if isinstance(value, np.bool_) or (isinstance(value, int) and value in (0, 1)):
            return bool(value)
        raise WrongType(what, value, self.name)

    def parse(self, text: str, what: str = "value") -> bool:
        try:
            return self.words[text.strip().lower()]
        except KeyError:
            raise WrongType(what, text, "bool (true or false)") from None


class IntKind(Kind):
    """A whole number of any size; a float that is whole is not taken, as nobody meant it."""

    name = "int"

    def check(self, value: Any, what: str = "value") -> int:
        if type(value) is int and value.bit_length() <= MAX_BITS:
            return value
        if isinstance(value, np.integer):
            return int(value)
        raise WrongType(what, value, self.name)

    def parse(self, text: str, what: str = "value") -> int:
        if len(text) > MAX_BITS:
            raise WrongType(what, text, self.name)
        for base in (10, 0):
            try:
                return self.check(int(text, base), what)
            except ValueError:
                continue
        try:
            number = float(text)
        except ValueError:
            raise WrongType(what, text, self.name) from None
        if not number.is_integer() or abs(number) > 1 << 53:
            raise WrongType(what, text, self.name)
        return int(number)


class FloatKind(Kind):
    """A real number; an int is taken for a float."""

    name = "float"

    def check(self, value: Any, what: str = "value") -> float:
        if type(value) is float:
            return value
        if isinstance(value, NUMBERS) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError:
                pass
        raise WrongType(what, value, self.name)

    def parse(self, text: str, what: str = "value") -> float:
        try:
            return float(text)
        except ValueError:
            raise WrongType(what, text, self.name) from None


class ComplexKind(Kind):
    """A complex number; as text the way Python writes it, such as ``1+2j``."""

    name = "complex"

    def check(self, value: Any, what: str = "value") -> complex:
        if isinstance(value, COMPLEX_NUMBERS) and not isinstance(value, bool):
            try:
                return complex(value)
            except OverflowError:
                pass
        raise WrongType(what, value, self.name)

    def parse(self, text: str, what: str = "value") -> complex:
        try:
            return complex(text.replace(" ", ""))
        except ValueError:
            raise WrongType(what, text, self.name) from None


class StrKind(Kind):
    """Text."""

    name = "str"

    def check(self, value: Any, what: str = "value") -> str:
        if isinstance(value, str):
            return str(value)
        raise WrongType(what, value, self.name)

    def parse(self, text: str, what: str = "value") -> str:
        return text


class RawTextKind(StrKind):
    """Text that an instrument answers without quotes, such as an identity or ``done``."""


class BytesKind(Kind):
    """Bytes; as text one character for each byte (Latin-1), which loses nothing."""

    name = "bytes"

    def check(self, value: Any, what: str = "value") -> bytes:
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        raise WrongType(what, value, self.name)

    def parse(self, text: str, what: str = "value") -> bytes:
        try:
            return text.encode("latin-1")
        except UnicodeEncodeError:
            pass
        try:
            return text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise WrongType(what, text, self.name) from None

    def format(self, value: Any, display: str = "") -> str:
        return bytes(value).decode("latin-1")


class EnumKind(Kind):
    """One of some choices: `choices` maps each value (of any hashable type) to its text.

    A value is given as the key or as the text; the text is matched exactly, else without regard to
    case where only one fits. With `members` (an `enum.Enum` class) the device gets the member.
    """

    name = "enum"

    def __init__(
        self, choices: Mapping[Any, str] | Sequence[Any], members: type[enum.Enum] | None = None
    ) -> None:
        if not isinstance(choices, Mapping):
            choices = {choice: str(choice) for choice in choices}
        self.choices: Mapping[Any, str] = types.MappingProxyType(dict(choices))
        self.members = members
        self._keys = {(type(key), key): key for key in choices}
        self._texts = {text: key for key, text in choices.items()}

    def check(self, value: Any, what: str = "value") -> Any:
        if self.members is not None and isinstance(value, self.members):
            return value
        value = plain(value)
        try:
            key = self._keys[type(value), value]
        except (KeyError, TypeError):
            key = self._loosely(value, what)
        return key if self.members is None else self.members(key)

    def _loosely(self, value: Any, what: str) -> Any:
        if isinstance(value, str):
            return self.parse_key(value, what)
        if isinstance(value, int | float) and not isinstance(value, bool):
            for key in self.choices:  # 1.0 for 1, as JSON and SCPI do not tell them apart
                if key == value and not isinstance(key, bool):
                    return key
        raise OutOfRange(what, value, choices=tuple(self.choices.values()))

    def parse_key(self, text: str, what: str = "value") -> Any:
        """The key that `text` names, as its text or as the key written out."""
        if text in self._texts:
            return self._texts[text]
        fits = [key for name, key in self._texts.items() if name.lower() == text.lower()]
        if not fits:
            fits = [key for key in self.choices if str(key) == text]
        if len(fits) != 1:
            raise OutOfRange(what, text, choices=tuple(self.choices.values()))
        return fits[0]

    def parse(self, text: str, what: str = "value") -> Any:
        return self.check(self.parse_key(text, what), what)

    def format(self, value: Any, display: str = "") -> str:
        return self.choices.get(plain(value), text_of(value))


class ArrayKind(Kind):
    """A numpy array of `dtype` (None: any) and `shape` (None: any; a None in it: any length)."""

    name = "array"

    def __init__(
        self, dtype: npt.DTypeLike | None = None, shape: tuple[int | None, ...] | None = None
    ) -> None:
        self.dtype = None if dtype is None else np.dtype(dtype)
        self.shape = shape

    def check(self, value: Any, what: str = "value") -> npt.NDArray[Any]:
        array = self._array(value, what)
        if array.dtype.kind not in "biufcSU":
            raise WrongType(what, value, str(self))
        if self.dtype is not None and array.dtype != self.dtype:
            array = self._cast(array, what)
        if self.shape is not None and not self._fits(array.shape):
            raise WrongType(what, value, str(self))
        return frozen(array)

    def _array(self, value: Any, what: str) -> npt.NDArray[Any]:
        if isinstance(value, np.ndarray):
            return value
        if isinstance(value, str | bytes | dict) or text_size(value) > MAX_TEXT_ARRAY:
            raise WrongType(what, value, str(self))
        try:
            return np.asarray(value)
        except (TypeError, ValueError, OverflowError, MemoryError):
            raise WrongType(what, value, str(self)) from None

    def _cast(self, array: npt.NDArray[Any], what: str) -> npt.NDArray[Any]:
        """The array as `dtype`, where that loses nothing but digits of a fraction."""
        assert self.dtype is not None
        if not np.can_cast(array.dtype, self.dtype, "same_kind"):
            signs = array.dtype.kind in "iu" and self.dtype.kind in "iu"
            if array.size and not signs:
                raise WrongType(what, array, str(self))
        cast = array.astype(self.dtype)
        if self.dtype.kind in "iu" and not np.array_equal(cast, array):
            bounds = np.iinfo(self.dtype)
            raise OutOfRange(what, array, bounds.min, bounds.max)
        return cast

    def _fits(self, shape: tuple[int, ...]) -> bool:
        assert self.shape is not None
        return len(shape) == len(self.shape) and all(
            wanted is None or wanted == got for wanted, got in zip(self.shape, shape, strict=True)
        )

    def format(self, value: Any, display: str = "") -> str:
        if np.ndim(value) == 0:
            value = plain(value)
            return super().format(value, display) if display else written(value)
        return "[" + ", ".join(self.format(part, display) for part in value) + "]"

    def __str__(self) -> str:
        dtype = "" if self.dtype is None else f" of {self.dtype}"
        sizes = "" if self.shape is None else ", ".join(str(n or "any") for n in self.shape)
        return f"array{dtype}" + (f" ({sizes})" if sizes else "")


class ListKind(Kind):
    """A list of one kind of item."""

    name = "list"

    def __init__(self, item: Kind | None = None) -> None:
        self.item = item or ANY

    def check(self, value: Any, what: str = "value") -> list[Any]:
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if not isinstance(value, list | tuple):
            raise WrongType(what, value, self.name)
        return [self.item.check(part, what) for part in value]


class DictKind(Kind):
    """A mapping."""

    name = "dict"

    def check(self, value: Any, what: str = "value") -> dict[Any, Any]:
        if isinstance(value, Mapping):
            return dict(value)
        raise WrongType(what, value, self.name)


class OptionalKind(Kind):
    """Another kind, or None; as text an empty one or ``None`` means none."""

    def __init__(self, inner: Kind) -> None:
        self.inner = inner
        self.name = inner.name

    def check(self, value: Any, what: str = "value") -> Any:
        return None if value is None else self.inner.check(value, what)

    def parse(self, text: str, what: str = "value") -> Any:
        return None if text in ("", "None", "none") else self.inner.parse(text, what)

    def format(self, value: Any, display: str = "") -> str:
        return "" if value is None else self.inner.format(value, display)


ANY = AnyKind()
NONE = NoneKind()
BOOL = BoolKind()
INT = IntKind()
FLOAT = FloatKind()
COMPLEX = ComplexKind()
STR = StrKind()
RAW_TEXT = RawTextKind()
BYTES = BytesKind()

_KINDS: dict[Any, Kind] = {
    bool: BOOL, int: INT, float: FLOAT, complex: COMPLEX, str: STR, bytes: BYTES,
    bytearray: BYTES, np.ndarray: ArrayKind(), list: ListKind(), tuple: ListKind(),
    dict: DictKind(), None: NONE, type(None): NONE, Any: ANY, object: ANY,
}  # fmt: skip


def kind_of(annotation: Any) -> Kind:
    """The kind that a type or an annotation stands for; `ANY` where nothing fits."""
    if isinstance(annotation, Kind):
        return annotation
    try:
        if annotation in _KINDS:
            return _KINDS[annotation]
    except TypeError:
        return ANY
    if isinstance(annotation, type):
        return _kind_of_class(annotation)
    return _kind_of_generic(typing.get_origin(annotation), typing.get_args(annotation))


def _kind_of_class(cls: type) -> Kind:
    if issubclass(cls, enum.Enum):
        return EnumKind({member.value: member.name for member in cls}, cls)
    if issubclass(cls, np.generic):
        scalar = np.dtype(cls).type(0).item()
        return _KINDS.get(type(scalar), ANY)
    return ANY


def _kind_of_generic(origin: Any, args: tuple[Any, ...]) -> Kind:
    if origin is Literal:
        return EnumKind(args)
    if origin in (Union, types.UnionType):
        inner = [arg for arg in args if arg is not type(None)]
        if set(inner) == {int, float}:
            kind: Kind = FLOAT
        else:
            kind = kind_of(inner[0]) if len(inner) == 1 else ANY
        return OptionalKind(kind) if len(inner) < len(args) else kind
    if origin is typing.Annotated:
        return kind_of(next((arg for arg in args[1:] if isinstance(arg, Kind)), args[0]))
    if origin is np.ndarray:
        return ArrayKind(_dtype_of(args))
    if origin in (list, tuple, Sequence):
        item = args[0] if args and len({a for a in args if a is not ...}) == 1 else Any
        return ListKind(kind_of(item))
    if origin in (dict, Mapping):
        return _KINDS[dict]
    if args and hasattr(origin, "__await__"):
        return kind_of(args[-1])  # a Deferred or a coroutine: of what it will give
    return ANY


def _dtype_of(args: tuple[Any, ...]) -> Any:
    """The dtype in ``NDArray[np.float64]``, which is ``ndarray[..., dtype[float64]]``."""
    inner = typing.get_args(args[1]) if len(args) == 2 else ()
    return inner[0] if inner and isinstance(inner[0], type) else None


@dataclass(frozen=True, slots=True)
class Limits:
    """The lowest and the highest value allowed; None where there is no limit."""

    low: float | None = None
    high: float | None = None

    def contains(self, value: Any) -> bool:
        """Whether `value` (a number or an array of numbers) lies within; a NaN does not."""
        if isinstance(value, np.ndarray):
            low = self.low is None or bool(np.all(value >= self.low))
            return low and (self.high is None or bool(np.all(value <= self.high)))
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


#: Status and severity words of a reading, as EPICS records have them.
GOOD = "Good"
UNKNOWN = "None"
#: The worst first.
SEVERITIES = ("AlarmMajor", "AlarmMinor", GOOD, UNKNOWN)


def alarm(value: Any, alarms: Limits | None, warnings: Limits | None) -> tuple[str, str]:
    """Status and severity of a number against its alarm (major) and warning (minor) limits.

    Of an array it is the worse of its least and its greatest element.
    """
    if alarms is None and warnings is None:
        return UNKNOWN, UNKNOWN
    if isinstance(value, np.ndarray):
        if not value.size:
            return UNKNOWN, UNKNOWN
        outside = [alarm(part, alarms, warnings) for part in (value.min(), value.max())]
        return min(outside, key=lambda words: SEVERITIES.index(words[1]))
    if not isinstance(value, NUMBERS):
        return UNKNOWN, UNKNOWN
    for limits, low, high, severity in (
        (alarms, "AlarmLoLo", "AlarmHiHi", "AlarmMajor"),
        (warnings, "AlarmLow", "AlarmHigh", "AlarmMinor"),
    ):
        if limits is None:
            continue
        if limits.low is not None and value < limits.low:
            return low, severity
        if limits.high is not None and value > limits.high:
            return high, severity
    return GOOD, GOOD


class Reading(typing.NamedTuple):
    """A value as it was at one moment.

    `time` is in seconds since 1970; `sequence` counts the values of this parameter; arrays in
    `value` are read-only. `status` and `severity` are the words of `alarm`.
    """

    value: Any
    time: float
    status: str = UNKNOWN
    severity: str = UNKNOWN
    sequence: int = 0


AT_HAND: Final = frozenset({bool, int, float, complex, str, bytes, type(None), Reading})
"""Classes of values that are no arrays and for which nobody waits: a quick answer to both."""


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """One axis of an array: its `values` (1D, as long as that dimension), label and unit."""

    label: str
    unit: str
    values: npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class LabeledArray:
    """An array with a label, a unit and an axis for each dimension (or none at all)."""

    data: npt.NDArray[Any]
    label: str = ""
    unit: str = ""
    axes: tuple[Axis, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", frozen(self.data))
        lengths = tuple(len(axis.values) for axis in self.axes)
        if self.axes and lengths != self.data.shape:
            raise ValueError(f"axes of {lengths} for an array of {self.data.shape}")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        array = np.asarray(self.data, dtype=dtype)
        return array.copy() if copy else array


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A read-only view of `array`, or the array itself if it is read-only already."""
    if not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False
    return view
