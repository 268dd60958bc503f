"""SCPI on a raw socket: ``*IDN?`` against a bare line echo, blocks against bare sockets."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from functools import partial

from benchmarks import loads
from benchmarks.processes import Server
from benchmarks.rounds import Count, Row, compare

LINE = b"*IDN?\n"
SIZE = 16 << 20
HEADER = b"#8%d" % SIZE

LOADS: tuple[tuple[str, int, loads.Load], ...] = (
    ("*IDN?, one by one", 1, loads.one_at_a_time),
    ("*IDN?, 64 in flight", 1, lambda a, b, s: loads.in_flight(a, b, 64, s)),
    ("*IDN?, 64 connections", 64, lambda a, b, s: loads.kept(a, b, 64, s)),
)


def receive(client: socket.socket, buffer: bytearray, size: int) -> None:
    """Exactly `size` bytes into the buffer."""
    view = memoryview(buffer)[:size]
    while view:
        count = client.recv_into(view)
        if not count:
            raise ConnectionError("the server has closed the connection")
        view = view[count:]


class Blocks:
    """A client that asks for blocks and loads them; rates are in bytes."""

    def __init__(self, port: int, read: bytes, read_size: int, write: bytes, after: bytes) -> None:
        self._client = loads.connect(("127.0.0.1", port))
        self._client.settimeout(None)
        self._read, self._read_size = read, read_size
        self._write, self._after = write, after
        self._block = bytes(SIZE)
        self._buffer = bytearray(SIZE + 100)

    def __enter__(self) -> Blocks:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def from_server(self, seconds: float) -> Count:
        """Blocks that the server sends."""
        return self._repeat(self._ask, seconds)

    def to_server(self, seconds: float) -> Count:
        """Blocks that the server receives."""
        return self._repeat(self._load, seconds)

    def _repeat(self, step: Callable[[], None], seconds: float) -> Count:
        blocks, begun = 0, time.perf_counter()
        while (now := time.perf_counter()) < begun + seconds:
            step()
            blocks += 1
        return Count(blocks * SIZE, now - begun)

    def _ask(self) -> None:
        self._client.sendall(self._read)
        receive(self._client, self._buffer, self._read_size)

    def _load(self) -> None:
        self._client.sendall(self._write)
        self._client.sendall(self._block)
        self._client.sendall(self._after)
        if self._client.recv(100) != b"1\n":
            raise ConnectionError("the block was not taken")


def run(rounds: int, seconds: float) -> None:
    """Print the tables."""
    with Server("served") as lab, Server("floors.line_echo") as echo:
        ports = {"line echo": echo.told["port"], "labnet": lab.told["plain scpi"]}
        rows = [
            Row(
                load,
                {
                    side: partial(make, ("127.0.0.1", port), LINE, seconds)
                    for side, port in ports.items()
                },
                "line echo",
                {"labnet": 0.6},
                clients,
            )
            for load, clients, make in LOADS
        ]
        compare("SCPI, to a bare Twisted line echo", rows, rounds)
        _blocks(lab, rounds, seconds)


def _blocks(lab: Server, rounds: int, seconds: float) -> None:
    size = len(HEADER) + SIZE + 1
    with (
        Server("floors.blocks", str(size)) as floor,
        Blocks(floor.told["port"], b"%010dr" % size, size, b"%010dw" % SIZE, b"") as bare,
        Blocks(
            lab.told["linktester scpi"],
            b"TEST:BLOCK? %d\n" % SIZE, size, b"TEST:LOAD " + HEADER, b"\n*OPC?\n",
        ) as ours,
    ):  # fmt: skip
        rows = [
            Row(
                name,
                {"sockets": partial(floor_side, seconds), "labnet": partial(lab_side, seconds)},
                "sockets",
                {"labnet": 0.6},
            )
            for name, floor_side, lab_side in (
                ("16 MiB from the device", bare.from_server, ours.from_server),
                ("16 MiB to the device", bare.to_server, ours.to_server),
            )
        ]
        compare("SCPI blocks, to sendall and recv_into of the same bytes (rates in bytes)",
                rows, rounds)  # fmt: skip
