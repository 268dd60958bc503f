"""The LXI identification document of each device, and the small web server that gives it.

LXI Device Specification 1.5 section 10.2: the document of the main device is at
``/lxi/identification`` and names the others, whose own are at ``/devices/NAME/lxi/identification``.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from twisted.web.resource import Resource
from twisted.web.server import Site

from labnet.discovery.records import Listening, resources
from labnet.discovery.schema import NAMESPACE, SCHEMA
from labnet.specs import Identity

XSI = "http://www.w3.org/2001/XMLSchema-instance"
VERSION = "1.5 LXI Device Specification 2016"
DOCUMENT = "/lxi/identification"
SCHEMA_AT = "/lxi/identification.xsd"
NO_ADDRESS = "00:00:00:00:00:00"


@dataclass(frozen=True)
class Network:
    """What the document says of the interface at one address."""

    address: str
    name: str = ""
    mask: str = "255.255.255.255"
    hardware: str = NO_ADDRESS


def network_at(address: str) -> Network:
    """The interface of this machine that has `address`, as far as it can be found out."""
    import ifaddr

    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            if ip.ip == address:
                mask = str(IPv4Network((0, ip.network_prefix)).netmask)
                return Network(address, adapter.name, mask, _hardware(adapter.name))
    return Network(address)


def _hardware(name: str) -> str:
    """The hardware address of an interface; only Linux shows it as a file."""
    try:
        return Path("/sys/class/net", name, "address").read_text().strip() or NO_ADDRESS
    except OSError:
        return NO_ADDRESS


@dataclass(frozen=True)
class About:
    """All that the documents tell: the devices by path, the main one first, and their listeners.

    `identity` gives that of a device as it is now.
    """

    devices: Sequence[str]
    listeners: Sequence[Listening]
    identity: Callable[[str], Identity]
    host: str
    description: str = ""

    def document(self, path: str, base: str, network: Network) -> bytes:
        """The document of a device; `base` is the URL of the web server."""
        identity = self.identity(path)
        own = base if path == self.devices[0] else f"{base}{device_url(path)}"
        root = ElementTree.Element(
            "LXIDevice",
            {
                "xmlns": NAMESPACE,
                "xmlns:xsi": XSI,
                "xsi:schemaLocation": f"{NAMESPACE} {base}{SCHEMA_AT}",
            },
        )
        _add(root, "Manufacturer", identity.maker)
        _add(root, "Model", identity.model)
        _add(root, "SerialNumber", identity.serial)
        _add(root, "FirmwareRevision", identity.firmware)
        _add(root, "ManufacturerDescription", f"{identity.maker} {identity.model}".strip())
        if path == self.devices[0] and len(self.devices) > 1:
            others = _add(root, "ConnectedDevices")
            for other in self.devices[1:]:
                _add(others, "DeviceURI", f"{base}{device_url(other)}")
        _add(root, "UserDescription", self.description or f"{path} of {self.host}")
        _add(root, "IdentificationURL", f"{own}{DOCUMENT}")
        self._add_interface(root, path, network)
        _add(root, "LXIVersion", VERSION)
        self._add_functions(root, path)
        ElementTree.indent(root)
        text = ElementTree.tostring(root, "unicode")
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()

    def _add_interface(self, root: ElementTree.Element, path: str, network: Network) -> None:
        about = {"xsi:type": "NetworkInformation", "InterfaceType": "LXI", "IPType": "IPv4"}
        if network.name:
            about["InterfaceName"] = network.name
        interface = ElementTree.SubElement(root, "Interface", about)
        for resource in resources(self.listeners, path, network.address):
            _add(interface, "InstrumentAddressString", resource)
        _add(interface, "Hostname", f"{self.host}.local")
        _add(interface, "IPAddress", network.address)
        _add(interface, "SubnetMask", network.mask)
        _add(interface, "MACAddress", network.hardware)
        _add(interface, "Gateway", "0.0.0.0")
        _add(interface, "DHCPEnabled", "false")
        _add(interface, "AutoIPEnabled", "false")

    def _add_functions(self, root: ElementTree.Element, path: str) -> None:
        ports = [
            listener.port
            for listener in self.listeners
            if listener.wire == "hislip" and path in listener.devices.values()
        ]
        if ports:
            functions = _add(root, "LXIExtendedFunctions")
            about = {"FunctionName": "LXI HiSLIP", "Version": "1.0"}
            hislip = ElementTree.SubElement(functions, "Function", about)
            _add(hislip, "Port", str(ports[0]))

    def page(self, base: str, network: Network) -> bytes:
        """What a browser shows: the devices, their resources and documents."""
        rows = []
        for path in self.devices:
            link = f"{'' if path == self.devices[0] else device_url(path)}{DOCUMENT}"
            names = "<br>".join(map(escape, resources(self.listeners, path, network.address)))
            rows.append(
                f'<tr><td><a href="{link}">{escape(path)}</a></td>'
                f"<td>{escape(str(self.identity(path)))}</td><td>{names}</td></tr>"
            )
        title = escape(self.host)
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
            f"<h1>{title}</h1><p>{escape(self.description)}</p><table>"
            "<tr><th>device</th><th>identity</th><th>resources</th></tr>"
            f"{''.join(rows)}</table></html>"
        ).encode()


def device_url(path: str) -> str:
    """Where the web pages of a device begin."""
    return f"/devices/{quote(path, safe='')}"


def _add(parent: ElementTree.Element, name: str, text: str = "") -> ElementTree.Element:
    element = ElementTree.SubElement(parent, name)
    element.text = "".join(letter if letter.isprintable() else " " for letter in text) or None
    return element


class _Text(Resource):
    """A page that is made when it is asked for, from the address that it was asked at."""

    isLeaf = True

    def __init__(self, kind: str, make: Callable[[str, Network], bytes]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._kind = kind
        self._make = make

    def render_GET(self, request: Any) -> bytes:
        """The page."""
        here = request.getHost()
        network = network_at(getattr(here, "host", "127.0.0.1"))
        request.setHeader(b"Content-Type", f"{self._kind}; charset=utf-8".encode())
        return self._make(f"http://{network.address}:{here.port}", network)


def site(about: About) -> Site:
    """The web server: ``/``, the documents and their schema."""
    root = Resource()
    root.putChild(b"", _Text("text/html", about.page))
    main = _lxi_of(about, about.devices[0])
    main.putChild(b"identification.xsd", _Text("text/xml", lambda *_: SCHEMA.encode()))
    root.putChild(b"lxi", main)
    devices = Resource()
    root.putChild(b"devices", devices)
    for path in about.devices:
        device = Resource()
        device.putChild(b"lxi", _lxi_of(about, path))
        devices.putChild(path.encode(), device)
    make: Any = Site  # untyped in Twisted
    server: Site = make(root, timeout=30)
    server.displayTracebacks = False
    server.noisy = False
    return server


def _lxi_of(about: About, path: str) -> Resource:
    folder = Resource()

    def document(base: str, network: Network) -> bytes:
        return about.document(path, base, network)

    folder.putChild(b"identification", _Text("text/xml", document))
    return folder


def machine_name() -> str:
    """What this machine is called, without its domain."""
    return socket.gethostname().partition(".")[0] or "labnet"
