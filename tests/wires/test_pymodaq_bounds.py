"""What a module may make labnet keep, or work at: shapes, labels, literals, names, lines, trees."""

from __future__ import annotations

from struct import pack
from typing import Any

import numpy as np
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import TimedOut
from labnet.lab import Lab, ServeOptions
from labnet.values import Limits
from labnet.wires.pymodaq.codec import (
    FROM_HARDWARE,
    Axis,
    Data,
    DataToExport,
    Decoder,
    Done,
    Generation,
    Info,
    InfoXml,
    Malformed,
    encode_bytes,
    read_settings,
)
from labnet.wires.pymodaq.framed import put_unit
from labnet.wires.pymodaq.frames import MAX_LABEL, from_frame
from labnet.wires.pymodaq.module import MAX_HELD, MAX_INFO, MAX_INFO_NAME, MAX_INFOS
from labnet.wires.pymodaq.panel import MAX_SHOWN, valid_name
from labnet.wires.pymodaq.primitives import MAX_COUNT, MAX_EMPTY, Parts
from labnet.wires.pymodaq.server import Options, listen
from labnet.wires.pymodaq.settings import MAX_DEPTH, MAX_ELEMENTS, MAX_LITERALS, MAX_XML
from tests.wires.pymodaq_module import SETTINGS, FakeModule

HUGE = "1" + "0" * 400


def word(text: str) -> bytes:
    return pack(">I", len(text)) + text.encode()


def empty(*shape: int) -> bytes:
    """A frame of generation B: an array without numbers."""
    sizes = pack(f">{len(shape) + 2}I", 0, len(shape), *shape)
    return word("GRABBER") + word("Done") + pack(">I", 1) + word("array") + word("<f8") + sizes


class CodecTests(SynchronousTestCase):
    def fault(self, data: bytes) -> str:
        decoder = Decoder(FROM_HARDWARE)
        decoder.feed(data)
        return decoder.fault

    def test_sizes_of_arrays_without_numbers(self) -> None:
        for shape in ((0,), (0, MAX_EMPTY), (3, 0), (0,) * 16):
            self.assertEqual(self.fault(empty(*shape)), "", shape)
        most = (1 << 32) - 1
        for shape in ((0, MAX_EMPTY + 1), (0, most), (most, most, 0), (0, *[most] * 5)):
            self.assertIn("in 0 bytes", self.fault(empty(*shape)), shape)

    def test_rows_and_columns_without_numbers(self) -> None:
        head = word("GRABBER") + word("Done") + pack(">I", 1) + word("<f8")
        self.assertEqual(self.fault(head + pack(">3I", 0, 0, 7)), "")
        self.assertIn("in 0 bytes", self.fault(head + pack(">3I", 0, 0, (1 << 32) - 1)))

    def test_lines_of_information_are_texts(self) -> None:
        for value, fine in (("text", True), (b"text", False), (2.5, True), ([np.zeros(3)], False)):
            parts: Parts = []
            for unit in ("GRABBER", "Info", "name", value):
                put_unit(parts, unit)
            self.assertEqual(not self.fault(b"".join(parts)), fine, value)


class FrameTests(SynchronousTestCase):
    def test_labels_of_many_channels(self) -> None:
        arrays = tuple(np.zeros(1) for _ in range(MAX_COUNT))
        labels = ("a" * 65536, *(["b"] * (MAX_COUNT - 1)))
        frame: Any = from_frame(DataToExport("", (Data("x", arrays, labels=labels),)))
        self.assertEqual(frame.axes[0].values[:2].tolist(), ["a" * MAX_LABEL, "b"])
        self.assertLessEqual(frame.axes[0].values.nbytes, 4 * MAX_LABEL * MAX_COUNT)


class SettingsTests(SynchronousTestCase):
    def test_literals_are_read_up_to_a_size(self) -> None:
        count = MAX_LITERALS // 2 - 9
        texts = {"a": "[3]", "b": "[" + "1," * count + "]", "c": "[4]"}
        settings = "".join(
            f"<{name} type='itemselect' limits='[1, 2]'>{text}</{name}>"
            for name, text in texts.items()
        )
        tree = read_settings(f"<s>{settings}</s>")
        self.assertEqual([it.value for it in tree.children], [[3], [1] * count, None])
        self.assertEqual([it.limits for it in tree.children], [[1, 2], [1, 2], None])

    def test_numbers_beyond_all_others(self) -> None:
        self.assertIsNone(read_settings(f"<s type='int'>{HUGE}</s>").value)
        self.assertIsNone(read_settings("<s type='int'>1e300</s>").value)
        self.assertEqual(read_settings(f"<s type='int'>{1 << 62}</s>").value, 1 << 62)

    def test_the_size_of_a_tree(self) -> None:
        read_settings("<s>" + "<a/>" * (MAX_ELEMENTS - 1) + "</s>").check_size()
        leaf = read_settings("<s><a/></s>")
        wide = leaf.changed(("a",), read_settings("<a>" + "<b/>" * (MAX_ELEMENTS - 1) + "</a>"))
        self.assertRaises(Malformed, wide.check_size)
        nested = "<a>" * (MAX_DEPTH - 1) + "<b/>" + "</a>" * (MAX_DEPTH - 1)
        read_settings(nested).check_size()
        self.assertRaises(Malformed, leaf.changed(("a",), read_settings(nested)).check_size)

    def test_many_names_alike(self) -> None:
        taken: dict[str, None] = {}
        numbers: dict[str, int] = {}
        for text in ("a.b", "a-b", "a_b", "a_b_2", "a b"):
            taken[valid_name(text, taken, numbers)] = None
        self.assertEqual(list(taken), ["a_b", "a_b_2", "a_b_3", "a_b_2_2", "a_b_4"])


class ModuleTests(SynchronousTestCase):
    """Through the lab."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.lab = Lab(self.reactor, self.reactor)
        self.session = self.lab.open_session("test", "here", timeout=3.0)
        options = Options(actuators=("stage",), grabbers=("camera",))
        self.successResultOf(Deferred.fromCoroutine(
            listen(self.lab, "tcp:6341", ServeOptions("modules"), options, self.reactor)
        ))  # fmt: skip
        self.factory = self.reactor.tcpServers[-1][1]

    def stage(self, settings: str | None = SETTINGS, **about: Any) -> FakeModule:
        fake = FakeModule(self.factory, settings=settings, **about)
        fake.answer_questions()
        return fake

    def device(self, name: str = "stage") -> Any:
        return self.lab.devices()[name].device

    def test_limits_beyond_all_others(self) -> None:
        self.stage(f"<s><epsilon type='list'>int({HUGE})</epsilon>"
                   f"<a type='float' limits='[0, {HUGE}]'>1</a></s>")  # fmt: skip
        self.assertEqual(self.device().settings.members["a"].spec.limits, Limits(0.0, None))
        moved = self.session.call("stage.move_abs", 2.0)
        self.reactor.advance(1.0)
        self.assertNoResult(moved)

    def test_groups_that_are_shown(self) -> None:
        self.stage("<s>" + "<g type='group'/>" * (MAX_SHOWN + 5) + "</s>")
        self.assertEqual(len(self.device().settings.members), MAX_SHOWN)

    def test_a_tree_that_grows(self) -> None:
        fake = self.stage()
        nested = "<velocity>" * 16 + "<more/>" + "</velocity>" * 16
        fake.changes(("move_settings", "velocity"), nested)
        self.assertFalse(fake.dropped)
        fake.changes(("move_settings", *["velocity"] * 16, "more"), nested)
        self.assertTrue(fake.dropped)

    def test_a_setting_keeps_its_name(self) -> None:
        fake = self.stage()
        fake.changes(("move_settings", "velocity"), "<epsilon type='float'>3.5</epsilon>")
        members = self.device().settings.members
        values = [members[name].reading.value for name in ("epsilon", "velocity")]
        self.assertEqual(values, [0.01, 3.5])

    def test_one_change_of_settings_a_turn(self) -> None:
        """Each may show the whole tree anew; nobody else waits for more than one."""
        fake = self.stage()
        velocity = self.device().settings.members["velocity"]
        changes = [
            InfoXml(("s", "velocity"), f"<velocity type='float'>{n}</velocity>") for n in (7, 8, 9)
        ]
        fake.send(b"".join(encode_bytes(change, fake.generation) for change in changes))
        self.assertEqual(velocity.reading.value, 7.0)
        self.reactor.advance(0)
        self.assertEqual(velocity.reading.value, 9.0)

    def test_what_came_of_an_array(self) -> None:
        fake = FakeModule(self.factory, "GRABBER", Generation.B)
        head = word("Done") + pack(">I", 1) + word("array") + word("<f8")
        fake.send(head + pack(">3I", 32 << 20, 1, 4 << 20) + bytes(100))
        self.reactor.pump([1.0] * 12)
        self.assertTrue(fake.dropped)
        fake.vanish()
        self.assertIn("(100 bytes of it came)", self.device("camera")._why)

    def test_settings_that_grow(self) -> None:
        fake = self.stage("<s><a type='str'/><b type='str'/><c type='str'/></s>")
        long = "x" * (MAX_XML - 100)
        for path in ("a", "b", "a", "b", "a"):
            fake.changes(("s", path), f"<{path} type='str'>{long}</{path}>")
        self.assertFalse(fake.dropped)
        fake.changes(("s", "c"), f"<c type='str'>{long}</c>")
        self.assertTrue(fake.dropped)
        self.assertLess(2 * len(long), MAX_HELD)

    def test_lines_are_bounded(self) -> None:
        fake = self.stage()
        fake.say(Info("n" * 1000, "v" * 100_000))
        (found,) = self.device()._present.info.items()
        self.assertEqual([len(text) for text in found], [MAX_INFO_NAME, MAX_INFO])
        self.assertEqual([*self.device().info.members], ["n" * 64])

    def test_lines_of_modules_that_come_and_go(self) -> None:
        for visit in range(3):
            fake = self.stage()
            fake.say(*(Info(f"line{visit}x{number}", "") for number in range(MAX_INFOS - 1)))
            fake.say(Info("same", str(visit)))
            same = self.successResultOf(self.session.get("stage.info.same"))
            self.assertEqual(same.value, str(visit))
            self.assertEqual(len(self.device().info.members), MAX_INFOS)
            fake.vanish()

    def test_questions_that_nobody_answers(self) -> None:
        self.stage()
        module = self.device()._present
        for _ in range(20):
            asked = self.session.get("stage.position")
            self.reactor.pump([1.0] * 4)
            self.failureResultOf(asked, TimedOut)
        self.assertEqual((len(module._readers), len(module._waiting)), (0, 0))

    def test_an_axis_of_what_is_not_there(self) -> None:
        fake = FakeModule(self.factory, "GRABBER")
        axis = Axis("x", "", np.empty(0), 0)
        data = Data("x", (np.empty((0, 1 << 31)),), dim="Data2D", axes=(axis,))
        fake.say(Done(DataToExport("", (data,))))
        self.assertTrue(fake.dropped)
