"""A real plesty-lib device behind the real ``build_server``, with its logging off.

Runs in the environment that tests/interop/install-peers makes.
"""

import asyncio
import json
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "interop" / "drivers"))

from plesty.lib.service import build_server
from plesty_server import Bench


async def main() -> None:
    logging.disable(logging.CRITICAL)
    server = build_server(Bench(), address="tcp://127.0.0.1:*")
    print(json.dumps({"port": int(server.address.rpartition(":")[2])}), flush=True)
    await server.run()


if __name__ == "__main__":
    asyncio.run(main())
