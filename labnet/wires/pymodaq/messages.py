"""The messages of both sides, one class a command, and how each generation writes them.

The hardware side (PyMoDAQ's *TCP client*) says what it is and answers; the controlling side (its
*TCP server*, a plugin of a module) gives the orders. A message is what all generations mean by it;
`encode` writes it as one of them does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from labnet.wires.pymodaq import classic, framed
from labnet.wires.pymodaq.generations import Generation
from labnet.wires.pymodaq.objects import Axis, Data, DataToExport
from labnet.wires.pymodaq.primitives import (
    Malformed,
    Parts,
    Source,
    Steps,
    merged,
    put_bytes,
    put_string,
)

Kind = Literal["ACTUATOR", "GRABBER"]
PROBLEM = "problem"
"""The name of the line by which labnet's hardware side says why an order was refused."""


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """A command word and what follows it."""

    word: ClassVar[str]

    @property
    def spoken(self) -> str:
        """The word as it is sent."""
        return self.word

    def put(self, parts: Parts, generation: Generation) -> None:
        """What follows the word; ValueError for what the generation cannot say."""


# From the hardware side.


@dataclass(frozen=True, slots=True)
class Identify(Message):
    """The first message: what the hardware side is."""

    word: ClassVar[str] = ""
    kind: Kind

    @property
    def spoken(self) -> str:
        return self.kind


@dataclass(frozen=True, slots=True, eq=False)
class _Settings(Message):
    xml: str

    def put(self, parts: Parts, generation: Generation) -> None:
        _put_xml(parts, self.xml, generation)


class Infos(_Settings):
    """The whole settings tree of the hardware side."""

    __slots__ = ()
    word: ClassVar[str] = "Infos"


@dataclass(frozen=True, slots=True, eq=False)
class _Setting(Message):
    path: tuple[str, ...]
    xml: str

    def put(self, parts: Parts, generation: Generation) -> None:
        if generation.framed:
            framed.put_unit(parts, self.path)
        else:
            classic.put_path(parts, self.path, generation)
        _put_xml(parts, self.xml, generation)


class InfoXml(_Setting):
    """One setting has changed; the path begins with the group that is the root of the tree."""

    __slots__ = ()
    word: ClassVar[str] = "Info_xml"


@dataclass(frozen=True, slots=True)
class Info(Message):
    """A line for the panel of the controlling side."""

    word: ClassVar[str] = "Info"
    name: str
    value: str

    def put(self, parts: Parts, generation: Generation) -> None:
        if generation is Generation.A:
            raise ValueError("generation A has no texts to show")
        for text in (self.name, self.value):
            _put_text(parts, text, generation)


@dataclass(frozen=True, slots=True, eq=False)
class _Position(Message):
    position: Data

    def put(self, parts: Parts, generation: Generation) -> None:
        if generation.framed:
            framed.put_unit(parts, self.position)
        else:
            classic.put_position(parts, self.position, generation)


class PositionIs(_Position):
    """Where the actuator is; comes asked for or not."""

    __slots__ = ()
    word: ClassVar[str] = "position_is"


class MoveDone(_Position):
    """A motion has ended, here."""

    __slots__ = ()
    word: ClassVar[str] = "move_done"


@dataclass(frozen=True, slots=True, eq=False)
class Done(Message):
    """A frame; comes asked for or not."""

    word: ClassVar[str] = "Done"
    frame: DataToExport

    def put(self, parts: Parts, generation: Generation) -> None:
        if generation.framed:
            framed.put_unit(parts, self.frame)
        else:
            classic.put_frame(parts, self.frame, generation)


@dataclass(frozen=True, slots=True, eq=False)
class _AxisMessage(Message):
    axis: Axis

    def put(self, parts: Parts, generation: Generation) -> None:
        classic.put_axis_message(parts, self.axis, generation)


class XAxis(_AxisMessage):
    """The x axis of a detector, in generations A and B."""

    __slots__ = ()
    word: ClassVar[str] = "x_axis"


class YAxis(_AxisMessage):
    """The y axis of a detector, in generations A and B."""

    __slots__ = ()
    word: ClassVar[str] = "y_axis"


@dataclass(frozen=True, slots=True)
class Quit(Message):
    """The hardware side leaves; without it PyMoDAQ's program freezes."""

    word: ClassVar[str] = "Quit"


@dataclass(frozen=True, slots=True)
class Status(Message):
    """A word that PyMoDAQ's servers know and do nothing about, and LabVIEW's example has."""

    word: ClassVar[str] = "Status"


# From the controlling side.


@dataclass(frozen=True, slots=True)
class SendData(Message):
    """Grab a frame; `dim` is what the viewer that asks can show, not what it gets."""

    word: ClassVar[str] = ""
    dim: Literal["0D", "1D", "2D", "ND"] = "0D"

    @property
    def spoken(self) -> str:
        return f"Send Data {self.dim}"


class MoveAbs(_Position):
    """Move to this position."""

    __slots__ = ()
    word: ClassVar[str] = "move_abs"


class MoveRel(_Position):
    """Move by this much."""

    __slots__ = ()
    word: ClassVar[str] = "move_rel"


@dataclass(frozen=True, slots=True)
class MoveHome(Message):
    """Move to where the actuator's home is."""

    word: ClassVar[str] = "move_home"


@dataclass(frozen=True, slots=True)
class CheckPosition(Message):
    """Ask for the position, as servers up to 3.6.2 do; all real clients know it."""

    word: ClassVar[str] = "check_position"


@dataclass(frozen=True, slots=True)
class GetActuatorValue(Message):
    """Ask for the position, as servers from 3.6.3 on do; clients know it from 4.0 on."""

    word: ClassVar[str] = "get_actuator_value"


@dataclass(frozen=True, slots=True)
class StopMotion(Message):
    """Stop; nothing answers it."""

    word: ClassVar[str] = "stop_motion"


class SetInfo(_Setting):
    """Set one setting. Real modules drop the first name of the path, real servers do not send it:
    so a path has the group that is the root of the tree in front only where a labnet sends it.
    """

    __slots__ = ()
    word: ClassVar[str] = "set_info"


def _put_xml(parts: Parts, xml: str, generation: Generation) -> None:
    if generation.framed:
        framed.put_unit(parts, xml.encode())
    else:
        put_bytes(parts, xml.encode())


def _put_text(parts: Parts, text: str, generation: Generation) -> None:
    if generation.framed:
        framed.put_unit(parts, text)
    else:
        put_string(parts, text)


def encode(message: Message, generation: Generation) -> Parts:
    """A message as the generation writes it; large arrays stay where they are.

    ValueError for what the generation cannot say, or for values that PyMoDAQ does not know.
    """
    return merged(encode_parts(message, generation))


def encode_parts(message: Message, generation: Generation) -> Parts:
    """Like `encode`, each string, number and array by itself."""
    parts: Parts = []
    _put_text(parts, message.spoken, generation)
    message.put(parts, generation)
    return parts


def encode_bytes(message: Message, generation: Generation) -> bytes:
    """A message in one piece."""
    return b"".join(encode(message, generation))


# Reading. Each reader is given the class that it makes.

Reader = Callable[[Source, Any], Steps[Message]]


def _read_position(source: Source, made: Any) -> Steps[Message]:
    read = framed.read_position if _framed(source) else classic.read_position
    position = yield from read(source)
    return made(position)  # type: ignore[no-any-return]


def _read_frame(source: Source, made: Any) -> Steps[Message]:
    read = framed.read_frame if _framed(source) else classic.read_frame
    frame = yield from read(source)
    return made(frame)  # type: ignore[no-any-return]


def _read_settings(source: Source, made: Any) -> Steps[Message]:
    xml = yield from _read_xml(source)
    return made(xml)  # type: ignore[no-any-return]


def _read_setting(source: Source, made: Any) -> Steps[Message]:
    path = yield from (framed.read_path if _framed(source) else classic.read_path)(source)
    xml = yield from _read_xml(source)
    return made(path, xml)  # type: ignore[no-any-return]


def _read_info(source: Source, made: Any) -> Steps[Message]:
    if _framed(source):
        name = yield from framed.read_text(source)
        value = yield from framed.read_unit(source)
        if not isinstance(value, str | int | float | complex | None):
            raise Malformed("a line of information that is neither text nor number")
        return made(name, "" if value is None else str(value))  # type: ignore[no-any-return]
    name = yield source.string
    value = yield source.blob  # generation A sends a number as bytes here
    return made(name, value.decode(errors="replace"))  # type: ignore[no-any-return]


def _read_axis(source: Source, made: Any) -> Steps[Message]:
    if _framed(source):
        raise Malformed("an axis of its own, which generation D does not send")
    axis = yield from classic.read_axis_message(source)
    return made(axis)  # type: ignore[no-any-return]


def _read_xml(source: Source) -> Steps[str]:
    if _framed(source):
        return (yield from framed.read_text(source))
    xml: str = yield source.xml
    return xml


def _framed(source: Source) -> bool:
    return source.generation is Generation.D


_Readers = Mapping[str, tuple[Any, Reader | None]]
_ASKING: _Readers = {f"Send Data {dim}": (SendData(dim), None) for dim in ("0D", "1D", "2D", "ND")}
FROM_HARDWARE: _Readers = {
    "ACTUATOR": (Identify("ACTUATOR"), None),
    "GRABBER": (Identify("GRABBER"), None),
    "Infos": (Infos, _read_settings),
    "Info_xml": (InfoXml, _read_setting),
    "Info": (Info, _read_info),
    "position_is": (PositionIs, _read_position),
    "move_done": (MoveDone, _read_position),
    "Done": (Done, _read_frame),
    "x_axis": (XAxis, _read_axis),
    "y_axis": (YAxis, _read_axis),
    "Quit": (Quit(), None),
    "Status": (Status(), None),
    **_ASKING,  # a client may ask the server to ask the one that grabs
}
"""The words of the hardware side: a message that is always the same, or a class and its reader."""
FROM_CONTROL: _Readers = {
    **_ASKING,
    "move_abs": (MoveAbs, _read_position),
    "move_rel": (MoveRel, _read_position),
    "move_home": (MoveHome(), None),
    "check_position": (CheckPosition(), None),
    "get_actuator_value": (GetActuatorValue(), None),
    "stop_motion": (StopMotion(), None),
    "set_info": (SetInfo, _read_setting),
}
"""The words of the controlling side."""


def read_message(source: Source, words: _Readers) -> Steps[Message]:
    """The next message; `words` are those of the side that speaks."""
    if _framed(source):
        word = yield from framed.read_text(source)
    else:
        word = yield source.string
    found = words.get(word)
    if found is None:
        raise Malformed(f"{word[:40]!r} is no word of this side; what follows it is not known")
    made, read = found
    if read is None:
        return made  # type: ignore[no-any-return]
    return (yield from read(source, made))
