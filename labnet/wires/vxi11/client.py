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
from functools import partial

from twisted.internet.defer import Deferred

from labnet.framing.blocks import block_header, encode_text
from labnet.transports.asking import Asking, Progress, shown
from labnet.wires.vxi11.codec import Procedure
from labnet.wires.vxi11.exchange import Exchange
from labnet.wires.vxi11.keeper import LinkKeeper
from labnet.wires.vxi11.linked import LinkedDevice

__all__ = ["Progress", "Vxi11Client"]


class Vxi11Client(Asking, LinkKeeper):
    """One device of one instrument or gateway, such as ``inst0`` or ``gpib0,5``.

    The instrument's port is asked of its port mapper, or is `port` (as in ``host:port``). `timeout`
    is the seconds a request may take, connecting and waiting for earlier ones included; each
    request may have its own. With `lock_timeout` (seconds) an operation that meets another client's
    lock waits so long in addition. `keepalive` (seconds, 0 for none) is after what silence a dead
    peer is found. `terminator` is put behind messages of text. With `together` a query's message
    and the read of its response leave at once, which halves the time of short queries, at
    instruments that take a call before they have answered the last one; labnet does.

    Methods return Deferreds that fail with a `LabError`, whose `visa_status` is the status code
    that a VISA library would give: `TimedOut` naming the instrument, `Locked`, `UnknownName` for a
    device that it does not have, `NotConnected`, `NotAllowed` for what it cannot do, `DeviceFault`,
    `TooLarge`, `BadArguments`. Nothing is sent twice. After a timeout the next message is preceded
    by a device clear, so that a late answer is not taken for its own; `read` may still fetch it.
    """

    # Messages

    def write(self, message: str | bytes, timeout: float | None = None) -> Deferred[None]:
        """Sends a message that has no response; fires when the instrument has taken it."""
        return self._exchange(
            partial(_writing, message),
            lambda exchange: exchange.send(self._encoded(message)),
            timeout,
        ).addCallback(_nothing)

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

        def send(exchange: Exchange) -> Deferred[bytearray]:
            head = b"%b %b" % (encode_text(header), block_header(len(data)))
            return exchange.send(head, data, self._terminator)

        writing = self._exchange(partial(_writing, header), send, timeout, progress)
        return writing.addCallback(_nothing)

    def read(self, timeout: float | None = None) -> Deferred[bytes]:
        """The response to what was written, up to END, as it comes."""
        reading = self._exchange(lambda: "reading", Exchange.receive, timeout, fresh=False)
        return reading.addCallback(bytes)

    def _ask(
        self, message: str | bytes, progress: Progress | None, timeout: float | None
    ) -> Deferred[bytearray]:
        return self._exchange(
            partial(shown, message),
            lambda exchange: exchange.ask(self._encoded(message)),
            timeout,
            progress,
        )

    def _encoded(self, message: str | bytes) -> bytes:
        data = encode_text(message)
        return data if isinstance(message, bytes) else data + self._terminator

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


def _writing(message: str | bytes) -> str:
    return f"writing {shown(message)}"


def _nothing(_: bytearray) -> None:
    """What is said of a message that has gone."""
