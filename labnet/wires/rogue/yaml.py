"""YAML as PyRogue writes it: names and displayed values, devices indented by two spaces."""

from __future__ import annotations

import re
from typing import Any, Final

_INDENT: Final = "  "
# What YAML 1.1 would read as something else than text.
_OTHER: Final = re.compile(
    r"(?i:y|yes|n|no|true|false|on|off|null|~|<<|=)\Z"
    r"|[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?\Z"
    r"|[-+]?\.[0-9_]+(?:[eE][-+]?[0-9]+)?\Z"
    r"|[-+]?\.(?i:inf)\Z|\.(?i:nan)\Z"
    r"|[-+]?0[xbo]?[0-9a-fA-F_]+\Z"
    r"|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?\Z"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
)
_PLAIN: Final = re.compile(r"[^\s\-?:,\[\]{}#&*!|>'\"%@`](?:[^\x00-\x1f\x7f-\uffff]*[^\s:])?\Z")


def scalar(text: str) -> str:
    """A text, in quotes where YAML would take it for something else."""
    if text.isascii() and text.isprintable():
        if _PLAIN.match(text) and not _OTHER.match(text) and not re.search(r": | #", text):
            return text
        return "'" + text.replace("'", "''") + "'"
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isascii() and character.isprintable():
        return character
    code = ord(character)
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return f"\\u{code:04x}" if code > 0xFF else f"\\x{code:02x}"


def line(name: str, shown: str, value: Any) -> str:
    """A variable: its name and its value as it is shown, quoted if the value is text."""
    number = isinstance(value, bool | int | float) and "\n" not in shown
    plain = number and (_OTHER.match(shown) or shown in ("True", "False"))
    return f"{scalar(name)}: {shown if plain else scalar(shown)}\n"


def block(name: str, lines: str) -> str:
    """A device: its name and, indented, what is in it."""
    if not lines:
        return f"{scalar(name)}: {{}}\n"
    inside = "".join(f"{_INDENT}{part}" for part in lines.splitlines(keepends=True))
    return f"{scalar(name)}:\n{inside}"
