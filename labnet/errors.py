"""What can go wrong in a lab, in the lab's words.

Every error that reaches a client is a `LabError`. Its text is one sentence for the user: what went
wrong, where, who holds it, what to do. Each wire's ``server.py`` has one table from these classes
to its own codes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import IntEnum
from itertools import islice


class VisaStatus(IntEnum):
    """The completion codes of VPP-4.3 (the VISA library) that errors of clients carry."""

    RSRC_LOCKED = -1073807345
    RSRC_NFOUND = -1073807343
    TMO = -1073807339
    INV_ACCESS_KEY = -1073807327
    ABORT = -1073807312
    ALLOC = -1073807300
    IO = -1073807298
    NSUP_OPER = -1073807257
    INV_PARAMETER = -1073807240
    SESN_NLOCKED = -1073807204
    CONN_LOST = -1073807194
    NPERMISSION = -1073807192


class LabError(Exception):
    """Anything that a lab refuses or fails to do; ``str(error)`` is a sentence for the user.

    `visa_status` is the code by which a VISA program would know it, where there is one.
    """

    visa_status: int | None = None


class UnknownName(LabError):
    """There is no node of this name.

    Attributes: `name` as the client wrote it; `near`, the existing names most like it.
    """

    visa_status = VisaStatus.RSRC_NFOUND

    def __init__(self, name: str, known: Iterable[str] = (), what: str = "name") -> None:
        self.name = name
        self.near = tuple(get_close_matches(name[:100], islice(known, 1000), 3))
        hint = f"; did you mean {' or '.join(self.near)}?" if self.near else ""
        super().__init__(f"unknown {what} {shorten(name)!r}{hint}")


class NotReadable(LabError):
    """The parameter can only be written, or the node has no value."""

    visa_status = VisaStatus.NSUP_OPER

    def __init__(self, what: str, why: str = "can only be written") -> None:
        self.what = what
        super().__init__(f"{what} {why}")


class NotWritable(LabError):
    """The parameter can only be read, or the node has no value."""

    visa_status = VisaStatus.NSUP_OPER

    def __init__(self, what: str, why: str = "can only be read") -> None:
        self.what = what
        super().__init__(f"{what} {why}")


class WrongType(LabError):
    """The value is not of the parameter's or argument's kind.

    Attributes: `what` names the parameter or argument, `value` is what came, `kind` what it takes.
    """

    visa_status = VisaStatus.INV_PARAMETER

    def __init__(self, what: str, value: object, kind: str) -> None:
        self.what = what
        self.value = value
        self.kind = kind
        super().__init__(f"{what} takes {kind}, not {quote(value)}")


class OutOfRange(LabError):
    """The value is of the right kind but outside the limits or choices.

    Attributes: `what`, `value`, and either `low` and `high` (None: no limit) or `choices`.
    """

    visa_status = VisaStatus.INV_PARAMETER

    def __init__(
        self,
        what: str,
        value: object,
        low: float | None = None,
        high: float | None = None,
        choices: tuple[object, ...] = (),
    ) -> None:
        self.what = what
        self.value = value
        self.low = low
        self.high = high
        self.choices = choices
        if choices:
            allowed = "one of " + ", ".join(str(choice) for choice in choices[:20])
        elif low is not None and high is not None:
            allowed = f"{low:g} to {high:g}"
        elif low is not None:
            allowed = f"{low:g} or more"
        else:
            allowed = "another value" if high is None else f"{high:g} or less"
        super().__init__(f"{what} takes {allowed}, not {quote(value)}")


class BadArguments(LabError):
    """Too few, too many or unknown arguments of a command."""

    visa_status = VisaStatus.INV_PARAMETER


@dataclass(frozen=True, slots=True)
class Holder:
    """Who stands in the way: a lock's owner, as far as others may know.

    `age` and `left` are seconds; `left` is None for a lock without a lease. `grace` is how long its
    owner, whose connection is lost, is still waited for; None for one who is there.
    """

    resource: str
    name: str
    wire: str
    peer: str
    age: float
    left: float | None = None
    grace: float | None = None

    def __str__(self) -> str:
        left = "" if self.left is None else f", {self.left:.0f} s left"
        if self.grace is not None:
            left += f"; its connection is lost, it may come back within {self.grace:.0f} s"
        return f"{self.name} ({self.wire} {self.peer}, for {self.age:.0f} s{left})"


class Locked(LabError):
    """Another owner's lock stands in the way; `holder` says whose."""

    visa_status = VisaStatus.RSRC_LOCKED

    def __init__(self, holder: Holder, wanted: str = "") -> None:
        self.holder = holder
        what = wanted or holder.resource
        where = "" if what == holder.resource else f" at {holder.resource}"
        super().__init__(f"{what} is locked{where} by {holder}")


class TimedOut(LabError):
    """The deadline of a call, or of a wait for a lock, has passed.

    `why` says what stood in the way, where that is known.
    """

    visa_status = VisaStatus.TMO

    def __init__(self, what: str, seconds: float | None = None, why: str = "") -> None:
        self.what = what
        self.seconds = seconds
        self.why = why
        limit = "its time limit" if seconds is None else f"{seconds:g} s"
        super().__init__(f"{what} did not finish within {limit}{why and f': {why}'}")


class Cancelled(LabError):
    """The caller has gone or has cancelled; only a device in the middle of a call sees this."""

    visa_status = VisaStatus.ABORT


class DeviceFault(LabError):
    """The device itself failed; `kind` is the bare class name of its own exception.

    `number` is the error number that a SCPI instrument would put into its queue (SCPI-1999 volume 2
    section 21.8, or a positive one of its own); None leaves it to the wire.
    """

    visa_status = VisaStatus.IO

    def __init__(self, text: str, kind: str = "DeviceFault", number: int | None = None) -> None:
        self.kind = kind
        self.number = number
        super().__init__(text)


class NotConnected(LabError):
    """The device is known but not connected; the text says why."""

    visa_status = VisaStatus.CONN_LOST


class NotAllowed(LabError):
    """The policy of the lab or of the listener forbids it."""

    visa_status = VisaStatus.NPERMISSION


class TooLarge(LabError):
    """A message, value or request exceeds its bound; the text names the bound."""

    visa_status = VisaStatus.ALLOC


def shorten(text: str, limit: int = 80) -> str:
    """`text` cut to `limit` characters, for error messages and logs that quote a peer."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def quote(value: object) -> str:
    """A value from a peer as it may be shown in an error text: short, on one line, no internals."""
    if value is None:
        return "nothing"
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, bytes | bytearray):
        return shorten(repr(bytes(value[:100]))[1:])  # without Python's b
    if isinstance(value, str | bool | int | float | complex):
        return shorten(repr(value[:100] if isinstance(value, str) else value))
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"a mapping of {len(value)}"
    return "such a value"
