"""Pickles of PyRogue read safely: by an exact list of names, within bounds, running nothing.

Python's own unpickler imports and calls what a pickle names. Here an interpreter of labnet's own
makes plain values of Python and numpy and the objects of `labnet.wires.rogue.model`; a name is only
ever a key of a table.
"""

from __future__ import annotations

from typing import Any, Final

from labnet.wires.rogue.pickles.bounds import REPLY, REQUEST, BadPickle, Bounds, RefusedName
from labnet.wires.rogue.pickles.machine import Machine
from labnet.wires.rogue.pickles.names import REPLIES, REQUESTS, Names, Opaque
from labnet.wires.rogue.pickles.opcodes import run
from labnet.wires.rogue.pickles.weight import check_weight

__all__ = ["BadPickle", "Bounds", "Opaque", "RefusedName", "read_reply", "read_request"]

FEW_STEPS: Final = 64
"""A pickle of no more steps is not nested deeper than that."""
FEW_BYTES: Final = 1024


def read_request(data: bytes, bounds: Bounds = REQUEST) -> Any:
    """What a client sent: plain values; `BadPickle` for everything else.

    An OrderedDict is read as a dict; arrays are read-only; numbers of numpy stay such. Raises
    `RefusedName`, a BadPickle, for a pickle that names anything outside the list.
    """
    return _read(data, REQUESTS, bounds)


def read_reply(data: bytes, bounds: Bounds = REPLY) -> Any:
    """What a server sent: a plain value, a `NodeInfo` or a dict of them, a `VariableValue` or a
    dict of them, or a `RemoteException`; `BadPickle` for what is no pickle.

    An exception of any class is read as a `RemoteException`. A value that is, or holds, an object
    of any other class is an `Opaque`, alone or as the `value` of its `VariableValue`.
    """
    return _read(data, REPLIES, bounds)


def _read(data: bytes, names: Names, bounds: Bounds) -> Any:
    if len(data) > bounds.size:
        raise BadPickle(f"a pickle of more than {bounds.size} bytes")
    machine = Machine(data, names, bounds.weight)
    value, steps = run(machine, bounds)
    if machine.doubtful or steps > FEW_STEPS or len(data) > FEW_BYTES:
        return check_weight(value, bounds)
    return value
