"""PyMoDAQ's recorded messages: whole, byte by byte, joined; read as recorded, written as read."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np
from twisted.trial.unittest import SynchronousTestCase

from labnet.wires.pymodaq import classic, framed
from labnet.wires.pymodaq.codec import (
    FROM_CONTROL,
    FROM_HARDWARE,
    Axis,
    Data,
    DataToExport,
    Decoder,
    Generation,
    Message,
    encode_bytes,
)
from labnet.wires.pymodaq.messages import (
    Done,
    Identify,
    Info,
    Infos,
    InfoXml,
    MoveAbs,
    MoveDone,
    MoveRel,
    PositionIs,
    SetInfo,
    XAxis,
    YAxis,
)
from labnet.wires.pymodaq.primitives import Parts, Source, put_array, put_scalar, put_string
from tests.wires.vectors import records

Record = dict[str, Any]


def conversations(direction: str) -> Iterator[Record]:
    """What was recorded between real peers in one direction."""
    return (record for record in records("pymodaq") if record["direction"] == direction)


def decoder(record: Record, known: bool = True) -> Decoder:
    words = FROM_HARDWARE if record["direction"] == "c2s" else FROM_CONTROL
    return Decoder(words, {Generation[record["generation"]]}) if known else Decoder(words)


def fed(decoder: Decoder, data: bytes, size: int = 1 << 20) -> list[Message]:
    """What comes of `data` in pieces of `size`."""
    found: list[Message] = []
    for at in range(0, len(data), size):
        found += decoder.feed(data[at : at + size])
    return found


def shown(array: Any) -> Record:
    """An array as the recording shows it."""
    values = [
        {"complex": [v.real, v.imag]} if isinstance(v, complex) else v
        for v in array.reshape(-1)[:6].tolist()
    ]
    shape = list(array.shape)
    return {"array": array.dtype.str, "shape": shape, "values": values, "count": array.size}


def plain_shown(array: Any, generation: Generation) -> Record:
    """Like `shown`, with the second size that generation A always has."""
    record = shown(array)
    if generation is Generation.A and array.ndim == 1:
        record["shape"].append(1)
    return record


def number(value: Any) -> Record:
    return {"scalar": np.asarray(value).dtype.str, "value": value}


def data_shown(data: Data, generation: Generation) -> Record:
    record: Record = {
        "class": data.kind, "timestamp": data.timestamp, "name": data.name, "source": data.source,
        "dim": data.dim, "distribution": data.distribution, "data": list(map(shown, data.data)),
        "labels": list(data.labels), "origin": data.origin,
        "nav_indexes": list(data.nav_indexes), "axes": list(map(axis_shown, data.axes)),
    }  # fmt: skip
    framed = generation is Generation.D
    if not framed:
        record["nav_indexes"] = list(map(number, data.nav_indexes))
    if generation in (Generation.C4, Generation.D):
        record["units"] = data.units
    if generation not in (Generation.C1, Generation.C2):
        record["errors"] = list(map(shown, data.errors))
    if generation is not Generation.C1:
        record["extra"] = {
            name: value if framed or isinstance(value, str) else number(value)
            for name, value in data.extra.items()
        }
    return record


def axis_shown(axis: Axis) -> Record:
    record = {"label": axis.label, "units": axis.units, "data": shown(axis.data)}
    return {"Axis": {**record, "index": axis.index, "spread_order": axis.spread_order}}


def payload(message: Message, generation: Generation) -> list[Any]:
    """What follows the word, as the recording shows it."""
    framed = generation is Generation.D
    match message:
        case PositionIs() | MoveDone() | MoveAbs() | MoveRel() if generation.objects:
            return [data_shown(message.position, generation)]
        case PositionIs() | MoveDone() | MoveAbs() | MoveRel():
            (array,) = message.position.data
            return [{"scalar": array.dtype.str, "value": array[0].item()}]
        case Done() if generation.objects:
            frame = message.frame
            record = {"class": "DataToExport", "timestamp": frame.timestamp, "name": frame.name}
            record["data"] = [data_shown(data, generation) for data in frame.data]
            return [{**record, "extra": dict(frame.extra)} if framed else record]
        case Done():
            return [[plain_shown(array, generation) for array in message.frame.arrays]]
        case Infos():
            return [{"bytes": message.xml} if framed else message.xml]
        case InfoXml() | SetInfo():
            return [list(message.path), {"bytes": message.xml} if framed else message.xml]
        case Info():
            return [message.name, message.value]
        case XAxis() | YAxis():
            axis = message.axis
            return [plain_shown(axis.data, generation), axis.label, axis.units]
    return []


class ConversationTests(SynchronousTestCase):
    """What real peers have said to each other."""

    maxDiff = 4000

    def check(self, record: Record, messages: list[Message]) -> None:
        (message,) = messages
        generation = Generation[record["generation"]]
        self.assertEqual(message.spoken, record["value"]["command"])
        self.assertEqual(payload(message, generation), record["value"]["payload"], record["case"])
        self.assertEqual(encode_bytes(message, generation), bytes.fromhex(record["bytes"]))

    def test_whole(self) -> None:
        checked = 0
        for direction in ("c2s", "s2c"):
            for record in conversations(direction):
                reader = decoder(record)
                self.check(record, reader.feed(bytes.fromhex(record["bytes"])))
                self.assertEqual((reader.fault, reader.pending, reader.inside), ("", 0, False))
                checked += 1
        self.assertGreater(checked, 250)

    def test_byte_by_byte(self) -> None:
        for direction in ("c2s", "s2c"):
            for record in conversations(direction):
                self.check(record, fed(decoder(record), bytes.fromhex(record["bytes"]), 1))

    def test_joined(self) -> None:
        for direction in ("c2s", "s2c"):
            for size in (1, 7, 1000, 1 << 20):
                for generation, group in groupby(
                    conversations(direction), key=lambda record: record["generation"]
                ):
                    recorded = list(group)
                    data = b"".join(bytes.fromhex(record["bytes"]) for record in recorded)
                    messages = fed(decoder(recorded[0]), data, size)
                    self.assertEqual(len(messages), len(recorded), generation)
                    for record, message in zip(recorded, messages, strict=True):
                        self.check(record, [message])

    def test_the_generation_is_found_out(self) -> None:
        """From C3 on from a frame or position; C1 and C2 are told apart where that can be."""
        for version, group in groupby(conversations("c2s"), key=lambda record: record["version"]):
            recorded = list(group)
            generation = Generation[recorded[0]["generation"]]
            if generation is Generation.C1:
                continue  # nothing tells it from C3 with less behind it
            first = next(r for r in recorded if "GRABBER" in r["case"])
            frames = [r for r in recorded if r["case"].endswith("Done")]
            reader = decoder(first, known=False)
            data = b"".join(bytes.fromhex(record["bytes"]) for record in [first, *frames])
            messages = fed(reader, data)
            self.assertEqual(reader.fault, "")
            self.assertIs(reader.generation, generation, version)
            for record, message in zip([first, *frames], messages, strict=True):
                self.check(record, [message])

    def test_actuators_found_out(self) -> None:
        for version, group in groupby(conversations("c2s"), key=lambda record: record["version"]):
            recorded = [record for record in group if record["case"].startswith("move")]
            generation = Generation[recorded[0]["generation"]]
            if generation in (Generation.C1, Generation.C2):
                continue
            reader = decoder(recorded[0], known=False)
            data = b"".join(bytes.fromhex(record["bytes"]) for record in recorded)
            messages = fed(reader, data, 5)
            self.assertEqual(reader.fault, "")
            self.assertIs(reader.generation, generation, version)
            self.assertEqual(len(messages), len(recorded))
            self.assertEqual(messages[0], Identify("ACTUATOR"))


class SerializerTests(SynchronousTestCase):
    """Single values from the real serializers."""

    def written(self, record: Record) -> bytes:
        """The record's value, read and written again."""
        generation = Generation[record["generation"]]
        source = Source({generation})
        source.feed(bytes.fromhex(record["bytes"]))
        parts: Parts = []
        if generation is Generation.D:
            value = self.run_steps(framed.read_unit(source))
            framed.put_unit(parts, value)
        else:
            value = self.classic(record, source, generation, parts)
        self.assertEqual(source.pending, 0)
        self.compare(value, record["value"])
        return b"".join(parts)

    def classic(self, record: Record, source: Source, generation: Generation, parts: Parts) -> Any:
        what = record["case"].removeprefix("serializer: ").split()[0]
        steps: Any
        value: Any
        if what == "string":
            put_string(parts, value := source.string())
        elif what in ("scalar", "float", "int", "complex", "bool"):
            put_scalar(parts, value := source.scalar())
        elif what == "array":
            old = generation is Generation.A
            put_array(parts, value := (source.two_sizes if old else source.array)(), two_sizes=old)
        elif what == "axis":
            classic.put_axis(parts, value := self.run_steps(classic.read_axis(source)))
        elif what == "DataActuator":
            classic.put_data(parts, value := self.run_steps(classic.read_data(source)), generation)
        elif what == "DataToExport":
            steps = classic.read_export(source)
            classic.put_export(parts, value := self.run_steps(steps), generation)
        elif generation is Generation.A and record["case"].endswith("strings"):
            value = self.run_steps(classic.read_path(source))
            classic.put_path(parts, value, generation)
        elif generation is Generation.A:
            value = self.run_steps(classic.read_list(source, source.two_sizes))
            classic.put_frame(parts, DataToExport("", (Data("", tuple(value)),)), generation)
        else:
            value = self.run_steps(classic.read_list(source, source.string))
            classic.put_list(parts, value, generation)
        return value

    def run_steps(self, steps: Any) -> Any:
        value = None
        while True:
            try:
                value = steps.send(value)()
            except StopIteration as end:
                return end.value

    def compare(self, value: Any, recorded: Any) -> None:
        if isinstance(value, Axis):
            self.assertEqual((value.label, value.units), (recorded["label"], recorded["units"]))
            self.assertEqual(value.data.tolist(), recorded["data"])
        elif isinstance(value, Data):
            self.assertEqual((value.name, value.value), (recorded["name"], recorded["value"]))
            self.assertEqual(value.units, recorded["units"] or "")
            self.assertEqual(value.timestamp, recorded["timestamp"])
        elif isinstance(value, DataToExport):
            self.compare_export(value, recorded)
        elif hasattr(value, "dtype") and isinstance(recorded, dict):
            self.assertEqual(value.dtype.str, recorded["dtype"])
            texts = recorded["values"] and isinstance(recorded["values"][0], str)
            flat = value.reshape(-1).tolist()
            self.assertEqual(list(map(str, flat)) if texts else flat, recorded["values"])
        elif isinstance(value, complex):
            self.assertEqual(value, complex(recorded))
        elif isinstance(value, list | tuple):
            self.assertEqual([v.tolist() if hasattr(v, "dtype") else v for v in value], recorded)
        else:
            self.assertEqual(value, recorded)

    def compare_export(self, value: DataToExport, recorded: Record) -> None:
        (data,) = value.data
        if "values" in recorded:
            self.assertEqual(data.data[0].tolist(), [complex(v) for v in recorded["values"]])
        elif "shape" in recorded:
            self.assertEqual(list(data.nav_indexes), recorded["nav_indexes"])
            self.assertEqual(list(data.data[0].shape), recorded["shape"])
        else:
            self.assertEqual((value.name, data.name, data.origin), (recorded["name"], "cam", "Det"))
            self.assertEqual(data.data[0].tolist(), [[0, 1, 2], [3, 4, 5]])
            self.assertEqual([axis.label for axis in data.axes], ["y", "x"])
            self.assertEqual([error.size for error in data.errors], [6] * bool(data.errors))
            self.assertEqual(data.extra.get("note"), "hi" if "note" in recorded["kwargs"] else None)

    def test_each(self) -> None:
        checked = 0
        for record in conversations("either"):
            with_context = f"{record['generation']} {record['case']}"
            data = bytes.fromhex(record["bytes"])
            self.assertEqual(self.written(record).hex(), data.hex(), with_context)
            checked += 1
        self.assertGreater(checked, 170)
