"""The devices of a listener for messages: whether they are there, and can be served."""

from __future__ import annotations

from labnet.errors import BadArguments, DeviceFault
from labnet.instrument.channel import check_headers
from labnet.instrument.header import HeaderError
from labnet.lab import Host, ServeOptions
from labnet.registry import DeviceNode


def check_device(host: Host, wire: str, path: str) -> DeviceNode:
    """The device at `path`; raises a `LabError` that says why it cannot be served as one."""
    session = host.open_session(wire, "the listener", device=path)
    node = session.describe()
    session.close()
    if not isinstance(node, DeviceNode):
        raise BadArguments(f"{path} is no device: device = NAME")
    try:
        check_headers(node)
    except HeaderError as error:
        raise DeviceFault(f"{path}: {error}", "HeaderError") from None
    return node


def only_device(host: Host, wire: str, common: ServeOptions) -> DeviceNode:
    """The one device of a listener; raises a `LabError` that says what is wrong with it."""
    paths = [common.device] if common.device is not None else list(common.devices.values())
    if len(paths) != 1:
        raise BadArguments(f"a {wire} listener serves one device: device = NAME")
    return check_device(host, wire, paths[0])
