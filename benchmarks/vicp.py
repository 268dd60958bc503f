"""VICP: pyvicp and labnet's client on labnet, against an echo and blocks on bare sockets."""

from __future__ import annotations

from benchmarks.message_loads import LONGEST, MEGABYTE, table
from benchmarks.processes import Server


def run(rounds: int, seconds: float) -> None:
    """Print the tables."""
    with (
        Server("served") as lab,
        Server("floors.echo") as echo,
        Server("floors.blocks", str(LONGEST)) as blocks,
    ):
        port = lab.told["linktester vicp"]
        table(
            "VICP queries, to an echo of their bytes on sockets",
            [("*IDN?", "idn", 1), ("*IDN?, 16 clients", "idn", 16)],
            {"sockets, vicp": echo.told["port"], "pyvicp": port, "labnet vicp": port},
            [{"pyvicp": 0.0, "labnet vicp": 0.0}] * 2,
            rounds,
            seconds,
        )
        loads = [
            (f"{size} MB {words} the device", f"{kind}:{size * MEGABYTE}", 1)
            for kind, words in (("read", "from"), ("write", "to"))
            for size in (1, 16)
        ]
        table(
            "VICP blocks, to sendall and recv_into of as many bytes (rates in bytes)",
            loads,
            {"sockets": blocks.told["port"], "pyvicp": port, "labnet vicp": port},
            [{"pyvicp": 0.0, "labnet vicp": 0.0}] * 4,
            rounds,
            seconds,
        )
        table(
            "VICP, labnet's client to pyvicp, both on labnet",
            [("*IDN?", "idn", 1), ("*IDN?, 16 clients", "idn", 16), *loads],
            {"pyvicp": port, "labnet vicp": port},
            [{"labnet vicp": goal} for goal in (1.0, 2.0, 1.0, 1.0, 1.0, 1.0)],
            rounds,
            seconds,
        )
