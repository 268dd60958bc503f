"""How much a pickle from a peer may ask for, and what is raised when it asks for more."""

from __future__ import annotations

from dataclasses import dataclass

from labnet.errors import shorten

MAX_NUMBER: int = 512
"""Bytes of the longest whole number."""
MAX_DIGITS: int = 1300
"""Characters of the longest number that is written as text (protocol 0)."""
MAX_NAME: int = 256
"""Characters of a module's or a class's name."""
MAX_AXES: int = 32
"""Dimensions of an array."""
MAX_ODD_KEYS: int = 4096
"""Keys of mappings and members of sets whose hashes a peer can choose, in one message."""


class BadPickle(ValueError):
    """The bytes are no pickle, are damaged, or ask for more than is allowed; the text says what."""


class RefusedName(BadPickle):
    """The pickle names a class or function that is not on the list; nothing was run.

    `name` is ``module.name``.
    """

    def __init__(self, module: str, name: str) -> None:
        self.name = shorten(f"{module}.{name}")
        super().__init__(f"{self.name} is not allowed in a pickle")


@dataclass(frozen=True, slots=True)
class Bounds:
    """The largest pickle: `size` in bytes, `opcodes` the steps to read it.

    `depth` is how deep its containers may lie in each other; `weight` how many values and bytes it
    may hold when everything that it holds more than once is counted as often.
    """

    size: int = 64 * 1024 * 1024
    opcodes: int = 200_000
    depth: int = 64
    weight: int = 128 * 1024 * 1024


REQUEST = Bounds()
REPLY = Bounds(opcodes=4_000_000)
"""A tree of 10,000 variables takes 2,600,000 steps."""


def truncated() -> BadPickle:
    """For a pickle that ends too early."""
    return BadPickle("pickle data was truncated")
