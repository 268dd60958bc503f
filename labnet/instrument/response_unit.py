"""Responses as a device wants them: with headers (IEEE 488.2 section 8.4), with blocks of its own.

A device may have a method ``response_unit(headers, unit, data)``. It is given the headers of the
parameter or command as their author declared them (without question marks, numbers in place of
``<n>``), the unit of the value, and the response data in pieces; what it returns is sent instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from labnet.instrument.header import derived
from labnet.instrument.response import Pieces
from labnet.registry import CommandNode, DeviceNode, Node, ParameterNode

ResponseUnit = Callable[[Sequence[str], str, Pieces], Pieces]


def shaped(form: ResponseUnit, device: DeviceNode, action: Any, data: Pieces) -> Pieces:
    """The response data of an action of `device`, as `form` wants it."""
    member = getattr(action, "node", None)
    if not isinstance(member, ParameterNode | CommandNode):
        return data  # a common command, a register
    return form(headers_of(member, device), member.spec.unit, data)


def headers_of(member: ParameterNode | CommandNode, device: DeviceNode) -> list[str]:
    """The headers that the author gave to a member of `device`."""
    texts = (member.spec.scpi or "").replace(" ", "").replace("?", "").split(",")
    for number in (derived(name)[1] for name in _names(member, device)):
        if number is not None:
            texts = [text.replace("<n>", str(number), 1) for text in texts]
    return [text for text in texts if text]


def _names(member: Node, device: DeviceNode) -> list[str]:
    """The names of what the member is in, from the device down."""
    names: list[str] = []
    for above in member.ancestors:
        if above is device:
            break
        names.append(above.name)
    return names[::-1]
