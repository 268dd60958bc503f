"""What a lab announces, made from its listeners: no network here."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from labnet.discovery.mdns import Service, host_name, instance_name, renamed, text_record
from labnet.discovery.records import (
    Listening,
    bound,
    device_name,
    identity_text,
    reachable,
    resources,
    services,
)
from labnet.discovery.service import listening
from labnet.specs import Identity

LOOP = "127.0.0.1"
DMM, SCOPE = Identity("ACME", "D.1", "7", "1.0"), Identity("LeCroy", "WS", "9", "2")
IDENTITIES = {"dmm": DMM, "scope": SCOPE}
LISTENERS = [
    Listening("plesty", LOOP, 5555, {"dmm": "dmm", "scope": "scope"}),
    Listening("vicp", LOOP, 1861, {"": "scope"}),
    Listening("scpi", LOOP, 5025, {"": "dmm"}),
    Listening("scpi", LOOP, 5026, {"": "dmm"}),
    Listening("hislip", LOOP, 4881, {"hislip0": "dmm", "hislip1": "scope"}),
    Listening("vxi11", LOOP, 111, {"inst0": "dmm", "gpib0,5": "scope"}),
]


class AddressTests(SynchronousTestCase):
    def test_bound(self) -> None:
        for address, where in {
            "tcp:5025:interface=127.0.0.1": (LOOP, 5025),
            "tcp:5025": (LOOP, 5025),
            "tcp:5025:backlog=128:interface=0.0.0.0": ("0.0.0.0", 5025),
            "tcp://127.0.0.1:5555": (LOOP, 5555),
            "tcp://*:5555": ("0.0.0.0", 5555),
            "unix:/run/lab": None,
            "ipc:///run/lab": None,
        }.items():
            self.assertEqual(bound(address), where, address)

    def test_reachable(self) -> None:
        both = [LOOP, "10.0.0.5"]
        self.assertEqual(reachable("0.0.0.0", both), tuple(both))
        self.assertEqual(reachable("10.0.0.5", both), ("10.0.0.5",))
        self.assertEqual(reachable("127.0.0.2", both), ("127.0.0.2",))
        self.assertEqual(reachable(LOOP, ["10.0.0.5"]), ())
        self.assertEqual(reachable("10.0.0.6", both), ())


class NameTests(SynchronousTestCase):
    def test_instances(self) -> None:
        self.assertEqual(device_name(DMM), "ACME D-1 7")  # many tools split at dots
        self.assertEqual(instance_name("a\nb\0 c"), "a b c")
        self.assertEqual(instance_name("  "), "labnet")
        for text in ("x" * 100, "µ" * 100):
            for number in (1, 2, 19):
                name = instance_name(text, number)
                self.assertLessEqual(len(name.encode()), 63)
                self.assertEqual(name.endswith(f" ({number})"), number > 1)

    def test_hosts(self) -> None:
        self.assertEqual(host_name("bench A/µ.1"), "bench-A---1")
        self.assertEqual(host_name("..."), "labnet")
        self.assertEqual(host_name("lab", 3), "lab-3")
        self.assertLessEqual(len(host_name("x" * 100, 12)), 63)

    def test_renamed_together(self) -> None:
        service = Service("_lxi._tcp", "dmm", "lab", 80, (LOOP,))
        self.assertIs(renamed(service, 1), service)
        other = renamed(service, 2)
        self.assertEqual((other.name, other.host), ("dmm (2)", "lab-2"))
        self.assertEqual(other.full_name, "dmm (2)._lxi._tcp.local.")


class TextTests(SynchronousTestCase):
    def test_the_four_elements(self) -> None:
        self.assertEqual(
            identity_text(DMM),
            {
                "txtvers": "1",
                "Manufacturer": "ACME",
                "Model": "D.1",
                "SerialNumber": "7",
                "FirmwareVersion": "1.0",
            },
        )

    def test_no_value_is_empty(self) -> None:
        """Other programs stumble over a record without its maker."""
        text = identity_text(Identity("", "", "", ""))
        self.assertTrue(all(text.values()), text)

    def test_what_a_record_holds(self) -> None:
        text = text_record({"Model": "µ" * 300})
        self.assertLessEqual(len(f"Model={text['Model']}".encode()), 255)


class ServiceTests(SynchronousTestCase):
    def found(self, **options: object) -> list[Service]:
        options = {"device": "scope", "addresses": [LOOP], **options}
        return services(
            LISTENERS, IDENTITIES, lab="demo", host="lab", web_port=8080, **options  # type: ignore
        )

    def test_each_listener(self) -> None:
        rows = [(service.kind, service.name, service.port) for service in self.found()]
        self.assertEqual(
            rows,
            [
                ("_http._tcp", "LeCroy WS 9", 8080),
                ("_lxi._tcp", "LeCroy WS 9", 8080),
                ("_labnet-plesty._tcp", "demo dmm scope", 5555),
                ("_vicp-ctrl._tcp", "LeCroy WS 9", 1861),
                ("_scpi-raw._tcp", "ACME D-1 7", 5025),
                ("_scpi-raw._tcp", "ACME D-1 7 (2)", 5026),
                ("_hislip._tcp", "ACME D-1 7", 4881),
                ("_vxi-11._tcp", "ACME D-1 7", 111),
            ],
        )

    def test_no_lxi_without_a_maker(self) -> None:
        for service in self.found():
            if service.kind not in ("_http._tcp", "_labnet-plesty._tcp"):
                self.assertTrue(service.text["Manufacturer"], service)
                self.assertEqual(next(iter(service.text)), "txtvers")
            self.assertTrue(all(service.text.values()))

    def test_without_instruments(self) -> None:
        kinds = {service.kind for service in self.found(device=None)}
        self.assertNotIn("_lxi._tcp", kinds)
        self.assertNotIn("_http._tcp", kinds)

    def test_vxi11_without_a_port_mapper(self) -> None:
        self.assertEqual(listening("vxi11", "tcp:1024", {}, "TCPIP::h::inst0::INSTR"),
                         Listening("vxi11", LOOP, 111, {}))  # fmt: skip
        hidden = listening("vxi11", "tcp:1024", {"": "dmm"}, "TCPIP::h,1024::inst0::INSTR")
        self.assertEqual(hidden, Listening("vxi11", LOOP, 1024, {"": "dmm"}))
        assert hidden is not None
        found = services(
            [hidden], IDENTITIES, [LOOP], lab="demo", host="lab", device=None, web_port=0
        )
        self.assertEqual(found, [])

    def test_what_nobody_reaches_is_left_out(self) -> None:
        found = self.found(addresses=["10.0.0.5"])
        self.assertEqual({service.kind for service in found}, {"_http._tcp", "_lxi._tcp"})


class ResourceTests(SynchronousTestCase):
    def test_the_best_wire_first(self) -> None:
        self.assertEqual(
            resources(LISTENERS, "dmm", LOOP),
            [
                "TCPIP0::127.0.0.1::hislip0,4881::INSTR",
                "TCPIP0::127.0.0.1::inst0::INSTR",
                "TCPIP0::127.0.0.1::5025::SOCKET",
                "TCPIP0::127.0.0.1::5026::SOCKET",
            ],
        )
        self.assertEqual(
            resources(LISTENERS, "scope", LOOP),
            [
                "TCPIP0::127.0.0.1::hislip1,4881::INSTR",
                "TCPIP0::127.0.0.1::gpib0,5::INSTR",
                "VICP::127.0.0.1::INSTR",
            ],
        )

    def test_one_device_without_a_name(self) -> None:
        listeners = [Listening("vxi11", LOOP, 1024, {"": "dmm"}),
                     Listening("hislip", LOOP, 4880, {"": "dmm"})]  # fmt: skip
        self.assertEqual(
            resources(listeners, "dmm", LOOP),
            ["TCPIP0::127.0.0.1::hislip0::INSTR", "TCPIP0::127.0.0.1,1024::inst0::INSTR"],
        )
        self.assertEqual(resources(listeners, "dmm", "10.0.0.5"), [])
