"""SCPI over a raw TCP socket: the server side of VISA SOCKET sessions, netcat and lxi-tools.

A program message ends with LF, a response leaves in one write with LF at its end, and a message
without a response is answered by silence (IEEE 488.2 section 7, SCPI-1999). Each connection has its
own header path, error queue and status registers; the settings are the device's. A device that
speaks a protocol of its own may have other ends of messages: see `labnet.framing.lines`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.python.failure import Failure

from labnet.errors import LabError
from labnet.framing.lines import Ending, Line, Splitter, parse_ending
from labnet.framing.program_message import MessageFault, Piece, ProgramMessageSplitter
from labnet.instrument.channel import MessageChannel
from labnet.instrument.serving import only_device
from labnet.keys import key
from labnet.lab import Host, ServeOptions
from labnet.transports.factory import WireFactory
from labnet.transports.ordered import OrderedProtocol
from labnet.transports.tcp import TcpListener, serve_tcp
from labnet.wires.scpi.control import HEADER, ControlPort

PORT = 5025
#: The error for a message beyond its bound, where not the splitter says so: input buffer overrun.
OVERRUN = -363


@dataclass(frozen=True)
class Options:
    """The keys of a ``[serve NAME]`` section with ``wire = scpi`` beyond the common ones."""

    terminator: str = key(
        "LF",
        "how messages end: LF (CR LF too), CRLF, CR, hex:<digits>, text:<characters>,"
        " count:<bytes> or silence:<seconds>; answers end with the same bytes",
    )
    max_message: int = key(
        1 << 20, "longest message without its blocks", "bytes", (64, 1 << 30)
    )
    max_block: int = key(1 << 26, "longest data block in a message", "bytes", (0, 1 << 40))
    string_timeout: float = key(
        1.0, "time after which a string without its closing quote is given up", "s", (0.01, 3600)
    )
    control: bool = key(
        False,
        "offer a control connection for device clear and service requests"
        " (SYSTem:COMMunicate:TCPip:CONTrol?)",
    )


Message = Piece | Line


class ScpiProtocol(OrderedProtocol[Message]):
    """One client's connection."""

    def __init__(self, factory: ScpiFactory, peer: IAddress | None) -> None:
        super().__init__(factory.host.reactor, peer)
        self.factory: ScpiFactory = factory
        self._channel: MessageChannel | None = None
        self._control: ControlPort | None = None
        self._wire_log = factory.log
        self._terminator = factory.ending.terminator
        self._timer: IDelayedCall | None = None
        self._program: ProgramMessageSplitter | None = None
        self._lines: Splitter | None = None
        if factory.ending.terminator == b"\n":
            self._program = ProgramMessageSplitter(
                text_limit=factory.options.max_message, block_limit=factory.options.max_block
            )
        else:
            self._lines = factory.ending.splitter(factory.options.max_message)

    # Messages

    def split(self, data: bytes) -> Iterable[Message]:
        if self._program is not None:
            pieces = self._program.feed(data)
            self._watch(self.factory.options.string_timeout, self._program.waits_in_string)
            return pieces
        assert self._lines is not None
        lines = self._lines.feed(data)
        self._watch(self.factory.ending.silence, self._lines.pending > 0)
        return lines

    def begin(self, message: Message) -> bytes | Deferred[bytes]:
        channel = self._channel
        if channel is None:
            try:
                channel = self.channel
            except LabError as error:
                self._wire_log.refused(self.peer, str(error))
                self.finish()
                return b""
        if message.__class__ is bytes or isinstance(message, bytes | bytearray):
            if self._wire_log.debug_on:
                self._wire_log.received(self.peer, bytes(message[:200]))
            answer = channel.answer(message, None, self._terminator)
            if answer.__class__ is bytes:
                return answer
            return answer.addErrback(self._not_executed)  # type: ignore[union-attr]
        if isinstance(message, MessageFault):
            channel.error(message.number, message.detail)
        else:
            channel.error(OVERRUN, f"message longer than {self.factory.options.max_message} bytes")
        return b""

    def _not_executed(self, failure: Failure) -> bytes:
        failure.trap(LabError, CancelledError)
        return b""

    def sent(self, data: bytes) -> None:
        if self._wire_log.debug_on:
            self._wire_log.sent(self.peer, data)

    @property
    def channel(self) -> MessageChannel:
        """The session's channel to the device; raises `UnknownName` when the device has gone."""
        if self._channel is None:
            factory = self.factory
            session = factory.host.open_session(
                "scpi",
                self.peer,
                device=factory.device,
                reach=factory.common.reach,
                timeout=factory.common.timeout,
            )
            self._channel = session.channel()
            if factory.options.control:
                self._offer_control(self._channel)
        return self._channel

    # Time

    def _watch(self, seconds: float, wanted: bool) -> None:
        """A timer for what silence ends, begun anew with each read."""
        timer = self._timer
        if timer is not None and timer.active():
            if wanted:
                timer.reset(seconds)
            else:
                timer.cancel()
                self._timer = None
        elif wanted:
            self._timer = self._clock.callLater(seconds, self._silent)

    def _silent(self) -> None:
        self._timer = None
        if self._program is not None:
            self.arrived([self._program.give_up_string()])
        elif self._lines is not None:
            self.arrived(self._lines.end())

    # The control connection

    def _offer_control(self, channel: MessageChannel) -> None:
        define = getattr(channel, "define", None)
        if define is not None:
            define(f"{HEADER}?", self._control_port)
            channel.on_service_request(self._service_requested)

    def _control_port(self) -> int:
        if self._control is None:
            host = getattr(self._peer, "host", "127.0.0.1")
            assert self.transport is not None
            here: Any = self.transport.getHost()
            interface = getattr(here, "host", "127.0.0.1")
            reactor = self.factory.host.reactor
            self._control = ControlPort(reactor, interface, host, self.clear)
        return self._control.number

    def _service_requested(self, status_byte: int) -> None:
        if self._control is not None:
            self._control.service_requested(status_byte)

    def clear(self) -> None:
        """Device clear: what has come and is not carried out, and what is not sent, is dropped."""
        if self._program is not None:
            self._program.clear()
        if self._lines is not None:
            self._lines.clear()
        self._watch(0.0, False)
        self.forget()
        if self._channel is not None:
            self._channel.clear()

    # The end

    def readConnectionLost(self) -> None:
        """A message that only silence would end is complete now."""
        if self._lines is not None and self.factory.ending.silence and self._lines.pending:
            self._watch(0.0, False)
            self.arrived(self._lines.end())
        super().readConnectionLost()

    def ended(self) -> None:
        self._watch(0.0, False)
        if self._control is not None:
            self._control.close()
        if self._channel is not None:
            self._channel.session.close("the connection has ended")
        if self.factory.log.debug_on:
            self.factory.log.disconnected(self.peer)


class ScpiFactory(WireFactory):
    """What the connections of one listener share."""

    def __init__(self, host: Host, common: ServeOptions, options: Options, device: str) -> None:
        super().__init__("scpi")
        self.host = host
        self.common = common
        self.options = options
        self.device = device
        self.ending: Ending = parse_ending(options.terminator)

    def connection(self, peer: IAddress | None) -> ScpiProtocol:
        return ScpiProtocol(self, peer)


async def listen(
    host: Host, address: str, common: ServeOptions, options: Options, reactor: Any
) -> TcpListener:
    """Serves one device at `address`, a Twisted endpoint.

    `CannotListen` if that cannot be opened; other `LabError`s, or ValueError, for a section that
    cannot be served.
    """
    device = only_device(host, "scpi", common)
    factory = ScpiFactory(host, common, options, device.path)
    listener = await serve_tcp(factory, address, common, reactor)
    number = listener.number or PORT
    listener.example = f"printf '*IDN?\\n' | nc -q 1 {listener.reachable} {number}"
    return listener
