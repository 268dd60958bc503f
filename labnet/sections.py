"""What sections of all kinds have in common: their keys, and the driver or wire that they name."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

from labnet.devices.table import DRIVERS
from labnet.errors import UnknownName, shorten
from labnet.inifile import Section, suggest
from labnet.options import Option, options_of, values_of
from labnet.wires.table import WIRES

_T = TypeVar("_T")


def common_and_own(
    keys: type[_T], section: Section, own: tuple[Option, ...], also: Collection[str] = ()
) -> tuple[_T, dict[str, Any]]:
    """The keys that all sections of the kind have, and those of the one driver or wire."""
    common = options_of(keys)
    names = {option.name for option in common}
    own = tuple(option for option in own if option.name not in names)
    values = values_of((*common, *own), section, also)
    mine = {option.name: values[option.name] for option in own if option.name in values}
    return keys(**{name: values[name] for name in names & values.keys()}), mine


def look_up(find: Any, section: Section, what: str) -> Any:
    name = section.text(what)
    if not name:
        raise section.error(f"the key {what!r} is missing")
    try:
        return find(name)
    except UnknownName:
        hint = suggest(name, WIRES if what == "wire" else DRIVERS)
        raise section.error(f"unknown {what} {shorten(name)!r}{hint}", what) from None


def load_for(load: Callable[[], Any], section: Section, what: str) -> Any:
    try:
        return load()
    except ModuleNotFoundError as error:
        if str(error.name).startswith("labnet"):
            raise
        raise section.bad(what, f"needs the Python package {error.name}, not installed") from None
