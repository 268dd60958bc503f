"""Frames of modules as the lab's arrays: one with axes and a label, or several by their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from labnet.errors import DeviceFault
from labnet.values import Axis, LabeledArray
from labnet.wires.pymodaq.codec import Axis as DataAxis
from labnet.wires.pymodaq.codec import Data, DataToExport

Array = np.ndarray[Any, np.dtype[Any]]

MAX_LABEL = 64
"""Letters of a channel's label among others: numpy gives each the room of the longest."""


def from_frame(frame: DataToExport) -> LabeledArray | dict[str, LabeledArray]:
    """The data of a frame: the array of the only one, or those of several by name.

    Several channels become one array with a dimension more, the first. Raises `DeviceFault` for a
    frame without data, or with channels of different shapes.
    """
    if len(frame.data) == 1:
        return labeled(frame.data[0])
    if not frame.data:
        raise DeviceFault("the module has sent a frame without data")
    found: dict[str, LabeledArray] = {}
    for number, data in enumerate(frame.data, 1):
        name = data.name or f"data{number}"
        found[name if name not in found else f"{name}_{number}"] = labeled(data)
    return found


def labeled(data: Data) -> LabeledArray:
    """The channels of one set of data as one array; a single number has no dimensions."""
    channels = [_plain(channel) for channel in data.data]
    if not channels:
        raise DeviceFault(f"the module has sent data {data.name!r} without channels")
    shape = channels[0].shape
    if any(channel.shape != shape for channel in channels):
        raise DeviceFault(f"the channels of {data.name!r} are not of one shape")
    axes = _axes(data.axes, shape)
    if len(channels) == 1:
        label = data.labels[0] if data.labels else data.name
        return LabeledArray(channels[0], label, data.units, axes)
    if axes or data.labels:
        axes = (_channels(data, len(channels)), *(axes or _counted(shape)))
    return LabeledArray(np.stack(channels), data.name, data.units, axes)


def _plain(channel: Array) -> Array:
    return channel.reshape(()) if channel.size == 1 else channel


def _channels(data: Data, count: int) -> Axis:
    labels = [*data.labels, *(f"CH{number:02}" for number in range(len(data.labels), count))]
    return Axis("channel", "", np.array([label[:MAX_LABEL] for label in labels[:count]]))


def _counted(shape: Sequence[int]) -> tuple[Axis, ...]:
    return tuple(Axis("", "", np.arange(size)) for size in shape)


def _axes(given: Sequence[DataAxis], shape: tuple[int, ...]) -> tuple[Axis, ...]:
    """An axis for each dimension, counted where the module names none; none if it names none."""
    fitting: dict[int, Axis] = {}
    for axis in sorted(given, key=lambda axis: axis.spread_order, reverse=True):
        if 0 <= axis.index < len(shape) and axis.data.shape == (shape[axis.index],):
            fitting[axis.index] = Axis(axis.label, axis.units, axis.data)
    if not fitting:
        return ()
    counted = _counted(shape)
    return tuple(fitting.get(index, counted[index]) for index in range(len(shape)))
