"""The multimeter by its SCPI headers, and by its commands."""

from __future__ import annotations

import statistics

from labnet.devices.simulated.dmm import OVERLOAD, Dmm
from labnet.errors import DeviceFault, OutOfRange
from labnet.session import Session
from tests.devices.bench import BenchCase


class DmmTests(BenchCase):
    def setUp(self) -> None:
        super().setUp()
        self.session = self.attach("dmm", Dmm(clock=self.clock))

    def ask(self, message: bytes, seconds: float = 0.02, session: Session | None = None) -> bytes:
        """The response to a message that takes so long."""
        answer = (session or self.session).channel().execute(message)
        return bytes(self.takes(answer, seconds, seconds / 20))

    def error(self) -> bytes:
        return self.scpi(self.session, b"SYST:ERR?")

    def test_measure(self) -> None:
        self.assertApproximates(float(self.ask(b"MEAS:VOLT:DC?")), 5.0, 1e-3)
        self.assertApproximates(float(self.ask(b"MEASure:CURRent:DC?")), 0.012, 1e-5)
        self.assertApproximates(float(self.ask(b"MEAS:RES?")), 1000.0, 0.5)
        self.assertEqual(self.error(), b'0,"No error"')

    def test_measure_in_a_range(self) -> None:
        fine = self.ask(b"MEAS:VOLT:DC? 10,0.0001", 0.004)
        self.assertEqual(self.scpi(self.session, b"VOLT:RANG?;RANG:AUTO?"), b"10;0")
        self.assertApproximates(float(fine), 5.0, 3e-3)
        self.ask(b"MEAS:VOLT:DC? DEF,DEF", 0.02)
        self.assertEqual(self.scpi(self.session, b"VOLT:RANG:AUTO?"), b"1")

    def test_wrong_ranges(self) -> None:
        self.assertEqual(self.scpi(self.session, b"MEAS:VOLT:DC? 2000"), b"")
        self.assertEqual(self.error(), b'-222,"Data out of range"')
        self.failureResultOf(self.session.call("measure_current", 4.0), OutOfRange)

    def test_overload(self) -> None:
        self.assertEqual(float(self.ask(b"MEAS:VOLT:DC? 1")), OVERLOAD)
        self.scpi(self.session, b"CONF:RES 100")
        self.assertEqual(float(self.ask(b"READ?")), OVERLOAD)
        self.scpi(self.session, b"RES:RANG:AUTO ON")
        self.assertApproximates(float(self.ask(b"READ?")), 1000.0, 0.5)
        self.assertEqual(self.scpi(self.session, b"RES:RANG?"), b"1000")

    def test_configure_and_read(self) -> None:
        self.assertEqual(self.scpi(self.session, b"CONF:CURR:DC 0.05,1E-7;:CONF?"),
                         b'"CURR +1.000000E-01,+1.000000E-07"')  # fmt: skip
        self.assertEqual(self.scpi(self.session, b"CURR:NPLC?;:FUNC?"), b"10;CURR")
        self.assertApproximates(float(self.ask(b"READ?", 0.2)), 0.012, 1e-5)
        self.scpi(self.session, b"CONF")
        self.assertEqual(self.scpi(self.session, b"FUNC?"), b"VOLT")

    def test_cycles_cost_time_and_lower_the_noise(self) -> None:
        session = self.attach("shorted", Dmm(volts=0.0, clock=self.clock))
        self.scpi(session, b"CONF:VOLT:DC 10")
        noise = []
        for cycles in (b"0.02", b"1", b"100"):
            self.scpi(session, b"VOLT:NPLC " + cycles)
            seconds = float(cycles) / 50
            noise.append(
                statistics.stdev(float(self.ask(b"READ?", seconds, session)) for _ in range(30))
            )
        self.assertGreater(noise[0], 10 * noise[1])
        self.assertGreater(noise[1], 2 * noise[2])

    def test_cycles_are_those_that_there_are(self) -> None:
        self.scpi(self.session, b"VOLT:NPLC 5;:VOLT:RANG 0.5")
        self.assertEqual(self.scpi(self.session, b"VOLT:NPLC?;RANG?"), b"10;1")
        self.assertEqual(self.scpi(self.session, b"VOLT:NPLC? MIN"), b"0.02")

    def test_fetch(self) -> None:
        self.assertEqual(self.scpi(self.session, b"FETC?"), b"")
        self.assertEqual(self.error()[:27], b'-230,"Data corrupt or stale')
        read = self.ask(b"READ?")
        self.assertEqual(self.scpi(self.session, b"FETC?;FETC?"), read + b";" + read)
        self.assertEqual(float(read), self.get(self.session, "reading"))
        self.scpi(self.session, b"FUNC CURR")
        self.assertEqual(self.scpi(self.session, b"FETC?"), b"")
        self.assertEqual(self.spec(self.session, "reading").unit, "A")

    def test_initiate_and_fetch(self) -> None:
        self.assertEqual(self.scpi(self.session, b"INIT"), b"")
        self.assertApproximates(float(self.ask(b"FETC?")), 5.0, 1e-3)
        self.scpi(self.session, b"INIT")
        self.assertEqual(self.ask(b"*OPC?"), b"1")
        self.assertApproximates(float(self.scpi(self.session, b"FETC?")), 5.0, 1e-3)

    def test_one_measurement_at_a_time(self) -> None:
        self.scpi(self.session, b"VOLT:NPLC 10;:INIT;:INIT")
        self.assertEqual(self.error()[:5], b"-213,")
        fault = self.failureResultOf(self.client("dmm").call("read"), DeviceFault).value
        self.assertIn("in progress", str(fault))
        self.ask(b"FETC?", 0.2)

    def test_bus_trigger(self) -> None:
        self.scpi(self.session, b"TRIG:SOUR BUS;:INIT")
        fetch = self.session.channel().execute(b"FETC?")
        self.passes(1.0)
        self.assertNoResult(fetch)
        self.scpi(self.client("dmm"), b"*TRG")
        self.assertApproximates(float(self.takes(fetch, 0.02)), 5.0, 1e-3)
        self.scpi(self.session, b"*TRG")
        self.assertEqual(self.error()[:5], b"-211,")
        self.assertEqual(self.scpi(self.session, b"READ?"), b"")
        self.assertEqual(self.error()[:5], b"-214,")

    def test_abort(self) -> None:
        self.scpi(self.session, b"TRIG:SOUR BUS;:INIT;:ABOR")
        self.assertEqual(self.scpi(self.session, b"*OPC?"), b"1")
        self.assertEqual(self.error(), b'0,"No error"')
        self.assertEqual(self.scpi(self.session, b"FETC?"), b"")
        self.scpi(self.session, b"ABOR")
        self.scpi(self.session, b"*CLS;TRIG:SOUR IMM")
        self.ask(b"READ?")

    def test_reset(self) -> None:
        self.scpi(self.session, b"CONF:RES 100;:RES:NPLC 10;:TRIG:SOUR BUS;:INIT;*RST")
        self.assertEqual(
            self.scpi(self.session, b"FUNC?;TRIG:SOUR?;:RES:NPLC?;RANG:AUTO?"), b"VOLT;IMM;1;1"
        )
        self.assertEqual(self.error(), b'0,"No error"')

    def test_sixty_hertz(self) -> None:
        session = self.attach("other", Dmm(volts=-0.05, line_frequency=60.0, clock=self.clock))
        answer = self.ask(b"MEAS:VOLT:DC?", 1 / 60, session)
        self.assertApproximates(float(answer), -0.05, 1e-5)
        self.assertEqual(self.scpi(session, b"VOLT:RANG?"), b"0.1")

    def test_no_such_mains(self) -> None:
        self.assertRaises(ValueError, Dmm, line_frequency=400.0)

    def test_by_its_commands(self) -> None:
        value = self.takes(self.session.call("measure_voltage", range=10.0), 0.02)
        self.assertApproximates(value, 5.0, 1e-3)
        self.assertEqual(self.get(self.session, "voltage.range"), 10.0)
        self.set(self.session, "voltage.nplc", 100)
        self.set(self.session, "function", "RES")
        self.assertApproximates(self.takes(self.session.call("read"), 0.02), 1000.0, 0.5)

    def test_every_member_has_help(self) -> None:
        self.assert_helpful("dmm")
