"""The spectrometer sees the lamp's lines where they belong; time and averaging count."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from labnet.devices.simulated.spectrometer import DARK, FULL_SCALE, LINES, Spectrometer
from labnet.values import LabeledArray
from tests.devices.bench import BenchCase


class SpectrometerTests(BenchCase):
    def setUp(self) -> None:
        super().setUp()
        self.session = self.attach("spectrometer", Spectrometer(clock=self.clock))

    def grab(self) -> npt.NDArray[np.float64]:
        grab = self.session.call("grab")
        seconds = self.get(self.session, "integration_time") * self.get(self.session, "averaging")
        self.passes(seconds + 0.01)
        spectrum = self.successResultOf(grab)
        assert isinstance(spectrum, LabeledArray)
        return spectrum.data

    def test_a_spectrum_and_its_axis(self) -> None:
        spectrum = self.takes(self.session.call("grab"), 0.02)
        self.assertEqual((spectrum.data.shape, spectrum.data.dtype), ((2048,), np.float64))
        (axis,) = spectrum.axes
        self.assertEqual((axis.label, axis.unit, spectrum.unit), ("wavelength", "nm", "counts"))
        self.assertTrue(np.array_equal(axis.values, self.get(self.session, "wavelengths")))
        self.assertTrue((np.diff(axis.values) > 0).all())

    def test_lines_of_mercury_and_argon(self) -> None:
        self.set(self.session, "averaging", 10)
        spectrum = self.grab()
        axis = self.get(self.session, "wavelengths")
        for wavelength, height in LINES:
            near = np.abs(axis - wavelength) < 1.0
            peak = axis[near][spectrum[near].argmax()]
            self.assertApproximates(peak, wavelength, 0.4)
            self.assertGreater(spectrum[near].max(), DARK + 0.8 * height * 20000)
        beside = (axis > 600) & (axis < 680)
        self.assertLess(spectrum[beside].max(), DARK + 1000)

    def test_time_gives_light_until_it_saturates(self) -> None:
        heights = []
        for seconds in (0.01, 0.02, 0.5):
            self.set(self.session, "integration_time", seconds)
            heights.append(float(self.grab().max()))
        self.assertApproximates((heights[1] - DARK) / (heights[0] - DARK), 2, 0.2)
        self.assertEqual(heights[2], FULL_SCALE)
        self.assertGreater(self.get(self.session, "saturated"), 5)

    def noise(self) -> float:
        """Of the dark end of a spectrum: from the difference of two."""
        return float((self.grab() - self.grab())[1700:2000].std() / 2**0.5)

    def test_averaging_takes_time_and_lowers_the_noise(self) -> None:
        single = self.noise()
        self.set(self.session, "averaging", 100)
        self.takes(self.session.call("grab"), 2.0)
        self.assertApproximates(single / self.noise(), 10, 2)

    def test_the_last_spectrum_can_be_read(self) -> None:
        self.assertEqual(self.get(self.session, "spectrum").max(), 0)
        spectrum = self.grab()
        self.assertTrue(np.array_equal(self.get(self.session, "spectrum"), spectrum))
        self.assertFalse(np.array_equal(spectrum, self.grab()))

    def test_as_an_instrument(self) -> None:
        self.scpi(self.session, b"INT:TIME 10 MS;:AVER 2")
        self.assertEqual(self.get(self.session, "integration_time"), 0.01)
        answer = self.takes(self.session.channel().execute(b"GRAB?"), 0.02)
        counts = np.array(answer.split(b","), float)
        self.assertTrue(np.array_equal(counts, self.get(self.session, "spectrum")))
        self.scpi(self.session, b"FORM REAL,64")
        block = self.scpi(self.session, b"SPEC?")
        self.assertEqual(block[:7], b"#516384")
        self.assertTrue(np.array_equal(np.frombuffer(block[7:], ">f8"), counts))

    def test_every_member_has_help(self) -> None:
        self.assert_helpful("spectrometer")
