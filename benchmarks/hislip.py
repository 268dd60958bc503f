"""HiSLIP through pyvisa-py and through labnet's client, against bare sockets; then labnet's client
of raw sockets against pyvisa-py's."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial

from benchmarks import loads
from benchmarks.processes import ROOT, Server
from benchmarks.rounds import Count, Round, Row, compare
from benchmarks.scpi import receive

MEBIBYTE = 1 << 20
LONGEST = 16 * MEBIBYTE


class Clients:
    """The clients of one kind; rates are of queries or bytes."""

    def __init__(self, kind: str, port: int, wire: str = "hislip") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.visa_loads", kind, wire, str(port)],
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
        """One round of a load of `benchmarks.visa_loads`."""
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
        self._block = bytes(LONGEST)
        self._buffer = bytearray(LONGEST)

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
    with (
        Server("served") as lab,
        Server("floors.echo") as echo,
        Server("floors.blocks", str(LONGEST)) as blocks,
    ):
        port = lab.told["linktester hislip"]
        with (
            Clients("echo", echo.told["port"]) as bare,
            Clients("pyvisa", port) as visa,
            Clients("labnet", port) as own,
        ):
            _through_visa(bare, Bare(blocks.told["port"]), visa, rounds, seconds)
            _own_client("HiSLIP", visa, own, rounds, seconds)
        port = lab.told["linktester scpi"]
        with Clients("pyvisa", port, "socket") as visa, Clients("labnet", port, "socket") as own:
            _own_client("SOCKET", visa, own, rounds, seconds)


def _sessions(count: int) -> str:
    return f"*IDN?, {count} session{'s' if count > 1 else ''}"


def _through_visa(
    echo: Clients, bare: Bare, visa: Clients, rounds: int, seconds: float
) -> None:
    def row(name: str, floor: Round, kind: str, number: int, goal: float) -> Row:
        theirs = partial(visa.load, kind, number, seconds)
        clients = number if kind == "queries" else 1
        sides: dict[str, Round] = {"sockets": floor, "pyvisa-py": theirs}
        return Row(name, sides, "sockets", {"pyvisa-py": goal}, clients)

    rows = [
        row(_sessions(count), partial(echo.load, "queries", count, seconds), "queries", count, goal)
        for count, goal in ((1, 0.35), (16, 0.25))
    ]
    compare("HiSLIP queries by pyvisa-py, to as many bytes and threads on sockets", rows, rounds)
    rows = [
        row(f"{size >> 20} MiB, {kind}", partial(bare.load, kind, size, seconds), kind, size, 0.1)
        for size in (MEBIBYTE, LONGEST)
        for kind in ("read", "write")
    ]
    compare("HiSLIP blocks by pyvisa-py, to bare sockets (rates in bytes)", rows, rounds)


def _own_client(wire: str, visa: Clients, own: Clients, rounds: int, seconds: float) -> None:
    """pyvisa-py's reads and writes of bytes as they are, and its calls for data blocks."""

    def row(name: str, kind: str, number: int, goal: float) -> Row:
        theirs, ours = (partial(side.load, kind, number, seconds) for side in (visa, own))
        clients = number if kind == "queries" else 1
        sides = {"pyvisa-py": theirs, "labnet's client": ours}
        return Row(name, sides, "pyvisa-py", {"labnet's client": goal}, clients)

    rows = [row(_sessions(count), "queries", count, goal) for count, goal in ((1, 1.0), (16, 2.0))]
    rows += [row(f"16 MiB, {kind}", kind, LONGEST, 2.0) for kind in ("read", "write")]
    if wire != "SOCKET":  # where pyvisa-py reads a block only if told how long it is
        rows.append(row("16 MiB, query_binary_values", "read_block", LONGEST, 2.0))
    rows.append(row("16 MiB, write_binary_values", "write_block", LONGEST, 2.0))
    compare(f"labnet's {wire} client, to pyvisa-py on the same server", rows, rounds)
