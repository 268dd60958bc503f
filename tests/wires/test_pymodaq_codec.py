"""PyMoDAQ's codec: any message of any generation in any split; lengths that lie; nonsense."""

from __future__ import annotations

import random
import tracemalloc
from itertools import pairwise
from struct import pack
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from twisted.trial.unittest import SynchronousTestCase

from labnet.wires.pymodaq.codec import (
    FROM_CONTROL,
    FROM_HARDWARE,
    Axis,
    Data,
    DataToExport,
    Decoder,
    Done,
    Generation,
    Identify,
    Message,
    PositionIs,
    Quit,
    SendData,
    encode,
    encode_bytes,
    position,
)
from labnet.wires.pymodaq.messages import (
    GetActuatorValue,
    Infos,
    InfoXml,
    MoveAbs,
    SetInfo,
    XAxis,
)
from labnet.wires.pymodaq.primitives import LARGE
from tests.wires.vectors import records

A, B, C1, C2, C3, C4, D = Generation

texts = st.text(max_size=8)
arrays = npst.arrays(
    st.sampled_from(["<f8", ">f8", "<u2", "|b1", "<c16", "<i4", "|u1"]),
    npst.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4),
)
numbers = st.floats(width=64) | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1)
axes = st.builds(
    Axis, texts, texts, npst.arrays("<f8", st.integers(1, 4)), st.integers(0, 3), st.integers(0, 1)
)
data = st.builds(
    Data,
    texts,
    st.lists(arrays, max_size=2).map(tuple),
    st.sampled_from(["DataFromPlugins", "DataRaw", "DataActuator"]),
    st.floats(0, 2e9),
    texts,
    st.sampled_from(["raw", "calculated"]),
    st.sampled_from(["Data0D", "Data1D", "Data2D", "DataND"]),
    st.just("uniform"),
    st.lists(texts, max_size=2).map(tuple),
    texts,
    st.lists(st.integers(0, 3), max_size=2).map(tuple),
    st.lists(axes, max_size=2).map(tuple),
    st.lists(arrays, max_size=1).map(tuple),
    st.dictionaries(texts, texts | numbers | arrays, max_size=2),
)
exports = st.builds(DataToExport, texts, st.lists(data, max_size=2).map(tuple), st.floats(0, 2e9))
paths = st.lists(texts, min_size=1, max_size=3).map(tuple)
from_hardware = (
    st.sampled_from([Identify("ACTUATOR"), Identify("GRABBER"), Quit(), SendData("2D")])
    | st.builds(Infos, texts)
    | st.builds(InfoXml, paths, texts)
    | st.builds(PositionIs, st.floats().map(position) | data)
    | st.builds(Done, exports)
)
from_control = (
    st.sampled_from([SendData("ND"), GetActuatorValue()])
    | st.builds(MoveAbs, st.floats().map(position))
    | st.builds(SetInfo, paths, texts)
)
generations = st.sampled_from(list(Generation))
cuts = st.lists(st.integers(0, 2000), max_size=10)


def written(messages: list[Message], generation: Generation) -> tuple[bytes, int]:
    """Those of the messages that the generation can say."""
    sent = b""
    count = 0
    for message in messages:
        try:
            sent += encode_bytes(message, generation)
            count += 1
        except ValueError:
            pass
    return sent, count


def feed(decoder: Decoder, sent: bytes, where: list[int]) -> list[Message]:
    """What comes of `sent`, cut at the places `where`."""
    bounds = [0, *sorted(min(cut, len(sent)) for cut in where), len(sent)]
    return [message for at, end in pairwise(bounds) for message in decoder.feed(sent[at:end])]


class AnySplitTests(SynchronousTestCase):
    @settings(max_examples=150, deadline=None)
    @given(st.lists(from_hardware, max_size=4), generations, cuts)
    def test_from_the_hardware_side(
        self, messages: list[Message], generation: Generation, where: list[int]
    ) -> None:
        self.check(messages, generation, where, FROM_HARDWARE)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(from_control, max_size=4), generations, cuts)
    def test_from_the_controlling_side(
        self, messages: list[Message], generation: Generation, where: list[int]
    ) -> None:
        self.check(messages, generation, where, FROM_CONTROL)

    def check(
        self, messages: list[Message], generation: Generation, where: list[int], words: Any
    ) -> None:
        sent, count = written(messages, generation)
        decoder = Decoder(words, {generation})
        found = feed(decoder, sent, where)
        self.assertEqual((decoder.fault, decoder.pending, len(found)), ("", 0, count))
        again = b"".join(encode_bytes(m, generation) for m in found)
        if generation.objects:
            self.assertEqual(again, sent)
        else:  # a bare number is read as Python has it, whatever its type was
            self.assertEqual(len(feed(Decoder(words, {generation}), again, where)), count)

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=200), cuts, generations | st.none())
    def test_nonsense(self, sent: bytes, where: list[int], generation: Generation | None) -> None:
        """The same in any split, and never more held than has come."""
        known = list(Generation) if generation is None else [generation]
        whole, split = Decoder(FROM_HARDWARE, known), Decoder(FROM_HARDWARE, known)
        self.assertEqual(len(feed(whole, sent, [])), len(feed(split, sent, where)))
        self.assertEqual(whole.fault, split.fault)

    def test_mutated_vectors(self) -> None:
        """Ten thousand of them: nothing but a fault or messages."""
        chance = random.Random(6341)
        recorded = [
            (bytes.fromhex(r["bytes"]), Generation[r["generation"]], r["direction"])
            for r in records("pymodaq")
            if r["direction"] != "either"
        ]
        for _ in range(10_000):
            sent, generation, direction = chance.choice(recorded)
            damaged = bytearray(sent)
            for _ in range(chance.randint(1, 6)):
                at = chance.randrange(len(damaged) + 1)
                change = chance.randrange(3)
                if change == 0 and at < len(damaged):
                    damaged[at] = chance.randrange(256)
                elif change == 1:
                    del damaged[at : at + chance.randint(1, 9)]
                else:
                    damaged[at:at] = chance.randbytes(chance.randint(1, 9))
            words = FROM_HARDWARE if direction == "c2s" else FROM_CONTROL
            known = chance.random() < 0.7
            decoder = Decoder(words, {generation} if known else Generation, 1 << 20)
            cut = chance.randrange(len(damaged) + 1)
            decoder.feed(bytes(damaged[:cut]))
            decoder.feed(bytes(damaged[cut:]))
            self.assertLessEqual(decoder.pending, len(damaged) + (1 << 20))


def text(word: str) -> bytes:
    return pack(">I", len(word)) + word.encode()


class LieTests(SynchronousTestCase):
    """Lengths, counts, sizes and types that cannot be."""

    def fault(
        self, sent: bytes, generation: Generation = C4, words: Any = FROM_HARDWARE, **options: int
    ) -> str:
        """What is wrong with it; nothing large is allocated on the way."""
        decoder = Decoder(words, {generation}, **options)
        tracemalloc.start()
        try:
            self.assertEqual(decoder.feed(sent), [])
            self.assertLess(tracemalloc.get_traced_memory()[1], 2_000_000)
        finally:
            tracemalloc.stop()
        self.assertNotEqual(decoder.fault, "")
        self.assertEqual(decoder.feed(text("Quit")), [])
        self.assertEqual(decoder.pending, 0)
        return decoder.fault

    def test_a_string_of_4_GiB(self) -> None:
        for length in (0xFFFFFFFF, 1 << 31, 1 << 17):
            self.assertIn(f"a string of {length} bytes", self.fault(pack(">I", length)))

    def test_settings_that_never_end(self) -> None:
        self.assertIn("4194304", self.fault(text("Infos") + pack(">I", 0x7FFFFFFF)))

    def test_an_array_of_4_GiB(self) -> None:
        head = text("Done") + pack(">I", 1) + text("array") + text("<f8")
        sent = head + pack(">III", 0xFFFFFFF8, 1, 0x1FFFFFFF)
        self.assertIn("an array of 4294967288 bytes", self.fault(sent, B))

    def test_an_array_beyond_the_limit_of_the_section(self) -> None:
        head = text("Done") + pack(">I", 1) + text("array") + text("<f8")
        self.assertIn("800000 bytes", self.fault(head + pack(">III", 800000, 1, 100000), B,
                                                 limit=100_000))  # fmt: skip

    def test_sizes_whose_product_overflows(self) -> None:
        head = text("Done") + pack(">I", 1) + text("array") + text("<f8")
        sent = head + pack(">IIIII", 8, 3, 0x80000000, 0x80000000, 4)
        self.assertIn("an array of", self.fault(sent, B))

    def test_too_many_dimensions(self) -> None:
        head = text("Done") + pack(">I", 1) + text("array") + text("<f8")
        self.assertIn("4294967295 dimensions", self.fault(head + pack(">II", 8, 0xFFFFFFFF), B))

    def test_a_list_of_too_many(self) -> None:
        self.assertIn("a list of 4294967295", self.fault(text("Done") + pack(">I", 0xFFFFFFFF), B))

    def test_types_that_name_objects(self) -> None:
        for name in ("|O", "<O8", "|V8", "<U4", "|S4", "<M8", "f8", "<f9", "O", "=f8", "\0\0\0"):
            self.assertIn("no type of numbers", self.fault(text("position_is") + text(name), A))
        self.assertIn("letters", self.fault(text("position_is") + text("f8,f8"), A))

    def test_a_number_with_other_bytes_than_its_type(self) -> None:
        sent = text("position_is") + text("<f8") + text("1234")
        self.assertIn("<f8 with 4 bytes", self.fault(sent, B))

    def test_words_of_the_other_side(self) -> None:
        self.assertIn("'move_abs'", self.fault(text("move_abs")))
        self.assertIn("'Done'", self.fault(text("Done"), words=FROM_CONTROL))
        self.assertIn("'nonsense'", self.fault(text("nonsense")))

    def test_what_is_no_text(self) -> None:
        self.assertIn("UTF-8", self.fault(pack(">I", 2) + b"\xff\xfe"))

    def test_classes_that_are_none(self) -> None:
        sent = text("position_is") + text("subprocess.Popen")
        self.assertIn("'subprocess.Popen' is no class of data", self.fault(sent))
        body = text("os.system") + text("true")
        self.assertIn("no word", self.fault(self.unit(text("str") + text("gone")), D))
        self.assertIn("'os.system' is no type of values", self.fault(self.unit(body), D))

    def unit(self, body: bytes) -> bytes:
        return pack(">I", len(body)) + body

    def test_units_that_do_not_fit_their_values(self) -> None:
        body = text("str") + text("Quit")
        self.assertIn("does not end", self.fault(pack(">I", len(body) + 1) + body + b"\0", D))
        self.assertIn("does not end", self.fault(pack(">I", len(body) - 1) + body, D))
        self.assertIn("at most", self.fault(pack(">I", len(body) - 5) + body, D))
        self.assertIn("at most", self.fault(pack(">I", 0xFFFFFFFF) + body, D))

    def test_values_in_values_without_end(self) -> None:
        nested = b"".join(text("list") + pack(">I", 1) for _ in range(20))
        word = self.unit(text("str") + text("Info_xml"))
        sent = word + pack(">I", len(nested)) + nested
        self.assertIn("more than 8 deep", self.fault(sent, D))

    def test_no_module_of_pymodaq(self) -> None:
        for sent in (b"GET / HTTP/1.1\r\n\r\n", b"*IDN?\n\0\0\0", bytes(8)):
            decoder = Decoder(FROM_HARDWARE)
            self.assertEqual(decoder.feed(sent), [])
            self.assertIn("does not begin as a module", decoder.fault)

    def test_the_wrong_generation(self) -> None:
        decoder = Decoder(FROM_HARDWARE, {A, B})
        self.assertEqual(decoder.feed(encode_bytes(Identify("ACTUATOR"), D)), [])
        self.assertNotEqual(decoder.fault, "")
        decoder = Decoder(FROM_HARDWARE, {C3, C4})
        decoder.feed(text("ACTUATOR") + encode_bytes(PositionIs(position(1.0)), B) * 5)
        self.assertEqual(
            decoder.fault, "this is generation A or B, while C3 or C4 was expected"
        )


class ArrayTests(SynchronousTestCase):
    """Large arrays: filled as they come, sent where they are."""

    def frame(self) -> Done:
        image = np.arange(512 * 512, dtype=np.uint16).reshape(512, 512)
        return Done(DataToExport("cam", (Data("cam", (image,), dim="Data2D"),)))

    def test_in_pieces(self) -> None:
        for generation in Generation:
            sent = encode_bytes(self.frame(), generation) + encode_bytes(Quit(), generation)
            for size in (65536, 1000, 7 * 65536, len(sent)):
                decoder = Decoder(FROM_HARDWARE, {generation})
                found = feed(decoder, sent, list(range(0, len(sent), size)))
                self.assertEqual(decoder.fault, "")
                done, end = found
                assert isinstance(done, Done) and isinstance(end, Quit)
                (array,) = done.frame.arrays
                self.assertEqual(array.shape, (512, 512))
                self.assertTrue(np.array_equal(array, self.frame().frame.arrays[0]))
                self.assertFalse(array.flags.writeable)

    def test_nothing_is_copied_to_be_sent(self) -> None:
        done = self.frame()
        views = [part for part in encode(done, C4) if isinstance(part, memoryview)]
        self.assertEqual([len(view) for view in views], [512 * 512 * 2])
        self.assertIs(np.shares_memory(np.asarray(views[0]), done.frame.arrays[0]), True)

    def test_whole_in_one_read_it_is_a_view(self) -> None:
        array = np.arange(LARGE, dtype=np.uint8)
        sent = encode_bytes(Done(DataToExport("", (Data("", (array,)),))), C4)
        (done,) = Decoder(FROM_HARDWARE, {C4}).feed(sent)
        assert isinstance(done, Done)
        self.assertTrue(
            np.shares_memory(done.frame.arrays[0], np.frombuffer(sent, np.uint8))
        )

    def test_room_only_for_what_was_announced(self) -> None:
        decoder = Decoder(FROM_HARDWARE, {B})
        head = text("Done") + pack(">I", 1) + text("array") + text("<f8")
        decoder.feed(head + pack(">III", 8000000, 1, 1000000) + bytes(100))
        self.assertEqual((decoder.fault, decoder.pending, decoder.inside), ("", 8000000, True))


class GenerationTests(SynchronousTestCase):
    """What little tells them apart."""

    def found(self, messages: list[Message], generation: Generation) -> Decoder:
        decoder = Decoder(FROM_HARDWARE)
        sent = b"".join(encode_bytes(m, generation) for m in [Identify("GRABBER"), *messages])
        self.assertEqual(len(decoder.feed(sent)), len(messages) + 1, decoder.fault)
        return decoder

    def test_positions(self) -> None:
        for generation in (A, B):
            self.assertEqual(self.found([PositionIs(position(1.0))], generation).among, {A, B})
        for generation in (C3, C4, D):
            found = self.found([PositionIs(position(1.0))], generation)
            self.assertIs(found.generation, generation)

    def test_units_that_are_called_like_a_source(self) -> None:
        for units in ("raw", "calculated", ""):
            found = self.found([PositionIs(position(1.0, units))], C4)
            self.assertIs(found.generation, C4)

    def test_attributes_tell_C2(self) -> None:
        data = Data("cam", (np.zeros(1),), extra={"plot": True, "save": True})
        found = self.found([Done(DataToExport("", (data,)))], C2)
        self.assertIs(found.generation, C2)

    def test_paths(self) -> None:
        message = InfoXml(("move_settings", "velocity"), "<velocity/>")
        self.assertIs(self.found([message], A).generation, A)
        self.assertEqual(self.found([message], B).among, {B, C1, C2, C3, C4})

    def test_axes(self) -> None:
        message = XAxis(Axis("x", "px", np.arange(4.0)))
        for generation in (A, B):
            self.assertIs(self.found([message], generation).generation, generation)
        with self.assertRaises(ValueError):
            encode(message, C4)

    def test_frames(self) -> None:
        message = Done(DataToExport("", (Data("", (np.zeros(3), np.zeros(3))),)))
        for generation in (A, B, C3, C4, D):
            self.assertIs(self.found([message], generation).generation, generation)
