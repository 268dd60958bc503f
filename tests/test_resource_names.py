"""VISA resource strings, read and written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import BadArguments
from labnet.resource_names import INVALID_NAME, ResourceName, parse_resource_name

NAMES = {
    "TCPIP::10.0.0.5::inst0::INSTR": ResourceName("vxi11", "10.0.0.5", None, "inst0"),
    "TCPIP::10.0.0.5::INSTR": ResourceName("vxi11", "10.0.0.5", None, "inst0"),
    "TCPIP::10.0.0.5": ResourceName("vxi11", "10.0.0.5", None, "inst0"),
    "TCPIP3::dmm.example::gpib0,5": ResourceName("vxi11", "dmm.example", None, "gpib0,5", 3),
    "TCPIP::dmm,1024::inst 0::INSTR": ResourceName("vxi11", "dmm", 1024, "inst 0"),
    "TCPIP::dmm::my_dev.1::INSTR": ResourceName("vxi11", "dmm", None, "my_dev.1"),
    "TCPIP0::dmm::hislip0::INSTR": ResourceName("hislip", "dmm", None, "hislip0"),
    "TCPIP::dmm::HiSLIP1,4881": ResourceName("hislip", "dmm", 4881, "HiSLIP1"),
    "TCPIP::dmm::hislip": ResourceName("hislip", "dmm", None, "hislip"),
    "TCPIP::dmm::5025::SOCKET": ResourceName("scpi", "dmm", 5025),
    "tcpip1::dmm::5025::socket": ResourceName("scpi", "dmm", 5025, board=1),
    "VICP::scope::INSTR": ResourceName("vicp", "scope"),
    "VICP::scope": ResourceName("vicp", "scope"),
    "vicp0::scope,1862::instr": ResourceName("vicp", "scope", 1862),
    "TCPIP::[fe80::1]::hislip0::INSTR": ResourceName("hislip", "fe80::1", None, "hislip0"),
    "TCPIP::[::1]::5025::SOCKET": ResourceName("scpi", "::1", 5025),
}
WRONG = (
    "",
    "dmm",
    "GPIB0::5::INSTR",
    "USB0::1::2::3::INSTR",
    "ASRL1::INSTR",
    "TCPIP",
    "TCPIP::",
    "TCPIP::::INSTR",
    "TCPIP::fe80::1::2::INSTR",
    "TCPIP::dmm::0::SOCKET",
    "TCPIP::dmm::65536::SOCKET",
    "TCPIP::dmm::port::SOCKET",
    "TCPIP::dmm::SOCKET",
    "TCPIP::dmm,5::5025::SOCKET",
    "TCPIP::dmm,99999::inst0::INSTR",
    "TCPIP::dmm,4881::hislip0::INSTR",
    "TCPIP::dmm::hislip0,1,2::INSTR",
    "TCPIP::dmm::hislip0,0::INSTR",
    "TCPIP::dmm::usb0[1::2::3::0]::INSTR",
    "TCPIP::dmm::inst0\n::INSTR",
    "TCPIP::user@dmm::hislip0::INSTR",
    "TCPIP12345::dmm::INSTR",
    "VICP::scope::1861::SOCKET",
    "VICP::scope::inst0::INSTR",
)


class NameTests(SynchronousTestCase):
    def test_all_forms(self) -> None:
        for text, name in NAMES.items():
            self.assertEqual(parse_resource_name(text), name, text)
            self.assertEqual(parse_resource_name(f" {text} "), name, text)

    def test_there_and_back(self) -> None:
        for name in NAMES.values():
            again = parse_resource_name(str(name))
            self.assertEqual((again.wire, again.host), (name.wire, name.host))
            self.assertEqual((again.port, again.name), (name.port, name.name), str(name))

    def test_written(self) -> None:
        for name, text in {
            ResourceName("hislip", "dmm", 4880, "hislip0"): "TCPIP0::dmm::hislip0::INSTR",
            ResourceName("hislip", "dmm", 4881): "TCPIP0::dmm::hislip0,4881::INSTR",
            ResourceName("vxi11", "dmm", 1024, "gpib0,5"): "TCPIP0::dmm,1024::gpib0,5::INSTR",
            ResourceName("scpi", "dmm"): "TCPIP0::dmm::5025::SOCKET",
            ResourceName("vicp", "dmm", 1861): "VICP::dmm::INSTR",
            ResourceName("vicp", "::1", 1862): "VICP::[::1],1862::INSTR",
        }.items():
            self.assertEqual(str(name), text)

    def test_wrong(self) -> None:
        for text in WRONG:
            error = self.assertRaises(BadArguments, parse_resource_name, text)
            self.assertEqual(error.visa_status, INVALID_NAME)
            self.assertIn("cannot be read", str(error))

    @given(st.text(max_size=60) | st.from_regex(r"(TCPIP|VICP)[0-9]?::.{0,30}", fullmatch=True))
    def test_anything(self, text: str) -> None:
        try:
            name = parse_resource_name(text)
        except BadArguments:
            return
        self.assertTrue(name.host)
        self.assertEqual(parse_resource_name(str(name)).wire, name.wire)
