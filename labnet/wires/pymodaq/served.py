"""Modules as devices of the lab, which stay when their module goes and are there before it comes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, fail

from labnet.device import CommandState, Device, Identity, command, parameter
from labnet.errors import DeviceFault, NotConnected
from labnet.logs import Logger
from labnet.values import ANY, LabeledArray
from labnet.wires.pymodaq.actuator import Actuator
from labnet.wires.pymodaq.codec import DataToExport, Kind
from labnet.wires.pymodaq.frames import from_frame
from labnet.wires.pymodaq.grabber import Dimension, Grabber
from labnet.wires.pymodaq.module import MAX_INFOS, Module
from labnet.wires.pymodaq.panel import Panel, valid_name

#: Seconds that a motion or an exposure may take, unless the section says otherwise.
PATIENCE = 60.0


class ModuleDevice(Device):
    """A module's place in the lab. Nothing here dials: modules come by themselves.

    `settings` is their tree of settings, `info` the lines that they show. `patience` is in seconds.
    """

    kind: ClassVar[Kind]
    word_headers = True  # what settings a module has is not known before it comes
    described_late = True
    log = Logger()

    peer = parameter(str, access="r", help="Address from which the module has dialled in")
    generation = parameter(
        str, access="r", help="Generation of the module's messages, or empty if not known yet"
    )

    def __init__(self, patience: float = PATIENCE) -> None:
        self.identity = Identity("PyMoDAQ", self.kind, "0", "0")
        self.settings = Device()
        self.info = Device()
        self._panel = Panel(self.settings, self._write)
        self._present: Module | None = None
        self._why = "no module has dialled in yet"
        for state in self.members.values():
            if isinstance(state, CommandState) and state.spec.long:
                state.spec = replace(state.spec, timeout=patience)

    def connect(self) -> None:
        """Raises `NotConnected` unless a module is there: it is the module that connects."""
        if self._present is None:
            raise NotConnected(self._why)

    @property
    def present(self) -> Module | None:
        """The module, while it is there."""
        return self._present

    def take(self, module: Module) -> None:
        """A module has come, and is this device until it goes."""
        self._present = module
        self.identity = Identity("PyMoDAQ", self.kind, module.peer, "0")
        self.peer = module.peer
        self._panel.show(module.settings)
        for name in module.info:
            self._show_info(name)
        module.on_settings = self._settings_changed
        module.on_info = self._show_info
        module.on_ended = self._module_ended
        self._recognised()
        self._listen()
        self.back()

    def _listen(self) -> None:
        """The subclass's share of `take`."""

    def _recognised(self) -> None:
        """The generation is told as soon as it is known."""
        found = None if self._present is None else self._present.generation
        name = "" if found is None else found.name
        if name and name != self.generation:
            self.generation = name
            self.identity = replace(self.identity, firmware=f"generation {name}")

    def _module_ended(self, reason: str) -> None:
        self._present, self._why = None, reason
        self._gone()
        self.lost(reason)

    def _gone(self) -> None:
        """The subclass's share of the end."""

    def _settings_changed(self, path: tuple[str, ...]) -> None:
        module = self._present
        if module is None or module.settings is None:
            return
        if path:
            self._panel.changed(path, module.settings)
        else:
            self._panel.show(module.settings)
        self._listen()

    def _write(self, path: tuple[str, ...], value: Any) -> Deferred[Any]:
        if self._present is None:
            return fail(NotConnected(self._why))
        return self._present.set(path, value)

    def _show_info(self, name: str) -> None:
        if self._present is None:
            return
        shown = valid_name(name)
        if shown not in self.info.members:
            if len(self.info.members) >= MAX_INFOS:  # most are of modules that were here before
                self._forget_infos()
            self.info.add_parameter(shown, str, access="r", initial="", aliases=(name,))
        self.info.store(shown, self._present.info[name])

    def _forget_infos(self) -> None:
        assert self._present is not None
        kept = {valid_name(name) for name in self._present.info}
        members = self.info.members.items()
        self.info.replace_members({name: member for name, member in members if name in kept})


class ActuatorDevice(ModuleDevice):
    """An actuator; positions are in the unit that the module names."""

    kind = "ACTUATOR"

    moving = parameter(bool, access="r", help="Whether a motion ordered by the lab is under way")

    def __init__(self, patience: float = PATIENCE) -> None:
        super().__init__(patience)
        self._asking = 0

    @property
    def _actuator(self) -> Actuator:
        if isinstance(self._present, Actuator):
            return self._present
        raise NotConnected(self._why)

    def _listen(self) -> None:
        actuator = self._actuator
        actuator.on_position = self._told
        if actuator.units != self.members["position"].spec.unit:  # type: ignore[union-attr]
            self.change("position", unit=actuator.units)
        if actuator.last is not None and not self._asking:
            self.store("position", actuator.last)

    def _told(self, value: float) -> None:
        """Where it is; what was asked for is stored by who has asked."""
        if not self._asking:
            self.store("position", value)
        if not self.generation:
            self._recognised()
            self._listen()

    def _gone(self) -> None:
        if self.moving:
            self.moving = False

    @parameter
    def position(self) -> Deferred[float]:
        """Where the actuator is; it is told during a motion too"""
        actuator = self._actuator
        self._asking += 1
        return actuator.position().addBoth(self._answered)

    def _answered(self, result: Any) -> Any:
        self._asking -= 1
        return result

    def _under_way(self, motion: Deferred[float]) -> Deferred[float]:
        if self._actuator.moving and not self.moving:
            self.moving = True
        return motion.addBoth(self._at_rest)

    def _at_rest(self, result: Any) -> Any:
        if self.moving and (self._present is None or not self._actuator.moving):
            self.moving = False
        return result

    @command(long=True)
    def move_abs(self, position: float) -> Deferred[float]:
        """Moves to a position; answers the position when it is there."""
        return self._under_way(self._actuator.move_abs(position))

    @command(long=True)
    def move_rel(self, distance: float) -> Deferred[float]:
        """Moves by a distance; answers the position when it is there."""
        return self._under_way(self._actuator.move_rel(distance))

    @command(long=True, aliases=("home",))
    def move_home(self) -> Deferred[float]:
        """Moves to its home; answers the position when it is there."""
        return self._under_way(self._actuator.move_home())

    @command(stop=True, long=True, aliases=("stop",))
    def stop_motion(self) -> Deferred[float]:
        """Orders the module to stop; answers the position. Modules before 5.1 do not obey."""
        return self._actuator.stop()


class GrabberDevice(ModuleDevice):
    """A detector. A frame is an array with label, unit and axes, or several by their names."""

    kind = "GRABBER"

    frame = parameter(ANY, access="r", initial=None, help="The last frame, asked for or not")

    @property
    def _grabber(self) -> Grabber:
        if isinstance(self._present, Grabber):
            return self._present
        raise NotConnected(self._why)

    def _listen(self) -> None:
        self._grabber.on_frame = self._came

    def _came(self, frame: DataToExport) -> None:
        try:
            self._keep(frame)
        except DeviceFault as fault:
            self.log.warn("{peer}: {fault}", peer=self.peer, fault=fault)

    def _keep(self, frame: DataToExport) -> LabeledArray | dict[str, LabeledArray]:
        result = from_frame(frame)
        self.store("frame", result)
        if not self.generation:
            self._recognised()
        return result

    @command(long=True, reads=True)
    def grab(self, dimension: Dimension = "0D") -> Deferred[Any]:
        """Takes a frame; `dimension` is what is asked for, modules send what they have."""
        return self._grabber.grab(dimension).addCallback(self._keep)


DEVICES: dict[Kind, type[ModuleDevice]] = {
    "ACTUATOR": ActuatorDevice,
    "GRABBER": GrabberDevice,
}
