"""A client's end of a connection for ONC RPC: calls out, replies to whoever waits for them."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred

from labnet.errors import DeviceFault, LabError, NotConnected
from labnet.framing.xdr import RecordSplitter, XdrError, XdrReader
from labnet.transports.kept import ClientProtocol, no_answer
from labnet.transports.prompt import write_now
from labnet.wires.vxi11.rpc import Reply, encode_call, read_reply


class RpcConnection(ClientProtocol):
    """One connection. A call whose Deferred was cancelled is `outstanding` until its reply comes,
    which is then dropped.
    """

    def __init__(self, where: str, limit: int) -> None:
        super().__init__(where)
        self._splitter = RecordSplitter(limit)
        self._xid = 0
        self._calls: dict[int, Deferred[XdrReader]] = {}
        self._idle: list[Deferred[None]] = []

    def call(
        self, program: int, version: int, procedure: int, *arguments: bytes
    ) -> Deferred[XdrReader]:
        """The results of a call; fails with `DeviceFault` when the server refuses it as such."""
        self._xid = self._xid + 1 & 0xFFFFFFFF
        waiting: Deferred[XdrReader] = Deferred()
        if self.spent or self.transport is None:
            waiting.errback(no_answer(self.where))
            return waiting
        self._calls[self._xid] = waiting
        write_now(self.transport, encode_call(self._xid, program, version, procedure, *arguments))
        return waiting

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
            waiting.errback(DeviceFault(f"{self.where} {reply.problem}"))
        else:
            waiting.callback(reply.results())
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
            waiting.errback(error)
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


def keep_alive(transport: Any, seconds: float) -> None:
    """TCP keepalive that finds a dead peer after so many seconds of silence; 0 for none."""
    handle: Any = getattr(transport, "getHandle", lambda: None)()
    if getattr(handle, "family", None) not in (socket.AF_INET, socket.AF_INET6):
        return
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, seconds > 0)
    probes = 3
    interval = max(1, round(seconds / (probes + 1)))
    for name, value in (
        ("TCP_KEEPIDLE", interval),
        ("TCP_KEEPINTVL", interval),
        ("TCP_KEEPCNT", probes),
    ):
        option = getattr(socket, name, None)  # not everywhere
        if option is not None:
            handle.setsockopt(socket.IPPROTO_TCP, option, value)
