"""The opcodes that push a number, a text, bytes or a constant."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from labnet.wires.rogue.pickles.bounds import MAX_DIGITS, MAX_NUMBER, BadPickle, truncated
from labnet.wires.rogue.pickles.machine import Machine
from labnet.wires.rogue.pickles.table import TABLE, opcode

MEMOIZE: Final = 0x94

Numbers = Callable[[bytes, int], tuple[int]]

_INT: Numbers = struct.Struct("<i").unpack_from
_UINT: Numbers = struct.Struct("<I").unpack_from
_LONG_COUNT: Numbers = struct.Struct("<Q").unpack_from
_FLOAT: Callable[[bytes, int], tuple[float]] = struct.Struct(">d").unpack_from


def count(data: bytes, at: int) -> int:
    """A count of four bytes, low byte first."""
    return _UINT(data, at)[0]


def long_count(data: bytes, at: int) -> int:
    """A count of eight bytes, low byte first."""
    return _LONG_COUNT(data, at)[0]


# Constants.


def _constant(code: bytes, value: Any) -> None:
    def push(machine: Machine, at: int) -> int:
        machine.stack.append(value)
        return at

    TABLE[code[0]] = push


_constant(b"N", None)
_constant(b"\x88", True)
_constant(b"\x89", False)
_constant(b")", ())


# Numbers.


@opcode(b"K")
def _binint1(machine: Machine, at: int) -> int:
    machine.stack.append(machine.data[at])
    return at + 1


@opcode(b"M")
def _binint2(machine: Machine, at: int) -> int:
    machine.stack.append(machine.data[at] | machine.data[at + 1] << 8)
    return at + 2


@opcode(b"J")
def _binint(machine: Machine, at: int) -> int:
    machine.stack += _INT(machine.data, at)
    return at + 4


@opcode(b"G")
def _binfloat(machine: Machine, at: int) -> int:
    machine.stack += _FLOAT(machine.data, at)
    return at + 8


@opcode(b"\x8a")
def _long1(machine: Machine, at: int) -> int:
    return _long(machine, at + 1, machine.data[at])


@opcode(b"\x8b")
def _long4(machine: Machine, at: int) -> int:
    return _long(machine, at + 4, _INT(machine.data, at)[0])


def _long(machine: Machine, at: int, size: int) -> int:
    if not 0 <= size <= MAX_NUMBER:
        raise BadPickle(f"a number of more than {MAX_NUMBER} bytes")
    machine.stack.append(int.from_bytes(machine.data[at : at + size], "little", signed=True))
    return at + size


@opcode(b"I")
def _int_line(machine: Machine, at: int) -> int:
    text, at = machine.line(at, MAX_DIGITS)
    machine.stack.append(text == "01" if text in ("00", "01") else int(text))
    return at


@opcode(b"L")
def _long_line(machine: Machine, at: int) -> int:
    text, at = machine.line(at, MAX_DIGITS)
    machine.stack.append(int(text.removesuffix("L")))
    return at


@opcode(b"F")
def _float_line(machine: Machine, at: int) -> int:
    text, at = machine.line(at, MAX_DIGITS)
    machine.stack.append(float(text))
    return at


# Texts and bytes. A slice that ends too late is short; the next step then finds no opcode.


@opcode(b"\x8c")
def _short_text(machine: Machine, at: int) -> int:
    data = machine.data
    end = at + 1 + data[at]
    text = data[at + 1 : end].decode()
    machine.stack.append(text)
    if data[end] == MEMOIZE:  # nearly always, and it saves a step
        memo = machine.memo
        memo[len(memo)] = text
        return end + 1
    return end


@opcode(b"X")
def _text(machine: Machine, at: int) -> int:
    end = at + 4 + count(machine.data, at)
    machine.stack.append(_whole_text(machine, at + 4, end))
    return end


@opcode(b"\x8d")
def _long_text(machine: Machine, at: int) -> int:
    end = at + 8 + long_count(machine.data, at)
    machine.stack.append(_whole_text(machine, at + 8, end))
    return end


def _whole_text(machine: Machine, start: int, end: int) -> str:
    if end > len(machine.data):
        raise truncated()
    return machine.text(start, end)


@opcode(b"V")
def _text_line(machine: Machine, at: int) -> int:
    end = machine.data.find(b"\n", at)
    if end < 0:
        raise truncated()
    text = str(machine.data[at:end], "raw-unicode-escape")
    text.encode()  # ValueError for halves of a character
    machine.stack.append(text)
    return end + 1


@opcode(b"C")
def _short_bytes(machine: Machine, at: int) -> int:
    end = at + 1 + machine.data[at]
    machine.stack.append(machine.data[at + 1 : end])
    return end


@opcode(b"B")
def _bytes(machine: Machine, at: int) -> int:
    end = at + 4 + count(machine.data, at)
    machine.stack.append(machine.data[at + 4 : end])
    return end


@opcode(b"\x8e")
def _long_bytes(machine: Machine, at: int) -> int:
    end = at + 8 + long_count(machine.data, at)
    machine.stack.append(machine.data[at + 8 : end])
    return end


@opcode(b"\x96")
def _long_bytearray(machine: Machine, at: int) -> int:
    end = at + 8 + long_count(machine.data, at)
    machine.stack.append(bytearray(machine.data[at + 8 : end]))
    machine.doubtful = True
    return end


@opcode(b"U")
def _short_ascii(machine: Machine, at: int) -> int:
    end = at + 1 + machine.data[at]
    machine.stack.append(str(machine.data[at + 1 : end], "ascii"))
    return end


@opcode(b"T")
def _ascii(machine: Machine, at: int) -> int:
    size = _INT(machine.data, at)[0]
    if size < 0:
        raise BadPickle("a text of less than nothing")
    end = at + 4 + size
    machine.stack.append(str(machine.data[at + 4 : end], "ascii"))
    return end
