"""The oscilloscope sweeps, and its waveforms are what their descriptors say."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
from twisted.internet.defer import Deferred

from labnet.devices.simulated.scope import MAX_POINTS, NOISE, Scope
from labnet.devices.simulated.wavedesc import SIZE, nearest_step, time_base
from labnet.errors import DeviceFault
from labnet.values import LabeledArray
from tests.devices.bench import BenchCase

# Offsets in the template LECROY_2_3, and how the fields there are stored.
FIELDS = {
    "descriptor": (0, "16s"), "template": (16, "16s"), "comm_type": (32, "h"),
    "comm_order": (34, "h"), "wave_descriptor": (36, "i"), "wave_array_1": (60, "i"),
    "instrument_name": (76, "16s"), "wave_array_count": (116, "i"), "last_valid_pnt": (128, "i"),
    "vertical_gain": (156, "f"), "vertical_offset": (160, "f"), "max_value": (164, "f"),
    "nominal_bits": (172, "h"), "horiz_interval": (176, "f"), "horiz_offset": (180, "d"),
    "vertunit": (196, "48s"), "horunit": (244, "48s"), "year": (308, "h"),
    "acq_duration": (312, "f"), "timebase": (324, "h"), "vert_coupling": (326, "h"),
    "wave_source": (344, "h"),
}  # fmt: skip


def described(block: bytes) -> dict[str, Any]:
    """The fields of a descriptor by their names."""
    order = "<" if block[34:36] == b"\1\0" else ">"
    found: dict[str, Any] = {}
    for name, (offset, kind) in FIELDS.items():
        (value,) = struct.unpack_from(order + kind, block, offset)
        found[name] = value.rstrip(b"\0") if isinstance(value, bytes) else value
    return found


def volts(block: bytes) -> npt.NDArray[np.float64]:
    """The waveform of a block."""
    fields = described(block)
    kind = f"{'<' if fields['comm_order'] else '>'}i{fields['comm_type'] + 1}"
    codes = np.frombuffer(block, kind, offset=fields["wave_descriptor"])
    assert codes.nbytes == fields["wave_array_1"]
    values: npt.NDArray[np.float64] = fields["vertical_gain"] * codes - fields["vertical_offset"]
    return values


class ScopeTests(BenchCase):
    def setUp(self) -> None:
        super().setUp()
        self.session = self.attach("scope", Scope(clock=self.clock))

    def block(self, message: bytes = b"C1:WAVEFORM?") -> bytes:
        """The bytes of the block that answers a message."""
        done = self.session.channel().execute(message)
        self.passes(0.1)
        answer: bytes = self.successResultOf(done)
        data = answer[11:]
        self.assertEqual(answer[:11], b"#9%09d" % len(data))
        return data

    def errors(self) -> bytes:
        return self.scpi(self.session, b"SYST:ERR:ALL?")

    def test_the_descriptor(self) -> None:
        self.scpi(self.session, b"TDIV 50US;:MSIZ 2000;:C2:VDIV 0.5;:C2:OFST -0.25")
        block = self.block(b"C2:WF?")
        fields = described(block)
        self.assertEqual(len(block), SIZE + 4000)
        expected = {
            "descriptor": b"WAVEDESC", "template": b"LECROY_2_3", "comm_type": 1, "comm_order": 0,
            "wave_descriptor": SIZE, "wave_array_1": 4000, "wave_array_count": 2000,
            "instrument_name": b"SIM-SCOPE", "last_valid_pnt": 1999, "max_value": 32767.0,
            "vertical_offset": -0.25, "vertunit": b"V", "horunit": b"S", "wave_source": 1,
            "vert_coupling": 2, "nominal_bits": 8, "timebase": 23, "horiz_offset": -250e-6,
        }  # fmt: skip
        self.assertEqual({name: fields[name] for name in expected}, expected)
        self.assertAlmostEqual(fields["vertical_gain"], 8 * 0.5 / 65536, 9)
        self.assertAlmostEqual(fields["horiz_interval"], 2.5e-7, 12)
        self.assertAlmostEqual(fields["acq_duration"], 5e-4, 9)
        self.assertGreater(fields["year"], 2020)

    def test_the_waveform(self) -> None:
        """The calibration output: a square wave of 1 V and 1 kHz, two periods on the screen."""
        wave = volts(self.block())
        self.assertEqual(len(wave), 10_000)
        high = wave > 0.5
        edges = np.flatnonzero(np.diff(high.astype(int)))
        self.assertEqual(len(edges), 3)
        self.assertTrue((np.abs(np.diff(edges) - 2500) < 3).all())
        self.assertAlmostEqual(float(wave[~high].mean()), 0.0, 2)
        self.assertApproximates(float(wave[~high].std()), NOISE * 0.2, 5e-4)

    def test_formats_agree(self) -> None:
        self.scpi(self.session, b"TRMD SINGLE;:C1:VDIV 0.5")
        self.passes(0.1)
        found = []
        for words in (b"CFMT DEF9,WORD,BIN;CORD HI", b"CFMT DEF9,WORD,BIN;CORD LO",
                      b"CFMT DEF9,BYTE,BIN"):  # fmt: skip
            self.scpi(self.session, words)
            found.append(volts(self.block()))
        self.assertEqual(self.scpi(self.session, b"CFMT?;CORD?"), b"DEF9,BYTE,BIN;LO")
        self.assertEqual(self.errors(), b'0,"No error"')
        self.assertTrue(np.array_equal(found[0], found[1]))
        self.assertLess(np.abs(found[0] - found[2]).max(), 0.6 * 8 * 0.5 / 256)

    def test_parts(self) -> None:
        self.scpi(self.session, b"TRMD SINGLE")
        self.passes(0.1)
        whole = self.block(b"C3:WF? ALL")
        self.assertEqual(self.block(b"C3:WF? DESC"), whole[:SIZE])
        self.assertEqual(self.block(b"C3:WF? DAT1"), whole[SIZE:])

    def test_in_volts_over_time(self) -> None:
        self.scpi(self.session, b"TRMD SINGLE")
        self.passes(0.1)
        grab = self.session.call("channel[1].grab")
        self.passes(0.1)
        wave = self.successResultOf(grab)
        assert isinstance(wave, LabeledArray)
        (axis,) = wave.axes
        self.assertEqual((wave.unit, axis.unit, len(axis.values)), ("V", "s", 10_000))
        self.assertAlmostEqual(float(axis.values[0]), -1e-3)
        self.assertLess(np.abs(wave.data - volts(self.block())).max(), 1e-4)

    def test_what_the_screen_does_not_show_is_cut_off(self) -> None:
        self.scpi(self.session, b"C1:VDIV 0.1")
        self.assertAlmostEqual(float(volts(self.block()).max()), 0.4, 4)

    def test_steps(self) -> None:
        for asked, taken in ((b"3 MS", 2e-3), (b"4 MS", 5e-3), (b"0.7", 0.5), (b"8", 10.0)):
            answer = self.scpi(self.session, b"TIME_DIV " + asked + b";TDIV?")
            self.assertEqual(float(answer), taken, asked)
        self.scpi(self.session, b"TDIV 1000")
        self.assertIn(b"-222", self.errors())
        for value in (1e-9, 1.0, 100.0, 2e-7, 5e3):
            self.assertEqual(nearest_step(value), value)
        numbers = [time_base(value) for value in (1e-12, 2e-12, 5e-12, 1e-9, 5e-5, 1.0, 100.0)]
        self.assertEqual(numbers, [0, 1, 2, 9, 23, 36, 42])

    def swept(self) -> int:
        return int(self.get(self.session, "sweeps"))

    def test_arm_and_wait(self) -> None:
        self.scpi(self.session, b"STOP;TDIV 0.1")
        self.scpi(self.session, b"ARM;WAIT")
        self.assertEqual(self.get(self.session, "trigger_mode"), "SINGLE")
        done = self.session.channel().execute(b"*OPC?")
        self.assertEqual(self.takes(done, 1.0), b"1")
        self.assertEqual(self.swept(), 1)
        self.assertEqual(self.get(self.session, "trigger_mode"), "STOP")
        self.assertEqual(self.block(), self.block())

    def test_a_waveform_waits_for_the_sweep(self) -> None:
        self.scpi(self.session, b"STOP;TDIV 0.1;ARM")
        other = self.client("scope")
        self.assertEqual(self.scpi(other, b"TDIV?"), b"0.1")
        done = self.session.channel().execute(b"C1:WF? DESC")
        self.assertEqual(len(self.takes(done, 1.0)), SIZE + 11)

    def test_sweep_after_sweep(self) -> None:
        first, second = self.block(), self.block()
        self.assertNotEqual(first, second)
        self.assertEqual(self.swept(), 2)

    def test_no_waveform_yet(self) -> None:
        self.scpi(self.session, b"STOP")
        done = self.session.call("channel[1].waveform")
        self.assertIn("ARM", str(self.failureResultOf(done, DeviceFault).value))

    def test_stop_ends_a_sweep(self) -> None:
        self.scpi(self.session, b"TDIV 1;ARM")
        wait: Deferred[Any] = self.session.call("wait")
        self.assertNoResult(wait)
        self.call(self.session, "stop")
        self.successResultOf(wait)
        self.assertEqual(self.swept(), 0)

    def test_a_client_that_waits_may_go(self) -> None:
        self.scpi(self.session, b"TDIV 1;ARM")
        wait = self.session.call("wait")
        wait.cancel()
        self.failureResultOf(wait)
        self.passes(11, 0.1)
        self.assertEqual(self.swept(), 1)

    def test_trigger(self) -> None:
        self.scpi(self.session, b"STOP;*TRG")
        self.passes(0.1)
        self.assertEqual(self.swept(), 1)

    def test_headers(self) -> None:
        """What is answered with a header can be sent back as it is."""
        asked = b"TDIV?;C2:VDIV?;:TRMD?;CFMT?;CHDR?"
        for header, answer in (
            (b"OFF", b"0.0002;0.2;AUTO;DEF9,WORD,BIN;OFF"),
            (b"SHORT", b"TDIV 0.0002 S;C2:VDIV 0.2 V;TRMD AUTO;CFMT DEF9,WORD,BIN;CHDR SHORT"),
            (
                b"LONG",
                b"TIME_DIV 0.0002 S;C2:VOLT_DIV 0.2 V;TRIG_MODE AUTO;"
                b"COMM_FORMAT DEF9,WORD,BIN;COMM_HEADER LONG",
            ),
        ):
            self.scpi(self.session, b"CHDR " + header)
            self.assertEqual(self.scpi(self.session, asked), answer)
            self.assertRegex(self.scpi(self.session, b"*IDN?"), b"^labnet,")
        for unit in self.scpi(self.session, asked).split(b";"):
            self.scpi(self.session, unit)
        self.assertEqual(self.errors(), b'0,"No error"')

    def test_headers_of_waveforms(self) -> None:
        self.scpi(self.session, b"TRMD SINGLE;MSIZ 100;CHDR SHORT")
        self.passes(0.1)
        for part, size in ((b"ALL", SIZE + 200), (b"DESC", SIZE), (b"DAT1", 200)):
            answer = self.scpi(self.session, b"C3:WAVEFORM? " + part)
            head = b"C3:WF %b,#9%09d" % (part, size)
            self.assertEqual((answer[: len(head)], len(answer)), (head, len(head) + size))
        self.scpi(self.session, b"CHDR LONG")
        answer = self.scpi(self.session, b"C3:WF?")
        self.assertEqual(answer[:16], b"C3:WAVEFORM ALL,")

    def test_words_that_are_refused(self) -> None:
        for message in (b"CHDR FULL", b"C5:VDIV 1", b"C1:WF? TEXT", b"CFMT OFF,WORD,BIN"):
            self.scpi(self.session, b"*CLS")
            self.scpi(self.session, message)
            self.assertNotIn(b'0,"No', self.errors(), message)

    def test_ten_million_points(self) -> None:
        """In bounded memory, a piece at a time."""
        self.scpi(self.session, b"MSIZ %d;:TRMD SINGLE" % MAX_POINTS)
        self.passes(0.1)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        done = self.session.channel().execute(b"C2:WF?")
        turns = 0

        def another() -> None:
            nonlocal turns
            turns += 1
            if not done.called:
                self.clock.callLater(0, another)

        self.clock.callLater(0, another)
        self.clock.advance(0)
        self.assertEqual(len(self.successResultOf(done)), 2 * MAX_POINTS + SIZE + 11)
        self.assertGreater(turns, 20)
        self.assertLess(tracemalloc.get_traced_memory()[1], 120e6)

    def test_helpful(self) -> None:
        self.assert_helpful("scope")
