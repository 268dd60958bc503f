"""An actuator that has dialled in: where it is, and moves that end."""

from __future__ import annotations

from collections.abc import Callable
from math import isclose, isfinite
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from labnet.errors import BadArguments, DeviceFault, LabError, NotConnected, TimedOut
from labnet.wires.pymodaq.codec import (
    PLAIN,
    PROBLEM,
    CheckPosition,
    Data,
    Generation,
    GetActuatorValue,
    Info,
    Kind,
    MoveAbs,
    MoveDone,
    MoveHome,
    MoveRel,
    PositionIs,
    StopMotion,
    encode_bytes,
    position,
)
from labnet.wires.pymodaq.module import Clock, Line, Manners, Module, _nothing, check_number

NEAR = 1e-6
"""The share of a target by which a position may miss it, if the module names no tolerance."""

STILL = 0.1
"""The share of a module's tolerance by which a position at rest may tremble."""

IDLE_TICKS = 3
"""Pauses without any motion after which a module of generation D is taken not to move at all."""


class Move:
    """A motion under way. `target` is None where only the module knows it."""

    __slots__ = ("asked", "deferred", "idle", "last", "stopped", "target", "timer", "what")

    def __init__(self, what: str, target: float | None, deferred: Deferred[float]) -> None:
        self.what = what
        self.target = target
        self.deferred = deferred
        self.stopped = False
        self.asked = False  # where it is, since the last tick
        self.last: float | None = None  # where it was at the last tick
        self.idle = 0
        self.timer: IDelayedCall | None = None


class Actuator(Module):
    """One actuator. Positions are in its own units (`units`, where it names them).

    Only one motion is under way at a time; what a module does with a second order is up to its
    hardware, so a second one is refused.
    """

    kind: ClassVar[Kind] = "ACTUATOR"

    def __init__(self, line: Line, clock: Clock, manners: Manners) -> None:
        super().__init__(line, clock, manners)
        #: Where it was last, None as long as it has not said so.
        self.last: float | None = None
        #: Called with each position that it tells, asked for or not.
        self.on_position: Callable[[float], None] = _nothing
        #: What its positions are called: in PyMoDAQ since 4.0 the title of the module.
        self.title = ""
        self._told_units: str | None = None
        self._readers: dict[Deferred[float], None] = {}
        self._asked_at: float | None = None
        self._move: Move | None = None
        self._stale = 0  # moves that were given up and may still tell of their end
        self._handlers[PositionIs] = self._position_is
        self._handlers[MoveDone] = self._move_done

    @property
    def units(self) -> str:
        """The units of its positions, as its positions or its settings name them, else empty."""
        if self._told_units is not None:
            return self._told_units
        found = None if self.settings is None else self.settings.child("units")
        return found.value if found is not None and isinstance(found.value, str) else ""

    @property
    def moving(self) -> bool:
        """Whether a motion is under way that was ordered here."""
        return self._move is not None

    @property
    def _tolerance(self) -> float:
        found = None if self.settings is None else self.settings.child("epsilon")
        value = None if found is None else found.value
        try:
            tolerance = abs(float(value)) if isinstance(value, int | float) else 0.0
        except OverflowError:
            return 0.0
        return tolerance if isfinite(tolerance) else 0.0

    # Where it is

    def position(self) -> Deferred[float]:
        """Where it is now; of one that is never asked (`Manners.ask`), where it was last."""
        if self.ended:
            return fail(NotConnected(self.ended))
        if self.manners.ask == "none":
            return self._remembered()
        reader: Deferred[float] = self._promise()
        self._readers[reader] = None
        reader.addBoth(self._has_read, reader)
        now = self._clock.seconds()
        if self._asked_at is None or now - self._asked_at >= self.manners.quiet:
            self._ask()
        return reader

    def _has_read(self, result: Any, reader: Deferred[float]) -> Any:
        self._readers.pop(reader, None)
        return result

    def _remembered(self) -> Deferred[float]:
        reader: Deferred[float] = Deferred()
        if self.last is None:
            reader.errback(DeviceFault("it has not said yet where it is"))
        else:
            reader.callback(self.last)
        return reader

    def _ask(self) -> None:
        self._asked_at = self._clock.seconds()
        known = self.manners.ask == "get_actuator_value" or self.generation is Generation.D
        self._order(GetActuatorValue() if known else CheckPosition())

    def _take(self, data: Data) -> float:
        try:
            value = data.value
        except ValueError as error:
            raise DeviceFault(str(error)) from None
        if data.units:
            self._told_units = data.units
        if data.name:
            self.title = data.name
        self.last = value
        self.on_position(value)
        return value

    def _position_is(self, message: PositionIs) -> None:
        try:
            value: Any = self._take(message.position)
        except LabError as error:
            value = Failure(error)
        self._answer(value)

    def _answer(self, value: Any) -> None:
        self._asked_at = None
        readers, self._readers = self._readers, {}
        for reader in readers:
            if not reader.called:
                reader.callback(value)

    def _info(self, message: Info) -> None:
        super()._info(message)
        if message.name != PROBLEM:
            return
        refused = DeviceFault(message.value, "Refused")
        if self._move is not None:
            self._move.deferred.errback(refused)
        elif not self._confirmations:  # else it may be a setting that is refused
            self._answer(Failure(refused))

    # Motions

    def move_abs(self, value: float) -> Deferred[float]:
        """Moves to a position; gives the one at which it has ended."""
        return self._begin("move_abs", MoveAbs, value, lambda target: target)

    def move_rel(self, distance: float) -> Deferred[float]:
        """Moves by a distance; gives the position at which it has ended."""
        return self._begin(
            "move_rel",
            MoveRel,
            distance,
            lambda way: None if self.last is None else self.last + way,
        )

    def move_home(self) -> Deferred[float]:
        """Moves to its home; gives the position of that."""
        try:
            self._free()
            self._order(MoveHome())
        except LabError as error:
            return fail(error)
        return self._under_way("move_home", None)

    def _begin(
        self, what: str, message: Any, value: float, target: Callable[[float], float | None]
    ) -> Deferred[float]:
        try:
            number = check_number(value, "a position")
            if not isfinite(number):
                raise BadArguments("a position is a finite number")
            self._free()
        except LabError as error:
            return fail(error)
        if self._speaks_numbers() or (self.manners.ask == "none" and self.settings is None):
            return self._go(what, message, number, target)
        # Only a position tells how positions are written.
        learned = self.position().addTimeout(2 * self.manners.quiet, self._clock, self._silent)  # type: ignore[arg-type]
        return learned.addCallback(lambda _: self._go(what, message, number, target))

    def _speaks_numbers(self) -> bool:
        return self.generation is not None or self._line.among <= PLAIN

    def _silent(self, result: Any, seconds: float) -> float:
        """It has not said where it is: a program that does not know the question, or is stuck."""
        if self.settings is not None or self.ended:
            raise TimedOut(
                "finding out the generation of the module", seconds,
                "it does not say where it is; set generation = in the section",
            )  # fmt: skip
        return 0.0

    def _free(self) -> None:
        if self.ended:
            raise NotConnected(self.ended)
        if self._move is not None:
            raise DeviceFault("it is moving; wait, or stop it first", "Busy", -221)

    def _go(
        self, what: str, message: Any, value: float, target: Callable[[float], float | None]
    ) -> Deferred[float]:
        try:
            self._free()
            data = position(value, self.units, self.title or "actuator")
            self._line.send(encode_bytes(message(data), self._speak()))
        except LabError as error:
            return fail(error)
        return self._under_way(what, target(value))

    def _under_way(self, what: str, target: float | None) -> Deferred[float]:
        deferred: Deferred[float] = Deferred(lambda _: self._given_up())
        self._waiting[deferred] = None
        self._move = move = Move(what, target, deferred)
        deferred.addBoth(self._over, move)
        move.timer = self._clock.callLater(self.manners.quiet, self._tick, move)
        return deferred

    def _given_up(self) -> None:
        self._stale += 1

    def _over(self, result: Any, move: Move) -> Any:
        self._waiting.pop(move.deferred, None)
        if self._move is move:
            self._move = None
        if move.timer is not None and move.timer.active():
            move.timer.cancel()
        return result

    def _move_done(self, message: MoveDone) -> None:
        try:
            value = self._take(message.position)
        except LabError as error:
            if self._move is not None:
                self._move.deferred.errback(error)
            return
        self._answer(value)
        move = self._move
        if move is None:
            self._stale = max(0, self._stale - 1)
        elif self._stale and not self._near(value, move):
            self._stale -= 1  # the end of one that was given up
        else:
            self._end(move, value)

    def _near(self, value: float, move: Move) -> bool:
        return move.target is None or isclose(
            value, move.target, rel_tol=NEAR, abs_tol=max(self._tolerance, NEAR)
        )

    def _end(self, move: Move, value: float) -> None:
        self._stale = 0
        if not move.stopped or self._near(value, move):
            move.deferred.callback(value)
            return
        units = f" {self.units}".rstrip()
        way = "" if move.target is None else f" on the way to {move.target:g}{units}"
        move.deferred.errback(DeviceFault(f"stopped at {value:g}{units}{way}", "Stopped"))

    def _tick(self, move: Move) -> None:
        """A module may be silent about a motion, above all about one to where it already is.

        So it is asked where it is; when it is at rest there, the motion is over.
        """
        fresh = move.asked and not self._readers
        if fresh and self.last is not None:
            resting = move.last is not None and isclose(
                self.last, move.last, rel_tol=NEAR, abs_tol=max(STILL * self._tolerance, NEAR)
            )
            move.last = self.last
            move.idle = move.idle + 1 if resting else 0
            if resting and self._rests(move, self.last):
                return
        move.timer = self._clock.callLater(self.manners.quiet, self._tick, move)
        if self.manners.ask != "none":
            move.asked = True
            self.position().addErrback(lambda _: None)

    def _rests(self, move: Move, value: float) -> bool:
        """It has not moved since it was asked before: whether that is the end of the motion."""
        if self._near(value, move) or move.stopped:
            self._end(move, value)
            return True
        if self.generation is Generation.D and move.idle >= IDLE_TICKS:
            text = "it does not move; PyMoDAQ's own modules of version 5.1 cannot over TCP/IP"
            move.deferred.errback(DeviceFault(text, "NotMoving"))
            return True
        return False

    def stop(self) -> Deferred[float]:
        """Orders it to stop; gives the position after that.

        A motion that is under way fails as soon as it has come to rest. PyMoDAQ's modules before
        5.1 do not obey, and go on.
        """
        try:
            self._order(StopMotion())
        except LabError as error:
            return fail(error)
        if self._move is not None:
            self._move.stopped = True
        return self.position()
