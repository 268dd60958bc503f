"""Every recorded PLESTY exchange against labnet's server, and where its replies differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.transports.zmq import Peer
from tests.wires.plesty_toy import ToyServer
from tests.wires.vectors import records

TWIN = "duplicate_second_while_first_alive"
"""The case whose client a ROUTER never reads from."""

DIFFERENT: dict[str, Any] = {
    # An int is taken for a float.
    "write_int_to_float": {"status": "ok", "result": True},
    "query_after_int": {"status": "ok", "result": 633.0},
    "raw_query_without_connect": {"status": "ok", "result": 633.0},
    "lock_holder_query": {"status": "ok", "result": 633.0},
    # Arrays, numpy scalars, complex numbers, bytes and enumerations have a form.
    "result_bytes": {"status": "ok", "result": "\x00\xff"},
    "result_complex": {"status": "ok", "result": [1.0, 2.0]},
    "result_ndarray": {"status": "ok", "result": [0, 1, 2]},
    "result_npfloat32": {"status": "ok", "result": 0.5},
    "result_npint": {"status": "ok", "result": 3},
    "result_npbool": {"status": "ok", "result": True},
    "result_nested_ndarray": {"status": "ok", "result": {"a": [0, 1]}},
    "result_enum": {"status": "ok", "result": "red"},
    # Only what is described can be called.
    "call_unknown_function": ("AttributeError", "unknown operation 'nope'"),
    "call_hidden_function": ("AttributeError", "unknown operation 'hidden'"),
    "call_noncallable_attribute": ("AttributeError", "unknown operation 'id'"),
    "call_private_attribute": ("AttributeError", "unknown operation '_obj'"),
    "private_aexit": [
        ("AttributeError", "unknown operation '__aexit__'"),
        {"status": "ok", "result": True},
    ],
    # Texts say what is wrong in the user's terms.
    "query_nonstring_param": ("TypeError", "param must be a string, not a number"),
    "call_missing_argument": ("TypeError", "missing argument a; usage: add a [b]"),
    "call_unexpected_argument": ("TypeError", "unknown argument zz; usage: bare"),
    "raw_json_list": ("AttributeError", "the request must be a JSON object, not a list"),
    "raw_json_null": ("AttributeError", "the request must be a JSON object, not null"),
    "raw_json_string": ("AttributeError", "the request must be a JSON object, not a string"),
    "raw_func_number": ("TypeError", "func must be a string, not a number"),
    "raw_args_null": ("TypeError", "args must be a list, not null"),
    "raw_kwargs_list": ("TypeError", "kwargs must be an object, not a list"),
    "raw_kwargs_null": ("TypeError", "kwargs must be an object, not null"),
    "raw_timeout_string": (
        "TypeError",
        "timeout must be a number of seconds or null, not a string",
    ),
    "raw_kwarg_timeout": ("TimeoutError", "Operation timed out"),
    # The id of a request comes back.
    "raw_extra_keys_and_id": {"status": "ok", "result": "TOY-0001", "id": 17},
    # The holder of locks can call what takes no keyword arguments.
    "lock_holder_call_no_kwargs": {"status": "ok", "result": "bare"},
    "lock_holder_get_config_list": {
        "status": "ok",
        "result": [
            "wavelength", "averaging", "unit", "auto_range", "offset", "serial", "trigger",
            "MOTOR.position",
        ],
    },
}  # fmt: skip

REFUSALS = {
    # A refused connect says more inside `result`: who holds, or what there is not.
    "lock_conflict_exact": ("holder", "exp-1"),
    "lock_conflict_subtree": ("holder", "exp-1"),
    "lock_conflict_partial": ("holder", "exp-1"),
    "lock_reconnect_refused_keeps_old": ("holder", "exp-2"),
    "lock_still_held": ("holder", "exp-1"),
    "vanish_lock_leaks": ("holder", "exp-6"),
    "lock_unknown": ("unknown", ["nope"]),
    "lock_one_unknown": ("unknown", ["nope"]),
    "raw_connect_number": ("unknown", ["5"]),
    # What does not exist cannot be locked: a labnet device always has names.
    "noregistry_any_lock": ("unknown", ["anything/at/all"]),
    "noregistry_conflict": ("unknown", ["anything/at/all"]),
    "noregistry_prefix_no_conflict": ("unknown", ["anything"]),
}

DESCRIPTIONS = {"connect_plain", "describe", "raw_pipelined_overtaking", "call_doc_model"}
"""Cases in which a description comes, compared in parts by `Descriptions`."""

HELP = {"raw_help"}

STOPPED = {
    # The real server ends here; labnet's answers.
    "killer_req_socket": '{"status": "ok", "result": {"methods": ',
    "killer_invalid_utf8": '{"status": "error", "error": "the request is not UTF-8',
    "killer_two_body_frames": '{"status": "error", "error": "a request must be one message',
}


def octets(part: dict[str, str]) -> bytes:
    """Recorded bytes."""
    return part["utf8"].encode() if "utf8" in part else bytes.fromhex(part["hex"])


class Replay:
    """Plays the clients' side of the recording; a connection is lost when its name comes again."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.server = ToyServer(self.clock)
        self._by_number: dict[int, Peer] = {}
        self._by_identity: dict[bytes, Peer] = {}

    def pairs(self) -> Iterator[tuple[str, str, str]]:
        """Case, recorded reply, labnet's reply."""
        for record in records("plesty"):
            if "kind" in record or record["case"] == TWIN:
                continue
            peer = self._peer(record)
            if record["direction"] == "c2s":
                parts = [octets(part) for part in record["frames"]]
                self.server.factory.messageReceived(peer, parts)
            else:
                yield record["case"], record["frames"][0]["utf8"], self._reply(peer)

    def left(self) -> list[list[bytes]]:
        """Replies for which the recording has none."""
        return [frames for sent in self.server.port.sent.values() for frames in sent]

    def _peer(self, record: dict[str, Any]) -> Peer:
        number, identity = record["conn"], octets(record["identity"])
        if number not in self._by_number:
            if record["case"] == "raw_anonymous_identity":
                identity = bytes.fromhex("006b8b4567")
            old = self._by_identity.pop(identity, None)
            if old is not None and identity:
                self.server.lose(old)
            self._by_number[number] = self._by_identity[identity] = self.server.peer(identity)
        return self._by_number[number]

    def _reply(self, peer: Peer) -> str:
        sent = self.server.port.sent
        for _ in range(40):
            if sent.get(peer):
                return sent[peer].pop(0)[-1].decode()
            self.clock.advance(0.05)
        return "no reply"


class Vectors(SynchronousTestCase):
    """The same replies, but for those of the tables."""

    def test_every_reply(self) -> None:
        different = {
            case: list(found) if isinstance(found, list) else [found]
            for case, found in DIFFERENT.items()
        }
        counts = {"same": 0, "different": 0}
        seen = set()
        for case, recorded, ours in Replay().pairs():
            if ours == recorded:
                counts["same"] += 1
                continue
            counts["different"] += 1
            seen.add(case)
            if case in DESCRIPTIONS | HELP:
                self.assertEqual(json.loads(ours)["status"], "ok", case)
            elif case in REFUSALS:
                self._check_refusal(case, json.loads(recorded), ours)
            else:
                self.assertIn(case, different, f"{recorded} {ours}")
                self.assertEqual(ours, self._expected(different[case].pop(0)), case)
        self.assertEqual(seen, {*DIFFERENT, *REFUSALS, *DESCRIPTIONS, *HELP})
        self.assertGreater(counts["same"], 80)

    def _check_refusal(self, case: str, recorded: dict[str, Any], ours: str) -> None:
        key, value = REFUSALS[case]
        reply = json.loads(ours)
        told = reply["result"].pop(key)
        self.assertEqual(told["name"] if key == "holder" else told, value, case)
        if recorded["status"] == "ok":
            self.assertEqual(reply["type"], "ResourceAllocationError", case)
        else:
            self.assertEqual(json.dumps(reply), json.dumps(recorded), case)

    def _expected(self, found: Any) -> str:
        if isinstance(found, tuple):
            found = {"status": "error", "error": found[1], "type": found[0]}
        return json.dumps(found)

    def test_what_stops_the_real_server_is_answered(self) -> None:
        replay = Replay()
        for _ in replay.pairs():
            pass
        left = [frames[-1].decode() for frames in replay.left()]
        self.assertEqual(len(left), len(STOPPED))
        for start, reply in zip(STOPPED.values(), left, strict=True):
            self.assertTrue(reply.startswith(start), reply[:100])


class Descriptions(SynchronousTestCase):
    """``describe`` in the recorded form."""

    def setUp(self) -> None:
        for case, recorded, ours in Replay().pairs():
            if case == "connect_plain" and "methods" in recorded:
                self.recorded = json.loads(recorded)["result"]
                self.ours = json.loads(ours)["result"]
                return

    def test_parameters_are_the_same(self) -> None:
        ours, recorded = (side["doc"]["parameters"] for side in (self.ours, self.recorded))
        self.assertEqual(json.dumps(ours), json.dumps(recorded))

    def test_budgets_are_the_same(self) -> None:
        self.assertEqual(self.ours["budgets"], self.recorded["budgets"])

    def test_keys_and_their_order_are_the_same(self) -> None:
        def shape(entry: dict[str, Any]) -> list[Any]:
            inner = [*entry["iparams"][:1], *entry["oparams"], entry["kind"]]
            return [list(entry), *(list(part) for part in inner)]

        def by_name(description: dict[str, Any], group: str) -> dict[str, list[Any]]:
            return {entry["name"]: shape(entry) for entry in description["doc"][group]}

        self.assertEqual(list(self.ours), list(self.recorded))
        self.assertEqual(list(self.ours["doc"]), list(self.recorded["doc"]))
        for group in ("functions", "standard_methods"):
            ours, recorded = by_name(self.ours, group), by_name(self.recorded, group)
            both = ours.keys() & recorded.keys()
            self.assertGreater(len(both), 3)
            for name in both:
                self.assertEqual(ours[name], recorded[name], name)

    def test_operations_of_the_device_are_described_alike(self) -> None:
        """But for `identity`, which is a stock operation here."""
        recorded = {entry["name"]: entry for entry in self.recorded["doc"]["functions"]}
        ours = {entry["name"]: entry for entry in self.ours["doc"]["functions"]}
        self.assertEqual(recorded.keys() - ours.keys(), {"identity", "thread_name"})
        for name in recorded.keys() & ours.keys():
            self.assertEqual(ours[name], recorded[name], name)

    def test_methods_keep_the_promise_of_the_documentation(self) -> None:
        self.assertEqual(self.ours["methods"], sorted(self.ours["methods"]))
        self.assertLess({"query", "write", "identity", "get_config_list"}, {*self.ours["methods"]})
