"""Instruments behind message wires, in memory."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.config import parse_config
from labnet.device import Device, Identity, command, parameter
from labnet.devices.remote.instrument import read_identity, without_line_end
from labnet.errors import DeviceFault, NotConnected
from labnet.framing.blocks import encode_block
from labnet.supervision import Retry
from labnet.testing import MemoryLab
from labnet.updates import Update
from labnet.wires.table import find_wire


class AnswerTests(SynchronousTestCase):
    """Answers and identities."""

    def test_line_ends(self) -> None:
        for answer, kept in (
            (b"1.5\n", b"1.5"),
            (b"1.5\r\n", b"1.5"),
            (b"", b""),
            (b"#13a\n\n", b"#13a\n\n"),
            (b"#12a\n\n", b"#12a\n"),
            (b"#0a\n\n", b"#0a\n"),
            (b"#", b"#"),
        ):
            self.assertEqual(without_line_end(answer), kept)

    @given(st.binary(max_size=200), st.sampled_from([b"", b"\n", b"\r\n"]))
    def test_blocks_stay_whole(self, data: bytes, end: bytes) -> None:
        block = encode_block(data)
        self.assertEqual(without_line_end(block + end), block)

    def test_identity(self) -> None:
        self.assertEqual(read_identity("A, B,C,1,2\n"), Identity("A", "B", "C", "1,2"))
        self.assertEqual(read_identity("just text"), Identity("just text", "", "", ""))


class Supply(Device):
    """A far instrument."""

    identity = Identity("Acme", "PSU", "1", "2")
    volts = parameter(float, limits=(0, 30), initial=5.0)

    @parameter
    def data(self) -> bytes:
        """Bytes that end as messages do."""
        return b"ab\n"

    @command
    def trip(self) -> None:
        """Fails."""
        raise DeviceFault("overload", number=-241)


class Far(SynchronousTestCase):
    """A far lab and one here, on one network in memory."""

    wire = "scpi"
    keys = "address = 127.0.0.1:{port}"

    def setUp(self) -> None:
        self.far = MemoryLab({"psu": Supply()})
        self.served = self.far.serve(self.wire, device="psu")
        self.port = self.served.port
        self.here = MemoryLab(net=self.far.net, retry=Retry(0.5, 4.0, jitter=0.0))

    def attach(self, *declared: str) -> Any:
        text = f"[device psu]\ndriver = {self.wire}\n{self.keys.format(port=self.port)}\n"
        config = parse_config(text + "\n".join(declared) + "\n")
        device = config.devices[0].make({}, self.far.net, self.dial)
        self.node = self.here.attach("psu", device)
        self.far.advance(0.1)
        return self.here.session(device="psu", timeout=5.0)

    def dial(self, wire: str, *args: Any, **options: Any) -> Any:
        return find_wire(wire).load_client()(*args, reactor=self.far.net, **options)


class ScpiTests(Far):
    """Over a raw socket."""

    def test_who_it_is(self) -> None:
        self.attach()
        self.assertEqual(self.node.identity, Supply.identity)

    def test_single_messages(self) -> None:
        session = self.attach()
        self.assertEqual(self.far.wait(session.call("ask", "VOLTS?")), "5")
        self.far.wait(session.call("send", "VOLTS 7"))
        self.assertEqual(self.far.wait(session.call("ask", "VOLTS?")), "7")
        self.assertEqual(self.far.wait(session.call("ask_block", "DATA?")), b"ab\n")

    def test_messages_are_passed_on(self) -> None:
        channel = self.attach().channel()
        self.assertEqual(self.far.wait(channel.execute(b"VOLTS?;*IDN?")), b"5;Acme,PSU,1,2")
        self.assertEqual(self.far.wait(channel.execute(b"VOLTS 9")), b"")
        self.assertEqual(self.far.wait(channel.execute(b"DATA?")), b"#13ab\n")

    def test_declared(self) -> None:
        session = self.attach(
            "parameter v = VOLTS?, VOLTS {value}, float, V, 0..30", "command trip = TRIP",
            "errors = yes",
        )  # fmt: skip
        self.assertEqual(self.far.wait(session.set("v", 3.0)).value, 3.0)
        self.assertEqual(self.far.wait(session.get("v")).value, 3.0)
        error = self.assertRaises(DeviceFault, self.far.wait, session.call("trip"))
        self.assertEqual((error.number, "overload" in str(error)), (-241, True))

    def test_not_there_at_start(self) -> None:
        self.far.wait(self.served.stop())
        session = self.attach("parameter v = VOLTS?, float")
        error = self.failureResultOf(session.get("v"), NotConnected).value
        self.assertIn(f"127.0.0.1:{self.port}", str(error))

    def test_lost_and_back(self) -> None:
        session = self.attach("parameter v = VOLTS?, float, V")
        heard: list[Update] = []
        session.subscribe(["v"], heard.extend)
        self.served.faults.disconnect()
        self.far.advance(0.1)
        self.failureResultOf(session.get("v"), NotConnected)
        self.far.advance(1.0)
        self.assertEqual(self.far.wait(session.get("v")).value, 5.0)
        kinds = [update.what for update in heard]
        self.assertEqual(kinds[:4], ["lost", "back", "gap", "value"])

    def test_a_call_in_progress_ends_with_the_connection(self) -> None:
        session = self.attach("parameter v = VOLTS?, float, V")
        self.served.faults.hang("to_client")
        waiting = session.get("v")
        self.far.advance(0.1)
        self.assertNoResult(waiting)
        self.served.faults.disconnect()
        self.far.advance(0.1)
        self.failureResultOf(waiting, NotConnected)
