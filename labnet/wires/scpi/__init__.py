"""SCPI over a raw TCP socket."""
