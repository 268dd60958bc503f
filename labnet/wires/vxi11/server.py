"""VXI-11, the server side: what VISA INSTR sessions, python-vxi11 and lxi-tools talk to.

Two listeners, for the core and the abort channel, and a port mapper (or a registration with the one
that runs already) by which clients find the first. Every link is a client of its own: its session
has the locks, the messages and the status of that link.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from labnet.errors import BadArguments, UnknownName, quote
from labnet.instrument.serving import check_device
from labnet.keys import key
from labnet.lab import AllDevices, Host, ServeOptions
from labnet.registry import DeviceNode
from labnet.session import Session
from labnet.transports.factory import WireFactory
from labnet.transports.tcp import TcpListener, serve_tcp
from labnet.wires.vxi11 import codec
from labnet.wires.vxi11.codec import Program
from labnet.wires.vxi11.core import AbortProtocol, CoreProtocol, RpcProtocol
from labnet.wires.vxi11.link import Link
from labnet.wires.vxi11.portmapper import Publication, publish
from labnet.wires.vxi11.rpc import PORTMAPPER_PORT, TCP, Mapping

DEFAULT_NAME = "inst0"
"""The device that clients ask for who name none (VXI-11.3 section B.1)."""


@dataclass(frozen=True)
class Options:
    """The keys of a ``[serve NAME]`` section with ``wire = vxi11`` beyond the common ones."""

    portmapper: Literal["auto", "own", "rpcbind", "none"] = key(
        "auto",
        "how clients find the port: own, a port mapper of labnet's; rpcbind, registered with the"
        " rpcbind of this machine; none, clients must name the port; auto, rpcbind where it runs,"
        " else own where that is allowed, else none",
    )
    portmapper_port: int = key(111, "the port mapper's port", limits=(0, 65535))
    abort_port: int = key(0, "port of the abort channel, 0 for any", limits=(0, 65535))
    max_receive: int = key(
        1 << 20, "longest piece of a message (maxRecvSize)", "bytes", (1024, 1 << 30)
    )
    links_per_connection: int = key(256, "links on one connection", limits=(1, 1 << 20))
    max_links: int = key(4096, "links in all", limits=(1, 1 << 20))
    interrupt_anywhere: bool = key(
        False, "connect interrupt channels to any host a client names, not only to its own"
    )


class Vxi11Factory(WireFactory):
    """What the connections of one core listener share. `links` has all links by their numbers."""

    def __init__(self, host: Host, common: ServeOptions, options: Options) -> None:
        super().__init__("vxi11")
        self.host = host
        self.common = common
        self.options = options
        self.abort_port = 0
        self.links: dict[int, Link] = {}
        self.live: set[RpcProtocol] = set()
        self._names = names_of(common)
        self._last = 0
        self._unwatch = host.watch(lambda node: None, self._departed)

    def connection(self, peer: IAddress | None) -> CoreProtocol:
        return CoreProtocol(self, peer)

    # Devices

    def path_of(self, device: bytes) -> str:
        """The lab's name for a device string; `BadArguments` if it is none, else `UnknownName`."""
        try:
            name = device.decode().strip()
        except UnicodeDecodeError:
            name = "\0"
        if not name.isprintable() or len(name) > codec.MAX_DEVICE_NAME:
            raise BadArguments(f"{quote(device)} is no name of a device")
        names = self._names
        if isinstance(self.common.devices, AllDevices):  # they come and go
            names = names_of(self.common)
        path = names.get(name.lower() or DEFAULT_NAME)
        if path is None:
            raise UnknownName(name, names, "device")
        return path

    def open_session(self, path: str, peer: str) -> tuple[DeviceNode, Session]:
        """A session for a new link; `UnknownName` when the device is not there."""
        common = self.common
        session = self.host.open_session(
            "vxi11",
            peer,
            device=path,
            reach=common.reach,
            wait_for_locks=True,
            timeout=common.timeout,
        )
        node = session.describe()
        assert isinstance(node, DeviceNode)
        return node, session

    def _departed(self, node: DeviceNode) -> None:
        for link in list(self.links.values()):
            if link.node.top is node:
                link.lose_device()

    # Links

    @property
    def full(self) -> bool:
        """Whether there may be no further link."""
        return len(self.links) >= self.options.max_links

    def add_link(self, link: Link) -> None:
        """Gives a link its number: never 0, and none that was in use lately."""
        number = self._last % codec.MAX_DATA + 1
        while number in self.links:
            number = number % codec.MAX_DATA + 1
        self._last = link.number = number
        self.links[number] = link

    def close(self) -> None:
        """The listener has stopped."""
        self._unwatch()


class AbortFactory(Factory):
    """Makes the connections to the abort channel."""

    noisy = False

    def __init__(self, core: Vxi11Factory) -> None:
        self._core = core

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return AbortProtocol(self._core, addr)


def names_of(common: ServeOptions) -> dict[str, str]:
    """Device strings in small letters to the lab's paths.

    Besides the names in the section, the n-th device is ``inst<n>`` where no other is called so.
    """
    if common.device is not None:
        return {DEFAULT_NAME: common.device, common.device.lower(): common.device}
    names = {name.lower(): path for name, path in common.devices.items()}
    for number, path in enumerate(common.devices.values()):
        names.setdefault(f"inst{number}", path)
    return names


class Vxi11Listener:
    """The core port, the abort port, and what tells clients of them."""

    def __init__(
        self,
        core: TcpListener,
        abort: TcpListener,
        factory: Vxi11Factory,
        publication: Publication,
    ) -> None:
        self.address = core.address
        self.port = core.port
        self.abort_port = abort.port
        self.publication = publication
        self._core = core
        self._abort = abort
        self._factory = factory
        found = publication.found and factory.options.portmapper_port == PORTMAPPER_PORT
        where = core.reachable if found else f"{core.reachable},{core.number}"
        self.example = f"TCPIP::{where}::{DEFAULT_NAME}::INSTR"

    async def stop(self) -> None:
        """Takes back what was published, closes the ports and ends the connections."""
        await self.publication.stop()
        stopping = [Deferred.fromCoroutine(it.stop()) for it in (self._core, self._abort)]
        await gatherResults(stopping)
        self._factory.close()


async def listen(
    host: Host, address: str, common: ServeOptions, options: Options, reactor: Any
) -> Vxi11Listener:
    """Serves devices at `address`, a Twisted endpoint of TCP; the abort channel beside it.

    `CannotListen` if a port cannot be opened (that of the port mapper only where the section asks
    for it by ``own``); other `LabError`s for a section that cannot be served.
    """
    if not common.reach:
        raise BadArguments("a vxi11 listener serves one device or more: device = NAME")
    for path in common.reach:
        check_device(host, "vxi11", path)
    factory = Vxi11Factory(host, common, options)
    opened: list[TcpListener] = []
    try:
        for make, where in (
            (factory, address),
            (AbortFactory(factory), abort_endpoint(address, options.abort_port)),
        ):
            opened.append(await serve_tcp(make, where, common, reactor))
        core, abort = opened
        factory.abort_port = abort.number
        mappings = (
            Mapping(Program.CORE, codec.VERSION, TCP, core.number),
            Mapping(Program.ABORT, codec.VERSION, TCP, factory.abort_port),
        )
        publication = await publish(
            options.portmapper,
            mappings,
            core.host,
            port=options.portmapper_port,
            allow=common.allow,
            reactor=reactor,
        )
    except BaseException:
        factory.close()
        for listener in opened:
            await listener.stop()
        raise
    return Vxi11Listener(core, abort, factory, publication)


def abort_endpoint(address: str, port: int) -> str:
    """Where the abort channel listens: as the core channel does, at another port."""
    kind, _, rest = address.partition(":")
    if kind not in ("tcp", "tcp4", "tcp6"):
        raise BadArguments(f"vxi11 listens at a TCP port such as tcp:9010, not {quote(address)}")
    _, colon, options = rest.partition(":")
    return f"{kind}:{port}{colon}{options}"
