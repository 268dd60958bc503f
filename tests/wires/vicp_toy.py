"""What the recorded VICP clients talked to, and what the tests of that wire share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from labnet.device import Device, Identity, command, parameter
from labnet.wires.vicp.codec import Block, BlockSplitter
from tests.wires.vectors import records


class Recorded(Device):
    """The instrument of ``tests/vectors/vicp.jsonl``."""

    identity = Identity("LECROY", "SIM", "LCRY0001", "1.0")
    triggers = parameter(int, initial=0, access="r", scpi="TEST:TRIGger")
    service_request = parameter(int, initial=0, access="r", scpi="")

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.waits: list[Deferred[str]] = []

    @command(scpi="TEST:BLOCk?", reads=True)
    def block(self, size: int) -> bytes:
        """A block of so many bytes, counting up."""
        return bytes(range(256)) * (size // 256) + bytes(range(size % 256))

    @command(scpi="TEST:WAIT?", long=True, reads=True)
    async def wait(self, seconds: float) -> Literal["done"]:
        """Answers after a time."""
        await deferLater(self._clock, seconds)
        return "done"

    @command(scpi="TEST:SRQ")
    def srq(self) -> None:
        """Asks for service."""
        self.service_request += 1

    @command(scpi="SLOW")
    def slow(self) -> Deferred[str]:
        """Ends when the test says so."""
        done: Deferred[str] = Deferred()
        self.waits.append(done)
        return done


def message(text: bytes, sequence: int = 1) -> bytes:
    """A whole message in one block."""
    return b"\x81\x01" + bytes([sequence, 0]) + len(text).to_bytes(4, "big") + text


def blocks(data: bytes) -> list[Block]:
    """The blocks in `data`, of which nothing may be left."""
    splitter = BlockSplitter(1 << 32)
    items = splitter.feed(data)
    found = [item for item in items if isinstance(item, Block)]
    assert not splitter.pending and len(found) == len(items), items
    return found


def answers(data: bytes) -> list[tuple[int, bytes]]:
    """The answers in `data`, joined: their numbers and bytes."""
    found: list[tuple[int, bytes]] = []
    joined = b""
    for block in blocks(data):
        joined += block.data
        if block.operation & 1:
            found.append((block.sequence, joined))
            joined = b""
    assert not joined, "an answer has no end"
    return found


def connections() -> Iterator[list[dict[str, Any]]]:
    """The recorded blocks of each connection."""
    everything = list(records("vicp"))
    for number in sorted({record["conn"] for record in everything}):
        yield [record for record in everything if record["conn"] == number]
