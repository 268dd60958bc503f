"""Requests in the shape that CPython's pickler gives to nearly all of them, read in one go.

The shape is that of ``pickle.dumps({"path": ..., "attr": ..., "args": ..., "kwargs": {}}, 4)`` with
short texts and at most one argument, a number, truth value, None or short text. Whatever has any
other shape is left to the reader of pickles: no opcode is interpreted here.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final

_FLOAT: Final = Struct(">d").unpack_from
_START: Final = b"}\x94(\x8c\x04path\x94\x8c"
_ATTR: Final = b"\x94\x8c\x04attr\x94\x8c"
_ARGS: Final = b"\x94\x8c\x04args\x94"
_END: Final = b"\x8c\x06kwargs\x94}\x94u."
_ONE: Final = b"\x85\x94" + _END
"""The end of a tuple of one, and then the end of the request."""

_WHOLE: Final = {
    b")" + _END: (),
    b"N" + _ONE: (None,),
    b"\x88" + _ONE: (True,),
    b"\x89" + _ONE: (False,),
}
_SIZES: Final = {len(_ONE) + 9: ord("G"), len(_ONE) + 2: ord("K"), len(_ONE) + 5: ord("J")}


def quick_request(body: bytes) -> tuple[str, str, tuple[Any, ...]] | None:
    """Path, attribute and arguments; None for a request of any other shape."""
    if len(body) < 64 or body[:3] != b"\x80\x04\x95" or body[11:22] != _START:
        return None
    if int.from_bytes(body[3:11], "little") != len(body) - 11:
        return None
    at = 23 + body[22]
    after = at + len(_ATTR)
    if body[at:after] != _ATTR or len(body) <= after:
        return None
    end = after + 1 + body[after]
    if body[end : end + len(_ARGS)] != _ARGS:
        return None
    args = _arguments(body[end + len(_ARGS) :])
    if args is None:
        return None
    try:
        return body[23:at].decode(), body[after + 1 : end].decode(), args
    except UnicodeDecodeError:
        return None


def _arguments(rest: bytes) -> tuple[Any, ...] | None:
    found = _WHOLE.get(rest)
    if found is not None:
        return found
    if not rest.endswith(_ONE):
        return None
    first = rest[0]
    if _SIZES.get(len(rest)) == first:
        if first == 0x47:  # BINFLOAT
            return _FLOAT(rest, 1)
        size = len(rest) - len(_ONE)  # BININT1 has no sign, BININT has one
        return (int.from_bytes(rest[1:size], "little", signed=first == 0x4A),)
    if first == 0x8C and len(rest) == rest[1] + 3 + len(_ONE) and rest[2 + rest[1]] == 0x94:
        try:
            return (rest[2 : 2 + rest[1]].decode(),)
        except UnicodeDecodeError:
            return None
    return None
