"""One of the two ports of a Rogue listener as an adapter of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labnet.lab import Lab, ServeOptions
from labnet.wires.rogue.codec import encode_binary
from labnet.wires.rogue.model import RemoteException
from labnet.wires.rogue.pickles.reader import BadPickle, read_reply
from tests.wires.adapters import Client, Rogue
from tests.wires.rogue_toy import Toy, ToyClient, ToyServer, parts_of
from tests.wires.vectors import records


class OnePort:
    """A client that sends everything to the same port."""

    ended = False

    def __init__(self, client: ToyClient, kind: str) -> None:
        self._client = client
        self._kind = kind

    def tell(self, *pieces: bytes) -> bytes:
        answers = [self._client.send(self._kind, b"", piece) for piece in pieces]
        assert all(len(answer) == 1 for answer in answers), "one reply a request"
        bodies = [answer[0][-1] for answer in answers]
        assert self._kind == "str" or all(bodies), "no reply of the binary port is empty"
        return b"\n".join(bodies)

    def vanish(self) -> None:
        self._client.vanish()


class RoguePort(Rogue):
    """The binary port (``bin``) or the text port (``str``), with the recorded tree beside."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def cases(self) -> list[list[bytes]]:
        return [
            [bytes.fromhex(record["frames"][-1])]
            for record in records("rogue")
            if record["direction"] == "c2s" and record["socket"] == self.kind
        ]

    def serve(self, lab: Lab, device: str, **options: Any) -> Callable[[], Client]:
        lab.attach("toy", Toy(lab.reactor))
        common = ServeOptions(name=self.name, devices={device: device, **parts_of("toy")})
        server = ToyServer(lab.reactor, lab=lab, common=common, root="Toy", **options)
        return lambda: OnePort(server.client(), self.kind)

    def _request(self, path: str, attr: str, *args: Any) -> bytes:
        if self.kind == "str":
            return super()._request(path, attr, *args)
        return encode_binary(f"Toy.{path}", attr, args)

    def succeeded(self, reply: bytes) -> bool:
        if self.kind == "str":
            return super().succeeded(reply)
        try:
            return not isinstance(read_reply(reply), RemoteException)
        except BadPickle:
            return False
