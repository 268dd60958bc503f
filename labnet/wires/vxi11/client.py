"""A Deferred-based client of VXI-11 instruments.

    dmm = Vxi11Client("192.168.1.5")
    print(await dmm.query("*IDN?"))
    await dmm.write("CONF:VOLT:DC 10")
    trace = await dmm.query_block("CURVE?", timeout=60)

One connection with one link is kept, made when it is first needed and made again when it is lost.
Requests wait for each other. One that is cancelled, or takes too long, is ended at the instrument
as well (device_abort), so that the next one can begin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.internet.defer import Deferred

from labnet.errors import DeviceFault, TooLarge, quote, shorten
from labnet.framing.blocks import decode_text, encode_block, encode_text, find_block, take_block
from labnet.wires.vxi11 import codec
from labnet.wires.vxi11.codec import Procedure
from labnet.wires.vxi11.keeper import LinkKeeper
from labnet.wires.vxi11.linked import LinkedDevice

Progress = Callable[[int, int], None]
"""Told how many bytes of a block have come or gone, and how many it has."""

class Vxi11Client(LinkKeeper):
    """One device of one instrument or gateway, such as ``inst0`` or ``gpib0,5``.

    The instrument's port is asked of its port mapper, or is `port` (as in ``host:port``). `timeout`
    is the seconds a request may take, connecting and waiting for earlier ones included; each
    request may have its own. With `lock_timeout` (seconds) an operation that meets another client's
    lock waits so long in addition. `keepalive` (seconds, 0 for none) is after what silence a dead
    peer is found. `terminator` is put behind messages of text.

    Methods return Deferreds that fail with a `LabError`, whose `visa_status` is the status code
    that a VISA library would give: `TimedOut` naming the instrument, `Locked`, `UnknownName` for a
    device that it does not have, `NotConnected`, `NotAllowed` for what it cannot do, `DeviceFault`,
    `TooLarge`, `BadArguments`. Nothing is sent twice. After a timeout the next message is preceded
    by a device clear, so that a late answer is not taken for its own; `read` may still fetch it.
    """

    # Messages

    def query(self, message: str, timeout: float | None = None) -> Deferred[str]:
        """Sends a message and gives its response as text, without the line end."""
        return self._ask(message, None, timeout).addCallback(decode_text)

    def query_bytes(self, message: str | bytes, timeout: float | None = None) -> Deferred[bytes]:
        """Sends a message and gives its whole response, as it comes."""
        return self._ask(message, None, timeout).addCallback(bytes)

    def query_block(
        self, message: str, progress: Progress | None = None, timeout: float | None = None
    ) -> Deferred[bytearray]:
        """Sends a message that is answered by one data block, and gives the bytes of the block.

        A header before the block is left out. `progress` is called with the bytes that have come
        and their number in all.
        """
        return self._ask(message, progress, timeout).addCallback(take_block)

    def write(self, message: str | bytes, timeout: float | None = None) -> Deferred[None]:
        """Sends a message that has no response; fires when the instrument has taken it."""

        async def run(linked: LinkedDevice, end: float) -> None:
            await self._send(linked, self._encoded(message), end)

        return self._request(f"writing {_shown(message)}", run, timeout, fresh=True)

    def write_block(
        self,
        header: str,
        data: bytes,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Deferred[None]:
        """Sends a command with a definite-length block as its last argument.

        `header` is what comes before the block: ``"DATA"``, or ``"TRACe A,"``.
        """

        async def run(linked: LinkedDevice, end: float) -> None:
            message = b"".join((encode_text(header), b" ", encode_block(data), self._terminator))
            await self._send(linked, message, end, progress)

        return self._request(f"writing {_shown(header)}", run, timeout, fresh=True)

    def read(self, timeout: float | None = None) -> Deferred[bytes]:
        """The response to what was written, up to END, as it comes."""

        async def run(linked: LinkedDevice, end: float) -> bytes:
            return bytes(await self._receive(linked, end, None))

        return self._request("reading", run, timeout)

    def _ask(
        self, message: str | bytes, progress: Progress | None, timeout: float | None
    ) -> Deferred[bytearray]:
        async def run(linked: LinkedDevice, end: float) -> bytearray:
            await self._send(linked, self._encoded(message), end)
            return await self._receive(linked, end, progress)

        return self._request(_shown(message), run, timeout, fresh=True)

    def _encoded(self, message: str | bytes) -> bytes:
        data = encode_text(message)
        return data if isinstance(message, bytes) else data + self._terminator

    async def _send(
        self, linked: LinkedDevice, data: bytes, end: float, progress: Progress | None = None
    ) -> None:
        """In pieces that the instrument takes, END with the last; an empty message too."""
        at = 0
        whole = memoryview(data)
        while True:
            piece = whole[at : at + linked.piece]
            last = at + len(piece) == len(data)
            taken = await linked.write(
                cast(bytes, piece), self._left(end), self._flags, self.lock_timeout, last
            )
            if not 0 < taken <= len(piece) and data:
                raise DeviceFault(f"{linked.where} took {taken} of {len(piece)} bytes")
            at += taken
            if progress is not None:
                progress(at, len(data))
            if at >= len(data):
                return

    async def _receive(
        self, linked: LinkedDevice, end: float, progress: Progress | None
    ) -> bytearray:
        """Parts of the response up to END."""
        response = bytearray()
        while True:
            part = await linked.read(self._left(end), self._flags, self.lock_timeout)
            response += part.data
            if len(response) > self.max_response:
                linked.out_of_step = True
                raise TooLarge(
                    f"a response of more than {self.max_response} bytes from {linked.where}"
                )
            if progress is not None:
                _tell(progress, response)
            if part.reason & (codec.REASON_END | codec.REASON_CHR):
                linked.out_of_step = False
                return response

    # Beside the messages

    def connect(self, timeout: float | None = None) -> Deferred[None]:
        """Connects if that is not so already; requests do it by themselves."""

        async def run(linked: LinkedDevice, end: float) -> None:
            """Being connected is all."""

        return self._request("connecting", run, timeout)

    def clear(self, timeout: float | None = None) -> Deferred[None]:
        """Device clear: the instrument drops what it has not carried out or sent."""

        async def run(linked: LinkedDevice, end: float) -> None:
            await self._generic(linked, Procedure.DEVICE_CLEAR, end)
            linked.out_of_step = False

        return self._request("clearing", run, timeout)

    def trigger(self, timeout: float | None = None) -> Deferred[None]:
        """Group execute trigger."""
        return self._simple(Procedure.DEVICE_TRIGGER, "triggering", timeout)

    def remote(self, timeout: float | None = None) -> Deferred[None]:
        """Remote control, the front panel locked."""
        return self._simple(Procedure.DEVICE_REMOTE, "remote control", timeout)

    def local(self, timeout: float | None = None) -> Deferred[None]:
        """Back to the front panel."""
        return self._simple(Procedure.DEVICE_LOCAL, "local control", timeout)

    def _simple(
        self, procedure: Procedure, name: str, timeout: float | None
    ) -> Deferred[None]:
        async def run(linked: LinkedDevice, end: float) -> None:
            await self._generic(linked, procedure, end)

        return self._request(name, run, timeout)

    def status_byte(self, timeout: float | None = None) -> Deferred[int]:
        """Serial poll: the status byte."""

        async def run(linked: LinkedDevice, end: float) -> int:
            results = await self._generic(linked, Procedure.DEVICE_READSTB, end)
            status: int = results.uint() & 0xFF
            return status

        return self._request("the status byte", run, timeout)

    def lock(self, wait: float = 0.0, timeout: float | None = None) -> Deferred[None]:
        """Locks the device for this client; waits up to `wait` seconds for another's lock.

        The lock ends with the connection. If that is lost meanwhile, the next request fails with
        `NotConnected` and says so.
        """

        async def run(linked: LinkedDevice, end: float) -> None:
            await linked.lock(wait, self._left(end))

        seconds = (self.timeout if timeout is None else timeout) + wait
        return self._request("locking", run, seconds, reserve=wait)

    def unlock(self, timeout: float | None = None) -> Deferred[None]:
        """Frees the lock; fails with `NotAllowed` if there is none."""

        async def run(linked: LinkedDevice, end: float) -> None:
            await linked.unlock(self._left(end))

        return self._request("unlocking", run, timeout)

    def on_service_request(
        self, callback: Callable[[], None] | None, timeout: float | None = None
    ) -> Deferred[None]:
        """Calls ``callback()`` for each service request; None ends it.

        The instrument connects back for that, to a port of this machine. `status_byte` tells why it
        asks, and lets it ask again. Fails with `NotAllowed` where the instrument cannot do it: then
        poll `status_byte`.
        """

        async def run(linked: LinkedDevice, end: float) -> None:
            self._serviced = callback
            if callback is None:
                await self._stop_interrupts(linked, self._left(end))
            else:
                await self._start_interrupts(linked, self._left(end))

        return self._request("service requests", run, timeout)


def _tell(progress: Progress, response: bytearray) -> None:
    found = find_block(response)
    if found is not None and found[1] >= 0:
        start, length = found
        progress(min(len(response) - start, length), length)


def _shown(message: str | bytes) -> str:
    return repr(shorten(message)) if isinstance(message, str) else quote(message)
