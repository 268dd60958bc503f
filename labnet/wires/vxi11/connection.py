"""A client's end of a connection for ONC RPC: calls out, replies to whoever waits for them."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred

from labnet.errors import DeviceFault, LabError, NotConnected
from labnet.framing.xdr import RecordSplitter, XdrError, XdrReader
from labnet.transports.kept import ClientProtocol, no_answer
from labnet.transports.prompt import USUAL_READ, read_as_much, write_parts_now
from labnet.wires.vxi11.rpc import Reply, encode_call_parts, read_reply


class Caller(Protocol):
    """Who made a call, and is told of one of these."""

    def replied(self, results: XdrReader) -> None:
        """The results have come."""

    def failed(self, error: LabError) -> None:
        """There will be none."""


class _Waiting(Deferred[XdrReader]):
    """A caller by Deferred; when it was cancelled, what comes is dropped."""

    replied = Deferred.callback
    failed = Deferred.errback


class RpcConnection(ClientProtocol):
    """One connection. A call that was given up is `outstanding` until its reply comes, which its
    caller must then drop.
    """

    def __init__(self, where: str, limit: int) -> None:
        super().__init__(where)
        self._splitter = RecordSplitter(limit)
        self._xid = 0
        self._calls: dict[int, Caller] = {}
        self._idle: list[Deferred[None]] = []
        self._held: list[bytes | memoryview] = []  # of a call that leaves with the next one
        self._large = False  # the last read was

    def call(
        self, program: int, version: int, procedure: int, *arguments: bytes | memoryview
    ) -> Deferred[XdrReader]:
        """The results of a call; fails with `DeviceFault` when the server refuses it as such."""
        waiting = _Waiting()
        self.begin(waiting, program, version, procedure, *arguments)
        return waiting

    def begin(
        self,
        caller: Caller,
        program: int,
        version: int,
        procedure: int,
        *arguments: bytes | memoryview,
        more: bool = False,
    ) -> None:
        """As `call`, for a caller that is told, perhaps before this returns.

        With `more` the call leaves together with the next one.
        """
        self._xid = xid = self._xid + 1 & 0xFFFFFFFF
        if self.spent or self.transport is None:
            caller.failed(no_answer(self.where))
            return
        self._calls[xid] = caller
        parts = encode_call_parts(xid, program, version, procedure, arguments)
        if more:
            self._held = parts
            return
        if self._held:
            parts, self._held = self._held + parts, []
        write_parts_now(self.transport, parts)

    @property
    def outstanding(self) -> bool:
        """Whether there is a call without a reply, cancelled or not."""
        return bool(self._calls)

    def when_idle(self) -> Deferred[None]:
        """Fires when no reply is outstanding, or the connection has ended."""
        idle: Deferred[None] = Deferred()
        if self._calls:
            self._idle.append(idle)
        else:
            idle.callback(None)
        return idle

    def dataReceived(self, data: bytes) -> None:
        size = len(data)
        if size >= USUAL_READ or self._large:
            self._large = read_as_much(self.transport, size)
        for record in self._splitter.feed(data):
            try:
                self._replied(read_reply(record))
            except XdrError as error:
                self._fail(NotConnected(f"{self.where} does not speak RPC: {error}"))
                return
        if self._splitter.fault:
            self._fail(NotConnected(f"{self.where} does not speak RPC: {self._splitter.fault}"))

    def _replied(self, reply: Reply) -> None:
        waiting = self._calls.pop(reply.xid, None)
        if waiting is None:
            return
        if reply.problem:
            waiting.failed(DeviceFault(f"{self.where} {reply.problem}"))
        else:
            waiting.replied(reply.results())
        if self._idle:
            self._tell_idle()

    def _tell_idle(self) -> None:
        if not self._calls:
            idle, self._idle = self._idle, []
            for waiting in idle:
                waiting.callback(None)

    def _fail(self, error: LabError) -> None:
        calls, self._calls = self._calls, {}
        self.abort()
        for waiting in calls.values():
            waiting.failed(error)
        self._tell_idle()

    def ended(self) -> None:
        self._fail(no_answer(self.where))


class QuirkyConnection(RpcConnection):
    """For the port mapper: some instruments forget the mark of a last fragment in its replies."""

    SMALLEST = 28

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        held = self._splitter.held
        if self._calls and len(held) == self.SMALLEST:
            try:
                self._replied(read_reply(held))
            except XdrError:
                return  # it may go on
