"""A device as a message-based instrument (IEEE 488.2, SCPI-1999)."""
