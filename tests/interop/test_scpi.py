"""The scpi wire of a running lab: pyvisa-py's SOCKET sessions, lxi-tools and netcat."""

from __future__ import annotations

import re
import zlib
from typing import Any

from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from tests.interop.lab import start_lab
from tests.interop.peers import PeerError, PeerProcess, peer, start, tool
from tests.interop.processes import Finished, run

LAB = """
[lab]
name = interop
[device dmm]
driver = simulated.dmm
[device stage]
driver = simulated.stage
[device linktester]
driver = simulated.linktester
[serve dmm-scpi]
wire = scpi
listen = tcp:0
device = dmm
[serve stage-scpi]
wire = scpi
listen = tcp:0
device = stage
[serve linktester-scpi]
wire = scpi
listen = tcp:0
device = linktester
"""
NO_ERROR = '0,"No error"'


def pattern(size: int) -> bytes:
    """The block of that size that the link tester makes."""
    return bytes(number & 255 for number in range(size))


class VisaTests(TestCase):
    """pyvisa with pyvisa-py."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        peer("pyvisa-py")
        self.lab = start_lab(self, LAB)
        self.visa = self.driver()

    def driver(self) -> PeerProcess:
        return start(self, "pyvisa-py", "visa_client")

    async def open(
        self, name: str, device: str = "linktester", visa: PeerProcess | None = None, **options: Any
    ) -> None:
        port = await self.lab.port(device, "scpi")
        options = {"read_termination": "\n", "timeout": 10_000, **options}
        resource = f"TCPIP::127.0.0.1::{port}::SOCKET"
        await (visa or self.visa).ask("open", name, resource, **options)

    async def query(self, name: str, message: str) -> str:
        answer: str = await self.visa.ask("query", name, message)
        return answer

    async def error(self, name: str) -> str:
        return await self.query(name, "SYST:ERR?")

    async def test_identity(self) -> None:
        """With the CR LF that pyvisa-py sends by itself, and with a plain LF."""
        settings: tuple[tuple[str, dict[str, Any]], ...]
        settings = (("a", {}), ("b", {"write_termination": "\n"}))
        for name, options in settings:
            await self.open(name, "dmm", **options)
            self.assertEqual(await self.query(name, "*IDN?"), "labnet,SIM-DMM,D0000001,1.0")

    async def test_error_queue(self) -> None:
        await self.open("dmm", "dmm")
        for message in ("NO:SUCH 1", "CONF:VOLT:DC 1E9", "*ESE 1,2"):
            await self.visa.ask("write", "dmm", message)
        self.assertRegex(await self.error("dmm"), r'^-113,"Undefined header.*"$')
        self.assertRegex(await self.error("dmm"), r'^-222,"Data out of range.*"$')
        self.assertRegex(await self.error("dmm"), r'^-108,"Parameter not allowed.*"$')
        self.assertEqual(await self.error("dmm"), NO_ERROR)
        self.assertEqual(int(await self.query("dmm", "*ESR?")) & 0x20, 0x20)

    async def test_errors_are_those_of_the_session(self) -> None:
        await self.open("a", "dmm")
        await self.open("b", "dmm")
        await self.visa.ask("write", "a", "NO:SUCH")
        self.assertEqual(await self.error("b"), NO_ERROR)
        self.assertRegex(await self.error("a"), "^-113,")

    async def test_measurement(self) -> None:
        await self.open("dmm", "dmm")
        for message in ("MEAS:VOLT:DC?", "measure:voltage:dc? 10"):
            self.assertTrue(-20 < float(await self.query("dmm", message)) < 20)
        voltage, identity = (await self.query("dmm", "CONF:VOLT:DC;:READ?;*IDN?")).split(";")
        self.assertTrue(-20 < float(voltage) < 20)
        self.assertRegex(identity, "^labnet,")

    async def test_blocks_to_the_client(self) -> None:
        await self.open("link")
        for size in (0, 1, 9, 10, 11, 99_999, 100_000):
            values = await self.visa.ask(
                "query_binary", "link", f"TEST:BLOCK? {size}", datatype="B"
            )
            self.assertEqual(bytes(values), pattern(size))
        self.assertEqual(await self.query("link", 'TEST:ECHO? "after"'), '"after"')

    async def test_blocks_to_the_device(self) -> None:
        await self.open("link")
        for size in (0, 1, 256, 70_000):
            data = pattern(size)
            await self.visa.ask("write_binary", "link", "TEST:LOAD ", list(data), datatype="B")
            answer = await self.query("link", "TEST:LOAD:SUM?")
            self.assertEqual(answer, f"{size},{zlib.crc32(data)}")
            back = await self.visa.ask("query_binary", "link", "TEST:LOAD?", datatype="B")
            self.assertEqual(bytes(back), data)

    async def timed_out(self, *question: Any) -> None:
        failure = await self.assertFailure(self.visa.ask(*question), PeerError)
        self.assertEqual(failure.details["abbreviation"], "VI_ERROR_TMO")

    async def test_timeout_without_a_query(self) -> None:
        await self.open("link", timeout=50)
        await self.timed_out("read", "link")
        await self.visa.ask("set", "link", "timeout", 10_000)
        self.assertEqual(await self.error("link"), NO_ERROR)

    async def test_late_answer_is_read_after_the_timeout(self) -> None:
        await self.open("link", timeout=50)
        await self.open("other")
        await self.timed_out("query", "link", "TEST:WAIT? 400 MS")
        self.assertEqual(await self.query("other", 'TEST:ECHO? "meanwhile"'), '"meanwhile"')
        await self.visa.ask("set", "link", "timeout", 10_000)
        self.assertEqual(await self.visa.ask("read", "link"), "done")
        self.assertEqual(await self.query("link", 'TEST:ECHO? "next"'), '"next"')

    async def test_clear_drops_what_was_not_read(self) -> None:
        await self.open("link")
        await self.open("other")
        await self.visa.ask("write", "link", 'TEST:ECHO? "old"')
        await self.visa.ask("write", "link", "*TRG")
        while await self.query("other", "TEST:TRIG?") != "1":
            pass  # once the trigger is counted, the answer before it has been sent
        await self.visa.ask("clear", "link")
        self.assertEqual(await self.query("link", 'TEST:ECHO? "new"'), '"new"')

    async def test_sessions_get_their_own_answers(self) -> None:
        drivers = [self.visa, self.driver()]
        for driver in drivers:
            await self.open("link", visa=driver)
        for number in range(30):
            answers = await gatherResults(
                [
                    driver.ask("query", "link", f'TEST:ECHO? "{index}-{number}"')
                    for index, driver in enumerate(drivers)
                ]
            )
            self.assertEqual(answers, [f'"{index}-{number}"' for index in range(2)])

    async def test_slow_query_of_one_session_holds_up_no_other(self) -> None:
        other = self.driver()
        await self.open("link")
        await self.open("link", visa=other)
        slow = self.visa.ask("query", "link", "TEST:WAIT? 1 S")
        await other.ask("query", "link", 'TEST:ECHO? "quick"')
        self.assertFalse(slow.called)
        self.assertEqual(await slow, "done")

    async def test_stage(self) -> None:
        await self.open("stage", "stage")
        self.assertEqual(await self.query("stage", "MOVE 5;*OPC?"), "1")
        self.assertEqual(float(await self.query("stage", "POS?")), 5.0)
        await self.visa.ask("write", "stage", "MOVE:ABS 200")
        self.assertRegex(await self.error("stage"), '^-222,"Data out of range')

    async def test_lock_shuts_another_session_out(self) -> None:
        await self.open("a", "stage")
        await self.open("b", "stage")
        self.assertEqual(await self.query("a", "SYST:LOCK:REQ?"), "1")
        self.assertEqual(await self.query("b", "SYST:LOCK:REQ?"), "0")
        await self.visa.ask("write", "b", "MOVE 5")
        self.assertRegex(await self.error("b"), r'^-203,"Command protected.*127\.0\.0\.1')
        self.assertEqual(await self.query("a", "MOVE 1;*OPC?"), "1")
        await self.visa.ask("close", "a")
        while await self.query("b", "SYST:LOCK:REQ?") != "1":
            pass  # until the lab has seen the end of the connection
        self.assertEqual(await self.query("b", "MOVE 2;*OPC?"), "1")

    async def test_lock_of_a_killed_program_is_freed_at_once(self) -> None:
        holder = self.driver()
        await self.open("stage", "stage", holder)
        self.assertEqual(await holder.ask("query", "stage", "SYST:LOCK:REQ?"), "1")
        await self.open("stage", "stage")
        self.assertEqual(await self.query("stage", "SYST:LOCK:REQ?"), "0")
        await holder.kill()
        while await self.query("stage", "SYST:LOCK:REQ?") != "1":
            pass


class CommandTests(TestCase):
    """lxi-tools and netcat."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        self.programs = {name: tool(name) for name in ("lxi", "nc")}
        self.lab = start_lab(self, LAB)
        self.port = str(await self.lab.port("linktester", "scpi"))

    async def lxi(self, command: str, *arguments: str) -> Finished:
        where = ("-r", "-a", "127.0.0.1", "-p", self.port)
        return await run(self, self.programs["lxi"], command, *where, *arguments)

    async def netcat(self, stdin: bytes) -> Finished:
        return await run(self, self.programs["nc"], "-N", "127.0.0.1", self.port, stdin=stdin)

    async def test_lxi(self) -> None:
        done = await self.lxi("scpi", "*IDN?")
        self.assertEqual((done.code, done.text), (0, "labnet,SIM-LINK,L0000001,1.0\n"))

    async def test_lxi_command_without_an_answer(self) -> None:
        done = await self.lxi("scpi", "*TRG")
        self.assertEqual((done.code, done.output), (0, b""))
        done = await self.lxi("scpi", "TEST:TRIG?")
        self.assertEqual(done.text.strip(), "1")

    async def test_lxi_reads_a_long_answer_in_one_piece(self) -> None:
        done = await self.lxi("scpi", "TEST:BLOCK? 20000")
        self.assertEqual((done.code, done.output), (0, b"#520000" + pattern(20_000) + b"\n"))

    async def test_lxi_benchmark(self) -> None:
        done = await self.lxi("benchmark", "-c", "200")
        self.assertEqual(done.code, 0, done.errors)
        rate = re.search(r"Result: ([0-9.]+) requests/second", done.text)
        assert rate is not None, done.text
        self.assertGreater(float(rate[1]), 0)

    async def test_netcat_gets_every_answer_after_its_half_close(self) -> None:
        done = await self.netcat(
            b'TEST:ECHO? "a"\nTEST:WAIT? 100 MS\nNO:SUCH\r\nTEST:ECHO? "b"\nSYST:ERR?\n'
        )
        *answers, error = done.text.splitlines()
        self.assertEqual((done.code, answers), (0, ['"a"', "done", '"b"']))
        self.assertRegex(error, '^-113,"Undefined header')

    async def test_netcat_gets_a_long_answer_after_its_half_close(self) -> None:
        done = await self.netcat(b"TEST:BLOCK? 3000000\n*IDN?\n")
        self.assertEqual(done.code, 0)
        self.assertEqual(len(done.output), len(b"#73000000") + 3_000_001 + 29)
        self.assertTrue(done.output.endswith(b"\nlabnet,SIM-LINK,L0000001,1.0\n"))

    async def test_netcat_without_a_line_feed_at_the_end(self) -> None:
        """What is not ended is not carried out: it may be half of something else."""
        done = await self.netcat(b"*IDN?\n*TRG")
        self.assertEqual((done.code, done.text), (0, "labnet,SIM-LINK,L0000001,1.0\n"))
        done = await self.netcat(b"TEST:TRIG?\n")
        self.assertEqual(done.output, b"0\n")
