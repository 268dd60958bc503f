"""Loads by clients in processes of their own, and tables of them: what VXI-11 and VICP share.

The clients of others run in the environments that tests/interop/install-peers makes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from benchmarks.processes import ROOT
from benchmarks.rounds import Count, Round, Row, compare
from tests.interop import pins

MEGABYTE = 1_000_000
LONGEST = 17 * MEGABYTE
# Clients by name: the environment that they need, None for labnet's own.
CLIENTS = {
    "sockets": None,
    "sockets, vicp": None,
    "python-vxi11": "python-vxi11",
    "pyvisa-py": "pyvisa-py",
    "pyvicp": "pyvisa-py",
    "labnet": None,
    "labnet, together": None,
    "labnet vicp": None,
}


class Load:
    """A client in a process of its own, with one sort of load."""

    def __init__(self, python: str, client: str, port: int, load: str, seconds: float, count: int):
        script = str(ROOT / "benchmarks" / "peers" / "message_load.py")
        self._name = f"{client} ({load})"
        self._process = subprocess.Popen(
            [python, script, client, str(port), load, str(seconds), str(count)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT) if CLIENTS[client] is None else ""},
        )  # fmt: skip
        self._count = count

    def round(self) -> Count:
        """One round."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a client has ended: {self._name}")
        found = json.loads(line)
        return Count(found["done"], found["seconds"], self._count)

    def close(self) -> None:
        """Ends the client."""
        self._process.kill()
        self._process.communicate()


def python_of(client: str) -> str:
    """The interpreter of a client, empty if that is not installed."""
    name = CLIENTS[client]
    if name is None:
        return sys.executable
    peer = pins.named(name)
    if isinstance(peer, pins.Peer) and peer.is_installed():
        return str(peer.python)
    print(f"{name} is not installed: run tests/interop/install-peers {name}")
    return ""


@contextmanager
def clients(
    ports: Mapping[str, int], load: str, seconds: float, count: int = 1
) -> Iterator[dict[str, Round]]:
    """A round of each client that is there, for one load."""
    with ExitStack() as stack:
        sides: dict[str, Round] = {}
        for name, port in ports.items():
            if python := python_of(name):
                client = Load(python, name, port, load, seconds, count)
                stack.callback(client.close)
                sides[name] = client.round
        yield sides


def table(
    title: str,
    rows: Sequence[tuple[str, str, int]],
    ports: Mapping[str, int],
    goals: Sequence[Mapping[str, float]],
    rounds: int,
    seconds: float,
) -> None:
    """One table; rows are a name, a load and a number of clients, the first port's the floor."""
    made = []
    reference = next(iter(ports))
    with ExitStack() as stack:
        for (name, load, count), goal in zip(rows, goals, strict=True):
            sides = stack.enter_context(clients(ports, load, seconds, count))
            if reference in sides:
                there = {side: goal[side] for side in goal if side in sides}
                made.append(Row(name, sides, reference, there, count))
        compare(title, made, rounds)
