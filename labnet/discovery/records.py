"""What a lab announces: its listeners as services, and as VISA resources.

The types and the text records are those of the LXI Device Specification 1.5 section 10.4 and of the
LXI HiSLIP extended function. VICP has no registered type; ``_vicp-ctrl._tcp`` is what documents of
its users mention.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_address

from labnet.discovery.mdns import Service, host_name, instance_name, text_record
from labnet.resource_names import ResourceName
from labnet.specs import Identity

KINDS = {
    "hislip": "_hislip._tcp",
    "scpi": "_scpi-raw._tcp",
    "vxi11": "_vxi-11._tcp",
    "vicp": "_vicp-ctrl._tcp",
}
"""The service type of each wire that programs look for; others get ``_labnet-WIRE._tcp``."""

INSTRUMENTS = ("hislip", "vxi11", "scpi", "vicp")
"""The wires by which a device is an instrument, the best first."""

_STREAM = re.compile(r"tcp4?:([0-9]+)(?::.*?interface=([0-9.]+))?")
_ZMQ = re.compile(r"tcp://([0-9.*]+):([0-9]+)\Z")
PORTMAPPER = 111


@dataclass(frozen=True)
class Listening:
    """One listener: its wire, where it is bound, and its devices by the wire's names for them."""

    wire: str
    host: str
    port: int
    devices: Mapping[str, str]


def bound(address: str) -> tuple[str, int] | None:
    """Host and port of a listener's address (of an endpoint or of ZMQ); None if it has none."""
    zmq = _ZMQ.match(address)
    if zmq is not None:
        return zmq[1].replace("*", "0.0.0.0"), int(zmq[2])
    stream = _STREAM.match(address)
    return None if stream is None else (stream[2] or "127.0.0.1", int(stream[1]))


def reachable(host: str, addresses: Sequence[str]) -> tuple[str, ...]:
    """Those of the announced addresses at which a listener bound to `host` can be reached."""
    where = ip_address(host)
    if where == IPv4Address("0.0.0.0"):
        return tuple(addresses)
    if where.is_loopback and any(ip_address(address).is_loopback for address in addresses):
        return (host,)
    return tuple(address for address in addresses if address == host)


def identity_text(identity: Identity) -> dict[str, str]:
    """The text record of an instrument: the four elements of its ``*IDN?`` answer.

    No value is empty: other programs stumble over a record without its maker.
    """
    return text_record(
        {
            "txtvers": "1",
            "Manufacturer": identity.maker or "unknown",
            "Model": identity.model or "unknown",
            "SerialNumber": identity.serial or "0",
            "FirmwareVersion": identity.firmware or "0",
        }
    )


def device_name(identity: Identity) -> str:
    """The name under which all services of a device are found."""
    return instance_name(f"{identity.maker} {identity.model} {identity.serial}")


def services(
    listeners: Sequence[Listening],
    identities: Mapping[str, Identity],
    addresses: Sequence[str],
    *,
    lab: str,
    host: str,
    device: str | None,
    web_port: int,
) -> list[Service]:
    """The services of a lab.

    `identities` are those of its devices by path; `device` is the one that the web server at
    `web_port` identifies. A listener that none of `addresses` reaches is left out, and one of
    VXI-11 that has no port mapper.
    """
    host = host_name(host)
    found: list[Service] = []
    if device is not None:
        identity = identities[device]
        where = tuple(addresses)
        name = device_name(identity)
        root = {"txtvers": "1", "path": "/"}
        found.append(Service("_http._tcp", name, host, web_port, where, root))
        text = identity_text(identity)
        found.append(Service("_lxi._tcp", name, host, web_port, where, text))
    for listener in listeners:
        where = reachable(listener.host, addresses)
        if where and (listener.wire != "vxi11" or listener.port == PORTMAPPER):
            found.append(_service(listener, identities, lab, host, where))
    return _apart(found)


def _service(
    listener: Listening,
    identities: Mapping[str, Identity],
    lab: str,
    host: str,
    where: tuple[str, ...],
) -> Service:
    kind = KINDS.get(listener.wire)
    if kind is None:
        text = {"txtvers": "1", "devices": ",".join(listener.devices.values())}
        name = instance_name(f"{lab} {' '.join(listener.devices)}"[:60])
        kind = f"_labnet-{listener.wire}._tcp"
        return Service(kind, name, host, listener.port, where, text_record(text))
    identity = identities[next(iter(listener.devices.values()))]
    text = identity_text(identity)
    return Service(kind, device_name(identity), host, listener.port, where, text)


def _apart(found: Sequence[Service]) -> list[Service]:
    """Services of one type under different names, as of one device at two ports."""
    taken: set[tuple[str, str]] = set()
    apart = []
    for service in found:
        name, number = service.name, 1
        while (service.kind, name) in taken:
            number += 1
            name = instance_name(service.name, number)
        taken.add((service.kind, name))
        apart.append(replace(service, name=name))
    return apart


def resources(listeners: Sequence[Listening], path: str, address: str) -> list[str]:
    """The VISA resource strings of one device at one address, the best wire first."""
    found: list[str] = []
    for wire in INSTRUMENTS:
        for listener in listeners:
            names = [name for name, device in listener.devices.items() if device == path]
            if listener.wire == wire and names and reachable(listener.host, (address,)):
                found.append(_resource(listener, names[0], address))
    return found


def _resource(listener: Listening, name: str, address: str) -> str:
    wire, port = listener.wire, listener.port
    if wire == "hislip":
        shown = name if name.lower().startswith("hislip") else "hislip0"
        return str(ResourceName("hislip", address, port, shown))
    if wire == "vxi11":
        # The core port is for clients that ask no portmapper.
        port_shown = None if port == PORTMAPPER else port
        return str(ResourceName("vxi11", address, port_shown, name or "inst0"))
    return str(ResourceName("vicp" if wire == "vicp" else "scpi", address, port))
