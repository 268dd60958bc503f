"""A whole lab of modules: sections that name them before any has come, and reloading."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from labnet.config import parse_config
from labnet.inifile import ConfigError
from labnet.service import LabService
from labnet.wires.pymodaq import offer

MODULES = "[serve modules]\nwire = pymodaq\nlisten = tcp:0\nactuators = {}\n"
TSV = "[serve {0}-tsv]\nwire = tsv\nlisten = tcp:0\ndevice = {0}\n"


class Motor:
    """An object that is offered as a module."""

    units = "deg"
    position = 1.5

    def move_abs(self, angle: float) -> None:
        self.position = angle


class ServiceTests(TestCase):
    """On the real reactor; nothing but the listeners' own sockets."""

    timeout = 30

    async def started(self, text: str) -> LabService:
        service = LabService(parse_config(text))
        service.startService()
        self.addCleanup(service.stopService)
        await service.starting
        self.assertTrue(all(it.listener is not None for it in service.listeners()))
        return service

    def names(self, service: LabService) -> list[str]:
        assert service.lab is not None
        return sorted(service.lab.devices())

    async def test_served_before_it_comes_whatever_the_order(self) -> None:
        service = await self.started(TSV.format("rotor") + MODULES.format("rotor"))
        self.assertEqual(self.names(service), ["rotor"])

    async def test_reloaded(self) -> None:
        service = await self.started(MODULES.format("rotor"))
        more = TSV.format("slide") + MODULES.format("rotor, slide")
        self.assertEqual(await service.reload(parse_config(more)), [])
        self.assertEqual(self.names(service), ["rotor", "slide"])
        self.assertEqual(await service.reload(parse_config(MODULES.format("slide"))), [])
        self.assertEqual(self.names(service), ["slide"])

    async def test_a_module_stays_through_what_does_not_concern_it(self) -> None:
        service = await self.started(MODULES.format("rotor"))
        assert service.lab is not None
        listener = service.listeners()[0].listener
        there: Deferred[object] = Deferred()
        session = service.lab.open_session("test", "here", timeout=10.0)

        def told(updates: list[object]) -> None:
            if any(getattr(update, "what", "") == "back" for update in updates):
                there.callback(None)

        session.subscribe(["rotor"], told)
        port = listener.port.getHost().port  # type: ignore[union-attr]
        offered = offer(Motor(), f"127.0.0.1:{port}", generation="C4")
        offered.startService()
        self.addCleanup(offered.stopService)
        await there
        self.assertEqual(await session.call("rotor.move_abs", 12.5), 12.5)
        more = parse_config(MODULES.format("rotor") + TSV.format("rotor"))
        self.assertEqual(await service.reload(more), [])
        self.assertEqual((await session.get("rotor.position")).value, 12.5)


class ConfigTests(SynchronousTestCase):
    """What a section for modules may say."""

    def refused(self, text: str) -> str:
        return str(self.assertRaises(ConfigError, parse_config, text))

    def test_names(self) -> None:
        self.assertIn("stands there twice", self.refused(MODULES.format("rotor, rotor")))
        self.assertIn("is no name", self.refused(MODULES.format("no name")))
        both = "[device rotor]\ndriver = simulated.stage\n" + MODULES.format("rotor")
        self.assertIn("already a device called rotor", self.refused(both))

    def test_it_serves_no_device(self) -> None:
        for key in ("device", "devices"):
            text = MODULES.format("rotor") + f"{key} = rotor\n"
            self.assertIn("serves none", self.refused(text))

    def test_a_lab_of_nothing_but_modules(self) -> None:
        config = parse_config(MODULES.format("rotor, slide@10.0.0.1") + TSV.format("slide"))
        self.assertEqual([serve.device for serve in config.serves], [None, "slide"])
        self.assertEqual(list(config.serves[0].brought()), ["rotor", "slide"])
        self.assertEqual(dict(config.serves[1].brought()), {})

    def test_keys(self) -> None:
        text = MODULES.format("rotor") + "generation = E\n"
        self.assertIn("generation", self.refused(text))
        text = MODULES.format("rotor") + TSV.format("rotator")
        self.assertIn("no device 'rotator'", self.refused(text))
