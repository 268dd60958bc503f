"""A real module of PyMoDAQ 4.4, whole and headless, whose hardware is the TCPServer plugin.

usage: pymodaq_program.py move|0D|1D|2D

The plugin listens at a port that the system chooses (``port``). Events: ``initialized``, ``value``
and ``done`` with the position in the module's units, ``data`` with the frame.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from pymodaq_module import choose, number, plain
from pymodaq_server import leaves, shown
from qt_driver import QtDriver, verbs


class Driver:
    """The verbs that a test asks for."""

    def __init__(self, qt: QtDriver, kind: str) -> None:
        self._qt = qt
        self._move = kind == "move"
        name = "daq_move" if self._move else "daq_viewer"
        module = import_module(f"pymodaq.control_modules.{name}")
        if self._move:
            self._module = module.DAQ_Move(None, title="program")
            self._module.current_value_signal.connect(lambda value: self._tell("value", value))
            self._module.move_done_signal.connect(lambda value: self._tell("done", value))
        else:
            self._module = module.DAQ_Viewer(None, title="program", daq_type=f"DAQ{kind}")
            self._module.grab_done_signal.connect(self._data)
        choose(self._module, "actuator" if self._move else "detector", "TCPServer")
        self._setting("socket_ip").setValue("127.0.0.1")
        self._setting("port_id").setValue(0)
        self._module.init_signal.connect(lambda done: qt.told.tell("initialized", done=bool(done)))
        self._module.init_hardware(True)

    def _setting(self, *path: str) -> Any:
        group = "move_settings" if self._move else "detector_settings"
        return self._module.settings.child(group, *path)

    def _tell(self, event: str, value: Any) -> None:
        self._qt.told.tell(event, value=number(value), units=str(value.units))

    def _data(self, data: Any) -> None:
        self._qt.told.tell("data", frame=list(map(shown, data)))

    def port(self) -> int:
        """Where the plugin listens."""
        return int(self._module.controller.socket.getsockname()[1])

    def units(self) -> str:
        """What the module moves in."""
        return str(self._module.units)

    def move(self, word: str, value: float | None = None) -> None:
        """``move_abs``, ``move_rel`` or ``move_home``, in the module's units."""
        method = getattr(self._module, word)
        if value is None:
            method()
        else:
            actuator = import_module("pymodaq.utils.data").DataActuator
            method(actuator("order", data=value, units=self.units()))

    def snap(self) -> None:
        """One frame."""
        self._module.grab_data(snap_state=True)

    def settings(self) -> dict[str, Any]:
        """What the panel shows of the client's settings."""
        return dict(leaves(self._setting("settings_client"), ()))

    def set_setting(self, path: list[str], value: Any) -> None:
        """A change that a user makes in the panel."""
        self._setting("settings_client", *path).setValue(value)

    def infos(self) -> dict[str, Any]:
        """The lines that the client has shown."""
        return {child.name(): plain(child.value()) for child in self._setting("infos").children()}


def main() -> None:
    qt = QtDriver()
    qt.run(verbs(Driver(qt, sys.argv[1])))


if __name__ == "__main__":
    main()
