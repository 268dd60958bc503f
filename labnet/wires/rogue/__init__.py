"""PyRogue's three ZMQ ports: updates, binary requests (pickles) and text requests (JSON)."""
