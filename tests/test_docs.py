"""The documentation says what is so: its scripts, sessions and configurations are tried.

A comment before a fence says what it is:

``<!-- run -->``            a script, run in a process of its own
``<!-- prints -->``         what that script writes
``<!-- run here -->``       code that goes on from the blocks like it on the same page
``<!-- session: PEER -->``  a session in the environment of a peer, or in the shell
``<!-- check: PEER -->``    a configuration for the environment of a peer; see tests/interop
``<!-- shown -->``          what needs two programs at a time, or time: not tried

Scripts and sessions meet the demo lab, at other ports than its own.
"""

from __future__ import annotations

import re
import shlex
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from labnet.config import DEMO, parse_config
from labnet.reference import describe_options
from labnet.service import Lab, LabService, ListenerService
from labnet.wires.scpi.client import ScpiClient
from tests.interop import peers, pins
from tests.interop.processes import Finished, run

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Their code is tried by tests of their own.
ELSEWHERE = {"docs/testing.md", "docs/performance.md"}
_FENCE = re.compile(r"(?:^<!-- ([^\n]*) -->\n)?^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PORT = re.compile(r"listen = (tcp://127\.0\.0\.1|tcp):(\d+)")
_SECTION = re.compile(r"^\[(\w+)", re.MULTILINE)
# What differs from run to run: tokens, numbers, and how wide a number is.
_VARIES = re.compile(r"\b[0-9a-f]{32}\b|-?\b[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?\b")

PLAYER = '''
import doctest, re, sys
class Checker(doctest.OutputChecker):
    def check_output(self, want, got, flags):
        return VARIES.sub("N", want) == VARIES.sub("N", got)
VARIES = re.compile(sys.argv[2])
text = open(sys.argv[1], encoding="utf-8").read()
test = doctest.DocTestParser().get_doctest(text, {}, "the session", sys.argv[1], 0)
runner = doctest.DocTestRunner(checker=Checker())
runner.run(test)
sys.exit(1 if runner.failures or not runner.tries else 0)
'''
PREPARE = {"sm-bluesky": ">>> import sm_bluesky_modules; sm_bluesky_modules.prepare()\n"}


@dataclass(frozen=True)
class Block:
    """One fence: `mark` is what the comment before it says, `kind` its language."""

    page: str
    line: int
    mark: str
    kind: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page} line {self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The fences of a page."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        name = str(page.relative_to(ROOT))
        yield Block(name, line, found[1] or "", found[2], found[3])


def all_blocks() -> Iterator[Block]:
    """The fences of all pages."""
    for page in PAGES:
        yield from blocks(page)


def alike(one: str, other: str) -> bool:
    """Whether two outputs are the same but for what differs from run to run."""
    return _VARIES.sub("N", one).rstrip() == _VARIES.sub("N", other).rstrip()


class DemoTests(TestCase):
    """A base: the demo lab at free ports, in this process."""

    timeout = 180

    async def start_lab(self) -> None:
        text = DEMO.read_text(encoding="utf-8")
        self.demo_ports = [found[2] for found in _PORT.finditer(text)]
        text = _PORT.sub(lambda at: f"listen = {at[1]}:{'*' if '/' in at[1] else '0'}", text)
        service = LabService(parse_config(text), lambda status: None)
        self.addCleanup(service.stopService)
        service.startService()
        await service.starting
        found = [listener.listener for listener in service.listeners()]
        self.assertNotIn(None, found)
        addresses = [getattr(listener, "address", "") for listener in found]
        self.ports = [str(re.search(r":(\d+)", address)[1]) for address in addresses]  # type: ignore[index]

    def at_lab(self, text: str) -> str:
        """`text` with this lab's ports in place of the demo's."""
        other = dict(zip(self.demo_ports, self.ports, strict=True))
        for above in (1, 2):  # a Rogue listener has the next two ports, too
            other[str(9099 + above)] = str(int(other["9099"]) + above)
        known = r"\b(5\d{3}|7891|1861|4880|9010|9099|9100|9101)\b"
        return re.sub(known, lambda found: other.get(found[0], found[0]), text)

    async def run_file(self, *command: str, text: str, **env: str) -> Finished:
        """A command whose last argument but its options is a file with this text."""
        file = Path(self.mktemp()).absolute()
        file.write_text(text, encoding="utf-8")
        words = [str(file) if word == "FILE" else word for word in command]
        return await run(self, *words, env={"PYTHONIOENCODING": "utf-8", **env})


class ScriptTests(DemoTests):
    """``<!-- run -->``"""

    async def test_scripts(self) -> None:
        await self.start_lab()
        scripts = 0
        before: Block | None = None
        for block in all_blocks():
            if block.mark == "run":
                before, scripts = block, scripts + 1
                self.output = await self.run_script(block)
            elif block.mark == "prints":
                assert before is not None, block.where
                told = f"{block.where}: the script prints\n{self.output}"
                self.assertTrue(alike(self.at_lab(block.text), self.output), told)
        self.assertGreaterEqual(scripts, 5)

    async def run_script(self, block: Block) -> str:
        done = await self.run_file(
            sys.executable, "FILE", text=self.at_lab(block.text), PYTHONPATH=str(ROOT)
        )
        self.assertEqual((done.code, done.errors), (0, ""), f"{block.where}\n{done.text}")
        return done.text


class SessionTests(DemoTests):
    """``<!-- session: PEER -->``, each by a lab of its own."""

    async def play(self, name: str) -> None:
        sessions = [block for block in all_blocks() if block.mark == f"session: {name}"]
        self.assertTrue(sessions)
        python = peers.peer(name)
        for block in sessions:
            await self.start_lab()
            text = PREPARE.get(name, "") + self.at_lab(block.text)
            done = await self.run_file(
                python, "-c", PLAYER, "FILE", _VARIES.pattern, text=text,
                PYTHONPATH=str(peers.DRIVERS),
            )  # fmt: skip
            self.assertEqual(done.code, 0, f"{block.where}\n{done.text}{done.errors}")

    async def test_sm_bluesky(self) -> None:
        await self.play("sm-bluesky")

    async def test_plesty(self) -> None:
        await self.play("plesty-0.6.0")

    async def test_visa(self) -> None:
        await self.play("pyvisa-py")

    async def test_python_vxi11(self) -> None:
        await self.play("python-vxi11")

    async def test_shell(self) -> None:
        """The commands of each session one by one, in an environment that has these programs."""
        path = self.programs()
        for block in all_blocks():
            if block.mark != "session: shell":
                continue
            await self.start_lab()
            self.write_sm_bluesky(path)
            for command, expected in commands(block.text):
                done = await run(self, "bash", "-c", self.at_lab(command), env={"PATH": path})
                told = f"{block.where}\n$ {command}\n{done.text}{done.errors}"
                self.assertTrue(alike(self.at_lab(expected), done.text), told)

    def programs(self) -> str:
        """A PATH with the right netcat before all others; skips the test where one is missing."""
        found = Path(self.mktemp()).absolute()
        found.mkdir(parents=True)
        (found / "nc").symlink_to(peers.tool("nc"))
        (found / "lxi").symlink_to(peers.tool("lxi"))
        self.python = peers.peer("sm-bluesky")
        return f"{found}:/usr/bin:/bin"

    def write_sm_bluesky(self, path: str) -> None:
        """The peer's command line under its own name, with this lab's port for its usual one."""
        script = Path(path.partition(":")[0]) / "sm-bluesky"
        words = shlex.join([self.python, str(peers.DRIVERS / "sm_bluesky_command.py")])
        port = self.at_lab("7891")
        script.write_text(f'#!/bin/sh\nexec {words} "$@" --port {port} 2>/dev/null\n')
        script.chmod(0o755)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a session in the shell, each with what it printed."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


class ServingTests(TestCase):
    """``<!-- run here -->``: scripts that serve devices, up to ``reactor.run()``."""

    timeout = 30

    def setUp(self) -> None:
        self.services: list[ListenerService] = []
        serve = Lab.serve

        def recorded(lab: Lab, wire: str, listen: str = "", **options: Any) -> ListenerService:
            listen = "tcp://127.0.0.1:*" if "//" in listen else "tcp:0"
            service = serve(lab, wire, listen, **options)
            self.services.append(service)
            self.addCleanup(lab.stop)
            self.addCleanup(service.stopService)
            return service

        self.patch(Lab, "serve", recorded)

    def play(self, page: Path) -> dict[str, Any]:
        """Runs the blocks of a page, one after the other; the names that they leave."""
        names: dict[str, Any] = {"__name__": "example"}
        for block in blocks(page):
            if block.mark == "run here":
                padded = "\n" * block.line + block.text.replace("reactor.run()", "pass")
                exec(compile(padded, block.page, "exec"), names)
        return names

    async def test_every_page(self) -> None:
        """What a page has made is served, and can be read."""
        pages = 0
        for page in PAGES:
            names = self.play(page)
            if "lab" in names:
                pages += 1
                session = names["lab"].session()
                reading = await session.get("powermeter.power")
                self.assertGreater(reading.value, 0)
                session.close("done")
        self.assertGreaterEqual(pages, 2)
        for service in self.services:
            self.assertIsNotNone(await service.started)

    async def test_device_page_over_its_wires(self) -> None:
        """What the page says of headers and of devices that speak messages."""
        self.play(ROOT / "docs" / "writing-a-device.md")
        found = {service.common.device: service for service in self.services}

        async def ask(device: str, *messages: str) -> list[str]:
            listener: Any = await found[device].started
            client = ScpiClient(f"127.0.0.1:{listener.port.getHost().port}")
            self.addCleanup(client.close)
            return [await client.query(message) for message in messages]

        answers = await ask("amplifier", "CHAN2:GAIN 5;GAIN?", "CHANNEL1:GAIN?", "COLDFINGER?")
        self.assertEqual(answers, ["5", "1", "4.2"])
        self.assertEqual(await ask("bridge", "how?"), ["you said how?"])


class ConfigurationTests(SynchronousTestCase):
    """Every ini block can be used as it stands, beside the demo's devices if it has none."""

    def test_ini_blocks_parse(self) -> None:
        demo = DEMO.read_text(encoding="utf-8")
        sections = re.findall(r"^\[device [^[]*", demo, re.MULTILINE)
        tried = 0
        for block in all_blocks():
            if block.kind != "ini":
                continue
            text = block.text
            if "device" not in _SECTION.findall(text):
                text += "\n" + "\n".join(sections)
            parse_config(text, block.where)
            tried += 1
        self.assertGreaterEqual(tried, 4)

    def test_reference_has_every_wire(self) -> None:
        titles = {row.section for row in describe_options()}
        self.assertLessEqual(
            {"lab", "locks", "log", "device NAME", "serve NAME", "serve NAME, wire = scpi"}, titles
        )


class PageTests(SynchronousTestCase):
    """What holds for all pages."""

    def test_links_lead_somewhere(self) -> None:
        for page in PAGES:
            text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
            for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
                self.assertTrue((page.parent / target).exists(), f"{page.name}: {target}")

    def test_every_page_is_listed(self) -> None:
        docs = ROOT / "docs"
        listed = {docs / "index.md"}
        for page in docs.rglob("*.md"):
            for toc in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(), re.M | re.S):
                names = [line for line in toc.splitlines() if line and line[0] != ":"]
                listed |= {page.parent / f"{name}.md" for name in names}
        self.assertEqual(listed, set(docs.rglob("*.md")))

    def test_marks_are_known(self) -> None:
        peer_names = {item.name for item in pins.everything()} | {"shell"}
        for block in all_blocks():
            mark, _, name = block.mark.partition(": ")
            if mark == "session":
                self.assertIn(name, peer_names, block.where)
            elif block.page not in ELSEWHERE and block.kind in ("python", "pycon", "console"):
                self.assertIn(mark, ("run", "run here", "shown"), block.where)


class PageBuildTests(TestCase):
    """The pages build without a warning, where Sphinx is installed."""

    timeout = 120

    async def test_build(self) -> None:
        try:
            import furo  # type: ignore[import-not-found]  # noqa: F401
            import myst_parser  # noqa: F401
            import sphinx  # noqa: F401
        except ImportError:
            raise SkipTest("install what the pages need: pip install -e '.[docs]'") from None
        target = str(Path(self.mktemp()).absolute())
        done = await run(
            self,
            *(sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"),
            *("-d", target + "-trees", str(ROOT / "docs"), target),
            limit=100,
            env={"PYTHONPATH": str(ROOT)},
        )
        self.assertEqual(done.code, 0, textwrap.shorten(done.errors, 3000))
        page = (Path(target) / "configuration.html").read_text(encoding="utf-8")
        for key in ("allow_shutdown", "string_timeout", "max_request", "max_line"):
            self.assertIn(key, page)
