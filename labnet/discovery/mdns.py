"""Services on the local network by mDNS and DNS-SD (RFC 6762, RFC 6763): announced and found.

zeroconf's own class runs an event loop in a thread of its own, so it works beside any reactor; it
is only ever called from other threads than the reactor's, since its calls wait for the network.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool

from labnet.logs import Logger

MAX_NAME = 63
"""Bytes of an instance name (RFC 6763 section 4.1.1)."""

MAX_TEXT = 255
"""Bytes of one ``key=value`` of a TXT record (RFC 6763 section 6.1)."""

REGISTERING = 30.0  # seconds that probing and announcing may take
LISTENING = 1.5  # seconds for which it is listened who is there already
MAX_ALIKE = 20  # devices of one name on a network
MAX_FOUND = 1000
ANSWERING = 1.0  # seconds that instances have to say where they are, when all have been heard of


@dataclass(frozen=True)
class Service:
    """One service: its type (``_lxi._tcp``), the name of its instance, where it is and what it says
    of itself."""

    kind: str
    name: str
    host: str
    port: int
    addresses: tuple[str, ...]
    text: Mapping[str, str] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """``NAME._lxi._tcp.local.``"""
        return f"{self.name}.{self.kind}.local."


def instance_name(text: str, number: int = 1) -> str:
    """`text` as the name of an instance: at most 63 bytes, without dots, as many tools split there.

    `number` is put behind it when the name is taken.
    """
    clean = "".join(" " if not letter.isprintable() else letter for letter in text)
    clean = " ".join(clean.replace(".", "-").split()) or "labnet"
    end = f" ({number})" if number > 1 else ""
    return clean.encode()[: MAX_NAME - len(end)].decode(errors="ignore") + end


def host_name(text: str, number: int = 1) -> str:
    """`text` as the first label of a host name (RFC 1123 section 2.1)."""
    clean = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in text)
    end = f"-{number}" if number > 1 else ""
    return (clean.strip("-")[: MAX_NAME - len(end)] or "labnet") + end


def text_record(values: Mapping[str, str]) -> dict[str, str]:
    """`values` cut to what a TXT record holds."""
    return {
        name: value.encode()[: MAX_TEXT - len(name) - 1].decode(errors="ignore")
        for name, value in values.items()
    }


class Announcer:
    """Announces services on the networks of some addresses, from `start` until `stop`.

    When a name is taken all instances get a number, and the host name too.
    """

    log = Logger()

    def __init__(self, interfaces: Sequence[str], reactor: Any) -> None:
        self._interfaces = list(interfaces)
        self._reactor = reactor
        self._zeroconf: Any = None
        self._working: Deferred[Any] = succeed(None)

    def start(self, services: Sequence[Service]) -> Deferred[list[Service]]:
        """Announces; fires with the services as they are called in the end.

        It takes some 3 s, whatever their number. Fails with OSError where there is no network for
        it.
        """
        return self._in_thread(self._register, list(services))

    def stop(self) -> Deferred[None]:
        """Withdraws all services; fires when everybody has been told."""
        return self._in_thread(self._close)

    def _in_thread(self, function: Any, *args: Any) -> Deferred[Any]:
        """One after the other: a stop during the start comes after it."""
        done: Deferred[Any] = Deferred()

        def begin(_: object) -> None:
            pool = self._reactor.getThreadPool()
            working = deferToThreadPool(self._reactor, pool, function, *args)
            self._working = working.addBoth(finished)

        def finished(result: Any) -> None:
            done.callback(result)

        self._working.addCallback(begin)
        return done

    # In a thread

    def _register(self, services: list[Service]) -> list[Service]:
        from zeroconf import NonUniqueNameException, Zeroconf

        self._zeroconf = Zeroconf(interfaces=self._interfaces)
        try:
            _listen(self._zeroconf, {service.kind for service in services}, LISTENING)
            for number in range(1, MAX_ALIKE + 1):
                named = [renamed(service, number) for service in services]
                try:
                    self._register_all([_info(service) for service in named])
                    return named
                except NonUniqueNameException:
                    self._zeroconf.unregister_all_services()
            raise OSError(f"{MAX_ALIKE} others on the network are called {services[0].name}")
        except BaseException:
            self._close()
            raise

    def _register_all(self, infos: list[Any]) -> None:
        """All at the same time: one after the other would take as many times 2 s."""
        zeroconf = self._zeroconf

        async def register(info: Any) -> None:
            await (await zeroconf.async_register_service(info))

        async def register_all() -> None:
            results = await asyncio.gather(*map(register, infos), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result

        asyncio.run_coroutine_threadsafe(register_all(), zeroconf.loop).result(REGISTERING)

    def _close(self) -> None:
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is not None:
            zeroconf.close()  # withdraws what is registered


def renamed(service: Service, number: int) -> Service:
    """The service under its name with a number, from 2 on."""
    if number == 1:
        return service
    name = instance_name(service.name, number)
    return replace(service, name=name, host=host_name(service.host, number))


def _info(service: Service) -> Any:
    from zeroconf import ServiceInfo

    return ServiceInfo(
        f"{service.kind}.local.",
        service.full_name,
        addresses=[socket.inet_aton(address) for address in service.addresses],
        port=service.port,
        properties=dict(service.text),
        server=f"{service.host}.local.",
    )


def browse(
    kinds: Sequence[str],
    seconds: float,
    reactor: Any,
    interfaces: Sequence[str] = (),
    wanted: Collection[str] = (),
) -> Deferred[list[Service]]:
    """The services of some types that answer within `seconds`, without those that are incomplete.

    `interfaces` are addresses of this machine; none means all of its networks. With `wanted` (full
    names) it ends as soon as these have been heard of.
    """
    pool = reactor.getThreadPool()
    known = frozenset(wanted)
    return deferToThreadPool(reactor, pool, _browse, list(kinds), seconds, list(interfaces), known)


def _browse(
    kinds: list[str], seconds: float, interfaces: list[str], wanted: frozenset[str]
) -> list[Service]:
    from zeroconf import InterfaceChoice, Zeroconf

    zeroconf = Zeroconf(interfaces=interfaces or InterfaceChoice.All)
    try:
        found = _listen(zeroconf, kinds, seconds, wanted)
        end = time.monotonic() + ANSWERING
        services = [_resolved(zeroconf, kind, name, end) for kind, name in found]
    finally:
        zeroconf.close()
    return [service for service in services if service is not None]


def _listen(
    zeroconf: Any, kinds: Iterable[str], seconds: float, wanted: frozenset[str] = frozenset()
) -> list[tuple[str, str]]:
    """The instances of some types that are heard of: types and names; see `browse`.

    Asks for answers to all: those to one alone may reach another program of this machine, as all
    share a port. (So a name that such a program has is not found out by the usual probe either.)
    """
    from zeroconf import DNSQuestionType, ServiceBrowser

    found: dict[tuple[str, str], None] = {}
    missing = set(wanted)
    heard = threading.Event()

    def changed(zeroconf: Any, service_type: str, name: str, state_change: Any) -> None:
        if len(found) < MAX_FOUND:
            found[service_type, name] = None
        missing.discard(name)
        if wanted and not missing:
            heard.set()

    types = [f"{kind}.local." for kind in kinds]
    browser = ServiceBrowser(zeroconf, types, [changed], question_type=DNSQuestionType.QM)
    heard.wait(seconds)
    browser.cancel()
    return list(found)


def _resolved(zeroconf: Any, kind: str, name: str, until: float) -> Service | None:
    from zeroconf import ServiceInfo

    info = ServiceInfo(kind, name)
    if not info.load_from_cache(zeroconf):
        left = max(0.0, until - time.monotonic())
        if not left or not info.request(zeroconf, 1000 * left):
            return None
    text = {
        key.decode("utf-8", "replace"): (value or b"").decode("utf-8", "replace")
        for key, value in info.properties.items()
    }
    addresses = tuple(socket.inet_ntoa(a) for a in info.addresses if len(a) == 4)
    if not addresses or info.port is None:
        return None
    short = name.removesuffix(f".{kind}")
    host = (info.server or "").removesuffix(".").removesuffix(".local")
    return Service(kind.removesuffix(".local."), short, host, info.port, addresses, text)
