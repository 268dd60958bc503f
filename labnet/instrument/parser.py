"""A program message taken apart into its units (IEEE 488.2 section 7.3, SCPI-1999 volume 1, 6.2).

The parser knows the syntax, not the commands. It never fails as a whole: what is wrong with a unit
is kept with this unit, and the next one is looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from labnet.instrument.data import WHITE, Datum, Message, read_datum
from labnet.instrument.errors import ScpiError

#: Bounds on one message: units, and data in one unit.
MAX_UNITS = 10_000
MAX_DATA = 100_000


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of a program message.

    `nodes` is the header in capitals, from the root of the command tree: for a header that was
    written relative to the unit before it, the path is already in front. A common command has one
    node with its asterisk. `fault` is set where the unit cannot be carried out as written;
    a fault in the data does not count before the header is known to exist.
    """

    nodes: tuple[str, ...]
    query: bool = False
    common: bool = False
    absolute: bool = False
    data: tuple[Datum, ...] = ()
    fault: ScpiError | None = None

    @property
    def header(self) -> str:
        """The header as text, for messages to users and logs."""
        return ":".join(self.nodes) + ("?" if self.query else "")


_MNEMONIC = rb"[A-Za-z][A-Za-z0-9_]*"
_HEADER = re.compile(
    rb"(:?)(?:(\*" + _MNEMONIC + rb")|(" + _MNEMONIC + rb"(?::" + _MNEMONIC + rb")*))(\??)"
)
# Line feeds count as the end of a unit here: END may come after several of them.
_GAP = re.compile(rb"[\x00-\x20;]*")
_WHITE = re.compile(WHITE)
_BLANK = re.compile(rb"[\x00-\x09\x0b-\x20]*")
_SKIP = re.compile(rb"[^;\n\"']*")
_LINE = re.compile(rb"[^\n]*")
_QUOTED = {0x22: re.compile(rb'"[^"]*"'), 0x27: re.compile(rb"'[^']*'")}
_SEPARATORS = b";\n"


def parse(message: Message) -> tuple[Unit, ...]:
    """The units of `message`, which ends where the bytes end; empty ones are left out.

    A line feed outside strings and blocks separates units too, and leads back to the root.
    """
    units: list[Unit] = []
    path: tuple[str, ...] = ()
    at, size = 0, len(message)
    while True:
        start = _GAP.match(message, at)
        if start is None:
            return tuple(units)
        if b"\n" in start[0]:
            path = ()
        at = start.end()
        if at >= size:
            return tuple(units)
        if len(units) >= MAX_UNITS:
            units.append(Unit((), fault=ScpiError(-223, f"more than {MAX_UNITS} units")))
            return tuple(units)
        unit, at = _unit(message, at, path)
        units.append(unit)
        if unit.nodes and not unit.common:
            path = unit.nodes[:-1]


def _unit(message: Message, at: int, path: tuple[str, ...]) -> tuple[Unit, int]:
    found = _HEADER.match(message, at)
    if found is None:
        return Unit((), fault=ScpiError(-101)), _resynchronise(message, at)
    colon, common, header, mark = found.groups()
    end = found.end()
    if end < len(message) and message[end] > 0x20 and message[end] not in _SEPARATORS:
        return Unit((), fault=_bad_header(message[end])), _resynchronise(message, end)
    query, absolute = bool(mark), bool(colon)
    if common is not None:
        fault = ScpiError(-113) if absolute else None
        nodes: tuple[str, ...] = (common.decode("ascii").upper(),)
    else:
        fault = None
        nodes = tuple(header.decode("ascii").upper().split(":"))
        nodes = nodes if absolute else path + nodes
    data: tuple[Datum, ...] = ()
    try:
        data, end = _data(message, end)
    except _DataFault as error:
        fault, end = fault or error.fault, _resynchronise(message, error.at)
    return Unit(nodes, query, common is not None, absolute, data, fault), end


def _bad_header(byte: int) -> ScpiError:
    """A comma or a quote right after a header lacks its blank; anything else is no character."""
    return ScpiError(-103 if byte in b",\"'#(" else -101)


class _DataFault(Exception):
    """Something wrong with a unit's data, at a place of the message."""

    def __init__(self, fault: ScpiError, at: int) -> None:
        self.fault = fault
        self.at = at


def _data(message: Message, at: int) -> tuple[tuple[Datum, ...], int]:
    at = _after(_BLANK, message, at)
    if at >= len(message) or message[at] in _SEPARATORS:
        return (), at
    data: list[Datum] = []
    while True:
        datum, at = _datum(message, at)
        data.append(datum)
        at = _after(_BLANK, message, at)
        if at >= len(message) or message[at] in _SEPARATORS:
            return tuple(data), at
        if message[at] != 0x2C:
            raise _DataFault(ScpiError(-103), at)
        if len(data) >= MAX_DATA:
            raise _DataFault(ScpiError(-223, f"more than {MAX_DATA} data"), at)
        at = _after(_BLANK, message, at + 1)


def _datum(message: Message, at: int) -> tuple[Datum, int]:
    if at >= len(message) or message[at] in b",;\n":
        raise _DataFault(ScpiError(-109), at)
    try:
        return read_datum(message, at)
    except ScpiError as fault:
        raise _DataFault(ScpiError(fault.number, fault.detail), at)  # without its traceback


def _after(pattern: re.Pattern[bytes], message: Message, at: int) -> int:
    found = pattern.match(message, at)
    return at if found is None else found.end()


def _resynchronise(message: Message, at: int) -> int:
    """Where the unit that is wrong at `at` ends: at the next separator outside strings."""
    size = len(message)
    while True:
        at = _after(_SKIP, message, at)
        if at >= size or message[at] in _SEPARATORS:
            return at
        closed = _QUOTED[message[at]].match(message, at)
        if closed is None:
            return _after(_LINE, message, at)
        at = closed.end()
