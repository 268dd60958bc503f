"""``python -m benchmarks [NAME ...]``: all tables, or those named."""

from __future__ import annotations

import argparse
from importlib import import_module

from benchmarks import machine

SUITES = (
    "tsv", "plesty", "rogue", "rogue_client", "scpi", "vxi11", "hislip", "vicp", "visa",
    "pymodaq", "pymodaq_hardware", "locks", "devices", "idle", "start",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="NAME", help=", ".join(SUITES))
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each side (5)")
    parser.add_argument("--seconds", type=float, default=0.7, help="length of a round (0.7)")
    options = parser.parse_args()
    unknown = set(options.suites) - set(SUITES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    print(machine.describe(), flush=True)
    for name in options.suites or SUITES:
        import_module(f"benchmarks.{name}").run(options.rounds, options.seconds)


if __name__ == "__main__":
    main()
