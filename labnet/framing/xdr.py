"""XDR (RFC 4506) and the record marking of ONC RPC over TCP (RFC 5531 section 11).

All numbers are big-endian and 4 bytes long; opaque data and strings are a length, the bytes, and
zeros up to a multiple of 4. On a stream each message is a *record* of one or more fragments, each
behind a mark: bit 31 says that it is the last one, the others are its length.
"""

from __future__ import annotations

from struct import Struct
from typing import Any

LAST = 0x80000000
"""In a record mark: the fragment is the last of its record."""

MAX_FRAGMENTS = 1 << 16
"""Fragments of one record; no peer is known to send more than one."""

LONG = 4096
"""Bytes from which on a view costs less than a copy."""

_UINT = Struct(">I")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")

Record = bytes | bytearray


class XdrError(ValueError):
    """Bytes that do not hold what they should."""


class XdrReader:
    """Reads values one after the other; raises `XdrError` when the data ends before them."""

    __slots__ = ("_data", "at")

    def __init__(self, data: Record, at: int = 0) -> None:
        self._data = data
        self.at = at

    def fields(self, layout: Struct) -> tuple[Any, ...]:
        """Several numbers at once."""
        at = self.at
        self.at = at + layout.size
        if self.at > len(self._data):
            raise XdrError("the message ends inside its fields")
        return layout.unpack_from(self._data, at)

    def uint(self) -> int:
        """An unsigned int."""
        number: int = self.fields(_UINT)[0]
        return number

    def opaque(self, limit: int) -> bytes:
        """Opaque data, or the bytes of a string, of at most `limit` bytes.

        Padding that is missing at the very end is not missed.
        """
        start, end = self._opaque(limit)
        if end - start > LONG:
            return bytes(memoryview(self._data)[start:end])
        return bytes(self._data[start:end])

    def view(self, limit: int) -> bytes | memoryview:
        """As `opaque`, but what is long is not copied."""
        start, end = self._opaque(limit)
        if end - start > LONG:
            return memoryview(self._data)[start:end]
        return bytes(self._data[start:end])

    def _opaque(self, limit: int) -> tuple[int, int]:
        """Where the bytes begin and end."""
        length = self.uint()
        start = self.at
        end = start + length
        if length > limit:
            raise XdrError(f"{length} bytes where at most {limit} are allowed")
        if end > len(self._data):
            raise XdrError(f"{length} bytes are announced, {len(self._data) - start} have come")
        self.at = end + (-length & 3)
        return start, end


def padding(length: int) -> bytes:
    """The zeros that follow so many bytes."""
    return _PADDING[length & 3]


def encode_uint(number: int) -> bytes:
    """An unsigned int."""
    return _UINT.pack(number)


def encode_opaque(data: bytes) -> bytes:
    """Opaque data, or the bytes of a string."""
    return b"".join((_UINT.pack(len(data)), data, _PADDING[len(data) & 3]))


def encode_mark(length: int, last: bool = True) -> bytes:
    """The mark before a fragment of so many bytes."""
    return _UINT.pack(LAST | length if last else length)


class RecordSplitter:
    """Joins fragments to records. Keeps what is incomplete, never more than `limit` bytes of it.

    When a peer announces more than that, or sends fragments without end, `fault` says so and
    nothing more is taken: there is no next record to be found. `limit` may be changed at any time.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.fault = ""
        self._mark = b""  # the beginning of a mark
        self._held = bytearray()  # of the record
        self._missing = 0  # bytes of the fragment
        self._last = False
        self._fragments = 0

    @property
    def pending(self) -> bool:
        """Whether a record has begun that is not complete."""
        return bool(self._mark or self._fragments)

    @property
    def held(self) -> bytes:
        """What has come of an incomplete record."""
        return bytes(self._held)

    def feed(self, data: bytes) -> list[Record]:
        """The records that `data` completes."""
        if not self._fragments and not self._mark and len(data) >= 4:
            mark = _UINT.unpack_from(data)[0]
            if mark & LAST and mark ^ LAST == len(data) - 4 <= self.limit and not self.fault:
                return [data[4:]]  # one whole record, as nearly always
        return self._feed(memoryview(data))

    def _feed(self, data: memoryview) -> list[Record]:
        records: list[Record] = []
        at = 0
        while not self.fault:
            if not self._missing and not self._last:
                at = self._begin(data, at)
            end = min(len(data), at + self._missing)
            self._held += data[at:end]
            self._missing -= end - at
            at = end
            if self._last and not self._missing:
                records.append(self._finish())
            elif at >= len(data):
                break
        return records

    def _begin(self, data: memoryview, at: int) -> int:
        """Reads the mark of the next fragment, as far as it has come."""
        end = at + 4 - len(self._mark)
        self._mark += data[at:end]
        if len(self._mark) < 4:
            return len(data)
        mark = _UINT.unpack(self._mark)[0]
        self._mark = b""
        self._last, self._missing = bool(mark & LAST), mark & ~LAST
        self._fragments += 1
        if len(self._held) + self._missing > self.limit:
            self._give_up(f"a record of more than {self.limit} bytes")
        elif self._fragments > MAX_FRAGMENTS:
            self._give_up(f"a record of more than {MAX_FRAGMENTS} fragments")
        return end

    def _give_up(self, fault: str) -> None:
        self.fault = fault
        self._held = bytearray()
        self._missing = 0
        self._last = False

    def _finish(self) -> Record:
        record, self._held = self._held, bytearray()
        self._last = False
        self._fragments = 0
        return record
