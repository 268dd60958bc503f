"""The reply to ``nodes``: many nodes in one pickle, what they have in common written once.

CPython's pickler takes some 100 us a node, as PyRogue's classes are not there to be named. Here the
opcodes are joined directly, with a memo by value instead of by identity, so that a node takes a
few microseconds and about 150 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from labnet.wires.rogue.model import Func, NodeInfo
from labnet.wires.rogue.pickles.fragments import text

_ORDERED: Final = ("global", "OrderedDict")
_FACTORY: Final = ("global", "VirtualFactory")


def dumps_nodes(nodes: Iterable[NodeInfo]) -> bytes:
    """The pickle of an OrderedDict from names to nodes."""
    pool = _Pool()
    ordered = pool.define(_ORDERED, text("collections") + text("OrderedDict") + b"\x93")
    items = [pool.node(node) for node in nodes]
    empty = ordered + b")R"
    body = b"(" + b"".join(items) + b"u" if items else b""
    return b"\x80\x04" + b"".join(pool.definitions) + empty + body + b"."


class _Pool:
    """What is used more than once, and how to fetch it from the memo.

    `definitions` puts each into the memo: it is pushed, memoized and popped again.
    """

    def __init__(self) -> None:
        self.definitions: list[bytes] = []
        self._gets: dict[Any, bytes] = {}
        self._kept: list[Mapping[str, Func]] = []

    def define(self, key: Any, opcodes: bytes) -> bytes:
        """Gives `key` a place in the memo; the opcodes that fetch it."""
        number = len(self.definitions)
        self.definitions.append(opcodes + b"\x940")  # MEMOIZE POP
        get = b"h%c" % number if number < 256 else b"j" + number.to_bytes(4, "little")
        self._gets[key] = get
        return get

    def text(self, value: str) -> bytes:
        """A text that other nodes have, too."""
        return self._gets.get(value) or self.define(value, text(value))

    def texts(self, values: Sequence[str]) -> bytes:
        """A list that other nodes have, too."""
        key = ("list", tuple(values))
        return self._gets.get(key) or self.define(key, b"](" + self._joined(values) + b"e")

    def funcs(self, funcs: Mapping[str, Func]) -> bytes:
        """The functions of a node, which all nodes of its kind share."""
        key = ("funcs", id(funcs))
        found = self._gets.get(key)
        if found is None:
            items = b"".join(self.text(name) + self._func(func) for name, func in funcs.items())
            found = self.define(key, b"}(" + items + b"u")
            self._kept.append(funcs)  # so that its id stays its own
        return found

    def _func(self, func: Func) -> bytes:
        args, kwargs = self._list(func.args), self._list(func.kwargs)
        return b"}(" + self.text("args") + args + self.text("kwargs") + kwargs + b"u"

    def _list(self, values: Sequence[str]) -> bytes:
        return b"](" + self._joined(values) + b"e" if values else b"]"

    def _joined(self, values: Iterable[str]) -> bytes:
        return b"".join(map(self.text, values))

    def node(self, node: NodeInfo) -> bytes:
        """One item of the mapping: the name and the node."""
        name = text(node.name)
        key = self.text
        children = b"".join(text(child) + b"N" for child in node.nodes)
        gui_group = b"N" if node.gui_group is None else text(node.gui_group)
        return b"".join((
            name, self.factory(), b"}(",
            key("name"), name,
            key("class"), key(node.class_name),
            key("bases"), self.texts(node.bases),
            key("description"), text(node.description),
            key("groups"), self._list(node.groups),
            key("path"), text(node.path),
            key("expand"), b"\x88" if node.expand else b"\x89",
            key("guiGroup"), gui_group,
            key("nodes"), self._gets[_ORDERED], b")R",
            b"(" + children + b"u" if children else b"",
            key("props"), self.texts(node.props),
            key("funcs"), self.funcs(node.funcs),
            b"u\x85R",
        ))  # fmt: skip

    def factory(self) -> bytes:
        """What makes a node of a mapping."""
        return self._gets.get(_FACTORY) or self.define(
            _FACTORY, text("pyrogue.interfaces._Virtual") + text("VirtualFactory") + b"\x93"
        )
