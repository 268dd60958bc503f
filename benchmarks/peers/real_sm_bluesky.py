"""A real subclass of sm_bluesky's ``AbstractInstrumentServer``, with its logging off.

Runs in the environment that tests/interop/install-peers makes.
"""

import json
import logging
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "interop" / "drivers"))

import sm_bluesky_modules

sm_bluesky_modules.prepare()

from sm_bluesky.common.servers.abstract_instrument_server import (  # noqa: E402
    AbstractInstrumentServer,
    register_command,
)


class Meter(AbstractInstrumentServer):
    def connect_hardware(self) -> bool:
        return True

    def disconnect_hardware(self) -> None:
        pass

    @register_command(b"position")
    def position(self) -> None:
        self._send_response(str(633.0).encode())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    logging.disable(logging.CRITICAL)
    port = free_port()
    print(json.dumps({"port": port}), flush=True)
    Meter("127.0.0.1", port).start()


if __name__ == "__main__":
    main()
