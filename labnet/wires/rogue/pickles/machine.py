"""The state while a pickle is read: its stack and memo, and what may be put into what."""

from __future__ import annotations

from typing import Any

import numpy as np

from labnet.wires.rogue.model import Func, NodeInfo, RemoteException
from labnet.wires.rogue.pickles.arrays import Array
from labnet.wires.rogue.pickles.bounds import MAX_ODD_KEYS, BadPickle, truncated
from labnet.wires.rogue.pickles.names import FROZENSET, SET, Name, Names, Opaque

_STR = frozenset({str})
_SCALARS = frozenset({str, bytes, bool, int, float, complex, type(None)})
_HASHES_OF_THEIR_OWN = frozenset({str, bytes, bool, type(None)})
"""Whose hashes a peer cannot choose."""


class Machine:
    """The state while one pickle is read."""

    __slots__ = (
        "data", "doubtful", "memo", "names", "odd_keys", "outer", "spent", "stack", "weight",
    )  # fmt: skip

    def __init__(self, data: bytes, names: Names, weight: int) -> None:
        self.data = data
        self.weight = weight
        self.spent = 0
        self.names = names
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.odd_keys = 0
        self.doubtful = False
        """Whether the result may hold something twice, or something that is no value."""

    def result(self) -> Any:
        """The value, once the pickle has been read to its end."""
        if self.outer or len(self.stack) != 1:
            raise BadPickle("a pickle that ends with something left over")
        return self.stack.pop()

    # What handlers share.

    def since_mark(self) -> list[Any]:
        """Takes what was pushed since the last mark."""
        items = self.stack
        if not self.outer:
            raise BadPickle("a pickle with an end of a list that never began")
        self.stack = self.outer.pop()
        return items

    def text(self, start: int, end: int) -> str:
        """UTF-8 text of the pickle."""
        return self.data[start:end].decode()

    def line(self, at: int, limit: int) -> tuple[str, int]:
        """A line of ASCII that begins at `at`, and where the next one begins."""
        end = self.data.find(b"\n", at, at + limit + 1)
        if end < 0:
            if len(self.data) - at <= limit:
                raise truncated()
            raise BadPickle(f"a line of more than {limit} characters in a pickle")
        return str(self.data[at:end], "ascii"), end + 1

    def again(self, value: Any) -> Any:
        """A value out of the memo that is no text."""
        if value.__class__ is Array:
            if value.array is None:
                raise BadPickle("an array that holds itself")
            value = value.array
        if value.__class__ not in _SCALARS:
            self.doubtful = True
        return value

    def check_key(self, key: Any) -> None:
        """Whether `key` may be a key of a mapping or a member of a set."""
        cls = key.__class__
        if cls in _HASHES_OF_THEIR_OWN or (cls is int and -(1 << 60) < key < 1 << 60):
            return
        self.odd_keys += 1
        if self.odd_keys > MAX_ODD_KEYS:
            raise BadPickle(f"a pickle with more than {MAX_ODD_KEYS} keys that are no texts")
        parts = key if cls is tuple else (key,)
        if len(parts) > 64 or not _SCALARS.issuperset(map(type, parts)):
            raise BadPickle("a mapping has texts and numbers as keys")

    def fill(self, target: Any, items: list[Any]) -> None:
        """Puts keys and values, one after the other, into a mapping."""
        if target.__class__ is not dict:
            ignore(target, "a mapping")
            return
        keys, values = items[::2], items[1::2]
        if len(keys) != len(values):
            raise BadPickle("odd number of items for SETITEMS")
        if not _STR.issuperset(map(type, keys)):
            for key in keys:
                self.check_key(key)
        target.update(zip(keys, values, strict=True))

    def members(self, items: list[Any]) -> list[Any]:
        """Checks what is to become the members of a set."""
        for item in items:
            self.check_key(item)
        return items

    def named(self, module: str, name: str) -> Name:
        """What stands for a name out of the pickle."""
        self.doubtful = True
        return self.names.find(module, name)

    def charge(self, size: int) -> None:
        """Counts what calls make anew, perhaps of one and the same text or list."""
        self.spent += size
        if self.spent > self.weight:
            raise BadPickle(f"a pickle that holds more than {self.weight} bytes in all")

    def called(self, name: Any, args: Any) -> Any:
        """The result of calling what `name` stands for."""
        if name.__class__ is not Name or name.call is None or type(args) is not tuple:
            raise BadPickle("a call of something that cannot be called")
        result = name.call(args)
        self.charge(_size(result))
        if name is SET or name is FROZENSET:
            return (set if name is SET else frozenset)(self.members(result))
        return result

    def made(self, name: Any, args: Any, kwargs: Any) -> Any:
        """A new object of the class that `name` stands for."""
        if name.__class__ is not Name or name.new is None or type(args) is not tuple or kwargs:
            raise BadPickle("an object of something that is no class")
        result = name.new(args)
        self.charge(_size(result))
        return result


def _size(result: Any) -> int:
    """Bytes that a call has taken, or is about to take for a set."""
    if isinstance(result, bytes | bytearray):
        return len(result)
    if isinstance(result, NodeInfo):
        lists = (result.nodes, result.props, result.bases, result.groups)
        return 8 * (sum(map(len, lists)) + sum(map(_length, result.funcs.values())))
    if isinstance(result, RemoteException):
        return len(result.text)
    if isinstance(result, np.generic):
        return result.nbytes
    return 32 * len(result) if isinstance(result, list) else 0


def _length(func: Func) -> int:
    return len(func.args) + len(func.kwargs)


def ignore(target: Any, kind: str) -> None:
    """An opaque object takes everything; nothing else does."""
    if target.__class__ is not Opaque:
        raise BadPickle(f"something is put into a value that is not {kind}")
