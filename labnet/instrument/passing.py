"""The channel to a device that speaks messages itself: they are passed on as they are.

A query and its answer are one job in the device's queue, so two sessions can never read each
other's answers. What touches nobody but the client is answered here where that is needed: the lock,
errors of this channel itself, and under another's lock what stays open to all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from labnet.errors import DeviceFault, Locked, TooLarge
from labnet.framing.program_message import ProgramMessageSplitter
from labnet.instrument.data import Message
from labnet.instrument.interpreter import InstrumentChannel
from labnet.instrument.model import Program
from labnet.instrument.parser import parse
from labnet.instrument.standard import Local, Topic

#: Longest answer of a device that is kept, in bytes.
MAX_ANSWER = 1 << 30
#: Longest message that is looked at for what is answered here.
_SHORT = 128


class PassingChannel(InstrumentChannel):
    """Hands whole messages to ``device.message(data, expect_reply)``.

    That method gives the whole answer without its terminator, or None. The device may have more:
    ``expects_reply(data)`` tells which messages are answered (else those with a question mark
    outside strings and blocks); ``poll_status()`` makes a serial poll, ``clear()`` a device clear,
    ``trigger()`` a trigger; with ``keeps_terminators`` true, CR and LF at the end of a message are
    passed on too.
    """

    @property
    def can_trigger(self) -> bool:
        return True

    def _perform(
        self, message: Message, timeout: float | None, terminator: bytes
    ) -> bytes | Deferred[bytes]:
        if len(message) <= _SHORT and self._answered_here(self._program(message)):
            return super()._perform(message, timeout, terminator)
        try:
            if not self.session.wait_for_locks:
                self.check_locks()
        except Locked as error:
            self.failed(error)
            return b""
        return self._pass_on(message, timeout, terminator)

    def _answered_here(self, program: Program) -> bool:
        topics = {
            step.action.topic if isinstance(step.action, Local) else None for step in program.steps
        }
        if not topics or None in topics or Topic.OTHER in topics:
            return False
        if topics <= {Topic.LOCK, Topic.LISTENER}:
            return True
        if topics == {Topic.ERRORS} and self.status.error_count:
            return True
        if self.session.wait_for_locks:
            return False
        try:
            self.check_locks()
        except Locked:
            return True
        return False

    def _pass_on(
        self, message: Message, timeout: float | None, terminator: bytes
    ) -> bytes | Deferred[bytes]:
        device: Any = self.node.device
        data = bytes(message)
        if not getattr(device, "keeps_terminators", False):
            data = without_terminator(data)
            if not data:
                return b""
        tells = getattr(device, "expects_reply", None)
        expected = tells(data) if callable(tells) else asks(data)
        done = self._hook(device.message, (data, expected), timeout)
        answer: Deferred[bytes] = done.addCallback(self._answer, terminator)
        return answer.addErrback(self._not_passed)

    def _hook(
        self, function: Callable[..., Any], args: tuple[Any, ...], timeout: float | None
    ) -> Deferred[Any]:
        return self.session.run_message(function, args, self.node, self.node, timeout)

    def _answer(self, answer: Any, terminator: bytes) -> bytes:
        if answer is None:
            return b""
        if not isinstance(answer, bytes | bytearray | memoryview):
            raise DeviceFault(f"{self.node.path} gave an answer that is not bytes")
        if len(answer) > MAX_ANSWER:
            raise TooLarge(f"an answer of {self.node.path} has more than {MAX_ANSWER} bytes")
        return b"".join((answer, terminator)) if terminator else bytes(answer)

    def _not_passed(self, failure: Failure) -> bytes:
        if failure.check(CancelledError) or self.closed:
            failure.raiseException()
        self.failed(failure.value)
        return b""

    def trigger(self, timeout: float | None = None) -> Deferred[None]:
        """The device's own trigger, else ``*TRG``."""
        own = getattr(self.node.device, "trigger", None)
        if not callable(own):
            return super().trigger(timeout)
        done = self._hook(own, (), timeout).addErrback(self._not_passed)
        return done.addCallback(lambda _: None)

    def status_byte(self) -> Deferred[int]:
        """The device's own status byte where it can be polled, with this session's MAV."""
        poll = getattr(self.node.device, "poll_status", None)
        if not callable(poll):
            return super().status_byte()
        return self._hook(poll, (), None).addCallbacks(self._polled, self._not_polled)

    def _polled(self, byte: int) -> int:
        return int(byte) & 0xEF | (0x10 if self.message_available else 0)

    def _not_polled(self, failure: Failure) -> int:
        self._not_passed(failure)
        return self.status.serial_poll()

    def clear(self) -> None:
        """Device clear: this session's messages, and the device if it has a clear of its own.

        A device that somebody else has locked is left alone.
        """
        super().clear()
        own = getattr(self.node.device, "clear", None)
        if not callable(own) or self.closed:
            return
        try:
            self.check_locks()
        except Locked:
            return
        self._hook(own, (), None).addErrback(self._not_passed)


def without_terminator(message: bytes) -> bytes:
    """The message without the CR and LF at its end, unless they belong to a block or a string."""
    if b"#" not in message and b'"' not in message and b"'" not in message:
        return message.rstrip(b"\r\n")
    if not message.endswith(b"\n"):
        return message
    splitter = ProgramMessageSplitter(text_limit=len(message), string_limit=len(message))
    splitter.feed(message)
    return message if splitter.pending else message[:-1]


def asks(message: bytes) -> bool:
    """Whether a message has a question mark outside strings and blocks."""
    if b"?" not in message:
        return False
    if b"#" not in message and b'"' not in message and b"'" not in message:
        return True
    return any(unit.query for unit in parse(message))

