"""Connections to the core and the abort channel: calls in, replies out, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure

from labnet.errors import BadArguments, LabError, UnknownName, shorten
from labnet.framing.xdr import Record, RecordSplitter, XdrError, XdrReader, encode_opaque
from labnet.transports.ordered import STREAM_FROM, Answer, OrderedProtocol, Reply
from labnet.wires.vxi11 import codec
from labnet.wires.vxi11.codec import (
    CreateLink,
    ErrorCode,
    Family,
    Given,
    LinkMade,
    Procedure,
    Program,
    Taken,
    encode_error,
)
from labnet.wires.vxi11.interrupt import InterruptChannel, connect_channel
from labnet.wires.vxi11.link import Link
from labnet.wires.vxi11.rpc import (
    Accept,
    Answered,
    Call,
    encode_mismatch,
    encode_reply,
    read_call,
)

if TYPE_CHECKING:
    from labnet.wires.vxi11.server import Vxi11Factory

NO_LINK_LIMIT = 4096
"""Bytes of a record on a connection without links."""

Message = Call | Answered | XdrError


class RpcProtocol(OrderedProtocol[Message]):
    """A connection for calls of some programs; subclasses have a table of their procedures."""

    limit = NO_LINK_LIMIT

    def __init__(self, factory: Vxi11Factory, peer: IAddress | None) -> None:
        super().__init__(factory.host.reactor, peer)
        self.factory: Vxi11Factory = factory
        self._splitter = RecordSplitter(self.limit)

    def connectionMade(self) -> None:
        self.factory.live.add(self)
        super().connectionMade()

    def split(self, data: bytes) -> Iterable[Message]:
        messages = [self._read(record) for record in self._splitter.feed(data)]
        if self._splitter.fault:
            messages.append(XdrError(self._splitter.fault))
        return messages

    def _read(self, record: Record) -> Message:
        try:
            return read_call(record)
        except XdrError as error:
            return error

    def begin(self, message: Message) -> Answer:
        if isinstance(message, Call):
            return self._carry_out(message)
        if isinstance(message, Answered):
            return message.reply
        self.factory.log.refused(self.peer, f"not RPC: {message}")
        self.finish()
        return b""

    def _carry_out(self, call: Call) -> Answer:
        procedures = self.procedures(call.program)
        if procedures is None:
            return encode_reply(call.xid, status=Accept.PROG_UNAVAIL)
        if call.version != codec.VERSION:
            return encode_mismatch(call.xid, codec.VERSION, codec.VERSION)
        if call.procedure == Procedure.NULL:
            return encode_reply(call.xid)
        carry_out = procedures.get(call.procedure)
        if carry_out is None:
            return encode_reply(call.xid, status=Accept.PROC_UNAVAIL)
        if self.factory.log.debug_on:
            self.factory.log.received(self.peer, describe(call))
        try:
            return carry_out(call.xid, call.arguments())
        except XdrError:
            return encode_reply(call.xid, status=Accept.GARBAGE_ARGS)

    def procedures(
        self, program: int
    ) -> dict[int, Callable[[int, XdrReader], Answer]] | None:
        """What carries out the procedures of a program; None for one not served here."""
        return self._abort if program == Program.ABORT else None

    @property
    def _abort(self) -> dict[int, Callable[[int, XdrReader], Answer]]:
        return {Procedure.DEVICE_ABORT: self._device_abort}

    def _device_abort(self, xid: int, arguments: XdrReader) -> bytes:
        link = self.factory.links.get(arguments.uint())
        if link is None:
            return encode_reply(xid, encode_error(ErrorCode.INVALID_LINK))
        link.abort()
        return encode_reply(xid, encode_error(ErrorCode.NONE))

    def sent(self, data: bytes) -> None:
        if self.factory.log.debug_on:
            self.factory.log.sent(self.peer, data)

    # The end

    def wind_up(self) -> None:
        """The listener stops, and a call that waits for its device is not waited for."""
        self.release()
        super().wind_up()

    def readConnectionLost(self) -> None:
        """A client that ends its stream has gone: what it holds is free at once."""
        self.release()
        self._messages.clear()
        super().readConnectionLost()

    def release(self) -> None:
        """Gives back all that the connection holds."""

    def ended(self) -> None:
        self.factory.live.discard(self)
        self.release()
        if self.factory.log.debug_on:
            self.factory.log.disconnected(self.peer)


def describe(call: Call) -> bytes:
    """A call for the log."""
    try:
        name = Procedure(call.procedure).name.lower()
    except ValueError:
        name = f"procedure {call.procedure}"
    return f"{name} ".encode() + bytes(call.record[call.at :][:200])


class AbortProtocol(RpcProtocol):
    """A connection to the abort channel."""


class CoreProtocol(RpcProtocol):
    """A connection to the core channel, with its links and its interrupt channel."""

    def __init__(self, factory: Vxi11Factory, peer: IAddress | None) -> None:
        super().__init__(factory, peer)
        self.links: dict[int, Link] = {}
        self._interrupt: InterruptChannel | None = None
        self._connecting: Deferred[Any] | None = None
        self._making: Link | None = None  # waits for its lock
        self._core: dict[int, Callable[[int, XdrReader], Answer]] = {
            Procedure.CREATE_LINK: self._create_link,
            Procedure.DEVICE_WRITE: self._device_write,
            Procedure.DEVICE_READ: self._device_read,
            Procedure.DEVICE_READSTB: self._status_byte,
            Procedure.DEVICE_TRIGGER: self._trigger,
            Procedure.DEVICE_CLEAR: self._clear,
            Procedure.DEVICE_REMOTE: self._remote,
            Procedure.DEVICE_LOCAL: self._local,
            Procedure.DEVICE_LOCK: self._lock,
            Procedure.DEVICE_UNLOCK: self._unlock,
            Procedure.DEVICE_ENABLE_SRQ: self._enable_srq,
            Procedure.DEVICE_DOCMD: self._do_command,
            Procedure.DESTROY_LINK: self._destroy_link,
            Procedure.CREATE_INTR_CHAN: self._create_channel,
            Procedure.DESTROY_INTR_CHAN: self._destroy_channel,
        }

    def procedures(
        self, program: int
    ) -> dict[int, Callable[[int, XdrReader], Answer]] | None:
        return self._core if program == Program.CORE else super().procedures(program)

    # Links

    def _create_link(self, xid: int, arguments: XdrReader) -> Answer:
        request = codec.read_create_link(arguments)
        factory = self.factory
        if len(self.links) >= factory.options.links_per_connection or factory.full:
            return self._no_link(ErrorCode.OUT_OF_RESOURCES, xid)
        link = self._new_link(request)
        if isinstance(link, ErrorCode):
            return self._no_link(link, xid)
        if not request.lock_device:
            return self._link_made(ErrorCode.NONE, xid, link)
        self._making = link
        taken = link.take_lock(request.lock_timeout)
        if isinstance(taken, Deferred):
            return taken.addCallback(self._link_made, xid, link)
        return self._link_made(taken, xid, link)

    def _new_link(self, request: CreateLink) -> Link | ErrorCode:
        factory = self.factory
        try:
            path = factory.path_of(request.device)
            node, session = factory.open_session(path, self.peer)
        except BadArguments:
            return ErrorCode.SYNTAX
        except UnknownName as error:
            factory.log.refused(self.peer, str(error))
            return ErrorCode.NOT_ACCESSIBLE
        try:
            return Link(session, node, factory.host.clock, self._serviced, request.client_id)
        except LabError as error:
            session.close("it cannot be served")
            factory.log.refused(self.peer, str(error))
            return ErrorCode.NOT_ACCESSIBLE

    def _link_made(self, code: ErrorCode, xid: int, link: Link) -> bytes:
        self._making = None
        if code is not ErrorCode.NONE or self._closed:
            link.destroy("the link was not made")
            return self._no_link(code, xid)
        factory = self.factory
        factory.add_link(link)
        self.links[link.number] = link
        self._splitter.limit = 2 * factory.options.max_receive + codec.OVERHEAD
        made = LinkMade(code, link.number, factory.abort_port, factory.options.max_receive)
        return encode_reply(xid, made.encode())

    def _no_link(self, code: ErrorCode, xid: int) -> bytes:
        return encode_reply(xid, LinkMade(code, 0, 0, 0).encode())

    def _destroy_link(self, xid: int, arguments: XdrReader) -> bytes:
        link = self.links.pop(arguments.uint(), None)
        if link is None:
            return encode_reply(xid, encode_error(ErrorCode.INVALID_LINK))
        self.factory.links.pop(link.number, None)
        link.destroy("the link was destroyed")
        if not self.links:
            self._splitter.limit = NO_LINK_LIMIT
        return encode_reply(xid, encode_error(ErrorCode.NONE))

    # Calls with a link

    def _device_write(self, xid: int, arguments: XdrReader) -> Answer:
        request = codec.read_device_write(arguments)
        link = self.links.get(request.link)
        if link is None:
            return _taken(Taken(ErrorCode.INVALID_LINK, 0), xid)
        if len(request.data) > self.factory.options.max_receive:
            return _taken(Taken(ErrorCode.PARAMETER, 0), xid)
        taken = link.write(request)
        if isinstance(taken, Deferred):
            return taken.addCallback(_taken, xid)
        return _taken(taken, xid)

    def _device_read(self, xid: int, arguments: XdrReader) -> Answer:
        request = codec.read_device_read(arguments)
        link = self.links.get(request.link)
        if link is None:
            return _given(Given(ErrorCode.INVALID_LINK, 0, b""), xid)
        given = link.read(request)
        if isinstance(given, Deferred):
            return given.addCallback(_given, xid)
        return _given(given, xid)

    def _status_byte(self, xid: int, arguments: XdrReader) -> Answer:
        request = codec.read_generic(arguments)
        link = self.links.get(request.link)
        if link is None:
            return _taken(Taken(ErrorCode.INVALID_LINK, 0), xid)
        polled = link.status_byte(request)
        if isinstance(polled, Deferred):
            return polled.addCallback(_taken, xid)
        return _taken(polled, xid)

    def _generic(
        self,
        xid: int,
        arguments: XdrReader,
        carry_out: Callable[[Link, codec.Generic], ErrorCode | Deferred[ErrorCode]],
    ) -> Answer:
        request = codec.read_generic(arguments)
        link = self.links.get(request.link)
        return _coded(ErrorCode.INVALID_LINK if link is None else carry_out(link, request), xid)

    def _trigger(self, xid: int, arguments: XdrReader) -> Answer:
        return self._generic(xid, arguments, Link.trigger)

    def _clear(self, xid: int, arguments: XdrReader) -> Answer:
        return self._generic(xid, arguments, Link.clear)

    def _remote(self, xid: int, arguments: XdrReader) -> Answer:
        return self._generic(xid, arguments, lambda link, it: link.set_remote(it, True))

    def _local(self, xid: int, arguments: XdrReader) -> Answer:
        return self._generic(xid, arguments, lambda link, it: link.set_remote(it, False))

    def _lock(self, xid: int, arguments: XdrReader) -> Answer:
        request = codec.read_device_lock(arguments)
        link = self.links.get(request.link)
        return _coded(ErrorCode.INVALID_LINK if link is None else link.lock(request), xid)

    def _unlock(self, xid: int, arguments: XdrReader) -> Answer:
        link = self.links.get(arguments.uint())
        return _coded(ErrorCode.INVALID_LINK if link is None else link.unlock(), xid)

    def _enable_srq(self, xid: int, arguments: XdrReader) -> Answer:
        request = codec.read_enable_srq(arguments)
        link = self.links.get(request.link)
        return _coded(
            ErrorCode.INVALID_LINK if link is None else link.enable_service(request), xid
        )

    def _do_command(self, xid: int, arguments: XdrReader) -> bytes:
        """Commands of a GPIB interface, which no link here is."""
        known = codec.read_do_command(arguments).link in self.links
        code = ErrorCode.NOT_SUPPORTED if known else ErrorCode.INVALID_LINK
        return encode_reply(xid, encode_error(code), encode_opaque(b""))

    # The interrupt channel

    def _create_channel(self, xid: int, arguments: XdrReader) -> Answer:
        where = codec.read_channel(arguments)
        if self._interrupt is not None and self._interrupt.alive:
            return _coded(ErrorCode.CHANNEL_EXISTS, xid)
        if (where.family, where.program, where.version) != (
            Family.TCP,
            Program.INTERRUPT,
            codec.VERSION,
        ):
            return _coded(ErrorCode.NOT_SUPPORTED, xid)
        if not self._may_call(where) or not 0 < where.port < 65536:
            return _coded(ErrorCode.NO_CHANNEL, xid)
        self._connecting = connecting = connect_channel(where, self.factory.host.reactor)
        return connecting.addCallbacks(self._connected, self._not_connected).addCallback(
            _encoded, xid
        )

    def _may_call(self, where: codec.Channel) -> bool:
        """Only the client's own host is connected to, else any host could be reached by us."""
        if self.factory.options.interrupt_anywhere:
            return True
        host = str(getattr(self._peer, "host", "")).removeprefix("::ffff:")
        return where.address == host

    def _connected(self, channel: InterruptChannel) -> ErrorCode:
        self._connecting = None
        self._interrupt = channel
        for link in self.links.values():
            if link.service_pending:
                self._serviced(link)
        return ErrorCode.NONE

    def _not_connected(self, failure: Failure) -> ErrorCode:
        self._connecting = None
        failure.trap(Exception)
        if not failure.check(CancelledError) and self.factory.log.debug_on:
            reason = shorten(failure.getErrorMessage())
            self.factory.log.refused(self.peer, f"no interrupt channel: {reason}")
        return ErrorCode.NO_CHANNEL

    def _destroy_channel(self, xid: int, arguments: XdrReader) -> bytes:
        channel, self._interrupt = self._interrupt, None
        if channel is None:
            return _encoded(ErrorCode.NO_CHANNEL, xid)
        channel.close()
        return _encoded(ErrorCode.NONE, xid)

    def _serviced(self, link: Link) -> None:
        if self._interrupt is not None and link.handle is not None:
            self._interrupt.request_service(link.handle)

    # The end

    def release(self) -> None:
        links, self.links = self.links, {}
        for link in links.values():
            self.factory.links.pop(link.number, None)
            link.destroy("the connection has ended")
        if self._making is not None:
            self._making.destroy("the connection has ended")
        if self._connecting is not None:
            self._connecting.cancel()
        if self._interrupt is not None:
            self._interrupt.close()
            self._interrupt = None


def _taken(taken: Taken, xid: int) -> bytes:
    return encode_reply(xid, taken.encode())


def _given(given: Given, xid: int) -> Reply:
    parts = codec.encode_given_parts(xid, *given)
    return parts if len(given.data) > STREAM_FROM else b"".join(parts)


def _encoded(code: ErrorCode, xid: int) -> bytes:
    return encode_reply(xid, encode_error(code))


def _coded(code: ErrorCode | Deferred[ErrorCode], xid: int) -> Answer:
    if isinstance(code, Deferred):
        return code.addCallback(_encoded, xid)
    return _encoded(code, xid)
