"""The wires that labnet speaks: one row each, imported only when a section asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from labnet.errors import UnknownName


@dataclass(frozen=True, slots=True)
class Wire:
    """One wire format: the module of its server, the class of its client, its usual address.

    `dialler` is the module of what connects to programs that wait for devices, where a wire has
    such. Where the clients are the devices, as `brings` says, a section serves none of the lab's.
    """

    name: str
    server: str
    client: str
    port: int
    help: str
    zmq: bool = False
    dialler: str = ""
    brings: bool = False

    @property
    def listen(self) -> str:
        """Where a section of this wire listens that names no address."""
        return f"tcp://127.0.0.1:{self.port}" if self.zmq else f"tcp:{self.port}"

    def load_server(self) -> ModuleType:
        """The server's module: ``Options``, ``listen``, and ``devices`` where it `brings` some."""
        return import_module(self.server)

    def load_dialler(self) -> ModuleType:
        """The dialler's module, which holds ``Options``, ``PORT`` and ``dial``."""
        return import_module(self.dialler)

    def load_client(self) -> Any:
        """The client's class."""
        module, _, name = self.client.rpartition(".")
        return getattr(import_module(module), name)


ROWS: tuple[Wire, ...] = (
    Wire(
        name="plesty",
        server="labnet.wires.plesty.server",
        client="labnet.wires.plesty.client.PlestyClient",
        port=5555,
        help="PLESTY experiments and analyzers: JSON over ZMQ",
        zmq=True,
    ),
    Wire(
        name="tsv",
        server="labnet.wires.tsv.server",
        client="labnet.wires.tsv.client.TsvClient",
        port=7891,
        help="sm_bluesky's instrument servers: tab-separated lines",
    ),
    Wire(
        name="scpi",
        server="labnet.wires.scpi.server",
        client="labnet.wires.scpi.client.ScpiClient",
        port=5025,
        help="VISA SOCKET sessions, netcat, lxi-tools: SCPI lines",
    ),
    Wire(
        name="vxi11",
        server="labnet.wires.vxi11.server",
        client="labnet.wires.vxi11.client.Vxi11Client",
        port=9010,
        help="VISA INSTR sessions, python-vxi11, lxi-tools: ONC RPC",
    ),
    Wire(
        name="hislip",
        server="labnet.wires.hislip.server",
        client="labnet.wires.hislip.client.HislipClient",
        port=4880,
        help="VISA INSTR sessions over two connections (IVI-6.1)",
    ),
    Wire(
        name="vicp",
        server="labnet.wires.vicp.server",
        client="labnet.wires.vicp.client.VicpClient",
        port=1861,
        help="LeCroy oscilloscope programs: VISA INSTR sessions",
    ),
    Wire(
        name="rogue",
        server="labnet.wires.rogue.server",
        client="labnet.wires.rogue.client.RogueClient",
        port=9099,
        help="PyRogue's SimpleClient, VirtualClient and PyDM: pickles and JSON over ZMQ",
        zmq=True,
    ),
    Wire(
        name="pymodaq",
        server="labnet.wires.pymodaq.server",
        client="labnet.wires.pymodaq.control.Modules",
        port=6341,
        help="PyMoDAQ's modules, LabVIEW and other bridges: length-prefixed objects",
        dialler="labnet.wires.pymodaq.dialler",
        brings=True,
    ),
)
WIRES: dict[str, Wire] = {row.name: row for row in ROWS}


def find_wire(name: str) -> Wire:
    """The row called `name`; UnknownName with the nearest ones."""
    try:
        return WIRES[name]
    except KeyError:
        raise UnknownName(name, WIRES, "wire") from None
