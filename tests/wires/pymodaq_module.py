"""A module in memory, played by the test: it says what it is told to, and hears its orders."""

from __future__ import annotations

from typing import Any

import numpy as np
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from labnet.wires.pymodaq.codec import (
    FROM_CONTROL,
    CheckPosition,
    Data,
    DataToExport,
    Decoder,
    Done,
    Generation,
    GetActuatorValue,
    Identify,
    Infos,
    InfoXml,
    Kind,
    Message,
    MoveDone,
    PositionIs,
    encode_bytes,
    position,
)

SETTINGS = (
    '<move_settings type="group" title="Settings">'
    '<units type="str" title="Units:">mm</units>'
    '<epsilon type="float" title="Epsilon:">0.01</epsilon>'
    '<velocity type="float" title="Velocity (mm/s):" limits="[0.1, 20.0]">1.5</velocity>'
    '<enabled type="bool" title="Enabled:">1</enabled>'
    '<model type="str" title="Model:" readonly="1">SIM &amp; more</model>'
    "<mode type=\"list\" title=\"Mode:\" limits=\"['fast', 'slow']\">str('fast')</mode>"
    '<deep type="group" title="Deep:"><in.ner type="int" title="Inner:">7</in.ner></deep>'
    "</move_settings>"
)


class FakeModule:
    """One connection to a factory of modules."""

    def __init__(
        self,
        factory: Any,
        kind: Kind = "ACTUATOR",
        generation: Generation = Generation.C4,
        host: str = "127.0.0.1",
        settings: str | None = SETTINGS,
    ) -> None:
        self.generation = generation
        self.transport = StringTransport(peerAddress=IPv4Address("TCP", host, 40000))
        self.protocol = factory.buildProtocol(self.transport.getPeer())
        self.protocol.makeConnection(self.transport)
        self._decoder = Decoder(FROM_CONTROL, {generation})
        self.say(Identify(kind))
        if settings is not None:
            self.say(Infos(settings))

    def say(self, *messages: Message) -> None:
        """Send these, each by itself."""
        for message in messages:
            self.send(encode_bytes(message, self.generation))

    def send(self, data: bytes) -> None:
        """Send bytes."""
        if not self.dropped:
            self.protocol.dataReceived(data)

    def orders(self) -> list[Message]:
        """What it has been told since it was asked last."""
        data = self.transport.value()
        self.transport.clear()
        return self._decoder.feed(data)

    @property
    def dropped(self) -> bool:
        """Whether the connection has been closed."""
        return bool(self.transport.disconnecting or self.transport.disconnected)

    def vanish(self) -> None:
        """The connection ends, by whomever."""
        self.protocol.connectionLost(Failure(ConnectionLost()))

    # An actuator

    def is_at(self, value: float, units: str = "mm", title: str = "module") -> None:
        """Says where it is."""
        self.say(PositionIs(position(value, units, title)))

    def has_moved(self, value: float, units: str = "mm") -> None:
        """Says that a motion is over."""
        self.say(MoveDone(position(value, units, "module")))

    def answer_questions(self, value: float = 1.25, title: str = "module") -> list[Message]:
        """Says where it is if it is asked; the other orders."""
        orders = self.orders()
        if any(isinstance(order, CheckPosition | GetActuatorValue) for order in orders):
            self.is_at(value, title=title)
        return [it for it in orders if not isinstance(it, CheckPosition | GetActuatorValue)]

    # A detector

    def shows(self, *arrays: Any, **about: Any) -> None:
        """Sends a frame."""
        dim = f"Data{min(np.ndim(arrays[0]), 2)}D"
        data = Data("cam", tuple(map(np.asarray, arrays)), **{"dim": dim, **about})
        self.say(Done(DataToExport("frame", (data,))))

    def changes(self, path: tuple[str, ...], xml: str) -> None:
        """Says that a setting has changed."""
        self.say(InfoXml(path, xml))
