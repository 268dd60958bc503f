"""Instruments on the network by their VISA resource strings, without blocking the reactor.

    scope = labnet.open_resource("VICP::192.168.1.7::INSTR")
    print(await scope.query("*IDN?"))

    for found in await labnet.list_resources():
        print(found.name, found.model)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.abstract import isIPAddress
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater

from labnet.errors import BadArguments, LabError, shorten
from labnet.logs import Logger
from labnet.resource_names import ResourceName, parse_resource_name

Progress = Callable[[int, int], None]
"""Told how many bytes of a block have come, and how many it has."""

LISTENING = 2.0
"""Seconds in which instruments may answer."""

IDENTIFYING = 2.0
"""Seconds that an instrument may take to say what it is."""

MAX_FOUND = 256
ANSWER_LIMIT = 4096  # bytes of an identity
_KINDS = ("_hislip._tcp", "_vxi-11._tcp", "_scpi-raw._tcp", "_vicp-ctrl._tcp", "_lxi._tcp")

log = Logger()


class MessageClient(Protocol):
    """What the clients of all instrument wires have in common.

    Their methods return Deferreds that fail with a `LabError`, whose `visa_status` is the code that
    a VISA library would give. `timeout` is in seconds. More is in the clients themselves, such as
    service requests, which come in other ways on each wire.
    """

    where: str
    timeout: float

    def connect(self, timeout: float | None = None) -> Deferred[None]:
        """Connects if that is not so already; requests do it by themselves."""

    def write(self, message: str, timeout: float | None = None) -> Deferred[None]:
        """Sends a message that has no answer."""

    def read(self, timeout: float | None = None) -> Deferred[bytes]:
        """The answer to what was written."""

    def query(self, message: str, timeout: float | None = None) -> Deferred[str]:
        """Sends a message and gives its answer as text."""

    def query_block(
        self, message: str, progress: Progress | None = None, timeout: float | None = None
    ) -> Deferred[bytearray]:
        """Sends a message that is answered by one data block, and gives its bytes."""

    def write_block(self, header: str, data: bytes) -> Deferred[None]:
        """Sends a command with a data block as its last argument."""

    def clear(self) -> Deferred[None]:
        """Device clear."""

    def trigger(self, timeout: float | None = None) -> Deferred[None]:
        """Triggers the instrument."""

    def status_byte(self, timeout: float | None = None) -> Deferred[int]:
        """The status byte."""

    def lock(self, *, wait: float = 0.0, timeout: float | None = None) -> Deferred[Any]:
        """Locks the instrument for this client; waits up to `wait` seconds for another's lock."""

    def unlock(self, timeout: float | None = None) -> Deferred[Any]:
        """Frees the lock."""

    def close(self) -> Deferred[None]:
        """Closes the connection."""


def open_resource(
    name: str, *, timeout: float = 5.0, reactor: Any = None, **options: Any
) -> MessageClient:
    """The client for a VISA resource string; it connects when it is first used.

    ``TCPIP[board]::host[,port][::name]::INSTR`` is VXI-11, ``TCPIP::host::hislip0[,port]::INSTR``
    HiSLIP, ``TCPIP::host::port::SOCKET`` a raw socket, ``VICP::host[,port]::INSTR`` VICP;
    ``::INSTR`` may be left out. `timeout` is the seconds that a request may take; `options` are
    keyword arguments of the client. Raises `BadArguments` for what is no such string.
    """
    resource = parse_resource_name(name)
    options |= {"timeout": timeout, "reactor": reactor}
    return _MAKERS[resource.wire](resource, options)


def _vxi11(resource: ResourceName, options: dict[str, Any]) -> MessageClient:
    from labnet.wires.vxi11.client import Vxi11Client

    return Vxi11Client(resource.host, resource.name, port=resource.port, **options)


def _hislip(resource: ResourceName, options: dict[str, Any]) -> MessageClient:
    from labnet.wires.hislip.client import PORT, HislipClient

    return HislipClient(_bracketed(resource), resource.port or PORT, resource.name, **options)


def _vicp(resource: ResourceName, options: dict[str, Any]) -> MessageClient:
    from labnet.wires.vicp.client import PORT, VicpClient

    return VicpClient(_bracketed(resource), resource.port or PORT, **options)


def _scpi(resource: ResourceName, options: dict[str, Any]) -> MessageClient:
    from labnet.wires.scpi.client import ScpiClient

    return ScpiClient(f"{_bracketed(resource)}:{resource.port}", **options)


def _bracketed(resource: ResourceName) -> str:
    return f"[{resource.host}]" if ":" in resource.host else resource.host


_MAKERS: Mapping[str, Callable[[ResourceName, dict[str, Any]], MessageClient]] = {
    "vxi11": _vxi11,
    "hislip": _hislip,
    "vicp": _vicp,
    "scpi": _scpi,
}


@dataclass(frozen=True)
class FoundResource:
    """An instrument that was found: its resource string, and what it says that it is.

    `title` is the name under which it was announced, empty for one that was not. A field that the
    instrument did not tell is empty.
    """

    name: str
    title: str = ""
    manufacturer: str = ""
    model: str = ""
    serial: str = ""
    firmware: str = ""


def list_resources(
    *,
    timeout: float = LISTENING,
    interfaces: Sequence[str] = (),
    identify: bool = True,
    reactor: Any = None,
) -> Deferred[list[FoundResource]]:
    """The instruments on the local networks, by mDNS and by a VXI-11 broadcast.

    `timeout` is the seconds for which answers are waited for; `interfaces` are addresses of this
    machine, none for all. With `identify`, instruments that answered the broadcast but were not
    announced are asked ``*IDN?``. What cannot be searched is left out and logged. Fails with
    `BadArguments` for an interface that is no IPv4 address.
    """
    if reactor is None:
        from twisted.internet import reactor
    return Deferred.fromCoroutine(_list(timeout, list(interfaces), identify, reactor))


async def _list(
    timeout: float, interfaces: list[str], identify: bool, reactor: Any
) -> list[FoundResource]:
    from labnet.discovery.mdns import browse

    for address in interfaces:
        if not isIPAddress(address):
            raise BadArguments(f"{shorten(address)!r} is no IPv4 address of this machine")
    announced, answered = await gatherResults(
        [
            _or_nothing(browse(_KINDS, timeout, reactor, interfaces), "mDNS"),
            _or_nothing(broadcast(timeout, reactor, interfaces), "VXI-11 broadcasts"),
        ]
    )
    found = {resource.name: resource for resource in announced_resources(announced)}
    fresh = [name for name in map(_vxi11_name, answered) if name not in found]
    if identify:
        told = await gatherResults([_identified(name, reactor) for name in fresh])
    else:
        told = [FoundResource(name) for name in fresh]
    found |= {resource.name: resource for resource in told}
    return sorted(found.values(), key=lambda resource: resource.name)


def _or_nothing(search: Deferred[list[Any]], what: str) -> Deferred[list[Any]]:
    def failed(failure: Any) -> list[Any]:
        failure.trap(OSError, LabError)
        log.warn("{what} cannot be used: {why}", what=what, why=failure.getErrorMessage())
        return []

    return search.addErrback(failed)


def announced_resources(services: Iterable[Any]) -> list[FoundResource]:
    """The resources that services stand for: names, and what their text records say.

    An ``_lxi._tcp`` service says that there is an instrument, not how it is reached: it counts for
    VICP, where the maker is LeCroy, as other programs take it.
    """
    found: dict[str, FoundResource] = {}
    for service in services:
        name = _name_of(service)
        if name is not None and str(name) not in found:
            text = {key.lower(): value for key, value in service.text.items()}
            found[str(name)] = FoundResource(
                str(name),
                service.name,
                text.get("manufacturer", ""),
                text.get("model", ""),
                text.get("serialnumber", ""),
                text.get("firmwareversion", ""),
            )
    return list(found.values())


def _name_of(service: Any) -> ResourceName | None:
    host, port = service.addresses[0], service.port
    if service.kind == "_hislip._tcp":
        return ResourceName("hislip", host, port, "hislip0")
    if service.kind == "_vxi-11._tcp":
        return ResourceName("vxi11", host, None, "inst0")
    if service.kind == "_scpi-raw._tcp":
        return ResourceName("scpi", host, port)
    if service.kind == "_vicp-ctrl._tcp":
        return ResourceName("vicp", host, port)
    maker = {key.lower(): value for key, value in service.text.items()}.get("manufacturer", "")
    return ResourceName("vicp", host) if maker.lower().startswith("lecroy") else None


def _vxi11_name(host: str) -> str:
    return str(ResourceName("vxi11", host, None, "inst0"))


def _identified(name: str, reactor: Any) -> Deferred[FoundResource]:
    """What the instrument says that it is; only its name if it does not."""
    client = open_resource(name, timeout=IDENTIFYING, reactor=reactor, max_response=ANSWER_LIMIT)

    async def identified() -> FoundResource:
        try:
            answer = await client.query("*IDN?")
        except LabError:
            return FoundResource(name)
        finally:
            client.close()
        fields = [field.strip() for field in answer.split(",", 3)]
        maker, model, serial, firmware = [*fields, "", "", "", ""][:4]
        return FoundResource(name, "", maker, model, serial, firmware)

    return Deferred.fromCoroutine(identified())


class _Broadcasts(DatagramProtocol):
    """Asks the port mappers of a network for VXI-11, and hears which hosts have it."""

    def __init__(self, targets: Sequence[str]) -> None:
        self.hosts: dict[str, None] = {}
        self._targets = targets

    def startProtocol(self) -> None:
        from labnet.wires.vxi11.codec import Program
        from labnet.wires.vxi11.rpc import (
            PORTMAPPER,
            PORTMAPPER_PORT,
            PORTMAPPER_VERSION,
            TCP,
            Mapping,
            Port,
            encode_call,
        )

        transport: Any = self.transport
        transport.setBroadcastAllowed(True)
        wanted = Mapping(Program.CORE, 1, TCP, 0).encode()
        record = encode_call(1, PORTMAPPER, PORTMAPPER_VERSION, Port.GETPORT, wanted)
        for target in self._targets:
            try:
                transport.write(record[4:], (target, PORTMAPPER_PORT))  # no mark on datagrams
            except OSError:
                continue  # an interface without a network just now

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        from labnet.framing.xdr import XdrError, XdrReader
        from labnet.wires.vxi11.rpc import read_reply

        try:
            reply = read_reply(datagram)
            port = 0 if reply.problem else XdrReader(datagram, reply.at).uint()
        except XdrError:
            return
        if 0 < port <= 65535 and len(self.hosts) < MAX_FOUND:
            self.hosts[addr[0]] = None


def broadcast(
    timeout: float, reactor: Any, interfaces: Sequence[str] = ()
) -> Deferred[list[str]]:
    """The hosts that answer a broadcast for VXI-11 within `timeout` seconds."""
    return Deferred.fromCoroutine(_broadcast(timeout, reactor, list(interfaces)))


async def _broadcast(timeout: float, reactor: Any, interfaces: list[str]) -> list[str]:
    asking = _Broadcasts(_broadcast_addresses(interfaces))
    port = reactor.listenUDP(0, asking)
    try:
        await deferLater(reactor, timeout)
    finally:
        port.stopListening()
    return list(asking.hosts)


def _broadcast_addresses(interfaces: Sequence[str]) -> list[str]:
    """Those of this machine's networks, or of the ones that it has at `interfaces`."""
    from ipaddress import IPv4Network

    from ifaddr import get_adapters

    found: dict[str, None] = {}
    for adapter in get_adapters():
        for ip in adapter.ips:
            if ip.is_IPv4 and (not interfaces or ip.ip in interfaces):
                network = IPv4Network(f"{ip.ip}/{ip.network_prefix}", strict=False)
                found[str(network.broadcast_address)] = None
    return list(found)
