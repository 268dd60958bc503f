"""What `tests.test_wires` must know of a wire to put to it the questions that all are asked.

One adapter a row of ``labnet/wires/table.py``. Everything runs in memory: the wire's own ``listen``
on a reactor that has no sockets, or for ZMQ its factory with a port that keeps what is sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, Protocol, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from labnet.device import Device
from labnet.framing.xdr import encode_uint
from labnet.lab import Lab, ServeOptions
from labnet.transports.zmq import Peer
from labnet.wires.hislip.codec import Type, encode, encode_initialize
from labnet.wires.plesty.server import PlestyFactory
from labnet.wires.table import WIRES
from labnet.wires.vxi11.codec import CreateLink, ErrorCode
from tests.instrument.toy import Supply
from tests.wires.hislip_toy import OPENING, SYNCHRONOUS
from tests.wires.plesty_toy import SentReplies, Toy
from tests.wires.rogue_toy import Toy as RogueToy
from tests.wires.rogue_toy import ToyServer as RogueToyServer
from tests.wires.rogue_toy import parts_of
from tests.wires.toy_motor import ToyMotor
from tests.wires.vectors import exchanges, records
from tests.wires.vicp_toy import answers, connections
from tests.wires.vicp_toy import message as vicp_message
from tests.wires.vxi11_toy import (
    MADE_AT,
    Reference,
    recorded,
    replies,
    vxi11_call,
    vxi11_read,
    vxi11_write,
)


class Client(Protocol):
    """One client of a server in memory."""

    def tell(self, *pieces: bytes) -> bytes:
        """What comes back at once when these arrive one after the other."""

    @property
    def ended(self) -> bool:
        """Whether the server has closed the connection."""

    def vanish(self) -> None:
        """The connection is lost."""


class Adapter(Protocol):
    """One wire. Requests are whole messages as a client sends them."""

    name: str
    options: dict[str, Any]  # a low bound on the length of a message
    waits: bool  # a request that meets another's lock waits, and nothing is said
    splits: Sequence[str]  # how the wire's bytes may be cut: whole, bytewise, joined
    half: bytes  # the beginning of a request
    too_long: bytes  # a request over the bound

    def device(self, clock: Any) -> Device:
        """The device for which `cases` were recorded."""

    def cases(self) -> list[list[bytes]]:
        """What recorded clients wrote, one list a connection."""

    def serve(self, lab: Lab, device: str, **options: Any) -> Callable[[], Client]:
        """Serves the device; returns what makes a client."""

    def read(self) -> bytes:
        """Asks for the parameter ``level``."""

    def write(self, value: float) -> bytes:
        """Sets the parameter ``level``."""

    def lock(self, name: str) -> bytes:
        """Locks the device ``bench`` until the connection ends."""

    def succeeded(self, reply: bytes) -> bool:
        """Whether a reply is no error."""


class StreamClient:
    """A client of a stream wire."""

    def __init__(self, reactor: MemoryReactorClock, factory: Any) -> None:
        self._reactor = reactor
        address = IPv4Address("TCP", "127.0.0.1", 40000)
        self._transport = StringTransport(peerAddress=address)
        self._server = factory.buildProtocol(address)
        self._server.makeConnection(self._transport)
        self._lost = False

    def tell(self, *pieces: bytes) -> bytes:
        for piece in pieces:
            if not self.ended:
                self._server.dataReceived(piece)
            self._turns()
        answer: bytes = self._transport.value()
        self._transport.clear()
        return answer

    def _turns(self) -> None:
        """Lets what was put off to the next turns happen."""
        while any(call.getTime() <= self._reactor.seconds() for call in self._calls()):
            self._reactor.advance(0)

    def _calls(self) -> list[Any]:
        return list(self._reactor.getDelayedCalls())

    @property
    def ended(self) -> bool:
        return bool(self._transport.disconnecting or self._transport.disconnected)

    def vanish(self) -> None:
        if not self._lost:
            self._lost = True
            self._server.connectionLost(Failure(ConnectionLost()))
            self._turns()


class StreamWire:
    """What the stream wires have in common: `listen` on a reactor without sockets."""

    name: str
    waits = False
    splits = ("whole", "bytewise", "joined")
    newest = -1  # which of the ports that were opened last is the wire's

    def serve(self, lab: Lab, device: str, **options: Any) -> Callable[[], Client]:
        module = WIRES[self.name].load_server()
        reactor = lab.reactor
        common = ServeOptions(name=self.name, device=device)
        listening = Deferred.fromCoroutine(
            module.listen(lab, "tcp:7000", common, module.Options(**options), reactor)
        )
        assert listening.called, "a TCP port opens at once"
        listening.addErrback(Failure.raiseException)
        factory = reactor.tcpServers[self.newest][1]
        return partial(self.client, reactor, factory)

    def client(self, reactor: MemoryReactorClock, factory: Any) -> Client:
        """A new client."""
        return StreamClient(reactor, factory)


class Tsv(StreamWire):
    """Tab-separated lines."""

    name = "tsv"
    options = {"max_line": 100}
    half = b"set\tlev"
    too_long = b"ping\t" + b"x" * 200 + b"\n"

    def device(self, clock: Any) -> Device:
        return ToyMotor(clock)

    def cases(self) -> list[list[bytes]]:
        return [exchange.sent for exchange in exchanges("tsv")]

    def read(self) -> bytes:
        return b"get\tlevel\n"

    def write(self, value: float) -> bytes:
        return f"set\tlevel\t{value}\n".encode()

    def lock(self, name: str) -> bytes:
        return f"lock\tbench\t{name}\n".encode()

    def succeeded(self, reply: bytes) -> bool:
        return reply.startswith(b"1\t")


class Scpi(StreamWire):
    """SCPI lines on a raw socket, where only a query has a response."""

    name = "scpi"
    options = {"max_message": 100}
    half = b"LEVEL 1"
    too_long = b"LEVEL " + b"1" * 200 + b"\n:SYST:ERR?\n"

    def device(self, clock: Any) -> Device:
        return Supply()

    def cases(self) -> list[list[bytes]]:
        return [list(map(bytes.fromhex, case["in"])) for case in records("scpi")]

    def read(self) -> bytes:
        return b"LEVEL?\n"

    def write(self, value: float) -> bytes:
        return f"LEVEL {value}\nSYST:ERR?\n".encode()

    def lock(self, name: str) -> bytes:
        return b"SYST:LOCK:REQ?\n"

    def succeeded(self, reply: bytes) -> bool:
        return bool(reply) and not reply.startswith(b"-") and reply != b"0\n"


class Vicp(StreamWire):
    """SCPI messages in blocks; those recorded on a raw socket make up for the few clients."""

    name = "vicp"
    waits = True
    options = {"max_message": 100}
    half = b"\x81\1\1\0\0\0\0\7LEVEL"
    too_long = vicp_message(b"LEVEL " + b"1" * 200)

    def device(self, clock: Any) -> Device:
        return Supply()

    def cases(self) -> list[list[bytes]]:
        recorded = [
            [bytes.fromhex(r["bytes"]) for r in connection if r["direction"].startswith("c2s")]
            for connection in connections()
        ]
        return recorded + [
            [vicp_message(bytes.fromhex(piece)) for piece in case["in"]] for case in records("scpi")
        ]

    def read(self) -> bytes:
        return vicp_message(b"LEVEL?")

    def write(self, value: float) -> bytes:
        return vicp_message(b"LEVEL %f;:SYST:ERR?" % value)

    def lock(self, name: str) -> bytes:
        return vicp_message(b"SYST:LOCK:REQ?")

    def succeeded(self, reply: bytes) -> bool:
        found = answers(reply)
        return bool(found) and not found[-1][1].startswith(b"-") and found[-1][1] != b"0\n"


class Vxi11Client(StreamClient):
    """A client that makes its link when it is first needed, and puts error 11 into words."""

    link = b""
    LOCKED = b"(locked)"

    def tell(self, *pieces: bytes) -> bytes:
        if not self.link and any(Vxi11.LINK in piece for piece in pieces):
            made = super().tell(vxi11_call(10, CreateLink(1, 0, 0, b"inst0").encode()))
            self.link = made[MADE_AT : MADE_AT + 4]
        answer = super().tell(*(piece.replace(Vxi11.LINK, self.link) for piece in pieces))
        codes = [reply.record[reply.at :][:4] for reply in replies(answer) if not reply.problem]
        return answer + self.LOCKED if encode_uint(ErrorCode.LOCKED) in codes else answer


class Vxi11(StreamWire):
    """SCPI messages in remote procedure calls; each recorded call on a connection of its own."""

    name = "vxi11"
    newest = -2  # the last one is for aborts
    LINK = b"\x7fLID"  # stands for the link of the client
    options = {"max_receive": 1024}
    half = vxi11_write(b"LEVEL 1", LINK)[:-3]
    too_long = vxi11_write(b"LEVEL " + b"1" * 2000, LINK)

    def serve(self, lab: Lab, device: str, **options: Any) -> Callable[[], Client]:
        return super().serve(lab, device, portmapper="none", **options)

    def client(self, reactor: MemoryReactorClock, factory: Any) -> Client:
        return Vxi11Client(reactor, factory)

    def device(self, clock: Any) -> Device:
        return Reference(clock=clock)

    def cases(self) -> list[list[bytes]]:
        create = vxi11_call(10, CreateLink(1, 0, 0, b"inst0").encode())
        return [[create, call.call if call.link is None else call.to(1)] for call in recorded()]

    def read(self) -> bytes:
        return vxi11_write(b"LEVEL?", self.LINK) + vxi11_read(self.LINK)

    def write(self, value: float) -> bytes:
        return vxi11_write(b"LEVEL %f;:SYST:ERR?" % value, self.LINK) + vxi11_read(self.LINK)

    def lock(self, name: str) -> bytes:
        return vxi11_call(18, self.LINK + bytes(8))

    def succeeded(self, reply: bytes) -> bool:
        found = replies(reply.removesuffix(Vxi11Client.LOCKED))
        return bool(found) and not any(reply.problem or reply.results().uint() for reply in found)


class HislipClient:
    """Both channels of a session; the first message of what it tells says which one is meant."""

    def __init__(self, reactor: MemoryReactorClock, factory: Any) -> None:
        self._channels = [StreamClient(reactor, factory), StreamClient(reactor, factory)]
        opened = self._channels[0].tell(encode_initialize("hislip0"))
        session = int.from_bytes(opened[6:8], "big")
        self._channels[1].tell(encode(Type.ASYNC_INITIALIZE, 0, session))

    def tell(self, *pieces: bytes) -> bytes:
        first, second = self._channels
        beginning = b"".join(pieces[:3])[:3]
        known = len(beginning) == 3 and beginning.startswith(b"HS")
        there = second if known and beginning[2] not in SYNCHRONOUS else first
        other = second if there is first else first
        answer = there.tell(*pieces)
        return answer + other.tell()

    @property
    def ended(self) -> bool:
        return any(channel.ended for channel in self._channels)

    def vanish(self) -> None:
        for channel in self._channels:
            channel.vanish()


class Hislip(StreamWire):
    """SCPI messages; those recorded on a raw socket make up for the few clients."""

    name = "hislip"
    waits = True
    options = {"max_message_size": 1024}
    half = encode(Type.DATA_END, 0, 0, b"LEVEL 1")[:-3]
    too_long = encode(Type.DATA_END, 0, 0, b"LEVEL " + b"1" * 2000)

    def device(self, clock: Any) -> Device:
        return Supply()

    def cases(self) -> list[list[bytes]]:
        recorded: dict[tuple[str, int], list[bytes]] = {}
        for record in records("hislip"):
            data = bytes.fromhex(record["bytes"])
            if record["direction"] == "c2s" and data[2] not in OPENING:
                client = record["case"].partition(":")[0]
                recorded.setdefault((client, record["conn"]), []).append(data)
        return list(recorded.values()) + [
            [encode(Type.DATA_END, 0, 0, bytes.fromhex(piece)) for piece in case["in"]]
            for case in records("scpi")
        ]

    def client(self, reactor: MemoryReactorClock, factory: Any) -> Client:
        return HislipClient(reactor, factory)

    def read(self) -> bytes:
        return encode(Type.DATA_END, 0, 0, b"LEVEL?")

    def write(self, value: float) -> bytes:
        return encode(Type.DATA_END, 1, 0, b"LEVEL %f;:SYST:ERR?" % value)

    def lock(self, name: str) -> bytes:
        return encode(Type.ASYNC_LOCK, 1)

    def succeeded(self, reply: bytes) -> bool:
        kind, control, error = reply[2], reply[3], reply[16:].startswith(b"-")
        return (kind == Type.ASYNC_LOCK_RESPONSE and control == 1) or (kind == 7 and not error)


class ZmqClient:
    """A client of a ZMQ wire: each piece is a whole message."""

    ended = False

    def __init__(self, factory: Any, port: SentReplies, number: int) -> None:
        self._factory = factory
        self._port = port
        address = f"127.0.0.1:{40000 + number % 20000}"
        self._peer = Peer(b"\0" + number.to_bytes(4, "big"), number, address)

    def tell(self, *pieces: bytes) -> bytes:
        for piece in pieces:
            self._factory.messageReceived(self._peer, [piece])
        return b"\n".join(self._port.taken(self._peer))

    def vanish(self) -> None:
        self._peer.alive = False
        self._factory.peerLost(self._peer)


class Plesty:
    """JSON over ZMQ, which cuts messages itself."""

    name = "plesty"
    waits = False
    options = {"max_request": 1024}
    splits = ("whole",)
    half = b'{"type": "wri'
    too_long = json.dumps({"type": "query", "param": "x" * 2000}).encode()

    def device(self, clock: Any) -> Device:
        return Toy(clock)

    def cases(self) -> list[list[bytes]]:
        sent: dict[str, list[bytes]] = {}
        for record in records("plesty"):
            if record["direction"] == "c2s" and "kind" not in record:
                frame = record["frames"][-1]
                text = frame.get("utf8")
                body = bytes.fromhex(frame["hex"]) if text is None else text.encode()
                sent.setdefault(record["case"], []).append(body)
        return list(sent.values())

    def serve(self, lab: Lab, device: str, **options: Any) -> Callable[[], Client]:
        module = WIRES[self.name].load_server()
        port = SentReplies()
        common = ServeOptions(name=self.name, device=device)
        factory = PlestyFactory(lab, common, module.Options(**options))
        factory.makeConnection(cast(Any, port))
        numbers = count(1)
        return lambda: ZmqClient(factory, port, next(numbers))

    def _request(self, type: str, **fields: Any) -> bytes:
        return json.dumps({"type": type, **fields}).encode()

    def read(self) -> bytes:
        return self._request("query", param="level")

    def write(self, value: float) -> bytes:
        return self._request("write", param="level", value=value)

    def lock(self, name: str) -> bytes:
        return self._request("connect", resources=["level"])

    def succeeded(self, reply: bytes) -> bool:
        return json.loads(reply)["status"] == "ok"


class Pymodaq(StreamWire):
    """Modules, which are devices themselves: what they send, each message behind an introduction.

    The wire serves no device and knows no locks, so that only some of the questions can be asked.
    """

    name = "pymodaq"
    options = {"max_message": 1024}
    half = b"\0\0\0\7GRABBER\0\0\0\4Done\0\0\0\1\0\0\0\5arr"
    too_long = b"\0\0\0\7GRABBER\0\0\0\5Infos\0\0\x08\0" + b"x" * 2048

    def cases(self) -> list[list[bytes]]:
        return [
            [self.introduction(record), bytes.fromhex(record["bytes"])]
            for record in records("pymodaq")
            if record["direction"] == "c2s"
        ]

    def introduction(self, record: dict[str, Any]) -> bytes:
        """What the module that has sent a recorded message says first."""
        kind = b"ACTUATOR" if record["case"].startswith("move") else b"GRABBER"
        word = encode_uint(len(kind)) + kind
        if record["generation"] == "D":
            word = encode_uint(3) + b"str" + word
            word = encode_uint(len(word)) + word
        return word


class Rogue:
    """Pickles and JSON over ZMQ, each to its own port; the answers of the text port are asked."""

    name = "rogue"
    waits = False
    options = {"max_request": 1024}
    splits = ("whole",)
    half = b'{"path": "Toy.bench.lev'
    too_long = json.dumps({"path": "x" * 2000, "attr": "get"}).encode()

    def device(self, clock: Any) -> Device:
        return RogueToy(clock)

    def cases(self) -> list[list[bytes]]:
        sent: dict[str, list[bytes]] = {}
        for record in records("rogue"):
            body = bytes.fromhex(record["frames"][-1])
            if record["direction"] == "c2s" and record["socket"] != "pub" and b"Time" not in body:
                sent.setdefault(record["case"], []).append(body)
        return list(sent.values())

    def serve(self, lab: Lab, device: str, **options: Any) -> Callable[[], Client]:
        names = {device: device}
        if "Psu" in lab.devices()[device].children:
            names |= parts_of(device)
        common = ServeOptions(name=self.name, devices=names)
        server = RogueToyServer(lab.reactor, lab=lab, common=common, root="Toy", **options)
        return server.client

    def _request(self, path: str, attr: str, *args: Any) -> bytes:
        return json.dumps({"path": f"Toy.{path}", "attr": attr, "args": args}).encode()

    def read(self) -> bytes:
        return self._request("bench.level", "get")

    def write(self, value: float) -> bytes:
        return self._request("bench.level", "set", float(value))

    def lock(self, name: str) -> bytes:
        return self._request("Locks.Lock", "__call__", "bench")

    def succeeded(self, reply: bytes) -> bool:
        return bool(reply) and not reply.startswith(b"EXCEPTION: ")


_ALL: tuple[Adapter, ...] = (Tsv(), Scpi(), Vicp(), Vxi11(), Hislip(), Plesty(), Rogue())
ADAPTERS: dict[str, Adapter] = {adapter.name: adapter for adapter in _ALL}
#: Wires whose clients are devices: they are served none.
DIALLING: dict[str, Pymodaq] = {adapter.name: adapter for adapter in (Pymodaq(),)}
