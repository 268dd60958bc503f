"""The table from opcodes of pickles to what labnet does for each; all are refused at first."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from labnet.wires.rogue.pickles.bounds import BadPickle
from labnet.wires.rogue.pickles.machine import Machine

Handler = Callable[[Machine, int], int]
"""Takes the machine and where the opcode's argument begins; gives where the next opcode is."""


def _unknown(machine: Machine, at: int) -> NoReturn:
    key = machine.data[at - 1]
    shown = chr(key) if 0x20 < key < 0x7F else f"\\x{key:02x}"
    raise BadPickle(f"invalid load key, '{shown}'.")


TABLE: list[Handler] = [_unknown] * 256


def opcode(code: bytes) -> Callable[[Handler], Handler]:
    """Enters the function below as the handler of an opcode."""

    def enter(handler: Handler) -> Handler:
        TABLE[code[0]] = handler
        return handler

    return enter


def _refuse(code: bytes, what: str) -> None:
    def refused(machine: Machine, at: int) -> NoReturn:
        raise BadPickle(f"{what} is not allowed in a pickle")

    TABLE[code[0]] = refused


for _code, _what in (
    (b"P", "a persistent id"), (b"Q", "a persistent id"), (b"\x82", "an extension code"),
    (b"\x83", "an extension code"), (b"\x84", "an extension code"), (b"i", "an instance"),
    (b"o", "an instance"), (b"\x97", "an out-of-band buffer"),
    (b"\x98", "an out-of-band buffer"),
):  # fmt: skip
    _refuse(_code, _what)
