"""A device to try a link with: blocks of any size, waits, service requests, triggers, errors."""

from __future__ import annotations

import weakref
import zlib
from typing import Annotated, cast

import numpy as np
import numpy.typing as npt
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from labnet.device import Identity, command, parameter
from labnet.devices.simulated.shared import Simulated
from labnet.errors import BadArguments, DeviceFault, TooLarge
from labnet.values import RAW_TEXT

#: The longest block that is sent or kept, in bytes.
LONGEST = 1 << 30
#: Bytes that are made or summed up at once; longer blocks leave the lab time for others.
STEP = 16 << 20
#: Longest wait in seconds; most service requests that may be on their way.
LONGEST_WAIT = 3600.0
MAX_REQUESTS = 100

_PATTERN = bytes(range(256))


class LinkTester(Simulated):
    """Tries a link: blocks as long as wanted, waits, service requests, triggers, echoes, errors.

    Args:
        longest: the longest block in bytes, at most 1 GiB.
        clock: its time; None for the reactor's.
    """

    identity = Identity("labnet", "SIM-LINK", "L0000001", "1.0")

    triggers = parameter(
        int, access="r", scpi="TEST:TRIGger", help="Triggers (*TRG or the link's own) so far"
    )

    service_request = parameter(
        int, access="r", scpi="", help="Service requests so far; each new one is an SRQ"
    )

    def __init__(self, longest: int = LONGEST, clock: IReactorTime | None = None) -> None:
        if not 0 < longest <= LONGEST:
            raise ValueError(f"the longest block must be 1 to {LONGEST} bytes, not {longest}")
        super().__init__(0, clock)
        self._longest = longest
        self._last = b""
        self._long: weakref.ref[npt.NDArray[np.uint8]] | None = None
        self._loaded = b""
        self._requests: set[IDelayedCall] = set()

    @command(scpi="TEST:BLOCk?", reads=True, timeout=60.0, limits={"length": (0, LONGEST)})
    async def block(self, length: int) -> bytes:
        """Answers a block of so many bytes; byte i is i & 255."""
        self._refuse_longer(length)
        if length == len(self._last):
            return self._last
        if length <= STEP:
            self._last = _PATTERN * (length // 256) + _PATTERN[: length % 256]
            return self._last
        # A view of what all long blocks on their way share: copies of a gigabyte would be felt.
        return cast(bytes, (await self._long_pattern(length)).data[:length])

    @command(scpi="TEST:LOAD", timeout=60.0)
    def load(self, data: bytes) -> None:
        """Keeps a block, for `load_sum` and `loaded`."""
        self._refuse_longer(len(data))
        self._loaded = data

    @command(scpi="TEST:LOAD:SUM?", reads=True, timeout=60.0)
    async def load_sum(self) -> list[int]:
        """Length and CRC-32 of the block that was loaded last."""
        data, total = memoryview(self._loaded), 0
        for start in range(0, len(data), STEP):
            await self._breathe(start, "load_sum")
            total = zlib.crc32(data[start : start + STEP], total)
        return [len(data), total]

    @command(scpi="TEST:LOAD?", reads=True)
    def loaded(self) -> bytes:
        """Answers the block that was loaded last."""
        return self._loaded

    @command(
        scpi="TEST:WAIT?", long=True, reads=True, timeout=LONGEST_WAIT + 60.0,
        limits={"seconds": (0, LONGEST_WAIT)}, units={"seconds": "s"},
    )  # fmt: skip
    async def wait(self, seconds: float) -> Annotated[str, RAW_TEXT]:
        """Answers `done` after a time; the device is free for others meanwhile."""
        await self._pause(seconds)
        return "done"

    @command(
        scpi="TEST:SRQ", limits={"seconds": (0, LONGEST_WAIT)}, units={"seconds": "s"}
    )  # fmt: skip
    def srq(self, seconds: float = 0.0) -> None:
        """Requests service after a time."""
        if len(self._requests) >= MAX_REQUESTS:
            raise TooLarge(f"{MAX_REQUESTS} service requests are on their way already")
        call = self._clock.callLater(seconds, lambda: self._request(call))
        self._requests.add(call)

    @command(scpi="")  # *TRG and the wires' own triggers call it
    def trigger(self) -> None:
        """Counts one trigger."""
        self.triggers += 1

    @command(scpi="TEST:ECHO?", reads=True)
    def echo(self, text: str) -> str:
        """Answers the text."""
        return text

    @command(scpi="TEST:FAIL", limits={"number": (-999, 32767)})
    def fail(self, number: int, text: str) -> None:
        """Fails with an error of this number, not 0, and text."""
        if not number:
            raise BadArguments("0 is the number of no error")
        raise DeviceFault(text, "TestFailure", number)

    def disconnect(self) -> None:
        """Forgets the service requests that are on their way, and the block."""
        for call in self._requests:
            call.cancel()
        self._requests.clear()
        self._loaded = b""

    def _request(self, call: IDelayedCall) -> None:
        self._requests.discard(call)
        self.service_request += 1

    def _refuse_longer(self, length: int) -> None:
        if length > self._longest:
            raise TooLarge(f"a block may have {self._longest} bytes, not {length}")

    async def _long_pattern(self, length: int) -> npt.NDArray[np.uint8]:
        """At least `length` bytes of the pattern, kept as long as somebody uses them."""
        kept = None if self._long is None else self._long()
        if kept is not None and len(kept) >= length:
            return kept
        made = np.empty(-(-length // 256) * 256, np.uint8)
        for start in range(0, len(made), STEP):
            await self._breathe(start, "block")
            made[start : start + STEP].reshape(-1, 256)[:] = np.frombuffer(_PATTERN, np.uint8)
        made.flags.writeable = False
        self._long = weakref.ref(made)
        return made

    async def _breathe(self, start: int, what: str) -> None:
        """Lets others have a turn before each step but the first."""
        if start:
            await self._pause(0)
            self.deadline.check(what)
