"""What a value out of a pickle amounts to when everything in it is counted as often as it is held.

A few hundred bytes can make a list that holds itself, or a list of two lists of two lists ... whose
text would fill the memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from labnet.wires.rogue.model import NodeInfo, RemoteException, VariableValue
from labnet.wires.rogue.pickles.bounds import BadPickle, Bounds
from labnet.wires.rogue.pickles.names import Opaque

_SMALL = frozenset({bool, int, float, complex, type(None), RemoteException, Opaque})
_SIZED = frozenset({str, bytes, bytearray})
_MANY = frozenset({list, tuple, set, frozenset})
_NUMPY = (np.ndarray, np.generic)


def check_weight(value: Any, bounds: Bounds) -> None:
    """Raises BadPickle for a value that is too deep, too heavy, or not finished."""
    _Scale(bounds).of(value, 0)


class _Scale:
    def __init__(self, bounds: Bounds) -> None:
        self._depth = bounds.depth
        self._limit = bounds.weight
        self._known: dict[int, tuple[int, int]] = {}  # by id: weight and height

    def of(self, value: Any, depth: int) -> tuple[int, int]:
        """Weight and height of a value at `depth`."""
        cls = value.__class__
        if cls in _SMALL:
            return 1, 0
        if cls in _SIZED:
            return 1 + len(value), 0
        if cls is NodeInfo:
            return 100, 0  # flat, and made anew from what was read
        if isinstance(value, _NUMPY):
            return 1 + value.nbytes, 0
        weight, height = self._known.get(id(value)) or self._weigh(value, cls, depth)
        if depth + height > self._depth:
            raise self._too_deep()
        return weight, height

    def _weigh(self, value: Any, cls: type, depth: int) -> tuple[int, int]:
        if depth >= self._depth:
            raise self._too_deep()
        self._known[id(value)] = (0, self._depth + 1)  # found again below: it holds itself
        weight, height = 1, 0
        for part in self._parts(value, cls):
            more, high = self.of(part, depth + 1)
            weight += more
            height = max(height, high)
        if weight > self._limit:
            raise BadPickle(f"a pickle that holds more than {self._limit} bytes in all")
        self._known[id(value)] = weight, height + 1
        return weight, height + 1

    def _parts(self, value: Any, cls: type) -> Any:
        if cls in _MANY:
            return value
        if cls is dict:
            return [*value, *value.values()]
        if cls is VariableValue:
            return (value.value, value.value_disp, value.enum)
        raise BadPickle("a pickle with something unfinished in it")

    def _too_deep(self) -> BadPickle:
        return BadPickle(f"a pickle that is nested more than {self._depth} deep, or in itself")
