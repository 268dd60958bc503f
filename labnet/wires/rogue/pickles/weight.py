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

_SMALL = frozenset({bool, int, float, complex, type(None), RemoteException})
_SIZED = frozenset({str, bytes, bytearray})
_MANY = frozenset({list, tuple, set, frozenset})
_NUMPY = (np.ndarray, np.generic)


def check_weight(value: Any, bounds: Bounds) -> Any:
    """The value; raises BadPickle for one that is too deep, too heavy, or not finished.

    Where something in it is opaque, the first such object takes its place: that of the variable's
    value, or that of all.
    """
    return _Scale(bounds).of(value, 0)[2] or value


Weight = tuple[int, int, Opaque | None]
"""Weight, height, and the first opaque object in it."""


class _Scale:
    def __init__(self, bounds: Bounds) -> None:
        self._depth = bounds.depth
        self._limit = bounds.weight
        self._known: dict[int, Weight] = {}  # by id

    def of(self, value: Any, depth: int) -> Weight:
        """What a value at `depth` amounts to."""
        cls = value.__class__
        if cls in _SMALL:
            return 1, 0, None
        if cls in _SIZED:
            return 1 + len(value), 0, None
        if cls is NodeInfo:
            return 100, 0, None  # flat, and made anew from what was read
        if cls is Opaque:
            return 1, 0, value
        if isinstance(value, _NUMPY):
            return 1 + value.nbytes, 0, None
        found = self._known.get(id(value)) or self._weigh(value, cls, depth)
        if depth + found[1] > self._depth:
            raise self._too_deep()
        return found

    def _weigh(self, value: Any, cls: type, depth: int) -> Weight:
        if depth >= self._depth:
            raise self._too_deep()
        self._known[id(value)] = (0, self._depth + 1, None)  # found again below: it holds itself
        weight, height, opaque = 1, 0, None
        for part in self._parts(value, cls):
            more, high, unknown = self.of(part, depth + 1)
            weight += more
            height = max(height, high)
            opaque = opaque or unknown
        if weight > self._limit:
            raise BadPickle(f"a pickle that holds more than {self._limit} bytes in all")
        if cls is VariableValue and opaque is not None:
            value.value, opaque = opaque, None
        found = self._known[id(value)] = (weight, height + 1, opaque)
        return found

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
