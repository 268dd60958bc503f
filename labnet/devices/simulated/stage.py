"""A simulated linear stage: moves take their time and can be stopped on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from labnet.device import Identity, command, parameter
from labnet.devices.simulated.shared import Simulated
from labnet.errors import DeviceFault, OutOfRange

#: The way from end to end in mm.
TRAVEL = (0.0, 100.0)
#: Slowest and fastest, in mm/s; the reference at 0 mm is approached no faster than `HOMING`.
SPEEDS = (0.1, 100.0)
HOMING = 50.0
#: Seconds between the positions that are reported during a move.
REPORT = 0.05
#: Seconds that the longest move takes at the lowest velocity and acceleration, and some.
LONGEST = 1200.0


@dataclass(frozen=True, slots=True)
class Motion:
    """A motion in phases of constant acceleration: pairs of seconds and mm/s^2.

    It begins at the time `begin` in seconds, at `start` mm, with `speed` in mm/s.
    """

    begin: float
    start: float
    speed: float
    phases: tuple[tuple[float, float], ...]

    @property
    def duration(self) -> float:
        """Seconds from begin to standstill."""
        return sum(seconds for seconds, _ in self.phases)

    def at(self, when: float) -> tuple[float, float]:
        """Position in mm and speed in mm/s at a time."""
        left = max(0.0, when - self.begin)
        position, speed = self.start, self.speed
        for seconds, acceleration in self.phases:
            part = min(left, seconds)
            position += speed * part + acceleration * part * part / 2
            speed += acceleration * part
            left -= part
        return position, speed


def ramp(begin: float, start: float, end: float, velocity: float, acceleration: float) -> Motion:
    """A trapezoidal profile, or a triangular one where the way is too short for the velocity."""
    way = abs(end - start)
    velocity = min(velocity, math.sqrt(way * acceleration))
    rise = velocity / acceleration
    push = math.copysign(acceleration, end - start)
    cruise = way / velocity - rise
    return Motion(begin, start, 0.0, ((rise, push), (cruise, 0.0), (rise, -push)))


def brake(begin: float, start: float, speed: float, acceleration: float) -> Motion:
    """The shortest way from `speed` to standstill."""
    push = math.copysign(acceleration, -speed)
    return Motion(begin, start, speed, ((abs(speed) / acceleration, push),))


class Stage(Simulated):
    """A linear stage of 100 mm. A move answers when it is there; another one meanwhile is refused.

    As with real controllers a move goes on when its caller has gone or has lost patience: what
    ends it is ``stop``, after which the stage stands where it came to rest and the move fails.

    Args:
        position: where it stands at first, in mm.
        clock: its time; None for the reactor's.
    """

    identity = Identity("labnet", "SIM-STAGE", "S0000001", "1.0")

    velocity = parameter(
        float, unit="mm/s", limits=SPEEDS, initial=100.0, scpi="VELocity",
        help="Velocity of the moves that begin from now on",
    )  # fmt: skip
    acceleration = parameter(
        float, unit="mm/s^2", limits=(10.0, 10000.0), initial=1000.0, scpi="ACCeleration",
        help="Acceleration and deceleration of the moves that begin from now on",
    )  # fmt: skip
    moving = parameter(bool, access="r", scpi="MOVing", help="Whether the stage is on its way")

    def __init__(self, position: float = 0.0, clock: IReactorTime | None = None) -> None:
        if not TRAVEL[0] <= position <= TRAVEL[1]:
            raise OutOfRange("position", position, *TRAVEL)
        super().__init__(0, clock)
        self._rest = float(position)
        self._end = self._rest
        self._motion: Motion | None = None
        self._timer: IDelayedCall | None = None
        self._move: Deferred[float] | None = None
        self._stops: list[Deferred[float]] = []
        self.store("position", self._rest)
        self.store("target", self._rest)

    @parameter(unit="mm", limits=TRAVEL, display="{:.4f}", scpi="POSition")
    def position(self) -> float:
        """Where the stage is, to 0.1 um; reported during a move too."""
        where = self._rest if self._motion is None else self._motion.at(self._now())[0]
        return round(where, 4)

    @parameter(unit="mm", limits=TRAVEL, display="{:.4f}", scpi="TARGet", groups="NoConfig")
    def target(self) -> float:
        """Where the last move leads; setting it begins a move and does not wait for its end."""
        return self._end

    @target.setter  # type: ignore[no-redef]
    def target(self, position: float) -> None:
        self._go(position, self.velocity).addErrback(lambda stopped: None)

    @command(
        long=True, timeout=LONGEST, scpi="MOVE[:ABSolute]",
        limits={"position": TRAVEL}, units={"position": "mm"}, unit="mm",
    )  # fmt: skip
    async def move_abs(self, position: float) -> float:
        """Moves to a position; answers the position when it is there."""
        return await self._go(position, self.velocity)

    @command(
        long=True, timeout=LONGEST, scpi="MOVE:RELative", units={"distance": "mm"}, unit="mm"
    )
    async def move_rel(self, distance: float) -> float:
        """Moves by a distance; answers the position when it is there."""
        self._refuse_if_moving()
        return await self._go(round(self._rest + distance, 9), self.velocity)

    @command(long=True, timeout=LONGEST, scpi="HOME", unit="mm")
    async def home(self) -> float:
        """Moves to the reference at 0 mm, at 50 mm/s or less; answers the position."""
        return await self._go(TRAVEL[0], min(self.velocity, HOMING))

    @command(long=True, timeout=LONGEST, scpi="STOP", unit="mm")
    def stop(self) -> float | Deferred[float]:
        """Brakes; answers the position at which the stage came to rest. The move fails."""
        if self._motion is None:
            return float(self.position)
        if not self._stops:
            now = self._now()
            self._follow(brake(now, *self._motion.at(now), self.acceleration))
        stopped: Deferred[float] = Deferred()
        self._stops.append(stopped)
        return stopped

    def disconnect(self) -> None:
        """Power off: the stage stands still at once, and who waits for a move is told."""
        if self._motion is not None:
            self._stand(self.position, reached=False)

    def _refuse_if_moving(self) -> None:
        if self._motion is not None:
            raise DeviceFault(
                f"the stage is moving to {self.target:g} mm; wait, or stop it first", "Busy", -221
            )

    def _go(self, end: float, velocity: float) -> Deferred[float]:
        """Begins a move; the Deferred fires with the position when it has ended."""
        self._refuse_if_moving()
        if not TRAVEL[0] <= end <= TRAVEL[1]:
            raise OutOfRange("position", end, *TRAVEL)
        self._end = end
        self.store("target", end)
        move: Deferred[float] = Deferred()
        if end == self._rest:
            move.callback(self.position)
            return move
        self._move = move
        self._follow(ramp(self._now(), self._rest, end, velocity, self.acceleration))
        self.store("moving", True)
        return move

    def _follow(self, motion: Motion) -> None:
        """Takes a new course and reports the positions on it."""
        if self._timer is not None:
            self._timer.cancel()
        self._motion = motion
        self._timer = self._clock.callLater(min(REPORT, motion.duration), self._report)

    def _report(self) -> None:
        assert self._motion is not None
        self._timer = None
        left = self._motion.begin + self._motion.duration - self._now()
        if left > 1e-9:
            self.store("position", self.position)
            self._timer = self._clock.callLater(min(REPORT, left), self._report)
        else:
            stopped = bool(self._stops)
            self._stand(self.position if stopped else self._end, reached=not stopped)

    def _stand(self, position: float, reached: bool) -> None:
        """The stage has come to rest: tells all who wait for it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._motion, self._rest = None, position
        move, self._move = self._move, None
        stops, self._stops = self._stops, []
        self.store("position", self.position)
        self.store("moving", False)
        if move is not None and reached:
            move.callback(self.position)
        elif move is not None:
            text = f"stopped at {position:g} mm on the way to {self._end:g} mm"
            move.errback(Failure(DeviceFault(text, "Stopped")))
        for stopped in stops:
            stopped.callback(self.position)
