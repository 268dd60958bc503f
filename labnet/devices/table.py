"""The drivers that a ``[device NAME]`` section may name, imported only when one does."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from labnet.errors import UnknownName


@dataclass(frozen=True, slots=True)
class Driver:
    """One driver: its name in the configuration and its class."""

    name: str
    target: str
    help: str

    def load(self) -> Any:
        """The class, whose constructor takes the section's keys."""
        module, _, name = self.target.rpartition(".")
        return getattr(import_module(module), name)


def _simulated(name: str, target: str, help: str) -> Driver:
    return Driver(f"simulated.{name}", f"labnet.devices.simulated.{name}.{target}", help)


ROWS: tuple[Driver, ...] = (
    _simulated("powermeter", "PowerMeter", "a thermal power meter"),
    _simulated("daq", "Daq", "a data acquisition device with two ports and four inputs"),
    _simulated("stage", "Stage", "a linear stage, 0 to 100 mm"),
    _simulated("camera", "Camera", "a camera, 512 x 512 pixels, that sees a spot"),
    _simulated("spectrometer", "Spectrometer", "a spectrometer of 2048 pixels"),
    _simulated("dmm", "Dmm", "a multimeter"),
    _simulated("scope", "Scope", "a LeCroy-like oscilloscope, four channels"),
    _simulated("linktester", "LinkTester", "tries a link: blocks, waits, service requests"),
)
DRIVERS: dict[str, Driver] = {row.name: row for row in ROWS}


def find_driver(name: str) -> Driver:
    """The row called `name`; UnknownName with the nearest ones."""
    try:
        return DRIVERS[name]
    except KeyError:
        raise UnknownName(name, DRIVERS, "driver") from None
