"""An instrument on a socket or a serial line that does what a test tells it to."""

from __future__ import annotations

import os
import select
import tty
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver
from twisted.trial.unittest import TestCase

Send = Callable[[bytes], None]


class Instrument:
    """What it answers: by message the answer, or a function that gets what sends bytes.

    Without an entry a question is answered with its own text.
    """

    def __init__(self) -> None:
        self.answers: dict[bytes, bytes | Callable[[Send], object]] = {
            b"*IDN?": b"Example,Scripted,S-1,1.0\n"
        }
        self.heard: list[bytes] = []
        self._waiting: list[tuple[bytes, Deferred[Send]]] = []

    def received(self, message: bytes, send: Send) -> None:
        """A message has come; `send` answers it."""
        self.heard.append(message)
        answer = self.answers.get(message, message + b"\n" if b"?" in message else b"")
        for wanted, waiting in list(self._waiting):
            if wanted == message:
                self._waiting.remove((wanted, waiting))
                waiting.callback(send)
                return
        if callable(answer):
            answer(send)
        elif answer:
            send(answer)

    def settle(self) -> None:
        """Returns when what was sent can be read at the other end."""

    def asked(self, message: bytes) -> Deferred[Send]:
        """Fires when this message has come, with what answers it: nothing else does."""
        waiting: Deferred[Send] = Deferred()
        self._waiting.append((message, waiting))
        return waiting


class _Connection(LineOnlyReceiver):
    delimiter = b"\n"
    MAX_LENGTH = 1 << 20

    def __init__(self, where: SocketInstrument) -> None:
        self.where = where

    def connectionMade(self) -> None:
        self.where.connections.append(self)

    def lineReceived(self, line: bytes) -> None:
        self.where.received(line, self.send)

    def send(self, data: bytes) -> None:
        """Sends at once: a test may rely on it that what it has sent is there."""
        transport: Any = self.transport
        transport.socket.send(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.where.connections.remove(self)
        if not self.where.connections:
            empty, self.where.empty = self.where.empty, []
            for waiting in empty:
                waiting.callback(None)


class SocketInstrument(Instrument):
    """On a TCP port of 127.0.0.1."""

    def __init__(self, test: TestCase, port: int = 0) -> None:
        super().__init__()
        self.connections: list[_Connection] = []
        self.empty: list[Deferred[None]] = []
        factory = Factory.forProtocol(lambda: _Connection(self))  # type: ignore[arg-type]
        factory.noisy = False
        self.listening: Any = reactor.listenTCP(  # type: ignore[attr-defined]
            port, factory, interface="127.0.0.1"
        )
        self.port: int = self.listening.getHost().port
        self.resource = f"TCPIP::127.0.0.1::{self.port}::SOCKET"
        test.addCleanup(self.stop)

    def cut(self) -> None:
        """Closes all connections."""
        for connection in list(self.connections):
            connection.transport.abortConnection()  # type: ignore[union-attr]

    async def stop(self) -> None:
        """Closes the port and all connections."""
        self.cut()
        await maybeDeferred(self.listening.stopListening)
        if self.connections:
            gone: Deferred[None] = Deferred()
            self.empty.append(gone)
            await gone


class SerialInstrument(Instrument, FileDescriptor):
    """At the far end of a pseudo terminal."""

    def __init__(self, test: TestCase) -> None:
        Instrument.__init__(self)
        FileDescriptor.__init__(self, reactor)  # type: ignore[arg-type]
        self._near, far = os.openpty()
        tty.setraw(self._near)
        tty.setraw(far)
        self._far = far  # kept open, so that closing the other end is no end
        self.resource = f"ASRL{os.ttyname(far)}::INSTR"
        os.set_blocking(self._near, False)
        self._partial = b""
        self.connected = 1
        self.startReading()
        test.addCleanup(self.stop)

    def fileno(self) -> int:
        return self._near

    def doRead(self) -> None:
        *lines, self._partial = (self._partial + os.read(self._near, 65536)).split(b"\n")
        for line in lines:
            self.received(line.rstrip(b"\r"), self.send)

    def send(self, data: bytes) -> None:
        os.write(self._near, data)

    def settle(self) -> None:
        select.select([self._far], (), (), 5.0)  # the terminal passes bytes on in its own time

    def unplug(self) -> None:
        """The near end is gone, and with it the line."""
        self.stopReading()
        os.close(self._near)
        self._near = -1

    def stop(self) -> None:
        """Closes both ends."""
        if self._near >= 0:
            self.unplug()
        os.close(self._far)
