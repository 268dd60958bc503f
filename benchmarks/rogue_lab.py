"""A lab behind a Rogue listener, in a process of its own; its argument is a number of variables."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from benchmarks.processes import resident_bytes
from labnet import Device, Lab, command, parameter

A_TURN = 100
"""Values that the device sets before others have their turn."""


class Meter(Device):
    """A variable that the device itself sets again and again."""

    level = parameter(float, unit="nm", limits=(185.0, 2500.0), initial=633.0, display="{:.3f}")

    @parameter(unit="nm", display="{:.3f}")
    def position(self) -> float:
        return 633.0

    @command(long=True)
    async def run(self, seconds: float) -> None:
        """Sets `level` in a loop."""
        from twisted.internet import reactor

        clock: Any = reactor
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for number in range(A_TURN):
                self.level = 633.0 + number
            await deferLater(clock, 0)


class Bystander(Device):
    """Somebody else holds this one."""

    value = parameter(float, initial=0.0)


class Large(Device):
    """Many variables, and a command that sets all of them."""

    def fill(self, count: int) -> None:
        for number in range(count):
            self.add_parameter(f"v{number}", float, initial=0.5, unit="V", limits=(0, 10))

    @command
    def touch(self) -> None:
        """Every variable has a new value."""
        for name in list(self.members):
            if name.startswith("v"):
                self.store(name, 1.5)


async def serve() -> None:
    """Serve until the process is killed."""
    lab = Lab()
    lab.add("meter", Meter())
    lab.add("bystander", Bystander())
    large = Large()
    empty = resident_bytes(os.getpid())
    large.fill(int(sys.argv[1]))
    lab.add("large", large)
    filled = resident_bytes(os.getpid())
    await lab.session("somebody else").lock(["bystander"], lease=3600.0)
    service = lab.serve("rogue", "tcp://127.0.0.1:0")
    service.startService()
    listener: Any = await service.started
    base = int(listener.address.rpartition(":")[2])
    print(json.dumps({"base": base, "empty": empty, "filled": filled}), flush=True)
    await Deferred()  # until it is killed


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(serve()))
