"""What modules put around their data before they send them: attributes, axes, units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from labnet.wires.pymodaq.codec import Axis, Data, DataToExport, Generation

_BOTH: Mapping[str, Any] = MappingProxyType({"do_plot": True, "do_save": True})
SHOWN: Mapping[Generation, Mapping[str, Any]] = {
    Generation.C2: MappingProxyType({"plot": True, "save": True}),
    **dict.fromkeys((Generation.C3, Generation.C4, Generation.D), _BOTH),
}
"""The attributes of data that a viewer is to show and save."""
_MICRO = str.maketrans({"\u03bc": "u", "\u00b5": "u"})


def for_plugins(frame: DataToExport, generation: Generation) -> DataToExport:
    """A frame whose data say that they are to be shown and saved, as those of plugins do."""
    shown = SHOWN.get(generation)
    if shown is None or all(data.extra is shown for data in frame.data):
        return frame
    return replace(frame, data=tuple(_with(data, shown) for data in frame.data))


def _with(data: Data, shown: Mapping[str, Any]) -> Data:
    if data.kind != "DataFromPlugins" or all(name in data.extra for name in shown):
        return data
    return replace(data, extra=MappingProxyType({**data.extra, **shown}))


def axes_of(frame: DataToExport) -> tuple[Any, tuple[Axis | None, Axis | None]]:
    """The x and y axes of a frame's first data, and by what they are known to be the same.

    PyMoDAQ's x is the last dimension.
    """
    for data in frame.data:
        by_index = {axis.index: axis for axis in data.axes}
        if by_index and data.data and data.data[0].ndim <= 2:
            last = data.data[0].ndim - 1
            x, y = by_index.get(last), by_index.get(last - 1)
            known = tuple(
                None if axis is None else (axis.label, axis.units, axis.data.tobytes())
                for axis in (x, y)
            )
            return known, (x, y)
    return None, (None, None)


def same_units(sent: str, own: str) -> bool:
    """Whether a position in the one units can be taken for one in the other; none fit all."""
    return not sent or not own or _plain(sent) == _plain(own)


def _plain(units: str) -> str:
    return units.strip().translate(_MICRO)
