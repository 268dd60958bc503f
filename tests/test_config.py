"""The configuration: lines, keys, values and what is said when they are wrong."""

from __future__ import annotations

from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.config import Config, load_config, parse_config
from labnet.endpoints import check_address, complete_address
from labnet.inifile import ConfigError, read_ini, suggest
from labnet.options import options_of, type_name
from labnet.reference import describe_options
from labnet.wires.table import WIRES
from tests import fake_wire

GOOD = """\
# A lab of one gauge.
[lab]
name = bench 4 ; next to the door
drain = 2.5

[locks]
reads = closed

[log]
default = warn
fake = debug
gauge = error

[device gauge]
driver = fake.gauge
alias = Dev1, Dev #2
timeout = 3
start = -1e-3
count = 0x10
noisy = yes

[serve gauge-fake]
wire = fake
listen = tcp:7001
device = gauge
allow = 127.0.0.1,
    192.168.1.0/24
greeting = a; b#c
words = one,
        two
longest = 200
ends = crlf
"""


class ReaderTests(SynchronousTestCase):
    """INI text to sections with their lines."""

    def only(self, text: str) -> dict[str, str]:
        (section,) = read_ini(text, "x.ini")
        return {key: entry.text for key, entry in section.entries.items()}

    def refused(self, text: str) -> str:
        return str(self.assertRaises(ConfigError, read_ini, text, "x.ini"))

    def test_lines(self) -> None:
        (section,) = read_ini("\ufeff# c\r\n\r\n[device  a]\r\nx = 1\r\n\r\n  y = 2\n", "x.ini")
        self.assertEqual((section.kind, section.name, section.line), ("device", "a", 3))
        self.assertEqual({key: entry.line for key, entry in section.entries.items()}, {"x": 4})

    def test_deeper_lines_continue(self) -> None:
        text = "[a]\nx = one\n  two\n\n  # comment\n  three\ny = 4\n"
        self.assertEqual(self.only(text), {"x": "one\ntwo\nthree", "y": "4"})

    def test_value_on_the_next_line(self) -> None:
        self.assertEqual(self.only("[a]\nx =\n  one\n"), {"x": "one"})

    def test_indented_keys(self) -> None:
        self.assertEqual(self.only("[a]\n  x = 1\n  y = 2\n"), {"x": "1", "y": "2"})

    def test_comments_behind_values(self) -> None:
        text = "[a] # c\nx = a;b#c\ny = a ; b\nz = No #2\nw = a #\n"
        self.assertEqual(self.only(text), {"x": "a;b#c", "y": "a", "z": "No #2", "w": "a"})

    def test_equals_sign_in_a_value(self) -> None:
        text = "[a]\nx = tcp:1:interface=::1"
        self.assertEqual(self.only(text), {"x": "tcp:1:interface=::1"})

    def test_refusals_name_the_line(self) -> None:
        cases = {
            "x = 1": "x.ini:1: 'x' stands before the first section",
            "[a]\nx": "x.ini:2: not a setting: x; write key = value",
            "[a]\n= 3": "x.ini:2: not a setting: = 3; write key = value",
            "[a": "x.ini:1: not a section header: [a; write [kind] or [kind NAME]",
            "[ ]": "x.ini:1: not a section header: [ ]; write [kind] or [kind NAME]",
            "[a b]\n[a  b]": "x.ini:2: [a b] stands here again; it began in line 1",
            "[a]\nx = 1\nx = 1": "x.ini:3: [a] 'x' stands here again; it was set in line 2",
        }
        for text, said in cases.items():
            self.assertEqual(self.refused(text), said)

    @given(st.text(alphabet="[]=;# \t\nab\r\u2028\0", max_size=60))
    def test_any_text(self, text: str) -> None:
        """Any text gives sections, or one line that names the file."""
        try:
            read_ini(text, "x.ini")
        except ConfigError as error:
            self.assertRegex(str(error), r"^x\.ini:\d+: ")

    def test_suggestions(self) -> None:
        self.assertEqual(suggest("Lisen", ["listen", "wire"]), "; did you mean 'listen'?")
        self.assertEqual(suggest("qqq", ["listen", "wire"]), "; there is listen, wire")
        self.assertEqual(suggest("qqq", []), "")


class ConfigTests(SynchronousTestCase):
    """Sections to dataclasses."""

    def setUp(self) -> None:
        fake_wire.install(self)

    def refused(self, old: str, new: str, text: str = GOOD) -> str:
        self.assertIn(old, text)
        changed = text.replace(old, new, 1)
        error = self.assertRaises(ConfigError, parse_config, changed, "lab.ini")
        self.assertNotIn("\n", str(error))
        return str(error)

    def test_whole(self) -> None:
        config = parse_config(GOOD, "lab.ini")
        self.assertEqual((config.lab.name, config.lab.drain), ("bench 4", 2.5))
        self.assertEqual((config.locks.reads, config.locks.stop), ("closed", "closed"))
        self.assertEqual(config.log.default, "warn")
        self.assertEqual(dict(config.log.by_name), {"fake": "debug", "gauge": "error"})
        (serve,) = config.serves
        self.assertEqual((serve.name, serve.wire.name), ("gauge-fake", "fake"))
        self.assertEqual(serve.listen, "tcp:7001:interface=127.0.0.1:backlog=128")
        networks = (ip_network("127.0.0.1/32"), ip_network("192.168.1.0/24"))
        self.assertEqual(serve.keys.allow, networks)
        self.assertEqual(
            serve.options, fake_wire.Options("a; b#c", 200, "crlf", ("one", "two"))
        )

    def test_device(self) -> None:
        (device,) = parse_config(GOOD).devices
        self.assertEqual(device.keys.timeout, 3)
        gauge = device.make()
        self.assertEqual((gauge.start, gauge.count, gauge.noisy), (-0.001, 16, True))
        self.assertEqual(gauge.aliases, ("Dev1", "Dev #2"))

    def test_a_device_that_needs_another(self) -> None:
        """The camera looks at the stage, wherever in the file that stands."""
        text = (
            "[device eye]\ndriver = simulated.camera\nstage = axis\n"
            "[device axis]\ndriver = simulated.stage\n"
        )
        config = parse_config(text)
        self.assertEqual([device.name for device in config.devices], ["axis", "eye"])
        clock = Clock()
        made = {"axis": config.devices[0].make({}, clock)}
        eye = config.devices[1].make(made, clock)
        self.assertIs(eye._stage, made["axis"])
        self.assertIs(eye._clock, clock)
        for wrong, problem in [
            ("stage = axes", "there is no device 'axes'; did you mean 'axis'?"),
            ("stage = eye", "'eye' needs this device in its turn"),
        ]:
            self.assertIn(problem, self.refused("stage = axis", wrong, text))
        other = text.replace("simulated.stage", "simulated.dmm")
        self.assertIn("'axis' is no stage", self.refused("eye", "eye", other))

    def test_defaults(self) -> None:
        text = "[device a]\ndriver = fake.gauge\nstart = 0\n[serve x]\nwire = fake\n"
        config = parse_config(text)
        self.assertEqual(config, Config("lab.ini", devices=config.devices, serves=config.serves))
        (serve,) = config.serves
        self.assertEqual((serve.device, dict(serve.devices)), ("a", {}))
        self.assertTrue(serve.listen.startswith("tcp:7000:interface=127.0.0.1"))
        self.assertEqual(serve.options, fake_wire.Options())

    def test_several_devices(self) -> None:
        several = "devices = inst0: gauge,\n  b.c: gauge.value"
        config = parse_config(GOOD.replace("device = gauge", several))
        self.assertEqual(
            dict(config.serves[0].devices), {"inst0": "gauge", "b.c": "gauge.value"}
        )
        config = parse_config(GOOD.replace("device = gauge", "devices = *"))
        self.assertEqual(dict(config.serves[0].devices), {"gauge": "gauge"})
        self.assertIsNone(config.serves[0].device)

    def test_misspelled_words(self) -> None:
        cases = {
            ("listen =", "lisen ="): "24: [serve gauge-fake] unknown key 'lisen'; "
            "did you mean 'listen'?",
            ("greeting", "Greting"): "28: [serve gauge-fake] unknown key 'Greting'; "
            "did you mean 'greeting'?",
            ("noisy", "noisi"): "20: [device gauge] unknown key 'noisi'; did you mean 'noisy'?",
            ("[locks]", "[lock]"): "6: [lock] unknown section; did you mean 'locks'?",
            ("= fake.gauge", "= fake.gage"): "15: [device gauge] unknown driver 'fake.gage'; "
            "did you mean 'fake.gauge'?",
            ("wire = fake", "wire = fakke"): "23: [serve gauge-fake] unknown wire 'fakke'; "
            "did you mean 'fake'?",
            ("device = gauge", "device = gauje"): "25: [serve gauge-fake] device: there is no "
            "device 'gauje'; did you mean 'gauge'?",
            ("gauge = error", "gage = error"): "12: [log] unknown key 'gage'; "
            "did you mean 'gauge'?",
            ("ends = crlf", "ends = crl"): "32: [serve gauge-fake] ends: 'crl' is not one of "
            "lf, crlf; did you mean 'crlf'?",
            ("default = warn", "default = wran"): "10: [log] default: 'wran' is not one of "
            "debug, info, warn, error; did you mean 'warn'?",
        }
        for (old, new), said in cases.items():
            self.assertEqual(self.refused(old, new), f"lab.ini:{said}")

    def test_wrong_values(self) -> None:
        cases = {
            ("drain = 2.5", "drain = soon"): "4: [lab] drain: 'soon' is not a number",
            ("drain = 2.5", "drain = nan"): "4: [lab] drain: 'nan' is not a finite number",
            ("drain = 2.5", "drain = -1"): "4: [lab] drain: -1.0 is outside 0 to 3600 s",
            ("count = 0x10", "count = 1.5"): "19: [device gauge] count: '1.5' is not a whole "
            "number",
            ("noisy = yes", "noisy = maybe"): "20: [device gauge] noisy: 'maybe' is neither yes "
            "nor no",
            ("longest = 200", "longest = 0"): "31: [serve gauge-fake] longest: 0 is outside "
            "1 to 4096 bytes",
            ("192.168.1.0/24", "192.168.1.0/99"): "26: [serve gauge-fake] allow: "
            "'192.168.1.0/99' is not an IP address or network such as 192.168.1.0/24",
            ("tcp:7001", "tcpp:7001"): "24: [serve gauge-fake] listen: 'tcpp:7001' is no "
            "endpoint such as tcp:7891",
            ("tcp:7001", "tcp:77001"): "24: [serve gauge-fake] listen: "
            "'tcp:77001:interface=127.0.0.1:backlog=128': a port is a number from 0 to 65535",
            ("tcp:7001", "tcp://127.0.0.1:1"): "24: [serve gauge-fake] listen: "
            "'tcp://127.0.0.1:1' is a ZMQ address; this wire takes an endpoint such as tcp:7891",
        }
        for (old, new), said in cases.items():
            self.assertEqual(self.refused(old, new), f"lab.ini:{said}")

    def test_missing(self) -> None:
        cases = {
            ("start = -1e-3\n", ""): "14: [device gauge] the key 'start' is missing",
            ("driver = fake.gauge\n", ""): "14: [device gauge] the key 'driver' is missing",
            ("wire = fake\n", ""): "22: [serve gauge-fake] the key 'wire' is missing",
            ("[serve gauge-fake]", "[serve]"): "22: [serve] the section has no name; "
            "write [serve NAME]",
            ("[lab]", "[lab one]"): "2: [lab one] the section has no name of its own; write [lab]",
            ("[device gauge]", "[device 9v]"): "14: [device 9v] a device's name is a letter, "
            "then letters, digits and _",
            ("device = gauge", "device = gauge\ndevices = *"): "26: [serve gauge-fake] either "
            "'device' or 'devices', not both",
            ("device = gauge", "devices = a: gauge, a: gauge"): "25: [serve gauge-fake] devices: "
            "'a' stands there twice",
        }
        for (old, new), said in cases.items():
            self.assertEqual(self.refused(old, new), f"lab.ini:{said}")

    def test_two_devices_need_a_choice(self) -> None:
        more = "\n[device other]\ndriver = fake.gauge\nstart = 1\n"
        said = self.refused("device = gauge\n", "", GOOD + more)
        self.assertEqual(
            said, "lab.ini:22: [serve gauge-fake] the key 'device' (or 'devices') is missing"
        )

    def test_one_address_twice(self) -> None:
        again = "\n[serve again]\nwire = fake\nlisten = tcp:7001\ndevice = gauge\n"
        said = self.refused("GOOD", "", GOOD + again + "# GOOD")
        self.assertIn("[serve again] listen: tcp:7001:interface=127.0.0.1", said)
        self.assertIn("is the address of [serve gauge-fake] already", said)
        for free in ("tcp:0", "tcp:7001:interface=127.0.0.2"):
            config = parse_config(GOOD + again.replace("tcp:7001", free))
            self.assertEqual(len(config.serves), 2)

    def test_a_driver_that_refuses(self) -> None:
        (device,) = parse_config(GOOD.replace("count = 0x10", "count = 101")).devices
        error = self.assertRaises(ConfigError, device.make)
        said = "lab.ini:15: [device gauge] the device cannot be made: no more than 100 counts"
        self.assertEqual(str(error), said)

    def test_a_package_that_is_not_there(self) -> None:
        wire = WIRES["fake"]
        self.patch(type(wire), "load_server", lambda wire: __import__("no_such_package"))
        said = self.refused("[lab]", "[lab]")
        self.assertEqual(
            said,
            "lab.ini:23: [serve gauge-fake] wire: needs the Python package no_such_package, "
            "not installed",
        )

    def test_no_devices(self) -> None:
        error = self.assertRaises(ConfigError, parse_config, "[lab]\n")
        self.assertIn("lab.ini:1: no devices", str(error))

    def test_files(self) -> None:
        path = self.mktemp()
        error = self.assertRaises(ConfigError, load_config, path)
        self.assertEqual(str(error), f"{path}: cannot be read: No such file or directory")
        with open(path, "wb") as file:
            file.write(b"[lab]\nname = \xff\n")
        error = self.assertRaises(ConfigError, load_config, path)
        self.assertEqual(str(error), f"{path}:2: not UTF-8 text")
        with open(path, "w") as text:
            text.write(GOOD)
        self.assertEqual(load_config(path).lab.name, "bench 4")
        with open(path, "w") as text:
            text.write("#" * (1 << 21))
        error = self.assertRaises(ConfigError, load_config, path)
        self.assertIn("longer than", str(error))


class ReferenceTests(SynchronousTestCase):
    """The rows that the reference page is made from."""

    def setUp(self) -> None:
        fake_wire.install(self)

    def test_every_key_has_a_help_and_a_type(self) -> None:
        rows = describe_options()
        for row in rows:
            if not row.section.startswith("device NAME, driver"):
                self.assertTrue(row.help, row)
            self.assertTrue(row.type, row)
        shown = {(row.section, row.key): row for row in rows}
        longest = shown["serve NAME, wire = fake", "longest"]
        self.assertEqual(
            (longest.type, longest.default, longest.unit), ("whole number", "100", "bytes")
        )
        self.assertEqual(shown["locks", "reads"].type, "open | closed")
        self.assertEqual(shown["serve NAME", "allow"].type, "list of network")
        self.assertEqual(shown["device NAME, driver = fake.gauge", "noisy"].default, "no")
        self.assertNotIn(("device NAME, driver = fake.gauge", "clock"), shown)
        self.assertEqual(
            [shown["device NAME, driver = fake.gauge", name].help for name in ("start", "count")],
            ["where it begins, in V.", "how many."],
        )

    def test_types(self) -> None:
        def maker(a: int | None, b: tuple[float, ...], c: object) -> None: ...

        shown = [(option.name, type_name(option.type)) for option in options_of(maker)]
        self.assertEqual(shown, [("a", "whole number"), ("b", "list of number")])
        self.assertEqual(options_of(object), ())


class AddressTests(SynchronousTestCase):
    """Where to listen."""

    def test_loopback_and_backlog(self) -> None:
        cases = {
            "tcp:1": "tcp:1:interface=127.0.0.1:backlog=128",
            "tcp:1:interface=0.0.0.0": "tcp:1:interface=0.0.0.0:backlog=128",
            "tcp6:1": r"tcp6:1:interface=\:\:1:backlog=128",
            "ssl:1:privateKey=k:backlog=5": "ssl:1:privateKey=k:backlog=5:interface=127.0.0.1",
            "tcp:1:0.0.0.0": "tcp:1:0.0.0.0:backlog=128",
            "tcp:1:0.0.0.0:5": "tcp:1:0.0.0.0:5",
            "tcp:port=1": "tcp:port=1:interface=127.0.0.1:backlog=128",
            "haproxy:tcp:1": "haproxy:tcp:1:interface=127.0.0.1:backlog=128",
            "tcp://127.0.0.1:1": "tcp://127.0.0.1:1",
            "unix:/run/lab": "unix:/run/lab",
        }
        for address, complete in cases.items():
            self.assertEqual(complete_address(address), complete)
            self.assertEqual(complete_address(complete), complete)

    def test_checks(self) -> None:
        self.assertEqual(check_address(complete_address("tcp6:1"), zmq=False), "")
        self.assertEqual(check_address("systemd:domain=INET:index=0", zmq=False), "")
        self.assertEqual(check_address("ipc:///tmp/x", zmq=True), "")
        self.assertIn("no ZMQ address", check_address("tcp:1", zmq=True))
        self.assertIn("no ZMQ address", check_address("http://x:1", zmq=True))
        self.assertIn("no endpoint", check_address("tcp:x y:z", zmq=False))
        said = check_address("ssl:1:privateKey=/no/key", zmq=False)
        self.assertRegex(said, "/no/key cannot be read|needs the Python package OpenSSL")
