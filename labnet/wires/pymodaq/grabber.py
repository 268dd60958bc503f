"""A detector that has dialled in: frames, asked for or not."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Literal, cast, get_args

from twisted.internet.defer import Deferred, fail

from labnet.errors import BadArguments, DeviceFault, NotConnected, TooLarge
from labnet.wires.pymodaq.codec import (
    PROBLEM,
    Axis,
    Data,
    DataToExport,
    Done,
    Info,
    Kind,
    SendData,
    XAxis,
    YAxis,
)
from labnet.wires.pymodaq.module import Clock, Line, Manners, Module, _nothing, order

Dimension = Literal["0D", "1D", "2D", "ND"]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
MAX_WAITING = 1000
"""Grabs that wait for one module."""

_ORDERS = {dimension: SendData(dimension) for dimension in DIMENSIONS}


class Grabber(Module):
    """One detector. Grabs are ordered one after the other, and answered in that order."""

    kind: ClassVar[Kind] = "GRABBER"

    def __init__(self, line: Line, clock: Clock, manners: Manners) -> None:
        super().__init__(line, clock, manners)
        #: The last frame, asked for or not.
        self.last: DataToExport | None = None
        #: Called with each frame that nobody has asked for.
        self.on_frame: Callable[[DataToExport], None] = _nothing
        self._grabs: deque[tuple[Dimension, Deferred[DataToExport]]] = deque()
        self._stale = 0  # frames that were ordered and are not wanted any more
        self._axes: dict[int, Axis] = {}
        self._handlers[Done] = self._done
        self._handlers[XAxis] = self._x_axis
        self._handlers[YAxis] = self._y_axis

    def grab(self, dimension: Dimension = "0D") -> Deferred[DataToExport]:
        """A frame that begins now. `dimension` is what the module is told that the user can show;
        real ones do not care, and send what their detector gives."""
        if self.ended:
            return fail(NotConnected(self.ended))
        if dimension not in _ORDERS:
            return fail(BadArguments(f"a grab is {', '.join(DIMENSIONS)}"))
        if len(self._grabs) >= MAX_WAITING:
            return fail(TooLarge(f"{MAX_WAITING} grabs wait for this module already"))
        frame: Deferred[DataToExport] = Deferred(self._given_up)
        self._grabs.append((dimension, frame))
        if len(self._grabs) == 1:
            self._line.send(order(_ORDERS[dimension], self._speak()))
        return frame

    def _given_up(self, frame: Deferred[DataToExport]) -> None:
        """Who waited has gone. A frame that was ordered will come, but for nobody.

        Should it never come, it must not keep the next ones waiting for ever either: so a grab that
        is given up clears what those before it have left.
        """
        first = self._grabs[0][1] is frame
        self._grabs = deque(grab for grab in self._grabs if grab[1] is not frame)
        if first:
            self._stale = 0 if self._stale else 1
            self._next()

    def _next(self) -> None:
        if self._grabs and not self.ended:
            self._line.send(order(_ORDERS[self._grabs[0][0]], self._speak()))

    def _done(self, message: Done) -> None:
        frame = self._with_axes(message.frame) if self._axes else message.frame
        self.last = frame
        if self._grabs and not self._stale:
            _, waiting = self._grabs.popleft()
            self._next()  # before anybody else can ask for one
            waiting.callback(frame)
        else:
            self._stale = max(0, self._stale - 1)
            self.on_frame(frame)

    def _info(self, message: Info) -> None:
        super()._info(message)
        if message.name == PROBLEM and self._grabs and not self._stale:
            _, waiting = self._grabs.popleft()
            self._next()
            waiting.errback(DeviceFault(message.value, "Refused"))

    def lose(self, reason: str) -> None:
        grabs, self._grabs = self._grabs, deque()
        self.ended = reason
        for _, waiting in grabs:
            waiting.errback(NotConnected(reason))
        super().lose(reason)

    # Axes, which generations A and B send by themselves

    def _x_axis(self, message: XAxis) -> None:
        self._axes[0] = message.axis

    def _y_axis(self, message: YAxis) -> None:
        self._axes[1] = message.axis

    def _with_axes(self, frame: DataToExport) -> DataToExport:
        return replace(frame, data=tuple(map(self._labeled, frame.data)))

    def _labeled(self, data: Data) -> Data:
        if data.axes or not data.data:
            return data
        shape = data.data[0].shape
        # The x axis runs along the columns, which come last.
        found = [
            replace(axis, index=len(shape) - 1 - which)
            for which, axis in self._axes.items()
            if which < len(shape) and shape[len(shape) - 1 - which] == axis.data.size
        ]
        return replace(data, axes=tuple(cast(list[Any], found)))
