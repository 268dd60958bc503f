"""A simulated oscilloscope with the command words and waveforms of LeCroy's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime

from labnet.device import Device, Identity, command, parameter
from labnet.devices.simulated.shared import Simulated
from labnet.devices.simulated.wavedesc import SIZE, Waveform, nearest_step
from labnet.errors import DeviceFault
from labnet.values import RAW_TEXT, Axis, LabeledArray

CHANNELS = 4
DIVISIONS = 10  # of the screen, across; it has 8 up and down
MAX_POINTS = 10_000_000
#: Values that are computed at once; longer waveforms leave the lab time for others.
STEP = 1 << 18
#: Noise of the amplifier, as a part of a division.
NOISE = 0.02


class Signal(NamedTuple):
    """What is at an input: its shape, amplitude in V and frequency in Hz."""

    shape: Literal["square", "sine", "ringing", "noise"]
    amplitude: float
    frequency: float

    def at(
        self, times: npt.NDArray[np.float64], random: np.random.Generator
    ) -> npt.NDArray[np.float64]:
        """The voltage at some times, in seconds after the trigger."""
        turns = times * self.frequency
        if self.shape == "noise":
            return self.amplitude * random.standard_normal(len(times))
        if self.shape == "square":
            return np.where(turns % 1.0 < 0.5, self.amplitude, 0.0)
        wave = np.sin(2 * np.pi * turns)
        if self.shape == "ringing":
            wave *= np.where(turns < 0, 0.0, np.exp(-np.maximum(turns, 0.0) / 3))
        return self.amplitude * wave


SIGNALS = (
    Signal("square", 1.0, 1e3),  # the calibration output
    Signal("sine", 0.5, 2.5e3),
    Signal("ringing", 0.8, 10e3),
    Signal("noise", 0.1, 0.0),
)


class Acquisition(NamedTuple):
    """One sweep. Its values are computed from it when they are asked for, each time the same."""

    seed: int
    points: int
    time_div: float
    when: datetime
    scales: tuple[tuple[float, float], ...]  # volts a division and offset of each channel

    @property
    def interval(self) -> float:
        """Seconds between two values."""
        return DIVISIONS * self.time_div / self.points

    @property
    def begins(self) -> float:
        """Time of the first value: the trigger is in the middle of the screen."""
        return -DIVISIONS * self.time_div / 2


class Channel(Device):
    """One input of the oscilloscope."""

    volt_div = parameter(
        float, unit="V", limits=(1e-3, 10.0), initial=0.2, scpi="C<n>:VOLT_DIV, C<n>:VDIV",
        help="Volts a division: the nearest of 1, 2, 5, 10, 20, ... mV",
    )  # fmt: skip
    offset = parameter(
        float, unit="V", limits=(-100.0, 100.0), initial=0.0, scpi="C<n>:OFFSET, C<n>:OFST",
        help="What is added to the signal on the screen",
    )  # fmt: skip

    def __init__(self, scope: Scope, number: int) -> None:
        self._scope = scope
        self._number = number

    @volt_div.setter
    def _set_volt_div(self, value: float) -> float:
        return nearest_step(value)

    @command(
        long=True, reads=True, timeout=1200.0, scpi="C<n>:WAVEFORM?, C<n>:WF?"
    )  # fmt: skip
    async def waveform(self, part: Literal["ALL", "DESC", "DAT1"] = "ALL") -> bytes:
        """The waveform of a sweep as LeCroy's block: descriptor and data, or one of the two."""
        return await self._scope.waveform(self._number, part)

    @command(long=True, reads=True, timeout=1200.0, scpi="", unit="V")
    async def grab(self) -> LabeledArray:
        """The waveform of a sweep in volts over time."""
        return await self._scope.volts(self._number)


def part_of(waveform: bytes) -> bytes:
    """What a block has: a descriptor, data, or both."""
    if not waveform.startswith(b"WAVEDESC"):
        return b"DAT1"
    return b"ALL" if len(waveform) > SIZE else b"DESC"


class Scope(Simulated):
    """An oscilloscope with four channels, up to 10 million points each.

    It speaks like LeCroy's, at first with ``COMM_HEADER OFF``. While it runs (``TRIG_MODE AUTO`` or
    ``NORM``) each waveform is that of a new sweep; after ``ARM``, that of the one sweep, for whose
    end waveforms and ``WAIT`` wait.

    Args:
        seed: where the noise begins.
        clock: its time; None for the reactor's.
    """

    identity = Identity("labnet", "SIM-SCOPE", "O0000001", "1.0")

    time_div = parameter(
        float, unit="s", limits=(1e-9, 100.0), initial=2e-4, scpi="TIME_DIV, TDIV",
        help="Seconds a division: the nearest of 1, 2, 5, 10, 20, ... ns",
    )  # fmt: skip
    points = parameter(
        int, limits=(50, MAX_POINTS), initial=10_000, scpi="MEMORY_SIZE, MSIZ",
        help="Values in a waveform",
    )  # fmt: skip
    trigger_mode = parameter(
        choices=("AUTO", "NORM", "SINGLE", "STOP"), initial="AUTO", scpi="TRIG_MODE, TRMD",
        help="AUTO and NORM: sweep after sweep; SINGLE: one sweep; STOP: none",
    )  # fmt: skip
    comm_header = parameter(
        choices=("OFF", "SHORT", "LONG"), initial="OFF", scpi="COMM_HEADER, CHDR",
        help="What is before an answer: nothing, TDIV, or TIME_DIV; then a unit is behind it",
    )  # fmt: skip
    comm_order = parameter(
        choices=("HI", "LO"), initial="HI", scpi="COMM_ORDER, CORD",
        help="Which byte of two in a waveform comes first",
    )  # fmt: skip
    comm_format = parameter(
        RAW_TEXT, access="r", initial="DEF9,WORD,BIN", scpi="COMM_FORMAT?, CFMT?",
        help="How waveforms are sent: BYTE or WORD for each value",
    )  # fmt: skip
    sweeps = parameter(int, access="r", scpi="SWEEPS", help="Sweeps so far")

    def __init__(self, seed: int = 7, clock: IReactorTime | None = None) -> None:
        super().__init__(seed, clock)
        self.channel = {number: Channel(self, number) for number in range(1, CHANNELS + 1)}
        self._last: Acquisition | None = None
        self._sweep: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []

    def response_unit(self, headers: Sequence[str], unit: str, data: list[Any]) -> list[Any]:
        """LeCroy's answers: a block has nine digits, the header is as `comm_header` says."""
        is_block = data[0][:1] == b"#"
        if is_block:
            data = [b"#9%09d" % len(data[1]), data[1]]
        if self.comm_header == "OFF" or not headers:
            return data
        header = headers[0] if self.comm_header == "LONG" else headers[-1]
        if is_block:
            return [b"%b %b," % (header.encode(), part_of(data[1])), *data]
        return [header.encode(), b" ", *data, *([b" ", unit.upper().encode()] if unit else ())]

    # What a client does

    @time_div.setter
    def _set_time_div(self, value: float) -> float:
        return nearest_step(value)

    @trigger_mode.setter
    def _set_trigger_mode(self, mode: str) -> None:
        if mode == "SINGLE":
            self._begin()
        elif mode == "STOP":
            self._break_off()

    @command(scpi="COMM_FORMAT, CFMT")
    def set_comm_format(
        self, block: Literal["DEF9"], width: Literal["BYTE", "WORD"], coding: Literal["BIN"]
    ) -> None:
        """How waveforms are sent: bytes or words."""
        self.comm_format = f"{block},{width},{coding}"

    @command(long=True, timeout=1200.0, scpi="ARM_ACQUISITION, ARM")
    async def arm(self) -> None:
        """Begins one sweep, which takes ten divisions; done when that is over."""
        self.trigger_mode = "SINGLE"
        self._begin()
        await self._end_of_sweep()

    @command(long=True, reads=True, timeout=1200.0, scpi="WAIT")
    async def wait(self) -> None:
        """Done when the sweep in progress is over."""
        await self._end_of_sweep()

    @command(long=True, timeout=1200.0, scpi="")  # *TRG and the wires' own triggers call it
    async def trigger(self) -> None:
        """Begins one sweep."""
        await self.arm()

    @command(scpi="STOP")
    def stop(self) -> None:
        """Ends sweeping; the last sweep stays."""
        self.trigger_mode = "STOP"
        self._break_off()

    def disconnect(self) -> None:
        """Ends sweeping."""
        self._break_off()

    # Sweeps

    def _begin(self) -> None:
        if self._sweep is None:
            self._sweep = self._pause(DIVISIONS * self.time_div)
            self._sweep.addCallbacks(self._swept, self._not_swept)

    def _swept(self, _: object) -> None:
        self._sweep = None
        self._last = Acquisition(
            int(self._random.integers(1 << 62)),
            self.points,
            self.time_div,
            datetime.now(UTC),
            tuple((channel.volt_div, channel.offset) for channel in self.channel.values()),
        )
        self.sweeps += 1
        if self.trigger_mode == "SINGLE":
            self.trigger_mode = "STOP"
        self._tell()

    def _not_swept(self, failure: Any) -> None:
        failure.trap(CancelledError)
        self._sweep = None
        self._tell()

    def _break_off(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)

    async def _end_of_sweep(self) -> None:
        if self._sweep is not None:
            done: Deferred[None] = Deferred(self._waiting.remove)
            self._waiting.append(done)
            await done

    async def _acquired(self) -> Acquisition:
        """The sweep whose waveform is meant now."""
        if self.trigger_mode in ("AUTO", "NORM"):
            self._begin()
        await self._end_of_sweep()
        if self._last is None:
            raise DeviceFault("there is no waveform yet: ARM takes one", "NoWaveform", -230)
        return self._last

    # Waveforms

    async def waveform(self, number: int, part: str) -> bytes:
        """The block of one channel; `part` is ALL, DESC or DAT1."""
        sweep = await self._acquired()
        width = 1 if "BYTE" in self.comm_format else 2
        little = self.comm_order == "LO"
        volt_div, offset = sweep.scales[number - 1]
        wave = Waveform(
            number,
            sweep.points,
            width,
            little,
            8 * volt_div / (1 << 8 * width),
            offset,
            sweep.interval,
            sweep.begins,
            sweep.time_div,
            sweep.when,
        )
        head = b"" if part == "DAT1" else wave.descriptor()
        if part == "DESC":
            return head
        out = bytearray(len(head) + wave.size)
        out[: len(head)] = head
        values = np.frombuffer(out, f"{'<' if little else '>'}i{width}", offset=len(head))
        limit = (1 << 8 * width - 1) - 1
        async for start, volts in self._computed(sweep, number):
            codes = np.rint((volts + offset) / wave.gain)
            values[start : start + len(codes)] = np.clip(codes, -limit - 1, limit)
        return bytes(out)

    async def volts(self, number: int) -> LabeledArray:
        """The waveform of one channel in volts, cut off where the screen ends."""
        sweep = await self._acquired()
        values = np.empty(sweep.points, np.float32)
        times = np.empty(sweep.points, np.float64)
        volt_div, offset = sweep.scales[number - 1]
        async for start, volts in self._computed(sweep, number):
            end = start + len(volts)
            values[start:end] = np.clip(volts, -4 * volt_div - offset, 4 * volt_div - offset)
            times[start:end] = sweep.begins + sweep.interval * np.arange(start, end)
        return LabeledArray(values, f"C{number}", "V", (Axis("time", "s", times),))

    async def _computed(self, sweep: Acquisition, number: int) -> Any:
        """The signal of one channel, piece by piece: where each begins, and its volts."""
        random = np.random.default_rng((sweep.seed, number))
        signal, noise = SIGNALS[number - 1], NOISE * sweep.scales[number - 1][0]
        for start in range(0, sweep.points, STEP):
            if start:
                await self._pause(0)
                self.deadline.check(f"the waveform of C{number}")
            count = min(STEP, sweep.points - start)
            indices = np.arange(start, start + count, dtype=np.float64)
            times = sweep.begins + sweep.interval * indices
            volts = signal.at(times, random) + noise * random.standard_normal(count)
            yield start, volts
