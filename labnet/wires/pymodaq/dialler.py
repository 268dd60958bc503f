"""Offers a device of the lab to a controlling program of PyMoDAQ: ``[dial NAME]`` sections.

A device is an actuator by its parameter ``position`` and its commands ``move_abs``, ``move_rel``,
``home`` and ``stop``, as far as it has them; so is any number that can be written. It is a detector
by its command ``grab``, or by the parameters that the section names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from labnet.errors import BadArguments, LabError
from labnet.lab import Host, ServeOptions
from labnet.logs import Logger
from labnet.registry import CommandNode, DeviceNode, Node, ParameterNode
from labnet.session import Session
from labnet.updates import Subscription, Update
from labnet.values import ArrayKind, ComplexKind, FloatKind, IntKind, LabeledArray, Reading
from labnet.wires.pymodaq.codec import MAX_MESSAGE, Generation, Kind, Setting
from labnet.wires.pymodaq.hardware import Manners
from labnet.wires.pymodaq.offered import Link, Offered, OfferedActuator, OfferedGrabber
from labnet.wires.pymodaq.offering import PORT, Offer
from labnet.wires.pymodaq.tree import Tree

SETTLING = 0.5
"""Seconds between two lists of changed settings that are told, at least."""

log = Logger()


def _key(default: Any, help: str, unit: str = "", limits: tuple[float, float] | None = None) -> Any:
    return field(default=default, metadata={"help": help, "unit": unit, "limits": limits})


@dataclass(frozen=True)
class Options:
    """The keys of a ``[dial NAME]`` section with ``wire = pymodaq`` beyond the common ones."""

    as_: Literal["ACTUATOR", "GRABBER", "auto"] = _key(
        "auto", "what the device is offered as; auto: GRABBER if it has a command grab"
    )
    generation: Generation = field(
        default=Generation.C4,
        metadata={"help": "layout of the messages, by the version of PyMoDAQ that is dialled"},
    )
    channels: tuple[str, ...] = _key(
        (), "parameters or commands that a detector is read by, instead of its grab"
    )
    report: float = _key(
        0.2, "time between the positions that are sent during a move", "s", (0.01, 3600)
    )
    push_positions: Literal["yes", "no", "auto"] = _key(
        "auto", "whether positions are sent whenever they change; auto: in generation D, whose"
        " programs cannot ask"
    )
    push_frames: float = _key(
        0.0, "time between frames that are sent without being asked for; 0: none", "s", (0, 86400)
    )
    idle: float = _key(
        0.0, "a connection on which nothing has come for so long is made anew; 0: never", "s",
        (0, 86400),
    )
    max_message: int = _key(
        MAX_MESSAGE, "longest message of the other side", "bytes", (1024, (1 << 32) - 1)
    )


class _LabModule:
    """What both kinds have of the lab: a session as long as the connection, and the settings."""

    def __init__(
        self, session: Session, make: Callable[[], Tree], watched: Node, base: Offered
    ) -> None:
        self.session = session
        self.tree = make()
        self._make = make
        self._watched = watched
        self._told: dict[str, tuple[str, ...]] = {}  # parameters whose settings the others have
        self._base = base
        self._clock = session.lab.clock
        self._listening: Subscription | None = None
        self._settling: Deferred[None] | None = None

    async def settings(self) -> Setting:
        """The whole tree with the values of this moment; what cannot be read now is left out.

        A device that was lost may have others when it is back.
        """
        values: dict[tuple[str, ...], Any] = {}
        tree = self._make()
        for path, node in tree.nodes.items():
            try:
                values[path] = (await self.session.get(node.path)).value
            except LabError as error:
                log.info("{path} is no setting now: {error}", path=node.path, error=str(error))
        if self._listening is not None:
            self._listening.end()
        self.tree = tree
        self._told = {tree.nodes[path].path: path for path in values}
        self._listening = self.session.subscribe(
            [self._watched.path, *self._told], self._updates
        )
        return tree.build(values)

    async def set(self, path: tuple[str, ...], value: Any) -> Setting:
        node, parsed = self.tree.parsed(path, value)
        reading = await self.session.set(node.path, parsed)
        return self.tree.setting(path, reading.value)

    def _updates(self, updates: Sequence[Update]) -> Deferred[None]:
        if any(update.what == "back" for update in updates):
            self._base.renewed()
        for update in updates:
            path = self._told.get(update.path)
            reading = update.reading
            if path is None or update.what not in ("value", "metadata") or reading is None:
                continue
            self._base.setting_changed(path, self.tree.setting(path, reading.value))
        clock: Any = self._clock
        self._settling = deferLater(clock, SETTLING).addErrback(lambda _: None)
        return self._settling

    def close(self) -> None:
        """The connection has ended."""
        self.session.close("the connection has ended")
        if self._settling is not None:
            self._settling.cancel()


class LabActuator(OfferedActuator):
    """A device, or one number of it, as an actuator."""

    def __init__(self, session: Session, node: Node) -> None:
        super().__init__()
        self._session = session
        self._where = position_of(node)
        device = node if isinstance(node, DeviceNode) else self._where.parent
        assert device is not None
        self._device = device
        self._moves_itself = isinstance(node, DeviceNode)
        self.name = node.name
        self.units = self._where.spec.unit
        self._lab = _LabModule(session, self._tree, self._where, self)
        session.subscribe([self._where.path], self._updates)

    def _tree(self) -> Tree:
        self.units = self._where.spec.unit
        return Tree(self.root, self._device, frozenset({self._where}), self.units)

    def remove(self, link: Link) -> None:
        super().remove(link)
        self.close()

    def close(self) -> None:
        self._lab.close()

    def settings(self) -> Any:
        return self._lab.settings()

    def set(self, path: tuple[str, ...], value: Any) -> Any:
        return self._lab.set(path, value)

    async def position(self) -> float:
        reading = await self._session.get(self._where.path)
        return float(reading.value)

    async def move_abs(self, position: float) -> Any:
        command = self._command("move_abs")
        if command is not None:
            return await self._session.call(command.path, position)
        return _value(await self._session.set(self._where.path, position))

    async def move_rel(self, distance: float) -> Any:
        command = self._command("move_rel")
        if command is not None:
            return await self._session.call(command.path, distance)
        return await self.move_abs(await self.position() + distance)

    async def move_home(self) -> Any:
        command = self._command("move_home") or self._command("home")
        if command is None:
            raise BadArguments(f"{self._device.path} has no command that moves it home")
        return await self._session.call(command.path)

    def stop(self) -> Any:
        return self._session.stop(self._device.path)

    def _command(self, name: str) -> CommandNode | None:
        found = self._device.child(name) if self._moves_itself else None
        return found if isinstance(found, CommandNode) else None

    def _updates(self, updates: Sequence[Update]) -> None:
        for update in updates:
            if update.what == "value" and update.reading is not None:
                self.moved(update.reading.value)
            elif self.units != self._where.spec.unit:
                self.units = self._where.spec.unit
                self.renewed()


class LabGrabber(OfferedGrabber):
    """A device as a detector: its command ``grab``, or parameters of it."""

    def __init__(self, session: Session, node: Node, channels: Sequence[Node]) -> None:
        super().__init__()
        self._session = session
        self._channels = channels
        self._commanded = isinstance(channels[0], CommandNode)
        device = node if isinstance(node, DeviceNode) else node.parent
        assert device is not None
        self.name = node.name
        self._lab = _LabModule(
            session, lambda: Tree(self.root, device, frozenset(channels)), channels[0], self
        )

    def remove(self, link: Link) -> None:
        super().remove(link)
        self.close()

    def close(self) -> None:
        self._lab.close()

    def settings(self) -> Any:
        return self._lab.settings()

    def set(self, path: tuple[str, ...], value: Any) -> Any:
        return self._lab.set(path, value)

    def grab(self, dim: str) -> Any:
        if len(self._channels) == 1:
            (only,) = self._channels
            return self._session.call(only.path) if self._commanded else self._read(only)
        return self._read_all()

    async def _read_all(self) -> Any:
        return {node.name: await self._read(node) for node in self._channels}

    async def _read(self, node: Node) -> Any:
        if isinstance(node, CommandNode):
            return await self._session.call(node.path)
        value = (await self._session.get(node.path)).value
        assert isinstance(node, ParameterNode)
        if isinstance(value, LabeledArray):
            return value
        if node.spec.unit:
            return LabeledArray(_array(value), node.name, node.spec.unit)
        # Of some servers arrays come as lists; that is one channel, whatever its length.
        return _array(value) if isinstance(value, list | tuple) else value


def _array(value: Any) -> Any:
    import numpy as np

    try:
        return np.asarray(value)
    except ValueError:
        raise BadArguments("lists of different lengths are no array") from None


def _value(result: Any) -> Any:
    return result.value if isinstance(result, Reading) else result


def position_of(node: Node) -> ParameterNode:
    """The parameter that is the position of what a section offers; BadArguments if there is none.
    """
    found = node
    if isinstance(node, DeviceNode):
        child = node.child("position")
        if child is None:
            raise BadArguments(
                f"{node.path} has no parameter position; name the parameter that is to be moved,"
                f" such as {node.path}.NAME"
            )
        found = child
    if not isinstance(found, ParameterNode) or not isinstance(
        found.spec.kind, FloatKind | IntKind
    ):
        raise BadArguments(f"{found.path} is no number that can be moved")
    return found


def channels_of(node: Node, names: Sequence[str]) -> list[Node]:
    """What a detector is read by; BadArguments if there is nothing."""
    if isinstance(node, ParameterNode):
        return [node]
    assert isinstance(node, DeviceNode)
    if names:
        return [node.find(name.split(".")) for name in names]
    grab = node.child("grab")
    if isinstance(grab, CommandNode):
        return [grab]
    found: list[Node] = [child for child in node.parameters() if _is_measured(child)]
    if not found:
        raise BadArguments(f"{node.path} has no command grab, and no numbers that it measures")
    return found


def _is_measured(node: ParameterNode) -> bool:
    kinds = FloatKind | IntKind | ComplexKind | ArrayKind
    return node.spec.access == "r" and isinstance(node.spec.kind, kinds)


def kind_of(node: Node, options: Options) -> Kind:
    """What a device is offered as."""
    if options.as_ != "auto":
        return options.as_
    if options.channels:
        return "GRABBER"
    if isinstance(node, DeviceNode):
        has_grab = isinstance(node.child("grab"), CommandNode)
        return "GRABBER" if has_grab or node.child("position") is None else "ACTUATOR"
    return "ACTUATOR" if isinstance(node, ParameterNode) and node.spec.writable else "GRABBER"


def module_maker(
    host: Host, address: str, common: ServeOptions, options: Options
) -> Callable[[], Offered]:
    """Makes the module for each connection, with a session of its own.

    Raises `LabError` for a device that cannot be offered so.
    """

    def session() -> Session:
        return host.open_session(
            "pymodaq", address, name=common.name or None, timeout=common.timeout
        )

    def make() -> Offered:
        opened = session()
        node = opened.resolve(common.device or "")
        if kind_of(node, options) == "ACTUATOR":
            return LabActuator(opened, node)
        return LabGrabber(opened, node, channels_of(node, options.channels))

    first = session()
    node = first.resolve(common.device or "")
    if kind_of(node, options) == "ACTUATOR":
        position_of(node)
    else:
        channels_of(node, options.channels)
    first.close()
    return make


class Dialler:
    """One section at work: `address` is what it dials, `example` what to do on the other side."""

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.address = offer.where
        self.example = f"start a TCPServer plugin of PyMoDAQ at {offer.where}"
        offer.startService()

    @property
    def connected(self) -> bool:
        """Whether the program is there."""
        return self.offer.connection is not None

    async def stop(self) -> None:
        """Takes leave of the program."""
        await self.offer.stopService()


async def dial(
    host: Host, address: str, common: ServeOptions, options: Options, reactor: Any
) -> Dialler:
    """Begins to offer the section's device to the program at `address`, now and again.

    Raises `LabError` for a device that cannot be offered so, ValueError for a wrong address.
    """
    push = options.push_positions == "yes" or (
        options.push_positions == "auto" and options.generation is Generation.D
    )
    manners = Manners(
        options.generation, options.report, push, options.push_frames, options.idle,
        options.max_message,
    )  # fmt: skip
    make = module_maker(host, address, common, options)
    return Dialler(Offer(make, address, manners, reactor=reactor, drain=common.drain))


__all__ = ["PORT", "Dialler", "LabActuator", "LabGrabber", "Options", "dial"]
