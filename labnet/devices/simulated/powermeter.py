"""A simulated optical power meter with a thermal head."""

from __future__ import annotations

import math

import numpy as np
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from labnet.device import Identity, command, parameter
from labnet.devices.simulated.shared import Simulated
from labnet.errors import DeviceFault

#: Full scales in W.
RANGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
#: Seconds that one sample takes.
SAMPLE = 0.0004
#: Standard deviation of one sample, as a part of the range.
NOISE = 5e-4
#: A zero adjustment is the mean of `ZERO_STEPS` parts of `ZERO_STEP` seconds.
ZERO_STEPS, ZERO_STEP = 10, 0.1
#: What the absorber takes of the light, at wavelengths in nm.
_ABSORPTION = (400.0, 633.0, 850.0, 1100.0), (0.955, 0.940, 0.925, 0.880)
#: The least power that can be given in dBm: -90 dBm.
_FLOOR = 1e-12
#: Where the beam really is, in nm.
_BEAM = 633.0


class PowerMeter(Simulated):
    """An optical power meter: a thermal head in a beam whose power wanders slowly.

    Args:
        beam: mean power of the beam in W.
        seed: where noise and drift begin.
        clock: its time; None for the reactor's.
    """

    identity = Identity("labnet", "SIM-PM", "P0000001", "1.0")

    wavelength = parameter(
        float, unit="nm", limits=(400.0, 1100.0), initial=_BEAM, display="{:.1f}",
        help="Wavelength for which the reading is corrected",
    )  # fmt: skip
    averaging = parameter(
        int, limits=(1, 1000), initial=1,
        help="Samples of 0.4 ms that make one reading",
    )  # fmt: skip
    saturated = parameter(
        bool, access="r", help="Whether the last reading reached the end of the range"
    )
    zeroing = parameter(
        bool, access="r", help="Whether a zero adjustment is in progress: the beam is blocked"
    )
    range = parameter(
        float, unit="W", limits=(RANGES[0], RANGES[-1]), initial=1e-2, display="{:g}",
        help="Full scale; the next larger range is taken, and auto_range goes off",
    )  # fmt: skip
    auto_range = parameter(
        bool, initial=True, help="Whether the meter chooses its range by itself"
    )
    unit = parameter(
        choices=("W", "DBM"), initial="W", help="Unit of power: W, or dBm (decibels above 1 mW)"
    )

    def __init__(
        self, beam: float = 2.5e-3, seed: int = 1, clock: IReactorTime | None = None
    ) -> None:
        super().__init__(seed, clock)
        self._beam = beam
        self._wander = self._drift(60.0)
        self._offset = 2e-5 * self._random.uniform(0.5, 1.0)  # W that the dark head shows
        self._offset_wander = self._drift(900.0)
        self._zero = 0.0
        self._watts = 0.0

    @range.setter  # type: ignore[no-redef]
    def range(self, watts: float) -> float:
        self.auto_range = False
        return next(scale for scale in RANGES if scale >= watts * (1 - 1e-9))

    @unit.setter  # type: ignore[no-redef]
    def unit(self, unit: str) -> None:
        self.change("power", unit="dBm" if unit == "DBM" else "W")
        self.store("power", _in_unit(self._watts, unit))

    @parameter(float, unit="W", poll=0.5)
    def power(self) -> float | Deferred[float]:
        """Power of the beam, in the unit that is set; more averaging takes longer."""
        samples: int = self.averaging
        if samples == 1:
            return self._measure(1)
        return self._pause(samples * SAMPLE).addCallback(lambda _: self._measure(samples))

    @command(long=True, timeout=30.0)
    async def zero(self) -> float:
        """Blocks the beam for 1 s and takes what is left for zero; answers the offset in W.

        Readings meanwhile show the dark head. A zero that is broken off changes nothing.
        """
        if self.zeroing:
            raise DeviceFault("a zero adjustment is running already", "Busy", -221)
        self.zeroing = True
        offset = 0.0
        try:
            for _ in range(ZERO_STEPS):
                await self._pause(ZERO_STEP)
                self.deadline.check("zero")
                offset += self._dark() + self._sampled(RANGES[0], int(ZERO_STEP / SAMPLE))
        finally:
            self.zeroing = False
        self._zero = offset / ZERO_STEPS
        return self._zero

    def _dark(self) -> float:
        return float(self._offset * (1 + 0.02 * self._offset_wander.at(self._now())))

    def _shown(self) -> float:
        """What a meter without noise or end of range would show now, in W."""
        light = 0.0
        if not self.zeroing:
            light = self._beam * (1 + 0.1 * self._wander.at(self._now()))
            light *= _absorption(_BEAM) / _absorption(self.wavelength)
        return light + self._dark() - self._zero

    def _sampled(self, scale: float, samples: int) -> float:
        """The mean noise of so many samples."""
        return float(self._random.standard_normal(samples).mean()) * NOISE * scale

    def _measure(self, samples: int) -> float:
        shown = self._shown()
        scale = self.range
        if self.auto_range:
            scale = next((scale for scale in RANGES if scale > 1.2 * abs(shown)), RANGES[-1])
            if scale != self.range:
                self.range = scale
        self._watts = min(max(shown + self._sampled(scale, samples), -scale), scale)
        saturated = abs(self._watts) >= scale
        if saturated is not self.saturated:
            self.saturated = saturated
        return _in_unit(self._watts, self.unit)


def _absorption(wavelength: float) -> float:
    return float(np.interp(wavelength, *_ABSORPTION))


def _in_unit(watts: float, unit: str) -> float:
    return 10 * math.log10(max(watts, _FLOOR) * 1e3) if unit == "DBM" else watts
