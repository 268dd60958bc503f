"""TSV: a `get` over one connection or many, against the real sm_bluesky server."""

from __future__ import annotations

from functools import partial

from benchmarks import loads
from benchmarks.processes import Server, wait_until_listening
from benchmarks.rounds import Row, compare
from tests.interop.pins import named

LINE = b"position\n"

#: load, clients, goal without and with a blocking device
LOADS: tuple[tuple[str, int, loads.Load, float, float], ...] = (
    ("1 connection, one by one", 1, loads.one_at_a_time, 0.8, 0.4),
    ("1 connection, 64 in flight", 1, lambda a, b, s: loads.in_flight(a, b, 64, s), 150, 15),
    ("8 kept connections", 8, lambda a, b, s: loads.kept(a, b, 8, s), 2, 0.4),
    ("64 kept connections", 64, lambda a, b, s: loads.kept(a, b, 64, s), 2, 0.4),
    ("1 client, connecting", 1, loads.connecting, 0.65, 0.45),
    ("8 clients, connecting", 8, lambda a, b, s: loads.all_connecting(a, b, 8, s), 1.0, 0.45),
    ("64 clients, connecting", 64, lambda a, b, s: loads.all_connecting(a, b, 64, s), 1.0, 0.45),
)


def run(rounds: int, seconds: float) -> None:
    """Print the table."""
    python = str(named("sm-bluesky").python)  # type: ignore[union-attr]
    with Server("served") as lab, Server("peers.real_sm_bluesky", python=python) as peer:
        ports = {
            "sm_bluesky": peer.told["port"],
            "labnet": lab.told["plain tsv"],
            "labnet blocking": lab.told["blocking tsv"],
        }
        wait_until_listening(list(ports.values()))
        rows = [
            Row(
                load,
                {
                    side: partial(make, ("127.0.0.1", port), LINE, seconds)
                    for side, port in ports.items()
                },
                "sm_bluesky",
                {"labnet": plain, "labnet blocking": blocking},
                clients,
            )
            for load, clients, make, plain, blocking in LOADS
        ]
        compare("TSV, to the real sm_bluesky server with its logging off", rows, rounds)
