"""A lab with one VISA device, served over plesty and scpi; the resource is its argument."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from labnet import Lab
from labnet.devices.declared import parse_declarations
from labnet.devices.visa.device import VisaDevice


async def serve(resource: str) -> None:
    """Serve until the process is killed."""
    lab = Lab()
    declared = parse_declarations({"parameter position": "POS?, float, nm, 0..1000"})
    lab.add("meter", VisaDevice(resource, declared=declared))
    ports: dict[str, int] = {}
    for wire, address in (("plesty", "tcp://127.0.0.1:*"), ("scpi", "tcp:0")):
        service = lab.serve(wire, address, device="meter")
        service.startService()
        listener: Any = await service.started
        found = re.search(r":(\d+)\b", listener.address)
        assert found is not None
        ports[wire] = int(found[1])
    await lab.session().get("meter.position")
    print(json.dumps(ports), flush=True)
    await Deferred()  # until it is killed


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(serve(sys.argv[1])))
