"""The ``twistd labnet`` command."""

from twisted.application.service import ServiceMaker

labnet = ServiceMaker(
    "labnet", "labnet.tap", "Serve a lab's instruments over many wire formats.", "labnet"
)
