"""PyMoDAQ's TCP/IP protocol, both roles."""
