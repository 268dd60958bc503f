"""Instruments behind the message wires: raw sockets, VXI-11, HiSLIP and VICP.

Messages are passed on as they are, a query and its answer as one job. What the section declares
(`labnet.devices.declared`) the instrument has as parameters and commands too; what it always has
are ``ask``, ``ask_block`` and ``send`` for single messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from twisted.internet.defer import Deferred, succeed

from labnet.device import Identity, parameter
from labnet.devices.declared import Declared
from labnet.devices.remote.base import Clock, Dial, Found, RemoteDevice, or_nothing
from labnet.errors import DeviceFault, LabError
from labnet.framing.blocks import decode_text, find_block, take_block
from labnet.specs import ArgumentSpec
from labnet.values import BYTES, NONE, RAW_TEXT, STR

_MESSAGE = ArgumentSpec(name="message", kind=STR)
Lock = Literal["yes", "no"]

LOCKING = 2.0
"""Seconds that an instrument has for its answer to a lock, besides those that it may wait."""


class RemoteInstrument(RemoteDevice):
    """An instrument that is talked to in messages."""

    #: New values ask the lab's clients for service.
    service_request = parameter(int, access="r", help="status byte of the last service request")

    def __init__(
        self,
        dial: Dial,
        clock: Clock,
        declared: Declared | None,
        *,
        identify: bool,
        lock: Lock,
        errors: bool,
        probe: float,
    ) -> None:
        super().__init__(dial, clock)
        self.locks_there = lock == "yes"
        self._errors = errors
        self.probe_interval = probe
        self._declared_members = declared or Declared()
        self._identify = identify

    def dial_client(self) -> Any:
        """A new client of the instrument."""
        raise NotImplementedError

    async def greet(self) -> Found:
        """Connects, and asks who it is."""
        self.client = self.dial_client()
        await self.client.connect()
        if self._identify:
            identity = await or_nothing(self.client.query("*IDN?"))
            if identity is not None:
                self.identity = read_identity(identity)
        self._hear_service_requests()
        return self._found()

    def _found(self) -> Found:
        found = Found()
        found.command(
            "ask", self._ask_text, arguments=(_MESSAGE,), result=RAW_TEXT,
            help="sends a message and gives its answer as text",
        )  # fmt: skip
        found.command(
            "ask_block", self._ask_block, arguments=(_MESSAGE,), result=BYTES,
            help="sends a message that is answered by a data block, and gives its bytes",
        )  # fmt: skip
        found.command(
            "send", self._send_text, arguments=(_MESSAGE,), result=NONE,
            help="sends a message that has no answer",
        )  # fmt: skip
        self._declared_members.add_to(found.root, self._ask_checked, self._send_checked, _then)
        return found

    # Messages

    def message(self, data: bytes, expect_reply: bool) -> Deferred[bytes | None]:
        """Passes a message on; its whole answer without the line end."""
        limit = self.seconds_left()
        if not expect_reply:
            return self.ask(lambda client: client.write(self.encoded(data), timeout=limit))
        answer = self.ask(lambda client: client.query_bytes(self.encoded(data), timeout=limit))
        return answer.addCallback(without_line_end)

    def encoded(self, message: bytes) -> Any:
        """A message as the client takes it."""
        return message

    def _ask(self, message: str) -> Deferred[bytes]:
        answer: Any = self.message(message.encode("latin-1", "replace"), True)
        return answer  # type: ignore[no-any-return]

    def _ask_text(self, message: str) -> Deferred[str]:
        return self._ask(message).addCallback(decode_text)

    def _ask_block(self, message: str) -> Deferred[bytes]:
        return self._ask(message).addCallback(lambda answer: bytes(take_block(bytearray(answer))))

    def _ask_checked(self, message: str) -> Deferred[bytes]:
        answer = self._ask(message)
        return answer.addCallback(self._check) if self._errors else answer

    def _send_checked(self, message: str) -> Deferred[Any]:
        done = self._send_text(message)
        return done.addCallback(self._check) if self._errors else done

    def _check(self, result: Any) -> Deferred[Any]:
        """The result, if the instrument has no error to tell of."""
        return self._ask("SYST:ERR?").addCallback(_no_error, result)

    def _send_text(self, message: str) -> Deferred[Any]:
        return self.message(message.encode("latin-1", "replace"), False)

    # Beside the messages

    def poll_status(self) -> Deferred[int]:
        """The status byte."""
        limit = self.seconds_left()
        return self.ask(lambda client: client.status_byte(timeout=limit))

    def clear(self) -> Deferred[None]:
        """Device clear."""
        return self.ask(lambda client: client.clear())

    def trigger(self) -> Deferred[None]:
        """Group execute trigger."""
        limit = self.seconds_left()
        return self.ask(lambda client: client.trigger(timeout=limit))

    def probe(self) -> Deferred[Any]:
        """The connection still stands."""
        return succeed(None) if self.client is None else self.ask(lambda client: client.connect())

    def _hear_service_requests(self) -> None:
        """Where the wire has them without more ado."""

    # Locks

    async def lock_there(self, path: str, holder: str, wait: float) -> None:
        """An instrument is locked as a whole, by the first who locks anything in it."""
        if not self._held:
            await self.ask(lambda client: client.lock(wait=wait, timeout=LOCKING))

    async def unlock_there(self, path: str) -> None:
        """The last one frees it."""
        if not self._held:
            await self.ask(lambda client: client.unlock())


def _no_error(answer: bytes, result: Any) -> Any:
    number, _, text = decode_text(answer).partition(",")
    try:
        code = int(number)
    except ValueError:
        raise DeviceFault(f"{answer[:80]!r} was answered to SYST:ERR?") from None
    if code:
        raise DeviceFault(text.strip().strip('"'), number=code)
    return result


def _then(answer: Deferred[bytes], convert: Callable[[bytes], Any]) -> Deferred[Any]:
    return answer.addCallback(convert)


def read_identity(text: str) -> Identity:
    """The four fields of ``*IDN?`` (IEEE 488.2 section 10.14); what is missing is empty."""
    fields = [field.strip() for field in text.strip().split(",", 3)]
    return Identity(*[*fields, "", "", "", ""][:4])


def without_line_end(answer: bytes | bytearray) -> bytes:
    """The answer without the line end behind it; one that belongs to a data block stays."""
    data = bytes(answer)
    if b"#" in data[:128]:
        try:
            found = find_block(data)
        except LabError:
            found = None
        if found is not None and found[1] >= 0:
            end = found[0] + found[1]
            return data[:end] if not data[end:].strip(b"\r\n") else data.rstrip(b"\r\n")
        if found is not None:
            return data.removesuffix(b"\n")
    return data.rstrip(b"\r\n")


class ScpiDevice(RemoteInstrument):
    """An instrument on a raw socket.

    Args:
        address: HOST or HOST:PORT, or a Twisted endpoint; the usual port is 5025
        terminator: how messages end: LF, CRLF, CR, or bytes
        answers: how answers end, if otherwise
        marker: a query with always the same answer, such as *IDN?, to find the way back after
            a timeout on the same connection
        identify: ask *IDN? for the identity
        lock: take the instrument's own lock (SYSTem:LOCK) with the lab's
        errors: ask SYSTem:ERRor? after each use of what the section declares
        probe: seconds between two looks whether the connection stands
    """

    wire = "scpi"

    def __init__(
        self,
        address: str,
        *,
        dial: Dial,
        clock: Clock,
        declared: Declared | None = None,
        terminator: str = "LF",
        answers: str = "",
        marker: str = "",
        identify: bool = True,
        lock: Lock = "no",
        errors: bool = False,
        probe: float = 5.0,
    ) -> None:
        super().__init__(
            dial, clock, declared, identify=identify, lock=lock, errors=errors, probe=probe
        )
        self._address = address
        self._options = {"terminator": terminator, "answers": answers, "marker": marker}

    def dial_client(self) -> Any:
        return self.new_client(self._address, **self._options)

    def encoded(self, message: bytes) -> str:
        return message.decode("latin-1")


class Vxi11Device(RemoteInstrument):
    """An instrument that is reached by VXI-11.

    Args:
        host: the instrument's host name or address
        name: the device there, such as inst0 or gpib0,5
        port: the port of the instrument's core channel; by default its port mapper is asked
        terminator: LF, or empty for an instrument to which END alone says where messages end
        identify: ask *IDN? for the identity
        lock: take the instrument's own lock with the lab's
        errors: ask SYSTem:ERRor? after each use of what the section declares
        probe: seconds between two looks whether the connection stands
    """

    wire = "vxi11"

    def __init__(
        self,
        host: str,
        *,
        dial: Dial,
        clock: Clock,
        declared: Declared | None = None,
        name: str = "inst0",
        port: int | None = None,
        terminator: str = "LF",
        identify: bool = True,
        lock: Lock = "yes",
        errors: bool = False,
        probe: float = 5.0,
    ) -> None:
        super().__init__(
            dial, clock, declared, identify=identify, lock=lock, errors=errors, probe=probe
        )
        if terminator not in ("LF", "CRLF", ""):
            raise DeviceFault("the terminator is LF, CRLF or empty")
        self._end = {"LF": b"\n", "CRLF": b"\r\n", "": b""}[terminator]
        self._place = (host, name, port)

    def dial_client(self) -> Any:
        host, name, port = self._place
        return self.new_client(host, name, port=port, terminator=self._end.decode())

    def encoded(self, message: bytes) -> bytes:
        return message + self._end


class HislipDevice(RemoteInstrument):
    """An instrument that is reached by HiSLIP.

    Args:
        host: the instrument's host name or address
        name: the sub-address, such as hislip0
        port: the instrument's port
        identify: ask *IDN? for the identity
        lock: take the instrument's own lock with the lab's
        errors: ask SYSTem:ERRor? after each use of what the section declares
        probe: seconds between two looks whether the connection stands
    """

    wire = "hislip"

    def __init__(
        self,
        host: str,
        *,
        dial: Dial,
        clock: Clock,
        declared: Declared | None = None,
        name: str = "hislip0",
        port: int = 4880,
        identify: bool = True,
        lock: Lock = "yes",
        errors: bool = False,
        probe: float = 5.0,
    ) -> None:
        super().__init__(
            dial, clock, declared, identify=identify, lock=lock, errors=errors, probe=probe
        )
        self._place = (host, port, name)

    def dial_client(self) -> Any:
        return self.new_client(*self._place)

    def _hear_service_requests(self) -> None:
        self.client.on_service_request(lambda status: self.store("service_request", status))


class VicpDevice(RemoteInstrument):
    """A LeCroy oscilloscope, or what else is reached by VICP.

    Args:
        host: the instrument's host name or address
        port: the instrument's port
        identify: ask *IDN? for the identity
        lock: take the instrument's own lock (SYSTem:LOCK) with the lab's
        errors: ask SYSTem:ERRor? after each use of what the section declares
        probe: seconds between two looks whether the connection stands
    """

    wire = "vicp"

    def __init__(
        self,
        host: str,
        *,
        dial: Dial,
        clock: Clock,
        declared: Declared | None = None,
        port: int = 1861,
        identify: bool = True,
        lock: Lock = "no",
        errors: bool = False,
        probe: float = 5.0,
    ) -> None:
        super().__init__(
            dial, clock, declared, identify=identify, lock=lock, errors=errors, probe=probe
        )
        self._place = (host, port)

    def dial_client(self) -> Any:
        return self.new_client(*self._place)

    def _hear_service_requests(self) -> None:
        self.client.on_service_request(
            lambda asking: self.store("service_request", 0x40) if asking else None
        )
