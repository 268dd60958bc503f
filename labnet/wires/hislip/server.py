"""HiSLIP, the server side: VISA INSTR sessions such as ``TCPIP::host::hislip0::INSTR``.

A session is two connections to one port: the synchronous channel for messages and triggers, the
asynchronous one for locks, status, device clear and remote control (IVI-6.1). What the two share is
in `labnet.wires.hislip.session`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from twisted.internet.interfaces import IAddress, IDelayedCall, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from labnet.errors import BadArguments, LabError, UnknownName
from labnet.instrument.serving import check_device
from labnet.keys import key
from labnet.lab import AllDevices, Host, ServeOptions
from labnet.logs import WireLog
from labnet.transports.ordered import first_time
from labnet.transports.prompt import MESSAGES_A_TURN, USUAL_READ, read_as_much, write_now
from labnet.transports.tcp import TcpListener, serve_tcp
from labnet.wires.hislip import codec
from labnet.wires.hislip.codec import Fatal, Message, MessageSplitter, Oversized, Piece, Type
from labnet.wires.hislip.exchange import Exchange
from labnet.wires.hislip.session import HislipSession

PORT = 4880
"""The port of HiSLIP, which a resource name need not have."""

DEFAULT_NAME = "hislip0"
DEFAULT_NAMES = frozenset(("", "hislip", DEFAULT_NAME))
"""Sub-addresses that mean the first device."""

SESSIONS = 0xFFFF
"""Session ids, which have 16 bits; 0 is not used."""

LAST_WORDS = 5.0
"""Seconds that a client has to take what was sent before its connection was closed."""


@dataclass(frozen=True)
class Options:
    """The keys of a ``[serve NAME]`` section with ``wire = hislip`` beyond the common ones."""

    max_message_size: int = key(
        1 << 20,
        "longest HiSLIP message that clients may send; longer program messages come in parts",
        "bytes",
        (1024, 1 << 28),
    )
    max_message: int = key(
        1 << 30, "longest program message, with its blocks", "bytes", (64, 1 << 32)
    )
    interrupted: Literal["standard", "quiet"] = key(
        "standard",
        "when a query overtakes an answer: say so as IVI-6.1 asks, or drop the answer only, which"
        " pyvisa-py 0.8.1 needs if it polls the status later",
    )
    async_delay: float = key(
        0.0, "wait so long before each answer on the asynchronous channel; 0.002 suits cPyHiSLIP",
        "s", (0, 1),
    )  # fmt: skip
    open_timeout: float = key(
        30.0, "time in which a client must have opened both connections", "s", (0.1, 3600)
    )
    clear_timeout: float = key(
        60.0, "time in which a client must complete a device clear", "s", (0.1, 3600)
    )


@implementer(IPushProducer)
class HislipProtocol(Protocol):
    """One connection; its first message says which of the two channels it is."""

    transport: Any

    def __init__(self, factory: HislipFactory, peer: IAddress | None) -> None:
        self.factory: HislipFactory = factory
        self._peer = peer
        self.session: HislipSession | None = None
        self.full = False
        self._splitter = MessageSplitter(codec.SUB_ADDRESS_LIMIT)
        self._receive: Callable[[Message], None] = self._first
        self._exchange: Exchange | None = None  # on the synchronous channel
        self._reading = True
        self._large = False  # the last read was
        self._handling = False
        self._closed = False
        self._due: IDelayedCall | None = None
        self._timer: IDelayedCall | None = None

    @property
    def peer(self) -> str:
        """Where the client is, ``host:port``."""
        host = getattr(self._peer, "host", None)
        return f"{host}:{getattr(self._peer, 'port', '')}" if host else "local"

    # What arrives

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)
        self._later(self.factory.options.open_timeout, self._not_opened)

    def dataReceived(self, data: bytes) -> None:
        if not self._closed:
            size = len(data)
            if size >= USUAL_READ or self._large:
                self._large = read_as_much(self.transport, size)
            self._splitter.feed(data)
            self.go_on()

    def go_on(self) -> None:
        """Handles messages that have come, as far as they need not wait."""
        if self._handling or self._due is not None or self._closed:
            return
        self._handling = True
        try:
            more = self._handle()
        except Exception:
            self.factory.log.logger.failure("{peer}: connection dropped", peer=self.peer)
            self._abort()
            return
        finally:
            self._handling = False
        self._read(not more and not self._stuck)
        if more and not self._closed:
            self._due = self.factory.clock.callLater(0, self._next_turn)

    def _next_turn(self) -> None:
        self._due = None
        self.go_on()

    def _handle(self) -> bool:
        """Handles the messages of one turn; whether there may be more that need not wait."""
        splitter = self._splitter
        for _ in range(MESSAGES_A_TURN):
            if self._stuck:
                return False
            try:
                message = splitter.take()
            except codec.PoorlyFormed as error:
                self._fatal(Fatal.POORLY_FORMED, str(error))
                return False
            if message is None:
                return False
            if self.factory.log.debug_on:
                self._log_message(message)
            if isinstance(message, Message):
                self._receive(message)
            elif isinstance(message, Oversized):
                self._too_large(message)
            if not splitter.pending:
                return False
        return True

    @property
    def _stuck(self) -> bool:
        """Whether nothing more can be handled now."""
        if self._closed:
            return True
        exchange = self._exchange
        if exchange is None:
            return self.full
        return exchange.backlogged or (self.full and not exchange.interruptible)

    def _log_message(self, message: Message | Piece | Oversized) -> None:
        text = codec.type_name(message.type).encode()
        if isinstance(message, Message) and message.payload:
            text += b" " + bytes(message.payload[:200])
        self.factory.log.received(self.peer, text)

    def _too_large(self, message: Oversized) -> None:
        if self.session is None:
            self._fatal(Fatal.INVALID_INITIALIZATION, "too long a message to begin with")
        else:
            self.send(codec.encode_too_large(message, self._splitter.limit))

    # The beginning

    def _first(self, message: Message) -> None:
        if message.type == Type.INITIALIZE:
            self._initialize(message)
        elif message.type == Type.ASYNC_INITIALIZE:
            self._async_initialize(message)
        else:
            text = f"{codec.type_name(message.type)} before Initialize or AsyncInitialize"
            self._fatal(Fatal.INVALID_INITIALIZATION, text)

    def _initialize(self, message: Message) -> None:
        factory = self.factory
        number = factory.free_number()
        if number is None:
            self._fatal(Fatal.TOO_MANY_CLIENTS, f"{SESSIONS} sessions are open")
            return
        try:
            self.session = factory.open(number, self, codec.decode_text(message.payload))
        except LabError as error:
            self._fatal(Fatal.INVALID_INITIALIZATION, str(error))
            return
        self._exchange = self.session.exchange
        self._splitter.limit = factory.options.max_message_size
        self._receive = self._unpaired
        version = codec.negotiate(codec.decode_version(message.parameter))
        self.send(codec.encode_initialize_response(version, number))

    def _unpaired(self, message: Message) -> None:
        text = f"{codec.type_name(message.type)} before the asynchronous channel is there"
        self._fatal(Fatal.NOT_BOTH_CHANNELS, text)

    def paired(self) -> None:
        """The other connection of this session is there."""
        assert self.session is not None
        self._stop_timer()
        self._receive = self.session.synchronous_message

    def _async_initialize(self, message: Message) -> None:
        session = self.factory.sessions.get(codec.decode_session(message.parameter))
        if session is None or session.asynchronous is not None:
            text = "no session of this number waits for its asynchronous channel"
            self._fatal(Fatal.INVALID_INITIALIZATION, text)
            return
        self._stop_timer()
        self.session = session
        self._receive = session.asynchronous_message
        self._splitter.limit = codec.ASYNC_LIMIT
        session.pair(self)
        vendor = int.from_bytes(codec.VENDOR, "big")
        self.send(codec.encode(Type.ASYNC_INITIALIZE_RESPONSE, 0, vendor))

    def _not_opened(self) -> None:
        self._timer = None
        seconds = self.factory.options.open_timeout
        self._fatal(Fatal.INVALID_INITIALIZATION, f"no session was opened within {seconds:g} s")

    # What leaves

    def send(self, data: bytes) -> None:
        """Sends whole messages."""
        if not self._closed:
            if self.factory.log.debug_on:
                self.factory.log.sent(self.peer, data[:200])
            write_now(self.transport, data)

    def told_error(self, message: Message) -> None:
        """The client complains about something that it was sent."""
        text = codec.decode_text(message.payload)
        self.factory.log.refused(self.peer, f"error {message.control} from the client: {text}")

    # IPushProducer

    def pauseProducing(self) -> None:
        self.full = True

    def resumeProducing(self) -> None:
        self.full = False
        if self._closed:
            return
        if self._exchange is not None:
            self._exchange.writable()
        self.go_on()

    def stopProducing(self) -> None:
        """The transport is closed."""

    def _read(self, on: bool) -> None:
        if on != self._reading and not self._closed:
            self._reading = on
            if on:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    # The end

    def _fatal(self, code: int, text: str) -> None:
        self.factory.log.refused(self.peer, text)
        if self.session is not None:
            self.session.fatal(code, text)
        else:
            self.send(codec.encode_fatal(code, text))
            self.close()

    def close(self) -> None:
        """Closes after what has been sent; soon, even if the client does not take it."""
        if self._closed:
            return
        self._stop()
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._later(LAST_WORDS, self.transport.abortConnection)

    def _abort(self) -> None:
        if self.session is not None:
            self.session.end("an error of the server")
        self._stop()
        self.transport.abortConnection()

    def _stop(self) -> None:
        self._closed = True
        self._stop_timer()
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self._timer = self.factory.clock.callLater(seconds, act)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop()
        if self.session is not None:
            self.session.end("a connection has ended")
        if self.factory.log.debug_on:
            self.factory.log.disconnected(self.peer)


class HislipFactory(Factory):
    """What the connections of one listener share. `devices` are by sub-address, in lower case."""

    noisy = False

    def __init__(
        self, host: Host, common: ServeOptions, options: Options, devices: Mapping[str, str]
    ) -> None:
        self.host = host
        self.common = common
        self.options = options
        self.devices = devices
        self.clock: Any = host.reactor
        self.sessions: dict[int, HislipSession] = {}
        self.log = WireLog("hislip")
        self._number = 0
        self._hosts: set[Any] = set()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        protocol = HislipProtocol(self, addr)
        if self.log.debug_on or first_time(self._hosts, getattr(addr, "host", None)):
            self.log.connected(protocol.peer)
        return protocol

    def free_number(self) -> int | None:
        """A session id that is not in use, as long ago as can be."""
        if len(self.sessions) >= SESSIONS:
            return None
        while True:
            self._number = self._number % SESSIONS + 1
            if self._number not in self.sessions:
                return self._number

    def open(self, number: int, connection: HislipProtocol, name: str) -> HislipSession:
        """A session for the device of that sub-address; raises `UnknownName` if there is none."""
        path = self.find(name)
        if isinstance(self.common.devices, AllDevices):  # the others were checked at the start
            check_device(self.host, "hislip", path)
        session = self.host.open_session(
            "hislip",
            connection.peer,
            device=path,
            reach=self.common.reach,
            wait_for_locks=True,
            timeout=self.common.timeout,
        )
        opened = HislipSession(
            number, connection, session.channel(), self.options, self.clock, self._ended
        )
        self.sessions[number] = opened
        return opened

    def find(self, name: str) -> str:
        """The lab's path of the device at a sub-address; raises `UnknownName`."""
        known, devices = name.lower(), self.devices
        if isinstance(self.common.devices, AllDevices):  # they come and go
            devices = {name.lower(): path for name, path in self.common.devices.items()}
        if known in devices:
            return devices[known]
        if known in DEFAULT_NAMES:
            if DEFAULT_NAME in devices:
                return devices[DEFAULT_NAME]
            if len(devices) == 1:
                return next(iter(devices.values()))
        raise UnknownName(name or DEFAULT_NAME, devices, "sub-address")

    def _ended(self, session: HislipSession) -> None:
        self.sessions.pop(session.number, None)


def served_devices(host: Host, common: ServeOptions) -> dict[str, str]:
    """The devices of a listener by sub-address; raises a `LabError` where one cannot be served."""
    if common.device is not None:
        devices: Iterable[tuple[str, str]] = [(DEFAULT_NAME, common.device)]
    else:
        devices = common.devices.items()
    served = {}
    for name, path in devices:
        if len(name) > codec.SUB_ADDRESS_LIMIT:
            raise BadArguments(f"a sub-address has at most {codec.SUB_ADDRESS_LIMIT} characters")
        served[name.lower()] = check_device(host, "hislip", path).path
    if not served and not isinstance(common.devices, AllDevices):
        raise BadArguments("a hislip listener serves a device: device = NAME")
    return served


async def listen(
    host: Host, address: str, common: ServeOptions, options: Options, reactor: Any
) -> TcpListener:
    """Serves devices at `address`, a Twisted endpoint, each under its sub-address.

    The one device of a section is ``hislip0``. `CannotListen` if the address cannot be opened;
    other `LabError`s for a section that cannot be served.
    """
    factory = HislipFactory(host, common, options, served_devices(host, common))
    listener = await serve_tcp(factory, address, common, reactor)
    name = next(iter(factory.devices), DEFAULT_NAME)
    port = "" if listener.number == PORT else f",{listener.number}"
    listener.example = f"TCPIP::{listener.reachable}::{name}{port}::INSTR"
    return listener
