"""A message that is like the one before but for its numbers is not taken apart again.

Most of a position or a frame of generations C and D are names that never change: with them known,
a frame of a few numbers is read about ten times as fast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from struct import Struct
from typing import Any, NamedTuple

import numpy as np

from labnet.wires.pymodaq.messages import Done, Message, MoveDone, PositionIs
from labnet.wires.pymodaq.objects import Data, DataToExport
from labnet.wires.pymodaq.primitives import Array

LONGEST = 4096
"""Bytes of the messages that are worth it."""

_DOUBLE = Struct("<d")
_FIELDS = tuple(field.name for field in fields(Data))
_ARRAYS, _TIME = _FIELDS.index("data"), _FIELDS.index("timestamp")


class Mark(NamedTuple):
    """Where a number, or an array of them, was found in a message."""

    at: int
    end: int
    dtype: Any
    value: Any


Reader = Callable[[bytes], Any]


class Pattern:
    """A message as it came: `read` gives another one of the same form, None for any other."""

    def __init__(self, data: bytes, spans: list[tuple[int, int]], make: Reader) -> None:
        self._length = len(data)
        self._make = make
        ends = [0, *(end for _, end in sorted(spans))]
        begins = [*(at for at, _ in sorted(spans)), len(data)]
        between = zip(ends, begins, strict=True)
        self._same = [(at, end, data[at:end]) for at, end in between if at < end]

    def read(self, data: bytes) -> Message | None:
        """The message that `data` is."""
        if len(data) != self._length:
            return None
        for at, end, same in self._same:
            if data[at:end] != same:
                return None
        made: Message = self._make(data)
        return made


def learn(data: bytes, marks: list[Mark], message: Message) -> Pattern | None:
    """The pattern of a message that was read from `data`; None for one that has no such form."""
    spans: list[tuple[int, int]] = []
    known = {id(mark.value): mark for mark in marks}
    if isinstance(message, Done):
        make = _export(message.frame, known, spans)
    elif isinstance(message, PositionIs | MoveDone):
        make = _data(message.position, known, spans)
    else:
        return None
    if not spans or make is None:
        return None
    kind: Callable[[Any], Any] = type(message)
    chosen: Reader = make
    return Pattern(data, spans, lambda data: kind(chosen(data)))


def _export(
    frame: DataToExport, known: dict[int, Mark], spans: list[tuple[int, int]]
) -> Reader | None:
    parts = [_data(part, known, spans) for part in frame.data]
    if None in parts or frame.extra:
        return None
    when = _time(frame.timestamp, known, spans)
    name = frame.name
    made: list[Any] = parts
    return lambda data: DataToExport(name, tuple([make(data) for make in made]), when(data))


def _data(part: Data, known: dict[int, Mark], spans: list[tuple[int, int]]) -> Reader | None:
    found = [_array(array, known, spans) for array in part.data]
    if None in found:
        return None
    arrays: list[Any] = found
    when = _time(part.timestamp, known, spans)
    values = [getattr(part, name) for name in _FIELDS]

    def make(data: bytes) -> Data:
        values[_ARRAYS] = tuple([array(data) for array in arrays])
        values[_TIME] = when(data)
        return Data(*values)

    return make


def _array(array: Array, known: dict[int, Mark], spans: list[tuple[int, int]]) -> Reader | None:
    mark = known.get(id(array))
    if mark is None:
        return None
    spans.append((mark.at, mark.end))
    at, dtype, count, shape = mark.at, mark.dtype, array.size, array.shape
    if array.ndim == 1:
        return lambda data: np.frombuffer(data, dtype, count, at)
    return lambda data: np.frombuffer(data, dtype, count, at).reshape(shape)


def _time(
    value: float, known: dict[int, Mark], spans: list[tuple[int, int]]
) -> Callable[[bytes], float]:
    mark = known.get(id(value))
    if mark is None or mark.dtype.str != "<f8":
        return lambda data: value
    spans.append((mark.at, mark.end))
    at, unpack = mark.at, _DOUBLE.unpack_from
    return lambda data: unpack(data, at)[0]
