"""A lab with one device of each sort, on every wire that the benchmarks try.

Runs as a process of its own and says in a JSON line where it listens. While it is measured, locks,
limits and deadlines are in force: another device is locked by somebody else, with a lease.
"""

from __future__ import annotations

import json
import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from labnet import Device, Lab, parameter
from labnet.device import Identity
from labnet.devices.simulated.linktester import LinkTester

IDENTITY = Identity("labnet", "BENCH", "B0000001", "1.0")


class Meter(Device):
    """A device that answers at once."""

    identity = IDENTITY
    stored = parameter(float, unit="nm", limits=(185.0, 2500.0), initial=633.0)

    @parameter(unit="nm", limits=(185.0, 2500.0))
    def position(self) -> float:
        return 633.0


class BlockingMeter(Meter):
    """The same, its methods run in a thread of its own."""

    blocking = True


class Bystander(Device):
    """Somebody else holds this one."""

    value = parameter(float, initial=0.0)


WIRES = (
    ("plain", "tsv", "tcp:0"),
    ("blocking", "tsv", "tcp:0"),
    ("plain", "plesty", "tcp://127.0.0.1:*"),
    ("blocking", "plesty", "tcp://127.0.0.1:*"),
    ("plain", "scpi", "tcp:0"),
    ("linktester", "scpi", "tcp:0"),
    ("linktester", "hislip", "tcp:0"),
    ("linktester", "vxi11", "tcp:0"),
    ("linktester", "vicp", "tcp:0"),
)
OPTIONS: dict[str, dict[str, Any]] = {"vxi11": {"portmapper": "none"}}


def _port(address: str) -> int:
    found = re.search(r":(\d+)\b", address)
    assert found is not None
    return int(found[1])


async def serve() -> None:
    """Serve until the process is killed."""
    lab = Lab()
    lab.add("plain", Meter())
    lab.add("blocking", BlockingMeter())
    lab.add("linktester", LinkTester())
    lab.add("bystander", Bystander())
    await lab.session("somebody else").lock(["bystander"], lease=3600.0)
    ports: dict[str, int] = {}
    for device, wire, address in WIRES:
        service = lab.serve(
            wire, address, device=device, max_connections=0, **OPTIONS.get(wire, {})
        )
        service.startService()
        listener: Any = await service.started
        ports[f"{device} {wire}"] = _port(listener.address)
    print(json.dumps(ports), flush=True)
    await Deferred()  # until it is killed


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(serve()))
