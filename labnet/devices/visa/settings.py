"""How a VISA resource is talked to: what its section may set, and what follows from its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from pyvisa.constants import InterfaceType
from pyvisa.rname import ResourceName

from labnet.errors import OutOfRange, shorten

_WORDS = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r", "none": b"", "": b""}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|[nrt0\\])")
_ESCAPES = {"n": b"\n", "r": b"\r", "t": b"\t", "0": b"\0", "\\": b"\\"}


class Termination(bytes):
    """What ends a message: LF, CRLF, CR, none, or characters such as ``\\x03``."""

    @classmethod
    def from_text(cls, text: str) -> Termination:
        """From the text of a key; ValueError for what is no byte."""
        word = _WORDS.get(text.strip().lower())
        if word is not None:
            return cls(word)
        try:
            return cls(b"".join(_pieces(text.strip())))
        except UnicodeEncodeError:
            raise ValueError(f"{shorten(text)!r} is no LF, CRLF, CR, none or bytes") from None

    def __str__(self) -> str:
        words = {end: word for word, end in _WORDS.items() if word}
        return words.get(bytes(self), repr(bytes(self))[2:-1])


def _pieces(text: str) -> list[bytes]:
    pieces = []
    at = 0
    for found in _ESCAPE.finditer(text):
        code = found[1]
        pieces += [
            text[at : found.start()].encode("latin-1"),
            bytes([int(code[1:], 16)]) if code[0] == "x" else _ESCAPES[code],
        ]
        at = found.end()
    return [*pieces, text[at:].encode("latin-1")]


@dataclass(frozen=True)
class Settings:
    """Times in seconds, lengths in bytes; `attributes` are those of a serial line."""

    resource: str
    backend: str = "@py"
    io_timeout: float = 2.0
    open_timeout: float = 5.0
    write_end: bytes = b"\n"
    read_end: bytes | None = None
    chunk_size: int = (1 << 20) + 1
    longest_answer: int = 1 << 28
    query_delay: float = 0.0
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_least(
            io_timeout=(self.io_timeout, 0.001),
            open_timeout=(self.open_timeout, 0.001),
            query_delay=(self.query_delay, 0.0),
            chunk_size=(self.chunk_size, 1),
            longest_answer=(self.longest_answer, 1),
        )
        parsed = ResourceName.from_string(self.resource)  # raises ValueError for no such name
        kind = parsed.interface_type_const
        is_serial = kind == InterfaceType.asrl
        is_stream = is_serial or parsed.resource_class == "SOCKET"
        object.__setattr__(self, "is_serial", is_serial)
        object.__setattr__(self, "is_stream", is_stream)
        object.__setattr__(self, "is_socket", is_stream and not is_serial)
        usual = b"\n" if is_stream else b""
        end = usual if self.read_end is None else self.read_end
        object.__setattr__(self, "end", end)
        if is_stream and not end:
            raise ValueError("answers of a socket or a serial line need a read_termination")
        check_backend(self.backend)

    is_serial: bool = field(init=False)
    is_socket: bool = field(init=False)
    #: What ends an answer; empty where END does.
    end: bytes = field(init=False)
    #: Whether nothing but bytes arrives: no END, no device clear, no serial poll.
    is_stream: bool = field(init=False)


def check_least(**numbers: tuple[float, float]) -> None:
    """Each a value and the least it may be; raises `OutOfRange` naming the one that is less."""
    for name, (value, least) in numbers.items():
        if not value >= least:
            raise OutOfRange(name, value, least)


def check_backend(backend: str) -> None:
    """ValueError for a backend whose Python package is not there."""
    name = backend.rpartition("@")[2] if "@" in backend else ""
    if name and name != "ivi" and find_spec(f"pyvisa_{name}") is None:
        raise ValueError(f"the backend {shorten(backend)!r} needs the package pyvisa-{name}")
