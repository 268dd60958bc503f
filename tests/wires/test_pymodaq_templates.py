"""Frames that are written by what they have in common: the same bytes as without that."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import BadArguments
from labnet.values import Axis, LabeledArray
from labnet.wires.pymodaq.codec import Done, Generation, encode_bytes
from labnet.wires.pymodaq.offered import frame_of
from labnet.wires.pymodaq.primitives import LARGE
from labnet.wires.pymodaq.sending import for_plugins
from labnet.wires.pymodaq.templates import FrameWriter

OBJECTS = [one for one in Generation if one.objects]
arrays = npst.arrays(
    st.sampled_from(["<f8", ">f8", "<u2", "|b1", "<c16", "|u1", "<i4"]),
    npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=19),
)


def plainly(array: LabeledArray, timestamp: float, generation: Generation) -> bytes:
    """The message of a frame, written as any other."""
    frame = frame_of(array, "eye", timestamp)
    return encode_bytes(Done(for_plugins(frame, generation)), generation)


class TemplateTests(SynchronousTestCase):
    @settings(max_examples=200, deadline=None)
    @given(st.lists(arrays, min_size=1, max_size=3), st.sampled_from(OBJECTS), st.booleans())
    def test_the_same_bytes(self, found: list[Any], generation: Generation, axes: bool) -> None:
        writer = FrameWriter("eye", generation)
        for number, array in enumerate(found):
            known: tuple[Axis, ...] = ()
            if axes:
                known = tuple(Axis("a", "mm", np.arange(size)) for size in array.shape)
            frame = LabeledArray(array, "label", "V", known)
            for timestamp in (0.0, 1.0, 1.7e9 + number):
                written = b"".join(writer.write(frame, timestamp))
                self.assertEqual(written, plainly(frame, timestamp, generation))

    def test_what_changes_is_noticed(self) -> None:
        writer = FrameWriter("eye", Generation.C4)
        axis = (Axis("x", "mm", np.arange(3)),)
        for frame in (
            LabeledArray(np.arange(3), "a", "V"),
            LabeledArray(np.arange(3), "b", "V"),
            LabeledArray(np.arange(3), "b", "mV"),
            LabeledArray(np.arange(3), "b", "mV", axis),
            LabeledArray(np.arange(3.0), "b", "mV", axis),
            LabeledArray(np.arange(4.0), "b", "mV"),
            LabeledArray(np.arange(4.0).reshape(2, 2), "b", "mV"),
        ):
            for _ in range(3):
                written = b"".join(writer.write(frame, 5.0))
                self.assertEqual(written, plainly(frame, 5.0, Generation.C4))

    def test_large_ones_stay_where_they_are(self) -> None:
        image = np.zeros((LARGE, 2), np.uint16)
        writer = FrameWriter("eye", Generation.D)
        for _ in range(3):
            parts = writer.write(LabeledArray(image), 1.0)
            self.assertEqual(len(parts), 3)
            self.assertTrue(np.shares_memory(np.asarray(parts[1]), image))
        image[0, 0] = 7
        self.assertEqual(b"".join(parts), plainly(LabeledArray(image), 1.0, Generation.D))

    def test_what_pymodaq_does_not_know(self) -> None:
        with self.assertRaises(BadArguments):
            FrameWriter("eye", Generation.C4).write(LabeledArray(np.array(["a"])), 1.0)
