"""Updates to all subscribers: what changes together goes out as one message."""

from __future__ import annotations

from collections.abc import Collection, Sized
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.interfaces import IDelayedCall

from labnet.deadlines import Clock
from labnet.logs import Logger
from labnet.values import Reading
from labnet.wires.rogue.display import shown
from labnet.wires.rogue.pickles.fragments import update, updates
from labnet.wires.rogue.pickles.writer import NotPlain

if TYPE_CHECKING:
    from labnet.wires.rogue.variables import Variable

LARGEST: Final = 1 << 20
"""Bytes from which on a message goes out, whatever else may still change."""


class Outlet(Protocol):
    """Where messages go: a PUB socket."""

    def publish(self, parts: list[bytes]) -> None:
        """Sends one message to all of them."""


class Publisher:
    """Collects the updates of one turn of the reactor, and of one request, into messages.

    A variable that changes again before its message has gone out sends it on its way: so no value
    is left out. Variables in any of the groups `without`, or in none of `only` if there are any,
    are not published.
    """

    log = Logger()

    def __init__(
        self, clock: Clock, only: Collection[str] = (), without: Collection[str] = ()
    ) -> None:
        #: Who is connected; nothing is done for nobody.
        self.audience: Sized = ()
        self._outlet: Outlet | None = None
        #: While a request is carried out: its reply goes before its updates.
        self.holding = False
        self._clock = clock
        self._only = frozenset(only)
        self._without = frozenset(without)
        #: What has been collected, by variable.
        self.parts: dict[Any, bytes] = {}
        self._size = 0
        self._scheduled: IDelayedCall | None = None
        self._refused: set[str] = set()

    def connect(self, outlet: Outlet, audience: Sized) -> None:
        """From now on messages go to `outlet` whenever there is somebody in `audience`."""
        self._outlet = outlet
        self.audience = audience

    def publishes(self, groups: Collection[str]) -> bool:
        """Whether variables in these groups are published."""
        if not self._without.isdisjoint(groups):
            return False
        return not self._only or not self._only.isdisjoint(groups)

    def changed(self, variable: Variable, reading: Reading) -> None:
        """A variable has this value now."""
        if not self.audience:
            return
        template = variable.template
        if not template.published:
            return
        value = reading.value
        try:
            text = shown(value, template.disp, template.enum)
            part = update(template, value, text, reading.status, reading.severity)
        except (NotPlain, ValueError) as error:
            self._cannot(variable, error)
            return
        if variable in self.parts or self._size > LARGEST:
            self.flush()
        self.parts[variable] = part
        self._size += len(part)
        if not self.holding and self._scheduled is None:
            self._scheduled = self._clock.callLater(0, self._turn)

    def _cannot(self, variable: Variable, error: Exception) -> None:
        """Said once for each variable."""
        if variable.path not in self._refused and len(self._refused) < 1000:
            self._refused.add(variable.path)
            self.log.warn(
                "{variable} is not published: {error}", variable=variable.path, error=str(error)
            )

    def _turn(self) -> None:
        self._scheduled = None
        self.flush()

    def flush(self) -> None:
        """Sends what has been collected."""
        if self.parts and self._outlet is not None:
            self._outlet.publish([updates(self.parts.values())])
            self.parts.clear()
            self._size = 0

    def close(self) -> None:
        """Nothing goes out any more."""
        self._outlet = None
        self.audience = ()
        self.parts.clear()
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
