"""The real peers of the interop tests: what is installed, and where.

Standard library only: ``install-peers`` runs it on a bare machine, before anything else is there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path

STAMP = "installed.json"


@dataclass(frozen=True)
class Peer:
    """A peer that lives in a virtual environment of its own.

    ``steps`` are the arguments of one ``pip install`` each, in order. An ``optional`` peer, which
    has to be compiled, may be missing.
    """

    name: str
    steps: tuple[tuple[str, ...], ...]
    note: str = ""
    optional: bool = False

    @property
    def directory(self) -> Path:
        return cache() / self.name

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"

    @property
    def stamp(self) -> str:
        return json.dumps(self.steps, indent=1)

    def is_installed(self) -> bool:
        """Whether these very pins were installed to the end, and their interpreter still runs."""
        try:
            return (self.directory / STAMP).read_text() == self.stamp and self.python.exists()
        except OSError:
            return False


@dataclass(frozen=True)
class Tool:
    """A program that the system's package manager installs.

    ``commands`` are its possible names, the preferred one first.
    """

    name: str
    package: str
    commands: tuple[str, ...]

    def find(self) -> str | None:
        return next(filter(None, map(shutil.which, self.commands)), None)

    def is_installed(self) -> bool:
        return self.find() is not None


@dataclass(frozen=True)
class Library(Tool):
    """A shared library that a peer loads; ``commands`` are its possible names, without ``lib``."""

    def find(self) -> str | None:
        return next(filter(None, map(find_library, self.commands)), None)


def pymodaq(version: str) -> Peer:
    """PyMoDAQ with all that it needs, as listed beside this file.

    It asks for any pyqtgraph, but each version fits the one of its time only.
    """
    listed = Path(__file__).with_name(f"pymodaq-{version}.txt").read_text().split()
    return Peer(f"pymodaq-{version}", (("--no-deps", *listed),))


def plesty(version: str) -> Peer:
    # plesty-lib asks for Python 3.12; the parts that these tests use run on 3.11 as well.
    return Peer(
        f"plesty-{version}",
        (
            (
                "numpy==2.4.6",
                "pyserial==3.5",
                "pyusb==1.3.1",
                "pyvisa==1.16.2",
                "pyyaml==6.0.3",
                "pyzmq==27.3.0",
            ),
            ("--no-deps", "--ignore-requires-python", f"plesty-lib=={version}"),
        ),
    )


#: What labnet itself needs to run in a peer's environment, with the peer's classes as its drivers.
LABNET = (
    "Twisted==26.10.0",
    "ifaddr==0.2.0",
    "numpy==2.4.6",
    "pyvisa==1.16.2",
    "pyvisa-py==0.8.1",
    "pyzmq==27.3.0",
    "txZMQ==1.0.0",
    "zeroconf==0.154.0",
)

PEERS: tuple[Peer, ...] = (
    # Libraries of instruments, whose classes labnet takes for devices.
    Peer(
        "instruments",
        (
            (
                *LABNET,
                "click==8.5.1",
                "psutil==7.2.2",
                "pymeasure==0.16.0",
                "pyvicp==1.1.0",
                "pyserial==3.5",
                "pyusb==1.3.1",
                "pyvisa-sim==0.7.1",
                "pyyaml==6.0.3",
                "qcodes==0.58.0",
            ),
            ("--no-deps", "sm-bluesky==1.4.0"),
            ("--no-deps", "--ignore-requires-python", "plesty-lib==0.6.0"),
        ),
    ),
    # In full it needs some 150 packages, none of which its socket code touches: see
    # drivers/sm_bluesky_modules.py for what takes their place.
    Peer("sm-bluesky", (("click==8.5.1",), ("--no-deps", "sm-bluesky==1.4.0"))),
    plesty("0.6.0"),
    plesty("0.3.6"),
    Peer(
        "pyvisa-py",
        (
            (
                "numpy==2.4.6",
                "psutil==7.2.2",
                "pyvicp==1.1.0",
                "pyvisa==1.16.2",
                "pyvisa-py==0.8.1",
                "zeroconf==0.154.0",
            ),
        ),
    ),
    Peer("python-vxi11", (("setuptools==80.9.0",), ("--no-build-isolation", "python-vxi11==0.9"))),
    Peer(
        "cpyhislip",
        (
            ("cython==0.29.37", "setuptools==65.5.0", "wheel==0.48.0"),
            ("--no-build-isolation", "cPyHiSLIP==0.2.2.4"),
        ),
        optional=True,
    ),
    *map(pymodaq, ("3.6.13", "4.4.11", "5.1.13")),
    Peer("xmlschema", (("elementpath==5.1.4", "xmlschema==4.3.2"),)),
    Peer("lecroyparser", (("numpy==2.4.6", "lecroyparser==1.4.2"),)),
)

TOOLS: tuple[Tool, ...] = (
    Tool("lxi", "lxi-tools", ("lxi",)),
    Tool("rpcbind", "rpcbind", ("rpcbind",)),
    Tool("ip", "iproute2", ("ip",)),
    # Other netcats take other options: the OpenBSD one goes by this name where there are several.
    Tool("nc", "netcat-openbsd", ("nc.openbsd", "nc")),
    # What Qt loads even without a screen, for PyMoDAQ.
    Library("libgl", "libgl1", ("GL",)),
    Library("libegl", "libegl1", ("EGL",)),
    Library("libxkbcommon", "libxkbcommon0", ("xkbcommon",)),
    Library("libdbus", "libdbus-1-3", ("dbus-1",)),
    Library("libfontconfig", "libfontconfig1", ("fontconfig",)),
    Library("libglib", "libglib2.0-0", ("glib-2.0",)),
)


def cache() -> Path:
    """The directory that holds the environments, outside the checkout."""
    if chosen := os.environ.get("LABNET_PEERS"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "labnet-peers"


def everything() -> Iterator[Peer | Tool]:
    yield from PEERS
    yield from TOOLS


def named(name: str) -> Peer | Tool:
    """The peer or tool of that name; raises KeyError with the names there are."""
    for item in everything():
        if item.name == name:
            return item
    raise KeyError(f"no peer is called {name!r}: {', '.join(item.name for item in everything())}")
