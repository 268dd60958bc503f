"""A device as an instrument: which header reads, sets or calls which node of its tree.

Made once for a device and shared by all channels to it, with a cache of messages taken apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred

from labnet.calls import call_state, read_state, write_state
from labnet.device import is_message_device
from labnet.instrument.arguments import Target, is_limit, take, take_all
from labnet.instrument.data import Datum, Message
from labnet.instrument.errors import ScpiError
from labnet.instrument.header import (
    CommandTree,
    HeaderError,
    Pattern,
    Rank,
    derived,
    literal_pattern,
    read_pattern,
)
from labnet.instrument.parser import Unit, parse
from labnet.instrument.response import Pieces, response
from labnet.logs import Logger
from labnet.registry import CommandNode, DeviceNode, Node, ParameterNode
from labnet.values import Reading

if TYPE_CHECKING:
    from labnet.instrument.exchange import Exchange

log = Logger()

#: Messages up to this length are remembered, taken apart; so many of them.
MAX_CACHED_LENGTH = 128
MAX_CACHED = 512

Outcome: TypeAlias = Any
"""What an action made: a value, a Deferred of one, or a `Wait`."""


class Wait:
    """An outcome to wait for without holding the device: fires when the message may go on."""

    __slots__ = ("until",)

    def __init__(self, until: Deferred[Any]) -> None:
        self.until = until


class Action:
    """What a header does.

    `local` ones only concern the client's own status and are open to all under any lock. `alone`
    says that the action makes several calls of the device that nothing may come between. `verb` is
    what the lock service is asked: "stop" for what ends a motion.
    """

    local = False
    alone = False
    verb = "message"

    def begin(self, run: Exchange, numbers: tuple[int, ...], data: tuple[Datum, ...]) -> Outcome:
        """Carries the action out; raises `ScpiError` or `LabError`."""
        raise NotImplementedError

    def finish(self, run: Exchange, value: Any) -> Pieces | None:
        """The response unit for the value that `begin` gave, None for a command."""
        return None


class ReadParameter(Action):
    """``HEADER?`` of a parameter; with MIN, MAX or DEF its limits."""

    def __init__(self, node: ParameterNode) -> None:
        self.node = node

    def begin(self, run: Exchange, numbers: tuple[int, ...], data: tuple[Datum, ...]) -> Outcome:
        if data:
            if not is_limit(data):
                raise ScpiError(-108)
            return Reading(_value(self.node, data, run), 0.0)
        return run.device(read_state, (self.node.state,), self.node)

    def finish(self, run: Exchange, value: Reading) -> Pieces | None:
        return response(value.value, self.node.state.spec.kind, run.channel.arrays)


class SetParameter(Action):
    """``HEADER value`` of a parameter."""

    def __init__(self, node: ParameterNode) -> None:
        self.node = node

    def begin(self, run: Exchange, numbers: tuple[int, ...], data: tuple[Datum, ...]) -> Outcome:
        value = _value(self.node, data, run)
        return run.device(write_state, (self.node.state, value), self.node)


def _value(node: ParameterNode, data: Sequence[Datum], run: Exchange) -> Any:
    spec = node.state.spec
    target = Target(spec.kind, spec.unit, spec.limits, spec.initial)
    (value,) = take_all((target,), data, run.channel.arrays)
    return spec.check(value, node.name)


class CallCommand(Action):
    """A command of the device; as a query its result is the response."""

    def __init__(self, node: CommandNode, query: bool) -> None:
        self.node = node
        self.query = query
        self.verb = "stop" if node.spec.stop else "message"

    def begin(self, run: Exchange, numbers: tuple[int, ...], data: tuple[Datum, ...]) -> Outcome:
        spec = self.node.state.spec
        args, kwargs = spec.bind(self._arguments(run, numbers, data), {})
        done = run.device(
            call_state,
            (self.node.state.function, args, kwargs),
            self.node,
            long=spec.long,
            urgent=spec.urgent,
            timeout=spec.timeout,
            verb=self.verb,
        )
        if not spec.long or done.called:
            return done
        if self.query:
            return Wait(done)
        run.channel.overlap(done)
        return None

    def _arguments(
        self, run: Exchange, numbers: tuple[int, ...], data: tuple[Datum, ...]
    ) -> tuple[Any, ...]:
        spec = self.node.state.spec
        values: list[Any] = list(numbers)
        at = 0
        for argument in spec.positional[len(numbers) :]:
            if at >= len(data) and not argument.required:
                break
            target = Target(argument.kind, argument.unit, argument.limits, argument.default)
            value, at = take(target, data, at, run.channel.arrays)
            values.append(value)
        while at < len(data):
            if spec.variadic is None:
                raise ScpiError(-108)
            value, at = take(Target(spec.variadic), data, at, run.channel.arrays)
            values.append(value)
        return tuple(values)

    def finish(self, run: Exchange, value: Any) -> Pieces | None:
        if not self.query:
            return None
        return response(value, self.node.state.spec.result, run.channel.arrays)


@dataclass(frozen=True, slots=True)
class Step:
    """One unit of a message, looked up: what to do, or the error that stands for it."""

    action: Action | None
    numbers: tuple[int, ...] = ()
    data: tuple[Datum, ...] = ()
    fault: ScpiError | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """A message, looked up. With `turn` it makes several calls, so needs the device for itself.

    `undefined`: it has a unit that no action was found for.
    """

    steps: tuple[Step, ...]
    turn: bool
    undefined: bool


def make_program(steps: Sequence[Step]) -> Program:
    """The program of some steps."""
    device = [s.action for s in steps if s.action is not None and not s.action.local]
    turn = len(device) > 1 or any(action.alone for action in device)
    return Program(tuple(steps), turn, any(step.action is None for step in steps))


class Instrument:
    """The command tree of one device, and the messages that were taken apart last."""

    def __init__(self, node: DeviceNode, standard: Callable[[Instrument], None]) -> None:
        self.node = node
        self.tree: CommandTree[Action] = CommandTree()
        #: Each readable and writable parameter with its header, in the order of declaration.
        self.settings: list[tuple[str, ParameterNode]] = []
        #: The messages that came last.
        self.known: dict[bytes, Program] = {}
        members = [part for part in node.walk() if not isinstance(part, DeviceNode)]
        self._members = members
        for member in members:
            for pattern in self._patterns(member):
                self._declare(member, pattern, Rank.DECLARED)
        standard(self)
        if is_message_device(node.device):
            return  # it knows itself what its messages mean
        for member in members:
            if _header(member) is None:
                self._derive(member)

    def _derive(self, member: Node) -> None:
        """Declares the header that the name gives; ambiguous ones are the author's to change."""
        words = self.node.device.word_headers
        segments = self._segments(member)
        if words:
            segments = [word for segment in segments for word in words_of(segment)]
        try:
            self._declare(member, literal_pattern(segments), Rank.DERIVED)
        except HeaderError as error:
            if not words:
                raise
            log.info("{path} is not in SCPI: {why}", path=member.path, why=str(error))

    @property
    def outdated(self) -> bool:
        """Whether the device has got other members since."""
        return self._members != [it for it in self.node.walk() if not isinstance(it, DeviceNode)]

    def _segments(self, member: Node) -> list[str]:
        names = [member.name]
        for above in member.ancestors:
            if above is self.node:
                break
            names.append(above.name)
        return names[::-1]

    def _patterns(self, member: Node) -> list[Pattern]:
        """The headers that the author gave: none, one, or several separated by commas."""
        numbers = [derived(name)[1] for name in self._segments(member)[:-1]]
        own = [number for number in numbers if number is not None]
        texts = (_header(member) or "").replace(" ", "").split(",")
        try:
            return [read_pattern(text, own) for text in texts if text]
        except HeaderError as error:
            raise HeaderError(f"{member.path}: {error}") from None

    def _declare(self, member: Node, pattern: Pattern, rank: Rank) -> None:
        query: Action | None = None
        command: Action | None = None
        if isinstance(member, ParameterNode):
            state = member.state
            query = ReadParameter(member) if state.spec.readable else None
            settable = state.spec.writable and (state.getter is None or state.setter is not None)
            command = SetParameter(member) if settable and not pattern.query_only else None
            kept = "NoConfig" not in state.spec.groups
            known = bool(self.settings) and self.settings[-1][1] is member
            if query is not None and command is not None and kept and not known:
                self.settings.append((_plain(pattern), member))
        elif isinstance(member, CommandNode):
            if member.spec.result.name != "none" or pattern.query_only:
                query = CallCommand(member, True)
            command = None if pattern.query_only else CallCommand(member, False)
        self.tree.add(pattern, member.path, rank, query=query, command=command)

    def program(self, message: Message) -> Program:
        """The message taken apart and looked up."""
        if len(message) > MAX_CACHED_LENGTH:
            return make_program([self.look_up(unit) for unit in parse(message)])
        key = bytes(message)
        program = self.known.get(key)
        if program is None:
            program = make_program([self.look_up(unit) for unit in parse(key)])
            if len(self.known) >= MAX_CACHED:
                self.known.clear()
            self.known[key] = program
        return program

    def look_up(self, unit: Unit) -> Step:
        """What a unit does. That a header is undefined goes before what is wrong with its data."""
        if not unit.nodes:
            return Step(None, fault=unit.fault or ScpiError(-102))
        try:
            leaf, numbers = self.tree.find(unit.nodes, unit.query)
        except ScpiError as fault:
            return Step(None, fault=ScpiError(fault.number, fault.detail))
        if unit.fault is not None:
            return Step(None, fault=unit.fault)
        return Step(leaf.target, numbers, unit.data)


def words_of(name: str) -> list[str]:
    """The words of a name, those that begin with a digit as part of the one before."""
    return re.sub(r"_+(?=\d|_|\Z)", "", name).split("_")


def _header(member: Node) -> str | None:
    """The header that the author gave; an empty one keeps the member out of SCPI."""
    if isinstance(member, ParameterNode | CommandNode):
        return member.spec.scpi
    return None


def _plain(pattern: Pattern) -> str:
    """One spelling of a pattern that every controller may send: the long forms of all nodes."""
    longest = max(pattern.variants, key=lambda variant: len(variant.nodes))
    words = [n.long + ("" if n.numbers is None else str(min(n.numbers))) for n in longest.nodes]
    return ":".join(words)


_INSTRUMENTS: WeakKeyDictionary[DeviceNode, Instrument] = WeakKeyDictionary()


def instrument_of(node: DeviceNode, standard: Callable[[Instrument], None]) -> Instrument:
    """The instrument of a device, made when it is first asked for; raises `HeaderError`."""
    instrument = _INSTRUMENTS.get(node)
    if instrument is None or instrument.outdated:
        instrument = _INSTRUMENTS[node] = Instrument(node, standard)
    return instrument

