"""What Python's own unpickler makes of PyRogue's pickles: the judge of labnet's reader."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from labnet.wires.rogue.model import NodeInfo, RemoteException, VariableValue
from labnet.wires.rogue.pickles.nodes import build_value, node_info


class Value(VariableValue):
    """A VariableValue that Python's unpickler can fill."""

    def __init__(self) -> None:
        super().__init__(None)

    def __new__(cls, *args: Any) -> Any:
        value = object.__new__(cls)
        value.__init__()
        return value

    def __setstate__(self, state: Any) -> None:
        build_value(self, state)


class Exactly(pickle.Unpickler):
    """Reads what a real server sent, with stand-ins for PyRogue's own classes."""

    STAND_INS: dict[tuple[str, str], Any] = {
        ("pyrogue._Variable", "VariableValue"): Value,
        ("pyrogue.interfaces._Virtual", "VirtualFactory"): lambda fields: node_info(
            (dict(fields, nodes=dict(fields["nodes"])),)
        ),
        ("builtins", "Exception"): lambda text: RemoteException(text),
    }

    def find_class(self, module: str, name: str) -> Any:
        found = self.STAND_INS.get((module, name))
        return super().find_class(module, name) if found is None else found


def expected(body: bytes) -> Any:
    """The value of a recorded pickle by Python's unpickler."""
    return Exactly(io.BytesIO(body)).load()


def equal(one: Any, other: Any) -> bool:
    """Whether two values are the same, in kind too; NaN equals NaN."""
    if isinstance(one, np.ndarray):
        same = isinstance(other, np.ndarray) and one.dtype == other.dtype
        return same and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, NodeInfo):
        return one == other
    if isinstance(one, VariableValue):
        pairs = [(one.value, other.value), (one.enum, other.enum)]
        rest = ("value_disp", "disp", "updated", "status", "severity")
        same = all(getattr(one, name) == getattr(other, name) for name in rest)
        return same and all(equal(*pair) for pair in pairs)
    if isinstance(one, dict):
        if not isinstance(other, dict) or list(one) != list(other):
            return False
        return all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        same = type(one) is type(other) and len(one) == len(other)
        return same and all(map(equal, one, other))
    return type(one) is type(other) and (one == other or (one != one and other != other))
