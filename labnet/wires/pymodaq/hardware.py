"""The hardware side: dials a controlling program of PyMoDAQ, says what it is, and obeys.

The real program freezes when a connection ends without ``Quit``, and stays deaf when one ends
before it has said what it is. So the first message leaves with the connection, ``Quit`` is sent
before an end, and from the first message on the socket is set so that even a program that is killed
resets the connection, which the real one survives.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from labnet.errors import BadArguments, LabError
from labnet.logs import Logger
from labnet.transports.kept import ClientProtocol
from labnet.wires.pymodaq.codec import (
    FROM_CONTROL,
    MAX_MESSAGE,
    PROBLEM,
    CheckPosition,
    Data,
    DataToExport,
    Decoder,
    Generation,
    GetActuatorValue,
    Identify,
    Info,
    Infos,
    InfoXml,
    Malformed,
    Message,
    MoveAbs,
    MoveDone,
    MoveHome,
    MoveRel,
    Parts,
    PositionIs,
    Quit,
    SendData,
    SetInfo,
    Setting,
    StopMotion,
    encode,
    position,
    read_settings,
    write_settings,
)
from labnet.wires.pymodaq.grabbing import Frames
from labnet.wires.pymodaq.offered import (
    Offered,
    OfferedActuator,
    OfferedGrabber,
    settle,
)
from labnet.wires.pymodaq.output import Output
from labnet.wires.pymodaq.sending import same_units

WAITING = 64
"""Orders that may be under way; more are not read."""
LOOK = 1.0
"""Seconds between two looks at a position whose changes are to be sent, at least."""
DRAIN = 5.0

_NO_LINGER = struct.pack("ii", 0, 0)
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Manners:
    """How a module is offered; times in seconds.

    `report` is the time between the positions that are sent during a move, `push_positions` whether
    they are sent whenever they change, `push_frames` the time between frames that nobody has asked
    for (0: none). With `idle` a connection on which nothing has come for so long is made anew.
    """

    generation: Generation = Generation.C4
    report: float = 0.2
    push_positions: bool = False
    push_frames: float = 0.0
    idle: float = 0.0
    max_message: int = MAX_MESSAGE


class HardwareProtocol(ClientProtocol):
    """One connection to a controlling program, for one module."""

    log = Logger()

    def __init__(self, module: Offered, manners: Manners, where: str, clock: Any) -> None:
        super().__init__(where)
        self.module = module
        self.manners = manners
        self.generation = manners.generation
        self._clock = clock
        self._decoder = Decoder(FROM_CONTROL, {self.generation}, manners.max_message)
        self._tree: Setting | None = None
        self._told: dict[tuple[str, ...], Any] = {}  # values that the other side knows
        self._running: set[Deferred[None]] = set()
        self._moves = 0
        self._calls: dict[str, IDelayedCall] = {}
        self._frames = Frames(module, manners.generation, self)
        self._last_pushed: float | None = None
        self._output: Output | None = None
        self._reading = True
        self._heard = clock.seconds()

    # The connection

    def connectionMade(self) -> None:
        super().connectionMade()
        self._output = Output(self.transport, self._overflowed)
        self.say(Identify(self.module.kind))
        self._linger(_RESET)
        self.module.add(self)
        self._run(self._introduce())
        if self.manners.push_frames:
            self._later("frame", self.manners.push_frames, self._push_frame)
        if self.manners.idle:
            self._later("idle", self.manners.idle, self._check_idle)

    async def _introduce(self) -> None:
        """The settings; they come behind the first message as soon as they are known."""
        tree = await settle(self.module.settings)
        self._tree = tree
        self._told = {path: setting.value for path, setting in tree.walk()}
        self.say(Infos(write_settings(tree)))
        if self.manners.push_positions:
            self._watch_position()

    def dataReceived(self, data: bytes) -> None:
        self._heard = self._clock.seconds()
        for message in self._decoder.feed(data):
            if self.spent:
                return
            self._obey(message)
        if self._decoder.fault and not self.spent:
            self.log.warn(
                "{where} has sent what no program of PyMoDAQ of generation {generation} sends:"
                " {fault}; the connection is closed",
                where=self.where, generation=self.generation.name, fault=self._decoder.fault,
            )  # fmt: skip
            self.quit()

    def quit(self) -> None:
        """Takes leave and closes the connection after what was sent; now, if that takes long."""
        if self.spent:
            return
        self.say(Quit())
        self.spent = True
        self._forget()
        if self._output is not None:
            self._linger(_NO_LINGER)
            self._output.close()
            self._calls["abort"] = self._clock.callLater(DRAIN, self._abort)

    close = quit

    def _abort(self) -> None:
        self._calls.pop("abort", None)
        self.abort()

    def ended(self) -> None:
        self._forget()
        if self._output is not None:
            self._output.lost()
        call = self._calls.pop("abort", None)
        if call is not None:
            call.cancel()

    def _forget(self) -> None:
        """Nothing more is done for the other side."""
        self.module.remove(self)
        for call in self._calls.values():
            call.cancel()
        self._calls.clear()
        self._frames.stop()
        for running in list(self._running):
            running.cancel()

    def _overflowed(self) -> None:
        self.log.warn("{where} does not take what is sent; the connection is dropped",
                      where=self.where)  # fmt: skip
        self.abort()

    def _linger(self, value: bytes) -> None:
        handle = getattr(self.transport, "getHandle", None)
        if handle is not None:
            try:
                handle().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, value)
            except (OSError, AttributeError):
                pass  # no TCP socket: there is nothing to set

    # Bytes

    def say(self, message: Message) -> None:
        """Sends a message, if its generation can say it."""
        if self.spent or self._output is None:
            return
        try:
            parts = encode(message, self.generation)
        except ValueError as error:
            self.log.warn(
                "{where}: {word} cannot be said in generation {generation}: {error}",
                where=self.where, word=message.spoken, generation=self.generation.name,
                error=str(error),
            )  # fmt: skip
            return
        self._output.send(parts)

    def say_parts(self, parts: Parts) -> None:
        """Sends a message that is written already."""
        if not self.spent and self._output is not None:
            self._output.send(parts)

    @property
    def full(self) -> bool:
        """Whether the other side does not take what has been sent."""
        return self._output is not None and self._output.full

    def until_room(self) -> Deferred[None]:
        """Fires when it has."""
        assert self._output is not None
        return self._output.until_room()

    # Orders

    def _obey(self, message: Message) -> None:
        module = self.module
        if isinstance(message, SendData) and isinstance(module, OfferedGrabber):
            self._frames.ask(message.dim)
            self.throttle()
        elif isinstance(message, SetInfo):
            self._run(self._set(message))
        elif isinstance(module, OfferedActuator):
            self._obey_moves(module, message)
        else:
            self._refuse(f"{module.name} is a detector; it cannot {message.spoken}")

    def _obey_moves(self, module: OfferedActuator, message: Message) -> None:
        match message:
            case CheckPosition() | GetActuatorValue():
                self._run(self._tell_position(module))
            case MoveAbs(to):
                self._run(self._move(module, module.move_abs, to))
            case MoveRel(by):
                self._run(self._move(module, module.move_rel, by))
            case MoveHome():
                self._run(self._move(module, module.move_home))
            case StopMotion():
                self._run(self._stop(module))
            case _:
                self._refuse(f"{module.name} is an actuator; nothing can be grabbed from it")

    def _run(self, work: Any) -> None:
        """Does something for the other side; it is cancelled when the connection ends."""
        running = Deferred.fromCoroutine(work)
        if running.called:
            running.addErrback(self.failed)
            return
        self._running.add(running)
        self.throttle()
        running.addErrback(self.failed).addBoth(self._ran, running)

    def _ran(self, _: object, running: Deferred[None]) -> None:
        self._running.discard(running)
        self.throttle()

    def failed(self, failure: Failure) -> None:
        """Something that was ordered has not been done."""
        if not failure.check(CancelledError):
            error: Any = failure.value
            self._refuse(self._reason(error))

    def throttle(self) -> None:
        """Reads no further orders while too many are under way."""
        reading = len(self._running) + self._frames.waiting < WAITING
        if reading != self._reading and not self.spent and self.transport is not None:
            self._reading = reading
            transport: Any = self.transport
            (transport.resumeProducing if reading else transport.pauseProducing)()

    def _reason(self, error: BaseException) -> str:
        if isinstance(error, LabError | Malformed):
            return str(error)
        self.log.failure("{name} failed", name=self.module.name, failure=Failure(error))
        return f"{self.module.name} has failed"

    def _refuse(self, reason: str) -> None:
        """Why something was not done; generation A has no words for it."""
        if self.spent:
            return
        self.log.info("{where}: {reason}", where=self.where, reason=reason)
        if self.generation is not Generation.A:
            self.say(Info(PROBLEM, reason))

    # Moves

    def _position(self, module: OfferedActuator, value: Any) -> Data:
        return position(float(value), module.units, module.name, time.time())

    async def _tell_position(self, module: OfferedActuator) -> None:
        self.say(PositionIs(self._position(module, await settle(module.position))))

    async def _move(
        self, module: OfferedActuator, go: Callable[..., Any], order: Data | None = None
    ) -> None:
        """Positions while it goes, ``move_done`` at its end, and never after a refusal."""
        self._moves += 1
        self._later("report", self.manners.report, self._report)
        try:
            arguments = () if order is None else (self._wanted(module, order),)
            reached = await settle(go, *arguments)
            if not isinstance(reached, int | float) or isinstance(reached, bool):
                reached = await settle(module.position)
        except CancelledError:
            raise
        except Exception as error:
            await self._not_moved(module, self._reason(error))
            return
        finally:
            self._moves -= 1
        self.say(MoveDone(self._position(module, reached)))

    async def _not_moved(self, module: OfferedActuator, reason: str) -> None:
        """Where it stands, and why."""
        try:
            await self._tell_position(module)
        finally:
            self._refuse(reason)

    def _wanted(self, module: OfferedActuator, order: Data) -> float:
        """The number that a move is ordered by; BadArguments if it is none, or in other units."""
        try:
            value = order.value
        except ValueError:
            raise BadArguments(f"{module.name}: a move without a number") from None
        if value != value or value in (float("inf"), float("-inf")):
            raise BadArguments(f"{module.name} cannot be moved to {value}")
        if not same_units(order.units, module.units):
            raise BadArguments(
                f"{module.name} is moved in {module.units or 'no units'}, not in {order.units}"
            )
        return value

    def _report(self) -> None:
        if self._moves and isinstance(self.module, OfferedActuator):
            self._later("report", self.manners.report, self._report)
            if not self.full:
                self._run(self._tell_position(self.module))

    async def _stop(self, module: OfferedActuator) -> None:
        await settle(module.stop)

    # Frames

    def frame(self, frame: DataToExport) -> None:
        """Sends a frame that nobody has asked for."""
        self._frames.send(frame)

    def _push_frame(self) -> None:
        self._later("frame", self.manners.push_frames, self._push_frame)
        if isinstance(self.module, OfferedGrabber) and not (self._frames.waiting or self.full):
            self._frames.ask("ND")

    # Settings

    async def _set(self, order: SetInfo) -> None:
        """Changes a setting; the other side hears what has become of it, as from PyMoDAQ's modules.
        """
        wanted = read_settings(order.xml)
        tree = self._tree
        path = None if tree is None else tree.resolve(order.path)
        known = None if tree is None or path is None else tree.find(path)
        if path is None or known is None or known.is_group:
            raise BadArguments(f"{self.module.name} has no setting {'.'.join(order.path)[:80]}")
        if wanted.value is None or wanted.type != known.type:
            raise BadArguments(f"{'.'.join(path)} has been sent a value that is no {known.type}")
        if path in self._told and self._told[path] == wanted.value:
            return  # the echo of what was told: no reason to write it
        self._told[path] = wanted.value
        try:
            setting = await settle(self.module.set, path, wanted.value)
        except CancelledError:
            raise
        except Exception as error:
            self._refuse(self._reason(error))
            setting = known
        self._told.pop(path, None)  # it is told in any case
        self.setting_changed(path, setting if isinstance(setting, Setting) else known)

    def setting_changed(self, path: tuple[str, ...], setting: Setting) -> None:
        """A setting has another value, or other limits; told unless the other side knows."""
        if self._tree is None:
            return
        known = self._tree.find(path)
        self._tree = self._tree.changed(path, setting)
        same = known is not None and known.with_value(setting.value) == setting
        if same and path in self._told and self._told[path] == setting.value:
            return
        self._told[path] = setting.value
        self.say(InfoXml((self.module.root, *path), write_settings(setting)))

    def renewed(self) -> None:
        """There are other settings; the other side takes them for the old ones."""
        if not self.spent:
            self._run(self._introduce())

    # What happens by itself

    def moved(self, where: float) -> None:
        """The actuator is elsewhere; the other side hears of it where that is wanted."""
        if self.manners.push_positions and not self._moves and where != self._last_pushed:
            self._later("push", self.manners.report, self._push_position)

    def _watch_position(self) -> None:
        """Not every actuator says by itself that it has moved."""
        self._later("watch", max(LOOK, self.manners.report), self._watch_position)
        if not self.full:
            self._push_position()

    def _push_position(self) -> None:
        if isinstance(self.module, OfferedActuator) and not self._moves:
            self._run(self._tell_new_position(self.module))

    async def _tell_new_position(self, module: OfferedActuator) -> None:
        where = await settle(module.position)
        if where != self._last_pushed and not self.full:
            self._last_pushed = where
            self.say(PositionIs(self._position(module, where)))

    def _later(self, what: str, seconds: float, function: Callable[[], None]) -> None:
        """Calls `function` once after so many seconds; one call at a time of each kind."""
        if what not in self._calls and not self.spent:
            self._calls[what] = self._clock.callLater(seconds, self._due, what, function)

    def _due(self, what: str, function: Callable[[], None]) -> None:
        del self._calls[what]
        function()

    def _check_idle(self) -> None:
        left = self._heard + self.manners.idle - self._clock.seconds()
        if left > 0:
            self._later("idle", left, self._check_idle)
        else:
            self.log.info("{where} has been silent; dialled anew", where=self.where)
            self.quit()
