"""What PyRogue's pickles hold, as plain objects: nodes, values of variables, exceptions.

Server and client, reader and writer of pickles share these classes; nothing of PyRogue is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

# The classes by which clients tell what a node is: they compare these strings.
ROOT: Final = "<class 'pyrogue._Root.Root'>"
DEVICE: Final = "<class 'pyrogue._Device.Device'>"
VARIABLE: Final = "<class 'pyrogue._Variable.BaseVariable'>"
LOCAL_VARIABLE: Final = "<class 'pyrogue._Variable.LocalVariable'>"
ENABLE_VARIABLE: Final = "<class 'pyrogue._Device.EnableVariable'>"
COMMAND: Final = "<class 'pyrogue._Command.BaseCommand'>"
PROCESS: Final = "<class 'pyrogue._Process.Process'>"
NODE: Final = "<class 'pyrogue._Node.Node'>"

STATUSES: Final = ("None", "Good", "AlarmLow", "AlarmHigh", "AlarmLoLo", "AlarmHiHi")
SEVERITIES: Final = ("None", "Good", "AlarmMinor", "AlarmMajor")


@dataclass(slots=True)
class VariableValue:
    """The value of a variable as an update and ``getVariableValue`` give it.

    `enum` maps values to their texts, or is None; `status` and `severity` are one of `STATUSES` and
    `SEVERITIES`; `updated` is always False, and missing before PyRogue 6.9.0.
    """

    value: Any
    value_disp: str = ""
    disp: str = "{}"
    enum: Mapping[Any, str] | None = None
    updated: bool = False
    status: str = "None"
    severity: str = "None"


@dataclass(slots=True)
class Func:
    """The names of a function's arguments, for a human reader: clients forward any."""

    args: Sequence[str] = ()
    kwargs: Sequence[str] = ()


@dataclass(slots=True)
class NodeInfo:
    """What a client learns of a node (`VirtualFactory`'s dict).

    `path` begins with the root's name. `class_name` only names the proxy; `bases` says what
    the node is. `nodes` are the names of the children, in order. `props` are asked for at every
    read; `funcs` are called.
    """

    name: str
    class_name: str
    bases: Sequence[str]
    description: str
    groups: Sequence[str]
    path: str
    expand: bool = True
    gui_group: str | None = None
    nodes: Sequence[str] = ()
    props: Sequence[str] = ()
    funcs: Mapping[str, Func] = field(default_factory=dict)

    def is_a(self, base: str) -> bool:
        """Whether the node is of the class `base` (`ROOT`, `DEVICE`, `VARIABLE`, ...)."""
        return base in self.bases


@dataclass(slots=True)
class RemoteException:
    """An exception as a value: `text` is ``module.name: what happened`` since PyRogue 6.10.0.

    `kind` is ``builtins.Exception``; older servers send the exception's own class there.
    """

    text: str
    kind: str = "builtins.Exception"
