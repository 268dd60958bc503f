"""The TSV server's own commands: those of every sm_bluesky server, and labnet's own.

Each maker gets the table of commands, the name under which it was called and the arguments.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from labnet.description import describe
from labnet.errors import BadArguments, NotAllowed
from labnet.locks import Grant
from labnet.registry import CommandNode, DeviceNode, ParameterNode
from labnet.specs import CommandSpec, ParameterSpec
from labnet.values import ANY
from labnet.wires.tsv import codec
from labnet.wires.tsv.actions import (
    Action,
    Answer,
    Client,
    acknowledge,
    always,
    check_count,
    get_parameter,
    now,
    seconds,
    set_parameter,
    text,
)
from labnet.wires.tsv.codec import Request

if TYPE_CHECKING:
    from labnet.wires.tsv.table import CommandTable

Maker = Callable[["CommandTable", str, tuple[bytes, ...]], Action]


def _ping(table: CommandTable, command: str, arguments: tuple[bytes, ...]) -> Action:
    return always(codec.ACKNOWLEDGED)


def _command_list(table: CommandTable, command: str, arguments: tuple[bytes, ...]) -> Action:
    return lambda client: codec.encode_reply(True, "\t".join(table.names()))


def _hardware(table: CommandTable, command: str, arguments: tuple[bytes, ...]) -> Action:
    usage = f"{command} DEVICE" if table.several else command
    check_count(arguments, int(table.several), int(table.several), usage)
    device = table.path(text(arguments[0], "DEVICE")) if table.several else None

    def hardware(client: Client) -> Answer:
        session = client.session
        connect = session.connect if command == "connect_hardware" else session.disconnect
        return now(connect(device), acknowledge)

    return hardware


def _shutdown(table: CommandTable, command: str, arguments: tuple[bytes, ...]) -> Action:
    def shutdown(client: Client) -> Answer:
        try:
            client.shut_down()
        except NotAllowed as error:
            return codec.encode_reply(False, str(error))
        return None

    return shutdown


def _stop(table: CommandTable, command: str, arguments: tuple[bytes, ...]) -> Action:
    usage = "stop DEVICE" if table.several else "stop"
    check_count(arguments, int(table.several), int(table.several), usage)
    device = table.path(text(arguments[0], "DEVICE")) if table.several else None
    return lambda client: now(client.session.stop(device), acknowledge)


def _get_node(table: CommandTable, command: str, arguments: tuple[bytes, ...]) -> Action:
    check_count(arguments, 1, 1, "get NODE")
    written = text(arguments[0], "NODE")
    node = table.node(written)
    if isinstance(node, ParameterNode):
        return get_parameter(table.path_to(node), node.spec.kind)
    path = table.path(written)

    def get(client: Client) -> Answer:
        session = client.session
        found = session.resolve(path)
        kind = found.spec.kind if isinstance(found, ParameterNode) else ANY
        return get_parameter(path, kind)(client)

    return get


def _set_node(table: CommandTable, command: str, arguments: tuple[bytes, ...]) -> Action:
    check_count(arguments, 2, 1 << 20, "set NODE VALUE")
    path = table.path(text(arguments[0], "NODE"))

    def set_value(client: Client) -> Answer:
        node = client.session.resolve(path)
        if not isinstance(node, ParameterNode):
            return client.session.set(path, None).addCallback(acknowledge)
        return set_parameter(path, node.spec, "set NODE VALUE", arguments[1:])(client)

    return set_value


def _lock(table: CommandTable, command: str, arguments: tuple[bytes, ...]) -> Action:
    check_count(arguments, 1, 3, "lock NODE [NAME [LEASE]]")
    path = table.path(text(arguments[0], "NODE"))
    name = text(arguments[1], "NAME") if len(arguments) > 1 else ""
    lease = seconds(arguments[2], "LEASE") if len(arguments) > 2 else 0.0

    def lock(client: Client) -> Answer:
        session = client.session
        if name:
            session.rename(name)
        granted: Deferred[Grant] = session.lock([path], lease=lease)
        return now(granted, lambda _: codec.encode_reply(True, session.token))

    return lock


def _with(table: CommandTable, command: str, arguments: tuple[bytes, ...]) -> Action:
    check_count(arguments, 2, 1 << 20, "with TOKEN COMMAND [ARGUMENT ...]")
    token = text(arguments[0], "TOKEN")
    request = Request(arguments[1], arguments[2:])
    if request.command in (b"with", b"shutdown", b"unlock", b"renew"):
        raise BadArguments(f"{text(request.command, 'COMMAND')} does not go with a token")
    if request.command == b"lock" and len(request.arguments) < 3:
        raise BadArguments("a lock under a token needs a lease: lock NODE NAME LEASE")
    action, _ = table.of(request)
    return lambda client: _borrowed(client, token, action)


def _unlock(table: CommandTable, command: str, arguments: tuple[bytes, ...]) -> Action:
    check_count(arguments, 1, 1, "unlock TOKEN")
    token = text(arguments[0], "TOKEN")

    def unlock(client: Client) -> Answer:
        client.session.unlock()
        return codec.ACKNOWLEDGED

    return lambda client: _borrowed(client, token, unlock)


def _renew(table: CommandTable, command: str, arguments: tuple[bytes, ...]) -> Action:
    check_count(arguments, 1, 2, "renew TOKEN [LEASE]")
    token = text(arguments[0], "TOKEN")
    lease = seconds(arguments[1], "LEASE") if len(arguments) > 1 else None
    if lease is not None and not lease > 0:
        raise BadArguments("a lease is a time in seconds above 0")

    def renew(client: Client) -> Answer:
        client.session.renew(lease)
        return codec.ACKNOWLEDGED

    return lambda client: _borrowed(client, token, renew)


def _borrowed(client: Client, token: str, action: Action) -> Answer:
    """What `action` does for a client that acts as the owner of `token`."""
    borrowed = client.borrow(token)
    answer: Answer = None
    try:
        answer = action(borrowed)
    finally:
        if not isinstance(answer, Deferred):
            borrowed.done()
    if isinstance(answer, Deferred):
        answer.addBoth(_given_back, borrowed)
    return answer


def _given_back(result: Any, borrowed: Client) -> Any:
    borrowed.done()
    return result


def _lock_info(table: CommandTable, command: str, arguments: tuple[bytes, ...]) -> Action:
    check_count(arguments, int(table.several), 1, "lock_info [NODE]")
    path = table.path(text(arguments[0], "NODE")) if arguments else ""

    def lock_info(client: Client) -> Answer:
        session = client.session
        told = [f"{who.resource}: {who}" for who in session.holders(path)]
        node = session.describe(path)
        condition = node.queue.condition
        if condition:
            told.append(f"{node.top.path} is {condition}")
        return codec.encode_value(told, ANY)

    return lock_info


def _describe(table: CommandTable, command: str, arguments: tuple[bytes, ...]) -> Action:
    check_count(arguments, int(table.several), 1, "describe [NODE]")
    path = table.path(text(arguments[0], "NODE")) if arguments else ""

    def described(client: Client) -> Answer:
        node = client.session.describe(path)
        if not isinstance(node, DeviceNode):
            raise BadArguments(f"{node.path} is no device; help {path} tells of it")
        return codec.encode_reply(True, json.dumps(describe(node)))

    return described


def _help(table: CommandTable, command: str, arguments: tuple[bytes, ...]) -> Action:
    check_count(arguments, 0, 1, "help [COMMAND]")
    if not arguments:
        return lambda client: codec.encode_value([*_usages(table), *_conditions(table)], ANY)
    name = text(arguments[0], "COMMAND")
    if name not in table.names() and table.node(name) is None:
        raise BadArguments(f"there is no command {name!r}; command_list names them all")
    return lambda client: codec.encode_reply(True, _explain(table, name))


def _usages(table: CommandTable) -> Iterator[str]:
    return (_usage(table, name) for name in table.names())


def _conditions(table: CommandTable) -> Iterator[str]:
    """What is wrong with the device of this listener, if anything is."""
    device = table.default
    if device is not None and device.queue.condition:
        yield f"({device.top.path} is {device.queue.condition})"


def _usage(table: CommandTable, name: str) -> str:
    node = None if name in FIRST else table.node(name)
    if isinstance(node, CommandNode):
        words = node.spec.usage().partition(" ")
        return f"{name}{words[1]}{words[2]}"
    if name in _WORDS:
        return f"{name} {_WORDS[name][0]}".rstrip()
    if isinstance(node, ParameterNode):
        return f"{name} [value]" if node.spec.writable else name
    return name


def _explain(table: CommandTable, name: str) -> str:
    node = None if name in FIRST else table.node(name)
    usage = _usage(table, name)
    if isinstance(node, CommandNode):
        return ". ".join(part for part in (usage, *_about_command(node.spec)) if part)
    if name in _WORDS:
        return f"{usage}: {_WORDS[name][1]}"
    if isinstance(node, ParameterNode):
        return ". ".join(part for part in (usage, *_about_parameter(node.spec)) if part)
    return usage


def _about_command(spec: CommandSpec) -> Iterator[str]:
    yield spec.help.rstrip(".")
    for argument in spec.arguments:
        yield f"{argument.name}: {argument.kind.name} {argument.unit}".rstrip()


def _about_parameter(spec: ParameterSpec) -> Iterator[str]:
    yield spec.help.rstrip(".")
    yield f"{spec.kind.name} {spec.unit}".rstrip()
    if spec.limits is not None:
        low, high = spec.limits.low, spec.limits.high
        yield " to ".join("any" if end is None else f"{end:g}" for end in (low, high))
    if spec.choices is not None:
        yield "one of " + ", ".join(str(text) for text in spec.choices.values())


# Nothing that a device publishes replaces these: every sm_bluesky program counts on them.
FIRST: dict[str, Maker] = {
    "connect_hardware": _hardware,
    "disconnect_hardware": _hardware,
    "ping": _ping,
    "command_list": _command_list,
    "shutdown": _shutdown,
}

# A command of the device with one of these names comes before labnet's own.
EXTRA: dict[str, Maker] = {
    "help": _help,
    "get": _get_node,
    "set": _set_node,
    "stop": _stop,
    "lock": _lock,
    "unlock": _unlock,
    "renew": _renew,
    "with": _with,
    "lock_info": _lock_info,
    "describe": _describe,
}

_WORDS: dict[str, tuple[str, str]] = {
    "connect_hardware": ("", "opens the device's connection to its hardware"),
    "disconnect_hardware": ("", "closes the device's connection to its hardware"),
    "ping": ("", "answers success"),
    "command_list": ("", "the names of all commands"),
    "shutdown": ("", "ends the server, if its configuration allows that; closes without a reply"),
    "help": ("[COMMAND]", "the use of one command, or of all"),
    "get": ("NODE", "the value of a parameter, by its dotted path"),
    "set": ("NODE VALUE", "sets a parameter; answers the value taken"),
    "stop": ("", "stops the device's motion, if it has a command for that"),
    "lock": (
        "NODE [NAME [LEASE]]",
        "shuts all others out of a node and what is below it; answers a token. NAME is what others"
        " are told. Without LEASE (seconds) the lock ends with this connection: a program that"
        " connects for each request must give one",
    ),
    "unlock": ("TOKEN", "frees what is held under a token"),
    "renew": ("TOKEN [LEASE]", "begins the lease of what is held under a token anew"),
    "with": ("TOKEN COMMAND [ARGUMENT ...]", "carries out a command as the owner of a token"),
    "lock_info": (
        "[NODE]",
        "who holds what: one field for each lock, and one for a device that cannot be used",
    ),
    "describe": ("[NODE]", "a device with its members, their kinds, units and limits, as JSON"),
}
