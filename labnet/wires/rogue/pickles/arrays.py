"""Arrays and numbers of numpy out of pickles, without calling what the pickle names.

A pickled array is ``_reconstruct(ndarray, (0,), b'b')`` and then the state ``(1, shape, dtype,
fortran, bytes)``, or in protocol 5 ``_frombuffer(bytes, dtype, shape, order)``; a dtype is
``dtype('f8', False, True)`` and then ``(3, '<', None, None, None, -1, -1, 0)``. Only numbers, truth
values, texts and bytes are read: no Python objects, no records.
"""

from __future__ import annotations

import re
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from labnet.values import frozen
from labnet.wires.rogue.pickles.bounds import MAX_AXES, BadPickle

_CODE = re.compile(r"[<>|=]?(b1|[iu][1248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)|[SU][1-9][0-9]{0,5})\Z")
_LATIN = frozenset({"latin1", "latin-1"})


class DType:
    """A dtype on its way: what ``numpy.dtype`` was called with, then its byte order."""

    __slots__ = ("dtype",)

    def __init__(self, args: tuple[Any, ...]) -> None:
        code = args[0] if args else None
        if not isinstance(code, str) or not _CODE.match(code):
            raise BadPickle("an array of this dtype is not allowed in a pickle")
        try:
            self.dtype = np.dtype(code)
        except TypeError:  # such as f12, where the machine has none
            raise BadPickle(f"this machine has no dtype {code}") from None

    def build(self, state: Any) -> None:
        """Takes the state ``(version, byte order, None, None, None, size, alignment, flags)``."""
        if not isinstance(state, tuple) or not 8 <= len(state) <= 9:
            raise BadPickle("a dtype without its state")
        order = state[1]
        if order not in ("<", ">", "|", "=") or state[2:5] != (None, None, None):
            raise BadPickle("an array of records is not allowed in a pickle")
        if state[5] not in (-1, self.dtype.itemsize):
            raise BadPickle("a dtype with a wrong size")
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)


class Array:
    """An array on its way: nothing until its state has come, then `array`."""

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array: npt.NDArray[Any] | None = None

    def build(self, state: Any) -> None:
        """Takes the state ``(1, shape, dtype, fortran order?, bytes)``."""
        if not isinstance(state, tuple) or len(state) != 5 or self.array is not None:
            raise BadPickle("an array without its state")
        _, shape, dtype, fortran, raw = state
        self.array = array_of(raw, dtype, shape, "F" if fortran is True else "C")


def array_of(raw: Any, dtype: Any, shape: Any, order: str) -> npt.NDArray[Any]:
    """A read-only array of `raw` (bytes), of which nothing is copied."""
    if not isinstance(dtype, DType) or not isinstance(raw, bytes | bytearray):
        raise BadPickle("an array without a dtype or without its data")
    if not isinstance(shape, tuple) or len(shape) > MAX_AXES:
        raise BadPickle(f"the shape of an array is a tuple of at most {MAX_AXES} sizes")
    if any(type(size) is not int or size < 0 for size in shape):
        raise BadPickle("the shape of an array is of whole numbers")
    kind = dtype.dtype
    if len(raw) != prod(shape) * kind.itemsize:
        raise BadPickle("the data of an array do not fit its shape")
    if not raw:
        return frozen(np.empty(_empty(shape), kind, order="C"))
    return frozen(np.frombuffer(raw, kind).reshape(shape, order="F" if order == "F" else "C"))


def _empty(shape: tuple[int, ...]) -> tuple[int, ...]:
    """An empty array may not be told to be of 2**60 rows of nothing."""
    if max(shape, default=0) > 1 << 31:
        raise BadPickle("the shape of an array is too large")
    return shape


def from_buffer(args: tuple[Any, ...]) -> npt.NDArray[Any]:
    """What ``_frombuffer(bytes, dtype, shape, order, axes)`` would give."""
    if len(args) not in (4, 5) or args[3] not in ("C", "F", "K"):
        raise BadPickle("an array without its shape or order")
    array = array_of(args[0], args[1], args[2], args[3])
    axes = args[4] if len(args) == 5 else None
    if args[3] != "K" or axes is None:
        return array
    if not isinstance(axes, tuple) or sorted(axes) != list(range(array.ndim)):
        raise BadPickle("an array whose axes are in no order")
    return array.transpose(axes)


def reconstruct(args: tuple[Any, ...]) -> Array:
    """What ``_reconstruct(ndarray, (0,), b'b')`` would begin."""
    if len(args) != 3 or args[1] != (0,):
        raise BadPickle("an array that does not begin as an empty one")
    return Array()


def scalar(args: tuple[Any, ...]) -> Any:
    """What ``scalar(dtype, bytes)`` would give: a number of numpy."""
    if len(args) != 2:
        raise BadPickle("a number of numpy without its data")
    return array_of(args[1], args[0], (1,), "C")[0]


def encoded(args: tuple[Any, ...]) -> bytes:
    """What ``_codecs.encode(text, 'latin1')`` would give: bytes, in protocols 0 to 2."""
    if len(args) != 2 or not isinstance(args[0], str) or args[1] not in _LATIN:
        raise BadPickle("bytes that are not written as Latin-1")
    return args[0].encode("latin-1")
