"""The generations of PyMoDAQ's TCP/IP protocol, told apart by nothing but what they send."""

from __future__ import annotations

from enum import Enum


class Generation(Enum):
    """A layout of the messages; the value says which versions of PyMoDAQ use it."""

    A = "1.6.0 to 2.0.0"
    B = "2.0.1 to 4.0"
    C1 = "4.1.0 to 4.1.2"
    C2 = "4.1.3 to 4.1.5"
    C3 = "4.2, 4.3 and 5.0.0"
    C4 = "4.4"
    D = "5.0.1 to 5.1"

    @property
    def framed(self) -> bool:
        """Whether everything comes behind its length and the name of its type."""
        return self is Generation.D

    @property
    def typed(self) -> bool:
        """Whether a word before each element of a list says what it is."""
        return self is not Generation.A

    @property
    def objects(self) -> bool:
        """Whether positions and frames are objects with name, units, axes."""
        return self not in PLAIN


Among = frozenset[Generation]
"""The generations that a peer may be of, as far as it is known."""

ANY: Among = frozenset(Generation)
CLASSIC: Among = ANY - {Generation.D}
"""Those whose command words are a length and the word."""
PLAIN: Among = frozenset({Generation.A, Generation.B})
"""Those whose positions are bare numbers, and whose frames bare arrays."""
OBJECTS: Among = frozenset({Generation.C1, Generation.C2, Generation.C3, Generation.C4})


def generation(name: str) -> Generation:
    """The generation called `name` (``C4``), in either case; ValueError for none."""
    try:
        return Generation[name.upper()]
    except KeyError:
        known = ", ".join(one.name for one in Generation)
        raise ValueError(f"{name!r} is no generation; they are {known}") from None
