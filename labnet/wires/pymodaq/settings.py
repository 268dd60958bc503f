"""The tree of settings that a module shares, as XML: one element a parameter.

PyMoDAQ itself evaluates some of these texts as Python. Here they are literals that are read without
running anything, no module is imported because a peer names it, and XML with a DTD, with entities,
too deep or too long is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from types import MappingProxyType
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from labnet.errors import WrongType
from labnet.literals import literal, written
from labnet.wires.pymodaq.primitives import MAX_XML, Malformed

MAX_ELEMENTS = 10_000
MAX_DEPTH = 32
MAX_ATTRIBUTES = 40
MAX_LITERALS = 1 << 15
"""Letters of all lists, limits and tables of one tree; they take long to read. Those beyond have no
value."""

TEXTS = frozenset({"str", "text", "browsepath", "table_view"})
BOOLS = frozenset({"bool", "bool_push", "led", "led_push"})
FLOATS = frozenset({"float", "slide"})
LITERALS = frozenset({"itemselect", "color", "table"})
LIMITS = ("limits", "values", "all_items")
TIMES = frozenset({"date_time", "date"})

_TOO_LARGE = f"more than {MAX_ELEMENTS} settings, or more than {MAX_DEPTH} deep"
_FLAGS = ("visible", "removable", "readonly")
_CAST = re.compile(r"\s*(str|int|float|bool)\s*\((.*)\)\s*\Z", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][\w.-]*\Z")
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Setting:
    """A parameter, or a group with `children`.

    `value` is that of the text, by `type`: None where it has none or one that cannot be read.
    `attributes` are all but the type, the title and the three flags, as they came.
    """

    name: str
    type: str
    value: Any = None
    title: str = ""
    children: tuple[Setting, ...] = ()
    visible: bool = True
    removable: bool = False
    readonly: bool = False
    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)

    @property
    def is_group(self) -> bool:
        """Whether it is a group of settings."""
        return self.type == "group"

    @property
    def label(self) -> str:
        """What a user calls it."""
        return self.name if self.title in ("", "None") else self.title

    @property
    def limits(self) -> Any:
        """Least and greatest value, or the choices of a list; None where there are none."""
        for name in LIMITS:
            if name in self.attributes:
                return _literal(self.attributes[name])
        return None

    def child(self, name: str) -> Setting | None:
        """The setting of this name in the group."""
        return next((child for child in self.children if child.name == name), None)

    def find(self, path: Iterable[str]) -> Setting | None:
        """The setting at a path below this group."""
        found: Setting | None = self
        for name in path:
            found = None if found is None else found.child(name)
        return found

    def resolve(self, path: Iterable[str]) -> tuple[str, ...] | None:
        """The path below this group of what a peer calls so, with or without this group's name."""
        given = tuple(path)
        for names in (given, given[1:]):
            if names and self.find(names) is not None:
                return names
        return None

    def walk(self) -> Iterator[tuple[tuple[str, ...], Setting]]:
        """All below this group that are no groups, with their paths."""
        for child in self.children:
            if child.is_group:
                for path, setting in child.walk():
                    yield (child.name, *path), setting
            else:
                yield (child.name,), child

    def check_size(self) -> None:
        """Raises `Malformed` for a tree that is larger, or deeper, than one that is sent may be."""
        left, depth, here = MAX_ELEMENTS, MAX_DEPTH, [self]
        while here:
            left, depth = left - len(here), depth - 1
            if left < 0 or depth < 0:
                raise Malformed(_TOO_LARGE)
            here = [child for one in here for child in one.children]

    def changed(self, path: tuple[str, ...], setting: Setting) -> Setting:
        """This group with another setting at a path; itself where there is nothing at that path."""
        if not path:
            return setting
        children = tuple(
            child.changed(path[1:], setting) if child.name == path[0] else child
            for child in self.children
        )
        return replace(self, children=children)

    def with_value(self, value: Any) -> Setting:
        """This setting with another value."""
        return replace(self, value=value)


def read_settings(xml: str) -> Setting:
    """A tree of settings, or a single one; raises `Malformed`."""
    data = xml.encode()
    if len(data) > MAX_XML:
        raise Malformed(f"settings of {len(data)} bytes; at most {MAX_XML} are allowed")
    return _Builder().build(data)


class _Builder:
    """Makes settings of elements as the parser meets them."""

    def __init__(self) -> None:
        parser: Any = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        for what in ("StartDoctypeDecl", "EntityDecl", "ExternalEntityRef", "UnparsedEntityDecl"):
            setattr(parser, f"{what}Handler", _refuse)
        self._parser = parser
        self._open: list[tuple[str, dict[str, str], list[str], list[Setting]]] = []
        self._root: Setting | None = None
        self._count = 0
        self._literals = 0

    def build(self, data: bytes) -> Setting:
        try:
            self._parser.Parse(data, True)
        except expat.ExpatError as error:
            raise Malformed(f"settings that are no XML: {expat.ErrorString(error.code)}") from None
        assert self._root is not None, "a document without a root is no XML"
        return self._root

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MAX_ELEMENTS or len(self._open) >= MAX_DEPTH:
            raise Malformed(_TOO_LARGE)
        if len(attributes) > MAX_ATTRIBUTES:
            raise Malformed(f"a setting with {len(attributes)} attributes")
        self._open.append((name, attributes, [], []))

    def _text(self, text: str) -> None:
        if self._open:
            self._open[-1][2].append(text)

    def _end(self, name: str) -> None:
        _, attributes, texts, children = self._open.pop()
        text = "".join(texts)
        if attributes.get("type", "") in LITERALS | {"list"} and not self._readable(text):
            text = ""
        for key in LIMITS:
            if not self._readable(attributes.get(key, "")):
                del attributes[key]
        setting = _setting(name, attributes, text, tuple(children))
        if self._open:
            self._open[-1][3].append(setting)
        else:
            self._root = setting

    def _readable(self, text: str) -> bool:
        """Whether there is time to read another literal."""
        self._literals += len(text)
        return self._literals <= MAX_LITERALS or not text


def _refuse(*_: Any) -> None:
    raise Malformed("settings with a document type or entities")


def _setting(
    name: str, attributes: dict[str, str], text: str, children: tuple[Setting, ...]
) -> Setting:
    kind = "group" if children else attributes.get("type", "group")
    flags = {flag: attributes.get(flag, "1" if flag == "visible" else "0") for flag in _FLAGS}
    own = {"type", "title", *_FLAGS}
    rest = {key: value for key, value in attributes.items() if key not in own}
    return Setting(
        name,
        kind,
        value_of(kind, text),
        attributes.get("title", ""),
        children,
        visible=_true(flags["visible"]),
        removable=_true(flags["removable"]),
        readonly=_true(flags["readonly"]),
        attributes=MappingProxyType(rest),
    )


def _true(text: str) -> bool:
    return text.strip().lower() in ("1", "true")


def value_of(kind: str, text: str) -> Any:
    """The value of a setting of a type from its text; None where it has none."""
    if kind in TEXTS:
        return text
    text = text.strip()
    if kind in BOOLS:
        return _true(text)
    if kind == "list":
        return _choice(text)
    if kind in LITERALS:
        return _literal(text)
    number = _NUMBERS.get(kind)
    try:
        return None if number is None else number(text)
    except (ValueError, OverflowError):
        return None


def _int(text: str) -> int:
    try:
        found = int(text)
    except ValueError:
        found = int(float(text))
    if found.bit_length() > 64:
        raise OverflowError
    return found


_NUMBERS: Mapping[str, Callable[[str], Any]] = {
    "int": _int, **dict.fromkeys(FLOATS, float), **dict.fromkeys(TIMES, _int)
}  # fmt: skip


def _choice(text: str) -> Any:
    """The value of a list, which says its type: ``str('x')``, ``int(3)``."""
    cast = _CAST.match(text)
    found = _literal(cast[2] if cast else text)
    if not isinstance(found, str | bool | int | float):
        return text
    try:
        return _CASTS[cast[1]](found) if cast else found
    except (ValueError, OverflowError):
        return text


_CASTS: Mapping[str, Callable[[Any], Any]] = {"str": str, "int": int, "float": float, "bool": bool}


def _literal(text: str) -> Any:
    try:
        return literal(text, "a setting", "a literal")
    except WrongType:
        return None


def text_of(kind: str, value: Any) -> str:
    """The text of a value for a setting of a type; ValueError for a value that does not fit."""
    if value is None or kind == "group":
        return ""
    if kind in TEXTS:
        return str(value)
    if kind in BOOLS:
        return "1" if value else "0"
    if kind == "list":
        return _written_choice(value)
    if kind in FLOATS:
        return repr(float(value))
    if kind == "int" or kind in TIMES:
        return str(int(value))
    return written(value)


def _written_choice(value: Any) -> str:
    if isinstance(value, float) and not isfinite(value):
        return f"float('{value}')"
    for kind in (str, int, float):
        if isinstance(value, kind) and not isinstance(value, bool):
            return f"{kind.__name__}({value!r})"
    return written(value)


def write_settings(setting: Setting) -> str:
    """A setting and what is below it, on one line of ASCII; ValueError for a name that cannot be
    an element's."""
    return "".join(_written(setting)).encode("ascii", "xmlcharrefreplace").decode()


def _written(setting: Setting) -> Iterator[str]:
    if not _NAME.match(setting.name):
        raise ValueError(f"{setting.name!r} cannot be the name of a setting")
    attributes = {"type": setting.type, "title": setting.title or setting.name}
    attributes |= {flag: "1" if getattr(setting, flag) else "0" for flag in _FLAGS}
    attributes |= setting.attributes
    shown = "".join(f" {key}={quoteattr(_clean(text))}" for key, text in attributes.items())
    text = _clean(text_of(setting.type, setting.value))
    if not setting.children and not text:
        yield f"<{setting.name}{shown} />"
        return
    yield f"<{setting.name}{shown}>"
    yield escape(text, {"\r": "&#13;"})
    for child in setting.children:
        yield from _written(child)
    yield f"</{setting.name}>"


def _clean(text: str) -> str:
    """Without the control characters that XML has no way to say."""
    return _FORBIDDEN.sub("?", text)
