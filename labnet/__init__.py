"""labnet: one lab, one lock, every wire format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labnet.device import Device as Device
    from labnet.device import command as command
    from labnet.device import parameter as parameter
    from labnet.resources import list_resources as list_resources
    from labnet.resources import open_resource as open_resource
    from labnet.service import Lab as Lab
    from labnet.specs import Identity as Identity

_HOMES = {
    "Device": "labnet.device",
    "Identity": "labnet.specs",
    "Lab": "labnet.service",
    "command": "labnet.device",
    "list_resources": "labnet.resources",
    "open_resource": "labnet.resources",
    "parameter": "labnet.device",
}
__all__ = [
    "Device", "Identity", "Lab", "command", "list_resources", "open_resource", "parameter",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The public names, imported when first asked for: `import labnet` alone costs nothing."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'labnet' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
