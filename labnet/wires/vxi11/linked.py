"""A client's link to one device: the calls of VXI-11 one after the other, with their time limits.

A call that is given up stays outstanding: `LinkedDevice.settle` ends it with device_abort, so that
the link can be used again, or else closes the connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as Late

from labnet.errors import (
    BadArguments,
    Cancelled,
    DeviceFault,
    Holder,
    LabError,
    Locked,
    NotAllowed,
    NotConnected,
    TimedOut,
    TooLarge,
    UnknownName,
    VisaStatus,
)
from labnet.framing.xdr import XdrError, XdrReader, encode_uint, padding
from labnet.transports.turns import limited
from labnet.wires.vxi11 import codec
from labnet.wires.vxi11.codec import (
    Channel,
    CreateLink,
    DeviceLock,
    DeviceRead,
    EnableSrq,
    ErrorCode,
    Family,
    Generic,
    LinkMade,
    Procedure,
    Program,
    milliseconds,
)
from labnet.wires.vxi11.connection import Caller, RpcConnection
from labnet.wires.vxi11.portmap import dial

LATE = 0.5
"""Seconds after a time limit in which the instrument should have said so itself."""

SHORTEST = 0.01
"""Seconds that a call gets at least, as long as there is any time left."""

SETTLE = 1.0
"""Seconds that an abort may take, before the connection is given up."""

READ_SIZE = 1 << 20
SMALLEST_PIECE = 1024
"""Some instruments announce that they take pieces of 0 bytes; all take this many."""

MAX_REPLY = READ_SIZE + 64 * 1024

Buffer = bytes | memoryview

# As plain numbers, which are packed faster.
_CORE, _WRITE, _READ = map(int, (Program.CORE, Procedure.DEVICE_WRITE, Procedure.DEVICE_READ))


class LinkedDevice:
    """One connection with one link on it. `device` is its name there.

    `usable` becomes false when the connection or the link has gone.
    """

    def __init__(
        self, host: str, connection: RpcConnection, device: str, made: LinkMade, clock: Any
    ) -> None:
        self.connection = connection
        self.where = connection.where
        self.device = device
        self.abort_port = made.abort_port
        self.piece = max(made.max_receive, SMALLEST_PIECE)
        self.locked = False
        self.channel = False  # there is an interrupt channel
        #: An answer that nobody waited for may still come.
        self.out_of_step = False
        self._host = host
        self._link = made.link
        self._clock = clock
        self._gone = False
        self._locking = False  # a lock was asked for and perhaps taken

    @property
    def usable(self) -> bool:
        """Whether calls can be made."""
        return not (self.connection.spent or self._gone)

    # Calls

    async def call(
        self, procedure: Procedure, limit: float, *arguments: bytes, what: str = ""
    ) -> XdrReader:
        """The results behind the error code, which is raised as a `LabError`.

        `limit` is what the instrument may take, in seconds; a little later the call is given up.
        """
        name = f"{what or procedure.name.lower()} on {self.device} at {self.where}"
        reply = self.connection.call(Program.CORE, codec.VERSION, procedure, *arguments)
        if not reply.called:
            reply.addTimeout(limit + LATE, self._clock)
        try:
            results = await reply
        except Late:
            raise TimedOut(name, limit) from None
        try:
            code = results.uint()
        except XdrError as error:
            raise DeviceFault(f"{self.where}: {error}") from None
        if code:
            raise self._error(code, name, limit)
        return results

    def _error(self, code: int, name: str, limit: float) -> LabError:
        if code == ErrorCode.INVALID_LINK:
            self._gone = True
        return error_of(code, name, self.device, self.where, limit)

    async def settle(self) -> None:
        """Ends the call that was given up, or the connection if the instrument does not."""
        connection = self.connection
        if not connection.outstanding:
            return
        aborting = limited(self._abort(), "the abort", SETTLE, self._clock)
        aborting.addErrback(lambda failure: failure.trap(LabError, CancelledError) and None)
        idle = connection.when_idle()
        idle.addTimeout(SETTLE, self._clock)
        try:
            await idle
        except Late:
            connection.abort()
        finally:
            aborting.cancel()
        if self._locking and self.usable:
            await self._unlock_perhaps()

    async def _unlock_perhaps(self) -> None:
        """A lock that came when nobody wanted it any more is given back."""
        self._locking = False
        try:
            await self.unlock(SETTLE)
        except LabError:
            pass  # it had not come

    async def _abort(self) -> None:
        """device_abort, on a connection of its own."""
        if not self.abort_port:
            raise NotConnected(f"{self.where} has no abort channel")
        channel = await dial(
            self._host,
            self.abort_port,
            lambda: RpcConnection(self.where, codec.OVERHEAD),
            SETTLE,
            self._clock,
        )
        try:
            await channel.call(
                Program.ABORT, codec.VERSION, Procedure.DEVICE_ABORT, encode_uint(self._link)
            )
        finally:
            channel.close()

    # The calls one by one; times in seconds

    def begin_write(
        self,
        caller: Caller,
        piece: Sequence[Buffer],
        size: int,
        limit: float,
        lock_timeout: float,
        last: bool,
        more: bool = False,
    ) -> None:
        """device_write of `piece`, of `size` bytes when joined; see `outcome`.

        With `more` it leaves together with the next call.
        """
        head = codec.encode_write_head(
            self._link, milliseconds(limit), milliseconds(lock_timeout), last, size
        )
        self.connection.begin(
            caller, _CORE, codec.VERSION, _WRITE, head, *piece, padding(size), more=more
        )

    def begin_read(self, caller: Caller, limit: float, lock_timeout: float) -> None:
        """device_read of the next part of the response; see `outcome`."""
        wait = milliseconds(lock_timeout)
        request = DeviceRead(
            self._link, READ_SIZE, milliseconds(limit), wait, codec.WAITLOCK if wait else 0, 0
        )
        self.connection.begin(caller, _CORE, codec.VERSION, _READ, request.encode())

    def outcome(self, results: XdrReader, what: str) -> int:
        """The bytes taken, or the reasons of a read; the error code is raised as a `LabError`."""
        try:
            code, number = results.fields(codec.TWO)
        except XdrError as error:
            raise DeviceFault(f"{self.where}: {error}") from None
        if code:
            raise self._error(code, f"{what} on {self.device} at {self.where}", 0.0)
        return int(number)

    async def generic(
        self, procedure: Procedure, limit: float, flags: int, lock_timeout: float
    ) -> XdrReader:
        """readstb, trigger, clear, remote or local."""
        request = Generic(self._link, flags, milliseconds(lock_timeout), milliseconds(limit))
        return await self.call(procedure, limit + lock_timeout, request.encode())

    async def lock(self, wait: float, limit: float) -> None:
        """device_lock; waits so long for another client's lock."""
        flags = codec.WAITLOCK if wait else 0
        request = DeviceLock(self._link, flags, milliseconds(wait))
        self._locking = not self.locked
        try:
            await self.call(Procedure.DEVICE_LOCK, limit + wait, request.encode())
        except Locked as error:  # which is also what a link is told that has the lock
            self._locking = False
            if self.locked:
                error.args = (f"{self.device} at {self.where} is locked by this client already",)
            raise
        self._locking = False
        self.locked = True

    async def unlock(self, limit: float) -> None:
        """device_unlock."""
        self.locked = False
        await self.call(Procedure.DEVICE_UNLOCK, limit, encode_uint(self._link))

    async def open_channel(self, address: str, port: int, limit: float) -> None:
        """create_intr_chan to where this client listens."""
        host = int.from_bytes(bytes(map(int, address.split("."))), "big")
        where = Channel(host, port, Program.INTERRUPT, codec.VERSION, Family.TCP)
        await self.call(Procedure.CREATE_INTR_CHAN, limit, where.encode())
        self.channel = True

    async def close_channel(self, limit: float) -> None:
        """destroy_intr_chan."""
        self.channel = False
        await self.call(Procedure.DESTROY_INTR_CHAN, limit)

    async def enable_service(self, handle: bytes, enable: bool, limit: float) -> None:
        """device_enable_srq; the same handle in both cases, as some instruments want it."""
        request = EnableSrq(self._link, enable, handle)
        await self.call(Procedure.DEVICE_ENABLE_SRQ, limit, request.encode())

    async def close(self) -> None:
        """destroy_link, if the instrument answers soon; then the connection."""
        if self.usable:
            destroyed = Deferred.fromCoroutine(
                self.call(Procedure.DESTROY_LINK, SETTLE - LATE, encode_uint(self._link))
            )
            await destroyed.addErrback(lambda failure: failure.trap(LabError) and None)
        if self.connection.outstanding:
            self.connection.abort()
        else:
            self.connection.close()


async def make_link(
    host: str,
    connection: RpcConnection,
    device: str,
    client_id: int,
    limit: float,
    clock: Any,
) -> LinkedDevice:
    """create_link on a new connection."""
    request = CreateLink(client_id, False, 0, device.encode())
    name = f"opening {device} at {connection.where}"
    reply = connection.call(
        Program.CORE, codec.VERSION, Procedure.CREATE_LINK, request.encode()
    ).addTimeout(limit, clock)
    try:
        made = codec.read_link_made(await reply)
    except Late:
        raise TimedOut(name, limit) from None
    except XdrError as error:
        raise DeviceFault(f"{connection.where}: {error}") from None
    if made.error:
        raise error_of(made.error, name, device, connection.where, limit)
    return LinkedDevice(host, connection, device, made, clock)


def error_of(code: int, name: str, device: str, where: str, limit: float) -> LabError:
    """An error code as a `LabError` with the VISA status that a VISA library would give."""
    match code:
        case ErrorCode.IO_TIMEOUT:
            return TimedOut(name, limit)
        case ErrorCode.LOCKED:
            locked = Locked(Holder(device, "another client", "vxi11", where, 0.0))
            locked.args = (f"{device} at {where} is locked by another client",)
            return locked
        case ErrorCode.NOT_ACCESSIBLE:
            return UnknownName(device, what=f"device at {where}:")
        case ErrorCode.INVALID_LINK:
            return NotConnected(f"{name}: the instrument has closed the link")
        case ErrorCode.ABORT:
            return Cancelled(f"{name}: aborted")
        case ErrorCode.OUT_OF_RESOURCES:
            return TooLarge(f"{name}: the instrument is out of resources")
        case ErrorCode.PARAMETER | ErrorCode.SYNTAX:
            return BadArguments(f"{name}: the instrument does not take the arguments")
    text, status = _OTHERS.get(code, (f"error {code} of VXI-11", VisaStatus.IO))
    error: LabError = (DeviceFault if status == VisaStatus.IO else NotAllowed)(f"{name}: {text}")
    error.visa_status = status
    return error


_OTHERS: dict[int, tuple[str, VisaStatus]] = {
    ErrorCode.NO_LOCK: ("it holds no lock", VisaStatus.SESN_NLOCKED),
    ErrorCode.NOT_SUPPORTED: ("the instrument cannot do it", VisaStatus.NSUP_OPER),
    ErrorCode.NO_CHANNEL: ("there is no interrupt channel", VisaStatus.NSUP_OPER),
    ErrorCode.CHANNEL_EXISTS: ("there is an interrupt channel already", VisaStatus.NSUP_OPER),
    ErrorCode.IO_ERROR: ("the instrument has failed", VisaStatus.IO),
}

