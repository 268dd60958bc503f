"""Where a program message ends in a stream of bytes that has no END (IEEE 488.2 section 7).

On a raw socket LF is the only message terminator, but LF inside a string or a definite-length block
is data. The splitter finds the ends with a small state machine and without parsing any command, so
it works for instruments whose commands it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["MessageFault", "Piece", "ProgramMessageSplitter"]


@dataclass(frozen=True, slots=True)
class MessageFault:
    """A message was dropped: `number` is the SCPI error number, `detail` the bound it passed."""

    number: int
    detail: str


Piece: TypeAlias = bytes | bytearray | MessageFault

# What may end or hide the end of a message that is still plain text.
_SPECIAL = re.compile(rb"[\n\"'#]")
_HIDING = re.compile(rb"[\"'#]")
# White space is every byte up to the blank but LF (IEEE 488.2 section 7.4.1.2).
_UNIT_START = re.compile(rb"[\x00-\x09\x0b-\x20;]*")
_HEADER_END = re.compile(rb"[\x00-\x20;]")
_DATUM_START = re.compile(rb"[\x00-\x09\x0b-\x20,(]*")
_DATUM_END = re.compile(rb"[\n;,]")
_LENGTH = re.compile(rb"[0-9]*")
_LINE = re.compile(rb"\n")
_QUOTES = {0x22: re.compile(rb'"'), 0x27: re.compile(rb"'")}
_LF, _SEMICOLON, _HASH, _ZERO, _NINE = 0x0A, 0x3B, 0x23, 0x30, 0x39


class ProgramMessageSplitter:
    """Cuts a byte stream into program messages, linear in the bytes it is fed.

    A message is handed out without its LF: as `bytes` when it came in one piece, else as the
    `bytearray` it was collected in. It may hold definite-length blocks anywhere a datum starts; an
    indefinite one (``#0``) ends, and ends the message, at the next LF since a socket has no END.

    Bounds: `text_limit` bytes of a message outside its blocks (fault -363 above), `block_limit`
    bytes of all its blocks (-223), `string_limit` bytes of one string (-151). A message that passes
    one is dropped up to its end, or after a string that never ends up to the next LF, and one
    `MessageFault` stands in its place. Nothing is allocated before it has arrived.
    """

    def __init__(
        self,
        *,
        text_limit: int = 1 << 20,
        block_limit: int = 1 << 30,
        string_limit: int = 1 << 16,
    ) -> None:
        self._text_limit = text_limit
        self._block_limit = block_limit
        self._string_limit = string_limit
        self._reset()

    def _reset(self) -> None:
        self._kept = bytearray()
        self._plain = True  # nothing seen yet that could hide an LF: no state is needed
        self._state: Callable[[bytes, int], int] = self._unit_start
        self._dropping = False  # this message is given up; its end is still looked for
        self._fault: MessageFault | None = None  # what stands for it
        self._text = 0  # bytes of this message outside blocks
        self._blocks = 0  # announced bytes of this message's blocks
        self._left = 0  # bytes of the current block still to come
        self._digits = b""
        self._wanted = 0  # digits of the block's length still to come
        self._quote = 0
        self._string = 0

    @property
    def pending(self) -> int:
        """Bytes kept of a message that is not complete."""
        return len(self._kept)

    @property
    def waits_in_string(self) -> bool:
        """Whether a string that already holds an LF is open: probably its quote was forgotten."""
        return not self._plain and self._state == self._in_string and _LF in self._kept

    def give_up_string(self) -> MessageFault:
        """Drop the message with the open string up to the next LF, when its time is over."""
        ended = self._kept.endswith(b"\n")
        self._reset()
        if not ended:
            self._plain, self._dropping, self._state = False, True, self._to_line_end
        return MessageFault(-151, "no closing quote came in time")

    def clear(self) -> None:
        """Forget a message that is not complete (device clear, or the end of the connection)."""
        self._reset()

    def feed(self, data: bytes) -> Sequence[Piece]:
        """The messages and faults completed by `data`, in their order."""
        if self._plain and data[-1:] == b"\n" and not self._kept and self._is_plain(data):
            return data[:-1].split(b"\n")
        out: list[Piece] = []
        start, size = 0, len(data)
        while start < size:
            take = self._one_plain if self._plain else self._one
            start = take(data, start, out)
        return out

    def _is_plain(self, data: bytes) -> bool:
        """Whether each LF in `data` ends a message and none of these can be too long."""
        return len(data) <= self._text_limit and not _HIDING.search(data)

    def _one_plain(self, data: bytes, start: int, out: list[Piece]) -> int:
        """The fast way: a message without quotes and hashes ends at the next LF."""
        found = _SPECIAL.search(data, start)
        end = len(data) if found is None else found.start()
        if self._text + end - start > self._text_limit:
            self._plain = False
            return self._replay(data, start, out)
        if found is None:
            self._keep_text(data, start)
            return end
        if data[end] != _LF:
            self._plain = False
            return self._replay(data, start, out)
        line = data[start:end]
        if self._kept:
            self._kept += line
            out.append(self._kept)
            self._reset()
        else:
            out.append(line)
        return end + 1

    def _keep_text(self, data: bytes, start: int) -> None:
        self._kept += data[start:] if start else data
        self._text = len(self._kept)

    def _replay(self, data: bytes, start: int, out: list[Piece]) -> int:
        """Take the plain start of this message through the states, once, then go on with `data`."""
        kept = bytes(self._kept)
        self._kept = bytearray()
        self._text = 0
        if kept:
            self._one(kept, 0, out)
        return self._one(data, start, out)

    def _one(self, data: bytes, start: int, out: list[Piece]) -> int:
        """Run the states over `data` up to the end of this message, or of `data`."""
        at, size = start, len(data)
        while at < size:
            at = self._state(data, at)
            if at < 0:  # the LF at -at - 1 ends the message
                end = -at - 1
                self._store(data, start, end)
                self._hand_out(out)
                return end + 1
        self._store(data, start, size)
        return size

    def _hand_out(self, out: list[Piece]) -> None:
        if not self._dropping:
            out.append(self._kept)
        elif self._fault is not None:
            out.append(self._fault)
        self._reset()

    def _store(self, data: bytes, start: int, end: int) -> None:
        if not self._dropping:
            self._kept += memoryview(data)[start:end]

    # The states. Each looks at `data` from `at`, sets the next state and answers where it stopped;
    # the end of the message at index i is answered as -i - 1.

    def _unit_start(self, data: bytes, at: int) -> int:
        end = self._match(_UNIT_START, data, at)
        if end < len(data):
            if data[end] == _LF:
                return -end - 1
            self._state = self._in_header
        return end

    def _in_header(self, data: bytes, at: int) -> int:
        return self._until(_HEADER_END, data, at)

    def _datum_start(self, data: bytes, at: int) -> int:
        end = self._match(_DATUM_START, data, at)
        if end == len(data):
            return end
        byte = data[end]
        if byte in _QUOTES:
            self._quote, self._string, self._state = byte, 0, self._in_string
        elif byte == _HASH:
            self._state = self._after_hash
        else:
            self._state = self._in_datum
            return end
        return self._count(end, end + 1)

    def _in_datum(self, data: bytes, at: int) -> int:
        return self._until(_DATUM_END, data, at)

    def _in_string(self, data: bytes, at: int) -> int:
        found = _QUOTES[self._quote].search(data, at)
        end = len(data) if found is None else found.end()
        allowed = self._string_limit - self._string
        if end - at > allowed:  # give up; the next LF is the end
            self._drop(MessageFault(-151, f"string longer than {self._string_limit} bytes"))
            self._state = self._to_line_end
            return at + allowed
        self._string += end - at
        if found is not None:
            self._state = self._after_quote
        return self._count(at, end)

    def _after_quote(self, data: bytes, at: int) -> int:
        if data[at] != self._quote:
            self._state = self._in_datum
            return at
        self._state = self._in_string  # a doubled quote: one quote of the string
        return self._count(at, at + 1)

    def _after_hash(self, data: bytes, at: int) -> int:
        byte = data[at]
        if byte == _ZERO:
            self._state = self._to_line_end
        elif _ZERO < byte <= _NINE:
            self._wanted, self._digits, self._state = byte - _ZERO, b"", self._in_length
        else:
            self._state = self._in_datum
            return at
        return self._count(at, at + 1)

    def _in_length(self, data: bytes, at: int) -> int:
        found = _LENGTH.match(data, at, at + self._wanted)
        end = at if found is None else found.end()
        self._digits += data[at:end]
        self._wanted -= end - at
        if self._wanted == 0:
            self._block_announced(int(self._digits))
        elif end < len(data):
            self._state = self._in_datum  # not a block after all; the parser will say -161
        return self._count(at, end)

    def _block_announced(self, length: int) -> None:
        self._left = length
        self._blocks += length
        self._state = self._in_block if length else self._in_datum
        if self._blocks > self._block_limit:
            self._drop(MessageFault(-223, f"block data longer than {self._block_limit} bytes"))

    def _in_block(self, data: bytes, at: int) -> int:
        taken = min(self._left, len(data) - at)
        self._left -= taken
        if not self._left:
            self._state = self._in_datum
        return at + taken

    def _to_line_end(self, data: bytes, at: int) -> int:
        return self._until(_LINE, data, at)

    # What the states share.

    def _match(self, pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
        found = pattern.match(data, at)
        return self._count(at, at if found is None else found.end())

    def _until(self, pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
        """Go to the first delimiter of `pattern` and enter the state that it leads to."""
        found = pattern.search(data, at)
        if found is None:
            return self._count(at, len(data))
        end = found.start()
        byte = data[end]
        if byte == _LF:
            self._count(at, end)
            return -end - 1
        self._state = self._unit_start if byte == _SEMICOLON else self._datum_start
        return self._count(at, end + 1)

    def _count(self, at: int, end: int) -> int:
        self._text += end - at
        if self._text > self._text_limit:
            self._drop(MessageFault(-363, f"message longer than {self._text_limit} bytes"))
        return end

    def _drop(self, fault: MessageFault) -> None:
        """Keep nothing more of this message; the first fault stands for it."""
        if not self._dropping:
            self._dropping, self._fault = True, fault
            self._kept = bytearray()
