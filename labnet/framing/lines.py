"""Streams cut into messages by a terminator, by a count, or by silence.

Three splitters with one interface: `feed` takes what arrived, in pieces of any size, and gives the
complete messages, without their terminators. Each is linear in the bytes received and bounded: a
message that grows beyond its limit is reported once as `TOO_LONG`, at the moment it does, and
everything up to its end is dropped, so that the next message is read correctly.

Silence has no bytes: whoever owns the stream times it and calls `end`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal, Protocol

DEFAULT_LIMIT: Final = 1 << 20
"""Longest message in bytes, without its terminator, unless the caller says otherwise."""


class _TooLong(Enum):
    TOO_LONG = "too long"


TOO_LONG: Final = _TooLong.TOO_LONG
"""Stands in a result for a message that exceeded the limit."""

Line = bytes | Literal[_TooLong.TOO_LONG]


class Splitter(Protocol):
    """What the three splitters have in common."""

    def feed(self, data: bytes) -> list[Line]:
        """The messages that `data` completes, in order."""
        ...

    def end(self) -> list[Line]:
        """The message that silence, or the end of the stream, completes: none or one."""
        ...

    def clear(self) -> None:
        """Forget what is incomplete."""
        ...

    @property
    def pending(self) -> int:
        """Bytes held of the incomplete message."""
        ...


class LineSplitter:
    """Messages that end with `terminator` (one byte or more), each at most `limit` bytes long."""

    def __init__(self, terminator: bytes = b"\n", limit: int = DEFAULT_LIMIT) -> None:
        if not terminator:
            raise ValueError("a terminator has at least one byte")
        self.terminator = terminator
        self.limit = limit
        # A terminator may be cut anywhere, so its first bytes count as held but not as too long.
        self._overlap = len(terminator) - 1
        self._held = bytearray()
        self._skipping = False

    @property
    def pending(self) -> int:
        return len(self._held)

    def clear(self) -> None:
        self._held.clear()
        self._skipping = False

    def feed(self, data: bytes) -> list[Line]:
        if self._held or self._skipping:
            return self._join(data)
        lines: list[Any] = data.split(self.terminator)
        rest = lines.pop()
        if len(data) > self.limit:
            lines = [line if len(line) <= self.limit else TOO_LONG for line in lines]
        if rest:
            lines += self._hold(rest)
        return lines

    def end(self) -> list[Line]:
        """What was received after the last terminator, if anything."""
        rest = bytes(self._held)
        skipping, self._skipping = self._skipping, False
        self._held.clear()
        if skipping or not rest:
            return []
        return [rest if len(rest) <= self.limit else TOO_LONG]

    def _hold(self, rest: bytes) -> list[Line]:
        self._held += rest
        if len(self._held) <= self.limit + self._overlap:
            return []
        self._skip()
        return [TOO_LONG]

    def _skip(self) -> None:
        self._skipping = True
        del self._held[: max(0, len(self._held) - self._overlap)]

    def _join(self, data: bytes) -> list[Line]:
        """`feed` while a message is incomplete: only the new bytes are searched."""
        held = self._held
        start = max(0, len(held) - self._overlap)
        held += data
        found = held.find(self.terminator, start)
        if found < 0:
            return self._no_end()
        first: list[Line] = []
        if not self._skipping:
            first = [bytes(held[:found]) if found <= self.limit else TOO_LONG]
        rest = bytes(held[found + len(self.terminator) :])
        self.clear()
        return first + self.feed(rest) if rest else first

    def _no_end(self) -> list[Line]:
        if self._skipping:
            self._skip()
            return []
        return self._hold(b"")


class CountSplitter:
    """Messages of exactly `count` bytes each."""

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError("a message has at least one byte")
        self.count = count
        self._held = bytearray()

    @property
    def pending(self) -> int:
        return len(self._held)

    def clear(self) -> None:
        self._held.clear()

    def feed(self, data: bytes) -> list[Line]:
        held = self._held
        held += data
        whole = len(held) - len(held) % self.count
        messages: list[Line] = [
            bytes(held[start : start + self.count]) for start in range(0, whole, self.count)
        ]
        del held[:whole]
        return messages

    def end(self) -> list[Line]:
        """The bytes of an incomplete message, shorter than `count`."""
        rest = bytes(self._held)
        self._held.clear()
        return [rest] if rest else []


class SilenceSplitter:
    """Messages that end when nothing more arrives: the owner of the stream times it, then `end`."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self.limit = limit
        self._held = bytearray()
        self._skipping = False

    @property
    def pending(self) -> int:
        return len(self._held)

    def clear(self) -> None:
        self._held.clear()
        self._skipping = False

    def feed(self, data: bytes) -> list[Line]:
        if self._skipping:
            return []
        self._held += data
        if len(self._held) <= self.limit:
            return []
        self._held.clear()
        self._skipping = True
        return [TOO_LONG]

    def end(self) -> list[Line]:
        message = bytes(self._held)
        self.clear()
        return [message] if message else []


@dataclass(frozen=True, slots=True)
class Ending:
    """How messages of a stream end: exactly one of the three is set.

    `terminator` is the bytes after each message, `count` its length in bytes, `silence` the time in
    seconds without a byte after which it counts as complete.
    """

    terminator: bytes = b""
    count: int = 0
    silence: float = 0.0

    def splitter(self, limit: int = DEFAULT_LIMIT) -> Splitter:
        if self.terminator:
            return LineSplitter(self.terminator, limit)
        if self.count:
            return CountSplitter(self.count)
        return SilenceSplitter(limit)


_NAMED: Final = {"LF": b"\n", "CRLF": b"\r\n", "CR": b"\r"}
_MAX_TERMINATOR: Final = 16
_ENDINGS: Final = (
    "LF, CRLF, CR, hex:0D0A, text:\\r\\n, count:<bytes> or silence:<seconds>, "
    "for example silence:0.05"
)


def parse_ending(text: str) -> Ending:
    """An `Ending` from its words in a configuration file.

    The words are ``LF``, ``CRLF``, ``CR``, ``hex:`` and hexadecimal digits, ``text:`` and
    characters (with the escapes ``\\r \\n \\t \\0 \\xHH``), ``count:`` and a number of bytes,
    ``silence:`` and a time in seconds. Raises ValueError, with the choices, for anything else.
    """
    named = _NAMED.get(text.strip().upper().replace(" ", ""))
    if named is not None:
        return Ending(terminator=named)
    word, _, rest = text.strip().partition(":")
    try:
        ending = _parse_worded(word.strip().lower(), rest)
    except ValueError:
        raise ValueError(f"{text!r} is no message ending: give {_ENDINGS}") from None
    return ending


def _parse_worded(word: str, rest: str) -> Ending:
    if word == "count" and 1 <= int(rest) <= 1 << 30:
        return Ending(count=int(rest))
    if word == "silence" and 0 < float(rest) <= 3600:
        return Ending(silence=float(rest))
    terminator = b""
    if word == "hex":
        terminator = bytes.fromhex(rest.replace("0x", " ").replace(",", " "))
    elif word == "text":
        terminator = _unescape(rest)
    if not 1 <= len(terminator) <= _MAX_TERMINATOR:
        raise ValueError
    return Ending(terminator=terminator)


_ESCAPES: Final = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}
_ESCAPED: Final = re.compile(r"\\(?:([rnt0\\])|x([0-9a-fA-F]{2})|.?)", re.DOTALL)


def _unescape(text: str) -> bytes:
    def replaced(match: re.Match[str]) -> str:
        letter, digits = match.groups()
        if digits:
            return chr(int(digits, 16))
        if not letter:
            raise ValueError
        return _ESCAPES[letter]

    return _ESCAPED.sub(replaced, text).encode("latin-1")
