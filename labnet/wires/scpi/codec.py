"""Messages of SCPI instruments on a raw TCP socket: where responses end, errors, blocks, strings.

The stream has no END (IEEE 488.2 section 7.5): a message ends at its terminator, usually LF, but a
definite-length block (section 8.7.9) or a string (section 8.7.8) in it may hold that very byte.
Some instruments use other terminators, none at all, or a fixed length. Each way of reading is a
`Reader`, which takes what arrived in pieces of any size and is linear in the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Protocol

from labnet.errors import BadArguments, DeviceFault, TooLarge, shorten
from labnet.framing.gathering import Gathered
from labnet.framing.program_message import ProgramMessageSplitter

DEFAULT_LIMIT: Final = 1 << 30
"""Longest response in bytes, unless the caller says otherwise."""

_MOST_DIGITS: Final = 9
_LONGEST_HEADER: Final = 256
_SHORT: Final = 4096
_HIDING = re.compile(rb"[\"'#]")
_ERROR = re.compile(r"\s*([+-]?[0-9]{1,9})\s*,\s*(.*?)\s*\Z", re.DOTALL)

Progress = Callable[[int, int], None]
"""Told how many bytes of a block have come, and how many it has."""


class Reader(Protocol):
    """One way to read a response; `result` is complete once `feed` has said so."""

    result: bytes | bytearray

    def feed(self, data: bytes) -> int | None:
        """How many of these bytes the response took, if it is now complete; None if it is not.

        Raises `TooLarge`, or `DeviceFault` for what is no such response.
        """
        ...


class CountReader:
    """Exactly `count` bytes."""

    def __init__(self, count: int, progress: Progress | None = None) -> None:
        self.result: bytes | bytearray = b""
        self._count = count
        self._gathered = Gathered()
        self._progress = progress

    def feed(self, data: bytes) -> int | None:
        gathered = self._gathered
        missing = self._count - len(gathered)
        taken = min(len(data), missing)
        gathered.add(data if taken == len(data) else memoryview(data)[:taken])
        if self._progress is not None and taken:
            self._progress(len(gathered), self._count)
        if taken < missing:
            return None
        self.result = gathered.take()
        return taken


class UntilReader:
    """Everything up to `terminator`, wherever it comes; the result is without it."""

    def __init__(self, terminator: bytes, limit: int = DEFAULT_LIMIT) -> None:
        self._held = bytearray()
        self.result: bytes | bytearray = self._held
        self._terminator = terminator
        self._limit = limit

    def feed(self, data: bytes) -> int | None:
        held = self._held
        before = len(held)
        held += data
        size = len(self._terminator)
        found = held.find(self._terminator, max(0, before - size + 1))
        check_size(found if found >= 0 else len(held) - size + 1, self._limit)
        if found < 0:
            return None
        del held[found:]
        return found + size - before


class SilenceReader:
    """Everything until nothing more comes; the owner of the stream times that, then takes it."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._held = bytearray()
        self.result: bytes | bytearray = self._held
        self._limit = limit

    def feed(self, data: bytes) -> int | None:
        self._held += data
        check_size(len(self._held), self._limit)
        return None


class ResponseReader:
    """A response message: up to `terminator`, save where that is inside a block or a string.

    A block starts with ``#`` and a digit at the start of a datum, a string with a quotation mark
    there. The result is the message without its terminator.
    """

    def __init__(self, terminator: bytes = b"\n", limit: int = DEFAULT_LIMIT) -> None:
        self._held = bytearray()
        self.result: bytes | bytearray = self._held
        self._terminator = terminator
        self._limit = limit
        self._special = _specials(terminator)
        self._at = 0  # up to here the message is understood
        self._quote = 0
        self._scan = self._datum

    def feed(self, data: bytes) -> int | None:
        held = self._held
        before = len(held)
        held += data
        while True:
            position, scan = self._at, self._scan
            end = self._scan()
            if end is not None:
                check_size(end, self._limit)
                del held[end:]
                return end + len(self._terminator) - before
            if self._at == position and self._scan == scan:
                check_size(len(held) - len(self._terminator) + 1, self._limit)
                return None

    def _datum(self) -> int | None:
        """At the start of a datum: a block, a string or anything else."""
        if self._at >= len(self._held):
            return None
        first = self._held[self._at]
        if first == 0x23:
            self._block()
        elif first in b"\"'":
            self._at += 1
            self._quote = first
            self._scan = self._string
        elif first in b" \t":
            self._at += 1
        else:
            self._scan = self._plain
        return None

    def _block(self) -> None:
        head = bytes(self._held[self._at : self._at + 2 + _MOST_DIGITS])
        if len(head) < 2:
            return
        digits = head[1] - 0x30
        if not 1 <= digits <= _MOST_DIGITS:
            self._scan = self._plain  # an indefinite block, or no block: up to the terminator
        elif len(head) >= 2 + digits:
            count = head[2 : 2 + digits]
            if count.isdigit():
                self._at += 2 + digits + int(count)
                check_size(self._at, self._limit)
            self._scan = self._plain

    def _string(self) -> int | None:
        found = self._held.find(self._quote, self._at)
        if found < 0:
            self._at = len(self._held)
        else:
            self._at = found + 1
            self._scan = self._after_quote
        return None

    def _after_quote(self) -> int | None:
        """A quotation mark ends the string unless another one follows."""
        if self._at < len(self._held):
            doubled = self._held[self._at] == self._quote
            self._at += doubled
            self._scan = self._string if doubled else self._plain
        return None

    def _plain(self) -> int | None:
        found = self._special.search(self._held, self._at)
        if found is None:
            # The terminator may be cut: its first bytes are looked at again.
            self._at = max(self._at, len(self._held) - len(self._terminator) + 1)
        elif found[0] == self._terminator:
            return found.start()
        else:
            self._at = found.end()
            self._scan = self._datum
        return None


def is_plain(data: bytes, terminator: bytes) -> bool:
    """Whether this is one whole response, short, in which nothing could hide a terminator."""
    size = len(data)
    return (
        size <= _SHORT
        and data.find(terminator) == size - len(terminator) >= 0
        and not _HIDING.search(data)
    )


@lru_cache
def _specials(terminator: bytes) -> re.Pattern[bytes]:
    """What ends a datum."""
    return re.compile(b"|".join((re.escape(terminator), b"[,;]")))


class _MarkReader:
    """Everything up to the ``#`` of a block and the digit after it, which is the result."""

    def __init__(self, terminator: bytes) -> None:
        self.result: bytes | bytearray = b""
        self._head = bytearray()
        self._terminator = terminator

    def feed(self, data: bytes) -> int | None:
        head = self._head
        before = len(head)
        head += data[: _LONGEST_HEADER + 2]
        mark = head.find(b"#")
        end = head.find(self._terminator)
        if mark < 0 or 0 <= end < mark:
            if end >= 0 or len(head) > _LONGEST_HEADER:
                raise DeviceFault(f"a block was asked for, the answer is {_quoted(head[:end])}")
            return None
        if mark + 1 == len(head):
            return None
        if not 0x30 <= head[mark + 1] <= 0x39:
            raise DeviceFault(f"a block was asked for, the answer is {_quoted(head)}")
        self.result = head[mark + 1 : mark + 2]
        return mark + 2 - before


class BlockReader:
    """One definite-length block and then `terminator`; the result is the bytes of the block.

    A header before the block is left out, and an indefinite block (``#0``) goes up to the
    terminator. A length must be within `limit`. An answer without a block is a `DeviceFault` that
    quotes it.
    """

    def __init__(
        self,
        terminator: bytes = b"\n",
        limit: int = DEFAULT_LIMIT,
        progress: Progress | None = None,
    ) -> None:
        self.result: bytes | bytearray = b""
        self._terminator = terminator
        self._limit = limit
        self._progress = progress
        self._reader: Reader = _MarkReader(terminator)
        self._then: Callable[[], bool] = self._after_mark

    def feed(self, data: bytes) -> int | None:
        used = 0
        while True:
            taken = self._reader.feed(data[used:] if used else data)
            if taken is None:
                return None
            used += taken
            if not self._then():
                return used

    def _after_mark(self) -> bool:
        digits = int(self._reader.result)
        if digits:
            self._reader, self._then = CountReader(digits), self._after_length
        else:
            self._reader, self._then = UntilReader(self._terminator, self._limit), self._whole
        return True

    def _after_length(self) -> bool:
        count = bytes(self._reader.result)
        if not count.isdigit():
            raise DeviceFault(f"a block whose length is given as {_quoted(count)}")
        check_size(int(count), self._limit)
        self._reader, self._then = CountReader(int(count), self._progress), self._after_bytes
        return True

    def _after_bytes(self) -> bool:
        self.result = self._reader.result
        self._reader, self._then = UntilReader(self._terminator, _LONGEST_HEADER), self._after_end
        return True

    def _after_end(self) -> bool:
        rest = self._reader.result
        if rest.strip():
            raise DeviceFault(f"the answer goes on after the block: {_quoted(rest)}")
        return False

    def _whole(self) -> bool:
        self.result = self._reader.result
        return False


def check_size(size: int, limit: int) -> None:
    """Raises `TooLarge` for a response beyond its bound."""
    if size > limit:
        raise TooLarge(f"a response of {size} bytes or more; the limit is {limit}")


def _quoted(data: bytes | bytearray) -> str:
    return repr(shorten(data.decode("latin-1")))


def encode_text(message: str) -> bytes:
    """A program message as bytes, one for each character (Latin-1), without a terminator.

    White space at its end is dropped. Raises `BadArguments` for other characters.
    """
    try:
        return message.rstrip(" \t\r\n").encode("latin-1")
    except UnicodeEncodeError as error:
        character = error.object[error.start]
        raise BadArguments(f"{character!r} cannot be sent to a SCPI instrument") from None


def check_one_message(message: bytes) -> None:
    """Raises `BadArguments` if an instrument would take `message` for several, or wait for more."""
    if b"\n" not in message and b'"' not in message and b"'" not in message and b"#" not in message:
        return
    limit = len(message) + 1
    splitter = ProgramMessageSplitter(text_limit=limit, block_limit=limit, string_limit=limit)
    pieces = splitter.feed(message + b"\n")
    if len(pieces) != 1 or splitter.pending:
        raise BadArguments(
            f"{_quoted(message)} is not one complete message: look for a line feed, a quotation"
            " mark without its partner, or a block with another length than its bytes"
        )


def block_header(length: int) -> bytes:
    """What begins a definite-length block of so many bytes (IEEE 488.2 section 7.7.6)."""
    count = b"%d" % length
    return b"#%d%b" % (len(count), count)


def encode_block(data: bytes) -> bytes:
    """`data` as a definite-length block."""
    return block_header(len(data)) + data


def quote_string(text: str) -> str:
    """`text` as string program data (IEEE 488.2 section 7.7.5)."""
    return '"' + text.replace('"', '""') + '"'


def decode_text(response: bytes | bytearray) -> str:
    """A response as text, without the CR that some instruments send before the LF."""
    return response.decode("latin-1").removesuffix("\r")


def decode_error(response: str) -> tuple[int, str]:
    """Number and text of an answer to ``SYSTem:ERRor?`` (SCPI-1999 volume 2 section 21.8).

    Raises `DeviceFault` for an answer that is none.
    """
    match = _ERROR.match(response)
    if match is None:
        raise DeviceFault(f"no entry of an error queue: {shorten(response)!r}")
    text = match[2]
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1].replace('""', '"')
    return int(match[1]), text
