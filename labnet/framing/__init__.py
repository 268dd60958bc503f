"""Framing of byte streams, shared by the codecs. No I/O, no Twisted."""
