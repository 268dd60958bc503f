"""The instrument that ``tests/vectors/scpi.jsonl`` describes, and a lab with nothing else in it."""

from __future__ import annotations

from twisted.internet.task import Clock

from labnet.device import Device, Identity, command, parameter
from labnet.instrument.channel import MessageChannel
from labnet.lab import Lab
from labnet.values import ListKind, kind_of


class Source(Device):
    voltage = parameter(
        float,
        unit="V",
        limits=(0, 10),
        initial=0.0,
        scpi="[SOURce<n>]:VOLTage[:LEVel][:IMMediate][:AMPLitude]",
    )


class Supply(Device):
    """ACME's PSU2: two sources, a trigger, a display, memory for a block."""

    identity = Identity("ACME", "PSU2", "0", "1.0")
    frequency = parameter(float, unit="Hz", initial=1000.0, scpi="[SOURce]:FREQuency[:CW]")
    output = parameter(bool, initial=False, scpi="OUTPut[:STATe]")
    trigger_source = parameter(
        choices=("IMMediate", "BUS", "EXTernal"), initial="IMMediate", scpi="TRIGger:SOURce"
    )
    trigger_count = parameter(int, initial=1, scpi="TRIGger:COUNt")
    text = parameter(str, initial="", scpi="DISPlay:TEXT")
    data = parameter(bytes, initial=b"", scpi="DATA")
    applied = parameter(ListKind(kind_of(float)), initial=[0.0, 0.0], access="r", scpi="APPLy?")

    def __init__(self) -> None:
        self.source = {1: Source(), 2: Source()}

    @command(scpi="APPLy")
    def apply(self, voltage: float, current: float) -> None:
        self.store("applied", [voltage, current])


def channel_to(device: Device, **options: object) -> tuple[Lab, Clock, MessageChannel]:
    """A lab with one device, its clock, and a channel to the device as a raw socket has it."""
    clock = Clock()
    lab = Lab(clock)
    lab.attach("psu", device)
    session = lab.open_session("scpi", "192.0.2.1:5000", device="psu", **options)  # type: ignore
    return lab, clock, session.channel()
