"""``<root>.Locks``: the lab's locks for PyRogue's clients, which have none of their own.

A lock belongs to the client's connection and ends with it, or with its lease.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from labnet.errors import BadArguments, Holder, NotAllowed, WrongType
from labnet.registry import Node
from labnet.specs import ArgumentSpec
from labnet.values import ANY, FLOAT, STR, DictKind
from labnet.wires.rogue.devices import TreeDevice
from labnet.wires.rogue.nodes import TreeNode, then
from labnet.wires.rogue.own import OwnVariable

if TYPE_CHECKING:
    from labnet.wires.rogue.protocol import RogueProtocol
    from labnet.wires.rogue.tree import Tree

_NODE: Final = ArgumentSpec(name="node", kind=STR)
# Not only text: a button sends 1 or True, which means none.
_ANY_NODE: Final = ArgumentSpec(name="node", kind=ANY, required=False, default="")
_LEASE: Final = ArgumentSpec(name="lease", kind=FLOAT, required=False, default=0.0, unit="s")
_NOTE: Final = ArgumentSpec(name="note", kind=STR, required=False, default="")


class LocksDevice(TreeDevice):
    """Commands to lock, unlock and show, and a variable that says who holds what."""

    __slots__ = ("holders",)

    def __init__(self, tree: Tree, parent: TreeNode) -> None:
        super().__init__(tree, "Locks", parent)
        self.add_usual()
        self.holders: OwnVariable = self.add_own(
            "Holders", DictKind(), self._held, help="What is locked, and by whom"
        )
        add = self.add_command
        add("Lock", self.lock, _NODE, _LEASE, _NOTE, groups=(),
            help="Lock a node, such as 'stage' or 'stage 30' for 30 s; gives a token")  # fmt: skip
        add("Unlock", self.unlock, _ANY_NODE, groups=(),
            help="Unlock a node, or all that this client holds; gives their number")  # fmt: skip
        add("Renew", self.renew, _LEASE, groups=(),
            help="Begin the leases of this client anew")  # fmt: skip
        add("Show", self.show, _ANY_NODE, groups=(), help="Who holds a node, or anything")
        add("Use", self.use, ArgumentSpec(name="token", kind=STR), groups=(), secret=True,
            help="Act as the owner of the locks that a token was given for")  # fmt: skip

    @property
    def description(self) -> str:
        return "The locks of the lab, which hold for all its clients"

    def lock(
        self, client: RogueProtocol, node: str, lease: float = 0.0, note: str = ""
    ) -> Any:
        """Locks a node for this client; gives a token for `use`."""
        name, lease = _with_lease(node, lease)
        session = client.session
        granted = session.lock([self.tree.find_device(name)], lease=lease, note=note[:200])
        return then(granted, lambda _: session.token)

    def unlock(self, client: RogueProtocol, node: Any = "") -> int:
        """Frees a node, or everything; gives how many locks that were."""
        nodes = self._named(node)
        return len(client.session.unlock(nodes))

    def renew(self, client: RogueProtocol, lease: float = 0.0) -> None:
        """Begins all leases anew, with another length if one is given."""
        client.session.renew(lease or None)

    def use(self, client: RogueProtocol, token: str) -> None:
        """Becomes the owner who was given `token`."""
        if not token:
            raise NotAllowed("an empty token is nobody's")
        client.session.show_token(token)

    def show(self, client: RogueProtocol, node: Any = "") -> list[dict[str, Any]]:
        """Who holds what, at, above or below a node."""
        nodes = self._named(node) or self._tops()
        return [_shown(holder) for top in nodes for holder in client.session.holders(top)]

    def _named(self, node: Any) -> list[Node] | None:
        named = isinstance(node, str) and node.strip()
        return [self.tree.find_device(node.strip())] if named else None

    def _tops(self) -> list[Node]:
        return [device.node for device in self.tree.devices.values()]

    def _held(self) -> dict[str, str]:
        session = self.tree.session
        holders = (holder for top in self._tops() for holder in session.holders(top))
        return {holder.resource: f"{holder.name} ({holder.wire} {holder.peer})"
                for holder in holders}  # fmt: skip

    def changed(self) -> None:
        """A lock was taken or freed."""
        self.holders.tell()


def _with_lease(node: str, lease: float) -> tuple[str, float]:
    """A name and a lease (s), which a client with one argument writes as one text."""
    words = node.split()
    if not words or len(words) > 2:
        raise BadArguments("usage: Lock NODE, or NODE and the seconds of a lease")
    if len(words) == 2:
        try:
            lease = float(words[1])
        except ValueError:
            raise WrongType("a lease", words[1], "a number of seconds") from None
    return words[0], lease


def _shown(holder: Holder) -> dict[str, Any]:
    return {
        "node": holder.resource, "holder": holder.name, "wire": holder.wire, "peer": holder.peer,
        "age": holder.age, "left": holder.left,
    }  # fmt: skip
