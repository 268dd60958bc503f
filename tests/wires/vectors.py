"""The recorded bytes of real peers that lie in ``tests/vectors``, by the name of their file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labnet import testing
from labnet.testing import Exchange

__all__ = ["Exchange", "exchanges", "header", "records"]

FOLDER = Path(__file__).resolve().parent.parent / "vectors"


def header(name: str) -> dict[str, Any]:
    """The line that describes ``<name>.jsonl``."""
    return testing.vector_header(FOLDER / f"{name}.jsonl")


def records(name: str) -> Iterator[dict[str, Any]]:
    """The vectors of ``<name>.jsonl``, without the line that describes them."""
    return testing.vectors(FOLDER / f"{name}.jsonl")


def exchanges(name: str) -> Iterator[Exchange]:
    """The cases of a two-way recording, in recorded order."""
    return testing.exchanges(FOLDER / f"{name}.jsonl")
