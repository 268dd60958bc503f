"""Servers in processes of their own, and what the system knows of them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Server:
    """A child process that prints one JSON line when it listens. Use it in a ``with``."""

    def __init__(self, script: str, *arguments: str, python: str = sys.executable) -> None:
        """Runs the module ``benchmarks.<script>``."""
        self._process = subprocess.Popen(
            [python, "-m", f"benchmarks.{script}", *arguments], stdout=subprocess.PIPE, cwd=ROOT
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{script} ended before it listened")
        #: What the line says, such as the ports.
        self.told: dict[str, Any] = json.loads(line)

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has used, in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> int:
    """The memory that a process has in use."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_listening(ports: Sequence[int], limit: float = 30.0) -> float:
    """The seconds until all of these ports accept connections."""
    begun = time.perf_counter()
    for port in ports:
        while not _listens(port):
            if time.perf_counter() - begun > limit:
                raise TimeoutError(f"nobody listens at port {port}")
            time.sleep(0.001)
    return time.perf_counter() - begun


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
