"""VXI-11: python-vxi11, pyvisa-py and labnet's client on labnet, against the same bytes on sockets.
"""

from __future__ import annotations

from benchmarks.message_loads import LONGEST, MEGABYTE, table
from benchmarks.processes import Server

# What is sent back for device_write and device_read of *IDN?.
REPLIES = (
    "80000020 00000002 00000001 00000000 00000000 00000000 00000000 00000000 00000005",
    "80000044 00000003 00000001 00000000 00000000 00000000 00000000 00000000 00000004 0000001d"
    "6c61626e65742c53494d2d4c494e4b2c4c303030303030312c312e300a000000",
)


def run(rounds: int, seconds: float) -> None:
    """Print the tables."""
    with (
        Server("served") as lab,
        Server("floors.rpc_echo", *REPLIES) as echo,
        Server("floors.blocks", str(LONGEST)) as blocks,
    ):
        port = lab.told["linktester vxi11"]
        ours = {"python-vxi11": port, "pyvisa-py": port, "labnet": port}
        table(
            "VXI-11 queries, to the same bytes on sockets",
            [("*IDN?", "idn", 1)],
            {"sockets": echo.told["port"], **ours},
            [{"python-vxi11": 0.26, "pyvisa-py": 0.0, "labnet": 0.0}],
            rounds,
            seconds,
        )
        read = [(f"{size} MB from the device", f"read:{size * MEGABYTE}", 1) for size in (1, 16)]
        write = [(f"{size} MB to the device", f"write:{size * MEGABYTE}", 1) for size in (1, 16)]
        table(
            "VXI-11 blocks, to sendall and recv_into of as many bytes (rates in bytes)",
            [*read, *write],
            {"sockets": blocks.told["port"], **ours},
            [{"python-vxi11": goal, "labnet": 0.0} for goal in (0.08, 0.06, 0.08, 0.06)],
            rounds,
            seconds,
        )
        table(
            "VXI-11, labnet's client to pyvisa-py, both on labnet",
            [("*IDN?", "idn", 1), ("*IDN?, 16 clients", "idn", 16), read[1], write[1]],
            {"pyvisa-py": port, "labnet": port, "labnet, together": port},
            [{"labnet": goal, "labnet, together": goal} for goal in (1.3, 2.0, 2.0, 2.0)],
            rounds,
            seconds,
        )
