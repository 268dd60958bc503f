"""Parameters and commands of an instrument as a section declares them.

    parameter power = MEAS:POW?, float, W
    parameter wavelength = SENS:WAV?, SENS:WAV {value}, float, nm, 400..1100
    parameter range = SENS:RANG?, SENS:RANG {value}, LOW | HIGH
    parameter output = OUTP?, OUTP {value}, bool, poll=0.5, help=the output relay
    parameter trace = CURVE?, block f4, V
    command zero = SENS:ZERO
    command move = "MOVE {axis},{distance}", axis: int, distance: float

What is asked comes first, then what is sent to set the value (known by its ``{value}``), the kind,
the unit, the limits. Either message may be left out; one that holds a comma stands in quotes. The
kinds are bool, int, float, complex, str, bytes, array (numbers separated by commas), ``block`` with
a type of numpy's (a definite-length block of IEEE 488.2), or choices separated by ``|``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from labnet.errors import DeviceFault, shorten
from labnet.framing.blocks import decode_text, take_block
from labnet.specs import ArgumentSpec, CommandSpec, check_name, make_spec
from labnet.values import (
    ANY,
    BOOL,
    BYTES,
    COMPLEX,
    FLOAT,
    INT,
    NONE,
    STR,
    ArrayKind,
    EnumKind,
    Kind,
)

PREFIXES = ("parameter ", "command ")
"""How the keys begin that declare something."""

_KINDS: Mapping[str, Kind] = {
    "bool": BOOL, "int": INT, "float": FLOAT, "complex": COMPLEX, "str": STR, "bytes": BYTES,
    "any": ANY, "array": ArrayKind("f8"),
}  # fmt: skip
_FIELD = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^,]*?))\s*(?:,|\Z)')
_LIMITS = re.compile(r"(\S*?)\s*\.\.\s*(\S*)\Z")
_EXTRA = re.compile(r"(poll|help|scpi|alias|group|display)\s*=\s*(.*)\Z", re.S)
_PLACE = re.compile(r"\{([A-Za-z]\w*)\}")


@dataclass(frozen=True)
class DeclaredParameter:
    """One parameter: what asks for it and what sets it (None: cannot be done), what it is.

    `options` are those of `labnet.device.parameter`; `dtype` is set for one that comes as a block.
    """

    name: str
    ask: str | None
    send: str | None
    kind: Kind = field(compare=False)  # follows from the text, as two of the same are not equal
    dtype: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""

    @property
    def access(self) -> Any:
        """What can be done with it, as `labnet.specs.ParameterSpec` has it."""
        return f"{'r' if self.ask else ''}{'w' if self.send else ''}"

    def message(self, value: Any) -> str:
        """What sets it to `value`."""
        return fill(self.send or "", {"value": value})

    def value(self, answer: bytes) -> Any:
        """The value in an answer; `DeviceFault` if there is none."""
        return decoded(answer, self.kind, self.dtype, self.name)


@dataclass(frozen=True)
class DeclaredCommand:
    """One command: the message with its arguments as ``{name}``, and the kind of its answer."""

    name: str
    message: str
    result: Kind = field(default=NONE, compare=False)
    arguments: tuple[ArgumentSpec, ...] = field(default=(), compare=False)
    dtype: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""

    @property
    def answers(self) -> bool:
        """Whether the message has an answer."""
        return self.result is not NONE

    def spec(self) -> CommandSpec:
        """What the lab tells of it."""
        return CommandSpec(
            name=self.name,
            arguments=self.arguments,
            result=self.result,
            stop=self.name == "stop",
            urgent=self.name == "stop",
            **self.options,
        )

    def filled(self, *args: Any, **kwargs: Any) -> str:
        """The message with arguments that the specification has checked."""
        named = dict(zip((spec.name for spec in self.arguments), args, strict=False))
        return fill(self.message, named | kwargs)

    def value(self, answer: bytes) -> Any:
        """The result in an answer; `DeviceFault` if there is none."""
        return decoded(answer, self.result, self.dtype, self.name)


@dataclass(frozen=True)
class Declared:
    """All that a section declares."""

    parameters: tuple[DeclaredParameter, ...] = ()
    commands: tuple[DeclaredCommand, ...] = ()

    def add_to(
        self,
        device: Any,
        ask: Callable[[str], Any],
        send: Callable[[str], Any],
        then: Callable[[Any, Callable[[Any], Any]], Any] = lambda answer, convert: convert(answer),
    ) -> None:
        """Gives a device these members.

        ``ask(message)`` gives the answer as bytes and ``send(message)`` sends one that has none.
        Where `ask` gives a Deferred, `then(answer, convert)` must add the callback.
        """
        for parameter in self.parameters:
            device.add_parameter(
                parameter.name,
                parameter.kind,
                getter=_getter(parameter, ask, then),
                setter=_setter(parameter, send),
                access=parameter.access,
                **parameter.options,
            )
        for command in self.commands:
            run = _runner(command, ask, send, then)
            device.add_command(command.name, run, spec=command.spec())


def _getter(
    parameter: DeclaredParameter, ask: Callable[[str], Any], then: Callable[..., Any]
) -> Callable[[], Any] | None:
    message = parameter.ask
    return None if message is None else lambda: then(ask(message), parameter.value)


def _setter(
    parameter: DeclaredParameter, send: Callable[[str], Any]
) -> Callable[[Any], Any] | None:
    if parameter.send is None:
        return None

    def set_value(value: Any) -> Any:
        done = send(parameter.message(value))
        return done if hasattr(done, "addCallback") else None

    return set_value


def _runner(
    command: DeclaredCommand,
    ask: Callable[[str], Any],
    send: Callable[[str], Any],
    then: Callable[..., Any],
) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        message = command.filled(*args, **kwargs)
        return then(ask(message), command.value) if command.answers else send(message)

    return run


def fill(message: str, values: Mapping[str, Any]) -> str:
    """A message with each ``{name}`` replaced by the value, as instruments take it."""
    return _PLACE.sub(lambda found: written(values.get(found[1], "")), message)


def written(value: Any) -> str:
    """A value as instruments take it: 1 and 0 for true and false, items separated by commas."""
    if isinstance(value, bool | np.bool_):
        return "1" if value else "0"
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, list | tuple | np.ndarray):
        return ",".join(map(written, value))
    return repr(float(value)) if isinstance(value, float) else str(value)


def decoded(answer: bytes, kind: Kind, dtype: str, name: str) -> Any:
    """The value in an answer; `DeviceFault` quoting it if it is no such value."""
    if dtype:
        data = bytes(take_block(bytearray(answer)))
        wanted = np.dtype(dtype)
        return np.frombuffer(data[: len(data) // wanted.itemsize * wanted.itemsize], wanted)
    if kind is BYTES:
        return bytes(answer)
    text = decode_text(answer)
    try:
        if isinstance(kind, ArrayKind):
            return np.array([float(item) for item in text.split(",") if item.strip()])
        if kind is BOOL:
            return kind.parse(text.strip())
        return kind.parse(_unquoted(text) if kind is STR else text.strip())
    except Exception:
        raise DeviceFault(f"{name}: {shorten(text)!r} was answered, no {kind.name}") from None


def _unquoted(text: str) -> str:
    text = text.strip()
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1].replace(text[0] * 2, text[0]) if quoted else text


# Reading a section


def parse_declarations(entries: Mapping[str, str]) -> Declared:
    """What keys such as ``parameter power`` declare; ValueError with a sentence that says of which.

    Other keys are left aside.
    """
    parameters: dict[str, DeclaredParameter] = {}
    commands: dict[str, DeclaredCommand] = {}
    for key, text in entries.items():
        word, _, name = (part.strip() for part in key.partition(" "))
        try:
            if is_declaration(key) and (name in parameters or name in commands):
                raise ValueError(f"there is another {name!r} in this section")
            if word == "parameter" and name:
                parameters[name] = parse_parameter(name, text)
            elif word == "command" and name:
                commands[name] = parse_command(name, text)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    return Declared(tuple(parameters.values()), tuple(commands.values()))


def is_declaration(key: str) -> bool:
    """Whether a key of a section declares something."""
    return key.startswith(PREFIXES)


def parse_parameter(name: str, text: str) -> DeclaredParameter:
    """A parameter from the text of its declaration; ValueError with what is wrong."""
    check_name(name)
    fields, options = _split(text)
    ask, send = _messages(fields)
    kind, dtype = _kind(fields.pop(0)) if fields else (FLOAT, "")
    if not ask and not send:
        raise ValueError("says neither what asks for the value nor what sets it")
    if fields:
        options["unit"] = fields.pop(0)
    if fields:
        options["limits"] = _limits(fields.pop(0))
    if fields:
        raise ValueError(f"{shorten(fields[0])!r} is one field too many")
    parameter = DeclaredParameter(name, ask, send, kind, dtype, options, text)
    make_spec(name, kind, access=parameter.access, **options)  # raises what is wrong with them
    return parameter


def parse_command(name: str, text: str) -> DeclaredCommand:
    """A command from the text of its declaration; ValueError with what is wrong."""
    check_name(name)
    fields, options = _split(text)
    message = fields.pop(0) if fields else ""
    if not message:
        raise ValueError("says not what is sent")
    kinds: dict[str, Kind] = {}
    result: Kind = ANY if "?" in message else NONE
    dtype = ""
    for item in fields:
        argument, colon, kind = (part.strip() for part in item.partition(":"))
        if colon:
            kinds[argument] = _kind(kind)[0]
        else:
            result, dtype = _kind(item)
    names = list(dict.fromkeys(_PLACE.findall(message)))
    for argument in kinds:
        if argument not in names:
            raise ValueError(f"there is no {{{argument}}} in the message")
    arguments = tuple(ArgumentSpec(name=it, kind=kinds.get(it, ANY)) for it in names)
    return DeclaredCommand(name, message, result, arguments, dtype, options, text)


def _split(text: str) -> tuple[list[str], dict[str, Any]]:
    """The fields of a declaration, and the options among them."""
    fields: list[str] = []
    options: dict[str, Any] = {}
    at = 0
    text = " ".join(text.split())
    while at < len(text):
        found = _FIELD.match(text, at)
        if found is None or found.end() == at:
            raise ValueError(f"the quotes in {shorten(text)!r} do not match")
        at = found.end()
        quoted, plain = found[1], found[2]
        extra = None if plain is None else _EXTRA.match(plain)
        if extra is None:
            fields.append(quoted.replace('""', '"') if quoted is not None else plain)
        else:
            options |= _option(extra[1], extra[2])
    return fields, options


def _option(name: str, text: str) -> dict[str, Any]:
    if name == "poll":
        return {"poll": _number(text)}
    return {{"alias": "aliases", "group": "groups"}.get(name, name): text}


def _messages(fields: list[str]) -> tuple[str | None, str | None]:
    """What asks and what sets, taken from the front of the fields."""
    ask = send = None
    if fields and "{value}" not in fields[0]:
        ask = fields.pop(0) or None
    if fields and "{value}" in fields[0]:
        send = fields.pop(0)
    elif fields and not fields[0]:
        fields.pop(0)
    return ask, send


def _kind(text: str) -> tuple[Kind, str]:
    word, _, rest = text.partition(" ")
    if "|" in text:
        choices = [choice.strip() for choice in text.split("|")]
        if not all(choices) or len(set(choices)) != len(choices):
            raise ValueError(f"{shorten(text)!r}: choices are words that differ")
        return EnumKind(choices), ""
    if word == "block":
        return ArrayKind(), _dtype(rest.strip() or "u1")
    if text not in _KINDS:
        known = ", ".join([*_KINDS, "block TYPE", "A | B"])
        raise ValueError(f"{shorten(text)!r} is no kind of value; there is {known}")
    return _KINDS[text], ""


def _dtype(text: str) -> str:
    try:
        dtype = np.dtype(text)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "biufc":
        raise ValueError(f"{shorten(text)!r} is no type of numbers, such as f4 or >i2")
    return text


def _limits(text: str) -> tuple[float | None, float | None]:
    found = _LIMITS.match(text)
    if found is None:
        raise ValueError(f"{shorten(text)!r} are no limits, such as 400..1100")
    low, high = (_number(end) if end else None for end in found.groups())
    if low is not None and high is not None and not low <= high:
        raise ValueError(f"{shorten(text)!r}: the lower limit comes first")
    return low, high


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{shorten(text)!r} is not a number") from None
