"""A simulated multimeter with the SCPI headers that bench multimeters have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime

from labnet.device import Device, Identity, command, parameter
from labnet.devices.simulated.shared import Simulated
from labnet.errors import DeviceFault

#: Integration times in power line cycles, each with its noise as a part of the range.
NOISE = {0.02: 1e-4, 0.2: 1e-5, 1.0: 3e-6, 10.0: 1e-6, 100.0: 3e-7}
#: Hum of the power line as a part of the range; whole cycles average it out.
HUM = 2e-4
#: A range measures up to this multiple of itself.
OVERRANGE = 1.2
#: What stands for a value beyond the range (SCPI-1999 volume 1, section 7.2.1.4).
OVERLOAD = 9.9e37


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a function measures: the header of its settings, unit, and full scales."""

    header: str
    unit: str
    ranges: tuple[float, ...]


VOLTAGE = Quantity("VOLTage[:DC]", "V", (0.1, 1.0, 10.0, 100.0, 1000.0))
CURRENT = Quantity("CURRent[:DC]", "A", (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 3.0))
RESISTANCE = Quantity("RESistance", "Ohm", (1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8))


class Input(Device):
    """The settings of one function: range, automatic range, integration time."""

    def __init__(self, quantity: Quantity) -> None:
        header = f"[SENSe]:{quantity.header}"
        self.quantity = quantity
        self._range = self.add_parameter(
            "range", float, setter=self._set_range, unit=quantity.unit, initial=quantity.ranges[-1],
            limits=(0.0, quantity.ranges[-1]), scpi=f"{header}:RANGe[:UPPer]",
            help="Full scale; the next larger range is taken, and auto_range goes off",
        )  # fmt: skip
        self._auto = self.add_parameter(
            "auto_range", bool, initial=True, scpi=f"{header}:RANGe:AUTO",
            help="Whether each measurement chooses its range",
        )  # fmt: skip
        self._nplc = self.add_parameter(
            "nplc", float, setter=_at_least(tuple(NOISE)), initial=1.0, limits=(0.02, 100.0),
            scpi=f"{header}:NPLCycles",
            help="Integration time in power line cycles; more takes longer and lowers the noise",
        )  # fmt: skip

    @property
    def scale(self) -> float:
        """The full scale in use."""
        return float(self._range.reading.value)

    @property
    def cycles(self) -> float:
        """The integration time in power line cycles."""
        return float(self._nplc.reading.value)

    def _set_range(self, value: float) -> float:
        self._auto.store(False)
        return _next_above(self.quantity.ranges, value)

    def configure(self, scale: float, resolution: float) -> None:
        """As CONFigure: a range and a resolution in the function's unit, 0 for the defaults."""
        self._auto.store(not scale)
        if scale:
            self._range.store(_next_above(self.quantity.ranges, scale))
        part = resolution / self.scale * (1 + 1e-9)
        fine = [cycles for cycles, noise in NOISE.items() if noise <= part]
        self._nplc.store(min(fine, default=max(NOISE)) if resolution else 1.0)

    def scale_for(self, value: float) -> float:
        """The range that a measurement of `value` is made in; kept if it is automatic."""
        if self._auto.reading.value:
            scale = _next_above(self.quantity.ranges, abs(value) / OVERRANGE)
            if scale != self.scale:
                self._range.store(scale)
        return self.scale


class Dmm(Simulated):
    """A multimeter: MEASure, CONFigure, READ?, INITiate and FETCh?, with ranges and NPLCycles.

    Beyond a fixed range it reads 9.9E37. In bus trigger mode INITiate waits for ``*TRG``.

    Args:
        volts: voltage at its terminals in V.
        amperes: current through it in A.
        ohms: resistance between its terminals in ohm.
        line_frequency: of the mains in Hz, 50 or 60.
        seed: where noise and drift begin.
        clock: its time; None for the reactor's.
    """

    identity = Identity("labnet", "SIM-DMM", "D0000001", "1.0")

    function = parameter(
        choices=("VOLT", "CURR", "RES"), initial="VOLT", scpi="[SENSe]:FUNCtion[:ON]",
        help="What is measured: direct voltage, direct current or resistance",
    )  # fmt: skip
    trigger_source = parameter(
        choices={"IMM": "IMMediate", "BUS": "BUS"}, initial="IMM", scpi="TRIGger:SOURce",
        help="Whether a measurement begins at once or at a trigger",
    )  # fmt: skip
    reading = parameter(
        float, unit="V", access="r", initial=math.nan, scpi="", help="What was measured last"
    )

    def __init__(
        self,
        volts: float = 5.0,
        amperes: float = 0.012,
        ohms: float = 1000.0,
        line_frequency: float = 50.0,
        seed: int = 6,
        clock: IReactorTime | None = None,
    ) -> None:
        if line_frequency not in (50, 60):
            raise ValueError(f"line_frequency must be 50 or 60 Hz, not {line_frequency:g}")
        super().__init__(seed, clock)
        self.voltage = Input(VOLTAGE)
        self.current = Input(CURRENT)
        self.resistance = Input(RESISTANCE)
        self._inputs = {"VOLT": self.voltage, "CURR": self.current, "RES": self.resistance}
        self._truth = {"VOLT": volts, "CURR": amperes, "RES": ohms}
        self._wander = self._drift(120.0)
        self._line_frequency = float(line_frequency)
        self._last: float | None = None
        self._step: Deferred[Any] | None = None  # what the measurement in progress waits for
        self._trigger: Deferred[None] | None = None
        self._aborting = False
        self._fetching: list[Deferred[None]] = []

    @function.setter  # type: ignore[no-redef]
    def function(self, function: str) -> None:
        self._last = None
        self.change("reading", unit=self._inputs[function].quantity.unit)

    # MEASure and CONFigure

    @command(
        scpi="MEASure[:SCALar]:VOLTage[:DC]?", limits={"range": (0, 1000)}, unit="V",
        units={"range": "V", "resolution": "V"}, timeout=30.0,
    )  # fmt: skip
    async def measure_voltage(self, range: float = 0.0, resolution: float = 0.0) -> float:
        """Measures a direct voltage in V; 0 stands for automatic range, default resolution."""
        self.configure_voltage(range, resolution)
        return await self._measure()

    @command(
        scpi="MEASure[:SCALar]:CURRent[:DC]?", limits={"range": (0, 3)}, unit="A",
        units={"range": "A", "resolution": "A"}, timeout=30.0,
    )  # fmt: skip
    async def measure_current(self, range: float = 0.0, resolution: float = 0.0) -> float:
        """Measures a direct current in A; 0 stands for automatic range, default resolution."""
        self.configure_current(range, resolution)
        return await self._measure()

    @command(
        scpi="MEASure[:SCALar]:RESistance?", limits={"range": (0, 1e8)}, unit="Ohm",
        units={"range": "Ohm", "resolution": "Ohm"}, timeout=30.0,
    )  # fmt: skip
    async def measure_resistance(self, range: float = 0.0, resolution: float = 0.0) -> float:
        """Measures a resistance in ohm; 0 stands for automatic range, default resolution."""
        self.configure_resistance(range, resolution)
        return await self._measure()

    @command(
        scpi="CONFigure[:SCALar][:VOLTage[:DC]]", limits={"range": (0, 1000)},
        units={"range": "V", "resolution": "V"},
    )  # fmt: skip
    def configure_voltage(self, range: float = 0.0, resolution: float = 0.0) -> None:
        """Prepares for direct voltage; 0 stands for automatic range, default resolution."""
        self._configure("VOLT", range, resolution)

    @command(
        scpi="CONFigure[:SCALar]:CURRent[:DC]", limits={"range": (0, 3)},
        units={"range": "A", "resolution": "A"},
    )  # fmt: skip
    def configure_current(self, range: float = 0.0, resolution: float = 0.0) -> None:
        """Prepares for direct current; 0 stands for automatic range, default resolution."""
        self._configure("CURR", range, resolution)

    @command(
        scpi="CONFigure[:SCALar]:RESistance", limits={"range": (0, 1e8)},
        units={"range": "Ohm", "resolution": "Ohm"},
    )  # fmt: skip
    def configure_resistance(self, range: float = 0.0, resolution: float = 0.0) -> None:
        """Prepares for resistance; 0 stands for automatic range, default resolution."""
        self._configure("RES", range, resolution)

    @command(scpi="CONFigure?", reads=True)
    def configuration(self) -> str:
        """What the meter is set up for: function, range and resolution."""
        chosen = self._inputs[self.function]
        resolution = chosen.scale * NOISE[chosen.cycles]
        return f"{self.function} {chosen.scale:+.6E},{resolution:+.6E}"

    def _configure(self, function: str, scale: float, resolution: float) -> None:
        self._refuse_if_measuring()
        self.function = function
        self.change("reading", unit=self._inputs[function].quantity.unit)
        self.trigger_source = "IMM"
        self._inputs[function].configure(scale, resolution)
        self._last = None

    # INITiate, READ? and FETCh?

    @command(scpi="READ?", timeout=30.0)
    async def read(self) -> float:
        """Measures as configured; answers the value, in the unit of the function."""
        if self.trigger_source == "BUS":
            raise DeviceFault("a read cannot wait for a bus trigger", "TriggerDeadlock", -214)
        return await self._measure()

    @command(scpi="INITiate[:IMMediate]", long=True, timeout=3600.0)
    async def initiate(self) -> None:
        """Begins a measurement, or waits for the trigger to begin it; `fetch` answers the value."""
        try:
            await self._measure()
        except DeviceFault as fault:
            if fault.kind != "Aborted":
                raise

    @command(scpi="FETCh?", long=True, reads=True, timeout=3600.0)
    async def fetch(self) -> float:
        """Answers what was measured last, when the measurement in progress is done."""
        if self._step is not None:
            done: Deferred[None] = Deferred()
            self._fetching.append(done)
            await done
        if self._last is None:
            raise DeviceFault("nothing has been measured yet", "Stale", -230)
        return self._last

    @command(scpi="")  # *TRG and the wires' own triggers call it
    def trigger(self) -> None:
        """Begins the measurement that waits for a trigger."""
        waiting, self._trigger = self._trigger, None
        if waiting is None:
            raise DeviceFault("nothing waits for a trigger", "TriggerIgnored", -211)
        waiting.callback(None)

    @command(scpi="ABORt", urgent=True)
    def abort(self) -> None:
        """Breaks off the measurement in progress."""
        if self._step is not None:
            self._aborting = True
            self._step.cancel()

    @command(scpi="", urgent=True)
    def reset(self) -> None:
        """Breaks off what is in progress; all settings as at first (``*RST``)."""
        self.abort()
        for chosen in self._inputs.values():
            chosen.configure(chosen.quantity.ranges[-1], 0.0)
            chosen.configure(0.0, 0.0)
        self._configure("VOLT", 0.0, 0.0)

    def _refuse_if_measuring(self) -> None:
        if self._step is not None:
            raise DeviceFault("a measurement is in progress", "Busy", -213)

    async def _measure(self) -> float:
        """One measurement as configured; its value is kept for `fetch`."""
        self._refuse_if_measuring()
        self._last = None
        chosen = self._inputs[self.function]
        try:
            if self.trigger_source == "BUS":
                self._step = self._trigger = Deferred()
                await self._step
            self._step = self._pause(chosen.cycles / self._line_frequency)
            await self._step
            self._last = self._value(chosen, self._truth[self.function])
            self.reading = self._last
            return self._last
        except CancelledError:
            if not self._aborting:
                raise
            raise DeviceFault("the measurement was aborted", "Aborted") from None
        finally:
            self._step = self._trigger = None
            self._aborting = False
            fetching, self._fetching = self._fetching, []
            for done in fetching:
                done.callback(None)

    def _value(self, chosen: Input, truth: float) -> float:
        """What the converter makes of the signal, with noise, hum and the end of the range."""
        truth *= 1 + 2e-5 * self._wander.at(self._now())
        scale, cycles = chosen.scale_for(truth), chosen.cycles
        angle = math.pi * cycles
        hum = HUM * math.sin(angle) / angle if cycles < 1 else 0.0
        phase = self._random.uniform(0, 2 * math.pi)
        value = truth + scale * (NOISE[cycles] * self._noise() + hum * math.sin(phase))
        return value if abs(value) <= OVERRANGE * scale else math.copysign(OVERLOAD, value)


def _next_above(steps: tuple[float, ...], value: float) -> float:
    """The smallest of the steps that is not below `value`, or the last one."""
    return next((step for step in steps if step >= value * (1 - 1e-9)), steps[-1])


def _at_least(steps: tuple[float, ...]) -> Any:
    return lambda value: _next_above(steps, value)
