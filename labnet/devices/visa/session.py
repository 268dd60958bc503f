"""One VISA resource in one thread: whole messages out, whole answers in, and always in step.

After an answer that did not come in time, the instrument may still send it. So before the next
message the session finds its way back: a socket is opened anew, an instrument with a device clear
is cleared, and a query whose answer is known (``*IDN?``) shows that everything older has passed.
"""

from __future__ import annotations

import re
import time
from typing import Any

import pyvisa
from pyvisa import constants, errors
from pyvisa.constants import StatusCode

from labnet.devices.visa.library import LOST, TIMED_OUT, Library, library_of
from labnet.devices.visa.settings import Settings
from labnet.errors import DeviceFault, LabError, NotConnected, TimedOut, TooLarge, quote
from labnet.framing.blocks import find_block
from labnet.logs import Logger

log = Logger()

#: The session is of no use after these.
_FATAL = {
    LOST, StatusCode.error_io, StatusCode.error_system_error, StatusCode.error_invalid_object,
    StatusCode.error_resource_not_found,
}  # fmt: skip
_UNSUPPORTED = {
    StatusCode.error_nonsupported_operation, StatusCode.error_nonimplemented_operation,
    StatusCode.error_nonsupported_attribute,
}  # fmt: skip
_WORDS = {
    LOST: "the connection to the instrument is lost",
    StatusCode.error_io: "the bus or the connection has failed",
    StatusCode.error_resource_locked: "another controller has locked the instrument",
    StatusCode.error_resource_not_found: "there is no such instrument, or it does not answer",
    StatusCode.error_resource_busy: "another program has the instrument open",
    StatusCode.error_machine_not_available: "the host does not answer",
    StatusCode.error_abort: "the operation was aborted",
}

#: The number that Python puts before what the system says.
_ERRNO = re.compile(r"\[Errno -?\d+\] ")


class Unsupported(DeviceFault):
    """The resource or its library has no such operation."""


class SessionLost(DeviceFault):
    """The session has failed and must be opened anew."""


class VisaSession:
    """An open resource. All methods block and belong into one thread."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        #: A query and its only answer, by which the session finds its way back.
        self.marker: tuple[bytes, bytes] | None = None
        self._library: Library | None = None
        self._astray = False

    @property
    def library(self) -> Library:
        """The library's calls; `NotConnected` while the resource is not open."""
        if self._library is None:
            raise NotConnected(f"{self.settings.resource} is not open")
        return self._library

    @property
    def is_open(self) -> bool:
        """Whether the resource is open."""
        return self._library is not None

    # Opening and closing

    def open(self) -> None:
        """Opens the resource; raises `NotConnected` with the reason."""
        self.close()
        settings = self.settings
        try:
            manager: Any = pyvisa.ResourceManager(settings.backend)
            resource = manager.open_resource(
                settings.resource, open_timeout=round(settings.open_timeout * 1000)
            )
        except Exception as error:
            raise NotConnected(f"{settings.resource} cannot be opened: {words(error)}") from None
        try:
            self._library = self._prepared(resource)
        except Exception as error:
            resource.close()
            raise NotConnected(f"{settings.resource} cannot be used: {words(error)}") from None
        self._astray = False

    def _prepared(self, resource: Any) -> Library:
        for name, value in self.settings.attributes.items():
            setattr(resource, name, value)
        library = library_of(resource)
        library.set_timeout(self.settings.io_timeout)
        library.ends_with(self.settings.end)
        return library

    def close(self) -> None:
        """Closes the resource; what goes wrong with that is only worth a look when debugging."""
        library, self._library = self._library, None
        if library is not None:
            try:
                library.close()
            except Exception as error:
                log.debug("{it}: {why}", it=self.settings.resource, why=words(error))

    # Messages

    def write(self, message: bytes) -> None:
        """Sends a message, its termination put behind it."""
        self._in_step()
        self._send(message)

    def query(self, message: bytes) -> bytes:
        """Sends a message and gives its whole answer, with its termination."""
        self._in_step()
        return self._exchange(message)

    def _exchange(self, message: bytes) -> bytes:
        self._send(message)
        if self.settings.query_delay:
            time.sleep(self.settings.query_delay)
        return self._answer(message)

    def _send(self, message: bytes) -> None:
        limit = self.settings.io_timeout
        status = self._call(self.library.write, message + self.settings.write_end, limit)
        if status < 0:
            self._astray = True
            raise self._failure(status, f"sending {quote(message[:60])}")

    def _answer(self, message: bytes) -> bytes:
        """The whole answer: up to END or the termination, the block in it as long as it says."""
        answer = bytearray()
        data, status = self._piece()
        while status >= 0:
            if not answer and self._ends(data, status):
                return data
            answer += data
            if self._ends(answer, status):
                return bytes(answer)
            if len(answer) > self.settings.longest_answer:
                raise self._too_long(message)
            more = status == StatusCode.success_max_count_read
            data, status = self._piece() if more else self._rest(_lacking(answer))
        self._astray = True
        raise self._failure(status, f"the answer to {quote(message[:60])}", len(answer + data))

    def _ends(self, answer: bytes | bytearray, status: StatusCode) -> bool:
        if status == StatusCode.success_max_count_read:
            return False
        if status == StatusCode.success and not self.settings.is_stream:
            return True  # END
        return answer.endswith(self.settings.end) and not _lacking(answer)

    def _piece(self) -> tuple[bytes, StatusCode]:
        return self._read(self.settings.chunk_size)

    def _read(self, count: int) -> tuple[bytes, StatusCode]:
        data, status = self._call(self.library.read, count, self.settings.io_timeout)
        return data, status

    def _rest(self, count: int) -> tuple[bytes, StatusCode]:
        """`count` bytes of a block, whatever they are; 0: on to the next termination."""
        if not count:
            return self._piece()
        self._call(self.library.use_end, False)
        try:
            data, status = self._read(min(count, self.settings.chunk_size))
        finally:
            self._call(self.library.use_end, True)
        return data, StatusCode.success_max_count_read if status >= 0 else status

    def _too_long(self, message: bytes) -> LabError:
        self._astray = True
        limit = self.settings.longest_answer
        return TooLarge(f"the answer to {quote(message[:60])} has more than {limit} bytes")

    # In step

    def _in_step(self) -> None:
        """Before each message: nothing must wait that could be taken for its answer."""
        if self._astray:
            self.find_back()
        found = self._call(self.library.waiting)
        if found:
            log.info(
                "{it}: dropped {bytes} bytes that nobody had asked for: {what}",
                it=self.settings.resource, bytes=len(found), what=quote(found[:40]),
            )  # fmt: skip
            if not found.endswith(self.settings.end):
                self.find_back()

    def find_back(self) -> None:
        """Gets back into step after an answer that did not come, or came when nobody asked."""
        if self.settings.is_socket:
            self.open()  # what is late goes to the old connection
            return
        self._drop_all()
        if self.marker is not None:
            self._until_marker(*self.marker)
        self._astray = False

    def _drop_all(self) -> None:
        try:
            self._call(self.library.clear)
        except Unsupported:
            pass
        while self._call(self.library.waiting):
            pass

    def _until_marker(self, query: bytes, known: bytes) -> None:
        """Asks for what is known, and drops what comes before it."""
        end = time.monotonic() + 2 * self.settings.io_timeout
        answer = self._exchange(query)
        while answer != known:
            if time.monotonic() > end:
                self._astray = True
                raise TimedOut("finding the way back to the instrument")
            answer = self._answer(query)

    # Beside the messages

    def clear(self) -> None:
        """Device clear, or for a stream what comes nearest."""
        if self.settings.is_stream:
            self.find_back()
        else:
            self._call(self.library.clear)
            self._astray = False

    def trigger(self) -> None:
        """Group execute trigger; ``*TRG`` where the resource has none."""
        try:
            self._call(self.library.resource.assert_trigger)
        except Unsupported:
            self.write(b"*TRG")

    def look(self) -> None:
        """Raises `SessionLost` if the other end of a socket has gone; drops what it has said."""
        if not self._astray:
            self._call(self.library.waiting)

    def status_byte(self) -> int:
        """The status byte, by a serial poll or else by ``*STB?``."""
        if not self.settings.is_stream:
            try:
                return int(self._call(self.library.resource.read_stb))
            except Unsupported:
                pass
        answer = self.query(b"*STB?")
        try:
            return int(float(answer)) & 0xFF
        except ValueError:
            raise DeviceFault(f"*STB? was answered {quote(answer[:40])}") from None

    def lock(self, wait: float) -> None:
        """Takes the instrument's own lock, waiting so long (s) for others'."""
        self._call(self.library.resource.lock_excl, round(wait * 1000) or 1)

    def unlock(self) -> None:
        """Gives it back."""
        self._call(self.library.resource.unlock)

    # What goes wrong

    def _call(self, function: Any, *args: Any) -> Any:
        """Calls the library; raises `LabError`s only."""
        try:
            return function(*args)
        except errors.VisaIOError as error:
            raise self._failure(StatusCode(error.error_code), "the instrument") from None
        except (NotImplementedError, AttributeError) as error:
            raise Unsupported(f"{self.settings.resource}: {words(error)}") from None
        except LabError:
            raise
        except Exception as error:
            raise SessionLost(
                f"{self.settings.resource}: {words(error)}", type(error).__name__
            ) from None

    def _failure(self, status: StatusCode, what: str, got: int = 0) -> LabError:
        """A status code as an error; `got` are the bytes that came before it."""
        if status == TIMED_OUT:
            part = f"only {got} bytes of it came" if got else ""
            return TimedOut(what, self.settings.io_timeout, part)
        text = _WORDS.get(status) or errors.completion_and_error_messages.get(status, ("", ""))[1]
        text = f"{self.settings.resource}: {text or status.name}"
        if status in _FATAL:
            return SessionLost(text, "VisaIOError")
        if status in _UNSUPPORTED:
            return Unsupported(text, "VisaIOError")
        return DeviceFault(text, "VisaIOError")


def _lacking(answer: bytes | bytearray) -> int:
    """How many bytes the block in an answer still lacks; 0 where it has none, or all of it."""
    if b"#" not in answer[:128]:
        return 0
    try:
        found = find_block(answer)
    except LabError:
        return 0
    return 0 if found is None or found[1] < 0 else max(0, sum(found) - len(answer))


def words(error: BaseException) -> str:
    """What an exception of a VISA library says to a user."""
    if isinstance(error, errors.VisaIOError):
        known = _WORDS.get(StatusCode(error.error_code))
        return known or str(error.description)
    return _ERRNO.sub("", str(error)) or {"NotImplementedError": "it has no such operation"}.get(
        type(error).__name__, type(error).__name__
    )


EVENT = constants.EventType.service_request
HANDLER = constants.EventMechanism.handler
