"""The channel to a device with a parameter model: SCPI made of its parameters and commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from labnet.errors import LabError, UnknownName
from labnet.instrument.channel import MessageChannel
from labnet.instrument.data import Message
from labnet.instrument.errors import ScpiError
from labnet.instrument.exchange import Exchange
from labnet.instrument.header import CommandTree, read_pattern
from labnet.instrument.model import (
    Action,
    Instrument,
    Program,
    Step,
    instrument_of,
    make_program,
)
from labnet.instrument.parser import Unit, parse
from labnet.instrument.response import ASCII
from labnet.instrument.response_unit import ResponseUnit
from labnet.instrument.standard import Local, Topic, add_standard_headers
from labnet.instrument.status import Event
from labnet.registry import DeviceNode, ParameterNode
from labnet.session import Session
from labnet.updates import Update

#: Most commands of one session that may go on at the same time.
MAX_OVERLAPPED = 100

# Parameters by which a device reports to the status registers of every client.
_SERVICE = "service_request"
_OPERATION = "operation_condition"
_QUESTIONABLE = "questionable_condition"


def instrument(node: DeviceNode) -> Instrument:
    """The instrument of a device; raises `HeaderError`."""
    return instrument_of(node, add_standard_headers)


class InstrumentChannel(MessageChannel):
    """Carries out SCPI messages on a device's parameters and commands.

    A device reports by parameters, if it has them: each new value of ``service_request`` asks for
    service, ``operation_condition`` and ``questionable_condition`` are the conditions of the
    OPERation and QUEStionable registers. It gives its responses a shape of its own by a method
    ``response_unit``; see `labnet.instrument.response_unit`.
    """

    def __init__(self, session: Session, node: DeviceNode) -> None:
        super().__init__(session, node)
        self.response_unit: ResponseUnit | None = getattr(node.device, "response_unit", None)
        self._instrument = instrument(node)
        self._own: CommandTree[Action] | None = None
        #: How this client wants arrays (``FORMat``).
        self.arrays = ASCII
        self._overlapped: set[Deferred[Any]] = set()
        self._idle: list[Deferred[None]] = []
        self._complete = False  # *OPC is waiting to set its event
        self._listen()

    @property
    def instrument(self) -> Instrument:
        """The command tree of the device."""
        return self._instrument

    @property
    def can_trigger(self) -> bool:
        try:
            self._instrument.tree.find(("*TRG",), False)
        except ScpiError:
            return False
        return True

    def define(self, header: str, answer: Callable[[], int | str | bytes]) -> None:
        if self._own is None:
            self._own = CommandTree()
        query = Local(lambda run, data: answer(), topic=Topic.LISTENER)
        self._own.add(read_pattern(header), "the listener", query=query)

    # Messages

    def _perform(
        self, message: Message, timeout: float | None, terminator: bytes
    ) -> bytes | Deferred[bytes]:
        program = self._instrument.known.get(message) if message.__class__ is bytes else None
        if program is None or program.undefined or self._own is not None:
            program = self._program(message)
        exchange = Exchange(self, program, timeout, terminator)
        if self.session.wait_for_locks and self.session.shut_out("message", self.node):
            clear = self.when_unlocked()
            return clear.addCallbacks(lambda _: exchange.start(), self._not_clear)
        return exchange.start()

    def _not_clear(self, failure: Failure) -> bytes:
        failure.trap(LabError)
        self.failed(failure.value)
        return b""

    def _program(self, message: Message) -> Program:
        if self._own is not None:
            return make_program([self._look_up(unit) for unit in parse(message)])
        program = self._instrument.program(message)
        if program.undefined and self._instrument.outdated:
            self._instrument = instrument(self.node)
            program = self._instrument.program(message)
        return program

    def _look_up(self, unit: Unit) -> Step:
        assert self._own is not None
        try:
            leaf, _ = self._own.find(unit.nodes, unit.query)
        except ScpiError:
            return self._instrument.look_up(unit)
        return Step(leaf.target, (), unit.data, unit.fault)

    def take_turn(self, timeout: float | None) -> Deferred[Any]:
        """The device for the rest of a message."""
        return self.session.turn(self.node, timeout)

    # Overlapped commands (IEEE 488.2 section 12)

    def overlap(self, done: Deferred[Any]) -> None:
        """A long command goes on while its client's next messages are carried out."""
        self._overlapped.add(done)
        done.addBoth(self._overlap_ended, done)

    def _overlap_ended(self, result: Any, done: Deferred[Any]) -> None:
        self._overlapped.discard(done)
        if isinstance(result, Failure) and not self.closed:
            self.failed(result.value)
        if self._overlapped:
            return
        if self._complete:
            self._complete = False
            self.status.set_event(Event.OPERATION_COMPLETE)
        idle, self._idle = self._idle, []
        for waiting in idle:
            waiting.callback(None)

    def when_idle(self) -> Deferred[None] | None:
        """Fires when all overlapped commands are done; None if there are none."""
        if not self._overlapped:
            return None
        waiting: Deferred[None] = Deferred(self._no_longer_waiting)
        self._idle.append(waiting)
        return waiting

    def _no_longer_waiting(self, waiting: Deferred[None]) -> None:
        self._idle = [other for other in self._idle if other is not waiting]

    def complete_when_idle(self) -> None:
        """``*OPC``"""
        self._complete = bool(self._overlapped)
        if not self._complete:
            self.status.set_event(Event.OPERATION_COMPLETE)

    def forget_completion(self) -> None:
        """A pending ``*OPC`` sets nothing any more (``*CLS``, ``*RST``, device clear)."""
        self._complete = False

    def clear(self) -> None:
        self.forget_completion()
        super().clear()

    def close(self) -> None:
        super().close()
        for done in list(self._overlapped):
            done.addErrback(lambda failure: failure.trap(CancelledError, LabError) and None)

    # What the device reports by itself

    def _listen(self) -> None:
        """Follows the parameters by which a device reports, if it has any."""
        paths = []
        for name in (_SERVICE, _OPERATION, _QUESTIONABLE):
            child = self.node.children.get(name)
            if isinstance(child, ParameterNode):
                paths.append(child.path)
                self._condition(name, child.state.reading.value)
        if paths:
            try:
                self.session.subscribe(paths, self._reported)
            except UnknownName:
                pass  # the device has just left the lab

    def _reported(self, updates: list[Update]) -> None:
        for update in updates:
            if update.what == "value" and update.reading is not None:
                name = update.path.rpartition(".")[2]
                if name == _SERVICE:
                    self.status.request_service()
                else:
                    self._condition(name, update.reading.value)

    def _condition(self, name: str, value: Any) -> None:
        if name in (_OPERATION, _QUESTIONABLE) and isinstance(value, int):
            group = self.status.operation if name == _OPERATION else self.status.questionable
            group.update(value)
