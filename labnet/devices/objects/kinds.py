"""Which adapter an object needs: told by its class, without importing any library.

A `labnet.device.Device` needs none. The adapter of a library is imported when the first object of
that library comes; whatever belongs to none is a plain object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from labnet.device import Device
from labnet.devices.objects.shell import ObjectDevice
from labnet.specs import hints_of

_HERE = "labnet.devices.objects"
_PLESTY = ("query", "write", "identity", "get_config_list")
_SM_BLUESKY = ("_handle_command", "connect_hardware", "disconnect_hardware")


@dataclass(frozen=True)
class Adapter:
    """One adapter: the classes that it is for, and where it is."""

    fits: Callable[[type], bool]
    target: str

    def load(self) -> type[ObjectDevice]:
        """The adapter's class."""
        module, _, name = self.target.rpartition(".")
        found: type[ObjectDevice] = getattr(import_module(f"{_HERE}.{module}"), name)
        return found


def _has_base(package: str, name: str) -> Callable[[type], bool]:
    """Whether a class comes from the class `name` of a library."""
    return lambda cls: any(
        base.__name__ == name and base.__module__.partition(".")[0] == package
        for base in cls.__mro__
    )


def _has_methods(names: tuple[str, ...]) -> Callable[[type], bool]:
    return lambda cls: all(callable(getattr(cls, name, None)) for name in names)


ADAPTERS: tuple[Adapter, ...] = (
    Adapter(_has_base("qcodes", "InstrumentBase"), "qcodes.QcodesDevice"),
    Adapter(_has_base("pymeasure", "CommonBase"), "pymeasure.PymeasureDevice"),
    Adapter(_has_methods(_SM_BLUESKY), "sm_bluesky.SmBlueskyDevice"),
    Adapter(_has_methods(_PLESTY), "plesty.PlestyDevice"),
    Adapter(lambda cls: True, "plain.PlainDevice"),
)


def adapter_of(cls: type) -> type[ObjectDevice]:
    """The class of device that stands for objects of `cls`."""
    return next(adapter for adapter in ADAPTERS if adapter.fits(cls)).load()


def as_device(item: Any) -> Device:
    """`item` as a device: itself if it is one, else what stands for it.

    Raises ValueError for what can be none, such as a class or a number.
    """
    if isinstance(item, Device):
        return item
    cls = type(item)
    if isinstance(item, type) or cls.__module__ == "builtins":
        raise ValueError(f"{item!r} is no device; give an object with methods and properties")
    return adapter_of(cls).around(item)


def maker_of(target: Any) -> Callable[..., Device]:
    """What makes a device for a class, or for a function that returns an object, when called.

    An object whose class is known, for a function by what it is annotated to return, is made when
    its device is opened, in the device's own thread.
    """
    cls = target if isinstance(target, type) else hints_of(target).get("return")
    if not isinstance(cls, type) or cls.__module__ == "builtins":
        return partial(_made_by, target)
    if issubclass(cls, Device):
        made: Callable[..., Device] = target
        return made
    return partial(adapter_of(cls).later, cls, target)


def defaults_of(target: Any) -> Mapping[str, Any]:
    """Arguments that the adapter of a class can give where a section does not."""
    if not isinstance(target, type) or issubclass(target, Device):
        return {}
    return adapter_of(target).defaults


def _made_by(function: Callable[..., Any], **arguments: Any) -> Device:
    return as_device(function(**arguments))
