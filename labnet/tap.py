"""The command ``twistd labnet``: its options, and the service that it runs."""

from __future__ import annotations

import atexit
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.application.service import IService
from twisted.python import usage

from labnet.errors import LabError

if TYPE_CHECKING:
    from labnet.config import Config
    from labnet.service import LabService


class Options(usage.Options):
    """The options of ``twistd labnet``."""

    synopsis = "[--config FILE] [--check [--against FILE]]"
    longdesc = (
        "Serves the instruments of a lab over many wire formats. Without --config it runs the demo "
        "lab: simulated instruments on 127.0.0.1."
    )
    optParameters = [
        ["config", "c", None, "The lab's configuration; without it, the demo lab."],
        ["against", None, None, "With --check: say what it would change in a lab of that file."],
    ]
    optFlags = [["check", None, "Say what the configuration would serve, and exit."]]

    lab_config: Config

    def opt_version(self) -> None:
        """Show the version of labnet and exit."""
        from importlib.metadata import version

        print(f"labnet {version('labnet')}")
        sys.exit(0)

    def parseArgs(self, *args: str) -> None:
        """UsageError for words that belong to no option."""
        if args:
            raise usage.UsageError(f"unexpected {args[0]!r}; a configuration goes behind --config")

    def postOptions(self) -> None:
        """Reads the configuration: exits with one line if it cannot be used."""
        from labnet.config import load_config

        try:
            self.lab_config = load_config(self["config"])
            running = load_config(self["against"]) if self["against"] else None
        except LabError as error:
            sys.exit(str(error))  # a UsageError would bury the line under the usage
        if self["check"]:
            print(summary(self.lab_config) if running is None else self._changes(running))
            sys.exit(0)

    def _changes(self, running: Config) -> str:
        from labnet.reload import compare

        lines = compare(running, self.lab_config).lines()
        return "\n".join(lines or ["nothing changes"])


def summary(config: Config) -> str:
    """What a configuration would serve: its devices and a row for each listener."""
    from labnet.service import format_rows

    rows = [("device", "wire", "listen")]
    for serve in config.serves:
        several = ", ".join(serve.devices)
        rows.append((serve.device or several, serve.wire.name, serve.listen))
    rows += [(dial.device, dial.wire.name, f"to {dial.connect}") for dial in config.dials]
    drivers = [("device", "driver"), *((it.name, it.driver.name) for it in config.devices)]
    title = f"{config.file}: {config.lab.name} would serve"
    return "\n".join([title, "", *format_rows(drivers), "", *format_rows(rows)])


def makeService(options: Options) -> IService:
    """The service tree of the configuration; it starts nothing yet."""
    from twisted.internet import reactor

    from labnet.service import LabService

    use_monotonic_time(reactor)
    foreground = options.parent is None or options.parent.get("nodaemon", True)
    lab = LabService(options.lab_config, end_process, raise_at_once=not foreground)
    control(lab, options["config"], reactor).setServiceParent(lab)
    service: IService = lab
    return service


def control(lab: LabService, file: str | None, reactor: Any) -> Any:
    """What lets other programs of this user reload the lab; `file` is its configuration."""
    from labnet.control import ControlService, socket_of

    keys = lab.config.lab
    path = Path(keys.control) if keys.control else socket_of(keys.name)
    return ControlService(lab, file, None if keys.control == "no" else path, reactor)


def use_monotonic_time(reactor: Any) -> None:
    """Lets a reactor that has no timers yet run them on a clock that nobody can set back.

    Twisted's own timers follow the wall clock: with that set back by an hour, no lease or deadline
    would end before the hour was over.
    """
    if not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic


def end_process(status: int, reactor: Any = None) -> None:
    """Stops the reactor; the process ends with `status` once everything has been put away.

    ``twistd`` gives 0 whenever the reactor has stopped without a signal, and an exception on the
    way out would be a traceback: only the very last step can still say otherwise.
    """
    if reactor is None:
        from twisted.internet import reactor
    if status:
        atexit.register(_exit, status)
    reactor.callWhenRunning(_stop, reactor)


def _stop(reactor: Any) -> None:
    from twisted.internet.error import ReactorNotRunning

    try:
        reactor.stop()
    except ReactorNotRunning:  # it is on its way out already
        pass


def _exit(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
