"""Instruments behind a VISA library."""
