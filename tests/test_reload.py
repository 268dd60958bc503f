"""What differs between two configurations, and changing only that in a lab that runs."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from labnet.config import parse_config
from labnet.console import main as labnet_command
from labnet.control import ControlService, make_private, make_room, socket_of
from labnet.errors import LabError, NotConnected
from labnet.reload import Plan, compare, plan_of
from labnet.service import LabService
from labnet.testing import FakeDevice
from labnet.wires.plesty.client import PlestyBench
from labnet.wires.table import find_wire
from tests.interop.lab import ROOT, TWISTD, LabProcess
from tests.interop.processes import run
from tests.test_program import Lines

BEFORE = """\
[lab]
name = bench
drain = 0.5
[device stage]
driver = simulated.stage
[device meter]
driver = simulated.powermeter
[serve stage-tsv]
wire = tsv
listen = tcp:0:interface=127.0.0.1
device = stage
[serve meter-tsv]
wire = tsv
listen = tcp:0:interface=127.0.0.1
device = meter
[serve all-plesty]
wire = plesty
listen = tcp://127.0.0.1:*
devices = *
"""
DMM = "[device dmm]\ndriver = simulated.dmm\n"
DMM_SCPI = "[serve dmm-scpi]\nwire = scpi\nlisten = tcp:0:interface=127.0.0.1\ndevice = dmm\n"


def without(text: str, title: str) -> str:
    """`text` without one section."""
    parts = text.split("[")
    return "[".join(part for part in parts if not part.startswith(f"{title}]"))


def port_of(listener: Any) -> int:
    """Where a TCP listener listens."""
    port: int = listener.listener.port.getHost().port
    return port


class CompareTests(SynchronousTestCase):
    """The plan."""

    def plan(self, new: str, old: str = BEFORE) -> Plan:
        return compare(parse_config(old), parse_config(new))

    def lines(self, new: str) -> list[str]:
        return self.plan(new).lines()

    def test_nothing(self) -> None:
        self.assertEqual(self.plan(BEFORE), Plan())
        self.assertEqual(self.lines("# a comment\n\n" + BEFORE), [])

    def test_added_and_removed(self) -> None:
        new = without(without(BEFORE, "device meter"), "serve meter-tsv") + DMM + DMM_SCPI
        self.assertEqual(
            self.lines(new),
            [
                "device dmm: added",
                "device meter: removed",
                "serve dmm-scpi: opened",
                "serve meter-tsv: closed",
            ],
        )

    def test_changed(self) -> None:
        new = BEFORE.replace("driver = simulated.stage", "driver = simulated.stage\nalias = X")
        new = new.replace("device = meter\n", "device = meter\nmax_line = 2000\n")
        self.assertEqual(
            self.lines(new), ["device stage: made anew", "serve meter-tsv: closed and opened anew"]
        )

    def test_a_list_of_all_is_no_change_of_its_listener(self) -> None:
        self.assertEqual(self.lines(BEFORE + DMM), ["device dmm: added"])

    def test_time_limits_need_no_new_device(self) -> None:
        new = BEFORE.replace("driver = simulated.stage", "driver = simulated.stage\ntimeout = 3")
        self.assertEqual(self.lines(new), ["device stage: time limits changed"])

    def test_settings(self) -> None:
        new = BEFORE + "[locks]\nreads = closed\n[log]\nstage = debug\n"
        self.assertEqual(self.lines(new), ["[locks] changed", "[log] changed"])

    def test_what_is_made_of_a_changed_device(self) -> None:
        base = "[device stage]\ndriver = simulated.stage\n{}[device camera]\n"
        base += "driver = simulated.camera\nstage = stage\n"
        plan = self.plan(base.format("alias = X\n"), base.format(""))
        self.assertEqual(plan.devices.changed, ("stage", "camera"))


class ReloadTests(TestCase):
    """A lab that runs, with real clients."""

    timeout = 30

    async def begin(self, text: str = BEFORE) -> None:
        self.service = LabService(parse_config(text))
        self.service.startService()
        self.addCleanup(self.service.stopService)
        await self.service.starting

    def client(self, name: str, **options: Any) -> Any:
        listener = next(it for it in self.service.listeners() if it.name == name)
        assert listener.listener is not None
        address = f"127.0.0.1:{port_of(listener)}"
        client = find_wire(listener.wire.name).load_client()(address, **options)
        self.addCleanup(client.close)
        return client

    async def test_clients_of_what_did_not_change_notice_nothing(self) -> None:
        await self.begin()
        stage = self.client("stage-tsv", persistent=True)
        token = await stage.lock("stage", "ann", 60.0)
        node = self.service.lab.devices()["stage"]
        moving = stage.send("move_abs", 20)
        new = without(without(BEFORE, "device meter"), "serve meter-tsv") + DMM + DMM_SCPI
        self.assertEqual(await self.service.reload(parse_config(new)), [])
        await moving
        self.assertIs(self.service.lab.devices()["stage"], node)
        self.assertIn("ann", (await stage.lock_info("stage"))[0])
        await stage.unlock(token)
        self.assertEqual(list(self.service.lab.devices()), ["stage", "dmm"])

    async def test_listeners_come_and_go(self) -> None:
        await self.begin()
        gone = self.client("meter-tsv", persistent=True)
        await gone.ping()
        await self.service.reload(parse_config(without(BEFORE, "serve meter-tsv") + DMM + DMM_SCPI))
        await self.assertFailure(gone.ping(), NotConnected)
        dmm = self.client("dmm-scpi")
        self.assertIn("labnet", await dmm.query("*IDN?"))

    async def test_all_devices_follow(self) -> None:
        await self.begin()
        port = next(it for it in self.service.listeners() if it.name == "all-plesty")
        assert port.listener is not None
        client = PlestyBench(port.listener.address)
        self.addCleanup(client.close)
        await client.connect()
        await self.service.reload(parse_config(BEFORE + DMM))
        self.assertIn("SIM-DMM", await client.device("dmm").identity())
        await self.service.reload(parse_config(BEFORE))
        await self.assertFailure(client.device("dmm").identity(), LabError)
        self.assertIn("SIM", await client.device("meter").identity())

    async def test_a_device_made_anew(self) -> None:
        await self.begin()
        before = self.service.lab.devices()["meter"]
        meter = self.client("meter-tsv")
        alias = BEFORE.replace("simulated.powermeter", "simulated.powermeter\nalias = PM")
        await self.service.reload(parse_config(alias))
        self.assertIsNot(self.service.lab.devices()["meter"], before)
        self.assertTrue((await meter.get("wavelength")).ok)

    async def test_listeners_to_updates_follow_a_device_made_anew(self) -> None:
        await self.begin()
        heard: list[Any] = []
        session = self.service.lab.open_session("test", "here")
        session.subscribe(["meter.wavelength"], heard.extend)
        alias = BEFORE.replace("simulated.powermeter", "simulated.powermeter\nalias = PM")
        await self.service.reload(parse_config(alias))
        await session.set("meter.wavelength", 700.0)
        await deferToThread(lambda: None)
        self.assertIn(700.0, [update.reading.value for update in heard if update.reading])

    async def test_what_a_composite_is_made_of(self) -> None:
        """It takes up a part that is made anew, and stays itself."""
        composite = "[device it]\ndriver = composite\nparameter wave = meter.wavelength / 1000\n"
        await self.begin()
        await self.service.reload(parse_config(BEFORE + composite))
        node = self.service.lab.devices()["it"]
        session = self.service.lab.open_session("test", "here")
        await session.set("it.wave", 0.7)
        alias = BEFORE.replace("simulated.powermeter", "simulated.powermeter\nalias = PM")
        await self.service.reload(parse_config(alias + composite))
        self.assertIs(self.service.lab.devices()["it"], node)
        await session.set("it.wave", 0.8)
        self.assertEqual((await session.get("meter.wavelength")).value, 800.0)
        await session.lock(["it"])
        paths = sorted(hold.path for hold in session.holdings())
        self.assertEqual(paths, ["it", "meter.wavelength"])

    async def test_rules_change_at_once(self) -> None:
        await self.begin()
        ann = self.service.lab.open_session("test", "ann", name="ann")
        ben = self.service.lab.open_session("test", "ben", name="ben")
        await ann.lock(["meter"])
        await ben.get("meter.wavelength")
        await self.service.reload(parse_config(BEFORE + "[locks]\nreads = closed\n"))
        await self.assertFailure(ben.get("meter.wavelength"), LabError)
        self.assertEqual([hold.path for hold in ann.holdings()], ["meter"])

    async def test_a_time_limit_changes_at_once(self) -> None:
        await self.begin()
        node = self.service.lab.devices()["stage"]
        text = BEFORE.replace("driver = simulated.stage", "driver = simulated.stage\ntimeout = 3")
        await self.service.reload(parse_config(text))
        self.assertIs(self.service.lab.devices()["stage"], node)
        self.assertEqual(node.queue.limit, 3.0)

    async def test_a_port_that_is_taken_is_told_and_the_rest_done(self) -> None:
        await self.begin()
        listener = next(it for it in self.service.listeners() if it.name == "stage-tsv")
        text = BEFORE + DMM + DMM_SCPI.replace("tcp:0:", f"tcp:{port_of(listener)}:")
        problems = await self.service.reload(parse_config(text))
        self.assertEqual(len(problems), 1)
        self.assertIn("[serve dmm-scpi] listen", problems[0])
        self.assertIn("dmm", self.service.lab.devices())
        # Once the port is free, the same file is enough.
        await listener.disownServiceParent()
        self.assertEqual(await self.service.reload(parse_config(text)), [])
        self.assertIn("labnet", await self.client("dmm-scpi").query("*IDN?"))
        self.assertEqual(plan_of(self.service, parse_config(text)).lines(), [])

    async def test_other_pauses_for_a_device_that_is_tried_again(self) -> None:
        lost = "[device far]\ndriver = scpi\naddress = 127.0.0.1:{}\nretry = {}\n"
        await self.begin()
        port = port_of(next(it for it in self.service.listeners() if it.name == "meter-tsv"))
        rest = without(BEFORE, "serve meter-tsv")
        await self.service.reload(parse_config(rest + lost.format(port, 0)))
        node = self.service.lab.devices()["far"]
        far = self.service.lab.open_session("test", "here", device="far")
        await self.assertFailure(far.call("ask", "*IDN?"), NotConnected)
        dmm = DMM + DMM_SCPI.replace("tcp:0:", f"tcp:{port}:")
        back: Deferred[None] = Deferred()
        far.subscribe(
            ["far"], lambda news: [back.callback(None) for it in news if it.what == "back"]
        )
        text = rest + lost.format(port, 0.001) + dmm
        self.assertEqual(await self.service.reload(parse_config(text)), [])
        await back
        self.assertIs(self.service.lab.devices()["far"], node)

    async def test_a_name_that_a_client_has_brought_changes_nothing(self) -> None:
        await self.begin()
        brought = self.service.lab.attach("dmm", FakeDevice())
        new = without(BEFORE, "serve meter-tsv") + DMM
        error = await self.assertFailure(
            Deferred.fromCoroutine(self.service.reload(parse_config(new))), LabError
        )
        self.assertEqual(str(error), "[device dmm]: a client has brought a device called dmm")
        self.assertIs(self.service.lab.devices()["dmm"], brought)
        self.assertIn("meter-tsv", [it.name for it in self.service.listeners()])

    async def test_a_device_that_cannot_be_made_changes_nothing(self) -> None:
        await self.begin()
        broken = BEFORE + "[device far]\ndriver = vxi11\nhost = x\nterminator = XX\n"
        config = parse_config(without(broken, "serve meter-tsv"))
        reloading = Deferred.fromCoroutine(self.service.reload(config))
        error = await self.assertFailure(reloading, LabError)
        self.assertIn("[device far]", str(error))
        self.assertIn("meter-tsv", [it.name for it in self.service.listeners()])


class ControlTests(TestCase):
    """The socket, the signal and the command."""

    timeout = 60

    async def begin(self) -> None:
        self.directory = Path(self.mktemp())
        self.file = Path(self.mktemp())
        self.file.write_text(BEFORE)
        self.path = self.directory / "c.sock"
        self.service = LabService(parse_config(BEFORE))
        self.control = ControlService(self.service, str(self.file), self.path, reactor)
        self.control.setServiceParent(self.service)
        self.service.startService()
        self.addCleanup(self.service.stopService)
        await self.service.starting

    async def ask(self, request: dict[str, Any] | bytes) -> dict[str, Any]:
        endpoint = UNIXClientEndpoint(reactor, str(self.path))
        lines = await connectProtocol(endpoint, Lines())
        data = request if isinstance(request, bytes) else json.dumps(request).encode()
        answer: dict[str, Any] = json.loads(await lines.ask(data))
        lines.transport.loseConnection()
        await lines.gone
        return answer

    async def test_nobody_else_gets_in(self) -> None:
        await self.begin()
        self.assertEqual(stat.S_IMODE(os.stat(self.directory).st_mode), 0o700)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)

    async def test_a_killed_lab_leaves_its_socket(self) -> None:
        """It is no obstacle, whatever process has the number of the killed one now."""
        path = Path(self.mktemp())
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(path))
            killed.listen()
            error = self.assertRaises(OSError, make_room, path)
            self.assertIn("another lab answers there", str(error))
        make_room(path)
        self.assertFalse(path.exists())
        path.write_text("somebody's file")
        self.assertRaises(OSError, make_room, path)
        self.assertTrue(path.exists())

    async def test_a_second_lab_of_one_name(self) -> None:
        await self.begin()
        second = ControlService(self.service, str(self.file), self.path, reactor)
        with capturedLogs() as events:
            second.startService()
        await maybeDeferred(second.stopService)
        told = " ".join(formatEvent(event) for event in events)
        self.assertIn("another lab answers there; give each its own name", told)
        self.assertTrue((await self.ask({"command": "status"}))["ok"])

    async def test_reload(self) -> None:
        await self.begin()
        self.file.write_text(BEFORE + DMM)
        told = await self.ask({"command": "reload", "check": True})
        self.assertEqual(told, {"ok": True, "text": "device dmm: added"})
        self.assertNotIn("dmm", self.service.lab.devices())
        await self.ask({"command": "reload"})
        self.assertIn("dmm", self.service.lab.devices())
        again = await self.ask({"command": "reload"})
        self.assertEqual(again["text"], "nothing changes")

    async def test_a_file_that_cannot_be_used_changes_nothing(self) -> None:
        await self.begin()
        self.file.write_text(BEFORE + "[device dmm]\ndriver = simulated.dmn\n")
        told = await self.ask({"command": "reload"})
        self.assertFalse(told["ok"])
        self.assertIn("did you mean 'simulated.dmm'?", told["text"])

    async def test_status(self) -> None:
        await self.begin()
        text = (await self.ask({"command": "status"}))["text"]
        self.assertIn("stage", text)
        self.assertIn("simulated.stage", text)
        self.assertIn("ready", text)
        self.service.lab.lose(self.service.lab.devices()["meter"], "unplugged")
        text = (await self.ask({"command": "status"}))["text"]
        self.assertIn("not connected: unplugged", text)

    async def test_garbage(self) -> None:
        await self.begin()
        for line in (b"", b"[]", b"{}", b"[" * 5000, b'{"command": 5}', b"\xff"):
            told = await self.ask(line)
            self.assertEqual(told, {"ok": False, "text": "the commands are reload and status"})

    async def test_a_check_that_is_neither_changes_nothing(self) -> None:
        await self.begin()
        self.file.write_text(BEFORE + DMM)
        told = await self.ask({"command": "reload", "check": "yes"})
        self.assertEqual(told, {"ok": False, "text": "check is true or false"})
        self.assertNotIn("dmm", self.service.lab.devices())

    async def test_the_command(self) -> None:
        await self.begin()
        self.file.write_text(BEFORE + DMM)
        where = ["--socket", str(self.path)]
        self.assertEqual(await deferToThread(labnet_command, ["reload", *where]), 0)
        self.assertIn("dmm", self.service.lab.devices())
        self.file.write_text("nonsense")
        self.assertEqual(await deferToThread(labnet_command, ["reload", *where]), 1)
        missing = ["status", "--socket", str(self.directory / "none")]
        self.assertEqual(await deferToThread(labnet_command, missing), 1)

    async def test_the_demo_lab_has_no_file(self) -> None:
        control = ControlService(LabService(parse_config(BEFORE)), None, None, reactor)
        reloading = Deferred.fromCoroutine(control.reload())
        error = await self.assertFailure(reloading, LabError)
        self.assertIn("without a configuration file", str(error))

    def test_a_directory_of_others_is_not_used(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir(mode=0o755)
        self.assertRaises(PermissionError, make_private, directory)
        directory.chmod(0o700)
        make_private(directory)

    def test_names_of_sockets(self) -> None:
        self.assertEqual(socket_of("my lab/1").name, "my_lab_1.sock")


class ProgramTests(TestCase):
    """The whole program."""

    timeout = 60

    def write(self, text: str) -> Path:
        file = Path(self.mktemp()).absolute()
        file.write_text(text)
        return file

    async def test_hangup_and_command(self) -> None:
        runtime = Path(mkdtemp())
        self.addCleanup(rmtree, runtime)
        path = runtime / "own" / "c.sock"
        text = BEFORE.replace("drain = 0.5", f"drain = 0.5\ncontrol = {path}")
        file = self.write(text)
        lab = LabProcess()
        lab.start(self, [*TWISTD, "labnet", "--config", str(file)], PYTHONPATH=str(ROOT))
        self.addCleanup(lab.leave)
        await lab.port("stage", "tsv")
        file.write_text(text + DMM)
        lab.signal("HUP")
        await lab.wait_for_line(lambda line: line.endswith("device dmm: added"), "the reload")
        file.write_text(text)
        command = [TWISTD[0], "-m", "labnet", "reload", "--socket", str(path)]
        ended = await run(self, *command, env={"PYTHONPATH": str(ROOT)})
        self.assertEqual((ended.code, ended.text), (0, "device dmm: removed\n"))
        file.write_text(text.replace("simulated.stage", "simulated.stag"))
        lab.signal("HUP")
        await lab.wait_for_line(lambda line: "not reloaded: " in line, "the refusal")

    async def test_check_against(self) -> None:
        words = ("--config", str(self.write(BEFORE + DMM)), "--check")
        against = ("--against", str(self.write(BEFORE)))
        ended = await run(self, *TWISTD, "labnet", *words, *against, env={"PYTHONPATH": str(ROOT)})
        self.assertEqual((ended.code, ended.text), (0, "device dmm: added\n"))

    async def test_socket_of_the_lab_s_name(self) -> None:
        runtime = Path(mkdtemp())  # a path of a socket may have 107 bytes
        self.addCleanup(rmtree, runtime)
        env = {"PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(runtime)}
        lab = LabProcess()
        lab.start(self, [*TWISTD, "labnet", "--config", str(self.write(BEFORE))], **env)
        self.addCleanup(lab.leave)
        await lab.port("stage", "tsv")
        for words in ((), ("--lab", "bench")):
            ended = await run(self, TWISTD[0], "-m", "labnet", "status", *words, env=env)
            self.assertEqual(ended.code, 0)
            self.assertRegex(ended.text, r"\nstage +simulated.stage +ready\n")
