"""Classes that a lab in the peers' environment takes for devices."""

import sm_bluesky_modules

sm_bluesky_modules.prepare()

from plesty_server import Bench  # noqa: E402
from pymeasure.instruments import Channel, Instrument  # noqa: E402
from pymeasure.instruments.validators import strict_discrete_set, strict_range  # noqa: E402
from sm_bluesky_server import Motor  # noqa: E402

__all__ = ["Bench", "QuietMotor", "Supply"]


class QuietMotor(Motor):
    """The motor of the other tests, without a test to tell what happens."""

    def __init__(self, host: str, port: int, start: float = 0.0) -> None:
        super().__init__(None, hardware_replies=True)  # type: ignore[arg-type]
        self.value = start


class Output(Channel):
    """One output of the supply."""

    voltage = Channel.control(
        "VOLT{ch}?", "VOLT{ch} %.3f", "Control the voltage in Volts.",
        validator=strict_range, values=(0, 30),
    )  # fmt: skip


class Supply(Instrument):
    """A power supply with two outputs."""

    def __init__(self, adapter, name="Supply", **kwargs):  # type: ignore[no-untyped-def]
        super().__init__(adapter, name, **kwargs)

    outputs = Instrument.MultiChannelCreator(Output, [1, 2])
    current = Instrument.measurement("CURR?", "Measure the current in Amps.")
    limit = Instrument.control(
        "LIM?", "LIM %.3f", "Control the current limit in Amps.",
        validator=strict_range, values=(0.1, 5), dynamic=True,
    )  # fmt: skip
    tracking = Instrument.control(
        "TRAC?", "TRAC %s", "Control how the outputs go together.",
        validator=strict_discrete_set, values=["NONE", "SER", "PAR"], cast=str,
    )  # fmt: skip
    on = Instrument.control(
        "OUTP?", "OUTP %d", "Control whether there is an output (bool).",
        validator=strict_discrete_set, values={True: 1, False: 0}, map_values=True, cast=int,
    )  # fmt: skip

    def ramp(self, target, steps=10):  # type: ignore[no-untyped-def]
        """Takes output 1 to a voltage in steps."""
        for step in range(1, int(steps) + 1):
            self.ch_1.voltage = target * step / steps
        return self.ch_1.voltage
