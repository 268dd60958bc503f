"""The command tree: the headers of an instrument and what they lead to (SCPI-1999 volume 1, 6.2).

Headers are declared by patterns as in manuals: ``[SOURce<1|2>]:VOLTage[:LEVel]``. Capitals are the
short form; brackets hold what may be left out; ``<1|2>``, ``<1-4>`` or ``<n>`` is a numeric suffix;
a ``?`` at the end makes it a query only. A query and a command may share a header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

from labnet.instrument.errors import ScpiError

T = TypeVar("T")

#: Most spellings (with and without what stands in brackets) that one pattern may have.
MAX_VARIANTS = 256
#: Longest mnemonic, and its part that makes the short form (SCPI-1999 volume 1, section 6.2.1).
MNEMONIC, SHORT = 12, 4

_TOKEN = re.compile(r"([\[\]])|:|([A-Za-z][A-Za-z0-9_]*)(?:<([^<>]*)>)?")
_NUMBERS = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?\Z")
_TRAILING = re.compile(r"(.*?)([0-9]+)\Z", re.DOTALL)


class HeaderError(ValueError):
    """A header pattern that cannot be read, or two that mean the same; for the device's author."""


@dataclass(frozen=True, slots=True)
class Mnemonic:
    """One node of a header: short and long form in capitals, and the numbers it may end in.

    `numbers` is None where there is no numeric suffix. The number that was sent is handed on to the
    target only if it is `captured`; one that is part of the name is not.
    """

    short: str
    long: str
    numbers: frozenset[int] | None = None
    captured: bool = False


@dataclass(frozen=True, slots=True)
class Variant:
    """One spelling of a pattern: its nodes, and for each captured number the node that has it.

    The index is -1 for a node that was left out: its number is 1.
    """

    nodes: tuple[Mnemonic, ...] = ()
    places: tuple[int, ...] = ()

    def then(self, part: Variant) -> Variant:
        moved = tuple(place if place < 0 else place + len(self.nodes) for place in part.places)
        return Variant(self.nodes + part.nodes, self.places + moved)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A header pattern, read: all its spellings and whether it is a query only."""

    text: str
    variants: tuple[Variant, ...]
    query_only: bool


def short_form(mnemonic: str) -> str:
    """The short form of a long mnemonic: four letters, or three if the fourth is a vowel."""
    if len(mnemonic) <= SHORT:
        return mnemonic
    return mnemonic[: SHORT - 1] if mnemonic[SHORT - 1] in "AEIOU" else mnemonic[:SHORT]


def spelled(word: str) -> tuple[str, str]:
    """Short and long form of a mnemonic as manuals write it: ``("VOLT", "VOLTAGE")``."""
    long = word.upper()
    capitals = re.match(r"[A-Z0-9_]*", word)
    short = capitals[0] if capitals else ""
    title = len(short) == 1 < len(long)  # a word of ordinary text, not a pattern
    return (short_form(long) if title or not short else short), long


def derived(name: str) -> tuple[str, int | None]:
    """The mnemonic made from a name, written as in manuals, and its number.

    ``derived("move_abs")`` is ``("MOVabs", None)``, ``derived("line3")`` is ``("LINE", 3)``.
    """
    base, number = name, None
    found = re.match(r"(.*)\[([0-9]+)\]\Z", name) or _TRAILING.match(name)
    if found:
        base, number = found[1], int(found[2])
    long = base.replace("_", "").upper()[:MNEMONIC]
    short = short_form(long)
    return short + long[len(short) :].lower(), number


class _Reader:
    """Reads one pattern; brackets may nest and hold several nodes."""

    def __init__(self, text: str, own: Sequence[int]) -> None:
        self._text = text
        self._own = list(own)
        self._tokens: list[re.Match[str]] = []
        at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise HeaderError(f"header {text!r}: {text[at:]!r} cannot be read")
            self._tokens.append(found)
            at = found.end()

    def read(self) -> list[Variant]:
        variants = self._sequence([Variant()], "")
        if self._tokens or any(not variant.nodes for variant in variants):
            raise HeaderError(f"header {self._text!r}: brackets do not match or nothing is left")
        return variants

    def _sequence(self, variants: list[Variant], closing: str) -> list[Variant]:
        while self._tokens and self._tokens[0][0] != "]":
            token = self._tokens.pop(0)
            if token[0] == "[":
                variants = self._optional(variants)
            elif token[2]:
                node = self._mnemonic(token[2], token[3])
                part = Variant((node,), (0,) if node.captured else ())
                variants = [variant.then(part) for variant in variants]
        if closing and not (self._tokens and self._tokens.pop(0)[0] == closing):
            raise HeaderError(f"header {self._text!r}: a bracket is not closed")
        return variants

    def _optional(self, variants: list[Variant]) -> list[Variant]:
        inside = self._sequence([Variant()], "]")
        longest = max(inside, key=lambda variant: len(variant.nodes))
        if all(node.numbers is None or 1 in node.numbers for node in longest.nodes):
            inside = [*inside, Variant((), (-1,) * len(longest.places))]
        out = [before.then(part) for before in variants for part in inside]
        if len(out) > MAX_VARIANTS:
            raise HeaderError(f"header {self._text!r}: too many nodes that may be left out")
        return out

    def _mnemonic(self, word: str, numbers: str | None) -> Mnemonic:
        literal = _TRAILING.match(word)
        if numbers is None and literal is None:
            return Mnemonic(*spelled(word))
        if numbers is None:
            assert literal is not None
            return Mnemonic(*spelled(literal[1]), frozenset({int(literal[2])}))
        if numbers == "n":
            if not self._own:
                raise HeaderError(f"header {self._text!r}: <n> needs a numbered sub-device")
            return Mnemonic(*spelled(word), frozenset({self._own.pop(0)}))
        return Mnemonic(*spelled(word), self._range(numbers), True)

    def _range(self, text: str) -> frozenset[int]:
        numbers: set[int] = set()
        for part in text.split("|"):
            found = _NUMBERS.match(part)
            if found is None or int(found[2] or found[1]) - int(found[1]) > 10_000:
                raise HeaderError(f"header {self._text!r}: <{text}> is no range such as <1-4>")
            numbers.update(range(int(found[1]), int(found[2] or found[1]) + 1))
        return frozenset(numbers)


def read_pattern(text: str, own: Sequence[int] = ()) -> Pattern:
    """The pattern that `text` writes; raises `HeaderError`.

    `own` are the numbers of the numbered sub-devices on the way to the owner, outermost first: they
    take the place of ``<n>``, the last one of the last.
    """
    body = text.strip()
    query_only = body.endswith("?")
    body = body.removesuffix("?")
    if body.startswith("*"):
        node = Mnemonic(body.upper(), body.upper())
        return Pattern(text, (Variant((node,)),), query_only)
    wanted = body.count("<n>")
    variants = _Reader(body, own[len(own) - wanted :] if wanted else ()).read()
    return Pattern(text, tuple(variants), query_only)


def literal_pattern(names: Sequence[str]) -> Pattern:
    """The pattern derived from a path of names, one node for each."""
    nodes, words = [], []
    for name in names:
        word, number = derived(name)
        numbers = None if number is None else frozenset({number})
        nodes.append(Mnemonic(*spelled(word), numbers))
        words.append(word + ("" if number is None else str(number)))
    return Pattern(":".join(words), (Variant(tuple(nodes)),), False)


class Rank(IntEnum):
    """Who has the say when two headers meet: the lower number."""

    DECLARED = 0  # the author gave it
    STANDARD = 1  # common commands, STATus, SYSTem
    DERIVED = 2  # made from names


@dataclass(frozen=True, slots=True)
class Leaf(Generic[T]):
    """What a header leads to, and who declared it, for messages to the author."""

    target: T
    owner: str
    rank: Rank
    places: tuple[int, ...] = ()

    def numbers(self, sent: Sequence[int]) -> tuple[int, ...]:
        """The numbers for the target: those that were sent, 1 for a node that was left out."""
        return tuple(1 if place < 0 else sent[place] for place in self.places)


class _Branch(Generic[T]):
    """One mnemonic below a node, with the nodes it leads to: a plain one and numbered ones."""

    __slots__ = ("long", "numbered", "owner", "plain", "rank", "short")

    def __init__(self, short: str, long: str, owner: str, rank: Rank) -> None:
        self.short = short
        self.long = long
        self.owner = owner
        self.rank = rank
        self.plain: HeaderNode[T] | None = None
        self.numbered: dict[int, HeaderNode[T]] = {}

    def below(self, numbers: frozenset[int] | None) -> list[HeaderNode[T]]:
        """The nodes for some numbers, made if they are new; VOLT and VOLT1 are one header."""
        if numbers is None:
            if self.plain is None:
                self.plain = self.numbered.get(1) or HeaderNode()
            return [self.plain]
        if 1 in numbers and self.plain is not None:
            self.numbered.setdefault(1, self.plain)
        return [self.numbered.setdefault(number, HeaderNode()) for number in sorted(numbers)]

    def step(self, number: int) -> HeaderNode[T]:
        """The node for one number; raises `ScpiError` -114."""
        node = self.numbered.get(number)
        if node is None and number == 1:
            node = self.plain
        if node is None:
            raise ScpiError(-114)
        return node


class HeaderNode(Generic[T]):
    """One node of the command tree."""

    __slots__ = ("branches", "command", "query")

    def __init__(self) -> None:
        self.branches: dict[str, _Branch[T]] = {}
        self.query: Leaf[T] | None = None
        self.command: Leaf[T] | None = None

    def step(self, text: str, sent: list[int]) -> HeaderNode[T]:
        """The node below that `text` (in capitals) names; raises `ScpiError` -113 or -114."""
        branch = self.branches.get(text)
        if branch is not None:
            sent.append(1)
            return branch.step(1)
        found = _TRAILING.match(text)
        branch = self.branches.get(found[1]) if found else None
        if found is None or branch is None or not branch.numbered:
            raise ScpiError(-113)
        number = int(found[2]) if len(found[2]) <= 6 else -1
        sent.append(number)
        return branch.step(number)

    def branch(self, mnemonic: Mnemonic, owner: str, rank: Rank) -> _Branch[T]:
        """The branch for a mnemonic, made if it is new; raises `HeaderError`."""
        short, long = mnemonic.short, mnemonic.long
        branch = self.branches.get(long) or self.branches.get(short)
        if branch is None:
            return self._grow(short, long, owner, rank)
        known = {branch.short, branch.long}
        if known == {short, long} or (short == long and long in known):
            return branch
        if branch.short == branch.long and branch.long in (short, long):
            branch.short, branch.long = short, long  # so far declared by one form only
            self.branches[short] = self.branches[long] = branch
            return branch
        if branch.rank == rank:
            raise HeaderError(_ambiguous(owner, branch.owner, f"the header node {short}"))
        if branch.long == long:
            return branch
        return self._grow(long, long, owner, rank)  # the short form belongs to the other one

    def _grow(self, short: str, long: str, owner: str, rank: Rank) -> _Branch[T]:
        branch: _Branch[T] = _Branch(short, long, owner, rank)
        self.branches[short] = self.branches[long] = branch
        return branch


class CommandTree(Generic[T]):
    """All headers of an instrument. Those of a lower rank have to be added first."""

    def __init__(self) -> None:
        self._root: HeaderNode[T] = HeaderNode()
        self._headers: dict[str, list[bool]] = {}

    def add(
        self,
        pattern: Pattern,
        owner: str,
        rank: Rank = Rank.DECLARED,
        *,
        query: T | None = None,
        command: T | None = None,
    ) -> None:
        """Declares a header; raises `HeaderError` naming both owners if it is ambiguous.

        A header of a higher rank gives way to those that are there, spelling by spelling.
        """
        taken = [False, False]
        for variant in pattern.variants:
            for node in self._nodes(variant.nodes, owner, rank):
                if query is not None:
                    new = Leaf(query, owner, rank, variant.places)
                    node.query = _prevailing(node.query, new, pattern.text)
                    taken[0] |= node.query is new
                if command is not None:
                    new = Leaf(command, owner, rank, variant.places)
                    node.command = _prevailing(node.command, new, pattern.text)
                    taken[1] |= node.command is new
        flags = self._headers.setdefault(pattern.text.removesuffix("?"), [False, False])
        flags[:] = [flags[0] or taken[0], flags[1] or taken[1]]

    def headers(self) -> Iterator[str]:
        """Each header as ``SYSTem:HELP:HEADers?`` lists it (SCPI-1999 volume 2, section 21.9)."""
        for text, (query, command) in sorted(self._headers.items()):
            if query or command:
                mark = "" if command else "?"
                note = "" if query and command else "/qonly/" if query else "/nquery/"
                prefix = "" if text.startswith(("*", ":", "[")) else ":"
                yield f"{prefix}{text}{mark}{note}"

    def find(self, nodes: Sequence[str], query: bool) -> tuple[Leaf[T], tuple[int, ...]]:
        """What a header as sent leads to, and its numbers; raises `ScpiError` -113 or -114."""
        node = self._root
        sent: list[int] = []
        for text in nodes:
            node = node.step(text, sent)
        leaf = node.query if query else node.command
        if leaf is None:
            raise ScpiError(-113)
        return leaf, leaf.numbers(sent)

    def _nodes(self, path: Sequence[Mnemonic], owner: str, rank: Rank) -> list[HeaderNode[T]]:
        nodes = [self._root]
        for mnemonic in path:
            branches = [node.branch(mnemonic, owner, rank) for node in nodes]
            nodes = [node for branch in branches for node in branch.below(mnemonic.numbers)]
        return nodes


def _prevailing(there: Leaf[T] | None, new: Leaf[T], text: str) -> Leaf[T]:
    if there is None:
        return new
    if there.target == new.target or there.rank < new.rank:
        return there
    raise HeaderError(_ambiguous(new.owner, there.owner, f"the header {text}"))


def _ambiguous(one: str, other: str, what: str) -> str:
    return (
        f"{one} and {other} would both answer to {what};"
        " give one of them a header of its own with scpi="
    )
