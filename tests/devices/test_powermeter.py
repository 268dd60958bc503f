"""The power meter behaves as one: ranges, averaging, units, zero."""

from __future__ import annotations

import statistics

from labnet.devices.simulated.powermeter import PowerMeter
from labnet.errors import DeviceFault, OutOfRange, TimedOut
from tests.devices.bench import BenchCase

BEAM = 2.5e-3


class PowerMeterTests(BenchCase):
    def setUp(self) -> None:
        super().setUp()
        self.meter = PowerMeter(beam=BEAM, clock=self.clock)
        self.session = self.attach("powermeter", self.meter)

    def powers(self, count: int) -> list[float]:
        return [self.get(self.session, "power") for _ in range(count)]

    def test_reads_the_beam_with_noise(self) -> None:
        powers = self.powers(50)
        self.assertEqual(len(set(powers)), 50)
        self.assertApproximates(statistics.mean(powers), BEAM, 0.15 * BEAM)

    def test_power_wanders_slowly(self) -> None:
        means = []
        for _ in range(20):
            means.append(statistics.mean(self.powers(20)))
            self.passes(5, 0.5)
        self.assertGreater(max(means) - min(means), 0.03 * BEAM)
        self.assertLess(max(means) - min(means), 0.25 * BEAM)

    def test_the_same_seed_gives_the_same_powers(self) -> None:
        again = PowerMeter(beam=BEAM, clock=self.clock)
        other = PowerMeter(beam=BEAM, seed=9, clock=self.clock)
        powers = [self.meter.power for _ in range(5)]
        self.assertEqual(powers, [again.power for _ in range(5)])
        self.assertNotEqual(powers, [other.power for _ in range(5)])

    def test_averaging_takes_time(self) -> None:
        self.set(self.session, "averaging", 500)
        reading = self.takes(self.session.get("power"), 0.2)
        self.assertApproximates(reading.value, BEAM, 0.2 * BEAM)

    def test_averaging_lowers_the_noise(self) -> None:
        dark = self.attach("dark", PowerMeter(beam=0.0, clock=self.clock))
        single = statistics.stdev(self.get(dark, "power") for _ in range(100))
        self.set(dark, "averaging", 100)
        averaged = []
        for _ in range(100):
            reading = dark.get("power")
            self.clock.advance(0.04)
            averaged.append(self.successResultOf(reading).value)
        self.assertApproximates(single / statistics.stdev(averaged), 10, 2)

    def test_averaging_given_up(self) -> None:
        self.set(self.session, "averaging", 1000)
        reading = self.session.get("power", timeout=0.1)
        self.clock.advance(0.1)
        self.failureResultOf(reading, TimedOut)
        self.set(self.session, "averaging", 1)
        self.assertGreater(self.get(self.session, "power"), 0)

    def test_polled(self) -> None:
        heard = self.told(self.session, "power")
        self.passes(2.1, 0.1)
        self.assertEqual(len(heard), 4)

    def test_decibels(self) -> None:
        watts = self.get(self.session, "power")
        heard = self.told(self.session, "power")
        self.set(self.session, "unit", "DBM")
        self.clock.advance(0)
        self.assertEqual([update.what for update in heard], ["metadata", "value"])
        self.assertEqual(self.spec(self.session, "power").unit, "dBm")
        reading = heard[-1].reading
        assert reading is not None
        self.assertApproximates(10 ** (reading.value / 10) * 1e-3, watts, 1e-9)
        self.assertApproximates(self.get(self.session, "power"), 4.0, 0.6)
        self.set(self.session, "unit", "W")
        self.assertEqual(self.spec(self.session, "power").unit, "W")
        self.assertApproximates(self.get(self.session, "power"), watts, 1e-4)

    def test_wavelength_corrects(self) -> None:
        before = statistics.mean(self.powers(20))
        self.set(self.session, "wavelength", 1100.0)
        after = statistics.mean(self.powers(20))
        self.assertApproximates(after / before, 0.940 / 0.880, 0.005)
        for wrong in (399.9, 1101):
            self.failureResultOf(self.session.set("wavelength", wrong), OutOfRange)

    def test_a_fixed_range_saturates(self) -> None:
        self.set(self.session, "range", 0.0005)
        self.assertEqual(self.get(self.session, "range"), 1e-3)
        self.assertIs(self.get(self.session, "auto_range"), False)
        self.assertEqual(self.get(self.session, "power"), 1e-3)
        self.assertIs(self.get(self.session, "saturated"), True)
        self.set(self.session, "auto_range", True)
        self.assertGreater(self.get(self.session, "power"), 2e-3)
        self.assertEqual(self.get(self.session, "range"), 1e-2)
        self.assertIs(self.get(self.session, "saturated"), False)

    def test_a_larger_range_is_noisier(self) -> None:
        fine = statistics.stdev(self.powers(50))
        self.set(self.session, "range", 1.0)
        self.assertGreater(statistics.stdev(self.powers(50)), 20 * fine)

    def test_zero_takes_the_offset_away(self) -> None:
        self.passes(0.5)
        zero = self.session.call("zero")
        self.passes(0.5)
        dark = self.get(self.session, "power")  # the beam is blocked, the meter still answers
        self.assertApproximates(dark, 1.5e-5, 1e-5)
        self.passes(0.7)
        self.assertApproximates(self.successResultOf(zero), dark, 1e-6)
        again = self.session.call("zero")
        self.passes(0.5)
        self.assertApproximates(self.get(self.session, "power"), 0.0, 1e-7)
        self.passes(0.7)
        self.successResultOf(again)
        self.assertIs(self.get(self.session, "zeroing"), False)

    def test_one_zero_at_a_time(self) -> None:
        first = self.session.call("zero")
        refused = self.failureResultOf(self.client("powermeter").call("zero"), DeviceFault)
        self.assertIn("running already", str(refused.value))
        self.passes(1.1)
        self.successResultOf(first)

    def test_zero_past_its_deadline_changes_nothing(self) -> None:
        late = self.session.call("zero", timeout=0.35)
        self.passes(0.4)
        self.failureResultOf(late, TimedOut)
        self.assertIs(self.get(self.session, "zeroing"), False)
        self.assertGreater(self.get(self.session, "power"), 2e-3)

    def test_zero_ends_when_its_caller_has_gone(self) -> None:
        self.session.call("zero").addErrback(lambda failure: None)
        self.passes(0.15)
        self.session.close("gone")
        self.passes(0.1)
        self.assertIs(self.get(self.client("powermeter"), "zeroing"), False)

    def test_every_member_has_help(self) -> None:
        self.assert_helpful("powermeter")

    def test_the_reactor_is_the_clock_unless_told_otherwise(self) -> None:
        meter = PowerMeter()
        from twisted.internet import reactor

        self.assertIs(meter._clock, reactor)
