"""Data with axes, units and labels, as PyMoDAQ's modules exchange them in all generations.

One set of classes stands for all of them: a position of generation A or B, which is a bare number
on the wire, is a `Data` too, and a frame of bare arrays is a `DataToExport`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from labnet.wires.pymodaq.primitives import Array

ACTUATOR = "DataActuator"
FROM_PLUGINS = "DataFromPlugins"
DATA_CLASSES = frozenset(
    {ACTUATOR, FROM_PLUGINS, "DataRaw", "DataWithAxes", "DataCalculated", "DataFromRoi"}
)
SOURCES = frozenset({"raw", "calculated"})
DIMENSIONS = ("Data0D", "Data1D", "Data2D", "DataND")

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """One axis of an array: `index` is the dimension that it belongs to."""

    label: str
    units: str
    data: Array
    index: int = 0
    spread_order: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Arrays of one shape, one a channel. `kind` is the class that PyMoDAQ makes of them.

    `timestamp` is in seconds since 1970, 0 where the wire carries none. `extra` are attributes that
    the sender has attached.
    """

    name: str
    data: tuple[Array, ...]
    kind: str = FROM_PLUGINS
    timestamp: float = 0.0
    units: str = ""
    source: str = "raw"
    dim: str = "Data0D"
    distribution: str = "uniform"
    labels: tuple[str, ...] = ()
    origin: str = ""
    nav_indexes: tuple[int, ...] = ()
    axes: tuple[Axis, ...] = ()
    errors: tuple[Array, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)

    @property
    def value(self) -> float:
        """The first number of the first channel; ValueError if there is none, or no real one."""
        for array in self.data:
            if array.size and array.dtype.kind in "biuf":
                return float(array.flat[0])
        raise ValueError("the data hold no number")


@dataclass(frozen=True, slots=True, eq=False)
class DataToExport:
    """All that a grab has given. `extra` travels in generation D only."""

    name: str
    data: tuple[Data, ...]
    timestamp: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The arrays of all its data, which is all that generations A and B carry."""
        return tuple(array for data in self.data for array in data.data)


def dim_of(array: Array) -> str:
    """Which of `DIMENSIONS` PyMoDAQ takes an array for."""
    if array.size <= 1 and array.ndim <= 1:
        return "Data0D"
    return DIMENSIONS[min(array.ndim, 3)]


def position(value: float, units: str = "", name: str = "actuator", timestamp: float = 0.0) -> Data:
    """A position as modules send it: one channel of one number."""
    return Data(
        name,
        (np.array([value], np.float64),),
        ACTUATOR,
        timestamp,
        units,
        labels=("CH00",),
    )


def plain_position(value: Any) -> Data:
    """A position of generation A or B: a number, of whatever type it was."""
    return Data("", (np.asarray(value).reshape(1),), ACTUATOR)


def plain_frame(arrays: Sequence[Array]) -> DataToExport:
    """A frame of generation A or B: arrays of any shapes, each the `Data` of its shape."""
    channels: dict[tuple[int, ...], list[Array]] = {}
    for array in arrays:
        channels.setdefault(array.shape, []).append(array)
    found = (
        Data("", tuple(same), dim=dim_of(same[0])) for same in channels.values()
    )
    return DataToExport("", tuple(found))
