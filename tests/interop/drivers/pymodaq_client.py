"""PyMoDAQ's own TCPClient class with made-up hardware behind it; for every version alike.

usage: pymodaq_client.py ACTUATOR|GRABBER PORT

``dial`` lets it connect. What the server orders is told as the event ``ordered``. An actuator moves
in steps and says where it is after each; a grabber answers with the frame of the last ``frame``.
"""

from __future__ import annotations

import sys
from importlib import import_module, metadata
from typing import Any

from qt_driver import QtDriver, verbs

MAJOR = int(metadata.version("pymodaq").partition(".")[0])
STEPS = 4
STEP_TIME = 20  # ms
MODULES = {
    3: ("pymodaq.daq_utils.tcp_server_client", "pymodaq.daq_utils.daq_utils", ""),
    4: ("pymodaq.utils.tcp_ip.tcp_server_client", "pymodaq.utils.daq_utils", "pymodaq.utils.data"),
    5: ("pymodaq.utils.tcp_ip.tcp_server_client", "pymodaq_utils.utils", "pymodaq.utils.data"),
}
PARAMS = [
    {"title": "Units:", "name": "units", "type": "str", "value": "mm"},
    {"title": "Epsilon:", "name": "epsilon", "type": "float", "value": 0.01},
    {
        "title": "Velocity:", "name": "velocity", "type": "float", "value": 1.5,
        "limits": [0.1, 20.0],
    },
    {"title": "Enabled:", "name": "enabled", "type": "bool", "value": True},
    {"title": "Model:", "name": "model", "type": "str", "value": "SIM & <check>", "readonly": True},
    {
        "title": "Mode:", "name": "mode", "type": "list", "value": "fast",
        "limits": ["fast", "slow"],
    },
    {
        "title": "Deep:", "name": "deep", "type": "group",
        "children": [{"title": "Inner:", "name": "inner", "type": "int", "value": 7}],
    },
]  # fmt: skip


class Driver:
    """The verbs that a test asks for."""

    def __init__(self, qt: QtDriver, kind: str, port: int) -> None:
        from qtpy import QtCore

        self._qt = qt
        self._kind = kind
        client, commands, data = MODULES[MAJOR]
        self._command = import_module(commands).ThreadCommand
        self._data = import_module(data) if data else None
        self._library = import_module(client)
        self._dimension = "0D"
        self._shape = (1,)
        self._dtype = "<f8"
        self.place = 1.25
        self._target = 0.0
        self._steps = 0
        self._timer = QtCore.QTimer()
        self._timer.timeout.connect(self._step)
        self._parameters = self._make_parameters()
        self._client = self._library.TCPClient(
            "127.0.0.1", port, params_state=self._parameters, client_type=kind
        )
        self._thread = QtCore.QThread()
        self._client.moveToThread(self._thread)
        self._client.cmd_signal.connect(self._ordered, QtCore.Qt.QueuedConnection)
        self._sender = self._make_sender(QtCore)
        self._sender.sent.connect(self._client.queue_command)
        self._thread.started.connect(self._client.init_connection)

    def _make_sender(self, core: Any) -> Any:
        command = self._command

        class Sender(core.QObject):
            sent = core.Signal(command)

        return Sender()

    def _make_parameters(self) -> Any:
        name = "move_settings" if self._kind == "ACTUATOR" else "detector_settings"
        made = self._library.Parameter.create(name=name, type="group", children=PARAMS)
        made.sigTreeStateChanged.connect(self._changed)
        return made

    def dial(self) -> None:
        """Connect, in a thread of its own as the modules do."""
        self._thread.start()

    def _send(self, word: str, attribute: Any) -> None:
        self._sender.sent.emit(self._command(word, attribute))

    def _ordered(self, command: Any) -> None:
        attribute = getattr(command, "attributes", None) if MAJOR == 3 else command.attribute
        word = command.command
        if word in ("connected", "disconnected"):
            self._qt.told.tell(word)
            return
        value = None
        if word in ("move_abs", "move_rel"):
            value = number(attribute[0])
            self._move(value if word == "move_abs" else self.place + value)
        elif word == "move_home":
            self._move(0.0)
        elif word in ("check_position", "get_actuator_value"):
            self._send_position("position_is")
        elif word.startswith("Send Data"):
            self._send_frame()
        elif word == "set_info":
            self._set_info(*attribute)
            value = list(attribute[0])
        self._qt.told.tell("ordered", word=word, value=value)

    # An actuator

    def _move(self, target: float) -> None:
        self._target, self._steps = target, STEPS
        self._timer.start(STEP_TIME)

    def _step(self) -> None:
        self.place += (self._target - self.place) / self._steps
        self._steps -= 1
        if self._steps:
            self._send_position("position_is")
        else:
            self._timer.stop()
            self._send_position("move_done")

    def _send_position(self, word: str) -> None:
        if MAJOR == 3:
            self._send(word, [float(self.place)])
            return
        made = actuator_class()("stage", data=self.place, units="mm")
        self._send(word, made if MAJOR == 5 else [made])

    def position(self) -> float:
        """Where the hardware is."""
        return self.place

    def push_position(self, place: float) -> None:
        """The hardware has moved by itself, and says so unasked."""
        self.place = place
        self._send_position("position_is")

    # A grabber

    def frame(self, dimension: str, shape: list[int], dtype: str = "<f8") -> None:
        """What a grab gives from now on: counted up from 0."""
        self._dimension, self._shape, self._dtype = dimension, tuple(shape), dtype

    def push_frame(self) -> None:
        """A frame that nobody asked for."""
        self._send_frame()

    def _send_frame(self) -> None:
        import numpy as np

        arrays = [np.arange(int(np.prod(self._shape)), dtype=self._dtype).reshape(self._shape)]
        arrays.append(arrays[0] + 1)
        if MAJOR == 3:
            self._send("data_ready", [{"data": arrays}])
        else:
            self._send("data_ready", self._export(arrays))

    def _export(self, arrays: list[Any]) -> Any:
        import numpy as np

        data = self._data
        axis = (import_module("pymodaq_data.data") if MAJOR == 5 else data).Axis
        axes = [
            axis(f"axis{index}", "um", data=np.linspace(0.0, 1.0, size), index=index)
            for index, size in enumerate(self._shape)
            if self._dimension != "0D"
        ]
        made = data.DataFromPlugins(
            name="camera",
            data=arrays,
            dim=f"Data{self._dimension}",
            labels=["left", "right"],
            axes=axes,
            **({"nav_indexes": (0,)} if self._dimension == "ND" else {}),
        )
        export = (import_module("pymodaq_data.data") if MAJOR == 5 else data).DataToExport
        return export("frame", data=[made])

    # Settings

    def setting(self, *path: str) -> Any:
        """A value of the settings tree."""
        return self._parameters.child(*path).value()

    def set_setting(self, path: list[str], value: Any) -> None:
        """A change that a user makes; it is sent."""
        self._parameters.child(*path).setValue(value)

    def _changed(self, _: Any, changes: Any) -> None:
        for parameter, what, _value in changes:
            if what == "value":
                path = [self._parameters.name(), *self._parameters.childPath(parameter)]
                self._send("send_info", {"path": path, "param": parameter})

    def _set_info(self, path: list[str], xml: Any) -> None:
        """As the module does it: the first element of the path is dropped."""
        parsed = self._library_xml().XML_string_to_parameter(xml)[0]
        made = self._library.Parameter.create(**parsed)
        self._parameters.child(*path[1:]).restoreState(made.saveState())

    def _library_xml(self) -> Any:
        if MAJOR == 3:
            return import_module("pymodaq.daq_utils.parameter.ioxml")
        return self._library.ioxml

    # The end

    def info(self, name: str, value: str) -> None:
        """A line for the server's panel."""
        self._client.send_info_string(name, value)

    def quit(self) -> None:
        """Say Quit and close."""
        socket = self._client.socket
        getattr(socket, "send_string", getattr(socket, "check_sended_with_serializer", None))(
            "Quit"
        )
        socket.close()

    def hang_up(self) -> None:
        """Close without a word, as a module does whose user unticks the connection."""
        self._send("quit", None)


def actuator_class() -> Any:
    """Positions are objects since 4.1."""
    return import_module("pymodaq.utils.data").DataActuator


def number(value: Any) -> float:
    """The number in a position of any version."""
    if hasattr(value, "value") and callable(value.value):
        value = value.value()
    return float(value)


def main() -> None:
    kind, port = sys.argv[1:]
    qt = QtDriver()
    qt.run(verbs(Driver(qt, kind, int(port))))


if __name__ == "__main__":
    main()
