"""Devices brought up, and up again: opening, loss and return, calls that hang.

A device that cannot be opened stays in the lab as not connected, with the reason, and is tried
again with growing pauses; so is one that was lost. One that a client has disconnected waits for a
client to connect it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import random
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from labnet.calls import read_state
from labnet.device import Device
from labnet.errors import LabError
from labnet.logs import Logger
from labnet.polling import LONGEST_POLL, Nobody
from labnet.registry import DeviceNode, ParameterNode
from labnet.updates import Update

if TYPE_CHECKING:
    from labnet.lab import Lab

log = Logger()


@dataclass(frozen=True)
class Retry:
    """How a device is opened again; times in seconds.

    `first` is the pause before the second attempt, 0 for no further one; each failure doubles it,
    up to `longest`. Up to the share `jitter` of a pause is added by chance, so that many devices do
    not all try at once. `limit` is how long one attempt may take.
    """

    first: float = 1.0
    longest: float = 60.0
    jitter: float = 0.1
    limit: float | None = 30.0


RETRY = Retry()


class Supervisor:
    """Keeps one device of a lab open."""

    def __init__(self, lab: Lab, node: DeviceNode, retry: Retry) -> None:
        self._lab = lab
        self._node = node
        self._queue = node.device_queue
        self._retry = retry
        self._pause = retry.first
        self._timer: IDelayedCall | None = None
        self._probe: IDelayedCall | None = None
        self._attempt: Deferred[None] | None = None
        self._wanted = True  # nobody has disconnected it
        self._lost_at: float | None = None
        self._told = ""
        self._closed = False

    def change_retry(self, first: float, longest: float) -> None:
        """Other pauses between two attempts (s); one that is going on begins anew."""
        self._retry = replace(self._retry, first=first, longest=longest)
        self._pause = first
        self._stop_timer()
        if self._queue.unavailable is not None and self._attempt is None:
            self._later()

    @property
    def _opens(self) -> bool:
        return type(self._node.device).connect is not Device.connect

    def begin(self) -> None:
        """The device has come into the lab: opens it."""
        if self._opens:
            self._queue.unavailable = "it is being opened"
            self._open()
        self._plan_probe()

    # Up and down

    def _open(self) -> None:
        self._timer = None
        if self._queue.stuck() is not None:
            self._later()  # what hangs in there is not given another call
            return
        limit = self._retry.limit
        if limit is not None and self._queue.limit is not None:
            limit = max(limit, self._queue.limit)
        attempt = self.hardware("connect", Nobody(), limit)
        if not attempt.called:
            self._attempt = attempt
        # What went wrong has been said, and the next attempt planned, in `_down`.
        attempt.addBoth(self._attempted)

    def _attempted(self, _: object) -> None:
        self._attempt = None

    def _end_attempt(self) -> None:
        """Somebody else has a say now: an attempt under way is given up."""
        if self._attempt is not None:
            self._attempt.cancel()

    def _later(self) -> None:
        wanted = self._wanted and not self._closed  # closed from within `lose`, too
        if self._timer is None and self._opens and wanted and self._retry.first:
            pause = self._pause * (1 + self._retry.jitter * random())
            self._timer = self._lab.clock.callLater(pause, self._open)
            self._pause = min(2 * self._pause, self._retry.longest)

    def _down(self, reason: str) -> None:
        if self._closed:
            return
        if self._lost_at is None:
            self._lost_at = self._lab.clock.seconds()
        self._lab.lose(self._node, reason)
        self._later()
        if reason != self._told:
            self._told = reason
            again = "" if self._timer is None else "; it is tried again"
            log.error(
                "{device} is not connected: {reason}{again}",
                device=self._node.path,
                reason=reason,
                again=again,
            )

    def _up(self) -> None:
        if self._closed:
            return
        self._stop_timer()
        self._pause = self._retry.first
        self._queue.regain()
        if self._told:
            log.info("{device} is connected", device=self._node.path)
            self._told = ""
        since, self._lost_at = self._lost_at, None
        spread, path = self._lab.updates.spread, self._node.path
        spread(self._node, Update(path, "back"))
        if since is not None:
            spread(self._node, Update(path, "gap", detail=self._lab.clock.seconds() - since))
        self._refresh()

    def _refresh(self) -> None:
        """Those who listen get the values that the device has now."""
        for parameter in list(self._node.parameters()):
            if parameter.spec.readable and self._lab.updates.heard(parameter):
                self._read(parameter)

    def _read(self, parameter: ParameterNode) -> None:
        state = parameter.state
        if state.getter is None:
            self._lab.updates.publish(
                parameter, Update(parameter.path, "value", state.reading)
            )
            return
        reading = self._queue.run(
            read_state,
            (state,),
            caller=Nobody(),
            verb="poll",
            needs=(),
            what=f"reading {parameter.path}",
            timeout=self._queue.limit or LONGEST_POLL,
        )
        reading.addErrback(lambda _: None)  # one that is polled is tried again

    def reported(self, reason: str | None) -> None:
        """The device itself says that it is lost, or for None that it is back."""
        if reason is None:
            if self._queue.unavailable is not None:
                self._up()
        elif self._queue.unavailable is None and not self._closed:
            self._down(reason)

    # Opening and closing

    def hardware(self, verb: str, caller: Any, timeout: float | None) -> Deferred[None]:
        """Opens or closes the device's connection to its hardware.

        A client who does that also ends a call in which the device is stuck.
        """
        nobody = isinstance(caller, Nobody)
        needs = () if nobody else (self._node,)
        if not nobody and (self._attempt is not None or self._queue.stuck() is not None):
            try:
                self._queue.check(caller, verb, needs)
                self._end_attempt()
                self._queue.restart()
            except LabError as error:
                return fail(error)
        device = self._node.device
        function = device.connect if verb == "connect" else device.disconnect
        what = f"{self._node.path} {verb}"
        begun: list[bool] = []

        def begin() -> Any:
            begun.append(True)
            return function()

        done = self._queue.run(
            begin, caller=caller, verb=verb, needs=needs, what=what, timeout=timeout
        )
        if verb == "connect":
            done.addCallbacks(self._connected, self._not_connected, errbackArgs=(what, begun))
        else:
            done.addCallback(self._disconnected, getattr(caller, "name", "the lab"))
        return done

    def _connected(self, _: object) -> None:
        self._wanted = True
        self._up()
        self._lab.device_locks.settle(self._node)

    def _not_connected(self, failure: Failure, what: str, begun: list[bool]) -> Failure:
        if begun:  # else nothing has happened to the device
            self._wanted = True
            given_up = failure.check(CancelledError) is not None
            self._down(f"{what} was given up" if given_up else failure.getErrorMessage())
        elif self._queue.unavailable is not None:
            self._later()
        return failure

    def _disconnected(self, _: object, by: str) -> None:
        self._wanted = False
        self._stop_timer()
        self._told = ""
        self._lost_at = self._lab.clock.seconds()
        self._lab.lose(self._node, f"disconnected by {by}")

    # Signs of life

    def _plan_probe(self) -> None:
        device = self._node.device
        if device.probe_interval > 0 and not self._closed:
            clock = self._lab.clock
            self._probe = clock.callLater(device.probe_interval, self._probe_now)

    def _probe_now(self) -> None:
        queue = self._queue
        if queue.unavailable is None and queue.free:
            probed = queue.run(
                self._node.device.probe,
                caller=Nobody(),
                verb="poll",
                needs=(),
                what=f"a sign of life of {self._node.path}",
                timeout=queue.limit or LONGEST_POLL,
            )
            probed.addErrback(self._dead)
        self._plan_probe()

    def _dead(self, failure: Failure) -> None:
        if self._queue.unavailable is None:
            self._down(failure.getErrorMessage())

    # The end

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def close(self, wait: float = 5.0) -> Deferred[None]:
        """The device leaves the lab: closes it; fires when it is idle, or after `wait` seconds."""
        self._closed = True
        self._stop_timer()
        self._end_attempt()
        if self._probe is not None and self._probe.active():
            self._probe.cancel()
        queue, clock = self._queue, self._lab.clock
        end = clock.seconds() + wait
        if type(self._node.device).disconnect is Device.disconnect:
            return queue.stop(wait)
        closing = queue.run(
            self._node.device.disconnect,
            caller=Nobody(),
            verb="disconnect",
            needs=(),
            what=f"closing {self._node.path}",
            timeout=wait,
        )
        closing.addErrback(self._not_closed)
        return closing.addCallback(lambda _: queue.stop(max(0.0, end - clock.seconds())))

    def _not_closed(self, failure: Failure) -> None:
        log.warn("{device}: {reason}", device=self._node.path, reason=failure.getErrorMessage())
