"""Data blocks (IEEE 488.2 sections 7.7.6, 8.7.9 and 8.7.10) and text in whole messages with END."""

from __future__ import annotations

import re
from typing import Final

from labnet.errors import BadArguments, DeviceFault, TooLarge, quote

_MARK: Final = re.compile(rb"#([0-9])")
_LONGEST_PREFIX: Final = 128
"""Bytes of an answer in which a block must begin; a header such as ``C1:WF ALL,`` may precede."""


def find_block(answer: bytes | bytearray) -> tuple[int, int] | None:
    """Where the bytes of the block in an answer begin, and how many they are; -1 for ``#0``.

    None as long as that is not known; `DeviceFault` when there is no block.
    """
    mark = _MARK.search(answer, 0, _LONGEST_PREFIX)
    if mark is None:
        if len(answer) >= _LONGEST_PREFIX:
            raise _no_block(answer)
        return None
    digits = int(mark[1])
    if not digits:
        return mark.end(), -1
    count = bytes(answer[mark.end() : mark.end() + digits])
    if count and not count.isdigit():
        raise DeviceFault(f"a block whose length is given as {quote(count)}")
    return (mark.end() + digits, int(count)) if len(count) == digits else None


def take_block(answer: bytearray) -> bytearray:
    """The bytes of the block in a whole answer; `DeviceFault` if there is none."""
    found = find_block(answer)
    if found is None:
        raise _no_block(answer)
    start, length = found
    if length < 0:
        length = len(answer) - start - answer.endswith(b"\n")
    if len(answer) - start < length:
        raise DeviceFault(f"a block of {length} bytes ended after {len(answer) - start}")
    if bytes(answer[start + length : start + length + 16]).strip():
        raise DeviceFault("the answer goes on after the block")
    del answer[start + length :]
    del answer[:start]
    return answer


def block_header(length: int) -> bytes:
    """What begins a definite-length block of so many bytes; `TooLarge` beyond nine digits."""
    count = b"%d" % length
    if len(count) > 9:
        raise TooLarge(f"a block may have 999999999 bytes, not {length}")
    return b"#%d%b" % (len(count), count)


def encode_block(data: bytes) -> bytes:
    """`data` as a definite-length block; `TooLarge` beyond nine digits."""
    return block_header(len(data)) + data


def encode_text(message: str | bytes) -> bytes:
    """A message as bytes, one for each character (Latin-1); `BadArguments` for other ones."""
    if isinstance(message, bytes):
        return message
    try:
        return message.encode("latin-1")
    except UnicodeEncodeError as error:
        character = error.object[error.start]
        raise BadArguments(f"{character!r} cannot be sent to an instrument") from None


def decode_text(answer: bytes | bytearray) -> str:
    """An answer as text, without the line end that instruments put behind it."""
    return answer.decode("latin-1").rstrip("\r\n")


def _no_block(answer: bytes | bytearray) -> DeviceFault:
    return DeviceFault(f"a block was asked for, the answer is {quote(bytes(answer[:100]))}")
