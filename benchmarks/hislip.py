"""HiSLIP through pyvisa-py and through labnet's client, against bare sockets."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial

from benchmarks import loads
from benchmarks.processes import ROOT, Server
from benchmarks.rounds import Count, Row, compare
from benchmarks.scpi import receive

MEBIBYTE = 1 << 20
SIZES = ((MEBIBYTE, 0.1, 1.0), (16 * MEBIBYTE, 0.1, 2.0))
"""Block sizes, goals to bare sockets through pyvisa-py, goals of labnet's client to pyvisa-py."""


class Clients:
    """The clients of one kind; rates are of queries or bytes."""

    def __init__(self, kind: str, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.hislip_loads", kind, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self._answer()

    def _answer(self) -> list[float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the clients have ended")
        answer: list[float] = json.loads(line)
        return answer

    def load(self, kind: str, number: int, seconds: float) -> Count:
        """One round of a load of `benchmarks.hislip_loads`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kind} {number} {seconds}\n")
        self._process.stdin.flush()
        done, took = self._answer()
        return Count(int(done), took, number if kind == "queries" else 1)

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


class Bare:
    """Blocks by `sendall` and `recv_into`."""

    def __init__(self, port: int) -> None:
        self._client = loads.connect(("127.0.0.1", port))
        self._client.settimeout(None)
        self._block = bytes(16 * MEBIBYTE)
        self._buffer = bytearray(16 * MEBIBYTE)

    def load(self, kind: str, size: int, seconds: float) -> Count:
        """One round."""
        done, begun = 0, time.perf_counter()
        while (now := time.perf_counter()) < begun + seconds:
            self._client.sendall(b"%010d%b" % (size, kind[:1].encode()))
            if kind == "read":
                receive(self._client, self._buffer, size)
            else:
                self._client.sendall(memoryview(self._block)[:size])
                self._client.recv(100)
            done += size
        return Count(done, now - begun)


def run(rounds: int, seconds: float) -> None:
    """Print the tables."""
    with Server("served") as lab, Server("floors.echo") as echo:
        port = lab.told["linktester hislip"]
        with (
            Clients("echo", echo.told["port"]) as bare,
            Clients("pyvisa", port) as visa,
            Clients("labnet", port) as own,
        ):
            _queries(bare, visa, own, rounds, seconds)
            _blocks(visa, own, rounds, seconds)


def _queries(bare: Clients, visa: Clients, own: Clients, rounds: int, seconds: float) -> None:
    rows = []
    for sessions, to_echo, to_visa in ((1, 0.35, 1.0), (16, 0.25, 2.0)):
        floor, theirs, ours = (
            partial(side.load, "queries", sessions, seconds) for side in (bare, visa, own)
        )
        name = f"*IDN?, {sessions} session{'s' if sessions > 1 else ''}"
        rows += [
            Row(name, {"echo": floor, "pyvisa-py": theirs}, "echo",
                {"pyvisa-py": to_echo}, sessions),
            Row(name, {"pyvisa-py": theirs, "labnet's client": ours}, "pyvisa-py",
                {"labnet's client": to_visa}, sessions),
        ]  # fmt: skip
    compare("HiSLIP queries, to an echo on bare sockets, or to pyvisa-py", rows, rounds)


def _blocks(visa: Clients, own: Clients, rounds: int, seconds: float) -> None:
    with Server("floors.blocks", str(16 * MEBIBYTE)) as floor:
        bare = Bare(floor.told["port"])
        rows = []
        for size, to_bare, to_visa in SIZES:
            for kind in ("read", "write"):
                sides = {
                    name: partial(side.load, kind, size, seconds)
                    for name, side in (
                        ("sockets", bare), ("pyvisa-py", visa), ("labnet's client", own)
                    )
                }  # fmt: skip
                name = f"{size >> 20} MiB, {kind}"
                theirs = {key: sides[key] for key in ("sockets", "pyvisa-py")}
                ours = {key: sides[key] for key in ("pyvisa-py", "labnet's client")}
                rows += [
                    Row(name, theirs, "sockets", {"pyvisa-py": to_bare}),
                    Row(name, ours, "pyvisa-py", {"labnet's client": to_visa}),
                ]
        compare("HiSLIP blocks (bytes), to bare sockets, or to pyvisa-py", rows, rounds)
