"""VICP, the control protocol of LeCroy oscilloscopes: blocks, their numbers, messages in blocks.

There is no public standard; the names are those of the open clients. A block is a header of 8 bytes
and data; a message is one or more DATA blocks, of which the last has EOI. Each message of a client
has a number, which its answer repeats, so that late answers can be told. Between blocks a client
may send a letter as TCP urgent data.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntFlag
from struct import Struct
from typing import Final, NamedTuple

#: Operation bits, version, sequence number, an unused byte, length of the data.
HEADER: Final = Struct(">BBBxI")
VERSION: Final = 1
DEFAULT_LIMIT: Final = 1 << 30
"""Longest block, in bytes, unless the caller says otherwise."""

PIECE: Final = 256 * 1024
"""Bytes of an answer in one block, and of a long block that are handed on at once."""

STATUS_LETTER: Final = 0x53
"""The urgent letter ``S``, which asks for the status byte."""

CHUNK: Final = 4096
"""PyVISA reads in multiples of this; see `encode_answer`."""

_LAST: Final = 255


class Operation(IntFlag):
    """The first byte of a header."""

    EOI = 0x01
    SERIAL_POLL = 0x04
    SRQ = 0x08
    CLEAR = 0x10
    LOCKOUT = 0x20
    REMOTE = 0x40
    DATA = 0x80


# As plain numbers: operations of an IntFlag cost a microsecond each.
EOI = int(Operation.EOI)
SERIAL_POLL = int(Operation.SERIAL_POLL)
SRQ = int(Operation.SRQ)
CLEAR = int(Operation.CLEAR)
LOCKOUT = int(Operation.LOCKOUT)
REMOTE = int(Operation.REMOTE)
DATA = int(Operation.DATA)

_RESERVED: Final = 0x02  # never set in a header, set in every letter that clients send

MOST_LETTERS: Final = 64


class Block(NamedTuple):
    """A block, or a part of a long one: then only the last part has its EOI."""

    operation: int
    sequence: int
    data: bytes


class Letter(NamedTuple):
    """A byte of TCP urgent data that came in the stream."""

    code: int


class Malformed(NamedTuple):
    """What cannot be understood; nothing after it can be."""

    reason: str


Item = Block | Letter | Malformed


class BlockSplitter:
    """Cuts a stream into blocks, each of at most `limit` bytes of data.

    A long block is handed on in parts of `PIECE` bytes or more as they come, which means the same
    to whoever joins messages: no room is made for what a header only announces. With `letters` a
    byte that can be no header is a `Letter`; more than `MOST_LETTERS` of them together are garbage.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT, *, letters: bool = False) -> None:
        self._limit = limit
        self._letters = letters
        self._held = bytearray()
        self._operation = 0
        self._sequence = 0
        self._left = -1  # bytes of the block that are to come; -1 before its header
        self._row = 0  # letters that have come together
        self._broken = False

    @property
    def pending(self) -> int:
        """Bytes held of an incomplete header or block."""
        return len(self._held)

    def feed(self, data: bytes) -> list[Item]:
        """What `data` completes, in order."""
        if self._broken:
            return []
        held = self._held
        if held:
            if self._left > len(held) + len(data) < PIECE:
                held += data
                return []
            data = bytes(held) + data
            held.clear()
        items: list[Item] = []
        at = self._cut(data, items)
        held += data[at:] if at else data
        return items

    def _cut(self, data: bytes, items: list[Item]) -> int:
        """Adds what is complete to `items`; how many bytes that took."""
        at, size = 0, len(data)
        self._row = 0
        while not self._broken:
            if self._left < 0:
                taken = self._header(data, at, items)
                if not taken:
                    break
                at += taken
                continue
            left = self._left
            if left > size - at:
                if size - at >= PIECE:
                    items.append(self._part(data[at:]))
                    at = size
                break
            items.append(Block(self._operation, self._sequence, data[at : at + left]))
            at += left
            self._left = -1
        return at

    def _header(self, data: bytes, at: int, items: list[Item]) -> int:
        """Takes a header or a letter; the bytes that it has, 0 if it is not complete."""
        if at < len(data) and data[at] & _RESERVED:
            if self._letters and self._row < MOST_LETTERS:
                self._row += 1
                items.append(Letter(data[at]))
                return 1
            self._break(f"a header that begins with {data[at]:#04x}", items)
            return 0
        if len(data) - at < HEADER.size:
            return 0
        self._row = 0
        self._operation, version, self._sequence, self._left = HEADER.unpack_from(data, at)
        if version != VERSION:
            self._break(f"version {version} of VICP; only version 1 is known", items)
        elif self._left > self._limit:
            self._break(f"a block of {self._left} bytes; the limit is {self._limit}", items)
        return HEADER.size

    def _part(self, data: bytes) -> Block:
        part = Block(self._operation & ~EOI, self._sequence, data)
        self._operation &= DATA | EOI | LOCKOUT | REMOTE  # the rest happens once
        self._left -= len(data)
        return part

    def _break(self, reason: str, items: list[Item]) -> None:
        self._broken = True
        items.append(Malformed(reason))


def encode_header(operation: int, sequence: int, length: int = 0) -> bytes:
    """A header; alone it is a block without data."""
    return HEADER.pack(operation, VERSION, sequence, length)


def encode_block(operation: int, sequence: int, data: bytes = b"") -> bytes:
    """A block."""
    return HEADER.pack(operation, VERSION, sequence, len(data)) + data


def encode_answer(sequence: int, data: bytes, piece: int = PIECE) -> Iterator[bytes]:
    """An answer as blocks of at most `piece` bytes of data, EOI on the last.

    PyVISA asks again when an answer filled its buffer, whether it had ended or not; its buffers are
    multiples of 4096 bytes. So after an answer of such a length EOI comes in an empty block.
    """
    size = len(data)
    apart = size > 0 and size % CHUNK == 0
    view = memoryview(data)
    for start in range(0, size or 1, piece):
        last = start + piece >= size and not apart
        part = view[start : start + piece]
        yield HEADER.pack(DATA | EOI if last else DATA, VERSION, sequence, len(part)) + part
    if apart:
        yield encode_header(DATA | EOI, sequence)


def next_sequence(sequence: int) -> int:
    """The number of the next message: after 255 comes 1, since 0 means that there are none."""
    return sequence + 1 if sequence < _LAST else 1


def is_late(sequence: int, sent: int) -> bool:
    """Whether an answer with the number `sequence` belongs to a message before number `sent`."""
    return sequence != 0 and sent != 0 and (sent - sequence + 128) % 256 - 128 > 0
