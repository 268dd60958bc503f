"""How clients find the core port: the port mapper's answers, and registration with rpcbind.

Clients ask the port mapper, at port 111 over UDP (broadcast, to find instruments) and TCP. Where
rpcbind runs, the ports are registered with it; else labnet answers itself, if it may open the port.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import DatagramProtocol, Factory

from labnet.errors import LabError, NotConnected
from labnet.framing.xdr import Record, RecordSplitter, XdrError, encode_uint
from labnet.logs import Logger
from labnet.transports.admission import Admission, Network
from labnet.transports.listening import CannotListen, why_not
from labnet.transports.ordered import OrderedProtocol
from labnet.transports.tcp import TcpListener, listen_tcp
from labnet.wires.vxi11.portmap import PortmapClient
from labnet.wires.vxi11.rpc import (
    MARK,
    PORTMAPPER,
    PORTMAPPER_VERSION,
    TCP,
    UDP,
    Accept,
    Answered,
    Call,
    Mapping,
    Port,
    encode_mappings,
    encode_mismatch,
    encode_reply,
    read_call,
    read_mapping,
)

log = Logger()

MAX_CALL = 4096
MAX_CONNECTIONS = 64
REGISTER_TIMEOUT = 2.0
"""Seconds that rpcbind may take for one answer."""

How = Literal["auto", "own", "rpcbind", "none"]

ALLOW = (
    "to let labnet open it: run `sysctl net.ipv4.ip_unprivileged_port_start=111`, or give its"
    " Python the capability CAP_NET_BIND_SERVICE, or run rpcbind"
)


class Directory:
    """Answers the calls of a port mapper; makes no difference between UDP and TCP."""

    def __init__(self, mappings: Iterable[Mapping]) -> None:
        self.mappings = list(mappings)

    def answer(self, record: Record) -> bytes:
        """The reply with its record mark; empty for none. Raises `XdrError` for what is no call."""
        call = read_call(record)
        if isinstance(call, Answered):
            return call.reply
        if call.program != PORTMAPPER:
            return encode_reply(call.xid, status=Accept.PROG_UNAVAIL)
        if call.version != PORTMAPPER_VERSION:
            return encode_mismatch(call.xid, PORTMAPPER_VERSION, PORTMAPPER_VERSION)
        try:
            return self._answer(call)
        except XdrError:
            return encode_reply(call.xid, status=Accept.GARBAGE_ARGS)

    def _answer(self, call: Call) -> bytes:
        match call.procedure:
            case Port.NULL:
                return encode_reply(call.xid)
            case Port.SET | Port.UNSET:  # nobody else's programs
                return encode_reply(call.xid, encode_uint(0))
            case Port.GETPORT:
                port = self.port_of(read_mapping(call.arguments()))
                return encode_reply(call.xid, encode_uint(port))
            case Port.DUMP:
                return encode_reply(call.xid, encode_mappings(self.mappings))
            case Port.CALLIT:
                return b""  # it would make others' traffic larger
        return encode_reply(call.xid, status=Accept.PROC_UNAVAIL)

    def port_of(self, wanted: Mapping) -> int:
        """The port of a program; of another version if there is none of that; 0 if unknown."""
        known = [it for it in self.mappings if it[::2] == wanted[::2]]
        exact = [it for it in known if it.version == wanted.version]
        return next((it.port for it in exact or known), 0)


class PortmapProtocol(OrderedProtocol[Record]):
    """One TCP connection to the port mapper."""

    def __init__(self, directory: Directory, clock: Any, peer: IAddress | None) -> None:
        super().__init__(clock, peer)
        self._directory = directory
        self._splitter = RecordSplitter(MAX_CALL)

    def split(self, data: bytes) -> Iterable[Record]:
        records = self._splitter.feed(data)
        return [*records, b""] if self._splitter.fault else records

    def begin(self, message: Record) -> bytes:
        try:
            return self._directory.answer(message)
        except XdrError:
            self.finish()
            return b""


class PortmapFactory(Factory):
    """The TCP side of the port mapper."""

    noisy = False

    def __init__(self, directory: Directory, clock: Any) -> None:
        self._directory = directory
        self._clock = clock

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return PortmapProtocol(self._directory, self._clock, addr)


class PortmapDatagrams(DatagramProtocol):
    """The UDP side. `voice` answers in place of a socket that only hears broadcasts."""

    noisy = False

    def __init__(
        self, directory: Directory, admission: Admission, voice: PortmapDatagrams | None = None
    ) -> None:
        self._directory = directory
        self._admission = admission
        self._voice = voice or self

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        if not self._admission.allows(addr[0]):
            return
        try:
            reply = self._directory.answer(datagram[:MAX_CALL])
        except XdrError:
            return
        self._voice.say(reply[MARK:], addr)

    def say(self, reply: bytes, addr: tuple[str, int]) -> None:
        """Sends a reply, if there is one; one that cannot be sent is lost, as datagrams are."""
        transport = self.transport
        if reply and transport is not None:
            try:
                transport.write(reply, addr)
            except OSError:
                pass


class Publication:
    """What makes the ports known; `found` says whether clients can ask for them."""

    found = False

    async def stop(self) -> None:
        """Takes it back."""


class OwnPortmapper(Publication):
    """A port mapper of our own: one TCP port and one or more UDP ports."""

    found = True

    def __init__(self, listener: TcpListener, ports: list[Any]) -> None:
        self.port = listener.port
        self._listener = listener
        self._ports = ports

    async def stop(self) -> None:
        ports, self._ports = self._ports, []
        for port in ports:
            await maybeDeferred(port.stopListening)
        await self._listener.stop()


class Registration(Publication):
    """Ports that rpcbind knows."""

    found = True

    def __init__(self, client: PortmapClient, mappings: Sequence[Mapping]) -> None:
        self._client = client
        self._mappings = mappings

    async def stop(self) -> None:
        mappings, self._mappings = self._mappings, ()
        for mapping in mappings:
            try:
                await self._client.unset(mapping)
            except LabError as error:
                log.warn("vxi11: rpcbind keeps a port that is closed: {error}", error=str(error))


async def publish(
    how: How,
    mappings: Sequence[Mapping],
    host: str,
    *,
    port: int,
    allow: Sequence[Network] = (),
    reactor: Any,
) -> Publication:
    """Makes the ports known. `host` is the address at which they are served.

    Raises `CannotListen` for ``own`` where the port cannot be opened. Everything else that does not
    work is told in one line of the log: clients can still name the port themselves.
    """
    if how == "none":
        return Publication()
    if how == "own":
        return await own(mappings, host, port, allow, reactor)
    client = PortmapClient("127.0.0.1", port, timeout=REGISTER_TIMEOUT, reactor=reactor)
    try:
        return await register(client, mappings, reactor)
    except LabError as error:
        refused = isinstance(error, NotConnected)  # nobody listens at the port
        if not refused or how == "rpcbind":
            _tell(str(error), mappings)
            return Publication()
    try:
        return await own(mappings, host, port, allow, reactor)
    except CannotListen as error:
        _tell(f"{error}; {ALLOW}", mappings)
        return Publication()


def _tell(why: str, mappings: Sequence[Mapping]) -> None:
    log.warn(
        "vxi11: clients cannot look up the port and must name it, TCPIP::host,{port}::INSTR: {why}",
        port=mappings[0].port,
        why=why,
    )


async def register(
    client: PortmapClient, mappings: Sequence[Mapping], reactor: Any
) -> Registration:
    """Registers with rpcbind; `NotConnected` if there is none, `LabError` if it does not want to.

    An entry of a server that has died is replaced, one of a server that lives is left alone.
    """
    for mapping in mappings:
        other = await client.get_port(mapping)
        if other and other != mapping.port:
            if await client.is_open(other):
                raise LabError(
                    f"port {client.where.rpartition(':')[2]} is held by a port mapper that knows"
                    f" another VXI-11 server already, at port {other}"
                )
            await client.unset(mapping)
    registration = Registration(client, mappings)
    for mapping in mappings:
        if await client.get_port(mapping) != mapping.port and not await client.set(mapping):
            await registration.stop()
            raise LabError(f"the port mapper at {client.where} refuses to register our ports")
    return registration


async def own(
    mappings: Sequence[Mapping], host: str, port: int, allow: Sequence[Network], reactor: Any
) -> OwnPortmapper:
    """Opens the ports of a port mapper of our own at the address `host`."""
    escaped = host.replace(":", "\\:")
    kind = "tcp6" if ":" in host else "tcp"
    directory = Directory(mappings)
    listener = await listen_tcp(
        PortmapFactory(directory, reactor),
        f"{kind}:{port}:interface={escaped}",
        reactor=reactor,
        allow=allow,
        max_connections=MAX_CONNECTIONS,
    )
    number = int(getattr(listener.port.getHost(), "port", port))
    directory.mappings[:0] = [
        Mapping(PORTMAPPER, PORTMAPPER_VERSION, protocol, number) for protocol in (TCP, UDP)
    ]
    try:
        ports = listen_udp(directory, Admission(f"udp:{number}", allow), host, number, reactor)
    except CannotListen:
        await listener.stop()
        raise
    return OwnPortmapper(listener, ports)


def listen_udp(
    directory: Directory, admission: Admission, host: str, number: int, reactor: Any
) -> list[Any]:
    """The UDP ports: that of the address, and where it has broadcasts of its own, theirs.

    A socket that is bound to one address does not hear broadcasts.
    """
    protocol = PortmapDatagrams(directory, admission)
    if not hasattr(reactor, "listenUDP"):
        raise CannotListen(f"udp:{number}", "this reactor has no UDP")
    try:
        ports = [reactor.listenUDP(number, protocol, interface=host)]
    except CannotListenError as error:
        why = why_not(getattr(error.socketError, "errno", None))
        raise CannotListen(f"udp:{number}:interface={host}", why) from None
    for address in broadcasts_of(host):
        ear = PortmapDatagrams(directory, admission, voice=protocol)
        try:
            ports.append(reactor.listenUDP(number, ear, interface=address))
        except CannotListenError:
            log.info("vxi11: broadcasts to {address} are not heard", address=address)
    return ports


def broadcasts_of(host: str) -> list[str]:
    """The addresses to which broadcasts to this address' network are sent; empty for any address.

    Where the system does not tell them, only the loopback's and the general one are known.
    """
    if ":" in host or host in ("", "0.0.0.0"):
        return []
    if host.startswith("127."):
        return ["127.255.255.255"]
    return [*_interface_broadcasts(host), "255.255.255.255"]


_GET_ADDRESS, _GET_BROADCAST = 0x8915, 0x8919  # Linux: SIOCGIFADDR, SIOCGIFBRDADDR


def _interface_broadcasts(host: str) -> Iterator[str]:
    try:
        import fcntl
    except ImportError:
        return  # not a Unix
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                if _address(fcntl.ioctl(probe.fileno(), _GET_ADDRESS, request)) == host:
                    yield _address(fcntl.ioctl(probe.fileno(), _GET_BROADCAST, request))
            except OSError:
                continue  # an interface without an address, or another system


def _address(answer: bytes) -> str:
    return socket.inet_ntoa(answer[20:24])
