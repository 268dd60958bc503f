"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("Twisted", "txzmq", "pyzmq", "numpy")


def describe() -> str:
    """The machine and the versions, in two lines."""
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{_processor()}, {len(os.sched_getaffinity(0))} cores, load {load};"
        f" {platform.system()} {platform.release()}\n"
        f"Python {platform.python_version()}, {versions}, libzmq {_libzmq()}"
    )


def _libzmq() -> str:
    import zmq

    return zmq.zmq_version()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
