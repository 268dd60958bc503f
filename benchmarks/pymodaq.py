"""PyMoDAQ: modules that labnet gives orders, against plain sockets and PyMoDAQ's own classes.

The module is the same in all but the last: a program that answers recorded or made bytes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import ROOT
from benchmarks.rounds import Count, Round, Row, compare
from labnet.wires.pymodaq.codec import (
    Data,
    DataToExport,
    Done,
    Generation,
    Identify,
    SendData,
    encode_bytes,
)
from tests.interop import pins

C4 = Generation.C4
REAL = "pymodaq-4.4.11"
MANY = 64
STEADY = 3.0  # s: of a round at 20 Hz, so that there are samples enough


class Load:
    """A process that plays the controlling side: one round for each line that it is sent."""

    def __init__(self, python: str, script: str, *arguments: object) -> None:
        path = str(ROOT / "benchmarks" / "peers" / f"{script}.py")
        ours = python == sys.executable
        self._name = " ".join(map(str, (script, *arguments)))
        self._process = subprocess.Popen(
            [python, path, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env={**os.environ, "PYTHONPATH": str(ROOT) if ours else ""},
        )  # fmt: skip

    def round(self) -> Count:
        """One round."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"it has ended: {self._name}")
        found = json.loads(line)
        return Count(found["done"], found["seconds"])

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def loads(made: Mapping[str, Sequence[object]]) -> Iterator[dict[str, Round]]:
    """A round of each side: the interpreter, the script and its arguments."""
    with ExitStack() as stack:
        sides: dict[str, Round] = {}
        for name, (python, script, *arguments) in made.items():
            load = Load(str(python), str(script), *arguments)
            stack.callback(load.close)
            sides[name] = load.round
        yield sides


def recorded() -> bytes:
    """The frame of one number that PyMoDAQ 4.4.11 sent when the vectors were recorded."""
    for line in (ROOT / "tests" / "vectors" / "pymodaq.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record.get("version") == "4.4.11" and record["case"] == "0D: Done":
            return bytes.fromhex(record["bytes"])
    raise LookupError("no frame was recorded")


def frame(size: int, dtype: Any) -> bytes:
    """A picture as a module of 4.4 sends it."""
    picture = np.zeros((size, size), dtype)
    data = Data("camera", (picture,), dim="Data2D", labels=("CCD",))
    return encode_bytes(Done(DataToExport("frame", (data,))), C4)


def exchange(folder: str, name: str, dimension: Any, answer: bytes) -> str:
    """A file with what a module says, is told and answers."""
    order = encode_bytes(SendData(dimension), C4)
    file = Path(folder) / name
    file.write_text(
        json.dumps([it.hex() for it in (encode_bytes(Identify("GRABBER"), C4), order, answer)])
    )
    return str(file)


def run(rounds: int, seconds: float) -> None:
    """Print the tables."""
    python = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        number = exchange(folder, "0D", "0D", recorded())
        loads_2d = {
            "512 x 512 uint16": (exchange(folder, "small", "2D", frame(512, np.uint16)), 0.3),
            "2048 x 2048 float64": (exchange(folder, "large", "2D", frame(2048, float)), 0.4),
        }
        ours = (python, "pymodaq_load", "labnet", number, 1, "0D", seconds)
        plain = (python, "pymodaq_load", "sockets", number, 1, "0D", seconds)
        with loads({"sockets": plain, "labnet": ours}) as sides:
            row = Row("0D, one at a time", sides, "sockets", {"labnet": 0.2})
            compare("PyMoDAQ grabs, to the same bytes on sockets", [row], rounds)
        for load, (file, goal) in loads_2d.items():
            args = (file, 1, "2D", max(seconds, 1.0))
            made = {it: (python, "pymodaq_load", it, *args) for it in ("sockets", "labnet")}
            with loads(made) as sides:
                row = Row(load, sides, "sockets", {"labnet": goal})
                compare("PyMoDAQ frames, to sendall and recv_into", [row], rounds)
        _against_the_real_pair(ours, rounds, max(seconds, 1.0))
        steady = {
            "one": (python, "pymodaq_load", "labnet", number, -1, "0D", STEADY),
            f"{MANY} modules": (python, "pymodaq_load", "labnet", number, MANY, "0D", STEADY),
        }
        with loads(steady) as sides:
            row = Row("0D, each at 20 Hz", sides, "one", {f"{MANY} modules": 0.5})
            compare("PyMoDAQ, the inverse of the 99th percentile of latency", [row], rounds)


def _against_the_real_pair(ours: Sequence[object], rounds: int, seconds: float) -> None:
    peer = pins.named(REAL)
    if not peer.is_installed() or not isinstance(peer, pins.Peer):
        print(f"{REAL} is not installed: run tests/interop/install-peers {REAL}")
        return
    with loads({REAL: (peer.python, "real_pymodaq", seconds), "labnet": ours}) as sides:
        row = Row("0D, one at a time", sides, REAL, {"labnet": 500.0})
        compare("PyMoDAQ grabs, to PyMoDAQ's own classes on both ends", [row], rounds)
