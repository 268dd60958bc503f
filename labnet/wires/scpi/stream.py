"""A client's connection to an instrument on a raw TCP socket: what is sent, and who reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer

from labnet.errors import Cancelled
from labnet.transports.kept import ClientProtocol, no_answer
from labnet.transports.outflow import Outflow, Unit
from labnet.transports.prompt import USUAL_READ, read_as_much, write_now
from labnet.wires.scpi.codec import Reader, is_plain

MAX_UNREAD = 1 << 20
"""Bytes that are taken from the instrument while nobody reads; then the connection is held back."""


class ScpiClientProtocol(ClientProtocol):
    """One connection; one reader at a time. What comes while nobody reads is kept for the next."""

    def __init__(self, where: str, clock: Any, keepalive: bool = True) -> None:
        super().__init__(where, keepalive)
        self._clock = clock
        self._unread = bytearray()
        self._reader: Reader | None = None
        self._make: Callable[[], Reader] | None = None  # makes it when it is needed
        self._plain = b""  # the terminator of a response that needs none if it is plain
        self._waiting: Deferred[bytes | bytearray] | None = None
        self._silence = 0.0
        self._timer: IDelayedCall | None = None
        self._held_back = False
        self._large = False  # the last read was
        self._outflow: Outflow | None = None
        #: Answers of requests that timed out may still come.
        self.out_of_step = False

    def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        assert self.transport is not None
        write_now(self.transport, data)

    async def send_long(self, units: Iterator[Unit]) -> None:
        """Sends much, as the instrument takes it. Cancelling it ends the connection."""
        self._outflow = outflow = Outflow(self.transport, units)
        try:
            await outflow.begin()
        except BaseException:
            self.abort()  # in the middle of a message
            raise
        finally:
            self._outflow = None

    def drop_unread(self) -> None:
        """Throws away what has come and nobody has read."""
        if self._unread:
            self._unread.clear()
            self._hold_back()

    def read(
        self, make: Callable[[], Reader], silence: float = 0.0, plain: bytes = b""
    ) -> Deferred[bytes | bytearray]:
        """The next response by the reader that is made; with `silence` (seconds) it ends when
        nothing more comes. A short and simple one that ends with `plain` needs no reader.

        Fails with `NotConnected` if the connection ends first, and with what the reader raises,
        which ends the connection. Cancelling it leaves the rest of the response to come.
        """
        assert self._waiting is None, "one reader at a time"
        waiting: Deferred[bytes | bytearray] = Deferred(self._cancelled)
        self._make, self._plain, self._silence = make, plain, silence
        self._waiting = waiting
        if self.spent:
            self._fail(no_answer(self.where))
            return waiting
        if self._unread:
            data = bytes(self._unread)
            self.drop_unread()
            self._take(data)
        return waiting

    def _cancelled(self, _: object) -> None:
        self._reader = self._waiting = None
        self._stop_timer()
        self.out_of_step = True

    def dataReceived(self, data: bytes) -> None:
        size = len(data)
        if size >= USUAL_READ or self._large:
            self._large = read_as_much(self.transport, size)
        waiting = self._waiting
        if waiting is None:
            self._unread += data
            self._hold_back()
        elif self._plain and self._reader is None and is_plain(data, self._plain):
            self._waiting = None
            waiting.callback(data[: -len(self._plain)])
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        try:
            if self._reader is None:
                assert self._make is not None
                self._reader = self._make()
            used = self._reader.feed(data)
        except Exception as error:  # a LabError, or what the caller's `progress` raises
            self._fail(error)
            return
        if used is not None:
            if used < len(data):
                self._unread += data[used:]
            self._finish()
        elif self._silence and data:
            self._begin_timer()

    def _finish(self) -> None:
        assert self._reader is not None and self._waiting is not None
        result, waiting = self._reader.result, self._waiting
        self._reader = self._waiting = None
        self._stop_timer()
        waiting.callback(result)

    def _fail(self, error: Exception) -> None:
        waiting, self._waiting, self._reader = self._waiting, None, None
        self._stop_timer()
        self.abort()
        if self._outflow is not None:
            self._outflow.fail(error)
        if waiting is not None:
            waiting.errback(error)

    def clear(self) -> None:
        """Ends the connection; who waits for a response fails with `Cancelled`."""
        if not self.spent:
            self._fail(Cancelled(f"{self.where} was cleared"))

    def _begin_timer(self) -> None:
        if self._timer is not None:
            self._timer.reset(self._silence)
        else:
            self._timer = self._clock.callLater(self._silence, self._silent)

    def _silent(self) -> None:
        self._timer = None
        self._finish()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _hold_back(self) -> None:
        """Does not read on from an instrument that sends what nobody asks for."""
        full = len(self._unread) > MAX_UNREAD
        if full != self._held_back and IPushProducer.providedBy(self.transport):
            self._held_back = full
            if full:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    def ended(self) -> None:
        self._fail(no_answer(self.where))
