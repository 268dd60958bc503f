"""The lab's control socket: ``labnet reload`` and ``labnet status`` talk to it, SIGHUP reloads too.

A Unix socket in a directory that only the lab's user can enter. A request is one line of JSON
(``{"command": "reload", "check": true}``), and so is its answer (``{"ok": true, "text": "..."}``).
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from labnet.config import load_config
from labnet.errors import LabError
from labnet.logs import Logger
from labnet.reload import plan_of

if TYPE_CHECKING:
    from labnet.service import LabService

LONGEST_LINE = 65536
_ODD = re.compile(r"[^A-Za-z0-9._-]+")


def socket_directory() -> Path:
    """Where the sockets of this user's labs are."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isdir(runtime):
        return Path(runtime) / "labnet"
    return Path(tempfile.gettempdir()) / f"labnet-{os.getuid()}"


def socket_of(lab: str) -> Path:
    """The socket of the lab of that name."""
    return socket_directory() / f"{_ODD.sub('_', lab)[:60]}.sock"


def make_private(directory: Path) -> None:
    """Makes the directory, for this user alone; OSError if it is somebody else's or open to others.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if not directory.is_dir() or directory.is_symlink() or found.st_uid != os.getuid():
        raise PermissionError(f"{directory} is not this user's own directory")
    if found.st_mode & 0o077:
        raise PermissionError(f"{directory} is open to others; its mode should be 0700")


def make_room(path: Path) -> None:
    """Removes the socket that a lab which was killed has left; OSError if there is something else.

    The number of its process would tell nothing: another may have it by now.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError("there is a file that is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as other:
        other.settimeout(1.0)
        try:
            other.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except TimeoutError:
            pass
    raise FileExistsError("another lab answers there; give each its own name in [lab]")


class ControlProtocol(LineOnlyReceiver):
    """One connection: requests and answers, a line each."""

    delimiter = b"\n"
    MAX_LENGTH = LONGEST_LINE

    def __init__(self, carry_out: Callable[[Any], Any]) -> None:
        self._carry_out = carry_out

    def lineReceived(self, line: bytes) -> None:
        done: Deferred[Any] = maybeDeferred(self._carry_out, _request(line))
        done.addErrback(_in_words).addCallback(self._answer)

    def _answer(self, answer: dict[str, Any]) -> None:
        if self.connected:
            self.sendLine(json.dumps(answer).encode())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """What was asked for goes on."""
        self.connected = 0


def _request(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    return request if isinstance(request, dict) else {}


def _in_words(failure: Failure) -> dict[str, Any]:
    if not failure.check(LabError):
        ControlService.log.failure("a request over the control socket failed", failure)
        return {"ok": False, "text": "it failed; the lab's log says why"}
    return {"ok": False, "text": failure.getErrorMessage()}


class _Factory(Factory):
    noisy = False

    def __init__(self, carry_out: Callable[[Any], Any]) -> None:
        self._carry_out = carry_out

    def buildProtocol(self, addr: Any) -> ControlProtocol:
        return ControlProtocol(self._carry_out)


class ControlService(Service):
    """Listens at the socket, and hears SIGHUP, for the lab that `file` configures.

    `file` is None for the demo lab, which cannot be reloaded. With `path` None there is no socket.
    """

    log = Logger()

    def __init__(
        self, lab: LabService, file: str | None, path: Path | None, reactor: Any
    ) -> None:
        self.path = path
        self._lab = lab
        self._file = None if file is None else os.path.abspath(file)
        self._reactor = reactor
        self._port: Any = None
        self._before: Any = None

    def startService(self) -> None:
        """Listens; a lab goes on without its socket where that cannot be."""
        super().startService()
        self._hear()
        if self.path is None:
            return
        try:
            make_private(self.path.parent)
            make_room(self.path)
            self._port = self._reactor.listenUNIX(
                str(self.path), _Factory(self.carry_out), mode=0o600
            )
        except (OSError, CannotListenError) as error:
            why = error.socketError if isinstance(error, CannotListenError) else error
            why = getattr(why, "strerror", None) or why
            self.log.warn("no control socket at {path}: {why}", path=str(self.path), why=str(why))

    def _hear(self) -> None:
        try:
            self._before = signal.signal(signal.SIGHUP, self._signalled)
        except ValueError:
            pass  # not in the main thread

    def _signalled(self, number: int, frame: Any) -> None:
        self._reactor.callFromThread(self._hang_up)

    def _hang_up(self) -> None:
        done = Deferred.fromCoroutine(self.reload())
        done.addCallbacks(self._told, self._refused)

    def _told(self, text: str) -> None:
        self.log.info("{text}", text=text)

    def _refused(self, failure: Failure) -> None:
        if failure.check(LabError):
            self.log.error("not reloaded: {why}", why=failure.getErrorMessage())
        else:
            self.log.failure("reloading failed", failure)

    def stopService(self) -> Any:
        """Closes the socket."""
        super().stopService()
        if self._before is not None:
            signal.signal(signal.SIGHUP, self._before)
            self._before = None
        port, self._port = self._port, None
        return None if port is None else port.stopListening()

    # What can be asked for

    def carry_out(self, request: dict[str, Any]) -> Any:
        """The answer to a request; fails with a `LabError` for one that cannot be carried out."""
        command = request.get("command")
        if command == "status":
            return {"ok": True, "text": self.status()}
        if command == "reload":
            check = request.get("check", False)
            if not isinstance(check, bool):
                raise LabError("check is true or false")
            return Deferred.fromCoroutine(self._reload(check))
        raise LabError("the commands are reload and status")

    async def _reload(self, check: bool) -> dict[str, Any]:
        return {"ok": True, "text": await self.reload(check)}

    async def reload(self, check: bool = False) -> str:
        """Reads the file again and changes what is different in it; what that was, in words.

        With `check` only tells. Raises `LabError` for a file that cannot be used, and for what
        could not be done.
        """
        if self._file is None:
            raise LabError("the lab was started without a configuration file")
        new = load_config(self._file)
        lines = plan_of(self._lab, new).lines() or ["nothing changes"]
        if check:
            return "\n".join(lines)
        problems = await self._lab.reload(new)
        if problems:
            raise LabError("\n".join([*lines, *problems]))
        return "\n".join(lines)

    def status(self) -> str:
        """The devices and listeners, and what is wrong with them."""
        from labnet.service import format_rows

        lab = self._lab.lab
        devices = {} if lab is None else lab.devices()
        drivers = {it.name: it.driver.name for it in self._lab.config.devices}
        rows = [("device", "driver", "condition")]
        rows += [
            (name, drivers.get(name, ""), node.queue.condition or "ready")
            for name, node in devices.items()
        ]
        served = [("device", "wire", "address")]
        served += [
            (it.shown_device, it.wire.name, it.listener.address if it.listener else "waits")
            for it in self._lab.listeners()
        ]
        return "\n".join([*format_rows(rows), "", *format_rows(served)])
