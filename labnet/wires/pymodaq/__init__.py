"""PyMoDAQ's TCP/IP protocol, both roles and all generations.

A Twisted program is the hardware side with `offer`, which offers an object to a program of PyMoDAQ,
and the controlling side with `Modules`, the factory of a port at which modules come.
"""

from labnet.wires.pymodaq.codec import Generation
from labnet.wires.pymodaq.control import Modules
from labnet.wires.pymodaq.offered import OfferedActuator, OfferedGrabber
from labnet.wires.pymodaq.offering import Offer, offer

__all__ = ["Generation", "Modules", "Offer", "OfferedActuator", "OfferedGrabber", "offer"]
