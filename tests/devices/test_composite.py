"""Devices made of parameters and commands of others."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.config import parse_config
from labnet.device import Device, command, parameter
from labnet.devices.composite import PATIENCE, Composite, Relayed, combined, relayed
from labnet.devices.formula import Formula
from labnet.errors import DeviceFault, LabError, Locked, NotConnected, NotWritable, OutOfRange
from labnet.inifile import ConfigError
from labnet.lab import Lab
from labnet.locks import Mode
from labnet.registry import ParameterNode
from labnet.session import Session
from labnet.updates import Update
from labnet.values import FLOAT, INT, Limits


class Stage(Device):
    """Moves."""

    position = parameter(float, unit="mm", limits=(0, 100), help="where it is")
    steps = parameter(int, limits=(0, 1000))
    homed = 0

    @command
    def home(self, slowly: bool = False) -> str:
        self.homed += 1
        self.position = 0.0
        return "slowly" if slowly else "quickly"

    @command
    def stop(self) -> None: ...


class Guarded(Stage):
    """Has locks of its own."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def locked(self, path: str, holder: str, wait: float) -> None:
        self.told.append(f"locked {path}")

    def unlocked(self, path: str) -> None:
        self.told.append(f"unlocked {path}")


class Meter(Device):
    """Is read."""

    power = parameter(float, unit="W", access="r")
    label = parameter(choices=("A", "B"), initial="A")
    trace = parameter(initial=None)


class Goniometer(Composite):
    """As a class."""

    angle = combined("stage.position * 3.6", unit="deg")
    turn_home = relayed("stage.home")
    fixed = parameter(float, initial=7.0)


def section(**texts: str) -> Composite:
    """A composite as a section makes it."""
    found = {name: Formula.from_text(text) for name, text in texts.items()}
    return Composite(parameter=found)


class CompositeCase(SynchronousTestCase):
    """A lab with a stage and a meter."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.lab = Lab(self.clock)
        self.addCleanup(self.lab.stop)
        self.stage, self.meter = Stage(), Meter()
        self.lab.attach("stage", self.stage)
        self.lab.attach("meter", self.meter)

    def add(self, device: Device, name: str = "it") -> Session:
        self.lab.attach(name, device)
        return self.client(name)

    def client(self, name: str = "it") -> Session:
        return self.lab.open_session("test", "here", device=name)

    def get(self, session: Session, name: str) -> Any:
        return self.successResultOf(session.get(name)).value

    def spec(self, session: Session, name: str) -> Any:
        node = session.resolve(name)
        assert isinstance(node, ParameterNode)
        return node.spec


class ValueTests(CompositeCase):
    """Reading, writing, calling."""

    def test_a_linear_one(self) -> None:
        session = self.add(section(angle="stage.position * 3.6, deg"))
        self.stage.position = 10.0
        self.assertEqual(self.get(session, "angle"), 36.0)
        reading = self.successResultOf(session.set("angle", 72))
        self.assertEqual((reading.value, self.stage.position), (72.0, 20.0))
        spec = self.spec(session, "angle")
        self.assertEqual((spec.unit, spec.kind, spec.access), ("deg", FLOAT, "rw"))
        self.assertEqual((spec.limits.low, spec.limits.high), (0.0, 360.0))
        self.failureResultOf(session.set("angle", 400), OutOfRange)

    def test_limits_turn_round(self) -> None:
        session = self.add(section(depth="50 - stage.position"))
        self.assertEqual(self.spec(session, "depth").limits, Limits(-50.0, 50.0))
        self.successResultOf(session.set("depth", 20.0))
        self.assertEqual(self.stage.position, 30.0)

    def test_a_value_beyond_all_numbers(self) -> None:
        self.stage.change("steps", limits=None)
        session = self.add(section(tiny="stage.steps * 1e-300"))
        error = self.failureResultOf(session.set("tiny", 1e300), LabError).value
        self.assertNotIn("cannot convert", str(error))
        self.assertEqual(self.stage.steps, 0)

    def test_a_name_alone(self) -> None:
        session = self.add(section(where="stage.position", which="meter.label", n="stage.steps"))
        spec = self.spec(session, "where")
        self.assertEqual((spec.unit, spec.limits, spec.help), ("mm", Limits(0, 100), "where it is"))
        self.assertEqual(list(self.spec(session, "which").choices), ["A", "B"])
        self.successResultOf(session.set("which", "B"))
        self.assertEqual(self.meter.label, "B")
        self.assertIs(self.spec(session, "n").kind, INT)

    def test_whole_numbers_stay_whole(self) -> None:
        session = self.add(section(turns="stage.steps / 200"))
        self.successResultOf(session.set("turns", 1.5))
        self.assertEqual(self.stage.steps, 300)

    def test_of_several(self) -> None:
        session = self.add(section(ratio="meter.power / stage.position"))
        self.stage.position = 4.0
        self.meter.store("power", 2.0)
        self.assertEqual(self.get(session, "ratio"), 0.5)
        self.failureResultOf(session.set("ratio", 1.0), NotWritable)

    def test_what_cannot_be_written_cannot_be_written_through_it(self) -> None:
        session = self.add(section(milli="meter.power * 1000, mW"))
        self.failureResultOf(session.set("milli", 1.0), NotWritable)

    def test_commands(self) -> None:
        session = self.add(Composite(command={"go": Relayed.from_text("stage.home")}))
        self.assertEqual(self.successResultOf(session.call("go", slowly=True)), "slowly")
        self.assertEqual(self.stage.homed, 1)
        self.failureResultOf(session.call("go", 1, 2), LabError)

    def test_a_class(self) -> None:
        session = self.add(Goniometer())
        self.stage.position = 5.0
        self.assertEqual(self.get(session, "angle"), 18.0)
        self.assertEqual(self.get(session, "fixed"), 7.0)
        self.assertEqual(self.successResultOf(session.call("turn_home")), "quickly")

    def test_a_class_with_other_parts(self) -> None:
        other = Stage()
        self.lab.attach("stage2", other)
        session = self.add(Goniometer(part={"stage": "stage2"}))
        other.position = 10.0
        self.assertEqual(self.get(session, "angle"), 36.0)
        self.successResultOf(session.set("angle", 18.0))
        self.assertEqual((other.position, self.stage.position), (5.0, 0.0))

    def test_of_a_composite(self) -> None:
        self.add(section(angle="stage.position * 3.6"), "first")
        session = self.add(section(radians="radians(first.angle)", half="first.angle / 2"))
        self.successResultOf(session.set("half", 18.0))
        self.assertEqual(self.stage.position, 10.0)
        self.assertAlmostEqual(self.get(session, "radians"), 0.6283185307)

    def test_errors_keep_their_words(self) -> None:
        session = self.add(section(twice="meter.label * 2"))
        failure = self.failureResultOf(session.get("twice"), DeviceFault)
        self.assertIn("meter.label is 'A', no number", str(failure.value))


class LockTests(CompositeCase):
    """Locks reach the parts, and those of the parts reach the composite."""

    def setUp(self) -> None:
        super().setUp()
        self.mine = self.add(section(angle="stage.position * 3.6", power="meter.power"))
        self.other = self.client("stage")

    def test_a_locked_part(self) -> None:
        self.successResultOf(self.other.lock(["stage.position"]))
        failure = self.failureResultOf(self.mine.set("angle", 36.0), Locked)
        self.assertIn("stage.position", str(failure.value))
        self.assertEqual(self.get(self.mine, "angle"), 0.0)  # reads are open
        self.assertEqual(self.get(self.mine, "power"), 0.0)
        self.other.unlock()
        self.successResultOf(self.mine.set("angle", 36.0))

    def test_its_own_locks_of_parts_count(self) -> None:
        self.successResultOf(self.mine.lock(["stage"]))
        self.successResultOf(self.mine.set("angle", 36.0))
        self.assertEqual(self.stage.position, 10.0)

    def test_a_lock_reaches_the_parts(self) -> None:
        self.successResultOf(self.mine.lock(["it"]))
        self.failureResultOf(self.other.set("position", 5.0), Locked)
        self.failureResultOf(self.other.call("home"), Locked)
        self.successResultOf(self.other.set("steps", 5))  # is no part of it
        paths = [hold.path for hold in self.mine.holdings()]
        self.assertEqual(sorted(paths), ["it", "meter.power", "stage.position"])
        self.mine.unlock(["it"])
        self.assertEqual(self.mine.holdings(), [])
        self.successResultOf(self.other.set("position", 5.0))

    def test_one_parameter_reaches_its_own_parts(self) -> None:
        self.successResultOf(self.mine.lock(["it.power"]))
        self.successResultOf(self.other.set("position", 5.0))
        self.mine.unlock(["it.power"])

    def test_all_or_nothing(self) -> None:
        self.successResultOf(self.other.lock(["meter"]))
        self.failureResultOf(self.mine.lock(["it"]), Locked)
        self.assertEqual(self.mine.holdings(), [])
        self.successResultOf(self.other.set("position", 5.0))

    def test_shared_and_one_by_one(self) -> None:
        self.successResultOf(self.mine.lock(["it"], mode=Mode.SHARED, key="k"))
        self.failureResultOf(self.other.set("position", 5.0), Locked)
        self.assertIsNotNone(self.mine.release_one("it"))
        self.assertEqual(self.mine.holdings(), [])

    def test_a_client_that_goes_frees_the_parts(self) -> None:
        self.successResultOf(self.mine.lock(["it"]))
        self.mine.close()
        self.successResultOf(self.other.set("position", 5.0))

    def test_a_lock_taken_while_the_part_is_busy(self) -> None:
        """The part asks again, when it takes the call up, whether the client may."""
        slow: Deferred[float] = Deferred()
        blocker = self.lab.devices()["stage"].device_queue
        held = blocker.run(
            lambda: slow, caller=self.other, verb="call", needs=(), what="busy", timeout=None
        )
        mine = self.mine.set("angle", 36.0)
        self.assertNoResult(mine)
        self.successResultOf(self.other.lock(["stage.position"]))
        slow.callback(1.0)
        self.successResultOf(held)
        self.failureResultOf(mine, Locked)
        self.assertEqual(self.stage.position, 0.0)


class UpdateTests(CompositeCase):
    """Updates follow the parts."""

    def heard(self, session: Session) -> list[Update]:
        updates: list[Update] = []
        session.subscribe(["it"], updates.extend)
        self.clock.advance(0)
        updates.clear()
        return updates

    def told(self, updates: list[Update]) -> list[tuple[str, str, Any]]:
        self.clock.advance(0)
        self.clock.advance(0)
        found = [(it.path, it.what, it.reading and it.reading.value) for it in updates]
        updates.clear()
        return found

    def test_values(self) -> None:
        session = self.add(section(angle="stage.position * 3.6"))
        updates = self.heard(session)
        self.stage.position = 10.0
        self.assertEqual(self.told(updates), [("it.angle", "value", 36.0)])
        self.successResultOf(self.client("stage").set("position", 20.0))
        self.assertEqual(self.told(updates), [("it.angle", "value", 72.0)])

    def test_metadata(self) -> None:
        session = self.add(section(where="stage.position", angle="stage.position * 2, deg"))
        updates = self.heard(session)
        self.stage.change("position", unit="um", limits=(0, 10))
        told = {(path, what) for path, what, _ in self.told(updates)}
        self.assertEqual(told, {("it.where", "metadata"), ("it.angle", "metadata")})
        self.assertEqual(self.spec(session, "where").unit, "um")
        self.assertEqual(self.spec(session, "angle").unit, "deg")
        self.assertEqual(self.spec(session, "angle").limits, Limits(0.0, 20.0))
        self.stage.change("position", limits=None)
        self.told(updates)
        self.assertIsNone(self.spec(session, "angle").limits)

    def test_a_value_of_a_part_that_goes(self) -> None:
        session = self.add(section(angle="stage.position * 3.6", gain="meter.power * 2"))
        updates = self.heard(session)
        self.stage.position = 10.0
        self.lab.detach("stage")
        self.meter.store("power", 4.0)
        self.clock.advance(0)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertIn(("it.gain", "value", 8.0), self.told(updates))

    def test_a_part_that_is_lost(self) -> None:
        session = self.add(section(angle="stage.position * 3.6"))
        updates = self.heard(session)
        node = self.lab.devices()["stage"]
        self.lab.lose(node, "unplugged")
        self.assertIn(("it.angle", "lost", None), self.told(updates))
        failure = self.failureResultOf(session.get("angle"), NotConnected)
        self.assertIn("stage is not connected: unplugged", str(failure.value))


class PartsTests(CompositeCase):
    """Parts that come and go."""

    def test_a_part_that_comes_later(self) -> None:
        session = self.add(section(gain="amplifier.gain * 2"))
        pending = session.describe()
        self.assertNotIn("gain", pending.children)  # type: ignore[union-attr]
        amplifier = Device()
        amplifier.add_parameter("gain", float, initial=3.0)
        self.lab.attach("amplifier", amplifier)
        self.assertEqual(self.get(session, "gain"), 6.0)

    def test_a_part_that_does_not_come(self) -> None:
        session = self.add(section(gain="amplifier.gain * 2"))
        self.clock.advance(PATIENCE)
        failure = self.failureResultOf(session.get("gain"), LabError)
        self.assertIn("amplifier.gain is not in the lab", str(failure.value))
        self.assertIn("amplifier", str(self.unavailable()))

    def test_a_part_that_goes_and_comes_again(self) -> None:
        session = self.add(section(angle="stage.position * 3.6"))
        self.successResultOf(session.set("angle", 36.0))
        self.lab.detach("stage")
        failure = self.failureResultOf(session.get("angle"), NotConnected)
        self.assertIn("stage", str(failure.value))
        again = Stage()
        self.lab.attach("stage", again)
        self.successResultOf(session.set("angle", 72.0))
        self.assertEqual(again.position, 20.0)

    def test_a_lock_reaches_the_part_that_comes_again(self) -> None:
        mine = self.add(section(angle="stage.position * 3.6"))
        self.successResultOf(mine.lock(["it"], lease=100.0))
        self.lab.detach("stage")
        self.lab.attach("stage", Stage())
        other = self.client("stage")
        self.failureResultOf(other.set("position", 5.0), Locked)
        self.successResultOf(mine.set("angle", 36.0))
        self.clock.advance(100.0)
        self.successResultOf(other.set("position", 5.0))
        mine.close()

    def test_and_the_lock_that_such_a_part_has_itself(self) -> None:
        mine = self.add(section(angle="stage.position * 3.6"))
        self.successResultOf(mine.lock(["it"]))
        self.lab.detach("stage")
        guarded = Guarded()
        self.lab.attach("stage", guarded)
        self.assertEqual(guarded.told, ["locked position"])
        mine.unlock()
        self.assertEqual(guarded.told, ["locked position", "unlocked position"])

    def test_what_is_no_parameter(self) -> None:
        self.add(section(bad="stage.home + 1"))
        self.clock.advance(PATIENCE)
        self.assertIn("stage.home is no parameter", str(self.unavailable()))

    def unavailable(self) -> str | None:
        return self.lab.devices()["it"].device_queue.unavailable


class SectionTests(SynchronousTestCase):
    """``driver = composite``"""

    TEXT = (
        "[device it]\ndriver = composite\nparameter angle = stage.position * 3.6, deg\n"
        "command home = stage.home\n[device stage]\ndriver = simulated.stage\n"
    )

    def test_order(self) -> None:
        config = parse_config(self.TEXT)
        self.assertEqual([device.name for device in config.devices], ["stage", "it"])
        self.assertIsInstance(config.devices[1].make(), Composite)

    def refused(self, old: str, new: str) -> str:
        self.assertIn(old, self.TEXT)
        return str(self.assertRaises(ConfigError, parse_config, self.TEXT.replace(old, new)))

    def test_mistakes(self) -> None:
        for old, new, said in (
            ("= stage.position", "= stag.position",
             "3: [device it] parameter angle: there is no device 'stag'; did you mean 'stage'?"),
            ("* 3.6", "* * 3.6", "3: [device it] parameter angle: 'stage.position * * 3.6' is no"),
            ("* 3.6", "+ exec(1)", "3: [device it] parameter angle: 'exec' is no function"),
            ("= stage.home", "= stage", "4: [device it] command home: 'stage' is no command"),
            ("angle =", "1st =", "3: [device it] '1st' is no name"),
            ("= stage.position", "= it.angle", "'it' needs this device in its turn"),
        ):  # fmt: skip
            self.assertIn(said, self.refused(old, new))

    def test_of_clients_that_are_devices(self) -> None:
        serve = "[serve modules]\nwire = pymodaq\nactuators = rotor\n"
        device = "[device it]\ndriver = composite\nparameter angle = rotor.position * 3.6\n"
        for text in (serve + device, device + serve):
            (it,) = parse_config(text).devices
            self.assertIsInstance(it.make(), Composite)
        wrong = device.replace("rotor", "roto") + serve
        error = self.assertRaises(ConfigError, parse_config, wrong)
        self.assertIn("no device 'roto'; did you mean 'rotor'?", str(error))

    def test_nothing_in_it(self) -> None:
        text = "[device it]\ndriver = composite\n"
        (device,) = parse_config(text).devices
        error = self.assertRaises(ConfigError, device.make)
        self.assertIn("neither a parameter nor a command", str(error))
