"""A lab of blocking devices for `benchmarks.devices`: ``devices_lab COUNT``, on one TSV port.

Each device has a thread of its own, in which ``reading`` takes a millisecond; ``hang`` does not
return for 30 s.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from labnet import Device, Lab, command, parameter


class Bench(Device):
    """An instrument behind a slow cable."""

    blocking = True

    @parameter(unit="V")
    def reading(self) -> float:
        """Takes a while."""
        time.sleep(0.001)
        return 1.5

    @command(timeout=60.0)
    def hang(self) -> None:
        """Does not return."""
        time.sleep(30.0)


async def _run(reactor: Any, count: str) -> None:
    lab = Lab()
    for number in range(int(count)):
        lab.add(f"d{number}", Bench())
    service = lab.serve("tsv", "tcp:0:interface=127.0.0.1")
    service.startService()
    listener = await service.started
    print(json.dumps({"port": listener.port.getHost().port}), flush=True)
    await Deferred()


if __name__ == "__main__":
    react(lambda reactor, count: Deferred.fromCoroutine(_run(reactor, count)), sys.argv[1:])
