"""Classes as a user writes them, with and without labnet in mind."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from labnet.device import Device, command, parameter
from labnet.values import Limits


class Unit(enum.Enum):
    """Units of power."""

    W = 1
    DBM = 2


class Shutter(Device):
    """A device of labnet's own kind.

    Args:
        delay: how long it takes, in s.
    """

    is_open = parameter(bool)

    def __init__(self, delay: float, pin: int = 3, clock: Any = None) -> None:
        self.wait, self.pin, self.clock = delay, pin, clock

    @command
    def flash(self) -> None:
        """Opens it for a moment."""


class Meter:
    """A class that knows nothing of labnet."""

    made: list[Meter] = []

    def __init__(self, port: str, name: str, gain: float = 1.0, unit: Unit = Unit.W, *, raw=None):  # type: ignore[no-untyped-def]
        if port == "none":
            raise OSError("there is no such port")
        self.port, self.name, self.gain, self.unit, self.raw = port, name, gain, unit, raw
        self.identity = "Example,Meter,M-1,2.0"
        self.events: list[str] = []
        self._wavelength = 633.0
        Meter.made.append(self)

    def open(self) -> None:
        self.events.append("open")

    def close(self) -> None:
        self.events.append("close")

    @property
    def power(self) -> Annotated[float, "W"]:
        """The power now."""
        return 1e-3 * self.gain

    @property
    def wavelength(self) -> Annotated[float, "nm", Limits(400, 1100)]:
        """The calibration wavelength."""
        return self._wavelength

    @wavelength.setter
    def wavelength(self, value: float) -> None:
        self._wavelength = value

    @property
    def mode(self) -> Literal["slow", "fast"]:
        return "fast"

    @property
    def undeclared(self):  # type: ignore[no-untyped-def]
        return 1

    def zero(self, seconds: Annotated[float, "s", Limits(0, 60)] = 1.0) -> Annotated[float, "W"]:
        """Takes the present power for zero."""
        return seconds / 10

    def fail(self) -> None:
        raise RuntimeError("the lamp is broken")

    def bare(self):  # type: ignore[no-untyped-def]
        return 2

    def _hidden(self) -> None: ...


class Logged(Meter):
    """Hands on what it does not know."""

    def __init__(self, folder: Path, *, timeout: float = 2.0, **more: Any) -> None:
        super().__init__(**more)
        self.folder, self.timeout = folder, timeout


class Open:
    """Takes anything."""

    def __init__(self, **anything: Any) -> None:
        self.anything = anything


class Lists:
    """Takes several."""

    def __init__(self, names: Sequence[str], counts: list[int], places: tuple[float, ...] = ()):
        self.given = names, counts, places


class Asynchronous:
    """Its methods are coroutines of Twisted."""

    async def double(self, value: float) -> float:
        return 2 * value


class NeedsHead:
    """Cannot be made from texts."""

    def __init__(self, head: Meter) -> None: ...


class Optional:
    """Has an argument that nobody can write, and need not."""

    def __init__(self, hook: Callable[[], None] | None = None, head: Meter | None = None) -> None:
        self.hook = hook


def make_meter(gain: float) -> Meter:
    """A function makes it."""
    return Meter("made", "by hand", gain)


def make_something(gain: float):  # type: ignore[no-untyped-def]
    """Does not say what it makes."""
    return Meter("made", "by hand", gain)


NUMBER = 5
