"""Instruments for `benchmarks.devices`: line servers that take a while to say who they are.

Runs as a process of its own: ``farm DELAY [DELAY ...]`` opens a port for each delay (s) and says in
a JSON line which. Any number of clients may come to each.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from typing import Any

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


def instrument(delay: float) -> Serve:
    """What serves one client."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line.startswith(b"*IDN?"):
                await asyncio.sleep(delay)
                writer.write(b"Acme,FARM,1,1\n")
            elif b"?" in line:
                writer.write(b"1.5\n")
        writer.close()

    return serve


async def main() -> None:
    servers = [
        await asyncio.start_server(instrument(float(delay)), "127.0.0.1", 0, backlog=500)
        for delay in sys.argv[1:]
    ]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    print(json.dumps({"ports": ports}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
