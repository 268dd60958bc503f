"""The settings of a module as parameters of a device: groups become sub-devices."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from math import inf, isfinite
from typing import Any

from twisted.internet.defer import Deferred

from labnet.device import Device, ParameterState
from labnet.errors import LabError
from labnet.specs import make_spec
from labnet.values import ANY, BOOL, FLOAT, INT, STR, EnumKind, Kind, Limits
from labnet.wires.pymodaq.settings import BOOLS, FLOATS, LITERALS, TEXTS, TIMES, Setting

Path = tuple[str, ...]
Write = Callable[[Path, Any], Deferred[Any]]

MAX_NAME = 64
MAX_SHOWN = 2000
"""Settings of one module, and groups of them, that are shown; its first ones."""

_NOT_ALLOWED = re.compile("[^A-Za-z0-9_]")
_BASE = r"(?:[fpnuµμmkMGT]?(?:s|m|V|A|W|Hz|K|J|N|Pa|g|rad|eV|F|H|Ohm|Ω|T|bar|l)|%|°C|°|deg|min|h)"
#: A title that ends with a unit, such as ``Tau (ms):``.
_UNIT = re.compile(rf"\(({_BASE}(?:/{_BASE})?)\):?$")


class Panel:
    """The settings of one module, shown in a device; `write` sets one."""

    def __init__(self, device: Device, write: Write) -> None:
        self._device = device
        self._write = write
        self._states: dict[Path, ParameterState] = {}
        self._writing: set[Path] = set()
        self._groups = 0

    def show(self, root: Setting | None) -> None:
        """These are the settings from now on; what is as before keeps its place in the tree."""
        self._states = {}
        self._groups = 0
        children = () if root is None else root.children
        self._device.replace_members(self._members(self._device, children, ()))

    def _members(self, device: Device, settings: Collection[Setting], above: Path) -> Any:
        members: dict[str, Any] = {}
        numbers: dict[str, int] = {}
        for setting in settings:
            if len(self._states) + self._groups >= MAX_SHOWN:
                break
            name = valid_name(setting.name, members, numbers)
            path = (*above, setting.name)
            if setting.is_group:
                self._groups += 1
                group = Device()
                group.members.update(self._members(group, setting.children, path))
                members[name] = group
            elif path not in self._states:
                state = self._state(device, name, path, setting)
                if state is not None:
                    members[name] = self._states[path] = state
        return members

    def _state(
        self, device: Device, name: str, path: Path, setting: Setting
    ) -> ParameterState | None:
        kind = kind_of_setting(setting)
        if kind is None:
            return None
        aliases = () if name == setting.name else (setting.name,)
        spec = make_spec(
            name, kind, initial=_first(kind, setting), aliases=aliases, **about(setting)
        )
        return ParameterState(device, spec, None, lambda value: self._set(path, value))

    def _set(self, path: Path, value: Any) -> Deferred[Any]:
        self._writing.add(path)
        return self._write(path, value).addBoth(self._written, path)

    def _written(self, result: Any, path: Path) -> Any:
        self._writing.discard(path)
        return result

    def changed(self, path: Path, root: Setting) -> None:
        """The setting at a path has changed, or is new."""
        setting, state = root.find(path), self._states.get(path)
        if setting is None or state is None or not _same(kind_of_setting(setting), state.spec.kind):
            self.show(root)
            return
        known = about(setting)
        if any(getattr(state.spec, key) != value for key, value in known.items()):
            state.device.change(state.spec.name, **known)
        # One that is being written is stored by who writes it.
        if path not in self._writing and setting.value is not None:
            state.store(setting.value)


def valid_name(
    text: str, taken: Collection[str] = (), numbers: dict[str, int] | None = None
) -> str:
    """A name for the lab's tree that is as near to `text` as can be, and none of those `taken`.

    `numbers` remembers the next number of each name, where there may be many alike.
    """
    name = _NOT_ALLOWED.sub("_", text)[:MAX_NAME]
    if not name[:1].isalpha():
        name = f"x{name}"
    numbers = {} if numbers is None else numbers
    found, number = name, numbers.get(name, 2)
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    numbers[name] = number
    return found


def kind_of_setting(setting: Setting) -> Kind | None:
    """The kind of a setting's value; None for what has none, such as a button."""
    kind = setting.type
    if kind == "list":
        return _choices(setting)
    if kind in LITERALS:
        return ANY
    if kind in TEXTS and kind != "table_view":
        return STR
    for types, found in ((BOOLS, BOOL), (FLOATS, FLOAT), (TIMES | {"int"}, INT)):
        if kind in types:
            return found
    return None


def _choices(setting: Setting) -> Kind:
    limits = setting.limits
    try:
        if isinstance(limits, dict):
            kind = EnumKind({value: str(text) for text, value in limits.items()})
        else:
            kind = EnumKind(list(limits))
        kind.check(setting.value)
    except (TypeError, LabError):
        return ANY
    return kind


def _same(one: Kind | None, other: Kind) -> bool:
    if isinstance(one, EnumKind) and isinstance(other, EnumKind):
        return one.choices == other.choices
    return one is other


def _first(kind: Kind, setting: Setting) -> Any:
    try:
        return kind.check(setting.value)
    except LabError:
        return None


def about(setting: Setting) -> dict[str, Any]:
    """What is known about a setting besides its name, its kind and its value."""
    unit = setting.attributes.get("suffix") or _unit(setting.label)
    return {
        "unit": unit,
        "limits": None if setting.type == "list" else _limits(setting.limits),
        "access": "r" if setting.readonly else "rw",
        "help": setting.label.removesuffix(":"),
    }


def _unit(title: str) -> str:
    found = _UNIT.search(title.strip())
    return found[1] if found else ""


def _bound(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, int | float) else inf
    except OverflowError:  # a whole number beyond all others
        return None
    return number if isfinite(number) else None


def _limits(limits: Any) -> Any:
    if not isinstance(limits, list | tuple) or len(limits) != 2:
        return None
    low, high = map(_bound, limits)
    if (low is None and high is None) or (low is not None and high is not None and low > high):
        return None
    return Limits(low, high)
