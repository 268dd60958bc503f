"""labnet: one lab, one lock, every wire format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labnet.device import Device as Device
    from labnet.device import command as command
    from labnet.device import parameter as parameter
    from labnet.service import Lab as Lab
    from labnet.specs import Identity as Identity

_HOMES = {
    "Device": "labnet.device",
    "Identity": "labnet.specs",
    "Lab": "labnet.service",
    "command": "labnet.device",
    "parameter": "labnet.device",
}
__all__ = ["Device", "Identity", "Lab", "command", "parameter"]


def __getattr__(name: str) -> Any:
    """The public names, imported when first asked for: `import labnet` alone costs nothing."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'labnet' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
