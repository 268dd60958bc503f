"""One program message being carried out, unit by unit.

A message that makes several calls of the device takes it for itself, so that no other message comes
between; it gives the device back while it waits in ``*OPC?``, ``*WAI`` or a long query.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from labnet.errors import Locked
from labnet.instrument.model import Action, Program, Wait
from labnet.instrument.response import Pieces
from labnet.instrument.response_unit import shaped
from labnet.registry import Node

if TYPE_CHECKING:
    from labnet.execution import Turn
    from labnet.instrument.interpreter import InstrumentChannel


class Exchange:
    """A program message on its way. `out` are the pieces of its response so far."""

    __slots__ = (
        "_at", "_program", "_terminator", "_timeout", "_turn", "_waiting", "channel", "done", "out",
        "over",
    )  # fmt: skip

    def __init__(
        self,
        channel: InstrumentChannel,
        program: Program,
        timeout: float | None,
        terminator: bytes,
    ) -> None:
        self.channel = channel
        self.out: Pieces = []
        self.over = False
        #: Fires with the response; made only if something has to wait.
        self.done: Deferred[bytes] | None = None
        self._program = program
        self._timeout = timeout
        self._terminator = terminator
        self._at = 0
        self._turn: Turn | None = None
        self._waiting: Deferred[Any] | None = None

    def start(self) -> bytes | Deferred[bytes]:
        """The response (empty if there is none), or a Deferred of it where something waits."""
        self._go_on()
        if self.over:
            return self._response()
        self.done = Deferred(lambda _: self.cancel())
        return self.done

    def cancel(self) -> None:
        """Stops where it is; what the device does already goes on."""
        self.over = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.addErrback(lambda _: None)
            waiting.cancel()
        self._give_back()

    def device(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        node: Node,
        *,
        long: bool = False,
        urgent: bool = False,
        timeout: float | None = None,
        verb: str = "message",
    ) -> Deferred[Any]:
        """One call of the device: within this message's turn, or in its queue if that is all."""
        limit = self._timeout if timeout is None else timeout
        if self._turn is None:
            return self.channel.session.run_message(
                function,
                args,
                node,
                self.channel.node,
                limit,
                long=long,
                urgent=urgent,
                verb=verb,
            )
        if limit is None:
            limit = self.channel.session.timeout
        return self._turn.run(function, args, what=node.path, timeout=limit, long=long)

    def _response(self) -> bytes:
        """All pieces joined, once: a block of megabytes is copied no more often than that."""
        if self.out and self._terminator:
            self.out.append(self._terminator)
        return b"".join(self.out)

    def _go_on(self) -> None:
        """Carries out units until one has to wait or all are done."""
        steps = self._program.steps
        while self._at < len(steps) and not self.over:
            step = steps[self._at]
            action = step.action
            if action is None:
                self.channel.failed(step.fault)
                self._at += 1
                continue
            try:
                if not (action.local or self._prepared(action)):
                    return
                value = action.begin(self, step.numbers, step.data)
                if value.__class__ is not bytes and isinstance(value, Wait | Deferred):
                    if isinstance(value, Wait):
                        self._give_back()
                        value = value.until
                    if not value.called or value.paused:
                        self._wait(value, self._returned)
                        return
                    value = _result(value)
                self._finish(action, value)
            except Exception as error:
                self.channel.failed(error)
            self._at += 1
        self._end()

    def _prepared(self, action: Action) -> bool:
        """Whether the unit can be begun now; if not, this message goes on when it can."""
        try:
            self.channel.check_locks(action.verb)
        except Locked:
            if not self.channel.session.wait_for_locks:
                raise
            self._give_back()
            self._wait(self.channel.when_unlocked(), self._clear)
            return False
        if not self._program.turn or (self._turn is not None and not self._turn.over):
            return True
        turn = self.channel.take_turn(self._timeout)
        if not turn.called:
            self._wait(turn, self._has_turn)
            return False
        self._turn = _result(turn)
        return True

    def _finish(self, action: Action, value: Any) -> None:
        unit = action.finish(self, value)
        if unit is not None:
            if self.out:
                self.out.append(b";")
            form = self.channel.response_unit
            if form is not None:
                unit = shaped(form, self.channel.node, action, unit)
            self.out += unit

    def _wait(self, deferred: Deferred[Any], then: Callable[[Any], None]) -> None:
        self._waiting = deferred
        deferred.addBoth(self._woken, then)

    def _woken(self, result: Any, then: Callable[[Any], None]) -> None:
        self._waiting = None
        if self.over:
            return
        then(result)
        self._go_on()

    def _returned(self, result: Any) -> None:
        action = self._program.steps[self._at].action
        self._at += 1
        try:
            if isinstance(result, Failure):
                self.channel.failed(result.value)
            elif action is not None:
                self._finish(action, result)
        except Exception as error:
            self.channel.failed(error)

    def _has_turn(self, result: Any) -> None:
        if not isinstance(result, Failure):
            self._turn = result
        else:
            self.channel.failed(result.value)
            self._at += 1

    def _clear(self, result: Any) -> None:
        """Another's lock has gone, or this session cannot wait for that any more."""
        if isinstance(result, Failure):
            self.channel.failed(result.value)
            self._at += 1

    def _give_back(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.done()

    def _end(self) -> None:
        if self.over:
            return
        self.over = True
        if self._turn is not None:
            self._give_back()
        if self.done is not None:
            self.done.callback(self._response())


def _result(deferred: Deferred[Any]) -> Any:
    """The result of a Deferred that has fired; raises its failure."""
    result = deferred.result
    if isinstance(result, Failure):
        deferred.addErrback(lambda _: None)
        result.raiseException()
    return result

