"""A whole lab in a process of its own: ``twistd -n labnet``, at ports that the system chooses.

The addresses come from the table that the lab logs when it has started: a row for each listener,
with its device, wire and address.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any, cast

from twisted.trial.unittest import TestCase

from tests.interop.processes import LIMIT, ChildFailed, LineChild

# The twistd of this very interpreter: a script on the path may be another one's.
TWISTD = (
    *(sys.executable, "-c", "from twisted.scripts.twistd import run; run()"),
    *("-n", "--pidfile="),
)
ROOT = Path(__file__).resolve().parents[2]


class LabProcess(LineChild):
    """A running lab. ``lines`` holds its log."""

    def __init__(self) -> None:
        super().__init__("twistd labnet")

    def outReceived(self, data: bytes) -> None:
        self.errReceived(data)
        self.feed(data)

    async def port(self, device: str, wire: str, limit: float = LIMIT) -> int:
        """The port at which ``device`` (``*`` for several) is served over ``wire``."""
        row = re.compile(rf"(?:^|\s){re.escape(device)}\s+{wire}\s+\S*?:(\d+)\b")
        line = await self.wait_for_line(
            lambda line: row.search(line) is not None, f"where {device} is at {wire}", limit
        )
        return int(cast(re.Match[str], row.search(line))[1])

    async def stop(self, limit: float = LIMIT) -> int:
        """End it as a user does, with TERM; the exit code."""
        self.signal("TERM")
        return await self.end(limit)

    async def leave(self) -> None:
        """End it if it still runs; fails when it ended badly, or its log has an exception."""
        if self.code is None:
            code = await self.stop()
            if code != -signal.SIGTERM:
                raise ChildFailed(self.story(f"ended with {code} on TERM"))
        if any("Traceback" in line or "Unhandled" in line for line in self.lines):
            raise ChildFailed(self.story("had an exception"))


def start_lab(
    test: TestCase, config: str, python: str = sys.executable, path: str = ""
) -> LabProcess:
    """Start a lab with this configuration; its listeners should have port 0, or ``*`` for ZMQ.

    `python` may be the interpreter of a peer, `path` another folder of modules.
    """
    file = Path(cast(Any, test).mktemp()).absolute()
    file.write_text(config)
    lab = LabProcess()
    command = [python, *TWISTD[1:], "labnet", "--config", str(file)]
    lab.start(test, command, PYTHONPATH=f"{ROOT}{os.pathsep}{path}")
    test.addCleanup(lab.leave)
    return lab
