"""What a lab costs that does nothing: memory for each idle client, processor time of the demo."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.loads import connect
from benchmarks.processes import (
    ROOT,
    Server,
    cpu_seconds,
    free_port,
    resident_bytes,
    wait_until_listening,
)
from benchmarks.zmq_loads import Clients

CLIENTS = 1000
WATCHED = 20.0
TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=")
_UNCOMPILED = "PYTHONDONTWRITEBYTECODE"
_ADDRESS = re.compile(r"^(listen = tcp:(?://127\.0\.0\.1:)?)(\d+)", re.MULTILINE)


def _memory() -> None:
    print(f"\nMemory of {CLIENTS} idle clients that have asked once (goal: less than 20 kB on TCP)")
    for wire, line in (("tsv", b"position\n"), ("scpi", b"*IDN?\n")):
        with Server("served") as lab:
            port = lab.told[f"plain {wire}"]
            _ask(port, line)
            before = resident_bytes(lab.pid)
            clients = [_ask(port, line) for _ in range(CLIENTS)]
            _report(wire, resident_bytes(lab.pid) - before)
            for client in clients:
                client.close()
    with Server("served") as lab:
        _zmq("plesty", lab, lab.told["plain plesty"])
    with Server("floors.zmq_echo") as echo:
        _zmq("bare ROUTER echo", echo, echo.told["port"])


def _ask(port: int, line: bytes) -> socket.socket:
    client = connect(("127.0.0.1", port))
    client.send(line)
    client.recv(4096)
    return client


def _zmq(title: str, server: Server, port: int) -> None:
    with Clients(port, 1):
        before = resident_bytes(server.pid)
        with Clients(port, CLIENTS):
            _report(title, resident_bytes(server.pid) - before)


def _report(title: str, size: int) -> None:
    print(f"{title:<20} {size / CLIENTS / 1000:>6.1f} kB a client", flush=True)


class Demo:
    """The demo lab under twistd, at ports of its own."""

    def __init__(self, directory: Path) -> None:
        self.ports: list[int] = []
        text = (ROOT / "labnet" / "demo.ini").read_text()
        self._file = directory / "demo.ini"
        self._file.write_text(_ADDRESS.sub(self._elsewhere, text))

    def _elsewhere(self, found: re.Match[str]) -> str:
        self.ports.append(free_port())
        return f"{found[1]}{self.ports[-1]}"

    def start(self) -> subprocess.Popen[bytes]:
        return start("labnet", "--config", str(self._file))


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """A twistd in the foreground, which keeps its compiled modules as an installed one does."""
    environment = {name: value for name, value in os.environ.items() if name != _UNCOMPILED}
    return subprocess.Popen(
        [*TWISTD, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, env=environment
    )


def _processor() -> None:
    with tempfile.TemporaryDirectory() as directory:
        demo = Demo(Path(directory))
        process = demo.start()
        try:
            wait_until_listening(demo.ports)
            time.sleep(1.0)
            before = cpu_seconds(process.pid)
            time.sleep(WATCHED)
            used = (cpu_seconds(process.pid) - before) / WATCHED
        finally:
            process.terminate()
            process.wait()
    print(
        f"\nThe demo lab, idle for {WATCHED:.0f} s: {used:.2%} of a core (goal: less than 1 %)",
        flush=True,
    )


def run(rounds: int, seconds: float) -> None:
    """Print the figures."""
    _memory()
    _processor()
