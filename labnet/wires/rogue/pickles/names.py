"""The names that a pickle may use: exact pairs of module and name, and what stands for each.

Nothing is imported or called by a name out of a pickle. Each name that is allowed is a row of a
table whose functions are labnet's own; every other one is refused or, for a client, stands for a
value that it cannot know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from labnet.errors import shorten
from labnet.wires.rogue.model import RemoteException, VariableValue
from labnet.wires.rogue.pickles import arrays
from labnet.wires.rogue.pickles.bounds import BadPickle, RefusedName
from labnet.wires.rogue.pickles.nodes import node_info

MAX_TEXT = 10_000
"""Characters of each argument of an exception that are kept."""

Call = Callable[[tuple[Any, ...]], Any]


class Name:
    """A name that is allowed: what calling it (REDUCE) and making one of it (NEWOBJ) give."""

    __slots__ = ("call", "new", "text")

    def __init__(self, text: str, call: Call | None = None, new: Call | None = None) -> None:
        self.text = text
        self.call = call
        self.new = new


class Opaque:
    """An object of a class that this client does not know: only the class's name is kept."""

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<{self.kind}>"


def _complex(args: tuple[Any, ...]) -> complex:
    if len(args) != 2 or not all(type(part) in (float, int) for part in args):
        raise BadPickle("a complex number is made of two numbers")
    return complex(*args)


def _mapping(args: tuple[Any, ...]) -> dict[Any, Any]:
    if args:
        raise BadPickle("an OrderedDict begins empty")
    return {}


def _bytes(args: tuple[Any, ...]) -> bytes:
    if args:
        raise BadPickle("bytes are not made by a call")
    return b""


def _bytearray(args: tuple[Any, ...]) -> bytearray:
    if len(args) == 1 and isinstance(args[0], bytes):
        return bytearray(args[0])
    return bytearray(arrays.encoded(args) if args else b"")


def _members(args: tuple[Any, ...]) -> list[Any]:
    """The members of a set; the machine makes the set, as it knows what may be in one."""
    if len(args) != 1 or not isinstance(args[0], list):
        raise BadPickle("a set is made of one list")
    return args[0]


def _variable_value(args: tuple[Any, ...]) -> VariableValue:
    if args:
        raise BadPickle("a VariableValue is made without arguments")
    return VariableValue(None)


def _exception(kind: str) -> Name:
    def make(args: tuple[Any, ...]) -> RemoteException:
        texts = (arg if isinstance(arg, str) else repr(arg) for arg in args[:10] if plain(arg))
        return RemoteException(", ".join(text[:MAX_TEXT] for text in texts), kind)

    return Name(kind, make, make)


def plain(value: Any) -> bool:
    """Whether a value is one whose text can be shown: no container, no object."""
    return isinstance(value, str | int | float)


def _refused(module: str, name: str) -> Name:
    raise RefusedName(module, name)


def _unknown(module: str, name: str) -> Name:
    """For a client: errors of any class are errors, all else is opaque."""
    kind = shorten(f"{module}.{name}")
    if name.endswith(("Error", "Exception")):
        return _exception(kind)

    def make(args: tuple[Any, ...]) -> Opaque:
        return Opaque(kind)

    return Name(kind, make, make)


Table = Mapping[tuple[str, str], Name]

SET = Name("set", _members)
FROZENSET = Name("frozenset", _members)
NDARRAY = Name("numpy.ndarray")


def _reconstruct(args: tuple[Any, ...]) -> arrays.Array:
    if not args or args[0] is not NDARRAY:
        raise BadPickle("only a plain array is allowed in a pickle")
    return arrays.reconstruct(args)


def _values() -> dict[tuple[str, str], Name]:
    """What plain values, of Python and of numpy 1 and 2, are made of."""
    table = {
        ("numpy", "ndarray"): NDARRAY,
        ("numpy", "dtype"): Name("numpy.dtype", arrays.DType),
        ("collections", "OrderedDict"): Name("OrderedDict", _mapping),
        ("_codecs", "encode"): Name("encode", arrays.encoded),
    }
    for core in ("numpy._core", "numpy.core"):
        table[f"{core}.multiarray", "_reconstruct"] = Name("_reconstruct", _reconstruct)
        table[f"{core}.multiarray", "scalar"] = Name("scalar", arrays.scalar)
        table[f"{core}.numeric", "_frombuffer"] = Name("_frombuffer", arrays.from_buffer)
    for module in ("builtins", "__builtin__"):  # the latter in protocols 0 to 2
        table[module, "complex"] = Name("complex", _complex)
        table[module, "set"] = SET
        table[module, "frozenset"] = FROZENSET
        table[module, "bytes"] = Name("bytes", _bytes)
        table[module, "bytearray"] = Name("bytearray", _bytearray)
    return table


class Names:
    """A list of allowed names, and what becomes of all others."""

    def __init__(self, table: Table, otherwise: Callable[[str, str], Name]) -> None:
        self._table = dict(table)
        self._otherwise = otherwise

    def find(self, module: str, name: str) -> Name:
        """What stands for a name; `RefusedName` where nothing does."""
        found = self._table.get((module, name))
        return self._otherwise(module, name) if found is None else found


REQUESTS = Names(_values(), _refused)
"""What a client may send to a server: plain values."""

REPLIES = Names(
    {
        **_values(),
        ("builtins", "Exception"): _exception("builtins.Exception"),
        ("pyrogue._Variable", "VariableValue"): Name("VariableValue", new=_variable_value),
        ("pyrogue.interfaces._Virtual", "VirtualFactory"): Name("VirtualFactory", node_info),
    },
    _unknown,
)
"""What a server may send to a client: plain values, errors, updates and nodes."""
