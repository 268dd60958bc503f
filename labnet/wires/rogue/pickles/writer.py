"""Values, nodes, updates and exceptions as pickles of protocol 4, the way PyRogue writes them.

`dumps` gives the very bytes that CPython's pickler gives on a PyRogue server, under the names of
PyRogue's own classes, of which none need be there. Only what PyRogue's clients can read is written:
plain values, numpy's arrays and scalars, and the classes of `labnet.wires.rogue.model`.
"""

from __future__ import annotations

import enum
import pickle
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, ClassVar, Final

import numpy as np

from labnet.values import LabeledArray
from labnet.wires.rogue.model import NodeInfo, RemoteException, VariableValue

PROTOCOL: Final = 4
MAX_DEPTH: Final = 64
"""Lists and mappings within one another."""

_ATOMS: Final = frozenset({bool, int, float, str, bytes, type(None)})
_CLASSES: Final = frozenset({complex, OrderedDict, np.ndarray, np.dtype})
#: The functions that numpy's own pickles name.
_FUNCTIONS: Final = frozenset({np.empty(0).__reduce__()[0], np.float64().__reduce__()[0]})


class NotPlain(TypeError):
    """A value that this wire cannot carry; the text is for the user."""


class Global:
    """Something that a pickle names: its module and its name there."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name


VARIABLE_VALUE: Final = Global("pyrogue._Variable", "VariableValue")
VIRTUAL_FACTORY: Final = Global("pyrogue.interfaces._Virtual", "VirtualFactory")


def dumps(value: Any) -> bytes:
    """The pickle of a reply or an update; raises `NotPlain` for what cannot be carried."""
    if value.__class__ in _ATOMS:
        return pickle.dumps(value, PROTOCOL)
    out = BytesIO()
    try:
        _Pickler(out, PROTOCOL).dump(value)
    except (_Special, RecursionError):
        out = BytesIO()
        _NamingPickler(out, PROTOCOL).dump(plain_value(value))
    return out.getvalue()


def dumps_exception(text: str) -> bytes:
    """The pickle of an exception, which clients raise: ``module.name: what happened``."""
    return pickle.dumps(Exception(text), PROTOCOL)


def dumps_request(
    path: str, attr: str | None, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> bytes:
    """The pickle of a request; raises `NotPlain`."""
    return dumps({"path": path, "attr": attr, "args": tuple(args), "kwargs": dict(kwargs or {})})


def plain_value(value: Any, depth: int = MAX_DEPTH) -> Any:
    """`value` with what only Python knows replaced by what any client can read.

    Members of enumerations become their values, labelled arrays their data. Raises `NotPlain`.
    """
    kind = value.__class__
    if kind in _ATOMS or kind in _LEAVES:
        return value
    if not depth:
        raise NotPlain(f"the value is nested more than {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        items = ((plain_value(key), plain_value(item, depth - 1)) for key, item in value.items())
        return OrderedDict(items) if kind is OrderedDict else dict(items)
    if isinstance(value, list | tuple | set | frozenset):
        plain = [plain_value(item, depth - 1) for item in value]
        return tuple(plain) if isinstance(value, tuple) else plain
    return _plain_scalar(value)


_LEAVES: Final = frozenset({complex, NodeInfo, RemoteException, VariableValue})


def _plain_scalar(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return plain_value(value.value)
    if isinstance(value, LabeledArray):
        return plain_value(value.data)
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            return plain_value(value.tolist())
        return np.asarray(value)
    if isinstance(value, np.generic):
        return value if _is_plain_numpy(value) else plain_value(value.item())
    for kind, plain in _BASES:
        if isinstance(value, kind):
            return plain(value)
    raise NotPlain("the result is no plain value and cannot be sent")


_BASES: Final[tuple[tuple[type, Any], ...]] = (
    (int, int), (float, float), (complex, complex), (str, str), (bytes, bytes), (bytearray, bytes),
)  # fmt: skip


def _is_plain_numpy(value: Any) -> bool:
    """Whether numpy's own pickle of `value` names nothing but numpy."""
    if type(value) is np.ndarray or isinstance(value, np.generic):
        return not value.dtype.hasobject
    return isinstance(value, np.dtype) and not value.hasobject


class _Special(Exception):
    """A value that the quick pickler leaves to the other one."""


class _Pickler(pickle.Pickler):
    """CPython's own, for plain values and numpy; anything else is `_Special`."""

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if kind is type:
            known = value in _CLASSES or issubclass(value, np.dtype)
        elif kind in (complex, OrderedDict):
            known = True
        else:
            known = _is_plain_numpy(value) or (callable(value) and _is_known(value))
        if not known:
            raise _Special
        return NotImplemented


def _is_known(function: Any) -> bool:
    return any(function is known for known in _FUNCTIONS) or (
        isinstance(function, type) and (function in _CLASSES or issubclass(function, np.dtype))
    )


# The pickler that is written in Python: only there a class can be written under another's name.
_PYTHON_PICKLER: Any = pickle._Pickler


class _NamingPickler(_PYTHON_PICKLER):  # type: ignore[misc]
    """Writes the classes of the model under PyRogue's names; gets what `plain_value` gives."""

    dispatch: ClassVar[dict[Any, Any]] = dict(_PYTHON_PICKLER.dispatch)

    def _name(self, what: Global) -> None:
        self.save(what.module)
        self.save(what.name)
        self.write(pickle.STACK_GLOBAL)
        self.memoize(what)

    def _variable_value(self, value: VariableValue) -> None:
        self.save(VARIABLE_VALUE)
        self.save(())
        self.write(pickle.NEWOBJ)
        self.memoize(value)
        enum = None if value.enum is None else plain_value(value.enum)
        state = {
            "value": plain_value(value.value), "valueDisp": value.value_disp, "disp": value.disp,
            "enum": enum, "updated": value.updated, "status": value.status,
            "severity": value.severity,
        }  # fmt: skip
        self.save(state)
        self.write(pickle.BUILD)

    def _node(self, node: NodeInfo) -> None:
        funcs = {
            name: {"args": list(func.args), "kwargs": list(func.kwargs)}
            for name, func in node.funcs.items()
        }
        described = {
            "name": node.name, "class": node.class_name, "bases": list(node.bases),
            "description": node.description, "groups": list(node.groups), "path": node.path,
            "expand": node.expand, "guiGroup": node.gui_group,
            "nodes": OrderedDict.fromkeys(node.nodes), "props": list(node.props), "funcs": funcs,
        }  # fmt: skip
        self.save(VIRTUAL_FACTORY)
        self.save((described,))
        self.write(pickle.REDUCE)
        self.memoize(node)

    def _exception(self, error: RemoteException) -> None:
        self.save_reduce(Exception, (error.text,), obj=error)

    dispatch[Global] = _name
    dispatch[VariableValue] = _variable_value
    dispatch[NodeInfo] = _node
    dispatch[RemoteException] = _exception
