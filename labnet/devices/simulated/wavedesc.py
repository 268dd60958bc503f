"""The descriptor before the data of a LeCroy waveform: WAVEDESC of the template LECROY_2_3.

The layout is the one that LeCroy instruments answer to ``TEMPLATE?`` and that the remote control
manuals print; times are in seconds, levels in volts.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from datetime import datetime

SIZE = 346
"""Bytes of the descriptor."""

_NAMES = "16s16shh"  # descriptor and template, width of a value, order of its bytes
_LENGTHS = "10i"  # of this block and of the blocks after it
_SOURCE = "16si16shh"  # instrument, its number, trace label, two reserved words
_COUNTS = "9ihh"  # values, per screen, first and last valid, first, ... sweeps; points of a pair
_LEVELS = "4fhh"  # gain, offset, highest and lowest value; bits, nominal segments
_TIMES = "fdd48s48sf"  # interval, offset, pixel offset, both units, uncertainty of the interval
_TRIGGER = "dBBBBhhf"  # seconds, minutes, hours, day, month, year, unused; duration
_MODES = "6hfhhffh"  # record, processing, ..., time base, coupling; probe, gain, ..., source
_LAYOUT = _NAMES + _LENGTHS + _SOURCE + _COUNTS + _LEVELS + _TIMES + _TRIGGER + _MODES
_BIG, _LITTLE = struct.Struct(">" + _LAYOUT), struct.Struct("<" + _LAYOUT)
assert _BIG.size == SIZE

_STEPS = (1.0, 2.0, 5.0)


@dataclass(frozen=True)
class Waveform:
    """What a descriptor says of the data after it.

    A value `n` stands for ``gain * n - offset`` volts. `width` is 1 or 2 bytes a value; `begins` is
    the time of the first value after the trigger, negative for one before it.
    """

    channel: int
    points: int
    width: int
    little_endian: bool
    gain: float
    offset: float
    interval: float
    begins: float
    time_div: float
    when: datetime
    instrument: str = "SIM-SCOPE"

    @property
    def size(self) -> int:
        """Bytes of the data."""
        return self.points * self.width

    def descriptor(self) -> bytes:
        """The 346 bytes."""
        highest = float((1 << (8 * self.width - 1)) - 1)
        layout = _LITTLE if self.little_endian else _BIG
        when = self.when
        return layout.pack(
            *(b"WAVEDESC", b"LECROY_2_3", self.width - 1, int(self.little_endian)),
            *(SIZE, 0, 0, 0, 0, 0, self.size, 0, 0, 0),
            *(self.instrument.encode("ascii"), 1, b"", 0, 0),
            *(self.points, self.points, 0, self.points - 1, 0, 1, 0, 1, 1, 0, 0),
            *(self.gain, self.offset, highest, -highest - 1, 8, 1),
            *(self.interval, self.begins, self.begins, b"V", b"S", self.interval / 10),
            *(when.second + when.microsecond * 1e-6, when.minute, when.hour),
            *(when.day, when.month, when.year, 0, self.points * self.interval),
            *(0, 0, 0, 0, time_base(self.time_div), 2),
            *(1.0, 0, 0, 1.0, self.offset, self.channel - 1),
        )


def nearest_step(value: float) -> float:
    """The nearest of 1, 2, 5, 10, 20, ... and of their tenths, as on the knob of a scope."""
    decade = math.floor(math.log10(value) + 1e-12)
    steps = [float(f"{step:g}e{decade}") for step in (*_STEPS, 10.0)]
    return min(steps, key=lambda step: abs(math.log(step / value)))


def time_base(time_div: float) -> int:
    """The number of a time base of 1, 2 or 5 times a power of ten seconds: 0 for 1 ps."""
    decade = math.floor(math.log10(time_div) + 1e-9)
    step = round(time_div / 10.0**decade)
    return 3 * (decade + 12) + {1: 0, 2: 1, 5: 2}.get(step, 0)
