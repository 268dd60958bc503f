"""Both of labnet's sides of PyMoDAQ's protocol together, in all generations, on real sockets."""

from __future__ import annotations

from typing import Any

import numpy as np
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.trial.unittest import TestCase

from labnet.errors import DeviceFault, NotConnected
from labnet.values import Axis, LabeledArray
from labnet.wires.pymodaq import Generation, Modules, offer
from labnet.wires.pymodaq.control import Manners
from labnet.wires.pymodaq.offered import Offered
from labnet.wires.pymodaq.offering import Offer
from tests.wires.pymodaq_toy import Eye, Slide

_reactor: Any = reactor


class Quick(Slide):
    """Moves at once."""

    async def _move(self, position: float) -> None:
        self.at = position


class BothTests(TestCase):
    timeout = 20

    async def meet(self, module: Offered, generation: Generation) -> tuple[Modules, Offer]:
        """A port at which modules come, and a module that comes."""
        modules = Modules(_reactor, Manners(generation, confirm=5.0))
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port: Any = await endpoint.listen(modules)
        self.addCleanup(port.stopListening)
        self.addCleanup(modules.close)
        service = offer(module, f"127.0.0.1:{port.getHost().port}", generation)
        service.startService()
        self.addCleanup(service.stopService)
        return modules, service

    async def test_moves(self) -> None:
        for generation in Generation:
            slide = Quick(_reactor)
            modules, _ = await self.meet(slide, generation)
            actuator = await modules.actuator()
            self.assertEqual(await actuator.position(), 1.25)
            self.assertEqual(await actuator.move_abs(3.5), 3.5)
            self.assertEqual(await actuator.move_rel(-1.0), 2.5)
            self.assertEqual(await actuator.move_home(), 0.0)
            self.assertEqual((slide.at, actuator.units), (0.0, "mm"))

    async def test_a_refusal(self) -> None:
        """Where the generation has words for it, the one who orders learns why, and at once."""
        for generation in Generation:
            if generation is Generation.A:
                continue
            slide = Quick(_reactor)
            slide.broken = "slide is locked by somebody"
            modules, _ = await self.meet(slide, generation)
            actuator = await modules.actuator()
            with self.assertRaises(DeviceFault) as caught:
                await actuator.move_abs(3.5)
            self.assertEqual(str(caught.exception), "slide is locked by somebody")
            eye = Eye()
            eye.gives = NotConnected("eye is not connected")
            modules, _ = await self.meet(eye, generation)
            grabber = await modules.grabber()
            with self.assertRaises(DeviceFault) as caught:
                await grabber.grab("0D")
            self.assertEqual(str(caught.exception), "eye is not connected")

    async def test_settings(self) -> None:
        for generation in Generation:
            slide = Quick(_reactor)
            modules, _ = await self.meet(slide, generation)
            actuator = await modules.actuator()
            self.assertEqual(await actuator.set(("velocity",), 5.0), 5.0)
            self.assertEqual(slide.velocity, 5.0)
            self.assertEqual(await actuator.set(("velocity",), 50.0), 10.0)
            slide.velocity = 3.0
            slide.setting_changed(("velocity",), slide.velocity_setting())
            await actuator.position()  # behind which everything has come
            assert actuator.settings is not None
            velocity = actuator.settings.child("velocity")
            assert velocity is not None
            self.assertEqual(velocity.value, 3.0)

    async def test_frames(self) -> None:
        axes = (Axis("y", "um", np.arange(300)), Axis("x", "mm", np.arange(400)))
        image = LabeledArray(np.arange(120_000, dtype="<u2").reshape(300, 400), "i", "V", axes)
        for generation in Generation:
            eye = Eye()
            modules, _ = await self.meet(eye, generation)
            grabber = await modules.grabber()
            for data in (2.5, np.arange(5.0), image, np.zeros((2, 3, 4), "<i4")):
                eye.gives = data
                frame = await grabber.grab("2D")
                (found,) = frame.data
                expected = np.atleast_1d(np.asarray(data))
                self.assertTrue(np.array_equal(found.data[0], expected), generation)
                self.assertEqual(found.data[0].dtype, expected.dtype)
            eye.gives = image
            (found,) = (await grabber.grab("2D")).data
            labels = sorted((axis.index, axis.label, axis.units) for axis in found.axes)
            self.assertEqual(labels, [(0, "y", "um"), (1, "x", "mm")])
