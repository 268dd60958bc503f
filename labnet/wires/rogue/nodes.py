"""Nodes of the tree that clients see, and how what they ask for is found.

Only what a class of nodes lists in its `attributes` can be asked for, besides the names of its
children: nothing is looked up in Python objects.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from labnet.errors import LabError, shorten
from labnet.values import Reading
from labnet.wires.rogue.codec import BadRequest
from labnet.wires.rogue.model import COMMAND, DEVICE, VARIABLE, Func, NodeInfo

if TYPE_CHECKING:
    from labnet.wires.rogue.protocol import RogueProtocol
    from labnet.wires.rogue.tree import Tree

NO_SERVE: Final = "NoServe"


class Attribute:
    """Something that can be asked of a node.

    `function` is called with the node, the client, and the client's arguments: those named in
    `positional`, of which the first `required` must be there, and those that are only named.
    """

    __slots__ = ("function", "keywords", "most", "positional", "required")

    #: Whether `function` may be called without `call`, when the number of arguments is right.
    direct = True

    def __init__(
        self,
        function: Callable[..., Any],
        positional: Sequence[str] = (),
        keywords: Sequence[str] = (),
        required: int = 0,
    ) -> None:
        self.function = function
        self.positional = tuple(positional)
        self.keywords = frozenset((*positional, *keywords))
        self.required = required
        self.most = len(self.positional)

    def call(
        self,
        name: str,
        node: TreeNode,
        client: RogueProtocol,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """What the function gives; raises `BadRequest` for arguments that do not fit."""
        if kwargs or len(args) > len(self.positional) or len(args) < self.required:
            self._check(name, args, kwargs)
        return self.function(node, client, *args, **kwargs)

    def _check(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if len(args) > len(self.positional):
            raise BadRequest(f"{name} takes {len(self.positional)} arguments, not {len(args)}")
        given = self.positional[: len(args)]
        for key in kwargs:
            if key not in self.keywords:
                raise BadRequest(f"{name} got an unexpected keyword argument '{shorten(key)}'")
            if key in given:
                raise BadRequest(f"{name} got two values for the argument '{key}'")
        for key in self.positional[len(args) : self.required]:
            if key not in kwargs:
                raise BadRequest(f"{name} is missing the argument '{key}'")


def shows(get: Callable[[Any], Any]) -> Attribute:
    """An attribute that is a value of the node, whatever arguments come with it."""
    return Attribute(lambda node, client: get(node))


class TreeNode:
    """One name in the tree; `path` begins with the root's name."""

    __slots__ = ("name", "parent", "path", "tree")

    class_name: ClassVar[str]
    bases: ClassVar[tuple[str, ...]]
    props: ClassVar[tuple[str, ...]] = ()
    funcs: ClassVar[Mapping[str, Func]] = {}
    attributes: ClassVar[Mapping[str, Attribute]]
    expand: ClassVar[bool] = True

    def __init__(self, tree: Tree, name: str, parent: TreeNode | None) -> None:
        self.tree = tree
        self.name = name
        self.parent = parent
        self.path: str = name if parent is None else f"{parent.path}.{name}"

    @property
    def description(self) -> str:
        """What the node is for."""
        return ""

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that it is in."""
        return ()

    def child(self, name: str) -> TreeNode | None:
        """The child of this name, exactly."""
        return None

    def children(self) -> Iterator[TreeNode]:
        """All children, in order."""
        return iter(())

    def served(self) -> Iterator[TreeNode]:
        """The children that clients are told of."""
        return (node for node in self.children() if NO_SERVE not in node.groups)

    def info(self) -> NodeInfo:
        """What clients are told of it."""
        return NodeInfo(
            self.name, self.class_name, self.bases, self.description, self.groups, self.path,
            self.expand, None, [node.name for node in self.served()], self.props, self.funcs,
        )  # fmt: skip

    def nodes(self) -> OrderedDict[str, NodeInfo]:
        """What clients are told of its children."""
        return OrderedDict((node.name, node.info()) for node in self.served())

    def ask(
        self,
        client: RogueProtocol,
        attr: str | None,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """What `attr` gives, perhaps a Deferred of it; raises `LabError`."""
        attribute = self.attributes.get(attr or "")
        if attribute is not None:
            fits = attribute.required <= len(args) <= attribute.most
            if fits and not kwargs and attribute.direct:
                return attribute.function(self, client, *args)
            return attribute.call(attr or "", self, client, args, kwargs)
        if attr is None:
            raise BadRequest("the request has no attr")
        child = self.child(attr)
        if child is None:
            raise NoAttribute(self, attr)
        return child.info()

    def direct(self, attr: str | None, count: int) -> Callable[..., Any] | None:
        """The function that `attr` with so many arguments calls, where nothing else is to be done.

        It is called with this node, the client and the arguments.
        """
        attribute = self.attributes.get(attr or "")
        if attribute is None or not attribute.direct:
            return None
        return attribute.function if attribute.required <= count <= attribute.most else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"


class NoAttribute(BadRequest):
    """A node has no such attribute, or none that is published."""

    def __init__(self, node: TreeNode, attr: str) -> None:
        text = f"{node.bases[0]} - {node.path} has no attribute {shorten(attr)}"
        super().__init__(text, "builtins.AttributeError")


NODE_ATTRIBUTES: Final[Mapping[str, Attribute]] = {
    "nodes": shows(lambda node: node.nodes()),
    "name": shows(lambda node: node.name),
    "path": shows(lambda node: node.path),
    "description": shows(lambda node: node.description),
    "groups": shows(lambda node: list(node.groups)),
    "hidden": shows(lambda node: "Hidden" in node.groups),
    "expand": shows(lambda node: node.expand),
    "guiGroup": shows(lambda node: None),
    "parent": shows(lambda node: None if node.parent is None else node.parent.info()),
    "root": shows(lambda node: node.tree.root.info()),
    "isDevice": shows(lambda node: DEVICE in node.bases),
    "isVariable": shows(lambda node: VARIABLE in node.bases and COMMAND not in node.bases),
    "isCommand": shows(lambda node: COMMAND in node.bases),
}


def then(waiting: Any, convert: Callable[[Any], Any]) -> Any:
    """What `convert` makes of a result: at once if that is there, else a Deferred of it."""
    result = settled(waiting)
    return result.addCallback(convert) if result.__class__ is Deferred else convert(result)


_UNREAD: Final = Reading(None, 0.0)


def where_read(ask: Callable[[], Any], use: Callable[[Reading], Any]) -> Any:
    """What `use` makes of the reading that `ask` gives, or of an empty one where that fails.

    So the tree can be shown though some device of it cannot be read.
    """
    try:
        found = then(ask(), use)
    except LabError:
        return use(_UNREAD)
    if found.__class__ is not Deferred:
        return found
    return found.addErrback(lambda failure: failure.trap(LabError) and use(_UNREAD))


def settled(waiting: Any) -> Any:
    """The result of a Deferred that has one; raises the error of one that failed.

    A Deferred without a result, and anything else, is given back.
    """
    # Classes are compared, as isinstance is slow with Deferred, which has a metaclass.
    if waiting.__class__ is not Deferred or not waiting.called or waiting.paused:
        return waiting
    result = waiting.result
    if result.__class__ is Reading:
        return result
    if isinstance(result, Failure):
        waiting.addErrback(_heard)
        assert result.value is not None
        raise result.value
    return waiting if result.__class__ is Deferred else result


def _heard(failure: Failure) -> None:
    """The error has been raised where it is dealt with."""
