"""For tests of control software and of labnet itself: a fake device, a lab in memory, faults.

Nothing here needs a reactor, a port or a pause: a `MemoryLab` has a clock that only moves when it
is told to, and wires that are served in it carry real bytes through a network in memory::

    lab = MemoryLab({"powermeter": FakeDevice(power=1e-3)})
    served = lab.serve("tsv", device="powermeter")
    client = served.client(timeout=2.0)
    reply = lab.wait(client.get("power"))
    served.faults.hang("to_client")
    lab.wait(client.get("power"))           # raises TimedOut, after 2 s that nobody waits for

`serve_on_loopback` does the same on a real reactor, for wires that travel over ZMQ.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IListeningPort, IProtocol
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from labnet.deadlines import Clock
from labnet.device import Device, Identity
from labnet.errors import DeviceFault, NotConnected, UnknownName
from labnet.lab import Lab, Listener, ServeOptions
from labnet.registry import DeviceNode
from labnet.session import Session
from labnet.specs import command_spec
from labnet.supervision import Retry
from labnet.transports.faults import Faults, Relay
from labnet.transports.memory import MemoryReactor
from labnet.wires.table import find_wire

__all__ = [
    "Call", "Exchange", "FakeDevice", "Faults", "MemoryLab", "MemoryReactor", "Pair", "Relay",
    "Served", "connected_pair", "exchanges", "serve_on_loopback", "vector_header", "vectors",
]  # fmt: skip

T = TypeVar("T")
Verb = Literal["get", "set", "call", "connect", "disconnect"]

_COMMON = {option.name for option in fields(ServeOptions)}


class Call(NamedTuple):
    """One thing that a fake device was asked to do."""

    verb: Verb
    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}


class FakeDevice(Device):
    """A device made on the spot, which records what it is asked and misbehaves when told to.

    Keyword arguments are parameters: a first value, or a mapping of the options of
    `labnet.device.parameter`. Positional ones are names of commands that answer None; `answer`
    gives them something to say::

        meter = FakeDevice("zero", power=1e-3, wavelength={"initial": 633.0, "limits": (400, 1100)})
        meter.answer("identify", "meter 5")
        meter.delay(0.5, "power")
        meter.calls                         # [Call("set", "wavelength", (800.0,)), ...]

    `values` holds what the parameters read as; `report` changes one as an instrument would that
    speaks up by itself. Without names, `delay`, `hang` and `fail` are about everything.
    """

    identity = Identity("labnet", "FAKE", "0", "1.0")

    def __init__(self, *commands: str, clock: Clock | None = None, **parameters: Any) -> None:
        self.clock = clock
        self.calls: list[Call] = []
        self.values: dict[str, Any] = {}
        #: Names of the calls that hung or were late when their callers cancelled them.
        self.cancelled: list[str] = []
        self._faults: dict[str, Callable[[str, Callable[[], Any]], Any]] = {}
        self._hung: list[tuple[str, Deferred[None]]] = []
        self._unplugged: str | None = None
        for name, given in parameters.items():
            self.declare(name, **(given if isinstance(given, Mapping) else {"initial": given}))
        for name in commands:
            self.answer(name)

    # What it has

    def declare(self, name: str, kind: Any = None, **options: Any) -> None:
        """One more parameter; `options` are those of `labnet.device.parameter`."""
        writable = "w" in options.get("access", "rw")
        state = self.add_parameter(
            name,
            kind,
            getter=lambda: self._asked(Call("get", name), lambda: self.values[name]),
            setter=(lambda value: self._set(name, value)) if writable else None,
            **options,
        )
        self.values[name] = state.spec.initial

    def answer(self, name: str, answer: Any = None, **options: Any) -> None:
        """A command that answers so; a function is called, and its signature is the command's.

        `options` are those of `labnet.device.command`. Called again it changes the answer.
        """
        function = answer if callable(answer) else _answering(answer)
        spec = command_spec(name, function, **options)

        def called(*args: Any, **kwargs: Any) -> Any:
            return self._asked(Call("call", name, args, kwargs), lambda: function(*args, **kwargs))

        self.add_command(name, called, spec=spec)

    def report(self, name: str, value: Any) -> None:
        """The instrument itself says that a parameter has changed."""
        if name not in self.values:
            raise UnknownName(name, self.values, "parameter")
        self.values[name] = value
        self.store(name, value)

    def asked(self, verb: Verb, name: str | None = None) -> list[Call]:
        """The recorded calls of one verb, or of one verb and name."""
        return [call for call in self.calls if call.verb == verb and name in (None, call.name)]

    # What goes wrong

    def delay(self, seconds: float, *names: str) -> None:
        """Calls take so long; needs a clock, which `MemoryLab` gives."""
        self._each(names, lambda name, act: self._late(name, seconds, act))

    def hang(self, *names: str) -> None:
        """Calls do not return, until `release`."""
        self._each(names, self._hang)

    def fail(self, error: Exception | str = "it failed", *names: str) -> None:
        """Calls raise `error`, or a `DeviceFault` of this text."""
        raised = DeviceFault(error) if isinstance(error, str) else error
        self._each(names, lambda name, act: _throw(raised))

    def recover(self, *names: str) -> None:
        """Calls are carried out as usual; without names, all of them. What hangs goes on hanging.
        """
        for name in names or list(self._faults):
            self._faults.pop(name, None)

    def release(self) -> int:
        """Lets the calls that hang go on, in order; how many they were."""
        hung, self._hung = self._hung, []
        for _, waiting in hung:
            waiting.callback(None)
        return len(hung)

    @property
    def hanging(self) -> list[str]:
        """The names of the calls that hang."""
        return [name for name, _ in self._hung]

    def unplug(self, why: str = "unplugged") -> None:
        """Every call fails with `NotConnected`, `connect` too, until `plug`."""
        self._unplugged = why

    def plug(self) -> None:
        """The end of `unplug`."""
        self._unplugged = None

    # What it does

    def connect(self) -> Any:
        return self._asked(Call("connect", "connect"), lambda: None)

    def disconnect(self) -> Any:
        self.calls.append(Call("disconnect", "disconnect"))

    def _asked(self, call: Call, act: Callable[[], Any]) -> Any:
        self.calls.append(call)
        if self._unplugged is not None:
            raise NotConnected(self._unplugged)
        fault = self._faults.get(call.name) or self._faults.get("")
        return act() if fault is None else fault(call.name, act)

    def _set(self, name: str, value: Any) -> Any:
        return self._asked(
            Call("set", name, (value,)), lambda: self.values.__setitem__(name, value)
        )

    def _each(
        self, names: tuple[str, ...], fault: Callable[[str, Callable[[], Any]], Any]
    ) -> None:
        for name in names:
            if name not in self.members and name not in ("connect", "disconnect"):
                raise UnknownName(name, self.members)
        for name in names or ("",):
            self._faults[name] = fault

    def _late(self, name: str, seconds: float, act: Callable[[], Any]) -> Deferred[Any]:
        if self.clock is None:
            raise DeviceFault("a fake device needs a clock to be late: FakeDevice(clock=...)")
        clock: Any = self.clock
        return deferLater(clock, seconds, act).addErrback(self._gone, name)

    def _hang(self, name: str, act: Callable[[], Any]) -> Deferred[Any]:
        waiting: Deferred[None] = Deferred(lambda _: self._hung.remove((name, waiting)))
        self._hung.append((name, waiting))
        return waiting.addErrback(self._gone, name).addCallback(lambda _: act())

    def _gone(self, failure: Failure, name: str) -> Failure:
        self.cancelled.append(name)
        return failure


def _answering(answer: Any) -> Callable[..., Any]:
    def answers(*args: Any, **kwargs: Any) -> Any:
        return answer

    return answers


def _throw(error: Exception) -> None:
    raise error


class MemoryLab(Lab):
    """A lab on a clock of its own, with a network in memory; time passes only in `advance`.

    `devices` are attached by name; other options are those of `labnet.lab.Lab`. A device that says
    ``blocking = True`` is called in the test's own thread: it must not really sleep. With the `net`
    of another lab both are on one network, and have one clock.
    """

    def __init__(
        self,
        devices: Mapping[str, Device] | None = None,
        net: MemoryReactor | None = None,
        **options: Any,
    ) -> None:
        self.net = MemoryReactor() if net is None else net
        self._served: list[Served] = []
        super().__init__(self.net, self.net, **options)
        for name, device in (devices or {}).items():
            self.attach(name, device)

    def attach(self, name: str, device: Device, retry: Retry | None = None) -> DeviceNode:
        device.blocking = False
        if isinstance(device, FakeDevice) and device.clock is None:
            device.clock = self.net
        return super().attach(name, device, retry)

    def session(
        self, name: str = "tester", device: str | None = None, **options: Any
    ) -> Session:
        """A client without a wire; `options` are those of `Lab.open_session`."""
        return self.open_session("test", "memory", name=name, device=device, **options)

    def advance(self, seconds: float = 0.0) -> None:
        """Time passes: all that is due happens, each thing at its own time."""
        self.net.advance(seconds)

    def wait(
        self, awaited: Deferred[T] | Coroutine[Deferred[Any], Any, T], within: float = 60.0
    ) -> T:
        """Lets time pass until there is a result, and gives it or raises its error.

        AssertionError when there is none after `within` seconds of the lab's clock.
        """
        return _wait(self.net, awaited, within)

    def serve(self, wire: str, *, address: str = "tcp:0", **options: Any) -> Served:
        """Serves the lab over a stream wire, in memory, from its name in ``labnet.wires.table``.

        `options` are the keys of a ``[serve NAME]`` section: `device`, `timeout`..., and the wire's
        own. Raises ValueError for a wire over ZMQ (see `serve_on_loopback`).
        """
        if find_wire(wire).zmq:
            raise ValueError(f"{wire} travels over ZMQ, not in memory: use serve_on_loopback")
        before = set(self.net.ports)
        served = self.wait(_serve(self, wire, address, self.net, options))
        opened = [self.net.ports[number] for number in sorted(set(self.net.ports) - before)]
        served.port = opened[0].number
        served.faults = opened[0].faults
        self._served.append(served)
        return served

    def close(self) -> None:
        """Ends what was served and closes the devices; AssertionError if a timer is left."""
        for served in self._served:
            served.faults.clear()
            self.wait(served.stop())
        self.wait(self.stop())
        self.advance(60.0)
        left = [str(call) for call in self.net.getDelayedCalls()]
        assert not left, f"timers are left: {left}"


class Served:
    """A wire that serves a lab: its `listener`, `faults` on the way, and clients for it.

    `port` is its TCP port; `faults` befall all its connections (in memory only).
    """

    def __init__(self, wire: str, listener: Listener, reactor: Any) -> None:
        self.wire = wire
        self.listener = listener
        self.port = 0
        self.faults = Faults()
        self._reactor = reactor

    @property
    def address(self) -> str:
        """Where clients connect to."""
        return f"127.0.0.1:{self.port}" if self.port else self.listener.address

    def client(self, **options: Any) -> Any:
        """labnet's client of this wire, not connected yet; `options` are its keyword arguments."""
        return find_wire(self.wire).load_client()(
            self.address, reactor=self._reactor, **options
        )

    def stop(self) -> Deferred[None]:
        """Ends the listener and its connections."""
        return Deferred.fromCoroutine(self.listener.stop())


async def serve_on_loopback(
    lab: Lab, wire: str, *, address: str = "", reactor: Any = None, **options: Any
) -> Served:
    """Serves `lab` over any wire at a free port of the loopback address, on a real reactor.

    Without `reactor` it is the lab's. `options` are as for `MemoryLab.serve`. For faults put a
    `Relay` between server and client. Await `Served.stop` in the end.
    """
    if not address:
        zmq = find_wire(wire).zmq
        address = "tcp://127.0.0.1:*" if zmq else "tcp:0:interface=127.0.0.1"
    served = await _serve(lab, wire, address, reactor or lab.reactor, options)
    port = getattr(served.listener, "port", None)
    if IListeningPort.providedBy(port):
        host: Any = port.getHost()
        served.port = host.port
    return served


async def _serve(
    lab: Lab, wire: str, address: str, reactor: Any, options: Mapping[str, Any]
) -> Served:
    server = find_wire(wire).load_server()
    common = ServeOptions(**{key: value for key, value in options.items() if key in _COMMON})
    own = server.Options(**{key: value for key, value in options.items() if key not in _COMMON})
    return Served(wire, await server.listen(lab, address, common, own, reactor), reactor)


class Pair:
    """A server and a client, joined in memory.

    `server` is the newest protocol that the server's factory has built, `client` what was given or
    made; `faults` are on the way between them.
    """

    def __init__(self, factory: Any, reactor: MemoryReactor) -> None:
        self.reactor = reactor
        self.server: Any = None
        self.client: Any = None
        self.port = reactor.listenTCP(0, _Watched(factory, self))
        self.faults = self.port.faults

    def pump(self) -> None:
        """Carries all bytes that are under way, without time passing."""
        self.reactor.advance(0.0)

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.reactor.advance(seconds)

    def wait(
        self, awaited: Deferred[T] | Coroutine[Deferred[Any], Any, T], within: float = 60.0
    ) -> T:
        """As `MemoryLab.wait`."""
        return _wait(self.reactor, awaited, within)

    def close(self) -> None:
        """Ends every connection."""
        self.port.stopListening()
        self.faults.clear()
        self.faults.disconnect()
        self.pump()


class _Watched(Factory):
    """The server's factory; remembers what it has built."""

    noisy = False

    def __init__(self, factory: Any, pair: Pair) -> None:
        self._factory = factory
        self._pair = pair

    def startFactory(self) -> None:
        self._factory.doStart()

    def stopFactory(self) -> None:
        self._factory.doStop()

    def buildProtocol(self, addr: Any) -> Any:
        self._pair.server = self._factory.buildProtocol(addr)
        return self._pair.server


def connected_pair(
    server: Any, client: Any, *, reactor: MemoryReactor | None = None, **options: Any
) -> Pair:
    """Joins a server's factory with a client, in memory.

    `client` is a protocol, which is connected at once, or a class (any function) that is called as
    ``client(endpoint, reactor=reactor, **options)`` and connects when it likes. `reactor` is the
    one that the server's lab has (`MemoryLab.net`); None makes a new one.
    """
    pair = Pair(server, reactor or MemoryReactor())
    endpoint = TCP4ClientEndpoint(pair.reactor, "127.0.0.1", pair.port.number)
    if IProtocol.providedBy(client):
        endpoint.connect(_Only(client))
        pair.pump()
        pair.client = client
    else:
        pair.client = client(endpoint, reactor=pair.reactor, **options)
    return pair


class _Only(Factory):
    """Builds the protocol that is there already."""

    noisy = False

    def __init__(self, only: Any) -> None:
        self._only = only

    def buildProtocol(self, addr: Any) -> Any:
        return self._only


def _wait(
    reactor: MemoryReactor,
    awaited: Deferred[T] | Coroutine[Deferred[Any], Any, T],
    within: float,
) -> T:
    deferred = awaited if isinstance(awaited, Deferred) else Deferred.fromCoroutine(awaited)
    outcome: list[Any] = []
    deferred.addBoth(outcome.append)
    fired = reactor.until(lambda: bool(outcome), within)
    assert fired, f"there is no result after {within:g} s of the test's clock"
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    result: T = outcome[0]
    return result


# Recorded bytes: one JSON object a line; the first line of a file describes it.


def vector_header(path: Path | str) -> dict[str, Any]:
    """The line that describes a file of recorded bytes."""
    with Path(path).open(encoding="utf-8") as lines:
        described: dict[str, Any] = json.loads(next(lines))
        return described


def vectors(path: Path | str) -> Iterator[dict[str, Any]]:
    """The records of a file of recorded bytes, without the line that describes them."""
    with Path(path).open(encoding="utf-8") as lines:
        next(lines)
        for line in lines:
            yield json.loads(line)


@dataclass
class Exchange:
    """One case of a two-way recording: the client's writes, then all that came back.

    `then` says whether the connection was ``open`` or ``closed`` afterwards.
    """

    case: str
    peer: str
    sent: list[bytes] = field(default_factory=list)
    received: bytes = b""
    then: str = "open"
    note: str = ""


def exchanges(path: Path | str) -> Iterator[Exchange]:
    """The cases of a file whose records have ``direction`` c2s and s2c, in recorded order."""
    current: Exchange | None = None
    for record in vectors(path):
        if current is None:
            current = Exchange(record["case"], record["peer"], note=record.get("note", ""))
        if record["direction"] == "c2s":
            current.sent.append(bytes.fromhex(record["bytes"]))
        else:
            current.received = bytes.fromhex(record["bytes"])
            current.then = record["then"]
            yield current
            current = None
