"""What a TSV request does: calls of a session, and the replies that their results become.

An action gives the bytes of its reply, or a Deferred of them, or None for the command that ends the
connection instead. It is made once for a line and used for each client that sends the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from labnet.errors import BadArguments, DeviceFault, LabError, TimedOut, WrongType
from labnet.logs import Logger
from labnet.session import Session
from labnet.specs import CommandSpec, ParameterSpec
from labnet.values import ANY, BYTES, FLOAT, STR, ArrayKind, Kind, ListKind, Reading
from labnet.wires.tsv import codec

log = Logger(namespace="labnet.wires.tsv")

#: What hardware that does not answer raises; its reply has a form of its own.
SILENT = frozenset({"TimeoutError", "timeout"})


class Client(Protocol):
    """Who sent the request, as far as an action needs to know."""

    @property
    def session(self) -> Session:
        """The client's presence in the lab, opened when first asked for."""
        ...

    def borrow(self, token: str) -> Client:
        """A client that acts as the owner of `token` until `done`; raises `NotAllowed`."""
        ...

    def done(self) -> None:
        """The borrowed client is not needed any more."""
        ...

    def shut_down(self) -> None:
        """Ends the server as far as its policy goes; raises `NotAllowed`."""
        ...


Answer = bytes | Deferred[bytes] | None
Action = Callable[[Client], Answer]


def error_reply(command: str, error: LabError) -> bytes:
    """The reply for each of the lab's errors, with the prefixes of the sm_bluesky servers."""
    if isinstance(error, TimedOut):
        limit = "its" if error.seconds is None else f"{float(error.seconds)}s"
        why = f": {error.why}" if error.why else ""
        return codec.not_responding(command, f"{error.what} exceeded {limit} limit{why}")
    if isinstance(error, DeviceFault) and error.kind in SILENT:
        return codec.not_responding(command, str(error))
    return codec.command_failed(command, str(error))


# Actions in general


def always(reply: bytes) -> Action:
    """The same reply each time."""
    return lambda client: reply


def guarded_by(command: str, action: Action) -> Action:
    """`action`, with its errors turned into replies."""

    def guarded(client: Client) -> Answer:
        try:
            answer = action(client)
        except Exception:
            return _failed(Failure(), command)
        if answer.__class__ is bytes or not isinstance(answer, Deferred):
            return answer
        answer.addErrback(_failed, command)
        if answer.called and isinstance(answer.result, bytes):
            return answer.result
        return answer

    return guarded


def _failed(failure: Failure, command: str) -> bytes:
    error = failure.value
    if isinstance(error, LabError):
        return error_reply(command, error)
    if isinstance(error, CancelledError):
        return codec.command_failed(command, "it was cancelled")
    log.failure("the command {command} failed", failure, command=command)
    return codec.command_failed(command, "the server failed; its log says why")


def now(answer: Deferred[Any], encode: Callable[[Any], bytes]) -> Answer:
    """The encoded result, at once if it is there."""
    if answer.called and not answer.paused:
        result = answer.result
        if not isinstance(result, Failure) and not isinstance(result, Deferred):
            return encode(result)
    return answer.addCallback(encode)


def acknowledge(_: object) -> bytes:
    """The reply to what succeeds without a result."""
    return codec.ACKNOWLEDGED


# Arguments


def text(raw: bytes, name: str, kind: Kind = STR) -> str:
    """An argument as text; `WrongType`, naming it, if it is no UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise WrongType(name, raw, f"{kind.name} (as UTF-8 text)") from None


def parsed(raw: bytes, kind: Kind, name: str) -> Any:
    """An argument by its kind; bytes stay as they were sent."""
    if kind is BYTES:
        return raw
    if kind is ANY:
        try:
            return kind.parse(raw.decode(), name)
        except UnicodeDecodeError:
            return raw
    return kind.parse(text(raw, name, kind), name)


def check_count(arguments: tuple[bytes, ...], least: int, most: int, usage: str) -> None:
    """Raises `BadArguments` with the usage for too few or too many arguments."""
    if len(arguments) < least:
        raise BadArguments(f"missing argument; usage: {usage}")
    if len(arguments) > most:
        raise BadArguments(f"too many arguments; usage: {usage}")


def seconds(raw: bytes, name: str) -> float:
    """An argument that is a time in seconds."""
    return float(FLOAT.parse(text(raw, name), name))


# Commands and parameters of devices


def call_command(path: str, spec: CommandSpec, arguments: tuple[bytes, ...]) -> Action:
    """Calls the command at `path`; its result is the reply. Raises for arguments of no use."""
    kind = spec.result
    values = tuple(_command_arguments(spec, arguments))

    def call(client: Client) -> Answer:
        answer = client.session.call_with(path, values, {})
        return now(answer, lambda result: codec.encode_value(result, kind))

    return call


def _command_arguments(spec: CommandSpec, arguments: tuple[bytes, ...]) -> Iterator[Any]:
    positional = spec.positional
    for number, raw in enumerate(arguments):
        if number < len(positional):
            yield parsed(raw, positional[number].kind, positional[number].name)
        else:
            yield parsed(raw, spec.variadic or BYTES, "argument")


def get_parameter(path: str, kind: Kind) -> Action:
    """Reads the parameter at `path`."""
    encode = codec.encode_value

    def get(client: Client) -> Answer:
        answer = client.session.get(path)
        if answer.called:
            reading: Any = answer.result
            if reading.__class__ is Reading:
                return encode(reading.value, kind)
        return answer.addCallback(lambda reading: encode(reading.value, kind))

    return get


def set_parameter(
    path: str, spec: ParameterSpec, usage: str, arguments: tuple[bytes, ...]
) -> Action:
    """Sets the parameter at `path`; the reply is the value that it then has."""
    kind = spec.kind
    value = _new_value(spec, usage, arguments)

    def set_value(client: Client) -> Answer:
        answer = client.session.set(path, value)
        return now(answer, lambda reading: codec.encode_value(reading.value, kind))

    return set_value


def _new_value(spec: ParameterSpec, usage: str, arguments: tuple[bytes, ...]) -> Any:
    kind = spec.kind
    if len(arguments) == 1:
        return parsed(arguments[0], kind, spec.name)
    if isinstance(kind, ListKind | ArrayKind):
        item = kind.item if isinstance(kind, ListKind) else ANY
        return [parsed(raw, item, spec.name) for raw in arguments]
    raise BadArguments(f"too many arguments; usage: {usage}")
