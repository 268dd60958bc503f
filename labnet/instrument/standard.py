"""What every instrument understands: common commands, STATus, SYSTem, FORMat.

IEEE 488.2 chapter 10 and SCPI-1999 volume 2, chapters 9, 20 and 21. Headers that the device
declares itself come first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from twisted.internet.defer import Deferred

from labnet.calls import call_state, read_state, write_state
from labnet.errors import Locked
from labnet.instrument.arguments import Target, take_all
from labnet.instrument.data import Datum, Number, Text, Word
from labnet.instrument.errors import ScpiError
from labnet.instrument.header import Pattern, Rank, read_pattern
from labnet.instrument.model import Action, CallCommand, Instrument, Outcome, Wait
from labnet.instrument.response import ArrayFormat, Pieces, block, quoted, response
from labnet.instrument.status import RegisterGroup
from labnet.registry import CommandNode, DeviceNode, Node
from labnet.specs import Identity
from labnet.values import FLOAT, INT, Limits

if TYPE_CHECKING:
    from labnet.instrument.exchange import Exchange
    from labnet.instrument.interpreter import InstrumentChannel

VERSION = "1999.0"
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
_BYTE = Target(INT, limits=Limits(0, 255))
_MASK = Target(INT, limits=Limits(0, 0xFFFF))

Answer: TypeAlias = int | str | bytes | None
"""A number, arbitrary ASCII, finished response data, or nothing."""


class Topic(Enum):
    """What a local action is about, for channels that answer only some of them."""

    OTHER = "other"
    LOCK = "lock"
    LISTENER = "listener"  # added by the wire that serves the channel
    ERRORS = "errors"
    OPEN = "open"  # stays open to all while somebody holds a lock


class Local(Action):
    """An action on the client's own status, of at most `data` data."""

    local = True

    def __init__(
        self,
        function: Callable[[Exchange, tuple[Datum, ...]], Any],
        data: int = 0,
        topic: Topic = Topic.OTHER,
    ) -> None:
        self._function = function
        self._data = data
        self.topic = topic

    def begin(self, run: Exchange, numbers: tuple[int, ...], data: tuple[Datum, ...]) -> Outcome:
        if len(data) > self._data:
            raise ScpiError(-108)
        return self._function(run, data)

    def finish(self, run: Exchange, value: Answer) -> Pieces | None:
        if value is None:
            return None
        return [value if isinstance(value, bytes) else str(value).encode("latin-1", "replace")]


def _whole(data: Sequence[Datum], target: Target) -> int:
    (value,) = take_all((target,), data, ArrayFormat())
    assert isinstance(value, int) and target.limits is not None
    if not target.limits.contains(value):
        raise ScpiError(-222)
    return value


# Common commands


def _identity(run: Exchange, data: Sequence[Datum]) -> bytes:
    return _identity_bytes(run.channel.node.identity)


@lru_cache
def _identity_bytes(identity: Identity) -> bytes:
    return str(identity).encode("latin-1", "replace").translate(_ONE_LINE)


def _clear(run: Exchange, data: Sequence[Datum]) -> None:
    run.channel.forget_completion()
    run.channel.status.clear()


def _event_enable(run: Exchange, data: Sequence[Datum]) -> None:
    run.channel.status.event_enable = _whole(data, _BYTE)


def _service_enable(run: Exchange, data: Sequence[Datum]) -> None:
    run.channel.status.service_enable = _whole(data, _BYTE)


def _status_byte(run: Exchange, data: Sequence[Datum]) -> int:
    return run.channel.status.status_byte(available=bool(run.out))


def _complete(run: Exchange, data: Sequence[Datum]) -> None:
    run.channel.complete_when_idle()


def _when_complete(run: Exchange, data: Sequence[Datum]) -> Any:
    idle = run.channel.when_idle()
    return 1 if idle is None else Wait(idle.addCallback(lambda _: 1))


def _wait(run: Exchange, data: Sequence[Datum]) -> Any:
    idle = run.channel.when_idle()
    return None if idle is None else Wait(idle)


class Reset(Action):
    """``*RST``: the device's own ``reset`` command, else the initial values of its settings.

    Without such a command only parameters that labnet keeps are set back: one that is read from the
    hardware, such as a position, might move something.
    """

    alone = True

    def begin(self, run: Exchange, numbers: tuple[int, ...], data: tuple[Datum, ...]) -> Outcome:
        if data:
            raise ScpiError(-108)
        run.channel.forget_completion()
        own = run.channel.node.children.get("reset")
        if isinstance(own, CommandNode):
            args, kwargs = own.spec.bind((), {})
            return run.device(call_state, (own.state.function, args, kwargs), own)
        return Deferred.fromCoroutine(_reset(run))


async def _reset(run: Exchange) -> None:
    for node in run.channel.node.parameters():
        state = node.state
        if state.spec.writable and state.getter is None and state.spec.initial is not None:
            await run.device(write_state, (state, state.spec.initial), node)


class SelfTest(Action):
    """``*TST?``: what the device's ``self_test`` command answers, else 0 for passed."""

    def begin(self, run: Exchange, numbers: tuple[int, ...], data: tuple[Datum, ...]) -> Outcome:
        if data:
            raise ScpiError(-108)
        own = run.channel.node.children.get("self_test")
        if not isinstance(own, CommandNode):
            return 0
        args, kwargs = own.spec.bind((), {})
        return run.device(call_state, (own.state.function, args, kwargs), own)

    def finish(self, run: Exchange, value: Any) -> Pieces | None:
        return [b"%d" % (int(not value) if isinstance(value, bool) else int(value or 0))]


class Learn(Action):
    """``*LRN?``: a program message that brings all settings back to what they are now."""

    alone = True

    def begin(self, run: Exchange, numbers: tuple[int, ...], data: tuple[Datum, ...]) -> Outcome:
        if data:
            raise ScpiError(-108)
        return Deferred.fromCoroutine(_learn(run))

    def finish(self, run: Exchange, value: bytes) -> Pieces | None:
        return [value]


async def _learn(run: Exchange) -> bytes:
    units: list[bytes] = []
    for header, node in run.channel.instrument.settings:
        reading = await run.device(read_state, (node.state,), node)
        pieces = response(reading.value, node.state.spec.kind, run.channel.arrays)
        units.append(b":" + header.encode() + b" " + b"".join(pieces))
    return b";".join(units)


def _add_common(add: _Adder, node: DeviceNode) -> None:
    add("*IDN?", query=Local(_identity, topic=Topic.OPEN))
    add("*CLS", command=Local(_clear))
    add("*ESE", Local(lambda run, data: run.channel.status.event_enable), Local(_event_enable, 1))
    events = Local(lambda run, data: run.channel.status.read_events(), topic=Topic.OPEN)
    add("*ESR?", query=events)
    add(
        "*SRE",
        Local(lambda run, data: run.channel.status.service_enable),
        Local(_service_enable, 1),
    )
    add("*STB?", query=Local(_status_byte, topic=Topic.OPEN))
    add("*OPC", Local(_when_complete), Local(_complete))
    add("*WAI", command=Local(_wait))
    add("*OPT?", query=Local(lambda run, data: 0))
    add("*RST", command=Reset())
    add("*TST?", query=SelfTest())
    add("*LRN?", query=Learn())
    trigger = node.children.get("trigger")
    if isinstance(trigger, CommandNode):
        add("*TRG", command=CallCommand(trigger, False))


# STATus


def _add_status(add: _Adder) -> None:
    add("STATus:PRESet", command=Local(lambda run, data: run.channel.status.preset()))
    groups: dict[str, Callable[[InstrumentChannel], RegisterGroup]] = {
        "OPERation": lambda channel: channel.status.operation,
        "QUEStionable": lambda channel: channel.status.questionable,
    }
    for name, group in groups.items():
        _add_group(add, f"STATus:{name}", group)


def _add_group(
    add: _Adder, path: str, group: Callable[[InstrumentChannel], RegisterGroup]
) -> None:
    add(f"{path}[:EVENt]?", query=Local(lambda run, data: group(run.channel).read_event()))
    add(f"{path}:CONDition?", query=Local(lambda run, data: group(run.channel).condition))
    for node, attribute in (
        ("ENABle", "enable"), ("PTRansition", "positive"), ("NTRansition", "negative"),
    ):  # fmt: skip
        add(f"{path}:{node}", _reads(group, attribute), _sets(group, attribute))


def _reads(group: Callable[[InstrumentChannel], RegisterGroup], attribute: str) -> Local:
    return Local(lambda run, data: int(getattr(group(run.channel), attribute)))


def _sets(group: Callable[[InstrumentChannel], RegisterGroup], attribute: str) -> Local:
    def set_mask(run: Exchange, data: Sequence[Datum]) -> None:
        setattr(group(run.channel), attribute, _whole(data, _MASK) & RegisterGroup.ALL)

    return Local(set_mask, 1)


# SYSTem


def _next_error(run: Exchange, data: Sequence[Datum]) -> str:
    return str(run.channel.status.next_error())


def _all_errors(run: Exchange, data: Sequence[Datum]) -> str:
    return ",".join(map(str, run.channel.status.all_errors())) or str(ScpiError(0))


def _headers(run: Exchange, data: Sequence[Datum]) -> bytes:
    lines = "".join(f"{line}\n" for line in run.channel.instrument.tree.headers())
    return b"".join(block(lines.encode()))


def _add_system(add: _Adder) -> None:
    errors = "SYSTem:ERRor"
    add(f"{errors}[:NEXT]?", query=Local(_next_error, topic=Topic.ERRORS))
    add(f"{errors}:COUNt?", query=Local(lambda run, data: run.channel.status.error_count))
    add(f"{errors}:ALL?", query=Local(_all_errors))
    add("SYSTem:VERSion?", query=Local(lambda run, data: VERSION))
    add("SYSTem:HELP:HEADers?", query=Local(_headers))
    add("SYSTem:LOCK:REQuest?", query=Local(_request_lock, 2, Topic.LOCK))
    add("SYSTem:LOCK:RELease", command=Local(_release_lock, 1, Topic.LOCK))
    add("SYSTem:LOCK:OWNer?", query=Local(_lock_owner, 1, Topic.LOCK))
    own, show = Local(_own_token, 0, Topic.LOCK), Local(_show_token, 1, Topic.LOCK)
    add("SYSTem:LOCK:TOKen", own, show)


def _named(run: Exchange, data: Sequence[Datum]) -> str | Node:
    """The node that a lock command names (as a string), by default the device."""
    if not data:
        return run.channel.node
    if not isinstance(data[0], Text):
        raise ScpiError(-104)
    return data[0].text


def _request_lock(run: Exchange, data: Sequence[Datum]) -> Any:
    """1 when the client has the lock, 0 when it does not get it; the second datum is the lease."""
    lease = 0.0
    if data and not isinstance(data[-1], Text):
        (lease,) = take_all((Target(FLOAT, "s"),), data[-1:], ArrayFormat())
        data = data[:-1]
        if not lease >= 0:
            raise ScpiError(-222)
    granted = run.channel.session.lock([_named(run, data)], lease=lease)
    return granted.addCallbacks(lambda _: 1, lambda failure: failure.trap(Locked) and 0)


def _release_lock(run: Exchange, data: Sequence[Datum]) -> None:
    """Frees the named node; without a name all that the client holds of the device."""
    session = run.channel.session
    if data:
        session.unlock([_named(run, data)])
        return
    device = run.channel.node.path
    session.release(
        hold for hold in session.holdings() if f"{hold.path}.".startswith(f"{device}.")
    )


def _lock_owner(run: Exchange, data: Sequence[Datum]) -> bytes:
    holds = run.channel.session.lock_info(_named(run, data))
    names = {f"{hold.owner.name} ({hold.owner.wire} {hold.owner.peer})": None for hold in holds}
    # A name is another client's choice; with a line feed it would end this client's message.
    return quoted(" ".join(", ".join(names).splitlines()) or "NONE")


def _own_token(run: Exchange, data: Sequence[Datum]) -> bytes:
    return quoted(run.channel.session.token)


def _show_token(run: Exchange, data: Sequence[Datum]) -> None:
    if not data:
        raise ScpiError(-109)
    if not isinstance(data[0], Text):
        raise ScpiError(-104)
    run.channel.session.show_token(data[0].text)


# FORMat

_LETTERS = {
    "ASC": "a", "ASCII": "a", "REAL": "f", "INT": "i", "INTEGER": "i", "UINT": "u", "UINTEGER": "u",
}  # fmt: skip


def _set_format(run: Exchange, data: Sequence[Datum]) -> None:
    if not data:
        raise ScpiError(-109)
    if not isinstance(data[0], Word):
        raise ScpiError(-104)
    letter = _LETTERS.get(data[0].text)
    if letter is None:
        raise ScpiError(-224)
    lengths = ArrayFormat.LENGTHS[letter]
    bits = lengths[0]
    if len(data) == 2:
        if not isinstance(data[1], Number):
            raise ScpiError(-104)
        bits = int(data[1].value)
        if letter != "a" and bits not in lengths:
            raise ScpiError(-224)
    channel = run.channel
    channel.arrays = replace(channel.arrays, letter=letter, bits=0 if letter == "a" else bits)


def _set_border(run: Exchange, data: Sequence[Datum]) -> None:
    if not data:
        raise ScpiError(-109)
    if not isinstance(data[0], Word):
        raise ScpiError(-104)
    if data[0].text not in ("NORM", "NORMAL", "SWAP", "SWAPPED"):
        raise ScpiError(-224)
    swapped = data[0].text.startswith("SWAP")
    run.channel.arrays = replace(run.channel.arrays, swapped=swapped)


def _add_format(add: _Adder) -> None:
    add("FORMat[:DATA]", Local(lambda run, data: str(run.channel.arrays)), Local(_set_format, 2))
    border = Local(lambda run, data: "SWAP" if run.channel.arrays.swapped else "NORM")
    add("FORMat:BORDer", border, Local(_set_border, 1))


class _Adder:
    """Adds standard headers to a tree."""

    def __init__(self, instrument: Instrument) -> None:
        self._tree = instrument.tree

    def __call__(
        self, header: str, query: Action | None = None, command: Action | None = None
    ) -> None:
        pattern: Pattern = read_pattern(header)
        self._tree.add(pattern, "the standard", Rank.STANDARD, query=query, command=command)


def add_standard_headers(instrument: Instrument) -> None:
    """Adds all headers of this module that the device does not declare itself."""
    add = _Adder(instrument)
    _add_common(add, instrument.node)
    _add_status(add)
    _add_system(add)
    _add_format(add)


