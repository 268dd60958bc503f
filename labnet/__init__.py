"""labnet: one lab, one lock, every wire format."""
