"""A simulated camera that looks at a spot of light; the spot follows a stage."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from twisted.internet.interfaces import IReactorTime

from labnet.device import Identity, command, parameter
from labnet.devices.simulated.shared import Exposures, Simulated
from labnet.devices.simulated.stage import TRAVEL, Stage
from labnet.values import ArrayKind, Axis, LabeledArray

#: Rows and columns.
SIZE = 512
#: Column of the spot when the stage is at 0 mm, and columns that it moves for each mm.
COLUMN, COLUMNS_PER_MM = 56.0, 4.0
#: Row around which the spot trembles by `TREMBLE` rows, and its radius (1 sigma) in pixels.
ROW, TREMBLE, RADIUS = 256.0, 4.0, 12.0
#: Counts in a second at the centre of the spot at gain 1; counts without light; read-out noise.
RATE, DARK, READ_NOISE = 1.0e6, 200.0, 8.0
FULL_SCALE = 65535
#: Points along the way of a spot that moves during an exposure.
BLUR = 9

_PIXELS = np.arange(SIZE, dtype=np.float32)
_AXES = (Axis("y", "px", np.arange(SIZE)), Axis("x", "px", np.arange(SIZE)))


class Camera(Simulated):
    """A camera of 512 x 512 pixels and 16 bits. Its spot of light moves with the stage.

    Counts grow with exposure and gain until they saturate at 65535; a spot that moves during the
    exposure is smeared. Clients who grab at the same time share a frame.

    Args:
        stage: the stage that the spot follows; without one the spot stays in the middle.
        seed: where noise and trembling begin.
        clock: its time; None for the reactor's.
    """

    identity = Identity("labnet", "SIM-CAM", "C0000001", "1.0")

    exposure = parameter(
        float, unit="s", limits=(1e-4, 10.0), initial=0.02, help="Time that the shutter is open"
    )
    gain = parameter(float, limits=(1.0, 16.0), initial=1.0, help="Counts for each photoelectron")
    image = parameter(
        ArrayKind(np.uint16, (SIZE, SIZE)), access="r", initial=np.zeros((SIZE, SIZE), np.uint16),
        help="The last frame, rows first",
    )  # fmt: skip
    frames = parameter(int, access="r", help="Frames taken so far")
    mean = parameter(float, access="r", display="{:.2f}", help="Mean counts of the last frame")
    brightest = parameter(int, access="r", help="Highest counts of the last frame")
    saturated = parameter(
        int, access="r", help="Pixels of the last frame that are at full scale, 65535"
    )

    def __init__(
        self, stage: Stage | None = None, seed: int = 4, clock: IReactorTime | None = None
    ) -> None:
        super().__init__(seed, clock)
        self._stage = stage
        self._tremble = self._drift(7.0)
        self._exposures = Exposures(lambda: self._clock, self._open, self._close)
        self._settings = (0.0, 0.0, 0.0)

    def follow(self, stage: Stage | None) -> None:
        """Lets the spot follow another stage."""
        self._stage = stage

    @command(long=True, reads=True, timeout=60.0)
    async def grab(self) -> LabeledArray:
        """Takes a frame; answers it when the exposure is over."""
        return await self._exposures.request()

    def _place(self) -> float:
        """Where the stage is, in mm."""
        return sum(TRAVEL) / 2 if self._stage is None else float(self._stage.position)

    def _open(self) -> float:
        """The exposure begins, with the settings of this moment."""
        self._settings = self.exposure, self.gain, self._place()
        return self._settings[0]

    def _close(self) -> LabeledArray:
        exposure, gain, begin = self._settings
        frame = self._frame(exposure, gain, np.linspace(begin, self._place(), BLUR))
        self.store("image", frame)
        self.store("frames", self.frames + 1)
        self.store("mean", float(frame.mean()))
        self.store("brightest", int(frame.max()))
        self.store("saturated", int(np.count_nonzero(frame == FULL_SCALE)))
        return LabeledArray(frame, "image", "counts", _AXES)

    def _frame(
        self, exposure: float, gain: float, places: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.uint16]:
        """Spot, photon noise and read-out noise, as the converter gives them."""
        centres = COLUMN + COLUMNS_PER_MM * places
        columns = np.mean([_bell(centre) for centre in centres], axis=0, dtype=np.float32)
        rows = _bell(ROW + TREMBLE * self._tremble.at(self._now()))
        counts = np.outer(rows, columns * np.float32(RATE * exposure * gain))
        noise = self._random.standard_normal((SIZE, SIZE), np.float32)
        noise *= np.sqrt(counts * np.float32(gain) + np.float32(READ_NOISE**2))
        counts += noise
        counts += np.float32(DARK)
        return np.clip(counts, 0, FULL_SCALE).astype(np.uint16)


def _bell(centre: float) -> npt.NDArray[np.float32]:
    """A Gaussian of height 1 over the pixels."""
    away = (_PIXELS - np.float32(centre)) / np.float32(RADIUS)
    bell: npt.NDArray[np.float32] = np.exp(-(away**2) / np.float32(2))
    return bell
