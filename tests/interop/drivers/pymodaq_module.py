"""A real PyMoDAQ module, whole and headless, with mock hardware, that dials a server over TCP/IP.

usage: pymodaq_module.py KIND PORT [TITLE]

KIND is ``move``, ``0D``, ``1D``, ``2D`` or ``ND``. The module is made and its hardware initialized;
``dial`` then ticks "connect to server". Events: ``initialized``, ``connected``, ``disconnected``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from qt_driver import QtDriver, verbs


def make_module(kind: str, title: str) -> Any:
    """A DAQ_Move or DAQ_Viewer with the mock plugin, the way each version makes it."""
    from qtpy import QtWidgets

    if kind == "move":
        module = import_module("pymodaq.control_modules.daq_move")
        parent = None if has_own_ui(module.DAQ_Move) else QtWidgets.QWidget()
        made = module.DAQ_Move(parent, title=title)
        choose(made, "actuator", "Mock")
        return made
    module = import_module("pymodaq.control_modules.daq_viewer")
    if has_own_ui(module.DAQ_Viewer):
        made = module.DAQ_Viewer(None, title=title, daq_type=f"DAQ{kind}")
    else:
        docks = import_module("pyqtgraph.dockarea")
        made = module.DAQ_Viewer(docks.DockArea(), title=title, DAQ_type=f"DAQ{kind}")
    choose(made, "detector", "Mock")
    return made


def has_own_ui(cls: type) -> bool:
    """From 4.0 on a module runs without any widget."""
    return hasattr(cls, "init_hardware_ui")


def choose(module: Any, what: str, name: str) -> None:
    """Select the plugin: a property from 4.0 on, else the box that a user would choose in."""
    if has_own_ui(type(module)):
        setattr(module, what, name)
    else:
        box = module.ui.Stage_type_combo if what == "actuator" else module.ui.Detector_type_combo
        box.setCurrentText(name)


class Driver:
    """The verbs that a test asks for."""

    def __init__(self, qt: QtDriver, kind: str, port: int, title: str) -> None:
        self._qt = qt
        self._kind = kind
        self._port = port
        self._module = make_module(kind, title)
        self._group = "move_settings" if kind == "move" else "detector_settings"
        self._module.init_signal.connect(
            lambda done: qt.told.tell("initialized", done=bool(done))
        )
        self._initialize()

    def _initialize(self) -> None:
        if has_own_ui(type(self._module)):
            self._module.init_hardware(True)
        elif self._kind == "move":
            self._module.ui.IniStage_pb.click()
        else:
            self._module.ui.IniDet_pb.click()

    def _tcpip(self, name: str) -> Any:
        return self._module.settings.child("main_settings", "tcpip", name)

    def dial(self) -> None:
        """Tick "connect to server"; soon, as up to 3.6 that runs a loop that never returns."""
        from qtpy import QtCore

        QtCore.QTimer.singleShot(0, self._dial)

    def _dial(self) -> None:
        self._tcpip("ip_address").setValue("127.0.0.1")
        self._tcpip("port").setValue(self._port)
        self._tcpip("tcp_connected").sigValueChanged.connect(self._connection_changed)
        self._tcpip("connect_server").setValue(True)

    def _connection_changed(self, _: Any, connected: Any) -> None:
        self._qt.told.tell("connected" if connected else "disconnected")

    def hang_up(self) -> None:
        """Untick it."""
        self._tcpip("connect_server").setValue(False)

    def position(self) -> Any:
        """What the module believes its position to be."""
        for name in ("_current_value", "current_position"):
            if hasattr(self._module, name):
                return number(getattr(self._module, name))
        raise LookupError("no position is known in this version")

    def setting(self, *path: str) -> Any:
        """A value of the hardware's settings tree."""
        return plain(self._module.settings.child(self._group, *path).value())

    def set_setting(self, path: list[str], value: Any) -> None:
        """A change that a user makes in the module's panel."""
        self._module.settings.child(self._group, *path).setValue(value)

    def settings(self) -> dict[str, Any]:
        """Names, types and values of the top level of the settings tree."""
        children = self._module.settings.child(self._group).children()
        leaves = (child for child in children if not child.hasChildren())
        return {child.name(): [child.opts["type"], plain(child.value())] for child in leaves}


def number(value: Any) -> float:
    """A position as a number: an object that carries arrays since 4.1."""
    if hasattr(value, "value") and callable(value.value):
        value = value.value()
    return float(value)


def plain(value: Any) -> Any:
    """What JSON can carry."""
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def main() -> None:
    kind, port, *title = sys.argv[1:]
    qt = QtDriver()
    qt.run(verbs(Driver(qt, kind, int(port), *(title or ["module"]))))


if __name__ == "__main__":
    main()
