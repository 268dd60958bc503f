"""Reading a device's polled parameters when they are due and the device is free."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from labnet.calls import read_state
from labnet.logs import Logger
from labnet.registry import DeviceNode, Node, ParameterNode

if TYPE_CHECKING:
    from labnet.lab import Lab

#: Seconds that a poll may take, if neither its interval nor the device allows more.
LONGEST_POLL = 10.0

log = Logger()


class Nobody:
    """The lab itself as a caller."""

    outstanding = 0
    name = "the lab"


class Poller:
    """Reads the polled parameters of one device when they are due and the device is free."""

    def __init__(self, lab: Lab, node: DeviceNode) -> None:
        self._lab = lab
        self._queue = node.device_queue
        self._plans: dict[ParameterNode, tuple[float, IDelayedCall]] = {}
        self._failing: set[ParameterNode] = set()

    def plan(self, parameter: ParameterNode) -> None:
        """A parameter is there, or its poll interval may have changed."""
        interval = parameter.spec.poll
        planned = self._plans.get(parameter)
        if planned is not None and planned[0] == interval:
            return
        if planned is not None:
            planned[1].cancel()
            del self._plans[parameter]
        if interval:
            self._wait(parameter, interval)

    def _wait(self, parameter: ParameterNode, interval: float) -> None:
        call = self._lab.clock.callLater(interval, self._poll, parameter, interval)
        self._plans[parameter] = interval, call

    def _poll(self, parameter: ParameterNode, interval: float) -> None:
        self._wait(parameter, interval)
        queue = self._queue
        if queue.free and queue.unavailable is None and self._wanted(parameter):
            reading = queue.run(
                read_state,
                (parameter.state,),
                caller=Nobody(),
                verb="poll",
                needs=(),
                what=f"poll of {parameter.path}",
                timeout=max(interval, queue.limit or LONGEST_POLL),
            )
            reading.addCallbacks(
                self._came, self._failed, (parameter,), errbackArgs=(parameter,)
            )

    def _wanted(self, parameter: ParameterNode) -> bool:
        if parameter.state.device.polls_unheard:
            return True
        heard = self._lab.updates.heard
        return any(heard(node) for node in parameter.needs if isinstance(node, ParameterNode))

    def _came(self, reading: object, parameter: ParameterNode) -> None:
        if parameter in self._failing:
            self._failing.discard(parameter)
            log.info("{parameter} can be read again", parameter=parameter.path)

    def _failed(self, failure: Failure, parameter: ParameterNode) -> None:
        """Said once, however often it happens until it can be read again."""
        if parameter not in self._failing:
            self._failing.add(parameter)
            reason = failure.getErrorMessage()
            log.warn("{parameter} cannot be read: {why}", parameter=parameter.path, why=reason)

    def forget(self, node: Node) -> None:
        """A parameter is there no longer."""
        if isinstance(node, ParameterNode) and node in self._plans:
            self._plans.pop(node)[1].cancel()
            self._failing.discard(node)

    def stop(self) -> None:
        """No more polls."""
        for _, call in self._plans.values():
            call.cancel()
        self._plans.clear()
