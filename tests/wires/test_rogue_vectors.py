"""What a real PyRogue server was asked and answered, asked of labnet's."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.lab import Lab, ServeOptions
from labnet.wires.rogue.model import NodeInfo, RemoteException
from labnet.wires.rogue.pickles.reader import read_reply
from tests.wires.rogue_toy import Subscribers, Toy, ToyServer, parts_of
from tests.wires.vectors import records

#: Replies that are not the recorded ones, and what they contain: labnet's errors in its own words
#: where PyRogue's show Python's internals, what labnet refuses, and what differs in the tree.
DIFFERENT: dict[str, str] = {
    "simple.set.int-to-float": "Type mismatch for Toy.Psu.Volts: expected float, got int",
    "simple.set.enum-unlisted": "Mode takes one of Off, CV, CC, not 9",
    "simple.getDisp.enum-unlisted": "CC",
    "simple.get.npfloat": "2.0",  # a float, not numpy's
    "simple.set.npint32": "None",
    "simple.exec.badarg": "arg takes int, not 'zz'",
    "simple.exec.on-device": "<class 'pyrogue._Device.Device'> - Toy.Psu has no attribute __call__",
    "simple.get.on-device": "<class 'pyrogue._Device.Device'> - Toy.Psu has no attribute get",
    "simple.path-None": "builtins.TypeError: the path of a request must be text",
    "simple.attr-None": "builtins.TypeError: the request has no attr",
    "simple.attr-private": "Toy.Psu.Volts has no attribute _default",
    "simple.bad-kwarg": "get got an unexpected keyword argument 'bogus'",
    "simple.bad-disp": "VariableError: Invalid value abc for variable Volts: Volts takes float",
    "simple.bad-type": "Volts takes float, not 'abc'",
    "simple.bad-enum": "Invalid value Zap for variable Mode: Mode takes one of Off, CV, CC",
    "simple.ro-set.local": "Serial can only be read",
    "simple.ro-set.local.readback": "SN-1",
    "simple.ro-set.remote": "Stat can only be read",
    "simple.remote-out-of-range": "Value range error for I16. Value=70000, Min=-32768, Max=32767",
    "simple.remote-bad-type": "U32 takes int, not 'abc'",
    "simple.exec.fail": "labnet.ToyError: no such luck",
    "simple.exec.unpicklable-reply": "builtins.TypeError: the result is no plain value",
    "simple.attr.nativeType": "Toy.Psu.Volts has no attribute nativeType",
    "simple.attr.lock": "the lock of a variable cannot be sent",
    "simple.attr.base": "Toy.Regs.U32 has no attribute base",
    "virtual.call.fail": "labnet.ToyError: no such luck",
    "virtual.process": "Toy.Ramp has no attribute __call__",
    "virtual.getYaml": "Psu:\n  enable: True\n  Volts: 6.250\n",
    "cstr.empty-reply": "setDisp is missing the argument 'sValue'",
    "str.value.empty-string": "lbl",
    "str.root": "<class 'pyrogue._Root.Root'> - Toy",
    "str.no-attr": "EXCEPTION: the request has no attr",
    "str.no-path": "EXCEPTION: the path of a request must be text",
    "str.not-object": "EXCEPTION: the request must be a mapping, not a list of 1",
    "str.not-utf8": "EXCEPTION: the request is not UTF-8 text, see byte 0",
    "str.args-number": "EXCEPTION: the args of a request must be a list, not 3",
    "bin.not-dict": "builtins.TypeError: the request must be a mapping, not a list of 1",
    "bin.int": "builtins.TypeError: the request must be a mapping, not 3",
    "bin.dict-empty": "builtins.TypeError: the path of a request must be text",
    "bin.no-path": "builtins.TypeError: the path of a request must be text",
    "bin.no-attr": "builtins.TypeError: the request has no attr",
    "bin.path-list": "builtins.TypeError: the path of a request must be text",
    "bin.global-os.getpid": "_pickle.UnpicklingError: os.getpid is not allowed in a pickle",
}
#: Updates whose values depend on when they were recorded.
CHANGING = ("Toy.Time", "Toy.LocalTime", "Toy.Psu.Temp", "Process.", "Toy.Ramp.")


class VectorCase(SynchronousTestCase):
    def setUp(self) -> None:
        clock = Clock()
        self.lab = Lab(clock, clock)
        self.lab.attach("toy", Toy(clock))
        self.addCleanup(self.lab.stop)
        common = ServeOptions(devices=parts_of("toy"))
        self.toy = ToyServer(clock, lab=self.lab, common=common, root="Toy")
        self.client = self.toy.client()

    def replies(self) -> list[tuple[dict[str, Any], list[bytes], list[bytes]]]:
        """Each recorded reply with labnet's to the same request, asked in the recorded order."""
        found: list[tuple[dict[str, Any], list[bytes], list[bytes]]] = []
        got: list[list[bytes]] = []
        for record in records("rogue"):
            if record["socket"] == "pub":
                continue
            parts = [bytes.fromhex(part) for part in record["frames"]]
            if record["direction"] == "c2s":
                got = self.client.send(record["socket"], *parts)
                self.assertEqual(len(got), 1, record["case"])
            else:
                found.append((record, parts, got[0]))
        return found


class ReplyTests(VectorCase):
    """Requests in, replies out."""

    def test_all(self) -> None:
        same, other, trees = 0, set(), 0
        for record, wanted, got in self.replies():
            case = record["case"]
            self.assertEqual(got[:-1], wanted[:-1], f"{case}: the envelope")
            if "Temp" in case:
                continue
            if got == wanted:
                same += 1
            elif case in DIFFERENT:
                other.add(case)
                self.assertIn(DIFFERENT[case], self.told(record["socket"], got[-1]), case)
            else:
                trees += self.check_tree(case, record["socket"], wanted[-1], got[-1])
        self.assertGreaterEqual(same, 155)
        self.assertEqual(other, set(DIFFERENT))
        self.assertGreaterEqual(trees, 9)

    def told(self, socket: str, body: bytes) -> str:
        if socket == "str":
            return body.decode()
        answer = read_reply(body)
        return answer.text if isinstance(answer, RemoteException) else str(answer)

    def check_tree(self, case: str, socket: str, wanted: bytes, got: bytes) -> bool:
        """Nodes have the recorded names, and of the toy's own all that clients go by."""
        if socket == "str":
            self.assertEqual(got, wanted, case)
            return False
        recorded, told = read_reply(wanted), read_reply(got)
        if isinstance(recorded, float):
            self.assertIsInstance(told, float)
            return False
        if isinstance(recorded, NodeInfo):
            recorded, told = {"": recorded}, {"": told}
        self.assertIsInstance(told, dict, case)
        for name, node in told.items():
            if name in recorded:
                self.check_node(case, recorded[name], node)
        return True

    def check_node(self, case: str, recorded: NodeInfo, told: NodeInfo) -> None:
        self.assertEqual(told.path, recorded.path)
        self.assertEqual(told.name, recorded.name)
        self.assertEqual(told.expand, recorded.expand, told.path)
        self.assertIsNone(told.gui_group)
        local = {"LocalVariable", "BaseCommand", "EnableVariable"}
        if recorded.class_name in local:
            self.assertEqual(told.class_name, recorded.class_name)
            self.assertEqual(told.bases, recorded.bases)
            self.assertEqual(told.props, recorded.props, told.path)
            self.assertEqual(list(told.funcs), list(recorded.funcs), told.path)
            self.assertEqual(told.groups, recorded.groups, told.path)
        elif "<class 'pyrogue._Device.Device'>" in recorded.bases:
            self.assertIn("<class 'pyrogue._Device.Device'>", told.bases)
            self.assertEqual(told.props, recorded.props)

    def test_the_toys_nodes(self) -> None:
        """Those of one device, in the recorded order."""
        for record, wanted, got in self.replies():
            if record["case"] == "virtual.children.Psu":
                recorded, told = list(read_reply(wanted[-1])), list(read_reply(got[-1]))
                self.assertEqual(
                    [name for name in told if name in recorded and name != "MilliVolts"],
                    [name for name in recorded if name not in ("MilliVolts", "Boom", "Unserved")],
                )
                return
        self.fail("not recorded")

    def test_empty_requests_are_answered(self) -> None:
        for socket in ("bin", "str"):
            (reply,) = self.client.send(socket, b"", b"")
            self.assertEqual(reply[0], b"")
            self.assertIn("the request is empty", self.told(socket, reply[-1]))
            (reply,) = self.client.send(socket, b"")
            self.assertTrue(reply[-1])


class UpdateTests(VectorCase):
    """What subscribers were told after each request."""

    def test_all(self) -> None:
        wanted: dict[str, dict[str, Any]] = {}
        requests: dict[str, list[bytes]] = {}
        for record in records("rogue"):
            case = record["case"]
            if case.startswith("pub.") and record["socket"] == "pub":
                for path, value in read_reply(bytes.fromhex(record["frames"][0])).items():
                    if not any(part in path for part in CHANGING):
                        wanted.setdefault(case, {})[path] = value
            elif case.startswith("pub.") and record["direction"] == "c2s":
                requests[case] = [bytes.fromhex(part) for part in record["frames"]]
        self.assertGreaterEqual(len(wanted), 11)
        for case, parts in requests.items():
            self.toy.subscribers.messages.clear()
            self.client.send("bin", *parts)
            if case in ("pub.readall",):
                continue
            told = self.toy.subscribers.taken()
            self.assertEqual(str(merged(told)), str(merged([wanted.get(case, {})])), case)
            self.assertLessEqual(len(told), 1, case)

    def test_read_all(self) -> None:
        self.assertIs(self.client.ask("Toy.ReadAll", "__call__", None), True)
        told = merged(self.toy.subscribers.taken())
        self.assertIn("Toy.Ch[2].Gain", told)
        self.assertNotIn("Toy.Psu.Unserved", told)

    def test_the_reply_comes_first(self) -> None:
        order: list[str] = []
        subscribers, replies = self.toy.subscribers, self.toy.binary
        publish, reply = subscribers.publish, replies.reply

        def published(parts: list[bytes]) -> None:
            order.append("update")
            publish(parts)

        def replied(peer: Any, frames: list[bytes]) -> bool:
            order.append("reply")
            return reply(peer, frames)

        self.patch(Subscribers, "publish", lambda subscribers, parts: published(parts))
        self.toy.server.binary.send = replied
        self.client.ask("Toy.Psu.Volts", "set", 5.0)
        self.assertEqual(order, ["reply", "update"])


def merged(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """All values, by path in order."""
    found: dict[str, Any] = {}
    for message in messages:
        found |= message
    return dict(sorted(found.items()))
