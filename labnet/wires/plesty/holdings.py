"""The locks of one PLESTY client: taken all or none, replaced as a set, given back as a set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from labnet.locks import Grant, Hold
from labnet.registry import Node, with_parts
from labnet.session import Session
from labnet.wires.plesty.served import Claim

T = TypeVar("T")


def result_now(deferred: Deferred[T]) -> T:
    """The result of a Deferred that has fired; raises its failure."""
    result: Any = deferred.result
    if isinstance(result, Failure):
        deferred.addErrback(lambda _: None)
        assert result.value is not None
        raise result.value
    value: T = result
    return value


class Holdings:
    """What one client has locked through its session.

    `shared` says that the session acts for an owner of another connection, whose own locks are left
    alone.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.shared = False
        self._taken: dict[Hold, None] = {}
        self._leaves: Mapping[str, Node] = {}

    def replace(self, claim: Claim, lease: float, note: str) -> Deferred[None] | None:
        """Locks what `claim` names instead of what was held; raises `LabError` and changes nothing.

        `lease` is in seconds, 0 for as long as the connection. Gives a Deferred, which may fail in
        the same way, where a device has to be asked for a lock of its own.
        """
        if not claim.nodes:
            self._settle(None, claim, lease)
            return None
        paths = [node.path for node in claim.nodes]
        granted = self.session.lock(paths, lease=lease, note=note)
        if not granted.called or granted.paused:
            return granted.addCallback(self._settle, claim, lease)
        self._settle(result_now(granted), claim, lease)
        return None

    def _settle(self, grant: Grant | None, claim: Claim, lease: float) -> None:
        if grant is not None:
            self._taken.update(dict.fromkeys(grant.new))
            self.session.renew(None if self.shared else lease)
        wanted = set(with_parts(claim.nodes))
        self._free([hold for hold in self._taken if hold.node not in wanted])
        self._leaves = claim.leaves

    def release(self) -> None:
        """Frees what this client has taken."""
        self._free(list(self._taken))
        self._leaves = {}

    def _free(self, holds: Iterable[Hold]) -> None:
        for hold in holds:
            del self._taken[hold]
            if hold.held:
                self.session.unlock([hold.path])

    def missing(self, claim: Claim) -> list[str]:
        """The resources of `claim` that this client does not hold."""
        held = {hold.node for hold in self.session.holdings()}
        return [
            *claim.unknown,
            *(name for name, leaf in claim.leaves.items() if not _covered(leaf, held)),
        ]

    def names(self) -> list[str]:
        """The resources that were granted and are still held."""
        if not self._leaves:
            return []
        held = {hold.node for hold in self.session.holdings()}
        return [name for name, leaf in self._leaves.items() if _covered(leaf, held)]


def _covered(leaf: Node, held: set[Any]) -> bool:
    return leaf in held or any(node in held for node in leaf.ancestors)
