"""A lab that offers detectors, and an actuator, to the ports of its arguments.

The frames are made beforehand: what is measured is what labnet does with them.
"""

from __future__ import annotations

import json
import sys

import numpy as np
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from labnet import Device, Lab, command
from labnet.values import LabeledArray
from labnet.wires.pymodaq.codec import Generation

SHAPES = ((1,), (512, 512), (2048, 2048))
TYPES = ("f8", "u2", "f8")


class Detector(Device):
    """Gives the same frame, whenever it is asked."""

    def __init__(self, number: int) -> None:
        size = int(np.prod(SHAPES[number]))
        values = (np.arange(size) % 4096).astype(TYPES[number]).reshape(SHAPES[number])
        self.frame = LabeledArray(values, "counts", "V")

    @command(reads=True)
    def grab(self) -> LabeledArray:
        """The frame."""
        return self.frame


class Bystander(Device):
    """Somebody else holds this one."""


async def serve(ports: list[int]) -> None:
    """Offer them until the process is killed."""
    lab = Lab()
    lab.add("bystander", Bystander())
    await lab.session("somebody else").lock(["bystander"], lease=3600.0)
    for number, port in enumerate(ports):
        name = f"detector{number}"
        lab.add(name, Detector(number))
        lab.dial(
            "pymodaq", f"127.0.0.1:{port}", device=name, generation=Generation.C4
        ).startService()
    print(json.dumps({"offered": len(ports)}), flush=True)
    await Deferred()  # until it is killed


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(serve([int(port) for port in sys.argv[1:]])))
