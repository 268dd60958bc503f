"""The whole program: ``twistd labnet`` in a process of its own."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.interop.lab import ROOT, TWISTD, LabProcess, start_lab
from tests.interop.processes import Finished, run

STAGE = """\
[lab]
drain = 1

[device stage]
driver = simulated.stage

[serve stage-tsv]
wire = tsv
listen = tcp:0
device = stage
"""
LINKTESTER = """\
[lab]
drain = 1

[device linktester]
driver = simulated.linktester

[serve link-scpi]
wire = scpi
listen = tcp:0
device = linktester
"""


class Lines(LineOnlyReceiver):
    """A client of a line protocol."""

    delimiter = b"\n"

    def __init__(self) -> None:
        self.waiting: list[Deferred[bytes]] = []
        self.gone: Deferred[None] = Deferred()

    def ask(self, line: bytes) -> Deferred[bytes]:
        answer: Deferred[bytes] = Deferred()
        self.waiting.append(answer)
        self.sendLine(line)
        return answer

    def lineReceived(self, line: bytes) -> None:
        self.waiting.pop(0).callback(line)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.gone.callback(None)


async def connect(port: int) -> Lines:
    """A connection to that port on this machine."""
    from twisted.internet import reactor

    return await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Lines())


class ProgramTests(TestCase):
    """Starting, answering, ending."""

    timeout = 60

    def file(self, text: str) -> str:
        path = Path(self.mktemp()).absolute()
        path.write_text(text)
        return str(path)

    async def twistd(self, *words: str) -> Finished:
        """Runs it to its end."""
        return await run(self, *TWISTD, *words, env={"PYTHONPATH": str(ROOT)})

    def start(self, text: str, *before: str) -> LabProcess:
        """Starts it with more options of twistd's own."""
        lab = LabProcess()
        command = [*TWISTD, *before, "labnet", "--config", self.file(text)]
        lab.start(self, command, PYTHONPATH=str(ROOT))
        return lab

    def check_one_line(self, ended: Finished, said: str) -> None:
        output = ended.text + ended.errors
        self.assertEqual(ended.code, 1, output)
        self.assertEqual(len([line for line in output.splitlines() if said in line]), 1, output)
        self.assertNotIn("Traceback", output)

    async def answers(self, lab: LabProcess) -> Lines:
        client = await connect(await lab.port("stage", "tsv"))
        self.assertEqual(await client.ask(b"ping"), b"1\t")
        return client

    async def ended_by_term(self, lab: LabProcess, *clients: Lines) -> None:
        self.assertEqual(await lab.stop(), -signal.SIGTERM)
        for client in clients:
            await client.gone
        self.assertNotIn("Traceback", "\n".join(lab.lines))
        self.assertIn("Server Shut Down", "\n".join(lab.lines))

    async def test_serves_until_term(self) -> None:
        lab = start_lab(self, STAGE)
        client = await self.answers(lab)
        await self.ended_by_term(lab, client)

    async def test_asyncio_reactor(self) -> None:
        lab = self.start(STAGE, "-r", "asyncio")
        client = await self.answers(lab)
        await self.ended_by_term(lab, client)

    async def test_a_call_in_progress_does_not_hold_up_the_end(self) -> None:
        lab = start_lab(self, LINKTESTER)
        client = await connect(await lab.port("linktester", "scpi"))
        await client.ask(b"*IDN?")
        client.ask(b"TEST:WAIT? 1000;*IDN?")
        other = await connect(await lab.port("linktester", "scpi"))
        await self.ended_by_term(lab, client, other)

    async def test_pidfile(self) -> None:
        pidfile = Path(self.mktemp()).absolute()
        lab = self.start(STAGE, f"--pidfile={pidfile}")
        client = await self.answers(lab)
        self.assertTrue(pidfile.exists())
        await self.ended_by_term(lab, client)
        self.assertFalse(pidfile.exists())

    async def test_a_client_ends_the_lab(self) -> None:
        lab = start_lab(self, f"{STAGE}allow_shutdown = lab\n")
        client = await self.answers(lab)
        client.sendLine(b"shutdown")
        self.assertEqual(await lab.end(), 0)
        await client.gone

    async def test_a_port_that_is_taken(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            text = f"{STAGE}\n[serve again]\nwire = tsv\nlisten = tcp:{port}\ndevice = stage\n"
            file = self.file(text)
            pidfile = Path(self.mktemp()).absolute()
            ended = await self.twistd(f"--pidfile={pidfile}", "labnet", "--config", file)
        self.check_one_line(ended, f"{file}:14: [serve again] listen: tcp:{port}: ")
        self.assertFalse(pidfile.exists())
        self.assertNotIn("serves", ended.text)

    async def test_a_daemon_says_that_it_could_not_start(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            file = self.file(STAGE.replace("tcp:0", f"tcp:{taken.getsockname()[1]}"))
            pidfile, log = (Path(self.mktemp()).absolute() for _ in range(2))
            words = (f"--pidfile={pidfile}", f"--logfile={log}", "labnet", "--config", file)
            background = [word for word in TWISTD if word not in ("-n", "--pidfile=")]
            ended = await run(self, *background, *words, env={"PYTHONPATH": str(ROOT)})
        self.assertEqual(ended.code, 1)
        self.assertIn("An error has occurred", ended.errors)
        self.assertIn("[serve stage-tsv] listen: ", log.read_text())
        self.assertFalse(pidfile.exists())

    async def test_a_driver_that_is_not_there(self) -> None:
        file = self.file(STAGE.replace("simulated.stage", "simulated.stag"))
        ended = await self.twistd("labnet", "--config", file)
        said = (
            f"{file}:5: [device stage] unknown driver 'simulated.stag'; "
            "did you mean 'simulated.stage'?"
        )
        self.check_one_line(ended, said)

    async def test_an_unknown_key(self) -> None:
        file = self.file(STAGE.replace("listen", "lisen"))
        for words in ((), ("--check",)):
            ended = await self.twistd("labnet", "--config", file, *words)
            said = f"{file}:9: [serve stage-tsv] unknown key 'lisen'; did you mean 'listen'?"
            self.check_one_line(ended, said)
        self.assertEqual(ended.errors.strip(), said)

    async def test_check_of_the_demo_lab(self) -> None:
        ended = await self.twistd("labnet", "--check")
        self.assertEqual((ended.code, ended.errors), (0, ""))
        self.assertRegex(ended.text, r"\nstage +tsv +tcp:7891:interface=127\.0\.0\.1")

    async def test_log_levels(self) -> None:
        lab = start_lab(self, f"{STAGE}[log]\ntsv = debug\n")
        client = await self.answers(lab)
        await lab.wait_for_line(lambda line: "ping" in line, "the message")
        await self.ended_by_term(lab, client)


class OwnClassTests(TestCase):
    """A class of the user's, in a module beside the configuration."""

    timeout = 60

    async def check(self, section: str) -> Finished:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "gauges.py").write_text(
            "class Gauge:\n    def __init__(self, port: str, gain: float = 1.0) -> None: ...\n"
        )
        (folder / "lab.ini").write_text(f"[device g]\n{section}\n")
        command = [*TWISTD, "labnet", "--check", "--config", str(folder / "lab.ini")]
        return await run(self, *command, env={"PYTHONPATH": str(ROOT)})

    async def test_found(self) -> None:
        done = await self.check("driver = gauges.Gauge\nport = COM3\ngain = 2")
        self.assertEqual((done.code, done.errors), (0, ""))
        self.assertIn("gauges.Gauge", done.text)

    async def test_mistakes_are_one_line(self) -> None:
        for section, said in (
            ("driver = gauge.Gauge", ":2: [device g] driver: there is no module 'gauge'; did you"
             " mean 'gauges'?"),
            ("driver = gauges.Gauge\nprot = x", ":3: [device g] unknown key 'prot'; did you mean"
             " 'port'?"),
        ):  # fmt: skip
            done = await self.check(section)
            self.assertEqual(done.code, 1)
            self.assertEqual(done.errors.count("\n"), 1)
            self.assertIn(said, done.errors)
