"""labnet's Rogue clients at work, in a process of their own; says in a JSON line what was done.

``rogue_load BASE ask SECONDS COUNT`` keeps COUNT requests under way, ``rogue_load BASE hear``
counts the updates of a flood, ``rogue_load BASE load`` loads the tree.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from benchmarks.floors.rogue_server import FLOOD
from labnet.wires.rogue.client import RogueClient
from labnet.wires.rogue.mirror import RogueMirror

PATH = "Toy.D0.V0"


async def ask(address: str, seconds: float, count: int) -> dict[str, float]:
    """Requests for so many seconds, `count` of them under way at all times."""
    client = RogueClient(address)
    await client.get(PATH)
    done, begun = 0, time.perf_counter()
    end: Deferred[None] = Deferred()
    flying = count

    def answered(_: Any) -> None:
        nonlocal done, flying
        done += 1
        if time.perf_counter() < begun + seconds:
            client.get(PATH).addCallback(answered)
        else:
            flying -= 1
            if not flying:
                end.callback(None)

    for _ in range(count):
        client.get(PATH).addCallback(answered)
    await end
    await client.close()
    return {"done": done, "seconds": time.perf_counter() - begun}


async def hear(address: str) -> dict[str, float]:
    """All updates of a flood."""
    mirror = await RogueMirror(address, timeout=60.0).connect()
    done, begun = 0, 0.0
    end: Deferred[None] = Deferred()

    def heard(*_: Any) -> None:
        nonlocal done, begun
        done += 1
        begun = begun or time.perf_counter()
        if done == FLOOD:
            end.callback(None)

    mirror.node(PATH).listen(heard)
    await mirror.request("Toy", "flood", timeout=60.0)
    await end
    await mirror.close()
    return {"done": done, "seconds": time.perf_counter() - begun}


def memory() -> int:
    """Bytes in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def load(address: str) -> dict[str, float]:
    """The tree, and what it costs."""
    before, begun = memory(), time.perf_counter()
    mirror = await RogueMirror(address, timeout=60.0).connect()
    seconds, count = time.perf_counter() - begun, len(list(mirror))
    await mirror.close()
    return {"done": count, "seconds": seconds, "bytes": memory() - before}


async def main(reactor: Any, base: str, what: str, *arguments: str) -> None:
    address = f"127.0.0.1:{base}"
    if what == "ask":
        told = await ask(address, float(arguments[0]), int(arguments[1]))
    else:
        told = await {"hear": hear, "load": load}[what](address)
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    react(main, sys.argv[1:])
