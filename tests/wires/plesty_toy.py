"""The toy device that the PLESTY vectors were recorded from, as a labnet device."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from datetime import datetime
from enum import Enum, IntEnum, StrEnum
from typing import Any

import numpy as np
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from labnet.device import Device, Identity, command, parameter
from labnet.lab import Lab, ServeOptions
from labnet.transports.zmq import Peer
from labnet.wires.plesty.server import Options, PlestyFactory


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 7


class Switch(StrEnum):
    ON = "on"


MADE: dict[str, Any] = {
    "none": None, "true": True, "int": 42, "bigint": 2**70, "float": 0.1, "nan": float("nan"),
    "inf": float("inf"), "neginf": float("-inf"), "text": "\u00b5m \u2014 \u5149",
    "list": [1, 2.5, "x", None], "tuple": (1, 2), "dict": {"a": 1, "b": {"c": [True]}},
    "intkeys": {1: "yes", None: "none"}, "npfloat64": np.float64(1.5), "intenum": Level.HIGH,
    "strenum": Switch.ON, "bytes": b"\x00\xff", "complex": 1 + 2j, "set": {1, 2},
    "ndarray": np.arange(3), "npfloat32": np.float32(0.5), "npint": np.int64(3),
    "npbool": np.bool_(True), "nested_ndarray": {"a": np.arange(2)}, "enum": Colour.RED,
    "datetime": datetime(2020, 1, 1), "object": object(),
}  # fmt: skip


class Motor(Device):
    """A group with one parameter."""

    position = parameter(float, unit="mm", limits=(-50.0, 50.0), initial=1.0)


class Axes(Device):
    """Two axes to lock."""

    def __init__(self) -> None:
        self.x = Device()
        self.y = Device()


class Toy(Device):
    """Parameters of each type, operations that answer, fail and wait."""

    identity = Identity("PLESTY", "ToyDevice", "TOY-0001", "1.0")
    wavelength = parameter(
        float, unit="nm", limits=(185.0, 2500.0), initial=532.0, help="Operating wavelength."
    )
    averaging = parameter(int, limits=(1, 3000), initial=10)
    unit = parameter(choices=("W", "DBM"), initial="W")
    auto_range = parameter(bool, initial=True)
    offset = parameter(float, initial=0.0)
    serial = parameter(str, initial="TOY-0001", access="r")
    trigger = parameter(bool, initial=False, access="w")

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self.MOTOR = Motor()
        self.axis = Axes()
        self.laser = Device()

    @command(reads=True)
    def add(self, a: Any, b: Any = 1) -> Any:
        return a + b

    @command(reads=True)
    def echo(self, *args: Any, **kwargs: Any) -> Any:
        return {"args": args, "kwargs": kwargs}

    @command(reads=True)
    def bare(self) -> Any:
        return "bare"

    @command(reads=True)
    def make(self, kind: Any) -> Any:
        return MADE[kind]

    @command(reads=True)
    def big(self, n: Any) -> Any:
        return "x" * n

    @command(reads=True)
    def fail(self, kind: Any = "ValueError", message: Any = "boom") -> Any:
        raise getattr(builtins, kind)(*([message] if message else []))

    @command(timeout=7.5)
    def nap(self, seconds: Any) -> Deferred[Any]:
        return deferLater(self._clock, seconds, lambda: seconds)

    @command(reads=True)
    def check_errors(self) -> Any:
        return []

    @command
    def reset(self) -> None:
        self.offset = 0.5


class SentReplies:
    """A port that keeps what is sent, by connection."""

    silent = 0

    def silent_newcomers(self, address: str, age: float) -> int:
        return self.silent

    def __init__(self) -> None:
        self.sent: dict[Peer, list[list[bytes]]] = {}

    def reply(self, peer: Peer, frames: list[bytes]) -> bool:
        if peer.alive:
            self.sent.setdefault(peer, []).append(frames)
        return peer.alive

    def taken(self, peer: Peer) -> list[bytes]:
        """The bodies sent to `peer` since the last time, without envelopes."""
        return [frames[-1] for frames in self.sent.pop(peer, [])]


class ToyServer:
    """A listener's factory without a socket, on a lab with a clock."""

    def __init__(
        self,
        clock: Any,
        options: Options | None = None,
        others: Mapping[str, Device] | None = None,
        **common: Any,
    ) -> None:
        self.clock = clock
        self.lab = Lab(clock)
        self.toy = Toy(clock)
        self.lab.attach("toy", self.toy)
        for name, device in (others or {}).items():
            self.lab.attach(name, device)
        common.setdefault("device", "toy")
        self.port = SentReplies()
        self.factory = self.listen(ServeOptions(name="test", **common), options or Options())
        self._descriptors = 0

    def listen(self, common: ServeOptions, options: Options) -> PlestyFactory:
        """A listener of this lab."""
        factory = PlestyFactory(self.lab, common, options)
        port: Any = self.port
        factory.makeConnection(port)
        return factory

    def peer(self, identity: bytes | str = b"") -> Peer:
        """A new connection."""
        self._descriptors += 1
        identity = identity.encode() if isinstance(identity, str) else identity
        address = f"127.0.0.1:{40000 + self._descriptors}"
        return Peer(identity or b"\0kEg" + bytes([self._descriptors]), self._descriptors, address)

    def tell(self, peer: Peer, *frames: bytes) -> list[bytes]:
        """One message; the bodies that it brings at once."""
        self.factory.messageReceived(peer, list(frames))
        return self.port.taken(peer)

    def lose(self, peer: Peer) -> None:
        """The connection ends."""
        peer.alive = False
        self.factory.peerLost(peer)
