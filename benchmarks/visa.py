"""VISA: a query through labnet to an instrument, against the same query by pyvisa-py directly."""

from __future__ import annotations

import socket
import time
from functools import partial
from typing import Any

import pyvisa

from benchmarks.processes import Server
from benchmarks.rounds import Count, Row, compare
from benchmarks.zmq_loads import Clients

POSITION = b'{"type": "query", "param": "position", "timeout": null}'


def ask_directly(resource: Any, seconds: float) -> Count:
    """Queries by pyvisa-py."""
    done, begun = 0, time.perf_counter()
    while (now := time.perf_counter()) < begun + seconds:
        for _ in range(20):
            resource.query("POS?")
        done += 20
    return Count(done, now - begun)


def ask_lines(connection: socket.socket, seconds: float) -> Count:
    """Queries on a raw socket of labnet's."""
    done, begun = 0, time.perf_counter()
    while (now := time.perf_counter()) < begun + seconds:
        for _ in range(20):
            connection.sendall(b"POS?\n")
            connection.recv(4096)
        done += 20
    return Count(done, now - begun)


#: Seconds that the instrument takes for an answer, and the goals to the same query without labnet.
#: A query over PLESTY takes longer by itself than an instrument that answers at once.
LOADS: tuple[tuple[float, dict[str, float]], ...] = (
    (0.0, {"plesty": 0.1, "scpi": 0.2}),
    (0.001, {"plesty": 0.5, "scpi": 0.5}),
    (0.01, {"plesty": 0.9, "scpi": 0.9}),
)


def run(rounds: int, seconds: float) -> None:
    """Print the tables."""
    for takes, goals in LOADS:
        with Server("floors.instrument", str(takes)) as instrument:
            _compare(instrument.told["port"], takes, goals, rounds, seconds)


def _compare(
    port: int, takes: float, goals: dict[str, float], rounds: int, seconds: float
) -> None:
    name = f"TCPIP::127.0.0.1::{port}::SOCKET"
    manager: Any = pyvisa.ResourceManager("@py")
    resource = manager.open_resource(name, read_termination="\n", write_termination="\n")
    with (
        Server("visa_lab", name) as lab,
        Clients(lab.told["plesty"], 1) as plesty,
        socket.create_connection(("127.0.0.1", lab.told["scpi"])) as lines,
    ):
        lines.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sides = {
            "pyvisa-py": partial(ask_directly, resource, seconds),
            "plesty": partial(plesty.ask, POSITION, seconds),
            "scpi": partial(ask_lines, lines, seconds),
        }
        title = f"VISA SOCKET, an instrument that answers after {1000 * takes:g} ms"
        compare(title, [Row("a query", sides, "pyvisa-py", goals)], rounds)
    resource.close()
