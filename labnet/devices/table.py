"""The drivers that a ``[device NAME]`` section may name, imported only when one does."""

from __future__ import annotations

from collections.abc import Mapping
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
    own: bool = False  # a class of the user's, or what it is needed for

    def load(self) -> Any:
        """The class, whose constructor takes the section's keys; or a function that does."""
        module, _, name = self.target.rpartition(".")
        found = getattr(import_module(module), name)
        if not self.own:
            return found
        from labnet.devices.objects.kinds import maker_of

        return maker_of(found)

    def defaults(self, target: Any) -> Mapping[str, Any]:
        """Arguments of a class of the user's that its section need not set."""
        from labnet.devices.objects.kinds import defaults_of

        return defaults_of(target)


def _remote(name: str, target: str, help: str) -> Driver:
    return Driver(name, f"labnet.devices.remote.{target}", help)


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
    _remote("tsv", "tsv.TsvDevice", "a TSV server: sm_bluesky's, or another labnet's"),
    _remote("plesty", "plesty.PlestyDevice", "a PLESTY device server, or another labnet's"),
    _remote("rogue", "rogue.RogueDevice", "a PyRogue tree: a real one, or another labnet's"),
    _remote("scpi", "instrument.ScpiDevice", "an instrument on a raw socket"),
    _remote("vxi11", "instrument.Vxi11Device", "an instrument that is reached by VXI-11"),
    _remote("hislip", "instrument.HislipDevice", "an instrument that is reached by HiSLIP"),
    _remote("vicp", "instrument.VicpDevice", "a LeCroy oscilloscope"),
)
VISA = Driver("visa", "labnet.devices.visa.device.VisaDevice", "any VISA resource, by pyvisa")
COMPOSITE = Driver(
    "composite", "labnet.devices.composite.Composite", "parameters of several devices in one"
)
OBJECT = Driver("object", "", "an object of any Python class", own=True)
DRIVERS: dict[str, Driver] = {row.name: row for row in (*ROWS, VISA, COMPOSITE, OBJECT)}


def find_driver(name: str) -> Driver:
    """The row called `name`, or one for a class by its dotted name; else UnknownName."""
    if name in DRIVERS:
        return DRIVERS[name]
    packages = {known.partition(".")[0] for known in DRIVERS}
    if "." in name and name.partition(".")[0] not in packages:
        return Driver(name, name, "a class of the user's", own=True)
    raise UnknownName(name, DRIVERS, "driver")
