"""What the author of a device writes: an ordinary class with parameters, commands and sub-devices.

    class PowerMeter(Device):
        identity = Identity("labnet", "SIM-PM", "P0000001", "1.0")
        wavelength = parameter(float, unit="nm", limits=(400, 1100), initial=633.0)

        @parameter(unit="W", poll=0.5)
        def power(self) -> float:
            return self.head.read()

        @command
        def zero(self, seconds: float = 1.0) -> None:
            ...

Methods of a class that says ``blocking = True`` run in the device's own thread; all others are
called in the reactor and may return a Deferred or be ``async def``.
"""

from __future__ import annotations

import inspect
import time
import typing
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, Generic, TypeVar, overload

import numpy as np

from labnet.deadline import Deadline as Deadline
from labnet.deadline import current_deadline as current_deadline
from labnet.errors import (
    DeviceFault,
    NotReadable,
    NotWritable,
    OutOfRange,
    UnknownName,
    WrongType,
    quote,
)
from labnet.specs import (
    ArgumentSpec,
    CommandSpec,
    Identity,
    ParameterSpec,
    as_tuple,
    check_name,
    check_poll,
    command_spec,
    first_paragraph,
    make_spec,
)
from labnet.values import (
    AT_HAND,
    UNKNOWN,
    Kind,
    LabeledArray,
    Limits,
    Reading,
    alarm,
    frozen,
    kind_of,
)

if typing.TYPE_CHECKING:
    from labnet.parts import Parts

T = TypeVar("T")

#: What `Reading` itself does with a tuple of its fields, at half the cost.
_reading: Callable[[tuple[Any, ...]], Reading] = partial(tuple.__new__, Reading)


class ParameterState:
    """One parameter of one device: its specification, how it is reached, its last reading."""

    __slots__ = ("device", "getter", "notify", "reading", "sequence", "setter", "spec")

    def __init__(
        self,
        device: Device,
        spec: ParameterSpec,
        getter: Callable[[], Any] | None = None,
        setter: Callable[[Any], Any] | None = None,
    ) -> None:
        self.device = device
        self.spec = spec
        self.getter = getter
        self.setter = setter
        self.notify: Callable[[Reading], None] | None = None
        self.sequence = 0
        self.reading = Reading(spec.initial, time.time())

    def store(self, value: Any) -> Reading:
        """Keeps a new value (which must be of the kind) and tells whoever listens."""
        reading = self.taken(value)
        if self.notify is not None:
            self.notify(reading)
        return reading

    def taken(self, value: Any) -> Reading:
        """A reading of `value` just taken; kept as the last one, told to nobody."""
        spec = self.spec
        status = severity = UNKNOWN
        if spec.alarms is not None or spec.warnings is not None:
            status, severity = alarm(value, spec.alarms, spec.warnings)
        self.sequence = sequence = self.sequence + 1
        self.reading = reading = _reading((value, time.time(), status, severity, sequence))
        return reading

    def result(self, value: Any) -> Any:
        """What a getter returned, as it may be shared: of the kind, arrays read-only."""
        if value.__class__ not in AT_HAND:
            if isinstance(value, LabeledArray):
                return value
            if isinstance(value, np.ndarray):
                value = frozen(value)
        try:
            return self.spec.kind.check(value, self.spec.name)
        except (WrongType, OutOfRange):
            name, kind = self.spec.name, self.spec.kind.name
            raise DeviceFault(f"{name}: the device gave {quote(value)}, not {kind}") from None


class CommandState:
    """One command of one device: its specification and the bound method."""

    __slots__ = ("device", "function", "spec")

    def __init__(self, device: Device, spec: CommandSpec, function: Callable[..., Any]) -> None:
        self.device = device
        self.spec = spec
        self.function = function


class Parameter(Generic[T]):
    """The descriptor that `parameter` makes.

    In the device's own code it reads as the value; assigning stores a new value and tells the
    listeners, without calling the setter (which is for what clients write).
    """

    def __init__(self, kind: Kind | None, options: dict[str, Any]) -> None:
        self.kind = kind
        self.options = options
        self.name = ""
        self._getter: Callable[[Any], Any] | None = None
        self._setter: Callable[[Any, Any], Any] | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = self.name or name  # a setter under another name is no second parameter

    def __call__(self, getter: Callable[[Any], Any]) -> Parameter[Any]:
        """As a decorator: the method that reads the value."""
        self._getter = getter
        return self

    def setter(self, function: Callable[[Any, Any], Any]) -> Parameter[T]:
        """As a decorator: the method that takes a new, checked value.

        It may return the value that the instrument really took; None means just this one. The
        method may have any name. In a subclass it leaves the parameter of the base as it is.
        """
        changed = copy(self) if self.name else self
        changed._setter = function
        return changed

    def make(self, device: Device) -> ParameterState:
        """The state of this parameter on one device."""
        getter = self._getter.__get__(device) if self._getter else None
        setter = self._setter.__get__(device) if self._setter else None
        return ParameterState(device, self._spec(), getter, setter)

    def _spec(self) -> ParameterSpec:
        options = dict(self.options)
        kind = self.kind
        if kind is None and self._getter is not None:
            hints = typing.get_type_hints(self._getter, include_extras=True)
            kind = kind_of(hints.get("return", Any))
        if self._getter is not None and "help" not in options:
            options["help"] = first_paragraph(self._getter.__doc__)
        if self._getter is not None and self._setter is None:
            options.setdefault("access", "r")
        return make_spec(self.name, kind, **options)

    @overload
    def __get__(self, device: None, owner: type) -> Parameter[T]: ...
    @overload
    def __get__(self, device: Any, owner: type) -> T: ...
    def __get__(self, device: Any, owner: type) -> Any:
        if device is None:
            return self
        state = device.members[self.name]
        return state.reading.value if state.getter is None else state.getter()

    def __set__(self, device: Any, value: T) -> None:
        state = device.members[self.name]
        value = state.spec.kind.check(value, self.name)
        if state.getter is not None:
            raise AttributeError(f"{self.name} is read by a method; nothing can be assigned to it")
        state.store(value)


@overload
def parameter(kind: type[T], /, **options: Any) -> Parameter[T]: ...
@overload
def parameter(kind: Kind, /, **options: Any) -> Parameter[Any]: ...
@overload
def parameter(getter: Callable[[Any], T], /) -> Parameter[T]: ...
@overload
def parameter(**options: Any) -> Parameter[Any]: ...
def parameter(kind: Any = None, /, **options: Any) -> Parameter[Any]:
    """A parameter of a device: a stored value, or as a decorator a method that reads it.

    `options` are the fields of `ParameterSpec` and ``choices``. With a getter the kind comes from
    its return annotation. Add ``@name.setter`` for a method that takes new values.
    """
    if inspect.isfunction(kind):
        return Parameter[Any](None, {})(kind)
    return Parameter(None if kind is None else kind_of(kind), options)


class Command:
    """The descriptor that `command` makes: called on a device it is the plain method."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self.function = function
        self.options = options
        self.name = function.__name__
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, device: Any, owner: type) -> Any:
        return self if device is None else self.function.__get__(device)

    def make(self, device: Device) -> CommandState:
        """The state of this command on one device."""
        bound = self.function.__get__(device)
        return CommandState(device, command_spec(self.name, bound, **self.options), bound)


@overload
def command(function: Callable[..., Any], /) -> Any: ...
@overload
def command(**options: Any) -> Callable[[Callable[..., Any]], Any]: ...
def command(function: Any = None, /, **options: Any) -> Any:
    """A command of a device, from a method; `options` are the fields of `CommandSpec`.

    Type hints give the kinds of the arguments and of the result; ``limits={"seconds": (0, 60)}``
    and ``units={"seconds": "s"}`` say more about arguments.
    """
    if function is not None:
        return Command(function, {})
    return lambda method: Command(method, options)


class Device:
    """Base class of devices; write parameters, commands and sub-devices as attributes.

    A sub-device is an attribute that is a `Device`, a list or a dict of them: ``self.ch = {1: a,
    2: b}`` gives the children ``ch[1]`` and ``ch[2]``. Nothing needs to call ``super().__init__``.
    """

    identity: Identity = Identity()
    #: True: all methods run in one thread of the device's own, so they may block.
    blocking: bool = False
    #: Whether polled parameters are read also while nobody listens to them.
    polls_unheard: bool = True
    #: Whether each word of a name is a node of its SCPI header, and members whose headers collide
    #: all the same are left out: for devices whose names come from elsewhere.
    word_headers: bool = False
    #: Whether some of its members need parameters or commands of other devices: their ``touches``
    #: name these by ``:`` and the path. Locks on such a member reach the other devices.
    reaches_out: bool = False
    #: The other devices, while it is in a lab.
    parts: Parts | None = None
    #: Whether its identity or some of its members are known only when it is open; listeners wait
    #: for that.
    described_late: bool = False
    #: Other names (any text) by which foreign programs know the device.
    aliases: tuple[str, ...] = ()

    members: dict[str, Member]

    def __new__(cls, *args: Any, **kwargs: Any) -> Device:
        device = super().__new__(cls)
        device.members = members = {}
        device._joined = device._changed = device._replaced = device._reported = None
        for name, attribute in cls._declared().items():
            members[name] = attribute.make(device)
        return device

    if typing.TYPE_CHECKING:
        _joined: Callable[[str, Any], Any] | None
        _changed: Callable[[ParameterState], None] | None
        _replaced: Callable[[dict[str, Member]], None] | None
        _reported: Callable[[str | None], None] | None

    @classmethod
    def _declared(cls) -> dict[str, Parameter[Any] | Command]:
        found: dict[str, Parameter[Any] | Command] = {}
        for base in reversed(cls.__mro__):
            for name, attribute in vars(base).items():
                if isinstance(attribute, Parameter | Command):
                    found[attribute.name] = attribute
                elif name in found:
                    del found[name]
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if not name.startswith("_"):
            for child, device in _devices_in(name, value):
                self._join(child, device)

    def _join(self, name: str, member: Member) -> None:
        check_name(name)
        if self._joined is not None:
            self._joined(name, member)  # raises ValueError for what cannot join
        self.members[name] = member

    @property
    def deadline(self) -> Deadline:
        """The deadline of the call in progress."""
        return current_deadline.get()

    # What the lab asks of a device besides its members

    def connect(self) -> Any:
        """Opens the instrument; may raise, block (if `blocking`) or return a Deferred.

        The lab calls it when the device comes in, and again after it has failed or the device was
        lost: what is left of an earlier connection is then this method's to put away.
        """

    def disconnect(self) -> Any:
        """Closes the instrument; called at the end of the lab too."""

    #: Seconds between two calls of `probe`; 0: it is not called.
    probe_interval: float = 0.0

    def probe(self) -> Any:
        """Asks the instrument for a sign of life; when that fails, the device is taken for lost."""

    def means_lost(self, error: BaseException) -> bool:
        """Whether an exception of one of its methods says that the instrument is gone.

        Then the device is taken for lost, and `connect` is called until it is back.
        """
        return False

    def locked(self, path: str, holder: str, wait: float) -> Any:
        """A client, `holder`, has locked the device, or what is at `path` in it.

        For a device with locks of its own: one that cannot lock itself raises a `LabError`, and
        the client does not get the lock. It may wait `wait` seconds for that.
        """

    def unlocked(self, path: str) -> Any:
        """The lock that `locked` has told of has ended."""

    # What a device tells the lab

    def lost(self, reason: str) -> None:
        """The connection to the instrument is lost: all calls fail at once with `NotConnected`.

        The lab calls `connect` again, with growing pauses. May be called from any thread.
        """
        if self._reported is not None:
            self._reported(reason)

    def back(self) -> None:
        """The device can be used again though nobody has called `connect`. From any thread."""
        if self._reported is not None:
            self._reported(None)

    def add_parameter(
        self,
        name: str,
        kind: Any = None,
        *,
        getter: Callable[[], Any] | None = None,
        setter: Callable[[Any], Any] | None = None,
        **options: Any,
    ) -> ParameterState:
        """A parameter known only at run time; `options` as for `parameter`."""
        if getter is not None and setter is None:
            options.setdefault("access", "r")
        state = ParameterState(self, make_spec(name, kind, **options), getter, setter)
        self._join(name, state)
        return state

    def add_command(self, name: str, function: Callable[..., Any], **options: Any) -> CommandState:
        """A command known only at run time; `options` as for `command`."""
        spec = options.pop("spec", None) or command_spec(name, function, **options)
        state = CommandState(self, spec, function)
        self._join(name, state)
        return state

    def add_device(self, name: str, device: Device) -> None:
        """A sub-device known only at run time; `name` may be numbered, as ``ch[1]``."""
        self._join(name, device)

    def replace_members(self, members: Mapping[str, Member]) -> None:
        """From now on the device has these members, as when only the instrument knows them.

        A member of the same name and kind takes the other's place, with the locks on it and its
        listeners; locks on what has gone end. Raises ValueError for a name that is none.
        """
        for name in members:
            check_name(name)
        if self._replaced is not None:
            self._replaced(dict(members))
        else:
            self.members = dict(members)

    def change(self, name: str, **fields: Any) -> None:
        """Changes what is known about a parameter (unit, limits, help...) and tells listeners."""
        state = self.members.get(name)
        if not isinstance(state, ParameterState):
            raise UnknownName(name, self.members)
        for key in ("limits", "alarms", "warnings"):
            if fields.get(key) is not None and not isinstance(fields[key], Limits):
                fields[key] = Limits(*fields[key])
        if {"name", "aliases", "kind"} & fields.keys():
            raise TypeError("the names and the kind of a parameter never change")
        if "groups" in fields:
            fields["groups"] = as_tuple(fields["groups"])
        check_poll(fields.get("poll"))
        state.spec = replace(state.spec, **fields)
        if self._changed is not None:
            self._changed(state)

    def store(self, name: str, value: Any) -> None:
        """Keeps a new value of a parameter, as when the instrument reports it by itself."""
        state = self.members.get(name)
        if not isinstance(state, ParameterState):
            raise UnknownName(name, self.members)
        state.store(state.result(value))


Member = ParameterState | CommandState | Device


def _devices_in(name: str, value: Any) -> Iterable[tuple[str, Device]]:
    if isinstance(value, Device):
        return [(name, value)]
    if isinstance(value, list) and value and all(isinstance(item, Device) for item in value):
        return [(f"{name}[{number}]", item) for number, item in enumerate(value)]
    if isinstance(value, dict) and value and all(isinstance(v, Device) for v in value.values()):
        return [(f"{name}[{key}]" if isinstance(key, int) else key, v) for key, v in value.items()]
    return []


def is_message_device(device: Device) -> bool:
    """Whether the device speaks messages itself: it has ``message(data, expect_reply)``.

    Such a method sends `data` and, if `expect_reply`, returns the whole answer as bytes.
    """
    return callable(getattr(device, "message", None))


def read(state: ParameterState) -> Any:
    """The value, or what the getter returned; raises `NotReadable`."""
    if "r" not in state.spec.access:
        raise NotReadable(state.spec.name)
    return state.reading.value if state.getter is None else state.getter()


def check_writable(state: ParameterState) -> None:
    """Raises `NotWritable` for a parameter that can only be read."""
    if "w" not in state.spec.access or (state.getter is not None and state.setter is None):
        raise NotWritable(state.spec.name)


__all__ = [
    "ArgumentSpec", "Command", "CommandSpec", "CommandState", "Deadline", "Device", "Identity",
    "Parameter", "ParameterSpec", "ParameterState", "command", "parameter",
]  # fmt: skip
