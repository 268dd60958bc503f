"""How long the demo lab takes from its start until it listens, against ``twistd web``."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.idle import Demo, start
from benchmarks.processes import free_port, wait_until_listening


def _until_ready(process: subprocess.Popen[bytes], ports: Sequence[int]) -> float:
    try:
        return wait_until_listening(ports)
    finally:
        process.terminate()
        process.wait()


def _lab(directory: Path) -> float:
    demo = Demo(directory)
    return _until_ready(demo.start(), demo.ports)


def _web(directory: Path) -> float:
    port = free_port()
    listen = f"tcp:{port}:interface=127.0.0.1"
    return _until_ready(start("web", "--listen", listen, "--path", str(directory)), [port])


def run(rounds: int, seconds: float) -> None:
    """Print the figures."""
    labs, webs = [], []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        _lab(directory), _web(directory)
        for _ in range(rounds):
            webs.append(_web(directory))
            labs.append(_lab(directory))
    found = sorted(lab / web for lab, web in zip(labs, webs, strict=True))
    print(
        f"\nFrom start to listening: the demo lab {median(labs):.2f} s, twistd web"
        f" {median(webs):.2f} s; ratio {median(found):.2f} ({found[0]:.2f}..{found[-1]:.2f};"
        " goal: less than 2)",
        flush=True,
    )
