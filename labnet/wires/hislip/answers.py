"""Answers that come to a HiSLIP client, and who reads them (IVI-6.1 section 3).

In synchronized mode an answer has the number of the message that it answers, and what has another
number is dropped. In overlap mode answers come in the order of their messages, numbered by the
server, and none is dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from labnet.errors import Cancelled, TooLarge
from labnet.framing.blocks import find_block
from labnet.framing.gathering import Gathered
from labnet.wires.hislip.codec import DATA, DATA_END, NO_ID, UNKNOWN_ID

MAX_UNREAD = 1 << 20
"""Bytes of answers that are taken while nobody reads; then the connection is held back."""

HEAD = 256
"""Bytes of an answer in which the header of a block is looked for."""

Progress = Callable[[int, int], None]
"""Told how many bytes of a block have come or gone, and how many it has."""


class Reader:
    """Who waits for an answer. `skips`: it is that of a message of its own, nobody else's."""

    __slots__ = ("answer", "block", "progress", "skips")

    def __init__(
        self, answer: Deferred[bytearray], progress: Progress | None, skips: bool
    ) -> None:
        self.answer = answer
        self.progress = progress
        self.skips = skips
        self.block: tuple[int, int] | None = None

    def grown(self, data: Gathered) -> None:
        """Tells about a block in it; raises `DeviceFault` if there is none."""
        if self.progress is None:
            return
        if self.block is None:
            self.block = find_block(data.head(HEAD))
        if self.block is not None and self.block[1] >= 0:
            start, length = self.block
            self.progress(min(len(data) - start, length), length)


class Answers:
    """The answers of one session, of at most `limit` bytes each.

    `hold_back` is told whether to stop taking what comes. `out_of_step` says, in overlap mode, that
    an answer was given up which may still come: all must be cleared before the next message.
    """

    def __init__(self, where: str, limit: int, hold_back: Callable[[bool], None]) -> None:
        self.overlap = False
        #: The number of the message that was sent last, for synchronized mode.
        self.wanted = NO_ID
        #: An answer has been given whole, which the server is to be told.
        self.delivered = False
        #: Answers without a number belong to a message before (IVI-6.1 section 3.1.2).
        self.interrupted = False
        self._where = where
        self._limit = limit
        self._hold_back = hold_back
        self._held_back = False
        self._quiet: list[Deferred[None]] = []
        self._readers: deque[Reader] = deque()
        self._data = Gathered()  # of the answer that is coming
        self._number = NO_ID  # of its last message
        self._whole: deque[tuple[bytearray, int]] = deque()  # answers, and numbers
        self._unread = 0  # bytes in them
        self.forget()

    def forget(self) -> None:
        """As at the beginning, and after a device clear."""
        self.wanted = NO_ID
        self.delivered = self.interrupted = False
        self.out_of_step = False
        #: In overlap mode the number of the last message of the last answer that was given.
        self.given = NO_ID
        self.drop()

    def drop(self) -> None:
        """What has come and was not read is thrown away."""
        if self._data or self._whole:
            self._data.clear()
            self._whole.clear()
            self._unread = 0
            if self._held_back:
                self._look()

    # Reading

    def read(self, progress: Progress | None = None, skips: bool = False) -> Deferred[bytearray]:
        """The next answer. Cancelled, it may be read later, unless it `skips`."""
        if self._whole:
            data, number = self._whole.popleft()
            self._unread -= len(data)
            self._give(number)
            self._look()
            return succeed(data)
        answer: Deferred[bytearray] = Deferred(self._cancelled)
        reader = Reader(answer, progress, skips)
        self._readers.append(reader)
        if self._held_back:
            self._look()
        if progress is not None and self._data and self._readers[0] is reader:
            self._tell(reader)
        return answer

    def _give(self, number: int) -> None:
        self.given = number
        self.delivered = True

    def _cancelled(self, answer: Deferred[bytearray]) -> None:
        self._leave(next(reader for reader in self._readers if reader.answer is answer))

    def _leave(self, reader: Reader) -> None:
        """A reader goes. In overlap mode nobody knows then whose the next answers are."""
        behind = []
        while (last := self._readers.pop()) is not reader:
            behind.append(last)
        if self.overlap and (behind or reader.skips):
            self.out_of_step = True
            for other in reversed(behind):
                text = f"an answer of {self._where} before this one was given up"
                other.answer.errback(Failure(Cancelled(text)))
        self._none_waits()

    def fail(self, error: Exception) -> None:
        """All who read fail."""
        readers, self._readers = self._readers, deque()
        if readers and self.overlap:
            self.out_of_step = True
        for reader in readers:
            reader.answer.errback(Failure(error))
        self._none_waits()

    def quiet(self) -> Deferred[None]:
        """Fires when nobody waits for an answer."""
        if not self._readers:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._quiet.append(waiting)
        return waiting

    def _none_waits(self) -> None:
        if self._quiet and not self._readers:
            waiting, self._quiet = self._quiet, []
            for deferred in waiting:
                if not deferred.called:
                    deferred.callback(None)

    # What comes

    def take_whole(self, number: int, data: bytes | bytearray | memoryview) -> bool:
        """Takes a DataEND message that is all of the answer to the last message, for its reader.

        The usual case; False where `take` has more to look at.
        """
        readers = self._readers
        if self.overlap or number != self.wanted or self._data or not readers:
            return False
        if readers[0].progress is not None or len(data) > self._limit:
            return False
        answer = readers.popleft().answer
        self.delivered = True
        answer.callback(bytearray(data))
        if self._quiet:
            self._none_waits()
        return True

    def take(
        self, kind: int, number: int, data: bytes | bytearray | memoryview, last: bool
    ) -> None:
        """Some of a Data or DataEND message; `last` if no more come in it. Raises `TooLarge`."""
        if not self._counts(kind, number):
            return
        if len(self._data) + len(data) > self._limit:
            raise TooLarge(f"an answer of more than {self._limit} bytes from {self._where}")
        self._data.add(data)
        self._number = number
        if last and kind == DATA_END:
            self._ended()
        elif self._readers:
            self._tell(self._readers[0])
        else:
            self._look()

    def _counts(self, kind: int, number: int) -> bool:
        """Whether a message belongs to an answer that is waited for (IVI-6.1 section 3.1.2)."""
        if self.overlap:
            return bool(self._readers) or not self.out_of_step
        if self._whole:
            return False
        if number == self.wanted:
            return True
        if number == UNKNOWN_ID and kind == DATA and not self.interrupted:
            return True
        self._data.clear()
        return False

    def begin_again(self) -> None:
        """What has come of the answer that is coming was not of it."""
        self._data.clear()

    def _ended(self) -> None:
        if not self._readers:
            self._unread += len(self._data)
            self._whole.append((self._data.take(), self._number))
            self._look()
            return
        reader = self._readers.popleft()
        self._give(self._number)
        try:
            reader.grown(self._data)
        except Exception:
            self._data.clear()
            reader.answer.errback(Failure())
        else:
            reader.answer.callback(self._data.take())
        if self._quiet:
            self._none_waits()

    def _tell(self, reader: Reader) -> None:
        try:
            reader.grown(self._data)
        except Exception:  # no block, or a mistake in the caller's `progress`
            failure = Failure()
            self._leave(reader)
            reader.answer.errback(failure)

    def _look(self) -> None:
        """Does not read on from an instrument that sends what nobody reads."""
        full = not self._readers and self._unread + len(self._data) > MAX_UNREAD
        if full != self._held_back:
            self._held_back = full
            self._hold_back(full)
