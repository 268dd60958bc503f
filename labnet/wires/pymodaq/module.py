"""What a program that controls PyMoDAQ modules gets of each one that dials in.

PyMoDAQ calls the hardware side its *TCP client*: a module, or a program that behaves as one, which
says that it is an ``ACTUATOR`` or a ``GRABBER`` and obeys. Here is what both kinds have: the tree
of their settings, lines of information, and a connection that ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall

from labnet.errors import (
    BadArguments,
    DeviceFault,
    LabError,
    NotConnected,
    NotWritable,
    UnknownName,
    WrongType,
)
from labnet.logs import Logger
from labnet.wires.pymodaq.codec import (
    MAX_MESSAGE,
    PROBLEM,
    Generation,
    Identify,
    Info,
    Infos,
    InfoXml,
    Kind,
    Message,
    SendData,
    SetInfo,
    Status,
    encode_bytes,
)
from labnet.wires.pymodaq.generations import Among
from labnet.wires.pymodaq.primitives import MAX_XML, Malformed
from labnet.wires.pymodaq.settings import Setting, read_settings, write_settings

MAX_INFOS = 256
"""Lines of information that are kept of one module."""
MAX_INFO = 4096
"""Letters of one that are kept."""
MAX_INFO_NAME = 100
MAX_HELD = 2 * MAX_XML
"""Letters of the settings of one module, as they have come: the tree, and changes of it."""

Path = tuple[str, ...]
Ask = Literal["check_position", "get_actuator_value", "none"]


class Clock(Protocol):
    """Time in seconds, and calls after a while."""

    def seconds(self) -> float: ...
    def callLater(
        self, delay: float, function: Callable[..., Any], /, *args: Any
    ) -> IDelayedCall: ...


@dataclass(frozen=True)
class Manners:
    """How modules are treated; times in seconds.

    `generation` is that of all who dial in, None to find it out; `ask` the word by which actuators
    are asked where they are. `max_message` bounds a message in bytes, `stall` the time in which
    more of one that has begun must come. A module that does not send its settings within
    `introduction` is taken for one that has none, one that does not confirm a setting within
    `confirm` for one that has taken it. During a move, an actuator that says nothing for `quiet`
    is asked where it is.
    """

    generation: Generation | None = None
    ask: Ask = "check_position"
    max_message: int = MAX_MESSAGE
    stall: float = 10.0
    introduction: float = 1.0
    confirm: float = 1.0
    quiet: float = 1.0


class Line(Protocol):
    """The connection, as a module sees it."""

    peer: str
    host: str

    @property
    def among(self) -> Among: ...
    @property
    def generation(self) -> Generation | None: ...
    def send(self, data: bytes) -> None: ...
    def drop(self, reason: str) -> None: ...


@cache
def order(message: Message, generation: Generation) -> bytes:
    """An order without anything behind its word."""
    return encode_bytes(message, generation)


def _nothing(*_: Any) -> None:
    """Nobody wants to know."""


class Confirmation(NamedTuple):
    """A value that has been sent; `problems` are those that the module had told of before."""

    deferred: Deferred[Any]
    wanted: Any
    problems: int


class Module:
    """One module that has dialled in; made by `control.Modules`.

    `settings` is its tree of settings, None as long as it has sent none; `info` the lines that it
    shows. The functions `on_...` are called when something changes; `ended` says why it has gone,
    and is empty while it is there.
    """

    kind: ClassVar[Kind]
    log = Logger()

    def __init__(self, line: Line, clock: Clock, manners: Manners) -> None:
        self.manners = manners
        self.settings: Setting | None = None
        self.info: dict[str, str] = {}
        self.ended = ""
        #: Called with the path of a setting that has changed, () for the whole tree.
        self.on_settings: Callable[[Path], None] = _nothing
        #: Called with the name of a line of information.
        self.on_info: Callable[[str], None] = _nothing
        #: Called with the reason for which it has gone.
        self.on_ended: Callable[[str], None] = _nothing
        self.on_introduced: Callable[[], None] = _nothing
        self._line = line
        self._clock = clock
        self._introduced = False
        self._waiting: dict[Deferred[Any], None] = {}
        self._confirmations: dict[Path, list[Confirmation]] = {}
        self._problems = 0  # how many it has told of
        self._sizes: dict[Path, int] = {}  # letters of the tree, and of each setting since
        self._held = 0
        self._handlers: dict[type[Message], Callable[[Any], None]] = {
            Infos: self._infos,
            InfoXml: self._info_xml,
            Info: self._info,
            SendData: self._relay,
            Status: _nothing,
            Identify: self._again,
        }
        self._hurry = clock.callLater(manners.introduction, self.introduce)

    @property
    def peer(self) -> str:
        """Its address, ``host:port``."""
        return self._line.peer

    @property
    def host(self) -> str:
        """The host that it has dialled in from."""
        return self._line.host

    @property
    def generation(self) -> Generation | None:
        """The generation of its messages, as soon as they have told."""
        return self._line.generation

    # What comes

    def received(self, message: Message) -> None:
        """A message has come."""
        handle = self._handlers.get(type(message))
        if handle is None:
            self._line.drop(f"{message.spoken} is nothing that a module of kind {self.kind} sends")
        else:
            handle(message)

    def introduce(self) -> None:
        """It has said what it has to say about itself, or has had the time for it."""
        if not self._introduced:
            self._introduced = True
            if self._hurry.active():
                self._hurry.cancel()
            self.on_introduced()

    def _again(self, message: Identify) -> None:
        self._line.drop("it has said twice what it is")

    def _relay(self, message: SendData) -> None:
        self.log.debug("{peer} asks for a frame of another module", peer=self.peer)

    def _infos(self, message: Infos) -> None:
        self.settings = read_settings(message.xml)
        self._sizes.clear()
        self._held = 0
        self._hold((), message.xml)
        self.on_settings(())
        self.introduce()

    def _info_xml(self, message: InfoXml) -> None:
        setting = read_settings(message.xml)
        if self.settings is None:
            return
        path = self.settings.resolve(message.path)
        if path is None:
            self.log.debug("{peer}: no setting {path}", peer=self.peer, path=message.path)
            return
        self._hold(path, message.xml)
        if setting.children:
            self.settings.changed(path, setting).check_size()
        self._changed(path, replace(setting, name=path[-1]))

    def _hold(self, path: Path, xml: str) -> None:
        """A module may change its settings for ever, but not make them larger and larger."""
        self._held += len(xml) - self._sizes.get(path, 0)
        self._sizes[path] = len(xml)
        if self._held > MAX_HELD:
            raise Malformed(f"settings of more than {MAX_HELD} letters with all their changes")

    def _changed(self, path: Path, setting: Setting) -> None:
        assert self.settings is not None
        self.settings = self.settings.changed(path, setting)
        self.on_settings(path)
        for confirmation in self._confirmations.pop(path, ()):
            self._confirm(confirmation, setting.value)

    def _confirm(self, confirmation: Confirmation, value: Any) -> None:
        """A module that refuses a value says why, and then which one the setting has still."""
        if value != confirmation.wanted and self._problems > confirmation.problems:
            confirmation.deferred.errback(DeviceFault(self.info[PROBLEM], "Refused"))
        else:
            confirmation.deferred.callback(value)

    def _info(self, message: Info) -> None:
        name = message.name[:MAX_INFO_NAME]
        if name in self.info or len(self.info) < MAX_INFOS:
            self.info[name] = message.value[:MAX_INFO]
            self._problems += name == PROBLEM
            self.on_info(name)

    # What goes

    def _speak(self) -> Generation:
        """A generation whose orders it understands, as far as that is known."""
        known = self._line.generation
        if known is None:  # for all that does not hold numbers, B is as good as any C
            return Generation.B
        return known

    def _order(self, message: Message) -> None:
        if self.ended:
            raise NotConnected(self.ended)
        self._line.send(order(message, self._speak()))

    def _promise(self) -> Deferred[Any]:
        """Something that the module will answer; it fails at once when the module goes."""
        promise: Deferred[Any] = Deferred()
        self._waiting[promise] = None
        promise.addBoth(self._kept, promise)
        return promise

    def _kept(self, result: Any, promise: Deferred[Any]) -> Any:
        self._waiting.pop(promise, None)
        return result

    def set(self, path: Iterable[str], value: Any) -> Deferred[Any]:
        """Changes a setting at its path below the root; gives the value that it then has.

        PyMoDAQ's modules say so when they have taken a value; of one that does not within
        `Manners.confirm` it is believed. Fails with `UnknownName`, `NotWritable`, `WrongType`, and
        with `DeviceFault` when the module says why it keeps the value that it had.
        """
        try:
            names, setting = self._setting(tuple(path))
            if self.ended:
                raise NotConnected(self.ended)
            data = self._encoded(names, setting, value)
        except LabError as error:
            return fail(error)
        if type(setting.value) is type(value) and setting.value == value:
            return succeed(value)
        self._line.send(data)
        confirmation = self._promise()
        waiting = Confirmation(confirmation, value, self._problems)
        self._confirmations.setdefault(names, []).append(waiting)
        timer = self._clock.callLater(
            self.manners.confirm, self._unconfirmed, names, setting.with_value(value)
        )
        return confirmation.addBoth(self._stop_timer, timer)

    def _setting(self, path: Path) -> tuple[Path, Setting]:
        root = self.settings
        names = None if root is None else root.resolve(path)
        found = None if root is None or names is None else root.find(names)
        if names is None or found is None:
            raise UnknownName(".".join(path), what="setting")
        if found.readonly or found.is_group:
            raise NotWritable(found.label)
        return names, found

    def _encoded(self, names: Path, setting: Setting, value: Any) -> bytes:
        assert self.settings is not None
        try:
            xml = write_settings(setting.with_value(value))
            # The module drops the first name, whatever it is.
            path = (self.settings.name, *names)
            return encode_bytes(SetInfo(path, xml), self._speak())
        except (ValueError, TypeError, OverflowError):
            raise WrongType(setting.label, value, setting.type) from None

    def _unconfirmed(self, names: Path, setting: Setting) -> None:
        if names in self._confirmations:
            self._changed(names, setting)

    def _stop_timer(self, result: Any, timer: IDelayedCall) -> Any:
        if timer.active():
            timer.cancel()
        return result

    # The end

    def close(self) -> None:
        """Ends the connection, so that the module notices."""
        self._line.drop("")

    def lose(self, reason: str) -> None:
        """The connection has ended."""
        self.ended = reason
        if self._hurry.active():
            self._hurry.cancel()
        error = NotConnected(reason)
        waiting = list(self._waiting)
        self._waiting.clear()
        self._confirmations.clear()
        for promise in waiting:
            if not promise.called:
                promise.errback(error)
        self.on_ended(reason)

    def __repr__(self) -> str:
        return f"<{self.kind} at {self.peer}>"


def check_number(value: Any, what: str) -> float:
    """A number as an actuator takes it; raises `BadArguments`."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise BadArguments(f"{what} is a number") from None


__all__ = [
    "MAX_INFOS", "Ask", "Clock", "Line", "Manners", "Module", "Path", "check_number",
    "order",
]  # fmt: skip
