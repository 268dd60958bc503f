"""Simulated instruments: the demo lab and its parts."""
