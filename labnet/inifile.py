"""INI text with its line numbers: sections, keys and where each stands.

The rules: ``[kind]`` or ``[kind NAME]`` opens a section; ``key = value`` sets a key; a line
indented deeper than its key continues the value; a line that begins with ``#`` or ``;`` is a
comment, and so is what follows `` # `` or `` ; `` behind a value. A section or key that stands
twice is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType

from labnet.errors import LabError, shorten

MAX_SIZE = 1 << 20  # bytes of one file
_COMMENT = re.compile(r"\s[#;](?=\s|$)")
_BLANKS = re.compile(r"[ \t]+")


class ConfigError(LabError):
    """A configuration that cannot be used; the text names file, line, section and key."""


@dataclass(frozen=True)
class Entry:
    """The text of one value and the number of the line where it begins."""

    text: str
    line: int


@dataclass(frozen=True)
class Section:
    """One section as it stands in the file; `kind` is its first word, `name` the rest."""

    file: str
    line: int
    kind: str
    name: str = ""
    entries: Mapping[str, Entry] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def title(self) -> str:
        """What stands between the brackets."""
        return f"{self.kind} {self.name}".rstrip()

    def text(self, key: str, default: str = "") -> str:
        """The text of `key`, or `default` where the section does not set it."""
        entry = self.entries.get(key)
        return default if entry is None else entry.text

    def error(self, problem: str, key: str | None = None) -> ConfigError:
        """An error that says where it lies: at `key` where that is set, else at the section."""
        entry = None if key is None else self.entries.get(key)
        line = self.line if entry is None else entry.line
        return error_at(self.file, line, f"[{self.title}] {problem}")

    def bad(self, key: str, problem: str) -> ConfigError:
        """An error about the value of `key`."""
        return self.error(f"{key}: {problem}", key)

    def check_keys(self, known: Iterable[str]) -> None:
        """ConfigError for the first key that is not among `known`."""
        names = list(known)
        for key in self.entries:
            if key not in names:
                raise self.error(f"unknown key {shorten(key)!r}{suggest(key, names)}", key)


def error_at(file: str, line: int, problem: str) -> ConfigError:
    """A `ConfigError` in the form ``lab.ini:12: problem``."""
    return ConfigError(f"{file}:{line}: {problem}")


def suggest(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'listen'?`` for the nearest of `known`, else what there is, else nothing."""
    names = {name.lower(): name for name in known}
    near = get_close_matches(word.lower()[:100], names, 1)
    if near:
        return f"; did you mean {names[near[0]]!r}?"
    listed = ", ".join(sorted(names.values()))
    return f"; there is {shorten(listed, 200)}" if names else ""


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.sections: dict[tuple[str, str], Section] = {}
        self.entries: dict[str, Entry] = {}
        self.key: str | None = None
        self.indent = 0
        self.line = 0

    def error(self, problem: str) -> ConfigError:
        return error_at(self.file, self.line, problem)

    def feed(self, raw: str) -> None:
        self.line += 1
        text = raw.strip()
        if not text or text[0] in "#;":
            return
        comment = _COMMENT.search(text)
        if comment:
            text = text[: comment.start()].rstrip()
        indent = len(raw) - len(raw.lstrip())
        if self.key is not None and indent > self.indent:
            self.more(text)
        elif text.startswith("["):
            self.header(text)
        else:
            self.setting(text, indent)

    def more(self, text: str) -> None:
        assert self.key is not None
        entry = self.entries[self.key]
        self.entries[self.key] = Entry(f"{entry.text}\n{text}".lstrip("\n"), entry.line)

    def header(self, text: str) -> None:
        if not text.endswith("]") or not text[1:-1].strip():
            raise self.error(f"not a section header: {shorten(text)}; write [kind] or [kind NAME]")
        kind, _, name = _BLANKS.sub(" ", text[1:-1].strip()).partition(" ")
        first = self.sections.get((kind, name))
        if first is not None:
            raise self.error(f"[{first.title}] stands here again; it began in line {first.line}")
        self.key = None
        self.entries = {}
        place = MappingProxyType(self.entries)
        self.sections[kind, name] = Section(self.file, self.line, kind, name, place)

    def setting(self, text: str, indent: int) -> None:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key:
            raise self.error(f"not a setting: {shorten(text)}; write key = value")
        if not self.sections:
            raise self.error(f"{shorten(key)!r} stands before the first section")
        title = list(self.sections.values())[-1].title
        if key in self.entries:
            before = self.entries[key].line
            again = f"{shorten(key)!r} stands here again"
            raise self.error(f"[{title}] {again}; it was set in line {before}")
        self.entries[key] = Entry(value, self.line)
        self.key, self.indent = key, indent


def read_ini(text: str, file: str) -> tuple[Section, ...]:
    """The sections of `text` in their order; `file` is its name in the errors.

    Raises `ConfigError` for a line that is none of header, setting, continuation and comment.
    """
    reader = _Reader(file)
    for line in text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n"):
        reader.feed(line)
    return tuple(reader.sections.values())


def read_text(path: str) -> str:
    """The text of the file at `path`; ConfigError when it cannot be read or is not UTF-8."""
    try:
        with open(path, "rb") as source:
            data = source.read(MAX_SIZE + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_SIZE:
        raise ConfigError(f"{path}: longer than {MAX_SIZE} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise error_at(path, line, "not UTF-8 text") from None
