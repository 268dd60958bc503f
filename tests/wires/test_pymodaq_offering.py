"""A module offered over real sockets: dialled until somebody answers, and never left without Quit.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

import numpy as np
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import ConnectionLost, ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from labnet.errors import NotConnected
from labnet.wires.pymodaq.codec import (
    FROM_HARDWARE,
    Decoder,
    Generation,
    GetActuatorValue,
    Identify,
    Infos,
    MoveHome,
    Quit,
    encode_bytes,
)
from labnet.wires.pymodaq.hardware import Manners
from labnet.wires.pymodaq.offered import Offered, OfferedActuator
from labnet.wires.pymodaq.offering import FIRST_PAUSE, LONGEST_PAUSE, SETTLING, Offer, offer
from tests.wires.pymodaq_toy import Eye, Slide, shown


class Controller(Protocol):
    """The controlling end of one connection: hears messages, knows how it ended."""

    def __init__(self, generation: Generation) -> None:
        self.heard: DeferredQueue[Any] = DeferredQueue()
        self.lost: Deferred[Failure] = Deferred()
        self._decoder = Decoder(FROM_HARDWARE, {generation})

    def dataReceived(self, data: bytes) -> None:
        for message in self._decoder.feed(data):
            self.heard.put(message)
        assert not self._decoder.fault

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost.callback(reason.value)


class Controllers(Factory):
    """Who has dialled."""

    noisy = False

    def __init__(self, generation: Generation = Generation.C4) -> None:
        self.generation = generation
        self.came: DeferredQueue[Controller] = DeferredQueue()

    def buildProtocol(self, addr: Any) -> Controller:
        controller = Controller(self.generation)
        self.came.put(controller)
        return controller


class SocketTests(TestCase):
    timeout = 10

    async def listen(self, port: int = 0, generation: Generation = Generation.C4) -> Any:
        self.controllers = Controllers(generation)
        endpoint = TCP4ServerEndpoint(reactor, port, interface="127.0.0.1")
        opened: Any = await endpoint.listen(self.controllers)
        self.addCleanup(opened.stopListening)
        return opened

    def offered(self, port: int, module: Any = None, **options: Any) -> Offer:
        service = offer(module or Slide(reactor), f"127.0.0.1:{port}", **options)
        service.startService()
        self.addCleanup(service.stopService)
        return service

    async def test_it_says_what_it_is_and_obeys(self) -> None:
        for generation in Generation:
            port = await self.listen(generation=generation)
            service = self.offered(port.getHost().port, generation=generation.name)
            controller = await self.controllers.came.get()
            self.assertEqual(await controller.heard.get(), Identify("ACTUATOR"))
            self.assertIsInstance(await controller.heard.get(), Infos)
            controller.transport.write(encode_bytes(GetActuatorValue(), generation))
            controller.transport.write(encode_bytes(MoveHome(), generation))
            answers = [await controller.heard.get(), await controller.heard.get()]
            self.assertEqual(shown(answers), [("position_is", 1.25), ("move_done", 0.0)])
            await service.stopService()
            self.assertEqual(await controller.heard.get(), Quit())
            await controller.lost

    async def test_it_comes_back(self) -> None:
        port = await self.listen()
        service = self.offered(port.getHost().port)
        first = await self.controllers.came.get()
        await first.heard.get()
        first.transport.loseConnection()
        await first.lost
        second = await self.controllers.came.get()
        self.assertEqual(await second.heard.get(), Identify("ACTUATOR"))
        self.assertIs(await service.when_connected(), service.connection)
        await service.stopService()
        await second.lost
        self.assertIsNone(service.connection)

    async def test_a_program_that_starts_later(self) -> None:
        held = await self.listen()
        number = held.getHost().port
        await held.stopListening()
        service = self.offered(number)
        connected = service.when_connected()
        await self.listen(number)
        await connected
        controller = await self.controllers.came.get()
        self.assertEqual(await controller.heard.get(), Identify("ACTUATOR"))
        await service.stopService()
        await controller.lost

    async def test_a_death_is_a_reset(self) -> None:
        """As when the process is killed: the socket is closed by the system, without a Quit."""
        port = await self.listen()
        service = self.offered(port.getHost().port)
        controller = await self.controllers.came.get()
        await controller.heard.get()
        await controller.heard.get()
        connection = await service.when_connected()
        handle = connection.transport.getHandle()  # type: ignore[union-attr]
        linger = handle.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        self.assertEqual(struct.unpack("ii", linger), (1, 0))
        connection.transport.stopReading()  # type: ignore[union-attr]
        handle.close()
        self.assertIsInstance(await controller.lost, ConnectionLost)
        connection.transport.connectionLost(Failure(ConnectionLost()))  # type: ignore[union-attr]

    async def test_large_frames(self) -> None:
        port = await self.listen()
        eye = Eye()
        eye.gives = np.arange(1 << 20, dtype=np.uint16).reshape(1024, 1024)
        service = self.offered(port.getHost().port, eye)
        controller = await self.controllers.came.get()
        await controller.heard.get()
        await controller.heard.get()
        eye.grabbed(eye.gives)
        done = await controller.heard.get()
        self.assertTrue(np.array_equal(done.frame.arrays[0], eye.gives))
        await service.stopService()
        self.assertEqual(await controller.heard.get(), Quit())
        await controller.lost


class PauseTests(SynchronousTestCase):
    """Growing pauses, without a clock that really runs."""

    def test_pauses_grow(self) -> None:
        clock = Clock()
        service = Offer(OfferedActuator, "127.0.0.1:1", Manners(), reactor=clock, clock=clock)
        pauses = [service._pause(failures) for failures in range(1, 30)]
        self.assertGreater(pauses[0], FIRST_PAUSE)
        self.assertGreater(pauses[3], 2 * pauses[0])
        self.assertLessEqual(max(pauses), LONGEST_PAUSE * 1.1)

    def test_a_program_that_ends_each_connection_at_once_is_not_run_down(self) -> None:
        clock = Clock()
        dialled: list[Deferred[Any]] = []

        class Endpoint:
            def connect(self, factory: Factory) -> Deferred[Any]:
                dialled.append(Deferred())
                self.factory = factory
                return dialled[-1]

        endpoint: Any = Endpoint()
        service = Offer(OfferedActuator, endpoint, Manners(), reactor=clock, clock=clock)
        service.startService()
        times = []
        for _ in range(8):
            count = len(dialled)
            protocol: Any = endpoint.factory.buildProtocol(None)
            protocol.makeConnection(StringTransport())
            dialled[-1].callback(protocol)
            clock.advance(0)
            protocol.connectionLost(Failure(ConnectionLost()))
            begun = clock.seconds()
            while len(dialled) == count:
                clock.advance(0.125)
            times.append(clock.seconds() - begun)
        self.assertGreater(times[-1], 4 * times[0])
        self.assertFalse(service._silent, "it has answered each time")
        dialled[-1].errback(Failure(ConnectionRefusedError()))
        service.stopService()
        clock.advance(0)
        self.assertEqual(clock.getDelayedCalls(), [])


class OutputTests(TestCase):
    """Long messages among short ones, and an other side that reads slowly or not at all."""

    timeout = 20

    async def connected(self, module: Eye) -> tuple[Offer, Controller]:
        self.controllers = Controllers()
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port: Any = await endpoint.listen(self.controllers)
        self.addCleanup(port.stopListening)
        service = offer(module, f"127.0.0.1:{port.getHost().port}")
        service.startService()
        self.addCleanup(service.stopService)
        controller = await self.controllers.came.get()
        await controller.heard.get()
        await controller.heard.get()
        return service, controller

    async def test_short_messages_wait_for_a_long_one(self) -> None:
        eye = Eye()
        service, controller = await self.connected(eye)
        connection = service.connection
        assert connection is not None
        controller.transport.pauseProducing()
        frames = [np.arange(size << 20, dtype=np.uint16) for size in (8, 1, 1)]
        for frame in frames:
            eye.grabbed(frame)
            connection._refuse("not now")
        self.assertTrue(connection.full)
        controller.transport.resumeProducing()
        for frame in frames:
            done = await controller.heard.get()
            self.assertTrue(np.array_equal(done.frame.arrays[0], frame))
            self.assertEqual(shown([await controller.heard.get()]), [("Info", "not now")])
        await service.stopService()
        self.assertEqual(await controller.heard.get(), Quit())
        await controller.lost

    async def test_quit_waits_for_the_end_of_a_frame(self) -> None:
        eye = Eye()
        service, controller = await self.connected(eye)
        controller.transport.pauseProducing()
        eye.grabbed(np.zeros(4 << 20))
        stopping = service.stopService()
        controller.transport.resumeProducing()
        self.assertEqual(shown([await controller.heard.get()]), ["Done"])
        self.assertEqual(await controller.heard.get(), Quit())
        await stopping
        await controller.lost

    async def test_a_program_that_never_reads_is_dropped(self) -> None:
        eye = Eye()
        service, controller = await self.connected(eye)
        connection = service.connection
        assert connection is not None
        controller.transport.pauseProducing()
        for _ in range(8):
            eye.grabbed(np.zeros(1 << 20))
        await connection.when_lost
        controller.transport.resumeProducing()
        self.assertIsInstance(await controller.lost, ConnectionLost)


class ReadyTests(SynchronousTestCase):
    """Nobody is dialled as long as there is nothing to offer."""

    def test_nothing_to_offer(self) -> None:
        clock = Clock()
        dialled: list[Deferred[Any]] = []

        class Endpoint:
            def connect(self, factory: Factory) -> Deferred[Any]:
                dialled.append(Deferred())
                return dialled[-1]

        problem: list[Exception] = [NotConnected("the device has left the lab")]
        closed: list[Offered] = []

        class Closing(OfferedActuator):
            def close(self) -> None:
                closed.append(self)

        def make() -> Offered:
            if problem:
                raise problem[0]
            return Closing()

        endpoint: Any = Endpoint()
        service = Offer(make, endpoint, Manners(), reactor=clock, clock=clock)
        service.startService()
        for _ in range(50):
            clock.advance(1)
        self.assertEqual(dialled, [])
        problem.clear()
        while not dialled:
            clock.advance(1)
        self.assertEqual(closed, [])
        dialled[0].errback(Failure(ConnectionRefusedError()))
        while len(dialled) < 2:
            clock.advance(1)
        self.assertEqual(len(closed), 1)
        connected = service.when_connected()
        stopping = service.stopService()
        clock.advance(SETTLING)
        clock.advance(0)
        self.successResultOf(stopping)
        self.failureResultOf(connected, NotConnected)
        self.assertEqual(len(closed), 2)

    def test_an_attempt_is_not_cut_off(self) -> None:
        """A program that accepts while the offer ends still hears who it is, and goodbye."""
        clock = Clock()
        dialled: list[Deferred[Any]] = []

        class Endpoint:
            def connect(self, factory: Factory) -> Deferred[Any]:
                dialled.append(Deferred())
                self.factory = factory
                return dialled[-1]

        endpoint: Any = Endpoint()
        service = Offer(OfferedActuator, endpoint, Manners(), reactor=clock, clock=clock)
        service.startService()
        stopping = service.stopService()
        self.assertNoResult(stopping)
        protocol: Any = endpoint.factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        dialled[0].callback(protocol)
        clock.advance(0)
        heard = Decoder(FROM_HARDWARE, {Generation.C4}).feed(transport.value())
        self.assertEqual((heard[0], heard[-1]), (Identify("ACTUATOR"), Quit()))
        self.assertTrue(transport.disconnecting)
        protocol.connectionLost(Failure(ConnectionLost()))
        clock.advance(0)
        self.successResultOf(stopping)
        self.assertEqual(clock.getDelayedCalls(), [])
