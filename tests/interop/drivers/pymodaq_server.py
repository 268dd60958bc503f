"""PyMoDAQ's own TCPServer plugin, headless: the controlling side that labnet dials.

usage: pymodaq_server.py move|0D|1D|2D [PORT] [repaired]

It listens at PORT, or at one that the system chooses (``port`` tells which). What the plugin tells
its module is told as events: ``status`` with the word and the number, if any, that comes with it,
and ``data`` with the frame. ``repaired``: in 5.0.1 to 5.1.13 what the plugin accepts has no way of
sending; here it gets one.
"""

from __future__ import annotations

import sys
from importlib import import_module, metadata
from typing import Any

from qt_driver import QtDriver, verbs

MAJOR = int(metadata.version("pymodaq").partition(".")[0])
MOVE = "pymodaq.daq_move.utility_classes" if MAJOR == 3 else (
    "pymodaq.control_modules.move_utility_classes"
)
VIEWER = "pymodaq.daq_viewer.utility_classes" if MAJOR == 3 else (
    "pymodaq.control_modules.viewer_utility_classes"
)


class Driver:
    """The verbs that a test asks for."""

    def __init__(self, qt: QtDriver, kind: str, port: int, repaired: bool) -> None:
        self._qt = qt
        self._kind = kind
        parent = make_parent(self._status)
        if kind == "move":
            self._plugin = import_module(MOVE).DAQ_Move_TCP_server(parent, None)
        else:
            self._plugin = import_module(VIEWER).DAQ_Viewer_TCP_server(parent, None, kind)
            if MAJOR == 3:  # the base class leaves it to the plugins what becomes of the arrays
                self._plugin.data_ready = lambda arrays: self._data([{"data": arrays}])
            else:
                self._plugin.dte_signal.connect(self._data)
        self._plugin.settings.child("socket_ip").setValue("127.0.0.1")
        self._plugin.settings.child("port_id").setValue(port)
        (self._plugin.ini_stage if kind == "move" else self._plugin.ini_detector)(None)
        if repaired:
            repair(self._plugin.serversocket)

    def port(self) -> int:
        """Where it listens."""
        return int(self._plugin.serversocket.socket.getsockname()[1])

    def clients(self) -> list[str]:
        """The types of those who are connected."""
        return [client["type"] for client in self._plugin.connected_clients][1:]

    # What the plugin tells its module

    def _status(self, command: Any) -> None:
        attribute = getattr(command, "attributes", None) if MAJOR == 3 else command.attribute
        value = attribute[0] if isinstance(attribute, (list, tuple)) and attribute else attribute
        self._qt.told.tell("status", word=str(command.command), value=plain(value))

    def _data(self, data: Any) -> None:
        self._qt.told.tell("data", frame=list(map(shown, data)))

    # Orders

    def order(self, word: str, value: float | None = None, units: str = "mm") -> None:
        """``move_abs``, ``move_rel``, ``move_home``, ``get_actuator_value`` or ``stop_motion``."""
        if MAJOR == 3:
            word = {"move_abs": "move_Abs", "move_rel": "move_Rel", "move_home": "move_Home"}.get(
                word, word
            )
        method = getattr(self._plugin, word)
        if value is None:
            method()
        elif MAJOR == 3:
            method(value)
        else:
            method(actuator_data()("order", data=value, units=units))

    def grab(self) -> None:
        """Ask for a frame."""
        self._plugin.grab_data()

    def axes(self) -> list[Any]:
        """Label, units and length of the x and y axes that have come by themselves."""
        axes = (self._plugin.x_axis, self._plugin.y_axis)
        return [[axis["label"], axis["units"], axis["data"].size] for axis in axes if axis]

    # The settings of the client, as a user sees them in the panel

    def _client_settings(self) -> Any:
        return self._plugin.settings.child("settings_client")

    def settings(self) -> dict[str, Any]:
        """Paths, with dots, types and values."""
        return dict(leaves(self._client_settings(), ()))

    def set_setting(self, path: list[str], value: Any) -> None:
        """A change that a user makes: the module hands it on to its plugin."""
        setting = self._client_settings().child(*path)
        setting.setValue(value)
        where = ["settings", "settings_client", *path]
        self._plugin.update_settings({"path": where, "param": setting, "change": "value"})

    def infos(self) -> dict[str, Any]:
        """The lines that the client has shown."""
        children = self._plugin.settings.child("infos").children()
        return {child.name(): child.value() for child in children}

    def units(self) -> str:
        """The units that the plugin takes the actuator to be in."""
        return str(getattr(self._plugin, "axis_unit", ""))


def make_parent(status: Any) -> Any:
    """What a plugin has instead of the module around it."""
    from qtpy import QtCore

    class Parent(QtCore.QObject):
        status_sig = QtCore.Signal(object)
        title = "driver"

    parent = Parent()
    parent.status_sig.connect(status)
    return parent


def repair(server: Any) -> None:
    """Let it accept sockets of the class that can send."""
    can_send = import_module("pymodaq_utils.serialize.mysocket").Socket
    accept = server.accept

    def accept_repaired() -> Any:
        accepted, address = accept()
        return can_send(accepted.socket), address

    server.accept = accept_repaired


def actuator_data() -> Any:
    """The class of positions."""
    return import_module("pymodaq.utils.data").DataActuator


def leaves(parameter: Any, above: tuple[str, ...]) -> Any:
    """All settings below one that are no groups."""
    for child in parameter.children():
        path = (*above, child.name())
        if child.hasChildren() or child.opts["type"] == "group":
            yield from leaves(child, path)
        else:
            yield ".".join(path), [child.opts["type"], plain(child.value())]


def shown(data: Any) -> dict[str, Any]:
    """One set of channels of a frame as JSON can carry it."""
    arrays = data["data"] if isinstance(data, dict) else data.data
    get = data.get if isinstance(data, dict) else lambda name, other="": getattr(data, name, other)
    axes = getattr(data, "axes", [])
    return {
        "name": get("name"),
        "dim": str(get("dim", "")),
        "units": str(get("units", "")),
        "labels": list(get("labels", []) or []),
        "shapes": [list(array.shape) for array in arrays],
        "dtypes": [array.dtype.str for array in arrays],
        "sums": [float(array.sum()) for array in arrays],
        "first": [array.reshape(-1)[:4].tolist() for array in arrays],
        "axes": [[axis.label, str(axis.units), int(axis.index), axis.size] for axis in axes],
    }


def plain(value: Any) -> Any:
    """What JSON can carry; a position as its number."""
    if hasattr(value, "value") and callable(value.value):
        value = value.value()
    if hasattr(value, "item"):
        value = value.item()
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def main() -> None:
    kind, *rest = sys.argv[1:]
    port = int(rest[0]) if rest else 0
    qt = QtDriver()
    qt.run(verbs(Driver(qt, kind, port, "repaired" in rest)))


if __name__ == "__main__":
    main()
