"""Addresses to listen at: Twisted endpoint strings and ZMQ addresses.

An endpoint of TCP or TLS that names no interface means the loopback address, and its backlog is
`BACKLOG`.
"""

from __future__ import annotations

import re
from typing import Any, cast

from labnet.errors import shorten

BACKLOG = 128
MAX_PORT = 65535
_LOOPBACK = {"tcp": "127.0.0.1", "ssl": "127.0.0.1", "tcp6": r"\:\:1"}
_POSITIONAL = ("port", "interface", "backlog")
_ZMQ = ("tcp", "ipc", "inproc")


def is_zmq_address(address: str) -> bool:
    """Whether `address` has ZMQ's form, ``tcp://127.0.0.1:5555``."""
    return "://" in address


def complete_address(address: str) -> str:
    """`address` with the interface and backlog that it leaves open; others stay as they are."""
    kind, _, rest = address.partition(":")
    if kind == "haproxy":
        return f"{kind}:{complete_address(rest)}"
    loopback = _LOOPBACK.get(kind)
    if loopback is None or is_zmq_address(address) or not rest:
        return address
    parts = re.split(r"(?<!\\):", rest)
    keys = {part.partition("=")[0] for part in parts if "=" in part}
    if kind != "ssl":  # port, interface and backlog may come without their names
        keys.update(_POSITIONAL[: sum("=" not in part for part in parts)])
    if "interface" not in keys:
        address += f":interface={loopback}"
    return address if "backlog" in keys else f"{address}:backlog={BACKLOG}"


def check_address(address: str, zmq: bool) -> str:
    """What is wrong with `address`, as one sentence, or the empty text; opens nothing."""
    shown = repr(shorten(address))
    if zmq:
        scheme = address.partition("://")[0]
        port = re.search(r":(\d+)$", address) if scheme == "tcp" else None
        if port and int(port[1][:9]) > MAX_PORT:
            return f"{shown}: a port is a number from 0 to {MAX_PORT}"
        fine = is_zmq_address(address) and scheme in _ZMQ
        return "" if fine else f"{shown} is no ZMQ address such as tcp://127.0.0.1:5555"
    if is_zmq_address(address):
        return f"{shown} is a ZMQ address; this wire takes an endpoint such as tcp:7891"
    return _endpoint_problem(address, shown)


def _endpoint_problem(address: str, shown: str) -> str:
    port = re.match(r"(?:tcp6?|ssl):(?:port=)?(\d+)(?::|$)", address)
    if port and int(port[1][:9]) > MAX_PORT:
        return f"{shown}: a port is a number from 0 to {MAX_PORT}"
    if address.startswith("systemd:"):
        return ""  # its parser already needs the sockets that systemd passes
    from twisted.internet.endpoints import serverFromString

    try:
        serverFromString(cast(Any, None), address)
    except ModuleNotFoundError as error:
        return f"{shown} needs the Python package {error.name}, not installed"
    except OSError as error:
        return f"{shown}: {error.filename or 'a file'} cannot be read: {error.strerror}"
    except (ValueError, TypeError, KeyError):
        return f"{shown} is no endpoint such as tcp:7891"
    return ""
