"""A client's message to an instrument and the response to it: pieces out, parts in.

By callbacks throughout: a coroutine for each call would make a query take half as long again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred

from labnet.errors import DeviceFault, TooLarge
from labnet.framing.blocks import find_block
from labnet.framing.xdr import XdrError, XdrReader
from labnet.transports.asking import Progress
from labnet.wires.vxi11 import codec
from labnet.wires.vxi11.linked import READ_SIZE, LinkedDevice

Buffer = bytes | memoryview

WHOLE = 64 * 1024
"""Bytes of a message up to which it is sent in one part, copied; beyond, parts are not joined."""


class Exchange:
    """One message, one response, or both; each instance does one of these once.

    `left` gives the seconds that are left, which each call is told. `done` fires with the response
    (an empty one after `send`); cancelling it gives up the call in progress. With `together` a
    message of one piece and the first read of its response leave at once.
    """

    def __init__(
        self,
        linked: LinkedDevice,
        left: Callable[[], float],
        lock_timeout: float,
        longest: int,
        progress: Progress | None = None,
        together: bool = False,
    ) -> None:
        self.done: Deferred[bytearray] = Deferred(self._give_up)
        self._linked = linked
        self._left = left
        self._lock_timeout = lock_timeout
        self._longest = longest
        self._progress = progress
        self._together = together
        self._parts: Sequence[Buffer] = ()
        self._at = 0  # bytes of the message that have been taken
        self._sent = 0  # bytes of the piece that is on its way
        self._size = 0
        self._written = True  # the message, if there is one
        self._reading = False
        self._response = bytearray()
        self._given_up = False
        self._error: Exception | None = None

    def send(self, *parts: bytes) -> Deferred[bytearray]:
        """Sends a message, `parts` joined: in pieces that the instrument takes, END on the last."""
        self._size = size = sum(map(len, parts))
        self._written = False
        self._parts = [b"".join(parts)] if size <= WHOLE else [memoryview(it) for it in parts]
        self._write()
        return self.done

    def ask(self, *parts: bytes) -> Deferred[bytearray]:
        """Sends a message and reads the response."""
        self._reading = True
        return self.send(*parts)

    def receive(self) -> Deferred[bytearray]:
        """Reads the response to what was sent before."""
        self._reading = True
        self._read()
        return self.done

    def _give_up(self, _: object) -> None:
        self._given_up = True

    # What the connection tells

    def replied(self, results: XdrReader) -> None:
        """The results of the call in progress."""
        if self._given_up:
            return
        try:
            if self._error is not None:
                raise self._error
            if self._written:
                self._given(results)
            else:
                self._was_written(results)
        except Exception as error:
            if self._together and not self._written:
                self._written, self._error = True, error  # told when the read is answered, too
            else:
                self.failed(error)

    def failed(self, error: Exception) -> None:
        """The exchange has failed."""
        if not self.done.called:
            self.done.errback(error)

    # The message

    def _write(self) -> None:
        linked = self._linked
        whole = not self._at and self._size <= linked.piece
        piece = self._parts if whole else self._piece()
        size = self._size if whole else sum(map(len, piece))
        last = self._at + size == self._size
        self._sent = size
        together = self._together = self._together and self._reading and whole
        left = self._left()
        linked.begin_write(self, piece, size, left, self._lock_timeout, last, together)
        if together:
            linked.begin_read(self, left, self._lock_timeout)

    def _piece(self) -> list[Buffer]:
        """What is sent next, an empty message as well."""
        start, room = self._at, self._linked.piece
        piece = []
        for part in self._parts:
            if start < len(part) and room:
                piece.append(part[start : start + room])
                room -= len(piece[-1])
            start = max(0, start - len(part))
        return piece

    def _was_written(self, results: XdrReader) -> None:
        taken, size = self._linked.outcome(results, "writing"), self._sent
        if size and not 0 < taken <= size:
            raise DeviceFault(f"{self._linked.where} took {taken} of {size} bytes")
        self._at += min(taken, size)
        if self._progress is not None and not self._reading:
            self._progress(self._at, self._size)
        self._written = self._at == self._size
        if not self._written:
            if self._together:
                raise DeviceFault(f"{self._linked.where} took {taken} of {size} bytes")
            self._write()
        elif self._reading:
            if not self._together:
                self._read()
        else:
            self.done.callback(self._response)

    # The response

    def _read(self) -> None:
        self._linked.begin_read(self, self._left(), self._lock_timeout)

    def _given(self, results: XdrReader) -> None:
        linked, response = self._linked, self._response
        reason = linked.outcome(results, "reading")
        try:
            response += results.view(READ_SIZE)
        except XdrError as error:
            raise DeviceFault(f"{linked.where}: {error}") from None
        if len(response) > self._longest:
            linked.out_of_step = True
            raise TooLarge(f"a response of more than {self._longest} bytes from {linked.where}")
        if self._progress is not None:
            tell(self._progress, response)
        if reason & (codec.REASON_END | codec.REASON_CHR):
            linked.out_of_step = False
            self.done.callback(response)
        else:
            self._read()


def tell(progress: Progress, response: bytearray) -> None:
    """Says how much of the block in a response has come, as soon as its length is known."""
    found = find_block(response)
    if found is not None and found[1] >= 0:
        start, length = found
        progress(min(len(response) - start, length), length)

