"""A simulated grating spectrometer that looks at a mercury-argon calibration lamp."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from twisted.internet.interfaces import IReactorTime

from labnet.device import Identity, command, parameter
from labnet.devices.simulated.shared import Exposures, Simulated
from labnet.values import ArrayKind, Axis, LabeledArray

PIXELS = 2048
#: Wavelength in nm of pixel p: a + b p + c p**2, as the makers of spectrometers give it.
DISPERSION = (349.2, 0.372, -1.45e-5)
#: Lines of mercury and argon: wavelength in air in nm, relative height (NIST).
LINES = (
    (365.02, 0.35), (404.66, 0.45), (435.83, 0.80), (546.07, 1.00), (576.96, 0.20),
    (579.07, 0.22), (696.54, 0.30), (738.40, 0.25), (763.51, 0.60), (772.38, 0.40),
    (811.53, 0.55), (842.46, 0.28), (912.30, 0.35),
)  # fmt: skip
#: Width (1 sigma) of a line in nm, as the slit makes it.
WIDTH = 0.6
#: Counts in a second at the highest line and of the continuum; counts without light; noise.
RATE, CONTINUUM, DARK, READ_NOISE = 1.0e6, 2.0e4, 1500.0, 10.0
FULL_SCALE = 65535.0


def wavelengths() -> npt.NDArray[np.float64]:
    """The wavelength of each pixel in nm."""
    pixels = np.arange(PIXELS, dtype=np.float64)
    return np.asarray(np.polynomial.polynomial.polyval(pixels, DISPERSION), np.float64)


class Spectrometer(Simulated):
    """A spectrometer of 2048 pixels, 349 to 1050 nm, before a mercury-argon lamp.

    The lamp flickers slowly. Counts grow with the integration time and saturate at 65535; averaging
    takes several spectra and lowers the noise. Clients who grab at the same time share a spectrum.

    Args:
        seed: where noise and flicker begin.
        clock: its time; None for the reactor's.
    """

    identity = Identity("labnet", "SIM-SPEC", "G0000001", "1.0")

    integration_time = parameter(
        float, unit="s", limits=(1e-3, 10.0), initial=0.02, scpi="INTegration[:TIME]",
        help="Time in which one spectrum gathers light",
    )  # fmt: skip
    averaging = parameter(
        int, limits=(1, 100), initial=1, scpi="AVERage[:COUNt]",
        help="Spectra of which the mean is taken",
    )  # fmt: skip
    wavelengths = parameter(
        ArrayKind(np.float64, (PIXELS,)), unit="nm", access="r", initial=wavelengths(),
        scpi="WAVelengths", help="Wavelength of each pixel",
    )  # fmt: skip
    spectrum = parameter(
        ArrayKind(np.float64, (PIXELS,)), unit="counts", access="r", initial=np.zeros(PIXELS),
        scpi="SPECtrum", help="Counts of each pixel in the last spectrum",
    )  # fmt: skip
    saturated = parameter(
        int, access="r", scpi="SATurated", help="Pixels of the last spectrum at full scale, 65535"
    )

    def __init__(self, seed: int = 5, clock: IReactorTime | None = None) -> None:
        super().__init__(seed, clock)
        self._axis = Axis("wavelength", "nm", self.wavelengths)
        self._lamp = _lamp(self.wavelengths)
        self._flicker = self._drift(20.0)
        self._exposures = Exposures(lambda: self._clock, self._open, self._close)
        self._settings = (0.0, 1)

    @command(long=True, reads=True, timeout=1100.0, scpi="GRAB?", unit="counts")
    async def grab(self) -> LabeledArray:
        """Takes a spectrum; answers it after integration time times averaging."""
        return await self._exposures.request()

    def _open(self) -> float:
        self._settings = self.integration_time, self.averaging
        return self._settings[0] * self._settings[1]

    def _close(self) -> LabeledArray:
        counts = self._counts(*self._settings)
        self.store("spectrum", counts)
        self.store("saturated", int(np.count_nonzero(counts >= FULL_SCALE)))
        return LabeledArray(counts, "intensity", "counts", (self._axis,))

    def _counts(self, seconds: float, averaging: int) -> npt.NDArray[np.float64]:
        """The mean of the spectra, each with its own noise and cut off at full scale."""
        light = self._lamp * seconds * (1 + 0.03 * self._flicker.at(self._now()))
        sigma = np.sqrt(light + READ_NOISE**2)
        total = np.zeros(PIXELS)
        for _ in range(averaging):
            noise = self._random.standard_normal(PIXELS) * sigma
            total += np.clip(np.rint(DARK + light + noise), 0.0, FULL_SCALE)
        return total / averaging


def _lamp(axis: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Counts in a second at each wavelength: lines on a weak continuum."""
    light = CONTINUUM * np.exp(-(((axis - 650.0) / 200.0) ** 2))
    for centre, height in LINES:
        light += RATE * height * np.exp(-(((axis - centre) / WIDTH) ** 2) / 2)
    return light
