"""Frames of one detector, which are alike but for their times and their numbers.

What is the same in each is written once; the rest is put between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from struct import Struct
from typing import Any

import numpy as np

from labnet.values import LabeledArray
from labnet.wires.pymodaq.codec import DataToExport, Done, Generation, Parts
from labnet.wires.pymodaq.messages import encode_parts
from labnet.wires.pymodaq.offered import NO_EXTRA, labeled, numbers
from labnet.wires.pymodaq.primitives import LARGE, merged
from labnet.wires.pymodaq.sending import SHOWN

_TIME = Struct("<d")
_BEFORE_TIME = 11
"""Bytes of a time that say what it is: type and length."""


class FrameWriter:
    """Writes the frames of a detector called `name` as one generation, of C1 to D, has them."""

    def __init__(self, name: str, generation: Generation) -> None:
        self._name = name
        self._generation = generation
        self._alike: tuple[Any, ...] | None = None
        self._fixed: list[bytes] = []  # before, between and behind what varies
        self._times: list[bool] = []  # whether what varies is a time, in order; else the numbers

    def write(self, array: LabeledArray, timestamp: float) -> Parts:
        """The message of a frame; `BadArguments` for an array that PyMoDAQ does not know."""
        values = numbers(array.data, self._name)
        alike = (array.label, array.unit, array.axes, values.shape, values.dtype)
        if alike != self._alike:
            self._alike, self._fixed = alike, []
            return merged(self._parts(array, values, timestamp))
        if not self._fixed:  # the second one: there will be more
            self._learn(array, values)
        when = _TIME.pack(timestamp)
        if values.nbytes < LARGE:
            return [b"".join(self._filled(when, values.tobytes()))]
        parts = list(self._filled(when, b""))
        at = 2 * self._times.index(False) + 1
        large: Any = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        return [b"".join(parts[:at]), memoryview(large), b"".join(parts[at + 1 :])]

    def _filled(self, when: bytes, data: bytes) -> Iterator[bytes]:
        yield self._fixed[0]
        for is_time, fixed in zip(self._times, self._fixed[1:], strict=True):
            yield when if is_time else data
            yield fixed

    def _learn(self, array: LabeledArray, values: Any) -> None:
        """What differs between two messages whose times and numbers are all different."""
        one, other = (self._parts(array, np.full_like(values, n), float(n)) for n in (0, 1))
        self._fixed, self._times = [b""], []
        for part, differs in zip(one, other, strict=True):
            if bytes(part) == bytes(differs):
                self._fixed[-1] += bytes(part)
                continue
            is_time = len(part) == _BEFORE_TIME + _TIME.size and bytes(part[3:7]) == b"\3<f8"
            self._fixed[-1] += bytes(part[:_BEFORE_TIME]) if is_time else b""
            self._times.append(is_time)
            self._fixed.append(b"")

    def _parts(self, array: LabeledArray, values: Any, timestamp: float) -> Parts:
        extra = SHOWN.get(self._generation, NO_EXTRA)
        data = replace(labeled(array, self._name, timestamp, extra), data=(values,))
        return encode_parts(Done(DataToExport(self._name, (data,), timestamp)), self._generation)
