"""The frames of one connection: grabbed one after the other, sent as they come."""

from __future__ import annotations

import time
from collections import deque
from types import CoroutineType
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from labnet.logs import Logger
from labnet.values import LabeledArray
from labnet.wires.pymodaq.codec import (
    DataToExport,
    Done,
    Generation,
    Message,
    Parts,
    XAxis,
    YAxis,
)
from labnet.wires.pymodaq.offered import Offered, OfferedGrabber, frame_of
from labnet.wires.pymodaq.sending import axes_of, for_plugins
from labnet.wires.pymodaq.templates import FrameWriter

SLOW_FRAME = 4 << 20
"""Bytes of a frame for which the real program takes many seconds."""


class Connection(Protocol):
    """What frames need of the connection that they are for."""

    where: str

    @property
    def full(self) -> bool: ...
    def until_room(self) -> Deferred[None]: ...
    def say(self, message: Message) -> None: ...
    def say_parts(self, parts: Parts) -> None: ...
    def failed(self, failure: Failure) -> None: ...
    def throttle(self) -> None: ...


class Frames:
    """What has been asked of a detector and what it gives; `waiting` frames are still to come."""

    log = Logger()

    def __init__(self, module: Offered, generation: Generation, connection: Connection) -> None:
        self._module = module
        self._generation = generation
        self._connection = connection
        self._wanted: deque[str] = deque()
        self._coming: Deferred[Any] | None = None
        self._busy = False
        self._writer = FrameWriter(module.name, generation)
        self._axes: Any = None
        self._warned = False

    @property
    def waiting(self) -> int:
        """How many frames have been asked for and not been sent."""
        return len(self._wanted) + self._busy

    def ask(self, dim: str) -> None:
        """One more frame."""
        self._wanted.append(dim)
        self._next()

    def stop(self) -> None:
        """Nobody wants them any more."""
        self._wanted.clear()
        if self._coming is not None:
            self._coming.cancel()

    def _next(self) -> None:
        module = self._module
        assert isinstance(module, OfferedGrabber), "only of detectors frames are asked for"
        while self._wanted and not self._busy:
            self._busy = True
            try:
                result = module.grab(self._wanted.popleft())
                if isinstance(result, CoroutineType):
                    result = Deferred.fromCoroutine(result)
                if not isinstance(result, Deferred):
                    self._grabbed(result)
                    continue
            except Exception:
                self._not_grabbed(Failure())
                continue
            self._wait(result)

    def _wait(self, coming: Deferred[Any]) -> None:
        coming.addCallback(self._grabbed).addErrback(self._not_grabbed)
        if not coming.called or coming.paused:
            self._coming = coming
            coming.addCallback(self._came)

    def _came(self, _: object) -> None:
        self._coming = None
        self._next()
        self._connection.throttle()

    def _grabbed(self, data: Any) -> None:
        if isinstance(data, LabeledArray) and self._generation.objects:
            self._warn_if_slow(data.data.nbytes)
            self._connection.say_parts(self._writer.write(data, time.time()))
        else:
            self.send(frame_of(data, self._module.name, time.time()))
        if self._connection.full:
            self._connection.until_room().addCallbacks(self._free, lambda _: None)
        else:
            self._busy = False

    def _not_grabbed(self, failure: Failure) -> None:
        self._busy = False
        self._connection.failed(failure)

    def _free(self, _: object) -> None:
        """The other side has taken the last frame."""
        self._busy = False
        self._came(None)

    def send(self, frame: DataToExport) -> None:
        """Sends a frame; in generations A and B its axes before it, when they are new."""
        self._warn_if_slow(sum(array.nbytes for array in frame.arrays))
        if not self._generation.objects:
            self._send_axes(frame)
        self._connection.say(Done(for_plugins(frame, self._generation)))

    def _warn_if_slow(self, size: int) -> None:
        if size > SLOW_FRAME and not self._warned:
            self._warned = True
            self.log.warn(
                "{where}: a frame of {size} bytes; PyMoDAQ takes many seconds for one",
                where=self._connection.where,
                size=size,
            )

    def _send_axes(self, frame: DataToExport) -> None:
        known, axes = axes_of(frame)
        if known and known != self._axes:
            self._axes = known
            x, y = axes
            if x is not None:
                self._connection.say(XAxis(x))
            if y is not None:
                self._connection.say(YAxis(y))
