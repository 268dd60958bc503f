"""What the tests of the VXI-11 wire share: calls, replies, clients in memory, the recordings."""

from __future__ import annotations

from collections.abc import Iterator
from struct import pack, unpack_from
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransportWithDisconnection

from labnet.device import Device, Identity
from labnet.devices.simulated.linktester import LinkTester
from labnet.framing.xdr import RecordSplitter, XdrReader
from labnet.wires.vxi11 import codec
from labnet.wires.vxi11.codec import (
    Channel,
    CreateLink,
    DeviceLock,
    DeviceRead,
    DeviceWrite,
    EnableSrq,
    Generic,
    Given,
    LinkMade,
    Procedure,
    Program,
    Taken,
)
from labnet.wires.vxi11.rpc import Reply, encode_call, read_reply
from labnet.wires.vxi11.server import Vxi11Factory
from tests.wires.vectors import records

HOST = "10.77.0.1"
LINK_AT = 44
"""Where the link is in a record with its mark, for calls without a credential."""

MADE_AT = 32
"""Where link, abort port and size are in the reply to create_link."""


class Reference(LinkTester):
    """The instrument of the recordings."""

    identity = Identity("LABNET", "REF", "0", "1")


class Sayer(Device):
    """Answers every question with the same bytes."""

    identity = Reference.identity
    says = b""

    def message(self, data: bytes, expect_reply: bool) -> bytes | None:
        """Answers."""
        return self.says if expect_reply else None


class Wire(StringTransportWithDisconnection):
    """A transport that forgets what the test has read."""

    def __init__(self) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", HOST, 40000))
        self.aborted = False

    def taken(self) -> bytes:
        data = bytes(self.value())
        self.clear()
        return data

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()


def replies(data: bytes) -> list[Reply]:
    """The replies in `data`, of which nothing may be left."""
    splitter = RecordSplitter(1 << 31)
    found = [read_reply(record) for record in splitter.feed(data)]
    assert not splitter.pending and not splitter.fault, data[:100]
    return found


def vxi11_call(procedure: int, arguments: bytes) -> bytes:
    """A call of the core channel."""
    return core(procedure, arguments)


def vxi11_write(message: bytes, link: bytes) -> bytes:
    """A whole message."""
    head, data, padding = DeviceWrite(0, 1000, 0, codec.END, message).encode()
    return core(11, b"".join((link, head[4:], data, padding)))


def vxi11_read(link: bytes) -> bytes:
    """A read that does not wait."""
    return core(12, link + DeviceRead(0, 1 << 20, 0, 0, 0, 0).encode()[4:])


def core(procedure: int, arguments: bytes = b"", xid: int = 1) -> bytes:
    """A call of the core channel."""
    return encode_call(xid, Program.CORE, codec.VERSION, procedure, arguments)


class Client:
    """One connection to a core listener in memory. Numbers are milliseconds, as on the wire."""

    def __init__(self, factory: Vxi11Factory, clock: Any, make: Any = None) -> None:
        self.clock = clock
        self.wire = Wire()
        address = IPv4Address("TCP", HOST, 40000)
        self.protocol = (make or factory).buildProtocol(address)
        self.wire.protocol = self.protocol
        self.protocol.makeConnection(self.wire)
        self.link = 0

    @property
    def ended(self) -> bool:
        return not self.wire.connected or self.wire.disconnecting

    def tell(self, *pieces: bytes) -> bytes:
        for piece in pieces:
            if self.wire.connected:
                self.protocol.dataReceived(piece)
            self.clock.advance(0)
        return self.wire.taken()

    def calls(self, data: bytes) -> XdrReader | None:
        """The results of a call; None while it waits."""
        return self.results(self.tell(data))

    def results(self, data: bytes) -> XdrReader | None:
        found = replies(data)
        assert len(found) < 2 and all(not reply.problem for reply in found), found
        return found[0].results() if found else None

    def reply(self) -> XdrReader:
        """The results of the call that waited."""
        self.clock.advance(0)
        found = self.results(self.wire.taken())
        assert found is not None, "it still waits"
        return found

    def make(self, device: bytes = b"inst0", lock: bool = False, wait: int = 0) -> LinkMade | None:
        made = self.calls(core(10, CreateLink(7, lock, wait, device).encode()))
        if made is None:
            return None
        result = codec.read_link_made(made)
        self.link = result.link
        return result

    def write(
        self, data: bytes, flags: int = codec.END, io: int = 1000, lock: int = 0
    ) -> Taken | None:
        parts = DeviceWrite(self.link, io, lock, flags, data).encode()
        results = self.calls(core(11, b"".join(parts)))
        return None if results is None else codec.read_taken(results)

    def read(
        self, size: int = 1 << 20, io: int = 1000, flags: int = 0, termchar: int = 0, lock: int = 0
    ) -> Given | None:
        request = DeviceRead(self.link, size, io, lock, flags, termchar)
        results = self.calls(core(12, request.encode()))
        return None if results is None else codec.read_given(results)

    def given(self) -> Given:
        return codec.read_given(self.reply())

    def query(self, message: bytes) -> bytes:
        assert self.write(message) == Taken(0, len(message))
        given = self.read()
        assert given is not None and not given.error, given
        return given.data

    def status_byte(self, flags: int = 0, lock: int = 0) -> Taken | None:
        results = self.calls(core(13, Generic(self.link, flags, lock, 1000).encode()))
        return None if results is None else codec.read_taken(results)

    def generic(self, procedure: int, flags: int = 0, lock: int = 0, io: int = 1000) -> int | None:
        return self.code(core(procedure, Generic(self.link, flags, lock, io).encode()))

    def code(self, data: bytes) -> int | None:
        """The error code of a call that has no other result."""
        results = self.calls(data)
        return None if results is None else results.uint()

    def lock(self, flags: int = 0, wait: int = 0) -> int | None:
        return self.code(core(18, DeviceLock(self.link, flags, wait).encode()))

    def unlock(self) -> int | None:
        return self.code(core(19, pack(">I", self.link)))

    def destroy(self, link: int | None = None) -> int | None:
        return self.code(core(23, pack(">I", self.link if link is None else link)))

    def enable(self, handle: bytes, enable: bool = True) -> int | None:
        return self.code(core(20, EnableSrq(self.link, enable, handle).encode()))

    def channel(self, where: Channel) -> int | None:
        return self.code(core(25, where.encode()))

    def abort(self, link: int) -> int | None:
        call = encode_call(1, Program.ABORT, 1, Procedure.DEVICE_ABORT, pack(">I", link))
        return self.code(call)

    def vanish(self) -> None:
        self.wire.loseConnection()


# The recordings


class Recorded(NamedTuple):
    """One call of the recordings and the answer that was recorded, empty for none."""

    case: str
    channel: str
    source: str
    call: bytes
    answer: bytes
    value: dict[str, Any]
    result: dict[str, Any]

    @property
    def link(self) -> int | None:
        """The link that the call names."""
        return self.value.get("args", {}).get("lid")

    def to(self, link: int) -> bytes:
        """The call for another link."""
        if self.link is None:
            return self.call
        assert unpack_from(">I", self.call, LINK_AT)[0] == self.link
        return self.call[:LINK_AT] + pack(">I", link) + self.call[LINK_AT + 4 :]


def recorded(channels: tuple[str, ...] = ("core", "abort")) -> Iterator[Recorded]:
    """The calls of some channels in recorded order."""
    waiting: dict[str, Any] | None = None
    for record in records("vxi11"):
        if record["channel"] not in channels:
            continue
        if record["direction"] == "client-to-server":
            if waiting is not None:
                yield _recorded(waiting, None)
            waiting = record
        elif waiting is not None:
            yield _recorded(waiting, record)
            waiting = None
    if waiting is not None:
        yield _recorded(waiting, None)


def _recorded(call: dict[str, Any], answer: dict[str, Any] | None) -> Recorded:
    return Recorded(
        call["case"],
        call["channel"],
        (answer or call)["source"],
        bytes.fromhex(call["bytes"]),
        b"" if answer is None else bytes.fromhex(answer["bytes"]),
        call["value"],
        {} if answer is None else answer["value"],
    )
