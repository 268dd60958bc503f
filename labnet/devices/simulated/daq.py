"""A simulated data acquisition device: two digital ports and four analog inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from twisted.internet.interfaces import IReactorTime

from labnet.device import Device, Identity, parameter
from labnet.devices.simulated.shared import Simulated
from labnet.errors import NotWritable

LINES = 8
#: Period in seconds of the square wave at an input line 0; line n has 1/2**n of its rate.
INPUT_PERIOD = 2.0
#: The analog inputs measure -10 to 10 V with 16 bits.
SPAN = 10.0
STEP = 2 * SPAN / (1 << 16)
#: Amplitude in V, frequency in Hz and offset in V of what is at each analog input.
SIGNALS = ((1.0, 0.1, 0.0), (2.5, 0.23, 1.0), (5.0, 0.037, -2.0), (12.0, 0.011, 0.0))
NOISE = 2e-3


class Port(Device):
    """Eight digital lines; those that are inputs see a counter, line 0 the fastest."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._latch = 0
        self._outputs = 0xFF
        for number in range(LINES):
            self.add_parameter(
                f"line{number}",
                bool,
                getter=partial(self._line, number),
                setter=partial(self._set_line, number),
                help=f"Level of line {number}; only an output can be set",
            )

    @parameter(limits=(0, 255), touches=[f"line{number}" for number in range(LINES)])
    def value(self) -> int:
        """All lines as one number, bit n is line n; setting it sets the outputs among them."""
        inputs = int(self._seconds() * 2 / INPUT_PERIOD) & 0xFF
        return (self._latch & self._outputs) | (inputs & ~self._outputs)

    @value.setter  # type: ignore[no-redef]
    def value(self, levels: int) -> int:
        before = self.value
        self._latch = levels
        self._tell_lines(before)
        return int(self.value)

    @parameter(
        limits=(0, 255), initial=0xFF, touches=[f"line{number}" for number in range(LINES)]
    )
    def outputs(self) -> int:
        """Which lines are outputs, bit n is line n; the others are inputs."""
        return self._outputs

    @outputs.setter  # type: ignore[no-redef]
    def outputs(self, mask: int) -> None:
        before = self.value
        self._outputs = mask
        self._tell_lines(before)
        self.store("value", self.value)

    def _line(self, number: int) -> bool:
        return bool(self.value >> number & 1)

    def _set_line(self, number: int, level: bool) -> None:
        if not self.outputs >> number & 1:
            raise NotWritable(f"line{number}", "is an input; make it an output first")
        bit = 1 << number
        self._latch = self._latch | bit if level else self._latch & ~bit
        self.store("value", self.value)

    def _tell_lines(self, before: int) -> None:
        """Lets those who listen to single lines know which have changed with the whole port."""
        changed = before ^ self.value
        for number in range(LINES):
            if changed >> number & 1:
                self.store(f"line{number}", self._line(number))


class Daq(Simulated):
    """A data acquisition device; foreign programs know it as ``Dev1`` (``Dev1/port0/line0``).

    The analog inputs see slow sines with some noise; ai3 has more than the input can take.

    Args:
        seed: where the noise begins.
        clock: its time; None for the reactor's.
    """

    identity = Identity("labnet", "SIM-DAQ", "A0000001", "1.0")
    aliases = ("Dev1",)

    def __init__(self, seed: int = 2, clock: IReactorTime | None = None) -> None:
        super().__init__(seed, clock)
        self.port0 = Port(self._now)
        self.port1 = Port(self._now)
        for number, (amplitude, frequency, offset) in enumerate(SIGNALS):
            self.add_parameter(
                f"ai{number}",
                float,
                getter=partial(self._volts, amplitude, frequency, offset),
                unit="V",
                limits=(-SPAN, SPAN),
                poll=1.0,
                display="{:.4f}",
                help=f"Voltage at analog input {number}",
            )

    def _volts(self, amplitude: float, frequency: float, offset: float) -> float:
        """What the converter makes of the signal: noisy, in steps, cut off at its span."""
        volts = offset + amplitude * math.sin(2 * math.pi * frequency * self._now())
        steps = round((volts + NOISE * self._noise()) / STEP)
        half = 1 << 15
        return min(max(steps, -half), half - 1) * STEP
