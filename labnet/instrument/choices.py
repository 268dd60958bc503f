"""The choices of an enumerated value as character data, in short and long form (SCPI-1999 7.1)."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any
from weakref import WeakKeyDictionary

from labnet.errors import OutOfRange
from labnet.instrument.data import Datum, Number, Text, Word
from labnet.instrument.errors import ScpiError
from labnet.instrument.header import spelled
from labnet.values import EnumKind, plain

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")


class Choices:
    """How each choice is written and understood.

    A choice written ``IMMediate`` answers to ``IMM`` and ``IMMEDIATE`` and is written ``IMM``.
    One written in capitals has this form only. For others the short form is made by the standard's
    rule, where it stays unambiguous. A choice that is no word is written as a string, a
    number as a number.
    """

    def __init__(self, kind: EnumKind) -> None:
        self._kind = kind
        self._words: dict[str, Any] = {}
        self._written: dict[Any, bytes] = {}
        words = {key: text for key, text in kind.choices.items() if _WORD.match(text)}
        shorts = Counter(spelled(text)[0] for text in words.values())
        longs = {text.upper() for text in words.values()}
        for key, text in words.items():
            short, long = spelled(text)
            if shorts[short] > 1 or (short != long and short in longs):
                short = long
            self._words.setdefault(long, key)
            self._words.setdefault(short, key)
            self._written[key] = short.encode()

    def understood(self, datum: Datum) -> Any:
        """The choice that was sent; raises `ScpiError` -224, or -104 for another type of data."""
        if isinstance(datum, Word) and datum.text in self._words:
            return self._words[datum.text]
        if isinstance(datum, Text | Word):
            return self._loosely(datum.text)
        if isinstance(datum, Number) and not datum.suffix:
            return self._loosely(datum.value)
        raise ScpiError(-138 if isinstance(datum, Number) else -104)

    def _loosely(self, value: Any) -> Any:
        try:
            return plain(self._kind.check(value))
        except OutOfRange:
            raise ScpiError(-224) from None

    def written(self, value: Any) -> bytes:
        """The choice as response data."""
        value = plain(value)
        known = self._written.get(value)
        if known is not None:
            return known
        if isinstance(value, int | float) and not isinstance(value, bool):
            return repr(value).upper().encode()
        text = self._kind.format(value)
        return b'"' + text.replace('"', '""').encode("latin-1", "replace") + b'"'


_CHOICES: WeakKeyDictionary[EnumKind, Choices] = WeakKeyDictionary()


def choices_of(kind: EnumKind) -> Choices:
    """The `Choices` of a kind, made once."""
    choices = _CHOICES.get(kind)
    if choices is None:
        choices = _CHOICES[kind] = Choices(kind)
    return choices
