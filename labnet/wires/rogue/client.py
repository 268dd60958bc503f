"""A client of PyRogue servers, of labnet's own and of real ones: one request, one answer.

    client = RogueClient("127.0.0.1:9099")
    volts = await client.get("Toy.Psu.Volts")
    await client.set("Toy.Psu.Volts", 2.5)
    await client.exec("Toy.Psu.Clear")
    await client.close()

`labnet.wires.rogue.mirror.RogueMirror` is the client that follows the tree and its updates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from twisted.internet.defer import Deferred, fail, succeed

from labnet.errors import (
    BadArguments,
    DeviceFault,
    LabError,
    NotConnected,
    OutOfRange,
    TooLarge,
    UnknownName,
)
from labnet.wires.rogue.codec import (
    EXCEPTION,
    MAX_REPLY,
    MAX_REQUEST,
    ROOT_PATH,
    NotPlain,
    encode_binary,
)
from labnet.wires.rogue.conversation import Conversation, Link
from labnet.wires.rogue.faults import lab_error
from labnet.wires.rogue.model import NodeInfo, RemoteException
from labnet.wires.rogue.pickles.reader import BadPickle, Opaque, read_reply

if TYPE_CHECKING:
    from labnet.wires.rogue.mirror import RogueMirror

BASE_PORT: Final = 9099
MAX_KNOWN: Final = 100_000
"""Paths remembered as existing."""

_ADDRESS: Final = re.compile(r"(?:tcp://)?(\[[0-9A-Fa-f:.%]+\]|[^:\[\]/]+)(?::([0-9]{1,5}))?\Z")


def addresses(address: str, base: int = BASE_PORT) -> tuple[str, str, str]:
    """The ZMQ addresses of the update, binary and text port of the server at ``host:port``.

    The port is that of the updates, `base` if there is none; ``tcp://`` may stand before. Raises
    ValueError for anything else.
    """
    found = _ADDRESS.match(address.strip())
    port = int(found[2] or base) if found else 0
    if found is None or not 1 <= port <= 65533:
        raise ValueError(f"{address!r} is no address such as 127.0.0.1:{base}")
    first, second, third = (f"tcp://{found[1]}:{port + step}" for step in range(3))
    return first, second, third


class RogueClient:
    """Requests to one server, over its binary port or, with ``text=True``, its text port.

    `address` is ``host`` or ``host:port`` with the server's base port. `timeout` (s) is how long an
    answer may take where a call does not say. Connections are made, and made again, when they are
    needed. On the text port all values come as text; an error cannot be told from a text that
    begins with ``EXCEPTION: ``, and the server tells no class.

    A path is that of PyRogue, ``root.device.variable``; the literal ``root`` may stand for the
    root's name. Real servers answer None for a node that does not exist: then `UnknownName` is
    raised instead.

    All Deferreds fail with a `labnet.errors.LabError`: `NotConnected` where no server answers,
    `TimedOut`, `UnknownName`, `OutOfRange`, `WrongType`, `BadArguments`, and `DeviceFault` with the
    server's exception class as its `kind` for everything else.
    """

    def __init__(
        self,
        address: str = "127.0.0.1",
        *,
        text: bool = False,
        timeout: float = 5.0,
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        ports = addresses(address)
        self.address = address
        self.timeout = timeout
        self.text = text
        self._port = ports[2 if text else 1]
        self._reactor = reactor
        self._known: set[str] = set()
        self._talk = Conversation(self._dial, address, reactor, self._heard, self._ended)

    def _dial(self, received: Callable[[Sequence[bytes]], None]) -> Link:
        from labnet.transports.zmq import DealerConnection

        link: Link = DealerConnection(
            self._port, received, reactor=self._reactor, max_message=MAX_REPLY
        )
        return link

    def _heard(self) -> None:
        """An answer has come; for subclasses."""

    def _ended(self) -> None:
        """The connection has ended, not by this client; for subclasses."""

    def mirror(self, *, link_timeout: float = 10.0) -> RogueMirror:
        """A client that follows the same server; it is to be connected."""
        from labnet.wires.rogue.mirror import RogueMirror

        return RogueMirror(
            self.address, timeout=self.timeout, link_timeout=link_timeout, reactor=self._reactor
        )

    def close(self) -> Deferred[None]:
        """Closes the connection; every request that waits fails with `NotConnected`."""
        self._talk.close()
        return succeed(None)

    # -- variables and commands ----------------------------------------------------------------

    def get(
        self, path: str, *, read: bool = True, index: int = -1, timeout: float | None = None
    ) -> Deferred[Any]:
        """The value of a variable, by default read from the hardware.

        `index` picks an element. Every real server publishes an update for a value that is read.
        """
        kwargs = {} if read and index < 0 else {"read": read, "index": index}
        return self._found(path, "get", (), kwargs, timeout)

    def value(self, path: str, *, timeout: float | None = None) -> Deferred[Any]:
        """The value of a variable as the server last knew it."""
        return self._found(path, "value", (), {}, timeout)

    def disp(
        self, path: str, *, read: bool = True, index: int = -1, timeout: float | None = None
    ) -> Deferred[str]:
        """The value of a variable as text, by its display format."""
        kwargs = {} if read and index < 0 else {"read": read, "index": index}
        return self._found(path, "getDisp", (), kwargs, timeout)

    def set(
        self,
        path: str,
        value: Any,
        *,
        index: int = -1,
        write: bool = True,
        timeout: float | None = None,
    ) -> Deferred[None]:
        """Gives a variable a value; with ``write=False`` it does not go to the hardware yet.

        Real servers take no int for a float, and no text for a number: see `set_disp`.
        """
        kwargs: dict[str, Any] = {} if write and index < 0 else {"index": index, "write": write}
        return self._sure(path, "set", (value,), kwargs, timeout)

    def set_disp(
        self, path: str, text: str, *, index: int = -1, timeout: float | None = None
    ) -> Deferred[None]:
        """Gives a variable the value that `text` writes."""
        return self._sure(path, "setDisp", (text,), {} if index < 0 else {"index": index}, timeout)

    def exec(self, path: str, *args: Any, timeout: float | None = None) -> Deferred[Any]:
        """Runs a command or starts a process, with one argument or none; gives its result."""
        return self._sure(path, "__call__", args, {}, timeout)

    # -- the tree ------------------------------------------------------------------------------

    def root(self, *, timeout: float | None = None) -> Deferred[NodeInfo]:
        """The root of the tree (binary port only)."""
        asked = self.request(ROOT_PATH, None, timeout=timeout)
        return asked.addCallback(self._node)

    def nodes(self, path: str, *, timeout: float | None = None) -> Deferred[dict[str, NodeInfo]]:
        """The children of a node by their names (binary port only)."""
        return self._found(path, "nodes", (), {}, timeout).addCallback(self._children)

    def request(
        self,
        path: str,
        attr: str | None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> Deferred[Any]:
        """The attribute `attr` of a node, or its result if it can be called.

        None is also what a real server answers for a node that does not exist.
        """
        limit = self.timeout if timeout is None else timeout
        if not limit > 0:
            return fail(OutOfRange("timeout", limit, low=0.0))
        what = f"{attr} of {path}" if attr else path
        try:
            body = self._encode(path, attr, args, kwargs or {})
        except LabError as error:
            return fail(error)
        return self._talk.ask(body, what, limit).addCallback(self._decode, what)

    # -- what exists ---------------------------------------------------------------------------

    def _found(
        self, path: str, attr: str, args: Sequence[Any], kwargs: Any, timeout: float | None
    ) -> Deferred[Any]:
        """A request whose answer None may mean that there is no such node."""
        asked = self.request(path, attr, args, kwargs, timeout=timeout)
        return asked.addCallback(self._perhaps_nothing, path, timeout)

    def _perhaps_nothing(self, result: Any, path: str, timeout: float | None) -> Any:
        nothing = result == "None" if self.text else result is None
        if not nothing or path in self._known:
            return result
        return self._check(path, timeout).addCallback(lambda _: result)

    def _sure(
        self, path: str, attr: str, args: Sequence[Any], kwargs: Any, timeout: float | None
    ) -> Deferred[Any]:
        """A request to a node that is known to exist: it is asked for when that is not known."""
        if path in self._known:
            return self.request(path, attr, args, kwargs, timeout=timeout)
        checked = self._check(path, timeout)
        return checked.addCallback(
            lambda _: self.request(path, attr, args, kwargs, timeout=timeout)
        )

    def _check(self, path: str, timeout: float | None) -> Deferred[None]:
        """Fails with `UnknownName` if the server has no node at `path`."""
        return self.request(path, "name", timeout=timeout).addCallback(self._exists, path, timeout)

    def _exists(self, name: Any, path: str, timeout: float | None) -> Any:
        parent, _, last = path.rpartition(".")
        if name == last or (path == "root" and isinstance(name, str)):
            if len(self._known) < MAX_KNOWN:
                self._known.add(path)
            return None
        if self.text or not parent:
            raise UnknownName(path, what="node")
        return self.request(parent, "nodes", timeout=timeout).addCallback(self._none_such, path)

    def _none_such(self, siblings: Any, path: str) -> None:
        parent = path.rpartition(".")[0]
        near = siblings if isinstance(siblings, dict) else ()
        raise UnknownName(path, [f"{parent}.{name}" for name in near], "node")

    def forget(self) -> None:
        """Forgets which nodes exist: the server may have another tree now."""
        self._known.clear()

    # -- bytes ---------------------------------------------------------------------------------

    def _encode(
        self, path: str, attr: str | None, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> bytes:
        try:
            if self.text:
                body = _json_request(path, attr, args, kwargs)
            else:
                body = encode_binary(path, attr, args, kwargs)
        except (NotPlain, ValueError, RecursionError):
            wire = "the text port" if self.text else "this wire"
            raise BadArguments(f"{path}: {wire} cannot carry this value") from None
        if len(body) > MAX_REQUEST:
            raise TooLarge(f"{path}: a request of more than {MAX_REQUEST} bytes")
        return body

    def _decode(self, body: bytes, what: str) -> Any:
        return _text_result(body, what) if self.text else binary_result(body, what)

    def _node(self, result: Any) -> NodeInfo:
        if not isinstance(result, NodeInfo):
            raise self._no_tree()
        return result

    def _children(self, result: Any) -> dict[str, NodeInfo]:
        if not isinstance(result, dict) or not all(
            isinstance(node, NodeInfo) for node in result.values()
        ):
            raise self._no_tree()
        return result

    def _no_tree(self) -> LabError:
        if self.text:
            return BadArguments("the text port does not tell the tree; use the binary one")
        return DeviceFault(f"{self.address} answers no nodes of a tree", "ProtocolError")

    def _not_connected(self) -> NotConnected:
        return NotConnected(f"not connected to {self.address}")


def binary_result(body: bytes, what: str) -> Any:
    """The value that the binary port answered; raises the `LabError` that it stands for."""
    if not body:
        raise DeviceFault(f"{what}: the server sent an empty answer", "ProtocolError")
    try:
        result = read_reply(body)
    except BadPickle as error:
        raise DeviceFault(f"{what}: the answer cannot be read: {error}", "ProtocolError") from None
    if isinstance(result, RemoteException):
        raise lab_error(result, what)
    if isinstance(result, Opaque):
        raise DeviceFault(f"{what}: a value of class {result.kind} is not read", result.kind)
    return result


def _text_result(body: bytes, what: str) -> str:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise DeviceFault(f"{what}: the answer is no UTF-8 text", "ProtocolError") from None
    if text.startswith(EXCEPTION):
        raise lab_error(RemoteException(text[len(EXCEPTION) :]), what)
    return text


def _json_request(
    path: str, attr: str | None, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> bytes:
    body: dict[str, Any] = {"attr": attr, "path": path}
    if args:
        body["args"] = list(args)
    if kwargs:
        body["kwargs"] = dict(kwargs)
    return json.dumps(body, default=_plain).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise ValueError("no form in JSON")
