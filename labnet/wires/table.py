"""The wires that labnet speaks: one row each, imported only when a section asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from labnet.errors import UnknownName


@dataclass(frozen=True, slots=True)
class Wire:
    """One wire format: the module of its server, the class of its client, its usual port."""

    name: str
    server: str
    client: str
    port: int
    help: str

    def load_server(self) -> ModuleType:
        """The server's module, which holds ``Options`` and ``listen``."""
        return import_module(self.server)

    def load_client(self) -> Any:
        """The client's class."""
        module, _, name = self.client.rpartition(".")
        return getattr(import_module(module), name)


def _wire(name: str, client: str, port: int, help: str) -> Wire:
    package = f"labnet.wires.{name}"
    return Wire(name, f"{package}.server", f"{package}.client.{client}", port, help)


WIRES: dict[str, Wire] = {
    row.name: row
    for row in (
        _wire("plesty", "PlestyClient", 5555, "PLESTY experiments and analyzers: JSON over ZMQ"),
        _wire("tsv", "TsvClient", 7891, "sm_bluesky's instrument servers: tab-separated lines"),
        _wire("scpi", "ScpiClient", 5025, "VISA SOCKET sessions, netcat, lxi-tools: SCPI lines"),
    )
}


def find_wire(name: str) -> Wire:
    """The row called `name`; UnknownName with the nearest ones."""
    try:
        return WIRES[name]
    except KeyError:
        raise UnknownName(name, WIRES, "wire") from None
