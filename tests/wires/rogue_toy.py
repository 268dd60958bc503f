"""The toy tree that PyRogue's vectors were recorded from, as devices of a lab; a server in memory.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from itertools import count
from typing import Any, cast

import numpy as np
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from labnet.device import Device, command, parameter
from labnet.lab import Lab, ServeOptions
from labnet.transports.zmq import Peer
from labnet.values import EnumKind
from labnet.wires.rogue.pickles.reader import read_reply
from labnet.wires.rogue.pickles.writer import dumps_request
from labnet.wires.rogue.server import Options, RogueServer
from tests.wires.plesty_toy import SentReplies


class ToyError(Exception):
    """What one of the commands raises."""


class Psu(Device):
    """A power supply with a variable of each kind."""

    Volts = parameter(
        float, initial=7.5, limits=(0, 30), unit="V", display="{:.3f}", alarms=(0.5, 28),
        warnings=(1, 25), help="Output voltage",
    )  # fmt: skip
    Count = parameter(int, initial=0)
    Word = parameter(int, initial=16, display="{:#x}")
    On = parameter(bool, initial=True)
    Label = parameter(str, initial="plain")
    Mode = parameter(choices={0: "Off", 1: "CV", 2: "CC"}, initial=2)
    Wave = parameter(np.ndarray, initial=np.array([1.0, 5.5, 9.0, 4.0]))
    Hist = parameter(np.ndarray, initial=np.array([1, 2, 3], dtype=np.int32))
    Steps = parameter(list, initial=[7, 8, 9])
    Meta = parameter(dict, initial={"a": 1})
    Temp = parameter(float, initial=20.27, access="r", display="{:.2f}", poll=0.4)
    Serial = parameter(str, initial="SN-1", access="r")
    Pin = parameter(int, initial=0, access="w")
    Unserved = parameter(int, initial=1, groups="NoServe")
    Quiet = parameter(int, initial=1, groups="Hidden")
    Blob = parameter(bytes, initial=b"\0\1")
    Cplx = parameter(complex, initial=1 + 2j)

    def __init__(self, clock: Any) -> None:
        self._clock = clock

    @Volts.setter
    def write_volts(self, value: float) -> None:
        self.store("MilliVolts", value * 1000)

    @parameter(display="{:.1f}")
    def MilliVolts(self) -> float:
        return self.Volts * 1000

    @command
    def Clear(self) -> str:
        """no argument"""
        return "cleared"

    @command
    def Add(self, arg: int = 0) -> int:
        return arg + 1

    @command
    def Echo(self, arg: Any = None) -> Any:
        return arg

    @command
    def Pick(self, arg: Any = 0) -> int:
        return int(EnumKind({0: "A", 1: "B"}).check(arg, "arg"))

    @command
    def Fail(self) -> None:
        raise ToyError("no such luck")

    @command
    def FailKey(self) -> None:
        raise KeyError("missing")

    @command
    def Lock(self) -> Any:
        return threading.Lock()

    @command(long=True)
    def Slow(self, arg: float = 1.0) -> Deferred[float]:
        return deferLater(self._clock, arg, lambda: arg)

    @command
    def Array(self, arg: int = 0) -> Any:
        return np.arange(arg, dtype=float)


class Regs(Device):
    """Registers."""

    U32 = parameter(int, initial=0, limits=(0, 2**32 - 1), display="{:#x}")
    I16 = parameter(int, initial=0, limits=(-32768, 32767))
    Bit = parameter(bool, initial=False)
    F32 = parameter(float, initial=0.0, display="{:f}")
    F64 = parameter(float, initial=0.0, display="{:f}")
    Txt = parameter(str, initial="")
    Sel = parameter(choices={0: "Low", 1: "High"}, initial=0)
    Stat = parameter(int, initial=0, access="r", display="{:#x}")
    Trig = parameter(int, initial=0, access="w", display="{:#x}")
    Arr = parameter(np.ndarray, initial=np.zeros(4, dtype=np.uint32), display="{:#x}")

    @command
    def Pulse(self) -> None:
        """A pulse."""


class Channel(Device):
    """One of several alike."""

    Gain = parameter(float, initial=1.0, display="{:.2f}")


class Ramp(Device):
    """What PyRogue has as a process."""

    @command
    def Start(self) -> None:
        """Nothing that one could see."""


class Toy(Device):
    """All of them."""

    def __init__(self, clock: Any) -> None:
        self.Psu = Psu(clock)
        self.Regs = Regs()
        self.Ch = [Channel(), Channel(), Channel()]
        self.Ramp = Ramp()


PARTS = ("Psu", "Regs", "Ch[0]", "Ch[1]", "Ch[2]", "Ramp")


def parts_of(path: str) -> dict[str, str]:
    """The toy's devices by their names in the tree, for a toy that the lab has at `path`."""
    return {name: f"{path}.{name}" for name in PARTS}


class Subscribers:
    """A PUB socket that keeps what is published."""

    def __init__(self) -> None:
        self.audience = ["a subscriber"]
        self.messages: list[bytes] = []

    def publish(self, parts: list[bytes]) -> None:
        assert len(parts) == 1
        self.messages.append(parts[0])

    def taken(self) -> list[Any]:
        """What was published since the last time: one mapping a message."""
        messages, self.messages = self.messages, []
        return [read_reply(message) for message in messages]


class ToyServer:
    """A Rogue server without sockets, on a lab with a clock."""

    def __init__(
        self,
        clock: Any,
        devices: Mapping[str, Device] | None = None,
        lab: Lab | None = None,
        common: ServeOptions | None = None,
        **options: Any,
    ) -> None:
        self.lab = lab or Lab(clock, clock)
        for name, device in (devices or {}).items():
            self.lab.attach(name, device)
        if common is None:
            common = ServeOptions(devices={name: name for name in devices or {}})
        self.server = RogueServer(self.lab, common, Options(**options))
        self.subscribers = Subscribers()
        self.server.tree.publisher.connect(self.subscribers, self.subscribers.audience)
        self.binary, self.text = SentReplies(), SentReplies()
        self.server.binary.makeConnection(cast(Any, self.binary))
        self.server.text.makeConnection(cast(Any, self.text))
        self._numbers = count(1)

    def client(self) -> ToyClient:
        """A new client, with a connection to each of the two ports."""
        return ToyClient(self, next(self._numbers))


class ToyClient:
    """Connections to both ports, as one program that uses both has them."""

    def __init__(self, server: ToyServer, number: int) -> None:
        self._server = server
        identity = b"\0" + number.to_bytes(4, "big")
        address = f"127.0.0.1:{40000 + number % 20000}"
        self.peers = {
            "bin": Peer(identity, number, address), "str": Peer(identity, number, address),
        }  # fmt: skip
        self.ended = False

    def _port(self, kind: str) -> tuple[Any, SentReplies]:
        server = self._server
        if kind == "bin":
            return server.server.binary, server.binary
        return server.server.text, server.text

    def send(self, kind: str, *parts: bytes) -> list[list[bytes]]:
        """One message to a port; the messages that came back, with their envelopes."""
        port, replies = self._port(kind)
        port.messageReceived(self.peers[kind], list(parts))
        return replies.sent.pop(self.peers[kind], [])

    def came(self, kind: str) -> list[bytes]:
        """The bodies that have come since."""
        return self._port(kind)[1].taken(self.peers[kind])

    def ask(self, path: Any, attr: Any = None, *args: Any, **kwargs: Any) -> Any:
        """The answer of the binary port."""
        ((empty, body),) = self.send("bin", b"", dumps_request(path, attr, args, kwargs))
        assert empty == b"" and body
        return read_reply(body)

    def tell(self, *pieces: bytes) -> bytes:
        """Messages without envelopes: JSON to the text port, others to the binary one."""
        replies = []
        for piece in pieces:
            kind = "str" if piece[:1] in (b"{", b"[") else "bin"
            replies += [reply[-1] for reply in self.send(kind, piece)]
        return b"\n".join(replies)

    def vanish(self) -> None:
        """Both connections are lost."""
        for kind, peer in self.peers.items():
            peer.alive = False
            self._port(kind)[0].peerLost(peer)
