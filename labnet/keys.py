"""Keys of a section, as the dataclasses of wires and drivers declare them."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

T = TypeVar("T")


def key(default: T, help: str, unit: str = "", limits: tuple[float, float] | None = None) -> T:
    """A dataclass field for a key, with its default and what the reference says of it."""
    metadata = {"help": help, "unit": unit, "limits": limits}
    field: T = dataclasses.field(default=default, metadata=metadata)
    return field
