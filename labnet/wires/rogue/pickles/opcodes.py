"""Reads a pickle step by step, without Python's own unpickler: nothing in it can run anything.

The opcodes are those that ``pickletools`` in the standard library describes (protocols 0 to 5).
Persistent ids, extension codes, out-of-band buffers and the instances of protocol 0 are refused.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from labnet.errors import shorten
from labnet.wires.rogue.model import RemoteException, VariableValue
from labnet.wires.rogue.pickles import atoms
from labnet.wires.rogue.pickles.arrays import Array, DType
from labnet.wires.rogue.pickles.bounds import MAX_NAME, BadPickle, Bounds, truncated
from labnet.wires.rogue.pickles.machine import Machine, ignore
from labnet.wires.rogue.pickles.nodes import build_value
from labnet.wires.rogue.pickles.table import TABLE, opcode

STOP: Final = 0x2E
MAX_PROTOCOL: Final = 5
MAX_MARKS: Final = 256


def run(machine: Machine, bounds: Bounds) -> tuple[Any, int]:
    """Reads the pickle to its end: the value, and how many steps it took."""
    data, table = machine.data, TABLE
    at = 0
    try:
        for steps in range(bounds.opcodes):
            code = data[at]
            if code == STOP:
                return machine.result(), steps
            at = table[code](machine, at + 1)
    except IndexError:
        if at + 1 >= len(data):
            raise truncated() from None
        raise BadPickle("unpickling stack underflow") from None
    except struct.error:
        raise truncated() from None
    except (ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
        if isinstance(error, BadPickle):
            raise
        raise BadPickle("a damaged pickle") from None
    raise BadPickle(f"a pickle of more than {bounds.opcodes} steps")


# Frame and protocol.


@opcode(b"\x80")
def _proto(machine: Machine, at: int) -> int:
    if machine.data[at] > MAX_PROTOCOL:
        raise BadPickle(f"unsupported pickle protocol: {machine.data[at]}")
    return at + 1


@opcode(b"\x95")
def _frame(machine: Machine, at: int) -> int:
    if atoms.long_count(machine.data, at) > len(machine.data) - at - 8:
        raise truncated()
    return at + 8


# Containers.


@opcode(b"(")
def _mark(machine: Machine, at: int) -> int:
    if len(machine.outer) >= MAX_MARKS:
        raise BadPickle(f"a pickle with more than {MAX_MARKS} lists begun in each other")
    machine.outer.append(machine.stack)
    machine.stack = []
    return at


@opcode(b"]")
def _empty_list(machine: Machine, at: int) -> int:
    machine.stack.append([])
    return at


@opcode(b"}")
def _empty_dict(machine: Machine, at: int) -> int:
    machine.stack.append({})
    return at


@opcode(b"\x8f")
def _empty_set(machine: Machine, at: int) -> int:
    machine.stack.append(set())
    return at


@opcode(b"l")
def _list(machine: Machine, at: int) -> int:
    items = machine.since_mark()
    machine.stack.append(items)
    return at


@opcode(b"d")
def _dict(machine: Machine, at: int) -> int:
    items = machine.since_mark()
    mapping: dict[Any, Any] = {}
    machine.fill(mapping, items)
    machine.stack.append(mapping)
    return at


@opcode(b"t")
def _tuple(machine: Machine, at: int) -> int:
    items = machine.since_mark()
    machine.stack.append(tuple(items))
    return at


@opcode(b"\x91")
def _frozenset(machine: Machine, at: int) -> int:
    items = machine.members(machine.since_mark())
    machine.stack.append(frozenset(items))
    return at


def _tuple_of(code: bytes, count: int) -> None:
    def push(machine: Machine, at: int) -> int:
        stack = machine.stack
        if len(stack) < count:
            raise IndexError
        stack[-count:] = [tuple(stack[-count:])]
        return at

    TABLE[code[0]] = push


_tuple_of(b"\x85", 1)
_tuple_of(b"\x86", 2)
_tuple_of(b"\x87", 3)


@opcode(b"a")
def _append(machine: Machine, at: int) -> int:
    item = machine.stack.pop()
    target = machine.stack[-1]
    if target.__class__ is list:
        target.append(item)
    else:
        ignore(target, "a list")
    return at


@opcode(b"e")
def _appends(machine: Machine, at: int) -> int:
    items = machine.since_mark()
    target = machine.stack[-1]
    if target.__class__ is list:
        target += items
    else:
        ignore(target, "a list")
    return at


@opcode(b"s")
def _setitem(machine: Machine, at: int) -> int:
    value = machine.stack.pop()
    key = machine.stack.pop()
    machine.fill(machine.stack[-1], [key, value])
    return at


@opcode(b"u")
def _setitems(machine: Machine, at: int) -> int:
    items = machine.since_mark()
    machine.fill(machine.stack[-1], items)
    return at


@opcode(b"\x90")
def _additems(machine: Machine, at: int) -> int:
    items = machine.members(machine.since_mark())
    target = machine.stack[-1]
    if target.__class__ is set:
        target.update(items)
    else:
        ignore(target, "a set")
    return at


# The stack and the memo.


@opcode(b"0")
def _pop(machine: Machine, at: int) -> int:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.since_mark()
    return at


@opcode(b"1")
def _pop_mark(machine: Machine, at: int) -> int:
    machine.since_mark()
    return at


@opcode(b"2")
def _dup(machine: Machine, at: int) -> int:
    machine.stack.append(machine.again(machine.stack[-1]))
    return at


@opcode(b"\x94")
def _memoize(machine: Machine, at: int) -> int:
    memo = machine.memo
    memo[len(memo)] = machine.stack[-1]
    return at


@opcode(b"q")
def _binput(machine: Machine, at: int) -> int:
    machine.memo[machine.data[at]] = machine.stack[-1]
    return at + 1


@opcode(b"r")
def _long_binput(machine: Machine, at: int) -> int:
    machine.memo[atoms.count(machine.data, at)] = machine.stack[-1]
    return at + 4


@opcode(b"p")
def _put_line(machine: Machine, at: int) -> int:
    text, at = machine.line(at, 20)
    machine.memo[int(text)] = machine.stack[-1]
    return at


@opcode(b"h")
def _binget(machine: Machine, at: int) -> int:
    value = machine.memo[machine.data[at]]
    if value.__class__ is not str:
        value = machine.again(value)
    machine.stack.append(value)
    return at + 1


@opcode(b"j")
def _long_binget(machine: Machine, at: int) -> int:
    value = machine.memo[atoms.count(machine.data, at)]
    if value.__class__ is not str:
        value = machine.again(value)
    machine.stack.append(value)
    return at + 4


@opcode(b"g")
def _get_line(machine: Machine, at: int) -> int:
    text, at = machine.line(at, 20)
    machine.stack.append(machine.again(machine.memo[int(text)]))
    return at


# Names, calls and states.


@opcode(b"c")
def _global(machine: Machine, at: int) -> int:
    module, at = machine.line(at, MAX_NAME)
    name, at = machine.line(at, MAX_NAME)
    machine.stack.append(machine.named(module, name))
    return at


@opcode(b"\x93")
def _stack_global(machine: Machine, at: int) -> int:
    name = machine.stack.pop()
    module = machine.stack.pop()
    if type(name) is not str or type(module) is not str:
        raise BadPickle("STACK_GLOBAL requires str")
    machine.stack.append(machine.named(module, name))
    return at


@opcode(b"R")
def _reduce(machine: Machine, at: int) -> int:
    args = machine.stack.pop()
    machine.stack[-1] = machine.called(machine.stack[-1], args)
    return at


@opcode(b"\x81")
def _newobj(machine: Machine, at: int) -> int:
    args = machine.stack.pop()
    machine.stack[-1] = machine.made(machine.stack[-1], args, {})
    return at


@opcode(b"\x92")
def _newobj_ex(machine: Machine, at: int) -> int:
    kwargs = machine.stack.pop()
    args = machine.stack.pop()
    machine.stack[-1] = machine.made(machine.stack[-1], args, kwargs)
    return at


@opcode(b"b")
def _build(machine: Machine, at: int) -> int:
    state = machine.stack.pop()
    target = machine.stack[-1]
    cls = target.__class__
    if cls is VariableValue:
        build_value(target, state)
    elif cls is Array:
        target.build(state)
        machine.stack[-1] = target.array
    elif cls is DType:
        target.build(state)
    elif cls is not RemoteException:  # whose attributes nobody asks for
        ignore(target, f"one with a state ({shorten(cls.__name__)})")
    return at
