"""``driver = visa``: any VISA resource, through pyvisa, in a thread of its own.

Messages are passed on as they are, a query and its answer as one job. What the section declares
(`labnet.devices.declared`) the instrument has as parameters and commands too; what it always has
are ``ask``, ``ask_block`` and ``send`` for single messages.
"""

from __future__ import annotations

from typing import Any, Literal

from labnet.device import Device, command, parameter
from labnet.devices.declared import Declared
from labnet.devices.visa.session import (
    EVENT,
    HANDLER,
    SessionLost,
    VisaSession,
    words,
)
from labnet.devices.visa.settings import Settings, Termination, check_least
from labnet.errors import DeviceFault, LabError, NotConnected, quote
from labnet.framing.blocks import decode_text, encode_text, find_block, take_block
from labnet.logs import Logger
from labnet.specs import Identity

log = Logger()

LF = Termination(b"\n")
_REQUESTING = 0x40
Service = Literal["auto", "event", "poll", "off"]


class VisaDevice(Device):
    """An instrument behind a VISA library.

    Args:
        resource: the VISA resource string, such as TCPIP::192.168.1.5::INSTR
        backend: the VISA library: @py, @sim, @ivi or a path
        io_timeout: how long an answer, or its next piece, may take, in s
        open_timeout: how long the opening may take, in s
        write_termination: what ends a message: LF, CRLF, CR, none or bytes
        read_termination: what ends an answer; by default LF on a socket or serial line, else
            none, since END does
        chunk_size: bytes that are asked for at a time
        longest_answer: the longest answer that is taken, in bytes
        query_delay: pause between a query and reading its answer, in s
        identify: ask *IDN? when the instrument is opened
        errors: ask SYSTem:ERRor? after each use of what the section declares
        clear: send a device clear when the instrument is opened
        lock: take the instrument's own lock with the lab's
        probe: pause between two looks whether a socket still stands, in s; 0: none
        service: how service requests are heard: by events of the library, by serial polls, or
            not at all; auto: by events where there are some, else by polls while clients listen
        service_interval: pause between two polls, in s
        baud_rate: of a serial line
        data_bits: of a serial line, 5 to 8
        parity: of a serial line
        stop_bits: of a serial line
        flow_control: of a serial line
    """

    blocking = True
    polls_unheard = False
    described_late = True  # its identity

    #: New values ask the lab's clients for service.
    service_request = parameter(int, access="r", help="status byte of the last service request")

    def __init__(
        self,
        resource: str,
        *,
        backend: str = "@py",
        declared: Declared | None = None,
        io_timeout: float = 2.0,
        open_timeout: float = 5.0,
        write_termination: Termination = LF,
        read_termination: Termination | None = None,
        chunk_size: int = (1 << 20) + 1,
        longest_answer: int = 1 << 28,
        query_delay: float = 0.0,
        identify: bool = True,
        errors: bool = False,
        clear: bool = False,
        lock: bool = False,
        probe: float = 5.0,
        service: Service = "auto",
        service_interval: float = 0.5,
        baud_rate: int | None = None,
        data_bits: int | None = None,
        parity: Literal["none", "odd", "even", "mark", "space"] | None = None,
        stop_bits: Literal["one", "one_and_a_half", "two"] | None = None,
        flow_control: Literal["none", "xon_xoff", "rts_cts", "dtr_dsr"] | None = None,
    ) -> None:
        check_least(probe=(probe, 0.0), service_interval=(service_interval, 0.01))
        self._settings = Settings(
            resource,
            backend,
            io_timeout,
            open_timeout,
            bytes(write_termination),
            None if read_termination is None else bytes(read_termination),
            chunk_size,
            longest_answer,
            query_delay,
            _serial(
                baud_rate=baud_rate, data_bits=data_bits, parity=parity, stop_bits=stop_bits,
                flow_control=flow_control,
            ),
        )  # fmt: skip
        self._session = VisaSession(self._settings)
        self._identify, self._clear_first = identify, clear
        self.probe_interval = probe if self._settings.is_socket else 0.0
        quiet = self._settings.is_stream and service == "auto"
        self._service: Service = "off" if quiet else service
        if self._service in ("auto", "poll"):
            self._add_status_byte(service_interval)
        ask, tell = (self._ask_well, self._tell_well) if errors else (self._ask, self._tell)
        self._add_declared(declared or Declared(), ask, tell)
        self._held: set[str] = set()
        if lock:  # only then the lab tells it of locks, for which it needs its thread
            self.__class__ = LockingVisaDevice

    def _add_declared(self, declared: Declared, ask: Any, tell: Any) -> None:
        names = [it.name for it in declared.parameters] + [it.name for it in declared.commands]
        for name in names:
            if name in self.members:
                raise ValueError(f"{name!r} is a name that all VISA devices use themselves")
        declared.add_to(self, ask, tell)

    def _add_status_byte(self, interval: float) -> None:
        self.add_parameter(
            "status_byte",
            int,
            getter=self._poll,
            poll=interval,
            touches=("service_request",),
            help="the status byte, by a serial poll",
        )

    # Opening and closing

    def connect(self) -> None:
        """Opens the resource and asks who it is; raises `NotConnected`."""
        self._session.close()
        # A new one: a thread that still hangs in the old one must not meet what is opened here.
        session = self._session = VisaSession(self._settings)
        session.open()
        try:
            if self._clear_first:
                session.clear()
            if self._identify:
                answer = session.query(b"*IDN?")
                session.marker = b"*IDN?", answer
                self.identity = _identity(answer)
        except LabError as error:
            session.close()
            resource = self._settings.resource
            why = str(error).removeprefix(f"{resource}: ")
            raise NotConnected(f"{resource} does not answer: {why}") from None
        self._hear()

    def disconnect(self) -> None:
        """Closes the resource."""
        self._session.close()

    # Messages

    def message(self, data: bytes, expect_reply: bool) -> bytes | None:
        """Passes a message on; its whole answer without the termination."""
        session = self._session
        try:
            if not expect_reply:
                session.write(data)
                return None
            return self._without_end(session.query(data))
        except (SessionLost, NotConnected) as error:
            self._gone(session, error)
            raise

    def _without_end(self, answer: bytes) -> bytes:
        if self._settings.end:
            return answer.removesuffix(self._settings.end)
        if answer[-1:] != b"\n" or self._ends_in_block(answer):
            return answer
        return answer.removesuffix(b"\r\n") if answer[-2:] == b"\r\n" else answer[:-1]

    def _ends_in_block(self, answer: bytes) -> bool:
        """Whether the last byte belongs to a block and so is no line end."""
        if b"#" not in answer[:128]:
            return False
        try:
            found = find_block(answer)
        except LabError:
            return False
        return found is not None and found[1] >= 0 and found[0] + found[1] >= len(answer)

    def _gone(self, session: VisaSession, error: LabError) -> None:
        if session is self._session:
            self.lost(str(error))  # first: some libraries need seconds to close a dead session
            session.close()

    def _ask(self, message: str) -> bytes:
        answer = self.message(encode_text(message), True)
        assert answer is not None
        return answer

    def _tell(self, message: str) -> None:
        self.message(encode_text(message), False)

    def _ask_well(self, message: str) -> bytes:
        answer = self._ask(message)
        check_error(self._ask("SYST:ERR?"))
        return answer

    def _tell_well(self, message: str) -> None:
        self._tell(message)
        check_error(self._ask("SYST:ERR?"))

    @command(scpi="")
    def ask(self, message: str) -> str:
        """Sends a message and gives its answer as text."""
        return decode_text(self._ask(message))

    @command(scpi="")
    def ask_block(self, message: str) -> bytes:
        """Sends a message that is answered by a data block, and gives its bytes."""
        return bytes(take_block(bytearray(self._ask(message))))

    @command(scpi="")
    def send(self, message: str) -> None:
        """Sends a message that has no answer."""
        self._tell(message)

    # Beside the messages

    def poll_status(self) -> int:
        """The status byte."""
        status: int = self._with(VisaSession.status_byte)
        return status

    def clear(self) -> None:
        """Device clear."""
        self._with(VisaSession.clear)

    def probe(self) -> None:
        """Looks whether the connection still stands."""
        self._with(VisaSession.look)

    def trigger(self) -> None:
        """Group execute trigger."""
        self._with(VisaSession.trigger)

    def _with(self, function: Any, *args: Any) -> Any:
        session = self._session
        try:
            return function(session, *args)
        except (SessionLost, NotConnected) as error:
            self._gone(session, error)
            raise

    # Service requests

    def _poll(self) -> int:
        status = self.poll_status()
        if status & _REQUESTING:
            self.store("service_request", status)
        return status

    def _hear(self) -> None:
        """Asks the library for events; where it has none, the polls go on."""
        if self._service not in ("auto", "event"):
            return
        resource = self._session.library.resource
        try:
            resource.install_handler(EVENT, resource.wrap_handler(self._event))
            resource.enable_event(EVENT, HANDLER)
        except Exception as error:
            if self._service == "event":
                self._session.close()
                raise NotConnected(
                    f"{self._settings.resource} gives no events ({words(error)}); set"
                    " service = poll"
                ) from None
            return
        self.change("status_byte", poll=None) if "status_byte" in self.members else None

    def _event(self, *_: Any) -> None:
        """Called in a thread of the library's own."""
        self.store("service_request", _REQUESTING)


class LockingVisaDevice(VisaDevice):
    """One that takes the instrument's own lock while a client holds the lab's."""

    def connect(self) -> None:
        """Opens the resource, and locks it again if it was locked."""
        super().connect()
        if self._held:
            self._with(VisaSession.lock, 0.0)

    def locked(self, path: str, holder: str, wait: float) -> None:
        """The first lock on anything in the device takes the instrument's."""
        if not self._held:
            self._with(VisaSession.lock, wait)
        self._held.add(path)

    def unlocked(self, path: str) -> None:
        """The last one gives it back; a session that is not open has no lock."""
        if path not in self._held:
            return
        self._held.discard(path)
        if not self._held and self._session.is_open:
            self._with(VisaSession.unlock)


def check_error(answer: bytes) -> None:
    """Raises `DeviceFault` for an answer to ``SYSTem:ERRor?`` that is not 0 (SCPI-1999 21.8)."""
    number, _, text = decode_text(answer).partition(",")
    try:
        code = int(float(number))
    except (ValueError, OverflowError):
        raise DeviceFault(f"SYST:ERR? was answered {quote(answer[:80])}") from None
    if code:
        raise DeviceFault(text.strip().strip('"'), number=code)


def _serial(**given: Any) -> dict[str, Any]:
    """The attributes of a serial line that are given, as pyvisa has them."""
    from pyvisa import constants

    words_of = {
        "parity": constants.Parity,
        "stop_bits": constants.StopBits,
        "flow_control": constants.ControlFlow,
    }
    return {
        name: words_of[name][value] if name in words_of else value
        for name, value in given.items()
        if value is not None
    }


def _identity(answer: bytes) -> Identity:
    """The four fields of ``*IDN?`` (IEEE 488.2 section 10.14); what is missing is empty."""
    fields = [field.strip() for field in decode_text(answer).split(",", 3)]
    return Identity(*[*fields, "", "", "", ""][:4])


