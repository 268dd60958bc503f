"""VICP, the server side: what LeCroy's own programs and PyVISA with pyvicp talk to.

Each message goes to the device as a whole and its answer comes back under its number. A message of
a client whose device is locked by another waits. The protocol has no words for an error: what goes
wrong is in the error queue, and a header that cannot be understood ends the connection.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.python.failure import Failure

from labnet.errors import LabError
from labnet.instrument.channel import MessageChannel
from labnet.instrument.serving import only_device
from labnet.keys import key
from labnet.lab import Host, ServeOptions
from labnet.transports.factory import WireFactory
from labnet.transports.ordered import STREAM_FROM, OrderedProtocol
from labnet.transports.tcp import TcpListener, serve_tcp
from labnet.wires.vicp import codec
from labnet.wires.vicp.codec import Block, BlockSplitter, Letter, Malformed

PORT = 1861
FLUSH = 0.5
"""Seconds that the last answer of a listener that stops may take to leave."""


@dataclass(frozen=True)
class Options:
    """The keys of a ``[serve NAME]`` section with ``wire = vicp`` beyond the common ones."""

    max_message: int = key(
        1 << 30, "longest message, with its blocks", "bytes", (64, (1 << 32) - 1)
    )


class Program(NamedTuple):
    """A whole message and the number of the block that ended it."""

    sequence: int
    message: bytes | bytearray


class Clear(NamedTuple):
    """A device clear."""


class Poll(NamedTuple):
    """A question for the status byte; `urgent` if it came, and is answered, out of band."""

    sequence: int
    urgent: bool = False


Message = Program | Clear | Poll | Malformed


class VicpProtocol(OrderedProtocol[Message]):
    """One client's connection.

    Device clears and polls are obeyed in their place among the messages, but overtake one that
    waits for something. `remote` and `lockout` are what the client has asked for.
    """

    def __init__(self, factory: VicpFactory, peer: IAddress | None) -> None:
        super().__init__(factory.host.reactor, peer)
        self.factory: VicpFactory = factory
        self.remote = False
        self.lockout = False
        self._channel: MessageChannel | None = None
        self._splitter = BlockSplitter(factory.options.max_message, letters=True)
        self._input = bytearray()
        self._sequence = 0  # of the last message, or part of one, that has come
        self._overtaking = 0  # clears and polls among the messages
        self._polling = False
        self._withdrawn = False  # the request for service, by a poll that is being answered
        self._last_answer = False  # one is on its way although the listener stops
        self._half_closed = False
        self._flushing: IDelayedCall | None = None

    def connectionMade(self) -> None:
        urgent_data_in_line(self.transport)
        super().connectionMade()

    # What arrives

    def split(self, data: bytes) -> Iterator[Message]:
        for item in self._splitter.feed(data):
            for message in self._messages_of(item):
                if self._last:
                    return
                if isinstance(message, Program):
                    yield message
                elif self._busy:
                    self._overtake(message)
                else:
                    self._overtaking += 1
                    yield message

    def _messages_of(self, item: Block | Letter | Malformed) -> Iterator[Message]:
        if isinstance(item, Letter):
            if item.code == codec.STATUS_LETTER:
                yield Poll(0, urgent=True)
            return
        if isinstance(item, Malformed):
            yield item
            return
        operation = item.operation
        if operation & codec.CLEAR:
            self._input = bytearray()
            yield Clear()
        if operation & codec.SERIAL_POLL:
            yield Poll(item.sequence)
        if operation & (codec.REMOTE | codec.LOCKOUT) or not operation & ~codec.EOI:
            self.remote = bool(operation & codec.REMOTE)
            self.lockout = bool(operation & codec.LOCKOUT)
        if operation & codec.DATA:
            yield from self._joined(item)

    def _joined(self, block: Block) -> Iterator[Message]:
        """The message that a DATA block ends, if it ends one."""
        self._sequence = block.sequence
        held = self._input
        if len(held) + len(block.data) > self.factory.options.max_message:
            yield Malformed(f"a message of more than {self.factory.options.max_message} bytes")
        elif not block.operation & codec.EOI:
            held += block.data
        elif held:
            held += block.data
            self._input = bytearray()
            yield Program(block.sequence, held)
        elif block.data:
            yield Program(block.sequence, block.data)

    def begin(self, message: Message) -> bytes | Deferred[bytes]:
        if not isinstance(message, Program):
            self._overtaking -= 1
            self._act(message)
            return b""
        try:
            channel = self.channel
        except LabError as error:
            self._drop(str(error))
            return b""
        if self.factory.log.debug_on:
            self.factory.log.received(self.peer, bytes(message.message[:200]))
        done = channel.execute(message.message, None, b"\n")
        if done.called and not done.paused and isinstance(done.result, bytes):
            return self._answer(done.result, message.sequence)
        return done.addErrback(self._not_executed).addCallback(self._answer, message.sequence)

    def _not_executed(self, failure: Failure) -> bytes:
        failure.trap(LabError, CancelledError)
        return b""

    # Clears and polls

    def _await(self, answer: Deferred[Any]) -> None:
        super()._await(answer)
        while self._overtaking and self._busy:
            self._overtake_next()

    def _overtake_next(self) -> None:
        """Obeys the first clear or poll behind a message that waits."""
        message = next(item for item in self._messages if not isinstance(item, Program))
        self._overtaking -= 1
        if isinstance(message, Poll):
            self._messages.remove(message)
        else:
            while self._messages.popleft() is not message:
                pass
        self._act(message)

    def _overtake(self, message: Message) -> None:
        """A clear or a poll has come behind messages that wait."""
        if not isinstance(message, Poll):
            self._messages.clear()
            self._overtaking = 0
        self._act(message)

    def _act(self, message: Message) -> None:
        if isinstance(message, Clear):
            self._clear()
        elif isinstance(message, Poll):
            self._poll(message)
        elif isinstance(message, Malformed):
            self._drop(message.reason)

    def _clear(self) -> None:
        """Device clear: what is being carried out or sent is dropped."""
        self._send()
        self._replies.clear()
        self._streaming = False
        if self._channel is not None:
            self._channel.clear()

    def _poll(self, poll: Poll) -> None:
        self._polling = True
        try:
            status = self.channel.status_byte()
        except LabError as error:
            self._drop(str(error))
            return
        finally:
            self._polling = False
        status.addCallback(self._polled, poll).addErrback(self._not_polled)

    def _polled(self, status: int, poll: Poll) -> None:
        if poll.urgent:
            send_urgent(self.transport, status)
        else:
            self._say(codec.encode_block(codec.DATA | codec.EOI, poll.sequence, bytes([status])))
        if self._withdrawn:
            self._withdrawn = False
            self._say_service(b"0")

    def _not_polled(self, failure: Failure) -> None:
        failure.trap(LabError, CancelledError)

    def _service_requested(self, status_byte: int) -> None:
        self._say_service(b"1")

    def _service_ended(self) -> None:
        if self._polling:
            self._withdrawn = True  # told behind the status byte
        else:
            self._say_service(b"0")

    def _say_service(self, state: bytes) -> None:
        operation = codec.DATA | codec.SRQ | codec.EOI
        self._say(codec.encode_block(operation, self._sequence, state))

    # What leaves

    def _say(self, block: bytes) -> None:
        """Sends a block between two others."""
        if not self._closed:
            self._replies.append(block)
            self._send()

    def _answer(self, response: bytes, sequence: int) -> bytes | Deferred[bytes]:
        if len(response) > STREAM_FROM and not self._closed:
            return self._stream(codec.encode_answer(sequence, response))
        return b"".join(codec.encode_answer(sequence, response)) if response else b""

    def _stream(self, blocks: Iterator[bytes]) -> bytes | Deferred[bytes]:
        """Sends blocks as the client takes them, without a copy of them all."""
        self._send()
        sent: Deferred[bytes] = Deferred()
        busy, self._busy = self._busy, True  # nothing else begins meanwhile
        self._streaming = True
        self._paced().stream(self._until_cleared(blocks, sent))
        self._busy = busy
        return b"" if sent.called else sent

    def _until_cleared(self, blocks: Iterator[bytes], sent: Deferred[bytes]) -> Iterator[bytes]:
        for block in blocks:
            if not self._streaming:
                break
            yield block
        self._streaming = False
        sent.callback(b"")

    def _write(self, data: bytes) -> None:
        """All at once: what is sent piece by piece must be cut between blocks."""
        self._paced().write(data)

    def sent(self, data: bytes) -> None:
        log = self.factory.log
        if log.debug_on:
            log.sent(self.peer, data)

    # The session

    @property
    def channel(self) -> MessageChannel:
        """The session's channel to the device; raises `UnknownName` when the device has gone."""
        if self._channel is None:
            factory = self.factory
            session = factory.host.open_session(
                "vicp",
                self.peer,
                device=factory.device,
                wait_for_locks=True,
                timeout=factory.common.timeout,
            )
            self._channel = session.channel()
            self._channel.on_service_request(self._service_requested, self._service_ended)
        return self._channel

    def readConnectionLost(self) -> None:
        self._half_closed = True
        super().readConnectionLost()

    def wind_up(self) -> None:
        """The listener stops: what is being carried out is answered, then the connection ends."""
        self._last_answer = self._busy
        super().wind_up()

    def _close(self) -> None:
        """By a reset, unless the client has said that it is done.

        pyvicp reads for ever, at full speed, from a connection that has been closed in order; a
        reset is what it notices.
        """
        if self._half_closed:
            super()._close()
        elif not self._closed and self._last_answer:
            self._closed = True
            self._flushing = self._clock.callLater(FLUSH, self.abort)
        elif not self._closed:
            self.abort()

    def _drop(self, reason: str) -> None:
        self.factory.log.refused(self.peer, reason)
        self._send()
        self.abort()

    def abort(self) -> None:
        """Ends the connection by a reset; what has not left is lost."""
        transport: Any = self.transport
        self._closed = self._last = True
        self._flushing = None
        self._messages.clear()
        self._overtaking = 0
        if self._pace is not None:
            self._pace.stop()
        transport.abortConnection()

    def ended(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
        if self._channel is not None:
            self._channel.session.close("the connection has ended")
        if self.factory.log.debug_on:
            self.factory.log.disconnected(self.peer)


def urgent_data_in_line(transport: Any) -> None:
    """Leaves TCP urgent data in its place in the stream; else the system keeps it apart."""
    handle = _socket_of(transport)
    if handle is not None:
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)


def send_urgent(transport: Any, byte: int) -> None:
    """Sends one byte as TCP urgent data, past what the transport has yet to send."""
    handle = _socket_of(transport)
    if handle is not None:
        try:
            handle.send(bytes([byte]), socket.MSG_OOB)
        except OSError:
            pass  # full or broken: the client asks again, or the reactor meets the same error


def _socket_of(transport: Any) -> socket.socket | None:
    """The socket of a plain TCP transport."""
    handle = getattr(transport, "getHandle", lambda: None)()
    is_tcp = getattr(handle, "family", None) in (socket.AF_INET, socket.AF_INET6)
    return handle if is_tcp else None


class VicpFactory(WireFactory):
    """What the connections of one listener share."""

    def __init__(self, host: Host, common: ServeOptions, options: Options, device: str) -> None:
        super().__init__("vicp")
        self.host = host
        self.common = common
        self.options = options
        self.device = device

    def connection(self, peer: IAddress | None) -> VicpProtocol:
        return VicpProtocol(self, peer)


async def listen(
    host: Host, address: str, common: ServeOptions, options: Options, reactor: Any
) -> TcpListener:
    """Serves one device at `address`, a Twisted endpoint.

    `CannotListen` if that cannot be opened; other `LabError`s for a section that cannot be served.
    """
    device = only_device(host, "vicp", common)
    factory = VicpFactory(host, common, options, device.path)
    listener = await serve_tcp(factory, address, common, reactor)
    shown = "" if listener.number == PORT else f",{listener.number}"
    listener.example = f"VICP::{listener.reachable}{shown}::INSTR"
    return listener
