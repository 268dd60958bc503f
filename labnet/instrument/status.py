"""What an instrument reports about itself: registers, error queue, service request.

IEEE 488.2 chapter 11 (status byte, standard event status) and SCPI-1999 volume 1, chapter 9
(OPERation, QUEStionable and the error queue). Each client has its own, so nobody takes
another one's errors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import IntFlag

from labnet.instrument.errors import ScpiError, event_bit

#: Entries that the error queue holds; the newest gives way to -350 when it is full.
ERROR_QUEUE = 30


class StatusByte(IntFlag):
    """Bits of the status byte; bit 6 is MSS in ``*STB?`` and RQS in a serial poll."""

    DEVICE = 1  # the device itself asked for service
    ERRORS = 4
    QUESTIONABLE = 8
    MESSAGE_AVAILABLE = 16
    EVENT_SUMMARY = 32
    SERVICE = 64
    OPERATION = 128


class Event(IntFlag):
    """Bits of the standard event status register."""

    OPERATION_COMPLETE = 1
    REQUEST_CONTROL = 2
    QUERY_ERROR = 4
    DEVICE_ERROR = 8
    EXECUTION_ERROR = 16
    COMMAND_ERROR = 32
    USER_REQUEST = 64
    POWER_ON = 128


class RegisterGroup:
    """A 15-bit condition with its transition filters, event register and enable mask."""

    ALL = 0x7FFF

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._enable = 0
        self.condition = 0
        self.event = 0
        self.positive = self.ALL
        self.negative = 0

    @property
    def enable(self) -> int:
        """The mask of events that show in the status byte."""
        return self._enable

    @enable.setter
    def enable(self, mask: int) -> None:
        self._enable = mask
        self._changed()

    @property
    def summary(self) -> bool:
        """Whether an enabled event has happened."""
        return bool(self.event & self._enable)

    def update(self, condition: int) -> None:
        """A new condition; edges that pass the filters become events."""
        condition &= self.ALL
        rising, falling = condition & ~self.condition, self.condition & ~condition
        self.condition = condition
        self.event |= (rising & self.positive) | (falling & self.negative)
        self._changed()

    def read_event(self) -> int:
        """The event register, which reading clears."""
        event, self.event = self.event, 0
        self._changed()
        return event

    def clear(self) -> None:
        """Forget the events (``*CLS``)."""
        self.event = 0

    def preset(self) -> None:
        """As ``STATus:PRESet``: nothing enabled, rising edges count."""
        self._enable, self.positive, self.negative = 0, self.ALL, 0


class Status:
    """The registers and the error queue of one client.

    `service_requested` is called with the status byte when a new reason for service comes up
    that the client has enabled with ``*SRE``; bit 6 then stays set, and further reasons are not
    told, until a serial poll. `service_ended` is called when bit 6 is taken back, by a poll or
    because no reason is left.
    """

    def __init__(self, service_requested: Callable[[int], None] | None = None) -> None:
        self.service_requested = service_requested
        self.service_ended: Callable[[], None] | None = None
        #: Let a request of the device itself through even where ``*SRE`` does not name it.
        self.device_requests = False
        self.operation = RegisterGroup(self.update)
        self.questionable = RegisterGroup(self.update)
        self._errors: deque[ScpiError] = deque()
        self._esr: int = Event.POWER_ON
        self._ese = 0
        self._sre = 0
        self._device = 0
        self._available = False
        self._reasons = 0  # enabled bits of the status byte at the last update
        self._requesting = False

    # The registers

    @property
    def event_enable(self) -> int:
        """``*ESE``"""
        return self._ese

    @event_enable.setter
    def event_enable(self, mask: int) -> None:
        self._ese = mask
        self.update()

    @property
    def service_enable(self) -> int:
        """``*SRE``; bit 6 of it is always 0."""
        return self._sre

    @service_enable.setter
    def service_enable(self, mask: int) -> None:
        self._sre = mask & ~StatusByte.SERVICE
        self.update()

    @property
    def message_available(self) -> bool:
        """Whether a response waits to be read."""
        return self._available

    @message_available.setter
    def message_available(self, available: bool) -> None:
        if available is not self._available:
            self._available = available
            self.update()

    def set_event(self, bits: int) -> None:
        """Something has happened that the standard event status register keeps."""
        self._esr |= bits
        self.update()

    def read_events(self) -> int:
        """``*ESR?``: the standard event status register, which reading clears."""
        events, self._esr = self._esr, 0
        self.update()
        return events

    def _summary(self) -> int:
        byte = self._device
        if self._errors:
            byte |= StatusByte.ERRORS
        if self.questionable.summary:
            byte |= StatusByte.QUESTIONABLE
        if self._available:
            byte |= StatusByte.MESSAGE_AVAILABLE
        if self._esr & self._ese:
            byte |= StatusByte.EVENT_SUMMARY
        if self.operation.summary:
            byte |= StatusByte.OPERATION
        return byte

    def status_byte(self, available: bool = False) -> int:
        """``*STB?``, with MSS; `available` says that this message has made output already."""
        byte = self._summary()
        if available:
            byte |= StatusByte.MESSAGE_AVAILABLE
        return int(byte | (StatusByte.SERVICE if byte & self._sre else 0))

    def serial_poll(self) -> int:
        """The status byte with RQS in bit 6, which the poll clears."""
        byte = self.peek()
        self._end_request()
        self._device = 0
        self.update()
        return byte

    def _end_request(self) -> None:
        if self._requesting:
            self._requesting = False
            if self.service_ended is not None:
                self.service_ended()

    def peek(self) -> int:
        """What a serial poll would answer; nothing is cleared."""
        return int(self._summary() | (StatusByte.SERVICE if self._requesting else 0))

    def update(self) -> None:
        """Look for a new reason for service (IEEE 488.2 section 11.3.3)."""
        if not self._sre and not self.device_requests:  # nobody wants to know: each response asks
            self._reasons = 0
            self._end_request()
            return
        enabled = self._sre | (StatusByte.DEVICE if self.device_requests else 0)
        reasons = self._summary() & enabled
        new, self._reasons = reasons & ~self._reasons, reasons
        if not reasons:
            self._end_request()
        if new and not self._requesting:
            self._requesting = True
            if self.service_requested is not None:
                self.service_requested(self.peek())

    def request_service(self) -> None:
        """The device asks for service by itself."""
        self._esr |= Event.USER_REQUEST
        self._device = StatusByte.DEVICE
        self._reasons &= ~StatusByte.DEVICE  # a second request is a new reason
        self.update()

    # The error queue

    def error(self, error: ScpiError) -> None:
        """Puts an error into the queue and sets its event bit."""
        self._esr |= event_bit(error.number)
        if len(self._errors) < ERROR_QUEUE:
            self._errors.append(error)
        else:
            self._errors[-1] = ScpiError(-350)
            self._esr |= event_bit(-350)
        self.update()

    @property
    def error_count(self) -> int:
        return len(self._errors)

    def next_error(self) -> ScpiError:
        """Takes the oldest error; number 0 when there is none."""
        error = self._errors.popleft() if self._errors else ScpiError(0)
        self.update()
        return error

    def all_errors(self) -> list[ScpiError]:
        """Takes all errors, oldest first."""
        errors = list(self._errors)
        self._errors.clear()
        self.update()
        return errors

    # Commands on the whole

    def clear(self) -> None:
        """``*CLS``: events and errors go; masks and output stay."""
        self._errors.clear()
        self._esr = 0
        self._device = 0
        self.operation.clear()
        self.questionable.clear()
        self.update()

    def preset(self) -> None:
        """``STATus:PRESet``"""
        self.operation.preset()
        self.questionable.preset()
        self.update()
