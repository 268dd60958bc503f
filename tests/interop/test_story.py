"""One lab, three languages, one lock: each peer is told who holds the stage, in its own words."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from tests.interop.lab import start_lab
from tests.interop.peers import PeerError, PeerProcess, peer, start
from tests.interop.processes import ChildFailed

GRACE = 1.0
SOON = 3.0  # s: the rest is for a busy machine
LAB = f"""
[lab]
name = story
[locks]
grace = {GRACE}
stop = open
[device stage]
driver = simulated.stage
[serve stage-plesty]
wire = plesty
listen = tcp://127.0.0.1:*
device = stage
[serve stage-tsv]
wire = tsv
listen = tcp:0
device = stage
[serve stage-scpi]
wire = scpi
listen = tcp:0
device = stage
"""
NO_ERROR = '0,"No error"'


class StoryTests(TestCase):
    """PLESTY's client reserves the stage; sm_bluesky's and pyvisa-py's would like to move it."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        for name in ("plesty-0.6.0", "sm-bluesky", "pyvisa-py"):
            peer(name)
        self.lab = start_lab(self, LAB)
        self.plesty = start(self, "plesty-0.6.0", "plesty_client")
        self.visa = start(self, "pyvisa-py", "visa_client")
        port = str(await self.lab.port("stage", "tsv"))
        self.bluesky = start(self, "sm-bluesky", "sm_bluesky_client", "127.0.0.1", port, "10")
        resource = f"TCPIP::127.0.0.1::{await self.lab.port('stage', 'scpi')}::SOCKET"
        await self.visa.ask("open", "stage", resource, read_termination="\n", timeout=10_000)

    async def reserve(self, plesty: PeerProcess, **options: Any) -> Any:
        address = f"tcp://127.0.0.1:{await self.lab.port('stage', 'plesty')}"
        options = {"client_id": "night-scan", "resources": ["stage"], **options}
        return await plesty.ask("connect", address, **options)

    async def send(self, *command: object) -> str:
        data: str = await self.bluesky.ask("send", *command)
        return data

    async def visa_does(self, command: str) -> str:
        """What is in the error queue after a command."""
        await self.visa.ask("write", "stage", command)
        error: str = await self.visa.ask("query", "stage", "SYST:ERR?")
        return error

    async def position(self) -> float:
        return float(await self.send("position"))

    async def begin_to_move(self) -> Deferred[Any]:
        """PLESTY's client moves the stage from 0 mm; this is its answer to be."""
        await self.plesty.ask("write", "velocity", 10.0)
        moving: Deferred[Any] = self.plesty.ask("call", "move_abs", 100.0)
        while await self.position() == 0.0:
            pass
        return moving

    # What a client asks for, and whether it got it; a refusal must name the holder.

    async def bluesky_moves(self, to: float = 5.0) -> bool:
        try:
            await self.send("move_abs", to)
        except PeerError as failure:
            self.assertIn("is locked by night-scan (plesty 127.0.0.1:", failure.text)
            self.reason = failure.text
            return False
        return True

    async def visa_writes(self) -> bool:
        error = await self.visa_does("VEL 50")
        if error != NO_ERROR:
            self.assertEqual(error, '-203,"Command protected;locked by night-scan"')
        return error == NO_ERROR

    async def until(self, attempt: Callable[[], Awaitable[bool]]) -> tuple[int, float]:
        """How often it was refused, and when it was let through."""
        refused = 0
        while not await attempt():
            refused += 1
        return refused, time.monotonic()

    async def both_get_through(self, killed: float) -> None:
        """Both are refused for the time of grace, and let through when it has passed."""
        here = await self.position()  # a move to there is over at once
        tries = [self.until(partial(self.bluesky_moves, here)), self.until(self.visa_writes)]
        for refused, when in await gatherResults(list(map(Deferred.fromCoroutine, tries))):
            self.assertGreater(refused, 0)
            self.assertGreaterEqual(when - killed, GRACE)
            self.assertLess(when - killed, GRACE + SOON)
        self.assertIn("its connection is lost, it may come back within", self.reason)

    async def test_the_story(self) -> None:
        info = await self.reserve(self.plesty)
        self.assertEqual(info["resources"], ["stage"])

        # All others are told who holds it, and may look; on the SCPI socket only at its identity.
        self.assertFalse(await self.bluesky_moves())
        self.assertFalse(await self.visa_writes())
        self.assertRegex(await self.send("lock_info"), "^stage: night-scan ")
        self.assertEqual(await self.position(), 0.0)
        self.assertRegex(await self.visa_does("POS?"), "^-203,")
        self.assertRegex(await self.visa.ask("query", "stage", "*IDN?"), "^labnet,SIM-STAGE,")

        # The holder moves; anybody may stop that.
        moving = await self.begin_to_move()
        await self.send("stop")
        failure = await self.assertFailure(moving, PeerError)
        self.assertRegex(failure.text, r"^Stopped: stopped at .* on the way to 100 mm")
        stopped = await self.position()
        self.assertTrue(0 < stopped < 100, stopped)
        self.assertFalse(await self.bluesky_moves())
        self.assertFalse(await self.visa_writes())
        self.assertEqual(await self.position(), stopped)

        # The holder dies: its lock is kept for it, then freed.
        killed = time.monotonic()
        await self.plesty.kill()
        await self.both_get_through(killed)
        self.assertTrue(await self.bluesky_moves())
        self.assertEqual(await self.position(), 5.0)
        self.assertEqual(await self.visa.ask("query", "stage", "MOVE 2;*OPC?"), "1")
        self.assertEqual(await self.position(), 2.0)
        self.assertEqual(await self.send("lock_info"), "")

    async def test_killed_in_a_move(self) -> None:
        await self.reserve(self.plesty)
        moving = await self.begin_to_move()
        killed = time.monotonic()
        await self.plesty.kill()
        await self.assertFailure(moving, ChildFailed)
        await self.send("stop")
        await self.both_get_through(killed)
        self.assertTrue(await self.bluesky_moves())
        self.assertEqual(await self.position(), 5.0)

    async def test_a_goodbye_frees_at_once(self) -> None:
        await self.reserve(self.plesty)
        self.assertFalse(await self.bluesky_moves())
        await self.plesty.ask("close")
        self.assertTrue(await self.bluesky_moves())
        self.assertTrue(await self.visa_writes())

    async def test_holder_on_the_scpi_socket(self) -> None:
        """The other way round: the lock is pyvisa-py's, and ends with its connection."""
        self.assertEqual(await self.visa.ask("query", "stage", "SYST:LOCK:REQ?"), "1")
        with self.assertRaises(PeerError) as caught:
            await self.reserve(self.plesty)
        self.assertIn("Requested resources are not available", caught.exception.text)
        await self.reserve(self.plesty, resources=None)
        for refused in (
            self.plesty.ask("call", "move_abs", 1.0),
            self.bluesky.ask("send", "move_abs", 1),
        ):
            failure = await self.assertFailure(refused, PeerError)
            self.assertRegex(failure.text, r"is locked by .*\(scpi 127\.0\.0\.1:")
        await self.visa.kill()
        while await self.send("lock_info"):
            pass  # until the lab has seen the end of the connection
        self.assertEqual(await self.plesty.ask("call", "move_abs", 1.0), 1.0)

    async def test_one_owner_in_three_languages(self) -> None:
        """A program that shows the token of a lock is its owner over every wire."""
        token = await self.send("lock", "stage", "alignment", 600)
        self.assertRegex(await self.visa_does("VEL 40"), "^-203,.*alignment")
        self.assertEqual(await self.visa_does(f'SYST:LOCK:TOK "{token}"'), NO_ERROR)
        self.assertEqual(await self.visa_does("VEL 40"), NO_ERROR)
        await self.reserve(self.plesty, connect_kwargs={"token": token})
        self.assertEqual(await self.plesty.ask("call", "move_abs", 3.0), 3.0)
        await self.plesty.kill()
        self.assertEqual(await self.send("with", token, "move_abs", 4), "4.0")
        await self.send("unlock", token)
        self.assertEqual(await self.send("move_abs", 5), "5.0")
