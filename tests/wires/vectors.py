"""Recorded bytes of real peers, as they lie in ``tests/vectors``: one JSON object a line.

The first line of a file describes it; the others are the vectors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "vectors"


def header(name: str) -> dict[str, Any]:
    """The line that describes ``<name>.jsonl``."""
    with (FOLDER / f"{name}.jsonl").open(encoding="utf-8") as lines:
        described: dict[str, Any] = json.loads(next(lines))
        return described


def records(name: str) -> Iterator[dict[str, Any]]:
    """The vectors of ``<name>.jsonl``, without the line that describes them."""
    with (FOLDER / f"{name}.jsonl").open(encoding="utf-8") as lines:
        next(lines)
        for line in lines:
            yield json.loads(line)


@dataclass
class Exchange:
    """One case of a two-way recording: the client's writes, then all that came back."""

    case: str
    peer: str
    sent: list[bytes] = field(default_factory=list)
    received: bytes = b""
    then: str = "open"
    note: str = ""


def exchanges(name: str) -> Iterator[Exchange]:
    """The cases of a file whose objects have ``direction`` c2s and s2c, in recorded order."""
    current: Exchange | None = None
    for record in records(name):
        if current is None:
            current = Exchange(record["case"], record["peer"], note=record.get("note", ""))
        if record["direction"] == "c2s":
            current.sent.append(bytes.fromhex(record["bytes"]))
        else:
            current.received = bytes.fromhex(record["bytes"])
            current.then = record["then"]
            yield current
            current = None
