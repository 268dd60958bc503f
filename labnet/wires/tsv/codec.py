"""Lines of the sm_bluesky instrument servers: a command and its arguments, a status and its data.

A request is ``command TAB argument TAB ... LF``, a reply ``status TAB data LF`` with status ``1``
for success and ``0`` for an error; fields of the data are joined by TAB. Nothing is escaped: TAB
and LF cannot be carried in a value. The rules are those of sm-bluesky 1.2 to 1.4.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from labnet.errors import BadArguments, DeviceFault, LabError, TimedOut, UnknownName, shorten
from labnet.values import Kind, LabeledArray, plain, text_of

WHITE_SPACE: Final = b" \t\r\n\v\f"
"""What a server strips from both ends of a line."""

ACKNOWLEDGED: Final = b"1\t\n"
"""Success without data; also the reply to ``ping``."""

LINE_TOO_LONG: Final = b"0\tLine too long\n"

# All that str.splitlines takes for the end of a line: a client in text mode would stop there.
_BREAKS: Final = re.compile("\r\n|[\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]")
_BYTE_BREAKS: Final = re.compile(b"\r\n|[\n\r\v\f]")

_UNKNOWN: Final = re.compile(r"Received unknown command: '(.*)': Unknown command", re.DOTALL)
_SILENT: Final = re.compile(
    r"Error handling command: .* - hardware not responding: (.*) exceeded ([0-9.e+-]+)s limit"
    r"(?:: .*)?",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Request:
    """A command with its arguments, as the bytes that were sent."""

    command: bytes
    arguments: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """A status and its data; `text` and `fields` are views of the data."""

    ok: bool
    data: bytes = b""

    @property
    def text(self) -> str:
        """The data as UTF-8; bytes that are not are kept as surrogate escapes."""
        return self.data.decode("utf-8", "surrogateescape")

    @property
    def fields(self) -> tuple[str, ...]:
        """The data split at each TAB; empty for success without data."""
        return tuple(self.text.split("\t")) if self.data else ()


def decode_request(line: bytes) -> Request | None:
    """The request in a line (without its LF), or None for a line that asks for nothing.

    White space is stripped from both ends, and empty arguments are dropped.
    """
    parts = [part for part in line.strip(WHITE_SPACE).split(b"\t") if part]
    return Request(parts[0], tuple(parts[1:])) if parts else None


def encode_request(command: str, *arguments: object) -> bytes:
    """The line for a command; arguments become text as Python's ``str`` writes them.

    Raises `BadArguments` for what the wire cannot carry: an empty text, TAB or LF anywhere, and
    white space at an end of the line, which the server would cut off.
    """
    texts = [command, *map(_argument_text, arguments)]
    for text in texts:
        if not text:
            raise BadArguments(f"{shorten(command)!r}: a TSV server cannot be sent an empty text")
        if "\t" in text or "\n" in text:
            raise BadArguments(
                f"{shorten(text)!r} holds a tab or a line feed, which a TSV server would take for"
                " the end of the argument"
            )
    line = "\t".join(texts).encode("utf-8", "surrogateescape")
    if line != line.strip(WHITE_SPACE):
        raise BadArguments(
            f"{shorten(command)!r}: white space at the end of a line is lost; leave it out"
        )
    return line + b"\n"


def _argument_text(argument: object) -> str:
    if isinstance(argument, bytes):
        return argument.decode("utf-8", "surrogateescape")
    return str(plain(argument))


def decode_reply(line: bytes) -> Reply | None:
    """The reply in a line (without its LF); None for a line without a status.

    A line without a status is the rest of the reply before it: some servers send texts with line
    feeds in them.
    """
    status = line[:2]
    if status in (b"1\t", b"1"):
        return Reply(True, line[2:])
    if status in (b"0\t", b"0"):
        return Reply(False, line[2:])
    return None


def encode_reply(ok: bool, data: str | bytes = b"") -> bytes:
    """The line of a reply; a line break in the data becomes a blank, so that it stays one line."""
    form = b"1\t%b\n" if ok else b"0\t%b\n"
    if isinstance(data, str):
        return form % encode_text(single_line(data))
    return form % _BYTE_BREAKS.sub(b" ", data)


def single_line(text: str) -> str:
    """`text` with a blank for each line break."""
    return text if text.isprintable() else _BREAKS.sub(" ", text)


def encode_text(text: str) -> bytes:
    """`text` in UTF-8; what came in as bytes that are no UTF-8 goes out as the same bytes."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def encode_value(value: Any, kind: Kind) -> bytes:
    """The reply that answers `value`.

    A list or an array becomes one field for each item (rows of an array with more dimensions as
    JSON), a mapping JSON, bytes themselves, anything else the text of its kind.
    """
    if type(value) is float:
        return b"1\t%b\n" % repr(value).encode()
    if value is None:
        return ACKNOWLEDGED
    if isinstance(value, bytes | bytearray):
        return encode_reply(True, bytes(value))
    items = _items(value)
    if items is not None:
        return encode_reply(True, "\t".join(map(_field, items)))
    if isinstance(value, Mapping):
        return encode_reply(True, _field(value))
    return encode_reply(True, kind.format(value))


def _items(value: Any) -> list[Any] | tuple[Any, ...] | None:
    """The items of a list or an array; None for a value that is one field."""
    if isinstance(value, LabeledArray):
        value = value.data
    if isinstance(value, np.ndarray) and value.ndim:
        return list(value.tolist())
    return value if isinstance(value, list | tuple) else None


def _field(item: Any) -> str:
    item = plain(item)
    if isinstance(item, list | tuple | Mapping | np.ndarray):
        return json.dumps(item, default=_json_item)
    if isinstance(item, bytes):
        item = item.decode("utf-8", "surrogateescape")
    return "" if item is None else text_of(item).replace("\t", " ")


def _json_item(item: Any) -> Any:
    return item.tolist() if isinstance(item, np.ndarray) else text_of(item)


def unknown_command(command: str) -> bytes:
    """The reply to a command that there is not."""
    return encode_reply(False, f"Received unknown command: '{command}': Unknown command")


def command_failed(command: str, text: str) -> bytes:
    """The reply to a command that failed with `text`."""
    return encode_reply(False, f"Error handling command '{command}': {text}")


def not_responding(command: str, text: str) -> bytes:
    """The reply to a command whose hardware did not answer in time."""
    data = f"Error handling command: {command} - hardware not responding: {text}"
    return encode_reply(False, data)


def not_a_command(error: UnicodeDecodeError) -> bytes:
    """The reply to a command that is not UTF-8."""
    where = f"byte 0x{error.object[error.start]:02x} at position {error.start}"
    return encode_reply(False, f"Handler Error: the command is not UTF-8 text: {where}")


def failure(reply: Reply) -> LabError:
    """What an error reply says, as an exception: `UnknownName`, `TimedOut` or `DeviceFault`."""
    text = reply.text
    unknown = _UNKNOWN.fullmatch(text)
    if unknown:
        return UnknownName(unknown[1], what="command")
    silent = _SILENT.fullmatch(text)
    if silent:
        try:
            return TimedOut(silent[1], float(silent[2]))
        except ValueError:
            pass
    return DeviceFault(text or "the server reported an error without a text")
