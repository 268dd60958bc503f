"""A Rogue server without sockets: a recorded tree with variables that are read and published."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

from labnet.wires.rogue.client import RogueClient
from labnet.wires.rogue.mirror import RogueMirror
from labnet.wires.rogue.model import RemoteException, VariableValue
from labnet.wires.rogue.pickles.reader import read_request
from labnet.wires.rogue.pickles.writer import dumps
from tests.wires.rogue_fakes import NO_NODES, FakeLink, Received, Recording

PROPS = {
    "mode": "RW", "typeStr": "float", "units": None, "disp": "{}", "enum": None, "minimum": None,
    "maximum": None, "lowAlarm": None, "lowWarning": None, "highWarning": None, "highAlarm": None,
    "pollInterval": 0, "arg": False,
}  # fmt: skip


class FakeServer:
    """`values` by path, `props` by path and name, `calls` what was asked, `errors` by path.

    While `silent` nothing comes from it.
    """

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.recording = Recording()
        self.values: dict[str, Any] = {}
        self.props: dict[tuple[str, str], Any] = {}
        self.errors: dict[str, str] = {}
        self.calls: list[tuple[str, str, tuple[Any, ...]]] = []
        self.links: list[FakeLink] = []
        self.subs: list[FakeLink] = []
        self.silent = False

    def dial(self, wire: str, address: str, **options: Any) -> RogueClient:
        """A client of this server, for `labnet.devices.remote`."""
        assert wire == "rogue"
        return _Client(self, address, **options)

    def publish(self, **values: Any) -> None:
        """An update of variables of ``Toy.Psu``, with new values."""
        body = {f"Toy.Psu.{name}": VariableValue(value) for name, value in values.items()}
        self.values.update({path: update.value for path, update in body.items()})
        for sub in self.subs:
            if not self.silent and not sub.closed:
                sub.received([dumps(body)])

    def answer(self, body: bytes) -> bytes:
        """The answer to a request."""
        request = read_request(body)
        path, attr, args = request["path"], request["attr"], request["args"]
        self.calls.append((path, attr, args))
        if path in self.errors and attr in ("get", "set", "__call__"):
            return dumps(RemoteException(self.errors[path]))
        if path == "__ROOT__":
            return self.recording.exchange("virtual.connect")[1]
        if attr == "nodes":
            recorded = self.recording.answer("bin", body)
            return recorded or self.recording.exchange(NO_NODES)[1]
        if attr in ("get", "value"):
            return pickle.dumps(self.values.get(path), 4)
        if attr == "getVariableValue":
            return dumps(VariableValue(self.values.get(path)))
        if attr == "set":
            self.values[path] = args[0]
            return dumps(None)
        if attr == "__call__":
            return pickle.dumps(("called", *args), 4)
        if attr == "name":
            return dumps(path.rpartition(".")[2])
        return pickle.dumps(self.props.get((path, attr), PROPS.get(attr)), 4)


class _Link(FakeLink):
    """A socket whose server answers in the next turn."""

    def __init__(self, server: FakeServer, received: Received) -> None:
        super().__init__(received)
        self.server = server

    def send(self, parts: Sequence[bytes]) -> bool:
        self.server.clock.callLater(0, self._answer, list(parts))
        return True

    def _answer(self, parts: list[bytes]) -> None:
        if not self.server.silent and not self.closed:
            self.received([*parts[:-1], self.server.answer(parts[-1])])


class _Client(RogueClient):
    def __init__(self, server: FakeServer, address: str, **options: Any) -> None:
        self.server = server
        super().__init__(address, reactor=server.clock, **options)

    def mirror(self, *, link_timeout: float = 10.0) -> RogueMirror:
        return _Mirror(self.server, self.address, timeout=self.timeout, link_timeout=link_timeout)


class _Mirror(RogueMirror):
    def __init__(self, server: FakeServer, address: str, **options: Any) -> None:
        self.server = server
        super().__init__(address, reactor=server.clock, **options)

    def _dial(self, received: Received) -> FakeLink:
        self.server.links.append(_Link(self.server, received))
        return self.server.links[-1]

    def _dial_updates(self, received: Received) -> FakeLink:
        self.server.subs.append(_Link(self.server, received))
        return self.server.subs[-1]
