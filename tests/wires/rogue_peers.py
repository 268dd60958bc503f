"""Toys of PyRogue's own clients, on plain pyzmq, by what is known of their behaviour on the wire.

They run in threads of their own, block, and have no protection of any kind, as the real ones: a
plain unpickler, no deadline but the one that keeps a test from hanging, errors raised as they come.
"""

from __future__ import annotations

import io
import pickle
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import zmq

PATIENCE = 5000
"""Milliseconds after which a test gives up."""

ROOT = "<class 'pyrogue._Root.Root'>"
DEVICE = "<class 'pyrogue._Device.Device'>"
VARIABLE = "<class 'pyrogue._Variable.BaseVariable'>"
COMMAND = "<class 'pyrogue._Command.BaseCommand'>"


class Value:
    """A VariableValue: whatever attributes the server gave it."""

    value: Any
    valueDisp: str
    disp: str
    enum: Any
    updated: bool
    status: str
    severity: str


class Unpickler(pickle.Unpickler):
    """Python's own; the names of PyRogue mean what the subclass says."""

    factory: Any = dict

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("pyrogue._Variable", "VariableValue"):
            return Value
        if (module, name) == ("pyrogue.interfaces._Virtual", "VirtualFactory"):
            return self.factory
        return super().find_class(module, name)


def unpickled(body: bytes, factory: Any = dict) -> Any:
    """What a client makes of the bytes; errors are raised."""
    unpickler = Unpickler(io.BytesIO(body))
    unpickler.factory = factory
    value = unpickler.load()
    if isinstance(value, Exception):
        raise value
    return value


class SimpleClient:
    """One REQ socket for the binary port; with `updated`, a thread that reads all updates."""

    def __init__(
        self, base: int, updated: Callable[[str, Value], None] | None = None
    ) -> None:
        self.context = zmq.Context()
        self.requests = self.context.socket(zmq.REQ)
        self.requests.setsockopt(zmq.RCVTIMEO, PATIENCE)
        self.requests.connect(f"tcp://127.0.0.1:{base + 1}")
        self._updated = updated
        self._running = True
        self._thread = threading.Thread(target=self._listen, args=(base,), daemon=True)
        if updated is not None:
            self._thread.start()

    def _listen(self, base: int) -> None:
        updates = self.context.socket(zmq.SUB)
        updates.setsockopt(zmq.SUBSCRIBE, b"")
        updates.setsockopt(zmq.RCVTIMEO, 50)
        updates.connect(f"tcp://127.0.0.1:{base}")
        while self._running:
            try:
                message = updates.recv_multipart()
            except zmq.Again:
                continue
            assert len(message) == 1, "one part a message, no topic"
            for path, value in pickle_updates(message[0]).items():
                assert self._updated is not None
                self._updated(path, value)
        updates.close(0)

    def remote(self, path: str, attr: str | None, *args: Any, **kwargs: Any) -> Any:
        """Asks one thing."""
        request = {"path": path, "attr": attr, "args": args, "kwargs": kwargs}
        self.requests.send(pickle.dumps(request))
        return unpickled(self.requests.recv())

    def get(self, path: str) -> Any:
        return self.remote(path, "get")

    def get_disp(self, path: str) -> Any:
        return self.remote(path, "getDisp")

    def set(self, path: str, value: Any) -> None:
        self.remote(path, "set", value)

    def set_disp(self, path: str, value: Any) -> None:
        self.remote(path, "setDisp", value)

    def exec(self, path: str, argument: Any = None) -> Any:
        """Always sends one argument."""
        return self.remote(path, "__call__", argument)

    def close(self) -> None:
        self._running = False
        if self._thread.is_alive():
            self._thread.join()
        self.context.destroy(0)


def pickle_updates(body: bytes) -> dict[str, Value]:
    """A message of the PUB port."""
    updates = unpickled(body)
    assert isinstance(updates, dict)
    return updates


class CClient:
    """The sockets of the C++ client: REQ with a counter that must come back, and relaxed."""

    def __init__(self, base: int, text: bool = False) -> None:
        self.context = zmq.Context()
        self.requests = self.context.socket(zmq.REQ)
        self.requests.setsockopt(zmq.REQ_CORRELATE, 1)
        self.requests.setsockopt(zmq.REQ_RELAXED, 1)
        self.requests.setsockopt(zmq.RCVTIMEO, PATIENCE)
        self.requests.setsockopt(zmq.LINGER, 0)
        self.requests.connect(f"tcp://127.0.0.1:{base + (2 if text else 1)}")

    def send(self, body: bytes) -> bytes:
        """One request; an empty reply counts as none."""
        self.requests.send(body)
        reply = self.requests.recv()
        if not reply:
            raise TimeoutError("Timeout waiting for response")
        return reply

    def send_only(self, body: bytes) -> None:
        """A request whose answer is not awaited."""
        self.requests.send(body)

    def text(self, path: str, attr: str, argument: str = "") -> str:
        """A request of the string mode: pasted together, nothing is escaped."""
        end = f',"args": ["{argument}"]}}' if argument else "}"
        return self.send(f'{{"attr": "{attr}","path": "{path}"{end}'.encode()).decode()

    def close(self) -> None:
        self.context.destroy(0)


class Proxy:
    """A node of the tree as VirtualClient shows it; children are asked for when first needed."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields
        for key in ("name", "class", "bases", "description", "groups", "path", "expand",
                    "guiGroup", "nodes", "props", "funcs"):  # fmt: skip
            fields[key]  # all of them are compulsory
        for func in fields["funcs"].values():
            func["args"], func["kwargs"]
        self.client: VirtualClient | None = None
        self._loaded = False
        self.listeners: list[Callable[[str, Value], None]] = []

    def is_a(self, base: str) -> bool:
        return base in self.fields["bases"]

    @property
    def path(self) -> str:
        path: str = self.fields["path"]
        return path

    @property
    def nodes(self) -> OrderedDict[str, Proxy]:
        """The children that were announced, asked for once."""
        assert self.client is not None
        children = self.fields["nodes"]
        if not self._loaded:
            self._loaded = True
            for name, node in self.client.remote(self.path, "nodes").items():
                if name in children:
                    node.client = self.client
                    children[name] = node
        return OrderedDict((name, node) for name, node in children.items() if node is not None)

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__.get("fields", {})
        if name in fields.get("props", ()):
            return self._ask(name)
        if name in fields.get("funcs", ()):
            return lambda *args, **kwargs: self._ask(name, *args, **kwargs)
        if not name.startswith("_") and name in self.nodes:
            return self.nodes[name]
        raise AttributeError(name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        assert self.is_a(COMMAND)
        return self._ask("__call__", *args, **kwargs)

    def _ask(self, attr: str, *args: Any, **kwargs: Any) -> Any:
        assert self.client is not None
        return self.client.remote(self.path, attr, *args, **kwargs)


class VirtualClient(CClient):
    """Mirrors the tree; a thread hands updates to the listeners of the nodes."""

    def __init__(self, base: int) -> None:
        super().__init__(base)
        self._lock = threading.Lock()
        self.values: dict[str, Value] = {}
        self.heard = threading.Condition()
        self.last_update = 0.0
        self._running = True
        self._thread = threading.Thread(target=self._listen, args=(base,), daemon=True)
        self._thread.start()
        self.root: Proxy = self.remote("__ROOT__", None)
        self.root.client = self
        assert self.root.is_a(ROOT)
        started = self.root.nodes["Time"].value()
        assert isinstance(started, float), "a child of the root that is called Time"

    def _listen(self, base: int) -> None:
        updates = self.context.socket(zmq.SUB)
        updates.setsockopt(zmq.SUBSCRIBE, b"")
        updates.setsockopt(zmq.RCVTIMEO, 50)
        updates.connect(f"tcp://127.0.0.1:{base}")
        while self._running:
            try:
                body = updates.recv()
            except zmq.Again:
                continue
            with self.heard:
                self.values |= pickle_updates(body)
                self.last_update = time.monotonic()
                self.heard.notify_all()
        updates.close(0)

    def wait_for(self, path: str, value: Any) -> Value:
        """Blocks until an update has brought this value."""
        with self.heard:
            assert self.heard.wait_for(
                lambda: path in self.values and self.values[path].value == value, PATIENCE / 1000
            ), f"no update of {path} to {value}"
            return self.values[path]

    def remote(self, path: str, attr: str | None, *args: Any, **kwargs: Any) -> Any:
        """Asks one thing; one request at a time, whichever thread asks."""
        request = {"path": path, "attr": attr, "args": args, "kwargs": kwargs}
        with self._lock:
            reply = self.send(pickle.dumps(request))
        return unpickled(reply, Proxy)

    def node(self, path: str) -> Proxy:
        """The node of a path."""
        found = self.root
        for name in path.split(".")[1:]:
            found = found.nodes[name]
        return found

    def close(self) -> None:
        self._running = False
        self._thread.join()
        super().close()


class Raw:
    """A connection that shows the parts as they are, through a DEALER socket."""

    def __init__(self, port: int) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.RCVTIMEO, PATIENCE)
        self.socket.connect(f"tcp://127.0.0.1:{port}")

    def ask(self, *parts: bytes) -> list[bytes]:
        self.socket.send_multipart(parts)
        return self.socket.recv_multipart()

    def correlated(self, number: int, body: bytes) -> list[bytes]:
        """With the counter of the C++ client."""
        return self.ask(struct.pack("<I", number), b"", body)

    def close(self) -> None:
        self.context.destroy(0)
