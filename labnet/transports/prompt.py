"""Answers that leave at once, and output that stays bounded.

Twisted's `transport.write` puts bytes aside and asks the reactor for a turn to send them: one more
turn of the loop and two more system calls an answer. `write_now` offers them to the socket first.
`Pace` is the other half of a good neighbour: so many messages of one connection a turn, and none
while the peer does not take its answers.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import cast

from twisted.internet import tcp
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from labnet.logs import Logger

LARGE = 64 * 1024
"""From this size on (bytes) copying what the socket did not take costs more than a turn."""

USUAL_READ = tcp.Connection.bufferSize
SMALL_READ = 4 * 1024
LARGEST_READ = 1024 * 1024
MESSAGES_A_TURN = 64
OUTPUT_LIMIT = 16 * 1024 * 1024
INPUT_LIMIT = 64 * 1024
STREAMED_A_TURN = 1024 * 1024
QUEUED = 2 * USUAL_READ
"""Bytes that are left to the transport when the socket is full: so many that it asks for more."""

Buffer = bytes | memoryview

_DONE = Failure(ConnectionDone())


def _is_plain_tcp(kind: type) -> bool:
    """Is this Twisted's own TCP transport, with its own way of sending?"""
    return (
        issubclass(kind, tcp.Connection)
        and kind.writeSomeData is tcp.Connection.writeSomeData
        and kind.write is tcp.Connection.write
    )


class _Kinds(dict[type, bool]):
    """Transport class to whether it may be written to at once; filled as classes are met."""

    def __missing__(self, kind: type) -> bool:
        answer = self[kind] = _is_plain_tcp(kind)
        return answer


_plain_tcp = _Kinds()


def write_now(transport: ITransport, data: Buffer) -> None:
    """Send `data` on a TCP transport that has nothing queued; else, or for the rest, `write` it.

    A connection found broken here is not reported from here: the same `data` is queued, the
    reactor meets the same error in its next turn and calls `connectionLost` from there, so a
    protocol never loses its connection inside its own `dataReceived`.
    """
    if len(data) < LARGE:
        data = _offer(transport, data)
        if not data:
            return
    transport.write(bytes(data))


def write_parts_now(transport: ITransport, parts: Sequence[Buffer]) -> None:
    """`write_now` of `parts` joined, of which long ones are not copied if the socket takes them."""
    if len(parts) > 1 and sum(map(len, parts)) >= LARGE:
        parts = _offer_parts(transport, parts)
        if not parts:
            return
    write_now(transport, b"".join(parts))


def _offer_parts(transport: ITransport, parts: Sequence[Buffer]) -> Sequence[Buffer]:
    """What is left of `parts` when the socket has taken what it takes at once."""
    if not _plain_tcp[type(transport)] or not _idle(cast(tcp.Connection, transport)):
        return parts
    left = deque(memoryview(part) for part in parts)
    try:
        while left:
            sent = cast(tcp.Connection, transport).socket.sendmsg(left)
            while left and sent >= len(left[0]):
                sent -= len(left.popleft())
            if sent:
                left[0] = left[0][sent:]
    except OSError:
        pass  # full, or broken: the reactor finds out with what is left
    return list(left)


def _offer(transport: ITransport, data: Buffer) -> Buffer:
    """What is left of `data` when the socket has taken what it takes at once."""
    if _plain_tcp[type(transport)]:
        plain = cast(tcp.Connection, transport)
        if _idle(plain):
            sent = plain.writeSomeData(cast(bytes, data))
            if isinstance(sent, int) and sent > 0:
                return data[sent:]
    return data


def _idle(transport: tcp.Connection) -> bool:
    """Nothing queued, nobody closing, and no pull producer that waits to be asked for more."""
    return bool(
        transport.connected
        and not transport._tempDataBuffer
        and not transport.dataBuffer
        and not transport.disconnecting
        and not transport._writeDisconnecting
        and not transport._aborting
        and not transport.TLS
        and (transport.producer is None or transport.streamingProducer)
    )


def read_now(transport: ITransport) -> None:
    """Take what has arrived on a TCP transport, in this turn; for `connectionMade`.

    A client that connects for each request has often sent it by the time it is accepted: reading at
    once saves the reactor a turn. The end of the stream is left to the reactor.
    """
    if _plain_tcp[type(transport)]:
        cast(tcp.Connection, transport).doRead()


def read_as_much(transport: ITransport | None, size: int) -> bool:
    """Lets a TCP transport read more at once from a full read to a small one; whether it does.

    For `dataReceived` with the bytes received: reads of `USUAL_READ` make a block of megabytes
    cost several hundred turns.
    """
    if transport is None or not _plain_tcp[type(transport)]:
        return False
    plain = cast(tcp.Connection, transport)
    if size >= USUAL_READ:
        plain.bufferSize = LARGEST_READ
    elif size < SMALL_READ:
        plain.bufferSize = USUAL_READ
    return plain.bufferSize > USUAL_READ


def close_now(transport: ITransport) -> None:
    """Close a TCP transport that has nothing queued, in this turn; else `loseConnection`.

    For `IHalfCloseableProtocol.readConnectionLost` of a protocol that has nothing left to answer:
    Twisted does just this for a protocol without that interface, while `loseConnection` would cost
    another turn and an empty `send`. The protocol's `connectionLost` is called from here.
    """
    if _plain_tcp[type(transport)]:
        plain = cast(tcp.Connection, transport)
        if _idle(plain):
            plain.connectionLost(_DONE)
            return
    transport.loseConnection()


def was_reset(transport: ITransport) -> bool:
    """Whether the peer of a TCP transport has refused what was sent to it.

    For a protocol that has heard the end of the stream: the reactor, which reads no more, would
    notice only with the next write.
    """
    if not _plain_tcp[type(transport)]:
        return False
    plain = cast(tcp.Connection, transport)
    return bool(plain.connected and plain.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))


@implementer(IPushProducer)
class Pace:
    """Paces one connection's input by turns of the reactor and by what the peer takes.

    `handle(budget)` is the protocol's: it handles at most `budget` of the complete messages that
    have been received and says whether it left any. A protocol makes a `Pace` in `connectionMade`
    and then

    - calls `received(len(data))` at the end of `dataReceived`, instead of handling messages there;
    - writes through `write`;
    - calls `hold` when the next message must wait for an answer, and `release` when it need not;
    - sends a long answer by `stream`;
    - closes by `close`, and calls `stop` in `connectionLost`.

    Reading stops while messages wait for a further turn, while the transport's buffer is full, and
    while more than `INPUT_LIMIT` bytes have come during a `hold`. (During a hold it goes on until
    then, so that the end of the connection is noticed.) A peer for which more than `output_limit`
    bytes are written while it takes none is dropped.
    """

    _log = Logger()

    def __init__(
        self,
        transport: ITransport,
        handle: Callable[[int], bool],
        clock: IReactorTime,
        *,
        budget: int = MESSAGES_A_TURN,
        output_limit: int = OUTPUT_LIMIT,
    ) -> None:
        self._transport = transport
        self._handle = handle
        self._clock = clock
        self._budget = budget
        self._output_limit = output_limit
        self._full = False  # the transport's buffer is
        self._held = 0
        self._handling = False
        self._due: IDelayedCall | None = None
        self._reading = True
        self._stopped = False
        self._waiting_out = 0
        self._waiting_in = 0
        self._pieces: Iterator[Buffer] | None = None
        self._rest: Buffer = b""  # of the last piece
        transport.registerProducer(self, True)  # type: ignore[attr-defined]

    # What the protocol calls.

    def received(self, size: int = 0) -> None:
        """`size` more bytes are in the protocol's buffer; handle what is complete."""
        if self._held or self._full or self._due:
            self._waiting_in += size
            if self._waiting_in > INPUT_LIMIT:
                self._read(False)
        else:
            self._turn()

    def write(self, data: bytes) -> None:
        """Send `data` at once if possible."""
        if self._full:
            self._count(len(data))
        if not self._stopped:
            write_now(self._transport, data)

    def hold(self) -> None:
        """Handle no further message until as many calls of `release`."""
        self._held += 1

    def release(self) -> None:
        """The end of a `hold`; messages that have come meanwhile are handled now."""
        self._held -= 1
        self._resume()

    @property
    def held(self) -> bool:
        """May `handle` not go on to the next message?"""
        return bool(self._held or self._full or self._stopped)

    def stream(self, pieces: Iterator[Buffer]) -> None:
        """Send `pieces` as the peer takes them, at most some 1 MiB a turn; then go on.

        Messages are held meanwhile. The iterator is closed if the connection ends first.
        """
        if self._pieces is not None:
            raise RuntimeError("a long answer is already being sent on this connection")
        self._held += 1
        self._pieces = pieces
        self._send_pieces()

    def close(self) -> None:
        """Close the connection when what has been written is sent; handle nothing more."""
        self.stop()
        _forget_producer(self._transport)
        self._transport.loseConnection()

    def stop(self) -> None:
        """The connection is gone or closing: handle and send nothing more."""
        self._stopped = True
        if self._due is not None:
            self._due.cancel()
            self._due = None
        pieces, self._pieces = self._pieces, None
        close = getattr(pieces, "close", None)
        if close is not None:
            close()

    # What the transport calls (IPushProducer).

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self._full = True
        self._waiting_out = 0
        self._read(False)

    def resumeProducing(self) -> None:
        """The transport's buffer is empty again."""
        self._full = False
        if getattr(self._transport, "disconnecting", False):
            _forget_producer(self._transport)  # a closing transport waits for its producer's end
        elif self._pieces is not None:
            if self._due is None:
                self._send_pieces()
        else:
            self._resume()

    def stopProducing(self) -> None:
        """The transport is closed."""
        self.stop()

    # The rest is between these.

    def _turn(self) -> None:
        if self._handling or self._stopped:
            return
        self._handling = True
        try:
            more = self._handle(self._budget)
        except Exception:
            self._fail()
            return
        finally:
            self._handling = False
        if more and not self.held:
            self._read(False)
            self._later(self._resume)
        else:
            self._read(not self._full)

    def _later(self, step: Callable[[], None]) -> None:
        if self._due is None:
            self._due = self._clock.callLater(0, self._now, step)

    def _now(self, step: Callable[[], None]) -> None:
        self._due = None
        step()

    def _resume(self) -> None:
        # A release from inside `handle` needs nothing: the loop there goes on by itself.
        if not (self.held or self._due or self._handling):
            self._waiting_in = 0
            self._turn()

    def _read(self, on: bool) -> None:
        if on == self._reading or self._stopped:
            return
        if getattr(self._transport, "disconnecting", False):
            return
        self._reading = on
        producer = cast(IPushProducer, self._transport)
        if on:
            producer.resumeProducing()
        else:
            producer.pauseProducing()

    def _count(self, size: int) -> None:
        self._waiting_out += size
        if self._waiting_out > self._output_limit and not self._stopped:
            self._log.warn(
                "{peer} does not take its answers: {size} bytes wait; connection dropped",
                peer=self._transport.getPeer(),
                size=self._waiting_out,
            )
            self._abort()

    def _fail(self) -> None:
        self._log.failure("{peer}: connection dropped", peer=self._transport.getPeer())
        self._abort()

    def _abort(self) -> None:
        self.stop()
        self._transport.abortConnection()  # type: ignore[attr-defined]

    def _send_pieces(self) -> None:
        size = 0
        try:
            while self._pieces is not None and not self._full:
                if size >= STREAMED_A_TURN:
                    self._later(self._send_pieces)
                    return
                piece = self._rest or next(self._pieces, None)
                if piece is None:
                    self._pieces = None
                    self.release()
                    return
                size += self._send_piece(piece)
        except Exception:
            self._fail()

    def _send_piece(self, piece: Buffer) -> int:
        """Sends what the socket takes, queues some more, keeps the rest; bytes that have gone."""
        left = _offer_parts(self._transport, [piece])
        rest = memoryview(left[0]) if left else memoryview(b"")
        if len(rest):
            self._transport.write(bytes(rest[:QUEUED]))
        self._rest = rest[QUEUED:]
        return len(piece) - len(self._rest)


def _forget_producer(transport: ITransport) -> None:
    try:
        transport.unregisterProducer()  # type: ignore[attr-defined]
    except RuntimeError:
        pass  # some transports mind when there is none
