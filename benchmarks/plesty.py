"""PLESTY: a query, against a bare ROUTER echo and the real server."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from benchmarks.processes import Server
from benchmarks.rounds import Row, compare
from benchmarks.zmq_loads import Clients
from tests.interop.pins import named

POSITION = b'{"type": "query", "param": "position", "timeout": null}'
WAVELENGTH = b'{"type": "query", "param": "wavelength", "timeout": null}'

#: clients, goals to the echo without and with a blocking device, goal to the real server
LOADS = ((1, 0.75, 0.5, 3.0), (8, 0.75, 0.4, 7.0), (64, 0.75, 0.6, 7.0))


def run(rounds: int, seconds: float) -> None:
    """Print the tables."""
    python = str(named("plesty-0.6.0").python)  # type: ignore[union-attr]
    with (
        Server("served") as lab,
        Server("floors.zmq_echo") as echo,
        Server("peers.real_plesty", python=python) as peer,
    ):
        ports = {
            "echo": (echo.told["port"], POSITION),
            "labnet": (lab.told["plain plesty"], POSITION),
            "labnet blocking": (lab.told["blocking plesty"], POSITION),
            "plesty": (peer.told["port"], WAVELENGTH),
        }
        for clients, plain, blocking, real in LOADS:
            with ExitStack() as stack:
                sides = {
                    side: partial(
                        stack.enter_context(Clients(port, clients)).ask, body, seconds
                    )
                    for side, (port, body) in ports.items()
                }
                title = "PLESTY, {} clients, to a bare ROUTER echo and to the real server"
                to_echo = {side: sides[side] for side in ("echo", "labnet", "labnet blocking")}
                to_real = {side: sides[side] for side in ("plesty", "labnet")}
                rows = [
                    Row("to the echo", to_echo, "echo",
                        {"labnet": plain, "labnet blocking": blocking}, clients),
                    Row("to the real server", to_real, "plesty", {"labnet": real}, clients),
                ]  # fmt: skip
                compare(title.format(clients), rows, rounds)
