"""What a program offers to PyMoDAQ: an actuator that it moves, or a detector that it grabs from.

Subclass `OfferedActuator` or `OfferedGrabber`, or give `module_of` any object with such methods.
Each method may return its result, return a Deferred of it, or be a coroutine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from types import CoroutineType, MappingProxyType
from typing import Any, ClassVar, Protocol

import numpy as np
from twisted.internet.defer import Deferred

from labnet.errors import BadArguments, NotAllowed, NotReadable, NotWritable
from labnet.values import LabeledArray
from labnet.wires.pymodaq.codec import Axis as WireAxis
from labnet.wires.pymodaq.codec import Data, DataToExport, Kind, Setting, dim_of

NO_EXTRA: Mapping[str, Any] = MappingProxyType({})
MOVE_SETTINGS = "move_settings"
DETECTOR_SETTINGS = "detector_settings"


class Link(Protocol):
    """A connection that is told what the module has to say by itself."""

    def setting_changed(self, path: tuple[str, ...], setting: Setting) -> None: ...
    def moved(self, position: float) -> None: ...
    def frame(self, frame: DataToExport) -> None: ...
    def renewed(self) -> None: ...


class Offered:
    """What both kinds share: a name, a tree of settings, and those who are told of changes."""

    kind: ClassVar[Kind]
    #: The name of the root of the settings, as PyMoDAQ's own modules call it.
    root: ClassVar[str]
    name: str = "labnet"

    def __init__(self) -> None:
        self._links: set[Link] = set()

    def settings(self) -> Any:
        """The settings: a group `Setting` called `root`, or a Deferred of it."""
        return Setting(self.root, "group", title="Settings")

    def set(self, path: tuple[str, ...], value: Any) -> Any:
        """The controlling side changes a setting; gives the `Setting` as it then is.

        `path` is that below the root. Raises `NotWritable` for a setting that cannot be changed.
        """
        raise NotWritable(".".join(path))

    def add(self, link: Link) -> None:
        """A controlling side has come."""
        self._links.add(link)

    def remove(self, link: Link) -> None:
        """A controlling side has gone."""
        self._links.discard(link)

    def close(self) -> None:
        """Nobody will come to it any more."""

    def setting_changed(self, path: tuple[str, ...], setting: Setting) -> None:
        """Call this when a setting has changed here; those who are connected are told."""
        for link in list(self._links):
            link.setting_changed(path, setting)

    def renewed(self) -> None:
        """Call this when the settings are others altogether; those who are connected get them."""
        for link in list(self._links):
            link.renewed()


class OfferedActuator(Offered):
    """Something that is moved; positions are in `units`."""

    kind: ClassVar[Kind] = "ACTUATOR"
    root: ClassVar[str] = MOVE_SETTINGS
    units: str = ""

    def settings(self) -> Any:
        return Setting(
            self.root,
            "group",
            title="Settings",
            children=(Setting("units", "str", self.units, "Units:", readonly=True),),
        )

    def position(self) -> Any:
        """Where it is."""
        raise NotReadable(f"the position of {self.name}")

    def move_abs(self, position: float) -> Any:
        """Moves to a position; done when it is there. May give the position reached."""
        raise NotAllowed(f"{self.name} cannot be moved to a position")

    def move_rel(self, distance: float) -> Any:
        """Moves by a distance; by default to the position as far away from here."""
        return Deferred.fromCoroutine(self._move_rel(distance))

    async def _move_rel(self, distance: float) -> Any:
        return await settle(self.move_abs, await settle(self.position) + distance)

    def move_home(self) -> Any:
        """Moves to where its home is."""
        raise NotAllowed(f"{self.name} has no home to move to")

    def stop(self) -> Any:
        """Stops a motion."""
        raise NotAllowed(f"{self.name} cannot be stopped")

    def moved(self, position: float) -> None:
        """Call this when the position has changed by itself."""
        for link in list(self._links):
            link.moved(position)


class OfferedGrabber(Offered):
    """Something that data are grabbed from."""

    kind: ClassVar[Kind] = "GRABBER"
    root: ClassVar[str] = DETECTOR_SETTINGS

    def grab(self, dim: str) -> Any:
        """New data: whatever `frame_of` takes. `dim` (``0D`` to ``ND``) is what PyMoDAQ can show.

        Large arrays are sent from where they are, so what is given must not be changed afterwards.
        """
        raise NotReadable(f"{self.name}")

    def grabbed(self, data: Any) -> None:
        """Call this to send data that nobody has asked for."""
        frame = frame_of(data, self.name)
        for link in list(self._links):
            link.frame(frame)


class ObjectActuator(OfferedActuator):
    """Any object with ``move_abs`` and ``position`` (a method or an attribute) as an actuator.

    ``move_rel``, ``move_home`` (or ``home``), ``stop`` (or ``stop_motion``) and ``units`` are used
    where it has them.
    """

    def __init__(self, target: Any) -> None:
        super().__init__()
        self._target = target
        self.name = _name_of(target)
        self.units = str(getattr(target, "units", ""))
        for name, others in (
            ("move_abs", ()), ("move_rel", ()), ("move_home", ("home",)),
            ("stop", ("stop_motion",)),
        ):  # fmt: skip
            found = _method(target, name, *others)
            if found is not None:
                setattr(self, name, found)

    def position(self) -> Any:
        where = self._target.position
        return where() if callable(where) else where


class ObjectGrabber(OfferedGrabber):
    """Any object with ``grab`` (with or without the dimensions that are wanted) as a detector."""

    def __init__(self, target: Any) -> None:
        super().__init__()
        self._target = target
        self.name = _name_of(target)
        self._dims = _takes_one(target.grab)

    def grab(self, dim: str) -> Any:
        return self._target.grab(dim) if self._dims else self._target.grab()


def module_of(target: Any, kind: Kind | None = None) -> Offered:
    """`target` as a module; BadArguments for an object that can be neither moved nor grabbed from.
    """
    if isinstance(target, Offered):
        return target
    can_move = _method(target, "move_abs") is not None and hasattr(target, "position")
    if can_move and kind != "GRABBER":
        return ObjectActuator(target)
    if _method(target, "grab") is not None and kind != "ACTUATOR":
        return ObjectGrabber(target)
    wanted = {"ACTUATOR": "move_abs and position", "GRABBER": "grab"}
    needs = wanted.get(kind or "", "move_abs and position, or grab")
    raise BadArguments(f"{_name_of(target)} has no {needs}")


def _name_of(target: Any) -> str:
    return str(getattr(target, "name", "") or type(target).__name__)


def _method(target: Any, *names: str) -> Callable[..., Any] | None:
    for name in names:
        found = getattr(target, name, None)
        if callable(found):
            return found  # type: ignore[no-any-return]
    return None


def _takes_one(function: Callable[..., Any]) -> bool:
    from inspect import signature

    try:
        signature(function).bind("0D")
    except (TypeError, ValueError):
        return False
    return True


async def settle(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` gives in the end."""
    result = function(*arguments)
    if isinstance(result, CoroutineType):
        result = Deferred.fromCoroutine(result)
    if isinstance(result, Deferred):
        return await result
    return result


def frame_of(
    data: Any, name: str, timestamp: float = 0.0, extra: Mapping[str, Any] = NO_EXTRA
) -> DataToExport:
    """Data as PyMoDAQ shows them; `extra` is attached to what is made here.

    Taken are a `DataToExport`, one `Data` or several, a `LabeledArray`, a number, an array (one
    channel), a list or tuple of numbers or arrays (a channel each), and a mapping of names to these
    (channels with labels). Raises `BadArguments` for anything else.
    """
    if isinstance(data, DataToExport):
        return data
    if isinstance(data, Data):
        return DataToExport(name, (data,), timestamp)
    if isinstance(data, LabeledArray):
        return DataToExport(name, (labeled(data, name, timestamp, extra),), timestamp)
    if isinstance(data, Mapping):
        return _channels(data.items(), name, timestamp, extra)
    if isinstance(data, list | tuple):
        if data and all(isinstance(item, Data) for item in data):
            return DataToExport(name, tuple(data), timestamp)
        named = ((f"CH{number:02}", item) for number, item in enumerate(data))
        return _channels(named, name, timestamp, extra)
    return _channels([(name, data)], name, timestamp, extra)


def labeled(
    array: LabeledArray, name: str, timestamp: float, extra: Mapping[str, Any] = NO_EXTRA
) -> Data:
    """An array with its axes."""
    values = numbers(array.data, name)
    axes = tuple(
        WireAxis(axis.label, axis.unit, numbers(axis.values, axis.label), index)
        for index, axis in enumerate(array.axes)
    )
    label = array.label or name
    return Data(
        name,
        (values,),
        timestamp=timestamp,
        units=array.unit,
        dim=dim_of(values),
        labels=(label,),
        origin=name,
        nav_indexes=_navigation(values),
        axes=axes,
        extra=extra,
    )


def _channels(
    items: Iterable[tuple[Any, Any]], name: str, timestamp: float, extra: Mapping[str, Any]
) -> DataToExport:
    """One `Data` for all channels of one shape and unit."""
    groups: dict[tuple[Any, ...], list[tuple[str, Any]]] = {}
    found: list[Data] = []
    for label, item in items:
        if isinstance(item, LabeledArray) and (item.axes or item.data.ndim):
            found.append(labeled(item, str(label), timestamp, extra))
            continue
        unit = item.unit if isinstance(item, LabeledArray) else ""
        values = numbers(item, str(label))
        groups.setdefault((values.shape, unit), []).append((str(label), values))
    for (_, unit), channels in groups.items():
        labels, arrays = zip(*channels, strict=True)
        dim, nav = dim_of(arrays[0]), _navigation(arrays[0])
        about: dict[str, Any] = {
            "dim": dim, "labels": labels, "nav_indexes": nav, "extra": extra,
        }  # fmt: skip
        found.append(
            Data(name, arrays, timestamp=timestamp, units=unit, origin=name, **about)
        )
    return DataToExport(name, tuple(found), timestamp)


def _navigation(array: Any) -> tuple[int, ...]:
    """Of more than two dimensions PyMoDAQ shows the last two, and lets the user go through others.
    """
    return tuple(range(array.ndim - 2))


def numbers(value: Any, what: str) -> Any:
    """An array that PyMoDAQ knows; a number, and a lone bool or int too, as float64."""
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        raise BadArguments(f"{what}: PyMoDAQ knows no such data") from None
    if array.dtype.kind not in "biufc" or array.dtype.itemsize > 16 or array.dtype.char in "gG":
        raise BadArguments(f"{what}: PyMoDAQ knows no data of type {array.dtype}")
    if not array.ndim:
        kind = np.complex128 if array.dtype.kind == "c" else np.float64
        return array.reshape(1).astype(kind)
    return array.astype(np.uint8) if array.dtype.kind == "b" else array


def is_finite(value: Any) -> bool:
    """Whether it is a number that a position can be."""
    return isinstance(value, int | float) and math.isfinite(value)
