"""SCPI error numbers and texts (SCPI-1999 chapter 21), and what a lab's error is called in SCPI."""

from __future__ import annotations

from labnet.errors import (
    BadArguments,
    Cancelled,
    DeviceFault,
    LabError,
    Locked,
    NotAllowed,
    NotConnected,
    NotReadable,
    NotWritable,
    OutOfRange,
    TimedOut,
    TooLarge,
    UnknownName,
    WrongType,
)

#: What each failure of a lab is called; the first class that fits counts.
ERROR_NUMBERS: tuple[tuple[type[LabError], int], ...] = (
    (Locked, -203),
    (NotAllowed, -203),
    (TimedOut, -365),
    (NotConnected, -241),
    (OutOfRange, -222),
    (WrongType, -104),
    (BadArguments, -115),
    (TooLarge, -223),
    (NotReadable, -221),
    (NotWritable, -221),
    (UnknownName, -224),
    (Cancelled, -213),
    (DeviceFault, -240),
    (LabError, -200),
)

TEXTS: dict[int, str] = {
    0: "No error",
    -100: "Command error",
    -101: "Invalid character",
    -102: "Syntax error",
    -103: "Invalid separator",
    -104: "Data type error",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -113: "Undefined header",
    -114: "Header suffix out of range",
    -115: "Unexpected number of parameters",
    -120: "Numeric data error",
    -121: "Invalid character in number",
    -123: "Exponent too large",
    -124: "Too many digits",
    -128: "Numeric data not allowed",
    -131: "Invalid suffix",
    -138: "Suffix not allowed",
    -141: "Invalid character data",
    -148: "Character data not allowed",
    -151: "Invalid string data",
    -158: "String data not allowed",
    -161: "Invalid block data",
    -168: "Block data not allowed",
    -171: "Invalid expression",
    -178: "Expression data not allowed",
    -200: "Execution error",
    -203: "Command protected",
    -211: "Trigger ignored",
    -213: "Init ignored",
    -221: "Settings conflict",
    -222: "Data out of range",
    -223: "Too much data",
    -224: "Illegal parameter value",
    -230: "Data corrupt or stale",
    -240: "Hardware error",
    -241: "Hardware missing",
    -300: "Device-specific error",
    -310: "System error",
    -321: "Out of memory",
    -350: "Queue overflow",
    -363: "Input buffer overrun",
    -365: "Time out error",
    -400: "Query error",
    -410: "Query INTERRUPTED",
    -420: "Query UNTERMINATED",
    -430: "Query DEADLOCKED",
    -440: "Query UNTERMINATED after indefinite response",
    -500: "Power on",
    -600: "User request",
    -800: "Operation complete",
}

# The longest text with detail that an error may have (SCPI-1999 section 21.8.1).
_LONGEST = 255
# What the text of an error cannot hold as it is: it stands in double quotes on one line.
_QUOTE = str.maketrans({'"': '""', "\n": " ", "\r": " "})


class ScpiError(Exception):
    """An entry of the error queue: `number` and, where it helps, `detail`."""

    def __init__(self, number: int, detail: str = "") -> None:
        self.number = number
        self.detail = detail
        super().__init__(number, detail)

    def __str__(self) -> str:
        """As ``SYSTem:ERRor?`` answers it: ``-113,"Undefined header"``."""
        text = TEXTS.get(self.number) or _class_text(self.number)
        if self.detail:
            text = f"{text};{self.detail}"[:_LONGEST]
        return f'{self.number},"{text.translate(_QUOTE)}"'

    @property
    def event(self) -> int:
        """The bit of the standard event status register that this error sets."""
        return event_bit(self.number)


def _class_text(number: int) -> str:
    return TEXTS.get(-(-number // 100) * 100, "Device-specific error")


def event_bit(number: int) -> int:
    """The bit of the standard event status register for an error (SCPI-1999 section 21.8)."""
    if number > 0:
        return 8
    bits = {1: 32, 2: 16, 3: 8, 4: 4, 5: 128, 6: 64, 8: 1}
    return bits.get(-number // 100, 8)


def from_lab_error(error: Exception) -> ScpiError:
    """The entry of the error queue for what a session refused or failed to do."""
    if isinstance(error, ScpiError):
        return error
    if isinstance(error, DeviceFault) and error.number is not None:
        return ScpiError(error.number, str(error))
    if isinstance(error, OutOfRange) and error.choices:
        return ScpiError(-224)
    if isinstance(error, Locked):
        return ScpiError(-203, f"locked by {error.holder.name}")
    for kind, number in ERROR_NUMBERS:
        if isinstance(error, kind):
            detailed = number in _DETAILED or kind is UnknownName
            return ScpiError(number, str(error) if detailed else "")
    return ScpiError(-310)


#: Errors whose cause the number alone does not tell; the others keep the standard's bare text.
_DETAILED = frozenset({-115, -200, -203, -213, -221, -223, -240, -241, -365})
