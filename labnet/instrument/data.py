"""Program data: numbers, words, strings, blocks, expressions (IEEE 488.2 section 7.7).

`read_datum` takes one datum off a message; `numeric` and the `Suffix` rules turn what was written
into a number in a wanted unit.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from labnet.instrument.errors import ScpiError

Message: TypeAlias = bytes | bytearray | memoryview

MAX_DIGITS = 255
MAX_EXPONENT = 32000
#: Most channels that one list may name, ranges spelled out.
MAX_CHANNELS = 10_000


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written, an int where it is one, and its suffix in capitals, perhaps empty."""

    value: int | float
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Word:
    """Character data, in capitals."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """String data without its quotes."""

    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """Arbitrary block data: a view of the message that held it, not a copy."""

    data: memoryview

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Block) and self.data == other.data

    def __hash__(self) -> int:
        return hash(bytes(self.data))


@dataclass(frozen=True, slots=True)
class Expression:
    """What stands between parentheses, without them."""

    text: str


Datum: TypeAlias = Number | Word | Text | Block | Expression

WHITE = rb"[\x00-\x20]*"
_NUMBER = re.compile(
    rb"([+-]?)(?:([0-9]+)(\.[0-9]*)?|(\.[0-9]+))(?:[\x00-\x20]*[eE][\x00-\x20]*([+-]?[0-9]+))?"
)
_SUFFIX = re.compile(WHITE + rb"(/?[A-Za-z%\xb0\xb5][A-Za-z0-9./%-]*)")
_WORD = re.compile(rb"[A-Za-z][A-Za-z0-9_]*")
_DOUBLE = re.compile(rb'"([^"]*(?:""[^"]*)*)"')
_SINGLE = re.compile(rb"'([^']*(?:''[^']*)*)'")
_BASES = {
    0x48: (16, re.compile(rb"[0-9A-Fa-f]+")),
    0x51: (8, re.compile(rb"[0-7]+")),
    0x42: (2, re.compile(rb"[01]+")),
}
_BASE_DIGITS = re.compile(rb"[0-9A-Za-z.]*")
_PARENTHESIS = re.compile(rb"[()\"';\n]")


def read_datum(message: Message, at: int) -> tuple[Datum, int]:
    """The datum that starts at `at` and where it ends; raises `ScpiError`."""
    byte = message[at]
    if 0x30 <= byte <= 0x39 or byte in b"+-.":
        return _number(message, at)
    if byte in b"\"'":
        return _string(message, at)
    if byte == 0x23:
        return _hash(message, at)
    if byte == 0x28:
        return _expression(message, at)
    found = _WORD.match(message, at)
    if found is None:
        raise ScpiError(-101)
    return Word(found[0].decode("ascii").upper()), found.end()


def _number(message: Message, at: int) -> tuple[Datum, int]:
    found = _NUMBER.match(message, at)
    if found is None:
        raise ScpiError(-121)
    value = _value(found)
    end = found.end()
    suffix = _SUFFIX.match(message, end)
    if suffix is None:
        return Number(value), end
    return Number(value, suffix[1].decode("latin-1").replace("\xb5", "u").upper()), suffix.end()


def _value(found: re.Match[bytes]) -> int | float:
    sign, whole, fraction, bare, exponent = found.groups()
    if len(whole or b"") + len(fraction or b"") + len(bare or b"") > MAX_DIGITS:
        raise ScpiError(-124)
    if exponent is not None and (len(exponent) > 8 or abs(int(exponent)) > MAX_EXPONENT):
        raise ScpiError(-123)
    if fraction is None and bare is None and exponent is None:
        return int(sign + whole)
    digits = sign + (whole or b"") + (fraction or b"") + (bare or b"")
    value = float(digits + b"e" + (exponent or b"0"))
    if math.isinf(value):
        raise ScpiError(-123)
    return value


def _string(message: Message, at: int) -> tuple[Datum, int]:
    quote, pattern = (b'"', _DOUBLE) if message[at] == 0x22 else (b"'", _SINGLE)
    found = pattern.match(message, at)
    if found is None:
        raise ScpiError(-151)
    return Text(found[1].replace(quote + quote, quote).decode("latin-1")), found.end()


def _hash(message: Message, at: int) -> tuple[Datum, int]:
    """A block, or a number in another base."""
    kind = message[at + 1] if at + 1 < len(message) else 0
    if kind == 0x30:
        return _indefinite(message, at + 2)
    if 0x31 <= kind <= 0x39:
        return _definite(message, at + 2, kind - 0x30)
    base, pattern = _BASES.get(kind & 0xDF, (0, None))
    if pattern is None:
        raise ScpiError(-161)
    found = pattern.match(message, at + 2)
    rest = _BASE_DIGITS.match(message, at + 2)
    if found is None or rest is None or rest.end() != found.end():
        raise ScpiError(-121)
    if len(found[0]) > MAX_DIGITS:
        raise ScpiError(-124)
    return Number(int(found[0], base)), found.end()


def _definite(message: Message, at: int, digits: int) -> tuple[Datum, int]:
    start = at + digits
    length = bytes(message[at:start])
    if len(length) < digits or not length.isdigit():
        raise ScpiError(-161)
    end = start + int(length)
    if end > len(message):
        raise ScpiError(-161)
    return Block(memoryview(message)[start:end]), end


def _indefinite(message: Message, at: int) -> tuple[Datum, int]:
    """All up to END; the LF that comes with END is not part of it (section 7.7.6.2)."""
    end = len(message)
    last = end - 1 if end > at and message[end - 1] == 0x0A else end
    return Block(memoryview(message)[at:last]), end


def _expression(message: Message, at: int) -> tuple[Datum, int]:
    depth, end = 1, at + 1
    while depth:
        found = _PARENTHESIS.search(message, end)
        if found is None or found[0] in b";\n":
            raise ScpiError(-171)
        end = found.end()
        if found[0] == b"(":
            depth += 1
        elif found[0] == b")":
            depth -= 1
        else:
            _, end = _string(message, end - 1)
    return Expression(bytes(message[at + 1 : end - 1]).decode("latin-1").strip()), end


_RANGE = re.compile(r"\s*([0-9]{1,9})\s*(?::\s*([0-9]{1,9})\s*)?\Z")


def channel_list(text: str) -> list[int]:
    """The channels of an expression such as ``@1,3:5`` (SCPI-1999 volume 1, section 8.3.2).

    A range may run down. Raises `ScpiError` -171, or -223 above `MAX_CHANNELS`.
    """
    if not text.startswith("@"):
        raise ScpiError(-171)
    channels: list[int] = []
    for part in text[1:].split(",") if text[1:].strip() else ():
        found = _RANGE.match(part)
        if found is None:
            raise ScpiError(-171)
        first, last = int(found[1]), int(found[2] or found[1])
        if abs(last - first) + len(channels) >= MAX_CHANNELS:
            raise ScpiError(-223)
        step = 1 if last >= first else -1
        channels.extend(range(first, last + step, step))
    return channels


# Units and their multipliers (IEEE 488.2 section 7.7.3, SCPI-1999 volume 1, section 7.4).

_MULTIPLIERS = {
    "EX": 18, "PE": 15, "T": 12, "G": 9, "MA": 6, "K": 3, "": 0,
    "M": -3, "U": -6, "N": -9, "P": -12, "F": -15, "A": -18,
}  # fmt: skip
_PREFIXES = {
    "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "c": -2, "m": -3,
    "u": -6, "\xb5": -6, "\u03bc": -6, "n": -9, "p": -12, "f": -15, "a": -18,
}  # fmt: skip
# Units that a prefix may stand before, as people write them in `unit=`.
_BASES_OF_UNITS = frozenset({
    "V", "A", "W", "Hz", "s", "m", "\u03a9", "Ohm", "ohm", "F", "H", "J", "N", "Pa", "K", "T", "g",
    "L", "l", "C", "S", "bar", "eV", "rad", "deg", "lm", "lx", "cd", "mol", "Bq", "Sv", "Wb",
    "Vpp", "VA", "var", "b", "B",
})  # fmt: skip
_NAMES = {"\u03a9": "OHM", "\xb0": "DEG", "\xb0C": "CEL", "degC": "CEL", "%": "PCT", "Pa": "PAL"}
_OTHER_NAMES = {"PAL": ("PA",), "OHM": ("R",), "S": ("SEC",), "CEL": ("C", "DEGC"), "PCT": ("%",)}
_MEGA = frozenset({"HZ", "OHM"})
_OF_SECONDS = {"MIN": 60.0, "HR": 3600.0}


def _base_and_exponent(unit: str) -> tuple[str, int]:
    """``"nm"`` as metres and -9; a unit that takes no prefix is its own base."""
    if unit not in _BASES_OF_UNITS and unit[1:] in _BASES_OF_UNITS and unit[0] in _PREFIXES:
        return unit[1:], _PREFIXES[unit[0]]
    return unit, 0


@lru_cache(maxsize=1024)
def suffixes(unit: str) -> dict[str, float]:
    """Each suffix that `unit` may be given in, in capitals, and what to multiply by.

    ``suffixes("nm")["UM"]`` is 1000: a number in micrometres times 1000 is in nanometres.
    Of a compound unit such as ``mm/s`` the first part takes the multiplier.
    """
    first, slash, rest = unit.partition("/")
    base, exponent = _base_and_exponent(first)
    name = _NAMES.get(base, base).upper()
    tail = (slash + rest).upper()
    table: dict[str, float] = {}
    multipliers = _MULTIPLIERS if base in _BASES_OF_UNITS else {"": 0}
    for word in (name, *_OTHER_NAMES.get(name, ())):
        for multiplier, power in multipliers.items():
            if multiplier == "M" and name in _MEGA:
                power = 6
            table.setdefault(multiplier + word + tail, _power_of_ten(power - exponent))
    if name == "S" and not tail:
        for word, seconds in _OF_SECONDS.items():
            table[word] = seconds * _power_of_ten(-exponent)
    table[name + tail] = _power_of_ten(-exponent)
    table[unit.replace("\xb5", "u").replace("\u03bc", "u").upper()] = 1.0
    return table


def _power_of_ten(exponent: int) -> float:
    return float(f"1e{exponent}")


def in_unit(number: Number, unit: str) -> int | float:
    """The number in `unit`; raises `ScpiError` -131 or, where there is no unit, -138."""
    if not number.suffix:
        return number.value
    if not unit:
        raise ScpiError(-138)
    factor = suffixes(unit).get(number.suffix)
    if factor is None:
        raise ScpiError(-131)
    return _scaled(number.value, factor)


def _scaled(value: int | float, factor: float) -> int | float:
    """The product; divides by the whole number where the factor is small, which rounds better."""
    if factor == 1.0:
        return value
    try:
        if factor < 1.0:
            inverse = round(1.0 / factor)
            if math.isclose(inverse * factor, 1.0, rel_tol=1e-12):
                return value / inverse
        return value * factor
    except OverflowError:
        raise ScpiError(-222) from None
