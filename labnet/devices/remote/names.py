"""Names of foreign servers as names of the lab."""

from __future__ import annotations

import re
from collections.abc import Collection

from labnet.specs import NAME

_OTHER = re.compile(r"[^A-Za-z0-9_]+")
LONGEST = 200


def lab_name(foreign: str) -> str:
    """A name that the lab takes, as much like `foreign` as can be: ``Ch[1]``, ``x_1st_axis``."""
    foreign = foreign[:LONGEST]
    if NAME.match(foreign):
        return foreign
    name = _OTHER.sub("_", foreign).strip("_")
    return name if NAME.match(name) else f"x_{name}".rstrip("_")


def unused(name: str, taken: Collection[str], tried: dict[str, int] | None = None) -> str:
    """`name`, with a number behind it if there is one of that name.

    `tried` keeps the last number of each name, so that many of one name take no longer.
    """
    if name not in taken:
        return name
    stem = name.partition("[")[0]
    numbers = {} if tried is None else tried
    number = numbers.get(stem, 1) + 1
    while f"{stem}_{number}" in taken:
        number += 1
    numbers[stem] = number
    return f"{stem}_{number}"
