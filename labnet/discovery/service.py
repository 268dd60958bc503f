"""Makes a running lab found: its web server and its services, as ``[discovery]`` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure

from labnet.config import DiscoveryKeys
from labnet.discovery.lxi import About, machine_name, site
from labnet.discovery.mdns import Announcer, Service
from labnet.discovery.records import (
    INSTRUMENTS,
    PORTMAPPER,
    Listening,
    bound,
    reachable,
    services,
)
from labnet.errors import BadArguments
from labnet.logs import Logger
from labnet.registry import DeviceNode
from labnet.resource_names import parse_resource_name
from labnet.specs import Identity
from labnet.transports.listening import CannotListen, why_not

STOPPING = 3.0
"""Seconds that the network may take to be told that the services are gone."""


class Discovery:
    """The lab's presence on the network; `devices` are those of the lab by name."""

    log = Logger()

    def __init__(
        self,
        keys: DiscoveryKeys,
        lab: str,
        devices: Mapping[str, DeviceNode],
        reactor: Any,
    ) -> None:
        self.keys = keys
        self.url = ""
        #: Fires with the services as they are announced, when that has been done.
        self.announced: Deferred[list[Service]] = succeed([])
        self._lab = lab
        self._devices = devices
        self._reactor = reactor
        self._ports: list[Any] = []
        self._announcer: Announcer | None = None

    async def start(self, listeners: Sequence[Listening]) -> None:
        """Opens the web server and begins to announce; raises `CannotListen`."""
        addresses = self._addresses()
        host = self.keys.host or f"{machine_name()}-labnet"
        paths = self._instruments(listeners)
        if paths:
            about = About(paths, listeners, self.identity, host, self.keys.description)
            await self._serve(site(about), addresses)
        found = services(
            listeners,
            {path: self.identity(path) for path in _all_paths(listeners)},
            addresses,
            lab=self._lab,
            host=host,
            device=paths[0] if paths else None,
            web_port=self._ports[0].getHost().port if self._ports else 0,
        )
        self._say_left_out(listeners, addresses)
        if found:
            self._announcer = Announcer(addresses, self._reactor)
            self.announced = self._announcer.start(found)
            self.announced.addCallbacks(self._found, self._not_announced)

    async def stop(self) -> None:
        """Withdraws the services and closes the web server."""
        ports, self._ports = self._ports, []
        waits: list[Deferred[Any]] = [succeed(port.stopListening()) for port in ports]
        announcer, self._announcer = self._announcer, None
        if announcer is not None:
            leaving = announcer.stop()
            waits.append(leaving.addTimeout(STOPPING, self._reactor).addErrback(self._not_left))
        await gatherResults(waits)

    def identity(self, path: str) -> Identity:
        """That of a device, with the section's maker."""
        identity = _node(self._devices, path).identity
        maker = self.keys.manufacturer
        return replace(identity, maker=maker) if maker else identity

    def _addresses(self) -> list[str]:
        if "*" not in self.keys.interfaces:
            return list(self.keys.interfaces)
        from ifaddr import get_adapters

        every = [ip.ip for adapter in get_adapters() for ip in adapter.ips if ip.is_IPv4]
        found = [str(address) for address in every if not str(address).startswith("127.")]
        return found or ["127.0.0.1"]

    def _instruments(self, listeners: Sequence[Listening]) -> list[str]:
        """The devices that are instruments for other programs, the main one first."""
        found: dict[str, None] = {}
        for wire in INSTRUMENTS:
            for listener in listeners:
                if listener.wire == wire:
                    found |= dict.fromkeys(listener.devices.values())
        paths = list(found)
        main = self.keys.device
        return [main, *(path for path in paths if path != main)] if main else paths

    async def _serve(self, server: Any, addresses: Sequence[str]) -> None:
        """The web server, at the same port of each address."""
        port = self.keys.port
        for address in addresses:
            try:
                opened = self._reactor.listenTCP(port, server, interface=address)
            except CannotListenError as error:
                await self.stop()
                why = why_not(getattr(error.socketError, "errno", None))
                raise CannotListen(f"tcp:{port}:interface={address}", why) from None
            port = opened.getHost().port
            self._ports.append(opened)
        self.url = f"http://{addresses[0]}:{port}/"

    def _say_left_out(self, listeners: Sequence[Listening], addresses: Sequence[str]) -> None:
        for listener in listeners:
            if not reachable(listener.host, addresses):
                self.log.info(
                    "{wire} at {host}:{port} is not announced: nobody reaches it at {addresses}",
                    wire=listener.wire,
                    host=listener.host,
                    port=listener.port,
                    addresses=", ".join(addresses),
                )

    def _found(self, found: list[Service]) -> list[Service]:
        names = ", ".join(sorted({service.name for service in found}))
        self.log.info("announced as {names}; see {url}", names=names, url=self.url)
        return found

    def _not_announced(self, failure: Failure) -> list[Service]:
        self.log.warn(
            "the lab is not announced on the network: {reason}", reason=failure.getErrorMessage()
        )
        return []

    def _not_left(self, failure: Failure) -> None:
        self.log.warn(
            "the network has not been told of the end: {reason}", reason=failure.getErrorMessage()
        )


def listening(
    wire: str, address: str, devices: Mapping[str, str], example: str = ""
) -> Listening | None:
    """A listener by the address that it is bound to; None for one that is not on the network.

    The `example` of a VXI-11 listener tells whether clients find its port by the port mapper.
    """
    where = bound(address)
    if where is None:
        return None
    host, port = where
    if wire == "vxi11":
        try:
            port = parse_resource_name(example).port or PORTMAPPER
        except BadArguments:
            pass
    return Listening(wire, host, port, devices)


def _all_paths(listeners: Sequence[Listening]) -> list[str]:
    return [path for listener in listeners for path in listener.devices.values()]


def _node(devices: Mapping[str, DeviceNode], path: str) -> DeviceNode:
    first, *rest = path.split(".")
    node: Any = devices[first]
    for name in rest:
        node = node.children[name]
    return node if isinstance(node, DeviceNode) else node.ancestors[0]
