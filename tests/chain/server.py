"""The far end in a process of its own: ``python -m tests.chain.server WIRE PORT`` (0: any).

Writes ``listening PORT`` when it serves; it is there to be killed.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tests.chain.far import DEVICE_WIRES, FarEnd


async def _serve(wire: str, port: str) -> None:
    far = FarEnd(DEVICE_WIRES[wire])
    far.port = int(port)
    await far.start()
    print(f"listening {far.port}", flush=True)
    await Deferred()


def _main(reactor: Any, wire: str, port: str) -> Deferred[None]:
    return Deferred.fromCoroutine(_serve(wire, port))


if __name__ == "__main__":
    react(_main, sys.argv[1:])
