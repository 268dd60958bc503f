"""Keys for the classes of users, and what is said of wrong ones."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.config import parse_config
from labnet.constructors import arguments_of, load_class
from labnet.inifile import ConfigError
from tests.devices import own_classes

OWN = "tests.devices.own_classes"


class ArgumentTests(SynchronousTestCase):
    """The arguments of a constructor."""

    def names(self, target: Any) -> list[str]:
        return [option.name for option in arguments_of(target).options]

    def test_annotated(self) -> None:
        delay, pin = arguments_of(own_classes.Shutter).options
        self.assertEqual((delay.name, delay.type, delay.required), ("delay", float, True))
        self.assertEqual(delay.help, "how long it takes, in s.")
        self.assertEqual((pin.name, pin.default), ("pin", 3))

    def test_those_of_the_bases(self) -> None:
        found = arguments_of(own_classes.Logged)
        names = ["folder", "timeout", "port", "name", "gain", "unit", "raw"]
        self.assertEqual([option.name for option in found.options], names)
        self.assertFalse(found.open)
        self.assertEqual(found.required, {"folder", "port", "name"})

    def test_open_ended(self) -> None:
        self.assertTrue(arguments_of(own_classes.Open).open)

    def test_a_function(self) -> None:
        self.assertEqual(self.names(own_classes.make_meter), ["gain"])

    def test_no_arguments(self) -> None:
        self.assertEqual(self.names(own_classes.Asynchronous), [])
        self.assertEqual(self.names(dict), [])

    def test_what_no_text_can_stand_for(self) -> None:
        error = self.assertRaises(ValueError, arguments_of, own_classes.NeedsHead)
        self.assertIn("'head' is a Meter, which no text can stand for", str(error))

    def test_anything_may_be_written_where_types_are_loose(self) -> None:
        self.assertEqual(self.names(own_classes.Optional), ["hook", "head"])


class LoadTests(SynchronousTestCase):
    """From a dotted name to a class."""

    def refused(self, target: str, folder: Path | None = None) -> str:
        return str(self.assertRaises(ValueError, load_class, target, folder))

    def write(self, name: str, text: str) -> Path:
        folder = Path(cast(Any, self).mktemp())
        folder.mkdir()
        folder = folder.resolve()
        (folder / f"{name}.py").write_text(text)
        self.addCleanup(sys.modules.pop, name, None)
        self.addCleanup(lambda: sys.path.remove(str(folder)))
        return folder

    def test_a_class(self) -> None:
        self.assertIs(load_class(f"{OWN}.Meter"), own_classes.Meter)

    def test_beside_the_configuration(self) -> None:
        folder = self.write("labnet_test_gauges", "class Gauge:\n    pass\n")
        self.assertEqual(load_class("labnet_test_gauges.Gauge", folder).__name__, "Gauge")
        self.assertIn(
            "has no class 'Guage'; did you mean 'Gauge'?",
            self.refused("labnet_test_gauges.Guage", folder),
        )
        self.assertEqual(
            self.refused("labnet_test_gauge.Gauge", folder),
            "there is no module 'labnet_test_gauge'; did you mean 'labnet_test_gauges'?",
        )

    def test_missing(self) -> None:
        self.assertEqual(
            self.refused("tests.devices.own_clases.Meter"),
            "there is no module 'tests.devices.own_clases'; did you mean 'own_classes'?",
        )
        self.assertIn("own_classes.py has no class 'Metre'", self.refused(f"{OWN}.Metre"))
        self.assertIn("did you mean 'Meter'?", self.refused(f"{OWN}.Metre"))
        self.assertIn("'NUMBER' in", self.refused(f"{OWN}.NUMBER"))
        self.assertIn("is no class", self.refused(f"{OWN}.NUMBER"))

    def test_no_dotted_name(self) -> None:
        for wrong in ("Meter", "a..b", "a.b-c", ".a", "a."):
            self.assertIn("is no dotted name", self.refused(wrong))

    def test_a_module_with_mistakes(self) -> None:
        folder = self.write("labnet_test_broken", "x = 1\ny = 1 / 0\n")
        said = self.refused("labnet_test_broken.Gauge", folder)
        self.assertIn("labnet_test_broken cannot be imported: ZeroDivisionError", said)
        self.assertIn("labnet_test_broken.py line 2", said)

    def test_a_module_that_needs_another(self) -> None:
        folder = self.write("labnet_test_needs", "import labnet_test_absent\n")
        self.assertEqual(
            self.refused("labnet_test_needs.Gauge", folder),
            "labnet_test_needs needs the Python package labnet_test_absent, not installed",
        )


class SectionTests(SynchronousTestCase):
    """``[device NAME]`` with a class of the user's."""

    def device(self, text: str) -> Any:
        (config,) = parse_config(f"[device meter]\n{text}\n").devices
        return config

    def made(self, text: str) -> Any:
        """The object behind the device, made as when it is opened."""
        device = self.device(text).make()
        device.connect()
        return device.item

    def refused(self, text: str) -> str:
        return str(self.assertRaises(ConfigError, self.device, text))

    def test_by_the_dotted_name(self) -> None:
        meter = self.made(f"driver = {OWN}.Meter\nport = COM3\ngain = 2\nunit = dbm")
        self.assertEqual((meter.port, meter.name, meter.gain), ("COM3", "meter", 2.0))
        self.assertIs(meter.unit, own_classes.Unit.DBM)

    def test_by_the_key_class(self) -> None:
        meter = self.made(f"driver = object\nclass = {OWN}.Meter\nport = x\nname = y\nraw = [1, 2]")
        self.assertEqual((meter.port, meter.name, meter.raw), ("x", "y", [1, 2]))

    def test_a_device_of_labnets_own_kind(self) -> None:
        config = self.device(f"driver = {OWN}.Shutter\ndelay = 0.5\nalias = S1")
        clock = Clock()
        shutter = config.make(clock=clock)
        self.assertIsInstance(shutter, own_classes.Shutter)
        self.assertEqual((shutter.wait, shutter.pin, shutter.clock), (0.5, 3, clock))
        self.assertEqual(shutter.aliases, ("S1",))

    def test_a_function(self) -> None:
        made = len(own_classes.Meter.made)
        device = self.device(f"driver = {OWN}.make_meter\ngain = 4").make()
        self.assertEqual(len(own_classes.Meter.made), made)  # not before it is opened
        self.assertIn("power", device.members)
        device.connect()
        self.assertEqual(device.item.gain, 4.0)

    def test_a_function_that_does_not_say_what_it_makes(self) -> None:
        device = self.device(f"driver = {OWN}.make_something\ngain = 4").make()
        self.assertEqual(device.item.gain, 4.0)

    def test_arguments_of_base_classes_and_names_that_are_taken(self) -> None:
        text = f"driver = {OWN}.Logged\nfolder = ~/log\nport = a\ntimeout = 3\nargument timeout = 5"
        self.assertEqual(self.device(text).keys.timeout, 3)
        logged = self.made(text)
        self.assertEqual((logged.timeout, logged.port), (5.0, "a"))
        self.assertEqual(logged.folder, Path("~/log").expanduser())

    def test_lists(self) -> None:
        made = self.made(f"driver = {OWN}.Lists\nnames = a, b\ncounts = 1, 2\nplaces = 0.5,\n  1.5")
        self.assertEqual(made.given, (("a", "b"), [1, 2], (0.5, 1.5)))

    def test_arguments_of_any_name(self) -> None:
        made = self.made(f"driver = {OWN}.Open\nargument speed = 9600\nargument word = a b")
        self.assertEqual(made.anything, {"speed": 9600, "word": "a b"})

    def test_mistakes_name_file_line_section_and_key(self) -> None:
        for text, said in (
            (f"driver = {OWN}.Meter", "1: [device meter] the key 'port' is missing"),
            (
                f"driver = {OWN}.Meter\nprot = a",
                "3: [device meter] unknown key 'prot'; did you mean 'port'?",
            ),
            (
                f"driver = {OWN}.Meter\nport = a\ngain = high",
                "4: [device meter] gain: 'high' is not a number",
            ),
            (
                f"driver = {OWN}.Meter\nport = a\nunit = V",
                "4: [device meter] unit: 'V' is not one of W, DBM",
            ),
            (
                f"driver = {OWN}.Meter\nport = a\nargument gian = 1",
                "4: [device meter] unknown argument 'gian'; did you mean 'gain'?",
            ),
            (
                f"driver = {OWN}.Metre",
                "has no class 'Metre'; did you mean 'Meter'?",
            ),
            ("driver = object", "1: [device meter] the key 'class' is missing"),
            (
                "driver = object\nclass = nowhere.Meter",
                "3: [device meter] class: there is no module 'nowhere'",
            ),
            (f"driver = {OWN}.NeedsHead", "2: [device meter] driver: the argument 'head'"),
        ):
            self.assertIn(said, self.refused(text))

    def test_a_constructor_that_fails(self) -> None:
        config = self.device(f"driver = {OWN}.make_meter\ngain = 1")
        self.patch(own_classes, "make_meter", lambda gain: 1 / 0)
        error = self.assertRaises(ConfigError, config.make)
        self.assertIn("the device cannot be made: division by zero", str(error))
