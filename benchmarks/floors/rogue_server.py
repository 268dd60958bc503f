"""Bare REP and PUB sockets that answer a Rogue client from prepared bytes.

Every request is answered 7.5, but for those about the tree, which has 100 devices of 100 variables.
After a request for the attribute ``flood`` 200,000 updates of one variable are published in a loop.
"""

import json
import pickle

import zmq

from labnet.wires.rogue.codec import encode_binary
from labnet.wires.rogue.model import (
    DEVICE,
    LOCAL_VARIABLE,
    NODE,
    ROOT,
    VARIABLE,
    Func,
    NodeInfo,
    VariableValue,
)
from labnet.wires.rogue.pickles.writer import dumps

SIZE = 100
FLOOD = 200_000
PROPS = [
    "alarmSeverity", "alarmStatus", "disp", "enum", "hasAlarm", "highAlarm", "highWarning", "lock",
    "lowAlarm", "lowWarning", "maximum", "minimum", "mode", "pollInterval", "precision", "revEnum",
    "typeStr", "units", "updateNotify",
]  # fmt: skip
FUNCS = [
    "genDisp", "get", "getDisp", "getVariableValue", "getYaml", "parseDisp", "post", "set",
    "setDisp", "setPollInterval", "value", "valueDisp", "write",
]  # fmt: skip
READ = encode_binary("Toy.D0.V0", "get")
START = encode_binary("Toy", "flood")


def node(path: str, bases: list[str], children: list[str]) -> NodeInfo:
    """A node as a real server describes it."""
    is_variable = VARIABLE in bases
    funcs = {name: Func(["value"], ["index", "read"]) for name in FUNCS} if is_variable else {}
    return NodeInfo(
        path.rpartition(".")[2], "Node", bases, "", [], path, True, None, children,
        PROPS if is_variable else [], funcs,
    )  # fmt: skip


def answers() -> dict[bytes, bytes]:
    """What is asked about the tree, and the answers, as Python's pickler writes them."""
    devices, variables = ([f"{letter}{i}" for i in range(SIZE)] for letter in "DV")
    found = {encode_binary("__ROOT__", None): dumps(node("Toy", [ROOT, DEVICE, NODE], devices))}
    below = [node(f"Toy.{name}", [DEVICE, NODE], variables) for name in devices]
    found[encode_binary("Toy", "nodes")] = dumps({it.name: it for it in below})
    for name in devices:
        bases = [LOCAL_VARIABLE, VARIABLE, NODE]
        its = [node(f"Toy.{name}.{variable}", bases, []) for variable in variables]
        found[encode_binary(f"Toy.{name}", "nodes")] = dumps({it.name: it for it in its})
    return found


def main() -> None:
    context = zmq.Context()
    pub, rep = context.socket(zmq.PUB), context.socket(zmq.REP)
    pub.sndhwm = 2 * FLOOD
    while True:
        base = pub.bind_to_random_port("tcp://127.0.0.1", 20_000, 30_000)
        try:
            rep.bind(f"tcp://127.0.0.1:{base + 1}")
            break
        except zmq.ZMQError:
            pub.unbind(f"tcp://127.0.0.1:{base}")
    known, value = answers(), pickle.dumps(7.5, 4)
    update = dumps({"Toy.D0.V0": VariableValue(7.5, "7.500", "{:.3f}")})
    print(json.dumps({"base": base}), flush=True)
    while True:
        body = rep.recv()
        rep.send(known.get(body, value))
        if body == START:
            for _ in range(FLOOD):
                pub.send(update)


if __name__ == "__main__":
    main()
