"""Messages that are like the one before are read as any other, and faster."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
from twisted.trial.unittest import SynchronousTestCase

from labnet.wires.pymodaq.codec import (
    FROM_HARDWARE,
    PLAIN,
    Axis,
    Data,
    DataToExport,
    Decoder,
    Done,
    Generation,
    Message,
    PositionIs,
    encode_bytes,
    position,
)
from labnet.wires.pymodaq.repeated import Pattern
from tests.wires.vectors import records

ACTUATORS = ("position_is", "move_done")


def shown(value: Any) -> Any:
    """A message as something that can be compared, arrays with their types."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if hasattr(value, "__slots__"):
        names = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        return type(value).__name__, [shown(getattr(value, name)) for name in names]
    if isinstance(value, tuple | list):
        return [shown(item) for item in value]
    return dict(value) if hasattr(value, "items") else value


def read(decoder: Decoder, data: bytes) -> list[Message]:
    return decoder.feed(data)


def damaged(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random.randint(1, 3)):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


class PatternTests(SynchronousTestCase):
    """What the pattern gives is what reading it all gives."""

    def learned(self, data: bytes, generation: Generation) -> tuple[Decoder, Pattern]:
        decoder = Decoder(FROM_HARDWARE, {generation})
        self.assertEqual(len(read(decoder, data)), 1)
        assert decoder._pattern is not None
        return decoder, decoder._pattern

    def test_recorded_positions_and_frames(self) -> None:
        asked = 0
        for record in records("pymodaq"):
            word = record["case"].partition(": ")[2]
            data = bytes.fromhex(record["bytes"])
            if record["direction"] != "c2s" or word not in (*ACTUATORS, "Done"):
                continue
            generation = Generation[record["generation"]]
            decoder = Decoder(FROM_HARDWARE, {generation})
            first = read(decoder, data)
            again = read(decoder, data)
            self.assertEqual(shown(first), shown(again), record["case"])
            asked += decoder._pattern is not None
        self.assertGreater(asked, 40)

    def test_other_numbers(self) -> None:
        for generation in set(Generation) - PLAIN:
            first = PositionIs(position(1.25, "mm", timestamp=5.0))
            decoder, pattern = self.learned(encode_bytes(first, generation), generation)
            for number in range(20):
                data = encode_bytes(
                    PositionIs(position(number / 7, "mm", timestamp=number * 1.5)), generation
                )
                found = pattern.read(data)
                assert isinstance(found, PositionIs)
                self.assertEqual(found.position.value, number / 7)
                self.assertEqual(found.position.timestamp, number * 1.5)
                fresh = read(Decoder(FROM_HARDWARE, {generation}), data)
                self.assertEqual(shown([found]), shown(fresh))
                self.assertEqual(shown([found]), shown(read(decoder, data)))

    def frame(self, random: Random) -> Done:
        axis = Axis("x", "mm", np.linspace(0, 1, 4))
        arrays = tuple(np.array([random.random() for _ in range(4)]) for _ in range(2))
        data = Data(
            "cam", arrays, timestamp=random.random(), labels=("a", "b"), axes=(axis,), dim="Data1D",
            extra={"do_plot": True, "do_save": False},
        )  # fmt: skip
        return Done(DataToExport("all", (data, data), random.random()))

    def test_damaged_ones_are_read_as_by_who_has_learned_nothing(self) -> None:
        random = Random(5)
        for generation in (Generation.A, Generation.B, Generation.C4, Generation.D):
            data = encode_bytes(self.frame(random), generation)
            for _ in range(400):
                decoder, _ = self.learned(data, generation)
                wrong = damaged(random, encode_bytes(self.frame(random), generation))
                fresh = Decoder(FROM_HARDWARE, {generation})
                self.assertEqual(shown(read(decoder, wrong)), shown(read(fresh, wrong)))
                self.assertEqual(decoder.fault, fresh.fault)
                self.assertEqual(decoder.inside, fresh.inside)

    def test_other_forms_are_learned_anew(self) -> None:
        decoder, first = self.learned(
            encode_bytes(PositionIs(position(1.0, "mm")), Generation.C4), Generation.C4
        )
        (other,) = read(decoder, encode_bytes(PositionIs(position(2.0, "um")), Generation.C4))
        assert isinstance(other, PositionIs)
        self.assertEqual(other.position.units, "um")
        self.assertIsNot(decoder._pattern, first)

    def test_arrays_cannot_be_written(self) -> None:
        data = encode_bytes(PositionIs(position(1.0, "mm")), Generation.C4)
        decoder, _ = self.learned(data, Generation.C4)
        (found,) = read(decoder, data)
        assert isinstance(found, PositionIs)
        self.assertFalse(found.position.data[0].flags.writeable)

    def test_nothing_is_learned_of_half_a_message(self) -> None:
        data = encode_bytes(PositionIs(position(1.0, "mm")), Generation.C4)
        decoder = Decoder(FROM_HARDWARE, {Generation.C4})
        self.assertEqual(read(decoder, data[:30]), [])
        self.assertEqual(len(read(decoder, data[30:] + data + data[:7])), 2)
        self.assertIsNone(decoder._pattern)
        self.assertEqual(len(read(decoder, data[7:])), 1)
