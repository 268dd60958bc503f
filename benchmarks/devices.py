"""Many devices: how one that hangs disturbs the others, and how long 200 take to come up."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from statistics import median, quantiles

from benchmarks.idle import start
from benchmarks.processes import Server, free_port

COUNT = 20
HANGING = COUNT - 1
PAUSE = 0.004
"""Seconds between two readings of a client; the lab shall be busy, not overrun."""

ROUND = 0.7
MOST_ROUNDS = 18
"""Seconds of a round, and how many pairs of them fit into the 30 s that the device hangs."""

MANY = 200
LATE = 3.0
"""Seconds that a late instrument takes to say what it is."""


class Client:
    """One connection to a TSV listener."""

    def __init__(self, port: int, limit: float = 40.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), limit)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self._socket.makefile("rb")

    def send(self, line: str) -> None:
        self._socket.sendall(line.encode() + b"\n")

    def ask(self, line: str) -> str:
        self.send(line)
        return self._lines.readline().decode()

    def ask_all(self, lines: list[str]) -> list[str]:
        self.send("\n".join(lines))
        return [self._lines.readline().decode() for _ in lines]

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


def _read(port: int, name: str, seconds: float, times: list[float]) -> None:
    client = Client(port)
    end = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < end:
        if not client.ask(f"{name}.reading").startswith("1\t"):
            raise RuntimeError(f"{name} did not answer")
        times.append(time.perf_counter() - begun)
        time.sleep(PAUSE)
    client.close()


def _times(port: int, seconds: float) -> list[float]:
    """The times that readings of the healthy devices take, in seconds."""
    times: list[float] = []
    readers = [
        threading.Thread(target=_read, args=(port, f"d{number}", seconds, times))
        for number in range(HANGING)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    return times


def _p99(times: list[float]) -> float:
    return quantiles(times, n=100)[98]


def _hanging(rounds: int) -> None:
    """Two labs take turns, in short rounds; in one of them a device hangs all the while."""
    with Server("devices_lab", str(COUNT)) as healthy, Server("devices_lab", str(COUNT)) as lame:
        ports = {"without": healthy.told["port"], "with": lame.told["port"]}
        for port in ports.values():
            _times(port, ROUND)
        hanging = Client(ports["with"])
        hanging.send(f"d{HANGING}.hang")
        found: dict[str, list[list[float]]] = {side: [] for side in ports}
        for number in range(min(3 * rounds, MOST_ROUNDS)):
            for side in sorted(ports, reverse=bool(number % 2)):
                found[side].append(_times(ports[side], ROUND))
        hanging.close()
    whole = {side: _p99([time for times in rounds_ for time in times]) for side, rounds_ in
             found.items()}  # fmt: skip
    each = sorted(
        _p99(one) / _p99(other) for one, other in zip(found["with"], found["without"], strict=True)
    )
    print(
        f"\n{COUNT} blocking devices, one hangs: p99 of the others {whole['with'] * 1e3:.2f} ms,"
        f" without {whole['without'] * 1e3:.2f} ms; ratio {whole['with'] / whole['without']:.2f}"
        f" (by rounds {median(each):.2f}, {each[0]:.2f}..{each[-1]:.2f}; goal: at most 1.5)",
        flush=True,
    )


def _section(number: int, port: int) -> str:
    declared = "parameter reading = MEAS?, float, V"
    return f"[device d{number}]\ndriver = scpi\naddress = 127.0.0.1:{port}\n{declared}\n"


def _configuration(ports: list[int], listen: int, control: Path) -> str:
    usual, late = ports
    devices = [_section(number, usual) for number in range(MANY - 1)]
    devices.append(_section(MANY - 1, late))
    serve = f"[serve all]\nwire = tsv\nlisten = tcp:{listen}:interface=127.0.0.1\ndevices = *\n"
    return "".join([f"[lab]\ncontrol = {control}\ndrain = 0.5\n", *devices, serve])


def _until(port: int, names: list[str], since: float, limit: float = 30.0) -> float:
    """The seconds until all of these devices give their readings."""
    while time.perf_counter() - since < limit:
        try:
            client = Client(port)
        except OSError:
            time.sleep(0.005)
            continue
        answered = client.ask_all([f"{name}.reading" for name in names])
        client.close()
        if all(line.startswith("1\t") for line in answered):
            return time.perf_counter() - since
        time.sleep(0.01)
    raise TimeoutError(f"{names[0]} and others did not come up")


def _up(directory: Path, ports: list[int]) -> tuple[float, float, float]:
    """From the start of the process: the first of 200 devices, the last but one, the late one."""
    listen = free_port()
    file = directory / "lab.ini"
    file.write_text(_configuration(ports, listen, directory / "control"))
    begun = time.perf_counter()
    process: subprocess.Popen[bytes] = start("labnet", "--config", str(file))
    try:
        first = _until(listen, ["d0"], begun)
        rest = _until(listen, [f"d{number}" for number in range(MANY - 1)], begun)
        return first, rest, _until(listen, [f"d{MANY - 1}"], begun)
    finally:
        process.terminate()
        process.wait()


def _coming_up(rounds: int) -> None:
    with Server("farm", "0.02", str(LATE)) as farm, tempfile.TemporaryDirectory() as name:
        found = [_up(Path(name), farm.told["ports"]) for _ in range(rounds)]
    first, rest, late = (median(column) for column in zip(*found, strict=True))
    print(
        f"\n{MANY} instruments from the start of the process: the first answers after {first:.2f}"
        f" s, all that are quick after {rest:.2f} s (goal: less than 5), one that takes {LATE:g} s"
        f" to say what it is after {late:.2f} s",
        flush=True,
    )


def run(rounds: int, seconds: float) -> None:
    """Print the figures."""
    _hanging(rounds)
    _coming_up(min(rounds, 3))
