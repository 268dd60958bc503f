"""The codec of PyMoDAQ's TCP/IP protocol, as its versions 1.6 to 5.1 speak it: bytes to messages
and back, for both sides and all generations.

    decoder = Decoder(FROM_HARDWARE)
    for message in decoder.feed(data):
        match message:
            case PositionIs(position): ...
    transport.writeSequence(encode(MoveAbs(position(1.25, "mm")), Generation.C4))

A decoder that is not told the generation finds it out as far as it can be: ``decoder.among`` is
what is left, ``decoder.generation`` the one if it is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from labnet.wires.pymodaq.generations import (
    ANY,
    CLASSIC,
    OBJECTS,
    PLAIN,
    Among,
    Generation,
    generation,
)
from labnet.wires.pymodaq.messages import (
    FROM_CONTROL,
    FROM_HARDWARE,
    PROBLEM,
    CheckPosition,
    Done,
    GetActuatorValue,
    Identify,
    Info,
    Infos,
    InfoXml,
    Kind,
    Message,
    MoveAbs,
    MoveDone,
    MoveHome,
    MoveRel,
    PositionIs,
    Quit,
    SendData,
    SetInfo,
    Status,
    StopMotion,
    XAxis,
    YAxis,
    encode,
    encode_bytes,
    read_message,
)
from labnet.wires.pymodaq.objects import (
    Axis,
    Data,
    DataToExport,
    dim_of,
    plain_frame,
    position,
)
from labnet.wires.pymodaq.primitives import (
    MAX_MESSAGE,
    Malformed,
    Parts,
    Short,
    Source,
    Step,
    Steps,
)
from labnet.wires.pymodaq.repeated import LONGEST, Mark, Pattern, learn
from labnet.wires.pymodaq.settings import Setting, read_settings, write_settings

MAX_STEPS = 1 << 18
"""Lengths, strings, numbers and arrays of one message."""


class Decoder:
    """Messages from bytes that may be cut anywhere; `words` are those of the side that speaks.

    Once a peer has sent nonsense, `fault` says which, and nothing more is read: no length can be
    trusted any more. Beside the array that is being received, only a piece of a string is held.
    """

    def __init__(
        self, words: Any, among: Iterable[Generation] = ANY, limit: int = MAX_MESSAGE
    ) -> None:
        self.fault = ""
        self._words = words
        self._limit = limit
        self._source = Source(among, limit)
        self._begun = False
        self._pattern: Pattern | None = None
        self._steps: Steps[Message]
        self._step: Step
        self._begin()

    @property
    def generation(self) -> Generation | None:
        """The generation of the peer, if it is known."""
        return self._source.generation

    @property
    def among(self) -> Among:
        """The generations that the peer may be of."""
        return self._source.among

    @property
    def pending(self) -> int:
        """Bytes held of a message that is not complete."""
        return self._source.pending

    @property
    def wanted(self) -> int:
        """Bytes that are still to come of the array that is being received, else 0."""
        return self._source.wanted

    @property
    def room(self) -> memoryview | None:
        """Where the rest of that array belongs, for who can receive it there; then call `took`."""
        return self._source.room

    def took(self, size: int) -> list[Message]:
        """So many bytes were received into `room`: the messages that they complete."""
        found: list[Message] = []
        if self._source.took(size):
            self._guarded(lambda: self._read(found))
        return found

    @property
    def inside(self) -> bool:
        """Whether a message has begun that is not complete."""
        return self._begun or self.pending > 0

    def feed(self, data: bytes | memoryview) -> list[Message]:
        """The messages that `data` completes."""
        if self._pattern is not None and not self._begun and self._source.done:
            message = self._pattern.read(data)  # type: ignore[arg-type]
            if message is not None:
                return [message]
        found: list[Message] = []
        if not self.fault and data:
            alone = len(data) <= LONGEST and not self._begun and self._source.done
            self._guarded(lambda: (self._learn if alone else self._feed)(data, found))
        return found

    def _guarded(self, read: Callable[[], None]) -> None:
        try:
            read()
        except Malformed as error:
            self.fault = str(error)
            self._pattern = None
            self._steps.close()
            self._source = Source(self._source.among)

    def _learn(self, data: bytes | memoryview, found: list[Message]) -> None:
        """What a message looks like, if `data` is just one; the next one may look like it."""
        source = self._source
        marks: list[Any] = []
        source.marks = marks
        try:
            self._feed(data, found)
        finally:
            source.marks = None
        if len(found) == 1 and source.generation is not None and source.done and not self._begun:
            pattern = learn(bytes(data), [Mark(*mark) for mark in marks], found[0])
            if pattern is not None:
                self._pattern = pattern

    def _feed(self, data: bytes | memoryview, found: list[Message]) -> None:
        if self._source.feed(data):
            self._read(found)

    def _read(self, found: list[Message]) -> None:
        """Goes on reading with what has come."""
        value: Any = self._source.filled()
        while True:
            if value is None:
                try:
                    value = self._step()
                except Short:
                    return
            try:
                self._step = self._steps.send(value)
                self._begun = True
                self._count += 1
                if self._count > MAX_STEPS:
                    raise Malformed(f"a message of more than {MAX_STEPS} parts")
            except StopIteration as end:
                found.append(end.value)
                self._begin()
            value = None

    def _begin(self) -> None:
        self._begun = False
        self._count = 0
        self._source.left = self._limit
        self._steps = self._message()
        self._step = next(self._steps)

    def _message(self) -> Steps[Message]:
        source = self._source
        if source.generation is None and Generation.D in source.among:
            head: bytes = yield source.peek
            source.narrow(_family(head))
        return (yield from read_message(source, self._words))


def _family(head: bytes) -> Among:
    """The generations of a peer whose first message, the word for what it is, begins so."""
    if head[:4] in (b"\0\0\0\7", b"\0\0\0\10") and head[4:] in (b"GRAB", b"ACTU"):
        return CLASSIC
    if head[:4] in (b"\0\0\0\22", b"\0\0\0\23") and head[4:] == b"\0\0\0\3":
        return frozenset({Generation.D})
    raise Malformed("it does not begin as a module of PyMoDAQ does")


__all__ = [
    "ANY", "CLASSIC", "FROM_CONTROL", "FROM_HARDWARE", "MAX_MESSAGE", "OBJECTS", "PLAIN", "PROBLEM",
    "Axis", "CheckPosition", "Data", "DataToExport", "Decoder", "Done", "Generation",
    "GetActuatorValue", "Identify", "Info", "InfoXml", "Infos", "Kind", "Malformed", "Message",
    "MoveAbs", "MoveDone", "MoveHome", "MoveRel", "Parts", "PositionIs", "Quit", "SendData",
    "SetInfo", "Setting", "Status", "StopMotion", "XAxis", "YAxis", "dim_of", "encode",
    "encode_bytes", "generation", "plain_frame", "position", "read_settings", "write_settings",
]  # fmt: skip
