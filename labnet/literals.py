"""Values as Python or JSON literals: read without running anything, written as they are read."""

from __future__ import annotations

import ast
import enum
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from labnet.errors import WrongType

#: No text longer than this is parsed as a list, array or mapping.
MAX_LITERAL = 1 << 20
#: From this length on a list or mapping has to be JSON, which is much faster to read.
MAX_PYTHON_LITERAL = 1 << 18
#: The longest whole number, in bits: far beyond any instrument, and still quick to write out.
MAX_BITS = 4096
#: Lists within lists that are written out.
MAX_NESTING = 32


def plain(value: Any) -> Any:
    """`value` with numpy scalars and enum members replaced by what they stand for."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, enum.Enum):
        return value.value
    return value


def text_of(value: Any) -> str:
    """`value` as text; an object without a text of its own is named by its class alone."""
    value = plain(value)
    if isinstance(value, type):
        return f"({value.__name__})"
    try:
        text = str(value)
    except Exception:  # the author's own code
        text = object.__repr__(value)
    return f"({type(value).__name__})" if text == object.__repr__(value) else text


def written(value: Any, depth: int = MAX_NESTING) -> str:
    """`value` as the text that `literal` reads, without numpy's own words in it."""
    value = plain(value)
    if hasattr(value, "__array__"):
        value = np.asarray(value).tolist()
    if isinstance(value, list | tuple | Mapping):
        if not depth:
            return "..."
        inner = partial(written, depth=depth - 1)
        if isinstance(value, list):
            return "[" + ", ".join(map(inner, value)) + "]"
        if isinstance(value, tuple):
            return "(" + ", ".join(map(inner, value)) + (",)" if len(value) == 1 else ")")
        items = (f"{inner(key)}: {inner(item)}" for key, item in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        return hex(value)
    if isinstance(value, str | bytes | bytearray):
        return repr(value)
    return text_of(value)


def text_size(value: Any) -> int:
    """Bytes that numpy would take for the texts in a list: as many as the longest, for each."""
    longest = count = 0
    for item in _leaves(value, 8):
        count += 1
        if isinstance(item, str | bytes):
            longest = max(longest, len(item))
    return 4 * longest * count


def _leaves(value: Any, depth: int) -> Iterator[Any]:
    if depth and isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item, depth - 1)
    else:
        yield value


#: What JSON and numpy write and Python does not.
_NAMES: Mapping[str, Any] = {
    "nan": float("nan"), "inf": float("inf"), "infinity": float("inf"),
    "infj": complex(0, float("inf")), "nanj": complex(0, float("nan")),
    "true": True, "false": False, "null": None,
}  # fmt: skip
_HUGE = re.compile(rf"0[xXoObB][0-9a-fA-F_]{{{MAX_BITS // 4}}}")


class _Named(ast.NodeTransformer):
    """Puts the values of `_NAMES` in the place of the names."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        value = _NAMES.get(node.id.lower(), node)
        return node if value is node else ast.copy_location(ast.Constant(value), node)


def literal(text: str, what: str, kind: str) -> Any:
    """The Python or JSON literal that `text` writes; nothing in it is ever run."""
    if len(text) > MAX_LITERAL:
        raise WrongType(what, text, f"{kind} of at most {MAX_LITERAL} characters")
    text = text.strip()
    try:
        if len(text) > MAX_PYTHON_LITERAL:
            return json.loads(text)
        if _HUGE.search(text):
            raise ValueError("too long a number")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a peer's odd backslashes are not ours to report
            return ast.literal_eval(_Named().visit(ast.parse(text, mode="eval")))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise WrongType(what, text, kind) from None
